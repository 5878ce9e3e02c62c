"""Transcripts: dates in the forms of every telephone, names, notices, the user, assistants, and groups."""

from __future__ import annotations

import io
from datetime import datetime

import pytest

from memlora_mlx.conversations import (
    Conversation,
    ReadOptions,
    ReadReport,
    conversation_exchanges,
    conversation_owners,
    read_conversations,
)
from memlora_mlx.errors import BadConversation
from memlora_mlx.records import Scope


def read(text: str, report: ReadReport | None = None, **options: object) -> Conversation:
    chosen = ReadOptions(**options)  # type: ignore[arg-type]
    [conversation] = read_conversations(io.BytesIO(text.encode()), chosen, report or ReadReport())
    return conversation


def complaint(text: str, **options: object) -> str:
    with pytest.raises(BadConversation) as caught:
        read(text, **options)
    return str(caught.value)


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.speaker or str(turn.role), turn.text) for session in conversation.sessions for turn in session.turns]


def times(conversation: Conversation) -> list[datetime | None]:
    return [turn.said_at for session in conversation.sessions for turn in session.turns]


# Stamps


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("[2024/5/7 21:05:09] ", datetime(2024, 5, 7, 21, 5, 9)),  # China, iOS
        ("2024/5/7 下午9:05 - ", datetime(2024, 5, 7, 21, 5)),  # Taiwan, Android
        ("[2024. 5. 7. 오후 9:05:09] ", datetime(2024, 5, 7, 21, 5, 9)),  # Korea, iOS
        ("2024. 05. 07. 21:05 - ", datetime(2024, 5, 7, 21, 5)),  # Hungary
        ("[13.5.2024 klo 21.05.09] ", datetime(2024, 5, 13, 21, 5, 9)),  # Finland
        ("13. 5. 2024 21:05 - ", datetime(2024, 5, 13, 21, 5)),  # Czechia
        ("13/05/24 21.05 - ", datetime(2024, 5, 13, 21, 5)),  # Indonesia
        ("13/5/2024, 9:05\u202fp.\u00a0m. - ", datetime(2024, 5, 13, 21, 5)),  # Spain
        ("13/5/24, 9:05 p. m. - ", datetime(2024, 5, 13, 21, 5)),
        ("2024-05-13, 9:05 p.m. - ", datetime(2024, 5, 13, 21, 5)),  # Canada
        ("2024-05-13 21 h 05 - ", datetime(2024, 5, 13, 21, 5)),  # Canada, in French
        ("[13/05/2024, 9:05:09 μ.μ.] ", datetime(2024, 5, 13, 21, 5, 9)),  # Greece
        ("\u200f١٣\u200f/٥\u200f/٢٠٢٤، ٩:٠٥ م - ", datetime(2024, 5, 13, 21, 5)),  # Egypt
        ("[۱۳/۵/۲۰۲۴، ۲۱:۰۵] ", datetime(2024, 5, 13, 21, 5)),  # in Persian digits
        ("\u200e[13-05-24 21:05:09] ", datetime(2024, 5, 13, 21, 5, 9)),  # Netherlands
        ("\u2068[13/05/2024, 21:05:09]\u2069 ", datetime(2024, 5, 13, 21, 5, 9)),
        ("13/05/2024 21:05:09: ", datetime(2024, 5, 13, 21, 5, 9)),  # iOS until 2016
        ("[13/05/2024, 0:05:09 PM] ", datetime(2024, 5, 13, 12, 5, 9)),  # Japan's noon
        ("[13/5/2567 21:05:09] ", datetime(2024, 5, 13, 21, 5, 9)),  # Thailand's years
        ("13/05/2024, 21:05 – ", datetime(2024, 5, 13, 21, 5)),
    ],
)
def test_a_stamp_is_read_as_its_telephone_wrote_it(stamp: str, expected: datetime) -> None:
    conversation = read(f"{stamp}Ann: I sold my car.\n{stamp}Bob: To whom: Max?\n")
    assert said(conversation) == [("Ann", "I sold my car."), ("Bob", "To whom: Max?")]
    assert times(conversation) == [expected, expected]


