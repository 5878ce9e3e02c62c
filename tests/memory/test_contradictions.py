"""Facts that replace a memory whatever the student saw, and facts that look like it and do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from memlora_mlx.memory.contradictions import LONGEST, replaces
from memlora_mlx.memory.replacements import with_replacements
from memlora_mlx.memory.stages import UpdateAnswer, UpdateOperation
from memlora_mlx.records import Exchange, MemoryRecord, Message, Scope

REPLACED = [
    ("User moved to Linz", "User lives in Graz"),
    ("Ann has moved to Oslo", "Ann lives in Rome"),
    ("Ann relocated from Rome to Oslo", "Ann is based in Rome"),
    ("Farah's home is in Lyon", "Farah lives in Porto"),
    ("User now works as a baker", "User works as a nurse"),
    ("Ann got a job as a tailor", "Ann works as an optician"),
    ("Ann works for Siemens", "Ann works for Bosch"),
    ("Ann's favourite colour is green", "Ann's favorite color is blue"),
    ("The music Ann likes best is jazz", "Ann's favourite music is rock"),
    ("User prefers tea to coffee", "User prefers coffee"),
    ("Ann prefers tea", "Ann prefers coffee"),
    ("Ann's rent comes to 715 euros", "Ann's rent comes to 880 euros"),
    ("Ann has three brothers", "Ann has four brothers"),
    ("Ann is 34 years old", "Ann is 33 years old"),
    ("The course starts at 18:30", "The course starts at 19:00"),
    ("Ann's wedding is on 5 May", "Ann's wedding is on 3 May"),
    ("Ann hates mushrooms", "Ann loves mushrooms"),
    ("Ann no longer likes jazz", "Ann likes jazz"),
    ("Ann likes olives", "Ann doesn't like olives"),
    ("Ann has given up the piano", "Ann plays the piano"),
    ("Katja went off board games and likes card games better", "Katja is all for board games"),
    ("Ann now drives a van instead of the old Skoda", "Ann drives an old Skoda"),
    ("Ann's boss is Petra", "Ann's boss is Karl"),
    ("Ann's phone number is 555 210", "Ann's phone number is 555 123"),
    ("Ann's sister lives in Bonn", "Ann's sister lives in Ulm"),
    ("Ann's hairdresser will be Studio Pelo in future", "Ann's hairdresser is The Fringe"),
    ("Ann has a cat called Miso", "Ann has a cat"),
    ("Ann is not a vegetarian", "Ann is a vegetarian"),
    ("Ann no longer goes to choir", "Ann goes to choir"),
    ("Ann left Bosch", "Ann works for Bosch"),
    ("User is now a teacher", "User works as a nurse in a small hospital"),
    ("Ann would rather swim than run", "Ann prefers to run"),
]
BOTH_TRUE = [
    ("Ann's sister lives in Bonn", "Ann lives in Ulm"),
    ("Ben lives in Rome", "Ann lives in Graz"),
    ("Ann lives in a flat with a balcony", "Ann lives in Graz"),
    ("Ann moved to the sales team", "Ann lives in Graz"),
    ("Ann used to live in Rome", "Ann lives in Graz"),
    ("Ann plans to move to Rome", "Ann lives in Graz"),
    ("Ann moved to Rome in 2010", "Ann lives in Graz"),
    ("Ann was born in Rome", "Ann lives in Graz"),
    ("Ann visited Oslo", "Ann lives in Graz"),
    ("Ann lives in Graz", "Ann lives in Graz near the park"),
    ("Ann's sister is Maria", "Ann's sister is Anna"),
    ("Ann's cat is called Miso", "Ann's cat is called Tofu"),
    ("Ann has a dentist appointment on Friday", "Ann has a dentist appointment on Monday"),
    ("Ann ran 8 km", "Ann ran 5 km"),
    ("Ann has run 8 km", "Ann has run 5 km"),
    ("Ann bought 3 books", "Ann bought 2 books"),
    ("Ann has two cats", "Ann has three dogs"),
    ("Ann's brother has three children", "Ann has two children"),
    ("Ann likes jazz", "Ann likes rock"),
    ("Ann prefers window seats", "Ann prefers tea"),
    ("Ann hates rain", "Ann loves walks"),
    ("Ann's favourite food is pizza", "Ann's favourite colour is blue"),
    ("Ann works as a nurse", "Ann works for Siemens"),
    ("Ann's sister stopped playing chess", "Ann plays chess"),
    ("Ann came back from Rome", "Ann loves Rome"),
    ("Ann likes tea cosies", "Ann likes tea"),
    ("Ann has a boat", "Ann has a car"),
    ("Ann left Rome", "Ann loves Rome"),
    ("Ann is a mother", "Ann works as a nurse"),
    ("Ann is a student", "Ann works as a waitress"),
    ("Ann is not in Rome", "Ann likes Rome"),
    ("Ann sold the old car", "Ann loves the old car"),
    ("Ann likes dogs more than cats", "Ann likes cats"),
    ("Ann is taller than Ben", "Ann likes Ben"),
    ("Ann is free on Tuesday", "Ann is free on Monday"),
    ("The shop is closed on Sunday", "The shop is closed on Monday"),
]


def close_if_drinks(one: str, other: str) -> float:
    return 0.7 if {one, other} <= {"tea", "coffee"} else 0.3


@pytest.mark.parametrize(("fact", "memory"), REPLACED)
def test_what_cannot_be_true_beside_a_fact_is_replaced(fact: str, memory: str) -> None:
    assert replaces(fact, memory, close_if_drinks)


@pytest.mark.parametrize(("fact", "memory"), BOTH_TRUE)
def test_what_can_be_true_beside_a_fact_stays(fact: str, memory: str) -> None:
    assert not replaces(fact, memory, close_if_drinks)


def test_the_same_with_another_number_in_the_same_talk_is_a_correction() -> None:
    assert replaces("Ann ran 8 km", "Ann ran 5 km", close_if_drinks, is_recent=True)
    assert replaces("Ann grew up with two brothers", "Ann grew up with three brothers", close_if_drinks, is_recent=True)
    assert not replaces("Ann ran 8 km in Rome", "Ann ran 5 km in Oslo", close_if_drinks, is_recent=True)


def test_what_the_owner_names_as_over_is_replaced_by_what_is_said_with_it() -> None:
    said = ["I am tired of rye bread.", "I have rolls in the morning."]
    fact, rye = "Ann has rolls in the morning", "Ann has rye bread in the morning"
    assert replaces(fact, rye, close_if_drinks, said=said)
    assert not replaces(fact, rye, close_if_drinks)
    assert not replaces(fact, "Ann bakes rye bread for her aunt", close_if_drinks, said=said)


DAY = datetime(2026, 5, 3, tzinfo=UTC)
LINZ, GRAZ, TEA = "User moved to Linz", "User lives in Graz", "User likes tea"


def memory(text: str, said_at: datetime | None = DAY) -> MemoryRecord:
    return MemoryRecord(text, text, Scope(user_id="me"), said_at, stored_at=DAY, changed_at=None)


def replaced(*operations: UpdateOperation, memories: list[MemoryRecord] | None = None) -> set[tuple[object, ...]]:
    exchange = Exchange(
        "k", Scope(user_id="me"), (Message("user", "I moved to Linz."),), DAY + timedelta(days=1), "chat", 0
    )
    offered = [memory(TEA), memory(GRAZ)] if memories is None else memories
    answer = with_replacements(UpdateAnswer(operations, 2), [LINZ], offered, exchange, close_if_drinks)
    assert answer.rejected == 2
    return {(each.event, each.text, each.memory_index) for each in answer.operations}


def test_an_addition_and_a_fact_left_aside_become_the_update_that_the_student_missed() -> None:
    assert replaced(UpdateOperation("ADD", LINZ)) == {("UPDATE", LINZ, 1)}
    assert replaced() == {("UPDATE", LINZ, 1)}
    deleted = UpdateOperation("DELETE", TEA, 0)
    assert replaced(deleted, UpdateOperation("ADD", LINZ)) == {("DELETE", TEA, 0), ("UPDATE", LINZ, 1)}


def test_what_the_student_decided_about_a_memory_stays() -> None:
    decided = UpdateOperation("DELETE", GRAZ, 1), UpdateOperation("ADD", LINZ)
    assert replaced(*decided) == {("DELETE", GRAZ, 1), ("ADD", LINZ, None)}
    assert replaced(UpdateOperation("UPDATE", LINZ, 0)) == {("UPDATE", LINZ, 0)}


def test_a_memory_that_was_said_later_is_the_newer_one() -> None:
    later = memory(GRAZ, DAY + timedelta(days=9))
    naive = memory(GRAZ, datetime(2026, 6, 1))
    assert replaced(UpdateOperation("ADD", LINZ), memories=[later]) == {("ADD", LINZ, None)}
    assert replaced(UpdateOperation("ADD", LINZ), memories=[naive]) == {("ADD", LINZ, None)}
    assert replaced(UpdateOperation("ADD", LINZ), memories=[memory(GRAZ, None)]) == {("UPDATE", LINZ, 0)}


def test_any_text_is_compared_and_a_long_one_is_left_to_the_student() -> None:
    random = Random(0)
    pieces = [
        "Ann",
        "'s",
        " ",
        "lives in",
        " moved from",
        " to",
        " 7",
        "no longer",
        "\n",
        "…",
        "(",
        "[",
        "\\",
        "猫",
        ",",
        "than ",
    ]
    texts = ["".join(random.choices(pieces, k=random.randrange(40))) for _ in range(300)]
    for fact, old in zip(texts, reversed(texts), strict=True):
        assert replaces(fact, old, close_if_drinks) in (True, False)
        assert not replaces(fact, fact, close_if_drinks)
    assert not replaces(LINZ, GRAZ + " in a flat" * LONGEST, close_if_drinks)


CODEINE, NEVER = "The medicine that User must never be given is codeine", "User must never be given a medicine"


@pytest.mark.parametrize(
    ("fact", "old", "student", "right"),
    [
        (CODEINE, NEVER, [UpdateOperation("DELETE", NEVER, 0)], {("UPDATE", CODEINE, 0)}),
        ("User no longer likes tea", TEA, [UpdateOperation("DELETE", TEA, 0)], {("DELETE", TEA, 0)}),
        (
            "User's wife is called Eve, not Eva",
            "User's wife's name is Eva",
            [UpdateOperation("DELETE", "", 0)],
            {("UPDATE", "User's wife is called Eve, not Eva", 0)},
        ),
        (
            "Anna isn't a dentist anymore, she runs a bakery",
            "User's sister Anna is a dentist",
            [UpdateOperation("DELETE", "", 0)],
            {("UPDATE", "Anna isn't a dentist anymore, she runs a bakery", 0)},
        ),
        ("User gave the parrot away", "User has a parrot", [UpdateOperation("DELETE", "", 0)], {("DELETE", "", 0)}),
        (
            "User broke a wrist",
            "User's wrist watch is from Porto",
            [UpdateOperation("DELETE", "", 0)],
            {("ADD", "User broke a wrist", None)},
        ),
        ("User meets Ann on Tuesday", "User met Ann on Monday", [], {("ADD", "User meets Ann on Tuesday", None)}),
        ("User met Ann on that Monday", "User met Ann on Monday", [], set()),
    ],
)
def test_a_fact_that_ends_nothing_deletes_nothing_and_is_not_lost(
    fact: str, old: str, student: list[UpdateOperation], right: set[tuple[object, ...]]
) -> None:
    exchange = Exchange("k", Scope(user_id="me"), (Message("user", fact),), DAY + timedelta(days=1), "chat", 0)
    answer = with_replacements(UpdateAnswer(tuple(student)), [fact], [memory(old)], exchange, close_if_drinks)
    assert {(each.event, each.text, each.memory_index) for each in answer.operations} == right


def of_one_job(fact: str, part: str) -> float:
    return 0.9 if "nurse" in part else 0.1


@pytest.mark.parametrize(
    ("old", "said", "left"),
    [
        ("User is called Ann and is a nurse", "Sorry, I am not a nurse, I am a baker.", {"User is called Ann"}),
        ("User is a nurse and has two cats", "I am a baker now.", {"User has two cats"}),
        (
            "User's sister Eve is a nurse, lives in Rome",
            "My sister Eve is a baker.",
            {"User's sister Eve lives in Rome"},
        ),
        ("User is a nurse in a hospital, with night shifts", "I am a baker now.", set()),
        ("User is a nurse and likes being a nurse", "I am no nurse, I am a baker.", set()),
    ],
)
def test_what_a_changed_memory_says_besides_is_not_lost(old: str, said: str, left: set[str]) -> None:
    fact = "User's sister Eve is a baker" if "sister" in said else "User is a baker"
    exchange = Exchange("k", Scope(user_id="me"), (Message("user", said),), DAY + timedelta(days=1), "chat", 0)
    answer = UpdateAnswer((UpdateOperation("UPDATE", fact, 0),))
    done = with_replacements(answer, [fact], [memory(old)], exchange, of_one_job).operations
    assert [(each.event, each.text) for each in done][:1] == [("UPDATE", fact)]
    assert {each.text for each in done if each.event == "ADD"} == left
