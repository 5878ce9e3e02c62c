"""Every format gives who said what when, and what it leaves out; archives are read in place and stay within bounds."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memlora_mlx.conversations import (
    Conversation,
    ReadOptions,
    ReadReport,
    archives,
    conversation_exchanges,
    conversation_owners,
    read_conversations,
)
from memlora_mlx.conversations.formats import FORMATS
from memlora_mlx.errors import BadConversation
from memlora_mlx.records import Image

CASES = Path(__file__).parent / "cases"
HANDED = Path(__file__).parents[3] / "shared" / "cases" / "imports"


def spoken(conversation: Conversation) -> list[tuple[str, str, str]]:
    """Speaker or role, text, and time (its own, else that of its session) of every turn."""
    return [
        (turn.speaker or str(turn.role), turn.text, str(turn.said_at or session.said_at)[:16])
        for session in conversation.sessions
        for turn in session.turns
    ]


def read(
    content: str | bytes, options: ReadOptions | None = None, report: ReadReport | None = None
) -> list[Conversation]:
    data = content.encode() if isinstance(content, str) else content
    return read_conversations(io.BytesIO(data), options, report)


# One file of each format


RYE = [("user", "I bake rye.", "2025-03-01 08:00"), ("assistant", "With what?", "2025-03-01 08:00")]
MEETING = [("Maria Lopez", "I joined finance.\nLast week.", "None"), ("John Smith", "Welcome & hello.", "None")]
OSLO = [("Ann", "I moved to Oslo.\nToday.", "2024-08-14 21:00"), ("Bob", "Since when?", "2024-08-14 21:01")]
BOOTS = [("nora", "I bought boots.", "2024-08-14 21:00"), ("ivo", "Which?", "2024-08-14 21:01")]
PUSAN = [("민수", "나는 부산으로 이사했어\n지난주에", "2024-10-31 15:50"), ("지우", "정말?", "2024-11-01 00:05")]
IVO = [
    ("Nora", "I moved to Oslo.", "2024-08-14 21:00"),
    ("Ivo", "[poll] Lunch? Options: Soup, Rice", "2024-08-15 07:02"),
]
# file: format, name, turns, problems, kinds of things left out
TABLE: dict[str, tuple[str, str, list[tuple[str, str, str]], int, set[str]]] = {
    "claude.json": (
        "claude",
        "Kayaks",
        [("user", "I bought a kayak.", "2025-03-01 08:00"), ("assistant", "What colour?", "2025-03-01 08:00")],
        1,
        {"attachments that are not pictures", "pictures that are not in the export"},
    ),
    "claude-code.jsonl": (
        "claude-code",
        "Deploying",
        [("user", "We deploy on Fridays.", "2025-03-01 08:00"), ("assistant", "Noted.", "2025-03-01 08:00")],
        0,
        set(),
    ),
    "codex.jsonl": (
        "codex",
        "c-9",
        [("user", "I prefer tabs.", "2025-03-01 08:00"), ("assistant", "Tabs it is.", "2025-03-01 08:00")],
        0,
        set(),
    ),
    "gemini-takeout.json": (
        "gemini-takeout",
        "Gemini activity",
        [
            ("user", "I moved to Faro", "2025-03-01 09:00"),
            ("assistant", "Nice\nthere", "2025-03-01 09:00"),
            ("user", "My sister is Ada", "2025-03-02 09:00"),
            ("assistant", "Hello & welcome", "2025-03-02 09:00"),
        ],
        0,
        {"activities without a prompt"},
    ),
    "ai-studio.json": (
        "ai-studio",
        "ai-studio",
        [("user", "I sing bass.", "None"), ("assistant", "Lovely.", "None")],
        0,
        set(),
    ),
    "open-webui.json": ("open-webui", "Bread", RYE, 0, set()),
    "lm-studio.json": ("lm-studio", "Bread", RYE, 0, set()),
    "librechat.json": ("librechat", "Bread", [RYE[0], ("assistant", "With what?", "None")], 0, set()),
    "sharegpt.jsonl": (
        "sharegpt",
        "a",
        [("user", "I bake rye.", "None"), ("assistant", "With what?", "None")],
        1,
        set(),
    ),
    "llm.json": (
        "llm",
        "Bread",
        [
            ("user", "I bake.", "2025-03-01 08:00"),
            ("assistant", "What?", "2025-03-01 08:00"),
            ("user", "And rye.", "2025-03-01 08:01"),
            ("assistant", "Ok", "2025-03-01 08:01"),
        ],
        0,
        set(),
    ),
    "telegram.json": (
        "telegram",
        "Ivo",
        IVO,
        0,
        {"forwarded messages", "messages that are stickers, voice messages or files"},
    ),
    "telegram-account.json": (
        "telegram",
        "Ivo",
        IVO,
        1,
        {"forwarded messages", "messages that are stickers, voice messages or files"},
    ),
    "slack.json": (
        "slack",
        "slack",
        [
            ("Nora Berg", "Hi @Ivo, see this & that", "2025-03-01 08:00"),
            ("Ivo", "I lead the design team.", "2025-03-01 08:01"),
        ],
        0,
        set(),
    ),
    "discord.json": (
        "discord",
        "Club hiking",
        [("Nora", "I bought boots.", "2024-08-14 21:00"), ("ivo", "Which?", "2024-08-14 21:02")],
        0,
        set(),
    ),
    "discord-package.json": (
        "discord-package",
        "discord-package",
        [("user", "I hike.", "2024-08-13 21:00"), ("user", "I bought boots.", "2024-08-14 21:00")],
        0,
        {"attachments, which Discord's package does not hold"},
    ),
    "messenger.json": (
        "messenger",
        "Ivo",
        [("José", "Vivo en Málaga.", "2024-08-14 19:00"), ("Ivo", "Süß 😀", "2024-08-14 19:01")],
        0,
        set(),
    ),
    "signal.jsonl": (
        "signal",
        "signal",
        [("Me", "I moved.", "2024-08-14 21:00"), ("Nora", "Where to?", "2024-08-14 21:01")],
        0,
        {"attachments that are not pictures"},
    ),
    "signal.md": (
        "transcript",
        "signal",
        [("Me", "I moved to Faro.", "2024-08-14 21:00"), ("Nora", "Since when?", "2024-08-14 21:01")],
        0,
        set(),
    ),
    "imessage.txt": (
        "imessage",
        "imessage",
        [("Me", "I moved to Oslo.\nToday.", "2022-05-17 17:29"), ("Nora Berg", "Since when?", "2022-05-17 17:30")],
        0,
        {"attachments"},
    ),
    "line.txt": (
        "line",
        "line",
        [
            ("ユキ", "大阪に引っ越したよ\n先週", "2024-10-31 15:50"),
            ("ケン", "いつ？", "2024-10-31 15:51"),
            ("ユキ", "おはよう", "2024-11-01 09:00"),
        ],
        0,
        {"pictures, stickers and files, which LINE's history does not hold"},
    ),
    "kakaotalk.txt": ("kakaotalk", "kakaotalk", PUSAN, 0, {"pictures, videos and deleted messages"}),
    "kakaotalk-computer.txt": (
        "kakaotalk",
        "kakaotalk-computer",
        [("민수", "나는 부산으로 이사했어", "2024-10-31 15:50"), ("지우", "언제?", "2024-10-31 15:51")],
        0,
        set(),
    ),
    "meeting.vtt": ("subtitles", "meeting", MEETING, 0, set()),
    "meeting.srt": (
        "subtitles",
        "meeting",
        [("Maria Lopez", "I joined finance.", "None"), ("John Smith", "Welcome.", "None")],
        0,
        set(),
    ),
    "markdown.md": (
        "markdown",
        "Bread",
        [("user", "I bake rye.\n\n```\n## Assistant\n```", "None"), ("assistant", "### Steps\nMix it.", "None")],
        0,
        set(),
    ),
    "telegram-copy.txt": ("header-lines", "telegram-copy", OSLO, 0, set()),
    "teams.txt": (
        "header-lines",
        "teams",
        [("Keller, Anna", "I moved to Graz.", "2024-04-18 09:01"), ("Novak, Petr", "Really?", "2024-04-18 09:02")],
        0,
        set(),
    ),
    "otter.txt": (
        "header-lines",
        "otter",
        [("Maria Lopez", "I joined finance.", "None"), ("John Smith", "Welcome: good luck.", "None")],
        0,
        set(),
    ),
    "discord.txt": ("header-lines", "discord", BOOTS, 0, {"attachments and reactions"}),
    "irc.txt": ("header-lines", "irc", [("ann", "I moved to Oslo.", "None"), ("bob", "since when?", "None")], 0, set()),
    "whatsapp.txt": (
        "transcript",
        "whatsapp",
        [
            ("Ann", "I sold my car.", "2022-11-13 10:01"),
            ('Bob "Bobby" Lee', "I bought a bike.", "2022-11-13 10:03"),
            ('Bob "Bobby" Lee', "[poll] Where? Options: Here (2 votes), There (0 votes)", "2022-11-13 10:04"),
            ("Ann", "Note: see 14/11/2022\n14/11/2022\nParty", "2022-11-14 10:05"),
        ],
        0,
        {"media, calls and deleted messages that the export does not hold"},
    ),
}


@pytest.mark.parametrize("file", TABLE)
def test_a_format_gives_who_said_what_when(file: str) -> None:
    kind, name, turns, problems, left_out = TABLE[file]
    report = ReadReport()
    first = read_conversations(CASES / file, report=report)[0]
    assert (first.format, first.name, spoken(first)) == (kind, name, turns)
    assert len(report.problems) == problems and set(report.left_out) == left_out
    assert all(line.startswith(str(CASES / file)) for line in report.problems)
    made = conversation_exchanges(first, user="me")
    assert made and len({exchange.key for exchange in made}) == len(made)
    again = conversation_exchanges(read_conversations(CASES / file, report=ReadReport())[0], user="me")
    assert [exchange.key for exchange in again] == [exchange.key for exchange in made]


def test_every_format_has_a_case() -> None:
    elsewhere = {"chatgpt", "locomo", "messages"}  # in test_conversations.py
    assert {format.name for format in FORMATS} == {row[0] for row in TABLE.values()} | elsewhere
    assert {path.name for path in CASES.iterdir()} == TABLE.keys()


def test_the_good_conversations_of_a_file_are_read_and_the_bad_ones_named() -> None:
    report = ReadReport()
    found = read_conversations(CASES / "sharegpt.jsonl", report=report)
    assert [spoken(conversation)[0][1] for conversation in found] == ["I bake rye.", "I ski."]
    [problem] = report.problems
    assert problem.endswith("line 2, message 1 is from 'wizard'; use human, gpt or system")
    with pytest.raises(BadConversation, match="wizard"):  # where nobody asks for a report, nothing is left out
        read_conversations(CASES / "sharegpt.jsonl")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "<!DOCTYPE html><html><title>Exported Data</title><link href='css/style.css'>",
            "is a Telegram export as a web",
        ),
        ("<html><body>Hi</body></html>", "is a web page; export the chat again as JSON"),
        (b"%PDF-1.7\n\x80", "is a PDF document"),
        (b"SQLite format 3\x00abc", "is a database (SQLite)"),
        ("{\\rtf1\\ansi Hi}", "is a formatted document (RTF)"),
        ("Date,User,Message\n2024-08-14 21:00:00,Ann,Hi\n", "is a table (CSV)"),
        ('[{"prompt": "a", "completion": "b"}]', "is training data of prompts and completions"),
        ('{"text": "a", "segments": []}', "is a transcript of Whisper"),
        ('[{"id": "U1", "team_id": "T1", "name": "ann"}]', "lists Slack's users or channels; read the whole ZIP"),
        ('<?xml version="1.0"?><smses count="1"></smses>', "is XML"),
    ],
)
def test_a_form_that_is_known_and_not_read_is_named(content: str | bytes, words: str) -> None:
    with pytest.raises(BadConversation) as caught:
        read(content)
    assert words in str(caught.value)


# Messages


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "parts": [{"type": "text", "text": "I ski."}]},
        {"role": "user", "parts": ["I ski."]},
        {"role": "user", "text": "I ski."},
        {"role": "user", "content": "", "parts": [{"type": "text", "text": "I ski."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "I ski."}]},
        {"role": "user", "content": [{"type": "text", "text": {"value": "I ski.", "annotations": []}}]},
    ],
)
def test_text_is_found_in_every_known_field(message: dict[str, Any]) -> None:
    [chat] = read(json.dumps([message, {"role": "model", "content": "Oh"}]))
    assert spoken(chat) == [("user", "I ski.", "None"), ("assistant", "Oh", "None")]


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}, "data:image/png;base64,AA=="),
        ({"inlineData": {"mimeType": "image/png", "data": "AA=="}}, "data:image/png;base64,AA=="),
        ({"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="}, "data:image/png;base64,AA=="),
        ({"type": "input_image", "image_url": "boat.png"}, "boat.png"),
    ],
)  # fmt: skip
def test_pictures_are_found_in_every_known_form(part: dict[str, Any], source: str) -> None:
    [chat] = read(json.dumps([{"role": "user", "content": [{"type": "text", "text": "My boat"}, part]}]))
    assert chat.sessions[0].turns[0].image == Image(source)


def test_a_message_without_text_is_named_and_one_of_a_tool_is_not() -> None:
    chat = [
        {"role": "user", "content": "I ski."},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "secret"}]},
        {"role": "user", "content": [{"type": "hologram"}]},
    ]
    report = ReadReport()
    [found] = read(json.dumps(chat), report=report)
    assert [text for _, text, _ in spoken(found)] == ["I ski."]
    assert dict(report.left_out) == {
        "messages of the user without text": 2,
        "parts of messages that are no text ('hologram')": 1,
    }


@pytest.mark.parametrize(
    "field", ["timestamp", "createdAt", "created_at", "create_time", "time", "date", "sentAt", "datetime", "updatedAt"]
)
def test_a_message_is_dated_by_any_known_field(field: str) -> None:
    [chat] = read(json.dumps([{"role": "user", "content": "I ski.", field: "2023-05-08T13:56:00Z"}]))
    assert spoken(chat)[0][2] == "2023-05-08 13:56"


def test_two_named_users_of_one_chat_have_memories_of_their_own() -> None:
    chat = [
        {"role": "user", "name": "nora", "content": "I moved."},
        {"role": "user", "name": "ivo", "content": "I did not."},
        {"role": "assistant", "content": "Good."},
    ]
    [found] = read(json.dumps(chat))
    made = conversation_exchanges(found, user="me")
    assert {
        exchange.owner.user_id: [message.text for message in exchange.messages if message.role == "user"]
        for exchange in made
    } == {"nora": ["I moved."], "ivo": ["I did not."]}


def test_citations_of_chatgpt_are_stripped_and_entities_stay_names() -> None:
    def node(id: str, parent: str | None, role: str, text: str) -> dict[str, Any]:
        content = {"content_type": "text", "parts": [text]}
        return {"id": id, "parent": parent, "message": {"id": id, "author": {"role": role}, "content": content}}

    said = 'At 9\ue200cite\ue202turn0search1\ue201. Ask \ue200entity\ue202["person","Ann"]\ue201【4:0†source】.'
    nodes = [node("a", None, "user", "When?"), node("b", "a", "assistant", said)]
    [chat] = read(json.dumps([{"title": "T", "mapping": {n["id"]: n for n in nodes}, "current_node": "b"}]))
    assert [text for _, text, _ in spoken(chat)] == ["When?", "At 9. Ask Ann."]


def test_a_session_that_is_being_written_is_read_to_its_last_whole_line() -> None:
    text = (CASES / "claude-code.jsonl").read_text().rstrip()[:-5]
    report = ReadReport()
    [found] = read(text, report=report)
    assert [text for _, text, _ in spoken(found)] == ["We deploy on Fridays.", "Noted."]
    assert len(report.problems) == 1 and "line 7" in report.problems[0]


# Archives


def archive(members: dict[str, bytes | str], **options: Any) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, **options) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return made.getvalue()


WHATSAPP = "[13/05/2024, 10:00:00] Ann: I sold my car.\n[13/05/2024, 10:01:00] Bob: \u200e<attached: 0001-PHOTO.jpg>\n"
WHATSAPP += "[13/05/2024, 10:02:00] Bob: Look \u200e<attached: 0002-PHOTO.jpg>\n"


def test_pictures_of_an_archive_stay_in_it_and_missing_ones_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "WhatsApp Chat - Bob.zip"
    path.write_bytes(archive({"_chat.txt": WHATSAPP, "0001-PHOTO.jpg": b"\xff\xd8"}))
    report = ReadReport()
    [chat] = read_conversations(path, report=report)
    turns = [turn for session in chat.sessions for turn in session.turns]
    assert chat.name == "WhatsApp Chat - Bob" and chat.folder == path
    assert [(turn.text, turn.image) for turn in turns] == [
        ("I sold my car.", None),
        ("", Image("0001-PHOTO.jpg")),
        ("Look", None),
    ]
    assert dict(report.left_out) == {"pictures that are not in the export": 1}
    assert archives.read_picture(path, "0001-PHOTO.jpg", 100) == b"\xff\xd8"


def test_days_of_a_channel_and_parts_of_a_chat_are_one_conversation() -> None:
    day = json.loads((CASES / "slack.json").read_text())
    later = [{**message, "ts": f"{float(message['ts']) + 86400:.6f}"} for message in day]
    users = [{"id": "U1", "team_id": "T", "name": "nora"}]
    part = json.loads((CASES / "messenger.json").read_text())
    older = {**part, "messages": [{"sender_name": "Ivo", "timestamp_ms": 1723575600000, "content": "Before"}]}
    report = ReadReport()
    found = read(
        archive(
            {
                "design/2025-03-02.json": json.dumps(later),
                "design/2025-03-01.json": json.dumps(day),
                "users.json": json.dumps(users),
                "inbox/ivo_1/message_1.json": json.dumps(part),
                "inbox/ivo_1/message_2.json": json.dumps(older),
            }
        ),
        report=report,
    )
    assert [(c.name, [str(s.said_at)[:10] for s in c.sessions]) for c in found] == [
        ("design", ["2025-03-01", "2025-03-02"]),
        ("Ivo", ["2024-08-13", "2024-08-14"]),
    ]
    assert dict(report.left_out) == {"files of the archive that are no conversations": 1}
    assert "users.json: lists Slack's users" in report.notes()[0]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"chat.txt": "a" * (8 << 20)}, "unpacks to over 200 times its size"),
        ({"a.bin": b"x"}, "without JSON or text files"),
        ({"a.txt": "just words"}, "a.txt: is neither JSON nor a transcript"),
    ],
)
def test_an_archive_that_is_a_bomb_or_no_export_is_refused(members: dict[str, bytes | str], words: str) -> None:
    with pytest.raises(BadConversation) as caught:
        read(archive(members))
    assert words in str(caught.value)


def test_an_archive_is_bounded_in_members_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive({f"{n}.txt": WHATSAPP for n in range(4)})
    for name, words in (
        ("MAX_MEMBERS", "more than 3 files"),
        ("MAX_MEMBER_BYTES", "is larger"),
        ("MAX_TEXT_BYTES", "text"),
    ):
        with monkeypatch.context() as patch, pytest.raises(BadConversation, match=words):
            patch.setattr(archives, name, 3 if name == "MAX_MEMBERS" else 100)
            read(data)


def test_no_path_leaves_an_archive_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"\xff\xd8")
    folder = tmp_path / "chats"
    folder.mkdir()
    chat = WHATSAPP.replace("0001-PHOTO.jpg", "../secret.jpg").replace("0002-PHOTO.jpg", "/etc/x.jpg")
    (folder / "chat.txt").write_text(chat)
    (folder / "chat.zip").write_bytes(archive({"../chat.txt": chat}))
    for name in ("chat.txt", "chat.zip"):
        report = ReadReport()
        [found] = read_conversations(folder / name, report=report)
        assert not any(turn.image for session in found.sessions for turn in session.turns)
        assert report.left_out["pictures that are not in the export"] == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["chat.txt", "chat.zip", "chats", "secret.jpg"]


def test_a_damaged_archive_is_refused_in_one_line() -> None:
    whole = archive({"chat.txt": WHATSAPP})
    for data in (whole[:40], whole[:-30], whole[:50] + b"\0\0\0\0" + whole[54:]):
        with pytest.raises(BadConversation) as caught:
            read(data)
        assert str(caught.value).isprintable()


# Whatever a file holds


PARTS = sorted(
    {text for path in CASES.iterdir() for text in (path.read_text().split("\n") if path.suffix != ".json" else [])}
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=20), max_size=12).map("\n".join))
def test_any_mix_of_lines_is_read_or_refused(text: str) -> None:
    try:
        found = read(text, report=ReadReport())
    except BadConversation as error:
        assert str(error).isprintable()
    else:
        assert all(conversation_exchanges(conversation, user="me") for conversation in found)


WRONG = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
WRONG |= st.lists(WRONG, max_size=2) | st.dictionaries(st.sampled_from(["text", "content", "a"]), WRONG, max_size=2)
JSON_CASES = [path for path in sorted(CASES.iterdir()) if path.suffix in (".json", ".jsonl")]


@pytest.mark.parametrize("path", JSON_CASES, ids=lambda path: path.name)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), wrong=WRONG)
def test_one_wrong_value_anywhere_is_read_or_refused(path: Path, data: st.DataObject, wrong: object) -> None:
    text = path.read_text()
    tree: Any = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    at = tree
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not at[key] or not isinstance(at[key], (dict, list)) or data.draw(st.integers(0, 4)) == 0:
            break
        at = at[key]
    at[key] = wrong
    try:
        found = read(json.dumps(tree), report=ReadReport())
    except BadConversation as error:
        assert str(error).isprintable()
    else:
        assert all(conversation_owners(c, user="me") and conversation_exchanges(c, user="me") for c in found)


# The inputs that users' reports describe, where they are at hand


REFUSED: dict[str, str] = {
    "chat_lines.txt": "neither JSON nor a transcript",  # it is what somebody types into a chat
    "mlxlm_completions.json": "training data",
}
NAMED: dict[str, str] = {
    "chatgpt_empty_shell.json": "'Shell'",
    "chatgpt_null_mapping_value.json": "node 'r'",
    "chatgpt_one_broken.json": "'gone-root'",
}
CHECKS: dict[str, Callable[[list[Conversation]], object]] = {
    "wa_24h.txt": lambda found: spoken(found[0])[1] == ("Jiu", "Happy new year, I got engaged!", "2025-01-01 00:05"),
    "bare_colon_lines.txt": lambda found: found[0].speakers == ("Ann", "Bob"),
    "bare_long_name.txt": lambda found: found[0].speakers == ("Ana", "María José García López"),
    "wa_phone_bidi.txt": lambda found: found[0].speakers == ("+44 7700 900123", "Zed"),
    "wa_us_week.txt": lambda found: [turn[2][5:10] for turn in spoken(found[0])] == ["03-04", "03-06", "03-09"],
    "wa_ios_group_system_nomark.txt": lambda found: found[0].speakers == ("Boris", "Nadia"),
    "wa_fr_group_created.txt": lambda found: found[0].speakers == ("Ann", "Luc"),
    "me_claude.txt": lambda found: [turn[0] for turn in spoken(found[0])] == ["user", "assistant"] * 2,
    "user_chatgpt.txt": lambda found: [turn[0] for turn in spoken(found[0])] == ["user", "assistant"] * 2,
    "pasted_chatgpt.txt": lambda found: [turn[0] for turn in spoken(found[0])] == ["user", "assistant"] * 2,
    "openai_createdAt.json": lambda found: spoken(found[0])[0][2] == "2023-05-08 13:56",
    "group30.txt": lambda found: len(conversation_exchanges(found[0], user="me")) == 600,
    "wa_zh_cn_ios.txt": lambda found: [turn[2] for turn in spoken(found[0])][2] == "2024-11-01 09:00",
}


# Who says what and when at one place of an input, for each form that was once read wrongly or refused.
TOLD: dict[str, tuple[int, tuple[str, str, str]]] = {
    "aisdk_parts.json": (0, ("user", "I moved to Porto.", "None")),
    "chatgpt_citations.json": (1, ("assistant", "It leaves at 9 . Ask Ann.", "2023-11-14 22:13")),
    "claude_export.json": (0, ("user", "I moved to Porto last week.", "2025-02-01 09:00")),
    "discord_exporter.json": (0, ("Nora", "I moved to Oslo.", "2024-08-14 21:00")),
    "fb_messenger.json": (0, ("Nora", "I moved to Oslo.", "2024-08-14 19:00")),
    "gemini_takeout.json": (0, ("user", "I moved to Porto", "2025-02-01 09:00")),
    "imessage_exporter.txt": (1, ("Nora Berg", "Since when?", "2022-05-17 17:30")),
    "kakao_ko.txt": (0, ("민수", "나는 부산으로 이사했어", "2024-10-31 15:50")),
    "line_ja.txt": (0, ("ユキ", "大阪に引っ越したよ", "2024-10-31 15:50")),
    "llm_logs.json": (1, ("assistant", "Nice!", "2025-02-01 09:00")),
    "openai_named_users.json": (1, ("ivo", "I live in Sofia.", "None")),
    "telegram_result.json": (0, ("Nora", "I moved to Oslo.", "2024-08-14 21:00")),
    "wa_android_de.txt": (1, ("Anna", "Wann denn?", "2026-03-08 08:01")),
    "wa_android_es_pm.txt": (0, ("Lucía", "Me mudé a Valencia.", "2025-03-28 21:29")),
    "wa_ar_ios.txt": (2, ("أحمد", "الأسبوع الماضي.", "2026-03-13 09:00")),
    "wa_export.zip": (2, ("Chris", "Am 1. April.", "2026-03-08 08:01")),
    "wa_he_ios.txt": (1, ("יוסי", "מתי?", "2026-03-07 21:24")),
    "wa_id_dot_time.txt": (2, ("Budi", "Minggu lalu.", "2025-08-31 09:00")),
    "wa_old_colon.txt": (2, ("Sara Lind", "Merry Christmas!", "2012-12-25 17:04")),
    "wa_placeholders.txt": (1, ("Bob", "I bought a bike.", "2022-11-13 10:04")),
    "wa_zh_tw_android.txt": (0, ("小明", "我搬到台北了。", "2024-10-31 15:50")),
    "zoom.vtt": (0, ("Maria Lopez", "I joined the finance team.", "None")),
}


@pytest.mark.skipif(not HANDED.exists(), reason="the inputs are not here")
def test_the_inputs_of_users_reports_are_read_or_refused_by_name() -> None:
    for path in sorted(HANDED.iterdir()):
        report = ReadReport()
        try:
            found = read_conversations(path, report=report)
        except BadConversation as error:
            assert path.name in REFUSED and REFUSED[path.name] in str(error), (path.name, str(error))
            continue
        assert path.name not in REFUSED and all(spoken(conversation) for conversation in found), path.name
        assert bool(report.problems) == (path.name in NAMED), (path.name, report.problems)
        assert not report.problems or NAMED[path.name] in report.problems[0]
        assert CHECKS.get(path.name, lambda found: True)(found), path.name
        if path.name in TOLD:
            place, told = TOLD[path.name]
            assert spoken(found[0])[place] == told, path.name
