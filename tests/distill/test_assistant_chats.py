"""Generated chats: the facts are the owner's own, in the language they were said in, and nothing else is a fact."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlora_mlx.distill import chat_phrases
from memlora_mlx.distill.assistant_chats import FOREIGN_SHARE, FRIENDS_SHARE, generate_chat
from memlora_mlx.distill.chat_phrases import load_chat_phrases
from memlora_mlx.distill.phrases import select_phrases
from memlora_mlx.distill.synthetic_dialogues import DialogueStep, Fact, SyntheticDialogue, expected_memories
from memlora_mlx.distill.synthetic_teacher import dialogue_exchange, generate_chats, synthetic_extraction_examples
from memlora_mlx.memory.grounding import ground_facts
from memlora_mlx.memory.stages import MAX_FACTS, PART_CHARACTERS

PHRASES = load_chat_phrases()


@cache
def many(held_out: bool = False) -> list[SyntheticDialogue]:
    return [generate_chat(seed, held_out=held_out) for seed in range(200)]


def steps(held_out: bool = False) -> list[DialogueStep]:
    return [step for chat in many(held_out) for step in chat.steps]


@given(st.integers(), st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_seed_always_gives_the_same_chat(seed: int, held_out: bool) -> None:
    chat = generate_chat(seed, held_out=held_out)
    assert chat == generate_chat(seed, held_out=held_out)
    assert generate_chat(seed, steps=5, held_out=held_out).steps == chat.steps[:5]


@pytest.mark.parametrize("held_out", [False, True])
def test_replaying_the_operations_gives_the_memories(held_out: bool) -> None:
    for chat in many(held_out):
        memories = expected_memories(chat, len(chat.steps))
        assert len(set(memories)) == len(memories)


@pytest.mark.parametrize("held_out", [False, True])
def test_every_fact_is_said_by_its_owner(held_out: bool) -> None:
    """The guards, which judge by words, drop few of them: those that are said within a question. Only ASCII is compared."""
    kept = dropped = 0
    for chat in many(held_out):
        for number, step in enumerate(chat.steps):
            facts = [fact.text for fact in step.facts if fact.text.isascii()]
            found = ground_facts([(dialogue_exchange(chat, number, step), facts)])
            requested = found.dropped.get("asked to be forgotten", 0)  # carried out by rule, so it is no fact
            assert requested <= sum(fact.event == "DELETE" for fact in step.facts)
            kept, dropped = kept + len(found.kept), dropped + sum(found.dropped.values()) - requested
    assert kept > 1000 and dropped / (kept + dropped) < 0.03


def test_the_chats_have_every_kind_of_exchange() -> None:
    chats = [chat for chat in many() if chat.owner is None]
    said = [step for chat in chats for step in chat.steps]
    alone = [step for step in said if [role for role, _ in step.turns] == ["user"]]
    assert any(step.facts for step in alone) and any(not step.facts for step in alone)
    assert any(len(text) > 500 and step.facts for step in said for role, text in step.turns if role == "user")
    replies = [len(text.split()) for step in said for role, text in step.turns if role == "assistant"]
    assert min(replies) <= 5 and 100 <= max(replies) <= 260
    without = sum(not step.facts for step in steps()) / len(steps())
    assert 0.4 < without < 0.55
    friends = sum(chat.owner is not None for chat in many()) / len(many())
    assert friends == pytest.approx(FRIENDS_SHARE * (1 - FOREIGN_SHARE), abs=0.07)
    assert any(step.turns[0][0] == "assistant" for chat in many() if chat.owner for step in chat.steps)


@pytest.mark.parametrize("held_out", [False, True])
def test_texts_are_filled_and_short_enough_to_be_read_in_one_part(held_out: bool) -> None:
    for step in steps(held_out):
        assert step.turns and step.turns[0][1]
        assert sum(len(text) for _, text in step.turns) < 2 * PART_CHARACTERS
        assert not any(re.search(r"[{}|]", text) for _, text in step.turns)
        assert len(step.facts) <= min(3, MAX_FACTS)
        for fact in step.facts:
            assert not fact.text.endswith((".", "!", "?", "。")) and not re.search(r"[{}|]", fact.text)


def test_a_slip_is_no_fact() -> None:
    """Of two values that were said, only the one that stands is in the fact."""
    markers = [slip.split("{wrong} ")[1].split(" {right}")[0] for slip in PHRASES.slips]
    slipped = [
        (step, marker) for step in steps() for marker in markers for _, text in step.turns if f" {marker} " in text
    ]
    assert slipped
    for step, marker in slipped:
        [user] = [text for role, text in step.turns if role == "user"]
        wrong, right = user.lower().split(marker.lower())
        assert len(step.facts) == 1 and wrong.strip() != right.strip()


def test_other_languages_state_facts_in_their_own_words() -> None:
    assert {"Spanish", "German", "French", "Chinese"} <= {one.language for one in PHRASES.languages}
    facts: list[Fact] = [fact for step in steps() for fact in step.facts]
    for language in PHRASES.languages:
        begins = {fact.fact.split("{v}")[0] for fact in select_phrases(language.facts, held_out=False)}
        assert sum(fact.text.startswith(tuple(begin for begin in begins if begin)) for fact in facts) > 10, (
            language.language
        )


def test_held_out_chats_use_none_of_the_training_phrases() -> None:
    training = {text for step in steps() for _, text in step.turns}
    for language in PHRASES.languages:
        free, held = (select_phrases(language.replies, held_out) for held_out in (False, True))
        assert held and set(free).isdisjoint(held)
    shared = [text for step in steps(held_out=True) for _, text in step.turns if len(text) > 40 and text in training]
    assert not shared


def test_a_chat_gives_an_example_for_each_exchange_also_of_a_message_alone() -> None:
    [chat] = generate_chats(1, "train")
    rows = list(synthetic_extraction_examples(chat, "train"))
    assert len(rows) == len(chat.steps)
    alone = [
        row
        for one in generate_chats(10, "train")
        for row in synthetic_extraction_examples(one, "train")
        if "\nassistant:" not in row.chat[0][1]
    ]
    assert alone


def test_a_line_of_another_language_needs_three_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "Latin:\n  facts: Habeo felem.\n  openers: Salve!\n  questions: Quid?\n  replies: Bene.\n"
    monkeypatch.setattr(chat_phrases, "read_phrase_file", lambda name: broken)
    with pytest.raises(
        ValueError, match=r"languages.yaml, Latin: the line 'Habeo felem.' must be 'said \| fact \| values'"
    ):
        chat_phrases._languages()