@pytest.mark.parametrize(
    "bad",
    [
        "[31/02/2024, 10:00:00] Bob: Never",
        "[13/13/2024, 10:00:00] Bob: Never",
        "[13/05/2024, 25:00:00] Bob: Never",
        "[13/05/2024, 10:61:00] Bob: Never",
        "[1403/02/24, 10:00:00] Bob: The Persian calendar",
    ],
)
def test_a_line_that_looks_like_a_stamp_and_is_none_stops_the_import(bad: str) -> None:
    good = "[13/05/2024, 10:00:00] Ann: Hi"
    assert "line 2 has a date that cannot be read" in complaint(f"{good}\n{bad}\n{good}")
    assert "line 1 has a date that cannot be read" in complaint(f"{bad}\n{good}")


def test_numbers_in_a_message_are_no_stamp() -> None:
    text = "13/05/2024, 10:00 - Ann: The plan:\n1 - bread\n12:30 - lunch\n[see 4/5] yes\n2024 - a good year\n"
    assert said(read(text)) == [("Ann", text.partition("Ann: ")[2].strip())]


@pytest.mark.parametrize(
    ("before", "stamp", "after", "expected"),
    [
        ("2024-12-31 23:50", "2024-12-31 24:05", "2025-01-01 00:10", datetime(2025, 1, 1, 0, 5)),
        ("2024-12-31 23:50", "2025-01-01 24:05", "2025-01-01 00:10", datetime(2025, 1, 1, 0, 5)),
        ("2024-12-30 23:50", "2024-12-31 24:05", "2025-01-02 00:10", None),
    ],
)
def test_the_hour_24_is_settled_by_its_neighbours(
    before: str, stamp: str, after: str, expected: datetime | None
) -> None:
    text = f"{before} - Ann: a\n{stamp} - Bob: b\n{after} - Ann: c\n"
    if expected is None:
        assert "line 2 has the time '2024-12-31 24:05'" in complaint(text)
    else:
        assert times(read(text))[1] == expected


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        (["3/4/24, 9:00 AM", "3/6/24, 9:00 AM"], datetime(2024, 3, 4, 9)),  # as American telephones write
        (["3/4/24, 9:00", "3/16/24, 9:00"], datetime(2024, 3, 4, 9)),  # there is no sixteenth month
        (["3/4/24, 9:00", "16/4/24, 9:00"], datetime(2024, 4, 3, 9)),
        (["4/3/24, 9:00", "2/4/24, 9:00"], datetime(2024, 3, 4, 9)),  # the other order runs backwards
        (["24/5/7 9:00", "24/5/8 9:00"], datetime(2024, 5, 7, 9)),  # days pass, not years
    ],
)
def test_the_order_of_a_date_is_found_where_the_file_leaves_no_doubt(stamps: list[str], expected: datetime) -> None:
    text = "".join(f"[{stamp}] Ann: {number}\n" for number, stamp in enumerate(stamps))
    assert times(read(text))[0] == expected


def test_an_option_settles_the_order_that_a_file_cannot() -> None:
    text = "04/03/2024, 9:00 am - Ann: a\n06/03/2024, 9:00 am - Bob: b\n"
    assert "can be read as two dates; say which with --date-order dmy" in complaint(text)
    assert times(read(text, date_order="dmy"))[0] == datetime(2024, 3, 4, 9)
    assert times(read(text, date_order="mdy"))[0] == datetime(2024, 4, 3, 9)
    assert "line 2" in complaint(text.replace("06/", "16/"), date_order="mdy")


# Names and notices


