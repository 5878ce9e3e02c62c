"""Files become conversations, conversations become exchanges; bad files become one clear line."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlora_mlx.conversations import (
    Conversation,
    conversation_exchanges,
    conversation_owners,
    parse_date,
    read_conversations,
)
from memlora_mlx.errors import BadConversation, UsageError
from memlora_mlx.records import Exchange, Image, Scope

LOCOMO_DEV = Path(__file__).parents[3] / "shared" / "data" / "locomo-dev.json"
NOON = datetime(2024, 3, 5, 12, 0)


def read(content: str | bytes) -> list[Conversation]:
    return read_conversations(io.BytesIO(content.encode() if isinstance(content, str) else content))


def only(content: object) -> Conversation:
    [conversation] = read(content if isinstance(content, (str, bytes)) else json.dumps(content))
    return conversation


def complaint(content: object) -> str:
    """The one line a user reads about a bad file."""
    with pytest.raises(BadConversation) as caught:
        read(content if isinstance(content, (str, bytes)) else json.dumps(content))
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith("standard input: ")
    return message


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.speaker or str(turn.role), turn.text) for session in conversation.sessions for turn in session.turns]


def texts(made: list[Exchange]) -> list[list[str]]:
    return [[message.text for message in exchange.messages] for exchange in made]


def sample(**changes: Any) -> dict[str, Any]:
    turns = [("Ida", "I bought a kayak."), ("Tom", "What colour?"), ("Ida", "Red.")]
    conversation = {
        "speaker_a": "Ida",
        "speaker_b": "Tom",
        "session_1_date_time": "12:00 pm on 5 March, 2024",
        "session_1": [{"speaker": s, "text": t, "dia_id": f"D1:{n}"} for n, (s, t) in enumerate(turns, start=1)],
        "session_2_date_time": "7:05 pm on 9 March, 2024",
        "session_2": [
            {"speaker": "Tom", "text": "Look!", "img_url": ["http://pictures/1.jpg"], "blip_caption": "a lake"},
        ],
        "session_3_date_time": "never happened",
    }
    return {"sample_id": "talk-7", "conversation": conversation | changes, "qa": []}


def user(text: object, **fields: object) -> dict[str, object]:
    return {"role": "user", "content": text, **fields}


def assistant(text: object, **fields: object) -> dict[str, object]:
    return {"role": "assistant", "content": text, **fields}


# LoCoMo


def test_each_speaker_remembers_the_talk_as_its_user_batch_by_batch() -> None:
    made = conversation_exchanges(only([sample()]), user="me")

    assert [(e.owner.user_id, [(m.role, m.text) for m in e.messages]) for e in made] == [
        ("Ida_7", [("user", "I bought a kayak."), ("assistant", "What colour?")]),
        ("Tom_7", [("assistant", "I bought a kayak."), ("user", "What colour?")]),
        ("Ida_7", [("user", "Red.")]),
        ("Tom_7", [("assistant", "Red.")]),
        ("Ida_7", [("assistant", "Look!")]),
        ("Tom_7", [("user", "Look!")]),
    ]
    assert [e.position for e in made] == [0, 0, 1, 1, 2, 2]
    assert {e.source for e in made} == {"talk-7"}
    assert made[0].said_at == NOON and made[0].messages[1].said_at == NOON
    assert made[0].messages[0].speaker == "Ida" and made[0].messages[0].ref == "D1:1"
    assert made[4].messages[0].image == Image("http://pictures/1.jpg", "a lake")


def test_sessions_follow_their_numbers_not_the_file() -> None:
    conversation = only(sample(session_10=[{"speaker": "Ida", "text": "last"}]))
    assert [session.turns[0].text for session in conversation.sessions] == ["I bought a kayak.", "Look!", "last"]


def test_a_sample_without_a_number_is_counted() -> None:
    first, second = read(json.dumps([sample(), sample() | {"sample_id": None}]))
    assert (first.name, second.name) == ("talk-7", "stdin#2")
    assert conversation_owners(second, user="me") == [Scope(user_id="Ida_1"), Scope(user_id="Tom_1")]


def test_locomo_is_counted_as_its_readers_count_it() -> None:
    if not LOCOMO_DEV.exists():
        pytest.skip("the data set is not here")
    first = read_conversations(LOCOMO_DEV)[0]
    made = conversation_exchanges(first, user="me")

    assert first.id == "conv-26"
    assert sum(len(session.turns) for session in first.sessions) == 419
    assert sum(1 for session in first.sessions for turn in session.turns if turn.image) == 77
    assert first.sessions[0].said_at == datetime(2023, 5, 8, 13, 56)
    assert len(made) == len({exchange.key for exchange in made}) == 428
    assert conversation_owners(first, user="me") == [Scope(user_id="Caroline_26"), Scope(user_id="Melanie_26")]


# Messages with roles


def test_an_exchange_is_a_question_with_its_replies() -> None:
    chat = [
        {"role": "system", "content": "Be kind."},
        assistant("Hello!"),
        user("Hi."),
        user("I am Noor."),
        assistant("Welcome."),
        {"role": "tool", "content": "42"},
        assistant("Anything else?"),
        user("No."),
    ]
    made = conversation_exchanges(only({"messages": chat}), user="noor")
    assert texts(made) == [["Hello!", "Hi.", "I am Noor.", "Welcome.", "Anything else?"], ["No."]]
    assert {exchange.owner for exchange in made} == {Scope(user_id="noor")}


def test_a_monologue_is_cut_into_exchanges_of_a_readable_size() -> None:
    made = conversation_exchanges(only([user(str(n)) for n in range(14)]), user="me")
    assert [len(exchange.messages) for exchange in made] == [6, 6, 2]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([user("Hi"), assistant("Yes?")]),
        json.dumps([user("Hi"), assistant("Yes?")], indent=2),
        json.dumps({"messages": [user("Hi"), assistant("Yes?")]}),
        json.dumps([{"messages": [user("Hi"), assistant("Yes?")]}]),
        json.dumps([[user("Hi"), assistant("Yes?")]]),
        json.dumps(user("Hi")) + "\r\n\r\n" + json.dumps(assistant("Yes?")) + "\r\n",
        "User: Hi\nAssistant: Yes?",
        "\ufeffUser: Hi\r\nAssistant: Yes?\r\n",
        json.dumps([user("Hi"), assistant("Yes?")]).encode("utf-16"),
        "User: Hi\nAssistant: Yes?".encode("utf-16"),
    ],
)
def test_the_same_chat_is_the_same_in_every_form(content: str | bytes) -> None:
    reference = conversation_exchanges(only([user("Hi"), assistant("Yes?")]), user="me")
    assert conversation_exchanges(only(content), user="me") == reference


def test_jsonl_of_conversations_gives_one_each() -> None:
    lines = [json.dumps({"messages": [user(f"I am number {n}.")]}) for n in range(3)]
    assert [c.name for c in read("\n".join(lines))] == ["stdin#1", "stdin#2", "stdin#3"]


def test_parts_names_and_times_of_a_message_are_kept() -> None:
    parts = [
        {"type": "text", "text": "Our boat"},
        {"type": "image_url", "image_url": {"url": "boat.png"}},
        {"type": "text", "text": "in spring"},
    ]
    [exchange] = conversation_exchanges(
        only([user(parts, name="Noor", timestamp="2024-03-05T14:00:00+02:00")]), user="me"
    )
    [message] = exchange.messages
    assert (message.text, message.speaker, message.image) == ("Our boat\nin spring", "Noor", Image("boat.png"))
    assert message.said_at == exchange.said_at == NOON.replace(tzinfo=UTC)


def test_text_is_made_harmless_and_numbers_are_read_as_text() -> None:
    chat = '[{"role": "user", "content": "a\\u0000b\\ud800c\\u001b[2J"}, {"role": "assistant", "content": 7}]'
    assert said(only(chat)) == [("user", "ab\ufffdc[2J"), ("assistant", "7")]


# ChatGPT


def chatgpt(current: str | None = "c") -> dict[str, Any]:
    def node(id: str, parent: str | None, role: str, text: str, **fields: Any) -> dict[str, Any]:
        content = {"content_type": "text", "parts": [text]}
        message = {"id": id, "author": {"role": role}, "content": content, "create_time": 1709640000.0} | fields
        return {"id": id, "parent": parent, "message": message, "children": []}

    hidden = {"is_visually_hidden_from_conversation": True}
    nodes = [
        {"id": "root", "parent": None, "message": None, "children": ["s"]},
        node("s", "root", "system", "rules"),
        node("h", "s", "user", "about me", metadata=hidden),
        node("a", "h", "user", "Plan a trip"),
        node("old", "a", "assistant", "to the sea"),
        node("t", "a", "assistant", "search()", recipient="browser"),
        node("b", "t", "assistant", "to the hills"),
        node("c", "b", "user", "Good"),
    ]
    mapping = {each["id"]: each for each in nodes}
    return {"title": "A trip", "create_time": 1709640000, "mapping": mapping, "current_node": current, "id": "u-1"}


@pytest.mark.parametrize("current", ["c", None])
def test_a_chatgpt_export_gives_the_visible_words_of_the_current_branch(current: str | None) -> None:
    [trip] = read(json.dumps([chatgpt(current), {"title": "Empty", "mapping": {}, "current_node": None}]))
    assert said(trip) == [("user", "Plan a trip"), ("assistant", "to the hills"), ("user", "Good")]
    assert (trip.format, trip.id, trip.name) == ("chatgpt", "u-1", "A trip")
    assert conversation_exchanges(trip, user="me")[0].said_at == NOON.replace(tzinfo=UTC)


def test_a_new_title_does_not_make_a_new_conversation() -> None:
    renamed = chatgpt() | {"title": "My holiday"}
    before, after = (conversation_exchanges(only([export]), user="me") for export in (chatgpt(), renamed))
    assert [e.key for e in before] == [e.key for e in after]
    assert after[0].source == "My holiday"


def test_what_was_spoken_counts_as_said() -> None:
    export = chatgpt()
    spoken = {"content_type": "audio_transcription", "text": "Plan a trip, please", "direction": "in"}
    parts = [spoken, {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://1"}]
    export["mapping"]["a"]["message"]["content"] = {"content_type": "multimodal_text", "parts": parts}
    assert [text for _, text in said(only([export]))] == ["Plan a trip, please", "to the hills", "Good"]


def test_parents_that_go_in_a_circle_end() -> None:
    export = chatgpt()
    export["mapping"]["a"]["parent"] = "c"
    assert [text for _, text in said(only([export]))] == ["Plan a trip", "to the hills", "Good"]


# Transcripts


def test_what_the_messenger_says_itself_is_nobodys_words() -> None:
    ios = (
        "[08/05/2023, 13:55:00] Trip: \u200eMessages and calls are end-to-end encrypted.\n"
        "[08/05/2023, 13:56:10] Ann: I moved to Rome.\n"
        "\u200e[08/05/2023, 13:57:10] Ann: \u200eimage omitted\n"
        "[25/05/2023, 13:58:10] Bob: Lovely!\n[25/05/2023, 13:59:10] Ann: Come and see it: soon.\n"
    )
    android = (
        '5/8/23, 13:55 - Ann created group "Trip: Norway"\n5/8/23, 13:56 - Ann: I moved to Rome.\n'
        "5/25/23, 13:58 - Bob: Lovely!\n5/25/23, 13:59 - Ann: Come and see it: soon.\n"
    )
    for export in (ios, android):
        [talk] = read(export)
        assert talk.speakers == ("Ann", "Bob")
        assert [text for _, text in said(talk)] == ["I moved to Rome.", "Lovely!", "Come and see it: soon."]


def test_a_transcript_gives_every_speaker_a_memory() -> None:
    conversation = only("Ida: Hello\nboth of you\n\nTom: Hi\nDr. Ann Lee: Good day\n  Ida: Bye")
    assert said(conversation) == [
        ("Ida", "Hello\nboth of you"),
        ("Tom", "Hi"),
        ("Dr. Ann Lee", "Good day"),
        ("Ida", "Bye"),
    ]
    made = conversation_exchanges(conversation, user="me")
    assert [e.owner.user_id for e in made] == ["Ida", "Tom", "Ida", "Dr. Ann Lee"]  # those who speak in each
    assert [m.role for m in made[1].messages] == ["assistant", "user"]


def test_a_line_that_is_a_date_starts_a_session() -> None:
    conversation = only("# 12:00 pm on 5 March, 2024\nIda: Hello\nTom: Hi\nIda: Bye\n--- May 8, 2024 ---\nTom: You?")
    assert [(s.said_at, len(s.turns)) for s in conversation.sessions] == [(NOON, 3), (datetime(2024, 5, 8), 1)]


def test_a_date_within_a_message_stays_in_it() -> None:
    assert said(only("Ida: We met on\n5 March 2024\nat noon\nTom: Yes")) == [
        ("Ida", "We met on\n5 March 2024\nat noon"),
        ("Tom", "Yes"),
    ]


@pytest.mark.parametrize("form", ["[{}] {}", "{} - {}"])
@pytest.mark.parametrize(
    "dates", [("2024-03-05 12:00", "2024-03-13 08:15"), ("05/03/2024, 12:00", "13/03/24, 8:15 AM")]
)
def test_stamped_lines_carry_their_own_time_and_days_are_sessions(form: str, dates: tuple[str, str]) -> None:
    lines = [form.format(dates[0], "Ida: Hi"), "Note: bring shoes", form.format(dates[0], "Tom joined"), "with a bag"]
    conversation = only("\n".join([*lines, form.format(dates[1], "+44 20 7946 0000: On my way")]))
    assert said(conversation) == [("Ida", "Hi\nNote: bring shoes"), ("+44 20 7946 0000", "On my way")]
    assert [s.turns[0].said_at for s in conversation.sessions] == [NOON, datetime(2024, 3, 13, 8, 15)]


def test_dates_of_two_readings_are_settled_by_the_order_of_time_or_refused() -> None:
    conversation = only("[5/3/2024, 12:00] Ida: Hi\n[4/4/2024, 12:00] Tom: Hi\n[3/5/2024, 12:00] Ida: Bye")
    assert conversation.sessions[0].said_at == NOON
    assert "'5/3/2024, 12:00' can be read as two dates" in complaint("[5/3/2024, 12:00] Ida: Hi")


# Keys


def test_a_renamed_or_longer_file_repeats_the_same_keys(tmp_path: Path) -> None:
    chat = [user("Hi"), assistant("Yes?"), user("Hi"), assistant("Yes?")]
    (tmp_path / "a.json").write_text(json.dumps(chat))
    (tmp_path / "b.json").write_text(json.dumps([*chat, user("Hi"), assistant("Yes?")]))
    [a], [b] = (read_conversations(tmp_path / name) for name in ("a.json", "b.json"))

    short, long = (conversation_exchanges(conversation, user="me") for conversation in (a, b))
    assert (short[0].source, long[0].source) == ("a", "b")
    assert [e.key for e in long][:2] == [e.key for e in short]
    assert len({e.key for e in long}) == 3


def test_another_owner_session_or_conversation_has_other_keys() -> None:
    moved = sample(session_1_date_time="1:00 pm on 5 March, 2024")
    others = [sample(), moved, sample() | {"sample_id": "talk-8"}]
    keys = [exchange.key for other in others for exchange in conversation_exchanges(only([other]), user="me")]
    assert len(keys) - len(set(keys)) == 2  # the second session of the moved talk, for both owners


MESSAGES = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text},
        st.sampled_from(["user", "assistant"]),
        st.sampled_from("abc"),
    )
)


@settings(deadline=None)  # the machine may be busy
@given(MESSAGES.filter(bool), MESSAGES)
def test_growth_changes_no_key_but_the_last(chat: list[dict[str, str]], more: list[dict[str, str]]) -> None:
    before, after = (conversation_exchanges(only(messages), user="me") for messages in (chat, [*chat, *more]))
    assert [e.key for e in before][:-1] == [e.key for e in after][: len(before) - 1]
    assert len({e.key for e in after}) == len(after)
    assert [text for each in texts(after) for text in each] == [message["content"] for message in [*chat, *more]]


# Bad files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty"),
        (" \n\x00", "is empty"),
        ("Dear diary,\ntoday it rained.", "neither JSON nor a transcript (line 1 is 'Dear diary,')"),
        ("From: a\nTo: b\nSubject: c\nDate: d\nhello", "nobody in it speaks twice"),
        ('[{"role": "user", "content": "I li', "looks cut off (line 1, column 30"),
        ('[{"role": "user", "content": "a"}', "looks cut off"),
        ('[{"role": "user", "content": tr', "looks cut off"),
        ('[{"role": "user"\n "content": "a"}]', "not valid JSON (line 2, column 2"),
        ('{"role": "user", "content": "a"}\n{oops}', "not valid JSON (line 2, column 2"),
        ("[" * 200_000, "nested too deeply"),
        ("[" + "1" * 5000 + "]", "too many digits"),
        ("[]", "holds no messages"),
        ('{"messages": []}', "holds no messages"),
        ('{"recipes": [], "b": 1}', "item 1 is an object with 'recipes', 'b', of no known form"),
        ("[1, 2]", "item 1 is '1', of no known form"),
        (b"Ida: caf\xe9", "not UTF-8, nor UTF-16 with a byte order mark (wrong from byte 8 on)"),
        (b"\xef\xbb\xbfIda: caf\xe9", "wrong from byte 11 on"),
        (b"\xff\xfeI\x00d", "not UTF-16 (wrong from byte 4 on)"),
        ("Ida: hi".encode("utf-16-le"), "neither UTF-8 nor UTF-16 with a byte order mark"),
        ([user("a"), {"role": "wizard", "content": "b"}], "item 2 has the unknown role 'wizard'"),
        ({"messages": [{"content": "b"}]}, "item 1, message 1 has no role"),
        ('{"role": "user", "content": "a"}\n\n{"content": "b"}', "line 3 has no role"),
        ([user("a", timestamp="soon")], "item 1: timestamp is 'soon', not a date"),
        ([user({"a": 1})], "item 1: content is an object with 'a' where text is expected"),
        ([sample(session_2_date_time="last week")], "talk-7: session_2_date_time is 'last week', not a date"),
        ([sample(session_2=[{"speaker": "Bo", "text": ""}])], "talk-7, session_2, turn 1: speaker 'Bo' is neither"),
        ([sample(session_2="x")], "talk-7, session_2 is 'x' where a list"),
        ([sample(session_2=["x"])], "talk-7, session_2, turn 1 is 'x' where an object"),
        ([sample(speaker_b="Ida")], "give two names"),
        ([chatgpt("gone")], "node 'gone' is missing"),
    ],
)
def test_a_bad_file_is_explained_in_one_line(content: object, expected: str) -> None:
    assert expected in complaint(content)


class Endless(io.RawIOBase):
    """A line that never ends, and how much of it was read."""

    def __init__(self, head: bytes) -> None:
        self.head, self.given = head, 0

    def read(self, size: int = -1) -> bytes:
        chunk, self.head = self.head + b"x" * (size - len(self.head)), b""
        self.given += len(chunk)
        return chunk


def test_an_endless_line_is_given_up_early() -> None:
    endless = Endless(json.dumps(user("a")).encode() + b'\n{"role": "')
    with pytest.raises(BadConversation, match="line 2 is longer than 32 MB"):
        read_conversations(endless)  # type: ignore[arg-type]
    assert endless.given < 40 << 20


@pytest.mark.parametrize("document", [[user("a")] * 9, {"messages": [user("a")] * 9}])
def test_a_document_may_be_one_long_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: object) -> None:
    monkeypatch.setattr("memlora_mlx.conversations.files.MAX_LINE_BYTES", 100)
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(document))
    [talk] = read_conversations(file)
    assert sum(len(session.turns) for session in talk.sessions) == 9


@pytest.mark.parametrize("name", ["", "missing.json", "nul\0.json", "a" * 5000])
def test_a_path_that_is_no_file_is_a_mistake_of_the_command(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        read_conversations(tmp_path / name)


def test_a_minus_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Ida: Hi\nTom: Hi")))
    assert read_conversations(Path("-"))[0].speakers == ("Ida", "Tom")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["user", "Ida", "a"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["role", "content", "messages", "mapping", "conversation", "speaker_a", "speaker_b", "session_1", "parts", "text",
         "session_1_date_time", "speaker", "img_url", "image_url", "timestamp", "message", "author", "parent", "title",
         "current_node", "children", "content_type", "id", "name", "a"]), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip
LINES = st.lists(st.sampled_from(
    ["Ida: hi", "Tom: 5", "5/8/2023", "[5/8/23] Ida: x", "13/1/2023 - Bo: y", "2023-01-01", "08.05.2023", "User: z", "[",
     "8 May 2023 UTC", "1683553000", " ", "x", "0001-01-01T00:00+05:00", "[2023-05-08T01:00Z] Ida: a", ":", "-", "\u0665"]
)).map("\n".join)  # fmt: skip


@settings(deadline=None)  # the machine may be busy
@given(
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "replace"))
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | LINES.map(str.encode)
)
def test_any_file_is_read_or_refused(data: bytes) -> None:
    try:
        conversations = read(data)
    except BadConversation as error:
        assert str(error).isprintable()
    else:
        for conversation in conversations:
            made = conversation_exchanges(conversation, user="me")
            assert made and all(exchange.messages for exchange in made)


@settings(deadline=None)  # the machine may be busy
@given(st.data(), JSON_VALUES)
def test_one_wrong_value_anywhere_is_read_or_refused(data: st.DataObject, wrong: object) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "b.png"}}]
    tree: Any = [
        sample(),
        chatgpt(),
        {"messages": [user(parts, timestamp=1709640000, name="Noor", id="m")], "title": "x"},
    ]
    at = tree
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not at[key] or not isinstance(at[key], (dict, list)) or data.draw(st.integers(0, 5)) == 0:
            break
        at = at[key]
    at[key] = wrong
    with suppress(BadConversation):
        for conversation in read(json.dumps(tree)):
            assert conversation_exchanges(conversation, user="me")


# Dates


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12:00 pm on 5 March, 2024", NOON),
        ("12:00 am on 5 March, 2024", datetime(2024, 3, 5)),
        ("2024-03-05 12:00", NOON),
        ("2024-03-05T14:00:00+02:00", NOON.replace(tzinfo=UTC)),
        ("2024-03-05T12:00:00Z", NOON.replace(tzinfo=UTC)),
        ("Tue, 5 Mar 2024 12:00:00 GMT", NOON.replace(tzinfo=UTC)),
        ("1709640000", NOON.replace(tzinfo=UTC)),
        (1709640000.0, NOON.replace(tzinfo=UTC)),
        (1709640000000, NOON.replace(tzinfo=UTC)),
        ("March 5th, 2024 at 12 p.m.", NOON),
        ("5 March 2024", datetime(2024, 3, 5)),
        ("20240305", datetime(2024, 3, 5)),
        ("5.3.2024", datetime(2024, 3, 5)),
        ("13/3/24, 1:05 PM", datetime(2024, 3, 13, 13, 5)),
        ("3/13/2024 13:05", datetime(2024, 3, 13, 13, 5)),
    ],
)
def test_a_date_is_read_however_it_is_written(text: str | float, expected: datetime) -> None:
    assert parse_date(text) == expected
    assert parse_date(text).tzinfo == expected.tzinfo


@pytest.mark.parametrize(
    "text",
    ["", "soon", "13:56", "2024", "31 June 2024", "5/8/2024", "13:00 pm on 5 March 2024", 5, 1e300, float("nan")],
)
def test_what_is_no_date_or_could_be_two_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError):
        parse_date(text)


@settings(deadline=None)  # the machine may be busy
@given(st.text() | st.from_regex(r"[0-9:/. ,apm\-]{0,20}") | st.floats() | st.integers())
def test_any_date_is_read_or_refused(text: str | float) -> None:
    with suppress(ValueError):
        assert parse_date(text).tzinfo in (None, UTC)
