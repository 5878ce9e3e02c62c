"""What the student writes has ground: facts in what was said, and changes in what they change."""

from __future__ import annotations

from datetime import datetime

import pytest

from memlora_mlx.memory.grounding import concerns, ground_facts, ground_operations, missing_ground
from memlora_mlx.memory.stages import UpdateAnswer, UpdateOperation
from memlora_mlx.records import Exchange, Image, Message, Scope

MARCH = datetime(2024, 3, 4, 10)


def between_friends(*turns: str, caption: str | None = None) -> Exchange:
    """Of Ann's view; her words begin with "Ann: "."""
    messages = []
    for turn in turns:
        speaker, _, text = turn.partition(": ")
        image = Image("1.jpg", caption) if caption and not messages else None
        messages.append(Message("user" if speaker == "Ann" else "assistant", text, speaker, MARCH, image))
    return Exchange("key", Scope("Ann_1"), tuple(messages), MARCH, "chat", 0)


def with_assistant(said: str, reply: str, *, names: tuple[str | None, str | None] = (None, None)) -> Exchange:
    messages = (Message("user", said, names[0], MARCH), Message("assistant", reply, names[1], MARCH))
    return Exchange("key", Scope("me"), messages, MARCH, "chat", 0)


# Facts


@pytest.mark.parametrize(
    "fact",
    [
        "Ann moved to Rome last week",
        "Ann is moving to Rome",
        "Ann's cats are called Moss and Fern",
        "Ann has a grey kitten",  # in the caption
    ],
)
def test_a_fact_in_other_words_is_kept(fact: str) -> None:
    said = between_friends(
        "Ann: I moved to Rome last week. My cats are called Moss and Fern.", "Bob: Oh!", caption="a grey kitten"
    )
    assert missing_ground(fact, said) is None


@pytest.mark.parametrize(
    "fact", ["Ann works as a pilot for an airline", "Ann's sister Clara is a dentist", "Ann and Bob married in Paris"]
)
def test_an_invented_fact_is_dropped(fact: str) -> None:
    said = between_friends("Ann: I moved to Rome last week.", "Bob: Lovely! I bought a red bicycle.")
    assert missing_ground(fact, said) == "not said"


def test_the_words_of_a_question_are_no_fact() -> None:
    asked = with_assistant("Should I buy a motorbike? Is Lisbon cheaper than Porto?", "It depends on your budget.")
    for fact in ("User buys a motorbike", "Lisbon is cheaper than Porto", "User should buy a motorbike"):
        assert missing_ground(fact, asked) == "only asked"
    assert missing_ground("User owns a motorbike", with_assistant("I own a motorbike. Is it fast?", "Yes.")) is None


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("Since I keep a goat, what should I plant?", "User keeps a goat"),
        ("What should I cook, considering that my niece is vegan?", "User's niece is vegan"),
        ("Quick question: I work as a nurse, so which shoes are best?", "User works as a nurse"),
        ("I've moved to Lyon, what should I see there?", "User has moved to Lyon"),
    ],
)
def test_a_part_of_a_question_may_state_something(said: str, fact: str) -> None:
    assert missing_ground(fact, with_assistant(said, "It depends.")) is None


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("If I lived in Lyon, would I need a car?", "User lives in Lyon"),
        ("If somebody were rich, I would buy a castle, right?", "User buys a castle"),
        ("Tell me, should I buy a motorbike, or a goat?", "User buys a motorbike"),
        ("My goat, is it healthy, or could my goat be ill?", "User could be ill"),
    ],
)
def test_what_a_question_supposes_is_no_fact(said: str, fact: str) -> None:
    assert missing_ground(fact, with_assistant(said, "It depends.")) == "only asked"


def test_a_question_that_the_owner_answers_states_something() -> None:
    """The answer may be a mere yes; the asker has said nothing of the kind."""
    answered = between_friends("Bob: Do you play the violin?", "Ann: Yes, I do!")
    assert missing_ground("Ann plays the violin", answered) is None
    asked = between_friends("Ann: Do you play the violin?", "Bob: Yes, I do!")
    assert missing_ground("Ann plays the violin", asked) == "only asked"