def test_names_are_what_recurs_before_the_colon() -> None:
    lines = [
        '[13/05/2024, 10:00:00] Bob "Bobby" Lee: one',
        "[13/05/2024, 10:01:00] \u202a+44\u00a07700\u00a0900123\u202c: two",
        "[13/05/2024, 10:02:00] ~\u202fZed: three",
        '[13/05/2024, 10:03:00] Bob "Bobby" Lee: four',
        "[13/05/2024, 10:04:00] Zed:five",
        "[13/05/2024, 10:05:00] Jan - Plumber: six",
    ]
    conversation = read("\n".join(lines))
    assert conversation.speakers == ('Bob "Bobby" Lee', "+44 7700 900123", "Zed", "Jan - Plumber")
    assert [text for _, text in said(conversation)] == ["one", "two", "three", "four", "five", "six"]


@pytest.mark.parametrize(
    "notice",
    [
        "Ann created group “Trip: Norway”",
        "Ann a créé le groupe «\u00a0Voyage : Norvège\u00a0»",
        'Ann hat die Gruppe "Reise: Norwegen" erstellt',
        "Ann creó el grupo «Viaje: Noruega»",
        "Messages and calls are end-to-end encrypted. Tap to learn more.",
        "Bob left",
    ],
)
def test_a_notice_is_nobodys_words(notice: str) -> None:
    at = "13/05/2024, 10:00 - "
    conversation = read(f"{at}{notice}\n{at}Ann: Hi\n{at}Bob: Hello\n{at}Ann: So?\n")
    assert said(conversation) == [("Ann", "Hi"), ("Bob", "Hello"), ("Ann", "So?")]


def test_the_lines_of_a_group_itself_are_nobodys_in_any_language() -> None:
    at = "[13.05.2024, 10:00:00] "
    text = (
        f"{at}Klub: Zprávy jsou chráněny koncového šifrování\n{at}Klub: Ann přidala Boba\n{at}Ann: Ahoj\n{at}Bob: Čau\n"
    )
    report = ReadReport()
    assert said(read(text, report)) == [("Ann", "Ahoj"), ("Bob", "Čau")]
    assert report.left_out["notices of the messenger"] == 2


@pytest.mark.parametrize(
    "placeholder",
    ["<Media omitted>", "<Medien ausgeschlossen>", "<Multimedia omitido>", "null", "This message was deleted.",
     "Diese Nachricht wurde gelöscht.", "\u200fהתמונה הושמטה", "Missed voice call", "<Médias omis>", "图像已忽略",
     "Este mensaje fue eliminado", "Bu mesaj silindi", "メディアは含まれていません"],
)  # fmt: skip
def test_a_placeholder_is_no_message(placeholder: str) -> None:
    at = "13/05/2024, 10:00 - "
    report = ReadReport()
    assert said(read(f"{at}Ann: Hi\n{at}Bob: {placeholder}\n{at}Bob: Yes\n", report)) == [("Ann", "Hi"), ("Bob", "Yes")]
    assert report.left_out.total() == 1


def test_marks_of_edits_and_attachments_are_taken_off() -> None:
    at = "13/05/2024, 10:00 - "
    text = (
        f"{at}Ann: I ski. \u200e<This message was edited>\n{at}Bob: IMG-20240513-WA0003.jpg (file attached)\nMy bike\n"
    )
    assert said(read(text)) == [("Ann", "I ski."), ("Bob", "My bike")]


def test_somebody_else_may_write_of_encryption_and_of_groups() -> None:
    at = "13/05/2024, 10:00 - "
    lines = ["Ann: Hi", "Bob: Hello", "Ann: Is this end-to-end encrypted?", "Bob: Ann is late", "Ann: I added salt"]
    assert said(read("".join(f"{at}{line}\n" for line in lines))) == [tuple(line.split(": ", 1)) for line in lines]


def test_a_label_in_a_message_is_no_person() -> None:
    text = "Ann: My recipe:\nIngredients: flour\nTime: an hour\nBob: I bake on Sundays.\nAnn: Good.\n"
    assert read(text).speakers == ("Ann", "Bob")