@pytest.mark.parametrize("names", [(None, None), ("User", "Assistant"), ("Anna", "ChatGPT")])
def test_what_the_assistant_claims_is_not_the_users(names: tuple[str | None, str | None]) -> None:
    claimed = with_assistant(
        "Thanks, sounds nice.", "I recommend the Hotel Aurora, it costs 90 euros per night.", names=names
    )
    assert missing_ground("User recommends the Hotel Aurora for 90 euros", claimed) == "only said by others"


def test_what_a_friend_says_of_himself_is_not_the_owners() -> None:
    told = between_friends("Ann: Lovely!", "Bob: I won the race in Oslo, I am so proud.")
    assert missing_ground("Ann won the race in Oslo", told) == "only said by others"


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("我叫小明，住在上海，对花生过敏。", "小明住在上海"),
        ("Ich wohne in Köln und habe zwei Katzen, Mimi und Leo.", "User wohnt in Köln mit den Katzen Mimi und Leo"),
        ("Soy alérgica a las nueces.", "User es alérgica a las nueces"),
        ("اسمي أحمد وأسكن في عمّان وأعمل مهندسًا.", "أحمد وأسكن في عمّان"),
    ],
)
def test_other_languages_are_compared_too(said: str, fact: str) -> None:
    assert missing_ground(fact, with_assistant(said, "OK.")) is None
    assert missing_ground("User flies helicopters over Greenland", with_assistant(said, "OK.")) == "not said"


def test_facts_of_several_parts_are_merged_and_the_dropped_ones_counted() -> None:
    rome = between_friends("Ann: I moved to Rome.", "Bob: Do you like opera?")
    oslo = between_friends("Ann: My sister lives in Oslo.")
    found = ground_facts(
        [
            (rome, ["Ann moved to Rome", "Ann likes opera", "Ann flies helicopters"]),
            (oslo, ["Ann's sister lives in Oslo", "Ann moved to Rome"]),
        ]
    )
    assert found.kept == ("Ann moved to Rome", "Ann's sister lives in Oslo")
    assert found.dropped == {"only said by others": 1, "not said": 2}


# Operations

NURSE, CAT = "User works as a nurse in Leeds", "User has a cat called Biscuit"
SAID = with_assistant("I am a florist now.", "Congratulations!")


def far(_: str, __: str) -> float:
    return 0.2


def grounded(fact: str, *operations: UpdateOperation) -> tuple[list[tuple[str, str]], dict[str, int]]:
    answer, turned = ground_operations(UpdateAnswer(operations), [fact], [NURSE, CAT], SAID, far)
    return [(operation.event, operation.text) for operation in answer.operations], dict(turned)


def test_an_update_of_a_memory_that_the_fact_does_not_concern_is_an_addition() -> None:
    fact = "User lives in York"
    assert grounded(fact, UpdateOperation("UPDATE", fact, 1)) == ([("ADD", fact)], {"update without ground": 1})


def test_a_deletion_of_a_memory_that_the_fact_does_not_concern_adds_the_fact() -> None:
    fact = "User stopped eating meat"
    assert grounded(fact, UpdateOperation("DELETE", NURSE, 0)) == ([("ADD", fact)], {"delete without ground": 1})


def test_changes_with_ground_stay() -> None:
    fact = "User no longer works as a nurse"
    assert grounded(fact, UpdateOperation("UPDATE", fact, 0)) == ([("UPDATE", fact)], {})
    assert grounded(fact, UpdateOperation("DELETE", NURSE, 0)) == ([("DELETE", NURSE)], {})
    both = UpdateOperation("DELETE", NURSE, 0), UpdateOperation("DELETE", CAT, 1)
    assert grounded(fact, *both) == ([("DELETE", NURSE)], {"delete without ground": 1})


def test_no_fact_is_lost_or_added_twice_beside_a_deletion_without_ground() -> None:
    fact = "User flies to Oslo"
    made = UpdateOperation("DELETE", NURSE, 0), UpdateOperation("ADD", fact)
    assert grounded(fact, *made) == ([("ADD", fact)], {"delete without ground": 1})


def test_a_name_is_no_ground_and_close_vectors_are() -> None:
    names = frozenset(["ann"])
    assert not concerns("Ann moved house to Oslo", "Ann likes tea", names, lambda: 0.3)
    assert concerns("Ann moved house to Oslo", "Ann lives in Rome", names, lambda: 0.7)
    assert concerns("Ann no longer lives in Rome", "Ann lives in Rome", names, lambda: pytest.fail("not asked"))