def test_a_list_of_settings_is_refused_with_its_line() -> None:
    text = "Ann: Hi\nAnn: So\nColour: red\nSize: big\nShape: round\nWeight: 3\n"
    assert "line 3 begins with 'Colour'" in complaint(text)


def test_everybody_may_speak_once_in_a_dated_chat() -> None:
    names = ["Ann", "Bob", "Cleo", "Dan", "Eve"]
    text = "".join(f"13/05/2024, 10:0{n} - {name}: I am {name}.\n" for n, name in enumerate(names))
    assert read(text).speakers == tuple(names)


# The user and assistants


@pytest.mark.parametrize("own", ["User", "Me", "You", "Human"])
@pytest.mark.parametrize("assistant", ["ChatGPT", "Claude", "Assistant", "Gemini", "GPT-4o", "Copilot"])
def test_an_assistant_is_an_assistant(own: str, assistant: str) -> None:
    conversation = read(f"{own}: I moved.\n{assistant}: I live in Berlin.\n{own}: Good.\n")
    assert said(conversation) == [("user", "I moved."), ("assistant", "I live in Berlin."), ("user", "Good.")]
    assert conversation_owners(conversation, user="me") == [Scope(user_id="me")]


def test_headings_of_a_copied_page_name_the_user_and_the_assistant() -> None:
    assert said(read("You said:\nI moved.\nChatGPT said:\nNice.\n")) == [("user", "I moved."), ("assistant", "Nice.")]


def test_in_a_messenger_claude_is_a_friend() -> None:
    at = "13/05/2024, 10:00 - "
    assert read(f"{at}Ann: Hi\n{at}Claude: Salut\n").speakers == ("Ann", "Claude")


def test_the_assistant_of_a_named_person_has_no_memories() -> None:
    conversation = read("Nora: I moved.\nChatGPT: I live in Berlin.\nNora: Good.\nIvo: I stayed.\n")
    made = conversation_exchanges(conversation, user="me")
    assert {e.owner.user_id for e in made} == {"Nora", "Ivo"}
    mine = [m.text for e in made if e.owner.user_id == "Nora" for m in e.messages if m.role == "user"]
    assert mine == ["I moved.", "Good."]


def test_the_users_own_name_leads_to_the_users_memories() -> None:
    text = "13/05/2024, 10:00 - Nora Berg: I moved.\n13/05/2024, 10:01 - Ivo: I stayed.\n"
    conversation = read(text, own_names=frozenset({"nora berg"}))
    assert conversation_owners(conversation, user="me") == [Scope(user_id="me"), Scope(user_id="Ivo")]
    me = text.replace("Nora Berg", "Me")
    assert conversation_owners(read(me, own_names=frozenset({"Me"})), user="zoe")[0] == Scope(user_id="zoe")
    assert conversation_owners(read(me), user="zoe")[0] == Scope(user_id="Me")  # whoever exported it says so
    beside = read(f"{me}13/05/2024, 10:02 - ChatGPT: Hello.\n")
    assert conversation_owners(beside, user="zoe")[0] == Scope(user_id="zoe")
    assert conversation_owners(read(text), user="me")[0] == Scope(user_id="Nora Berg")


# Groups


def test_a_group_gives_exchanges_only_to_those_who_speak_in_them() -> None:
    people = 30
    turns = [(n, n % people) for n in range(600)]
    text = "".join(f"13/05/2024, {n // 60:02}:{n % 60:02} - P{who}: I did thing {n}.\n" for n, who in turns)
    made = conversation_exchanges(read(text), user="me")
    assert len(made) == 600
    assert all(any(message.role == "user" for message in exchange.messages) for exchange in made)
    assert all(m.speaker == e.owner.user_id for e in made for m in e.messages if m.role == "user")
