"""Synthetic dialogues: every operation must follow from the text alone, and no held-out phrase may be trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlora_mlx.distill.phrases import Attribute, Phrase, load_phrases, parse_attributes, select_phrases
from memlora_mlx.distill.synthetic_dialogues import SyntheticDialogue, expected_memories, generate_dialogue

PHRASES = load_phrases()
LIVES = st.builds(generate_dialogue, st.integers(0, 2**32), steps=st.integers(0, 20), held_out=st.booleans())
by_attribute = pytest.mark.parametrize("attribute", PHRASES.attributes, ids=lambda attribute: attribute.name)

# A slot left open, a word twice, a wrong article, or two marks in a row.
WRONG = re.compile(r"[{}|]|\b(\w+) \1\b|\ba (?!one\b)[aeio]|\ban (?!hour)[^aeiou]|[.!?,:] ?[.,:]", re.IGNORECASE)


@cache
def many(held_out: bool = False) -> list[SyntheticDialogue]:
    return [generate_dialogue(seed, held_out=held_out) for seed in range(300)]


def texts(life: SyntheticDialogue) -> Iterator[str]:
    for step in life.steps:
        yield from (text for _, text in step.turns)
        yield from (fact.text for fact in step.facts)


def requested(fact: str) -> tuple[str | None, str | None] | None:
    """The statement that a fact wants forgotten, or the attribute it names; None where it asks for nothing to be forgotten."""
    for phrase in (*PHRASES.forget_requests, *PHRASES.forget_requests_by_name):
        pattern = re.escape(phrase.fact).replace(r"\{n\}", r"[\w-]+").replace(r"\{f\}", "(?P<f>.+)")
        if found := re.fullmatch(pattern.replace(r"\{a\}", "(?P<a>.+)"), fact):
            groups = found.groupdict()
            return groups.get("f"), groups.get("a")
    return None


def lists(attribute: Attribute) -> dict[str, tuple[Phrase, ...]]:
    return {name: getattr(attribute, name) for name in ("state", "change", "withdraw", "refine")}


# ------------------------------------------------------------------------------------------------ lives


@given(LIVES)
def test_replaying_the_decisions_gives_the_bank_before_every_step(life: SyntheticDialogue) -> None:
    memories: list[str] = []
    for number, step in enumerate(life.steps):
        assert memories == expected_memories(life, number)
        before = list(memories)
        for fact in step.facts:
            assert fact.text not in before
            assert (fact.event == "ADD") == (fact.replaces is None)
            if fact.replaces is None:
                memories.append(fact.text)
                continue
            assert fact.replaces in before  # a step never touches what it has brought itself
            place = memories.index(fact.replaces)
            memories[place : place + 1] = {"UPDATE": [fact.text], "DELETE": [], "NONE": [fact.replaces]}[fact.event]
    assert memories == expected_memories(life, len(life.steps)) and len(set(memories)) == len(memories)


@given(st.integers(), st.booleans())
@settings(max_examples=20)
def test_a_seed_always_gives_the_same_life(seed: int, held_out: bool) -> None:
    life = generate_dialogue(seed, held_out=held_out)
    assert life == generate_dialogue(seed, held_out=held_out)
    assert generate_dialogue(seed, steps=5, held_out=held_out).steps == life.steps[:5]
    assert life.name == (f"life-held-{seed}" if held_out else f"life-{seed}")


def test_the_dialogues_of_a_seed_stay_the_same_from_version_to_version() -> None:
    """The shipped experts were trained on these dialogues. A change of a phrase or of the order of the random draws changes
    them: then compute the hash again, and say in the change log that `memlora teach` writes other examples."""
    dialogues = [generate_dialogue(seed, steps=16, held_out=held) for seed in range(40) for held in (False, True)]
    text = json.dumps([dataclasses.asdict(dialogue) for dialogue in dialogues], ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "855429193a4eaa0d"


@given(LIVES)
def test_who_speaks_and_how_much(life: SyntheticDialogue) -> None:
    assert (life.owner is None) == (life.other is None)
    assert life.owner is None or life.owner != life.other
    for step in life.steps:
        assert [role for role, _ in step.turns] == ["user", "assistant"]
        assert len(step.facts) <= 3


def test_the_shares_are_about_those_asked_for() -> None:
    steps = [step for life in many() for step in life.steps]
    counts = Counter(len(step.facts) for step in steps)
    assert [counts[facts] / len(steps) for facts in range(4)] == pytest.approx([0.15, 0.5, 0.25, 0.1], abs=0.03)
    events = Counter(fact.event for step in steps for fact in step.facts)
    shares = [events[event] / events.total() for event in ("ADD", "UPDATE", "DELETE", "NONE")]
    assert shares == pytest.approx([0.4, 0.25, 0.18, 0.17], abs=0.04)
    assert sum(life.owner is None for life in many()) / len(many()) == pytest.approx(0.3, abs=0.06)


def test_words_are_clean() -> None:
    for life in many() + many(held_out=True):
        for text in texts(life):
            assert text.isprintable() and text == " ".join(text.split())
            assert not WRONG.search(text), text
            assert text[0].isupper() and not re.search(r"\bi\b", text)


def test_facts_are_in_the_third_person_and_name_the_owner() -> None:
    for life in many() + many(held_out=True):
        for fact in (fact for step in life.steps for fact in step.facts):
            assert re.search(rf"\b{life.owner or 'User'}\b", fact.text)
            assert not re.search(r"\b(he|she|his|her|hers|him|I|my|me|we|our)\b", fact.text, re.IGNORECASE), fact.text
            longest = 18 if requested(fact.text) is None else 32
            assert 4 <= len(fact.text.split()) <= longest and not fact.text.endswith((".", "!", "?")), fact.text


# ------------------------------------------------------------------------------------------------ what facts mean

Meaning = tuple[Attribute, str, str | None, str | None]  # what it is about, which list, the value, the old value


@cache
def meanings() -> dict[str, set[Meaning]]:
    """Every fact that can be said of "User", and what it says."""
    found: dict[str, set[Meaning]] = {}
    for attribute in PHRASES.attributes:
        for name, phrases in lists(attribute).items():
            for phrase in phrases:
                for value in attribute.values if "{v}" in phrase.fact else (None,):
                    for old in attribute.values if "{old}" in phrase.fact else (None,):
                        for detail in attribute.details if "{d}" in phrase.fact else (None,):
                            text = phrase.fact.format(n="User", v=value, old=old, d=detail)
                            text = text[0].upper() + text[1:]
                            found.setdefault(text, set()).add((attribute, name, value, old))
    return found


def test_no_fact_can_mean_two_things() -> None:
    assert [text for text, found in meanings().items() if len(found) > 1] == []


@pytest.mark.parametrize("held_out", [False, True])
def test_every_decision_follows_from_what_the_facts_mean(held_out: bool) -> None:
    for life in many(held_out):
        stored: dict[str, Meaning] = {}
        for step in life.steps:
            seen: list[Attribute] = []
            for fact in step.facts:
                text = fact.text.replace(life.owner or "User", "User")
                if asked := requested(text):
                    assert fact.event == "DELETE" and fact.replaces in stored
                    kept, _, kept_value, _ = stored.pop(fact.replaces)
                    statement, named = asked
                    if statement:
                        [(attribute, name, value, _)] = meanings()[statement[0].upper() + statement[1:]]
                        assert (attribute, name, value) == (kept, "state", kept_value)
                    else:
                        assert kept.name == named and kept.kind in ("single", "other person")
                    seen.append(kept)
                    continue
                [(attribute, name, value, old)] = meanings()[text]
                own = {text: known for text, known in stored.items() if known[0] is attribute}
                seen.append(attribute)
                if name == "state":
                    assert fact.replaces == next((text for text, known in own.items() if known[2] == value), None)
                    assert fact.event == ("NONE" if fact.replaces else "ADD")
                else:
                    assert fact.replaces in own
                    _, stored_name, stored_value, _ = own[fact.replaces]
                if name == "change":
                    assert fact.event == "UPDATE" and value != stored_value and old in (None, stored_value)
                if name == "refine":
                    assert fact.event == "UPDATE" and value == stored_value and stored_name != "refine"
                if name == "withdraw":
                    assert fact.event == "DELETE" and value in (None, stored_value)
                if fact.event in ("UPDATE", "DELETE"):
                    del stored[str(fact.replaces)]
                if fact.event in ("ADD", "UPDATE"):
                    stored[fact.text] = attribute, name, value, old
            assert len(set(seen)) == len(seen)
            alone = [known[0] for known in stored.values() if known[0].kind in ("single", "other person")]
            groups = [attribute.exclusive_group for attribute in alone if attribute.exclusive_group]
            assert len(set(alone)) == len(alone) and len(set(groups)) == len(groups)


# ------------------------------------------------------------------------------------------------ templates


@by_attribute
def test_held_out_phrases_are_no_training_phrases(attribute: Attribute) -> None:
    for phrases in lists(attribute).values():
        training, held_out = select_phrases(phrases, held_out=False), select_phrases(phrases, held_out=True)
        assert (*training, *held_out) == phrases and 3 * len(held_out) >= len(phrases)
    every = [phrase for phrases in lists(attribute).values() for phrase in phrases]
    assert len({phrase.said for phrase in every}) == len({phrase.fact for phrase in every}) == len(every)


def test_no_fact_of_a_held_out_life_is_one_of_a_training_life() -> None:
    facts = [{fact.text for life in many(held) for step in life.steps for fact in step.facts} for held in (False, True)]
    nameless = [{text for text in some if "User" in text} for some in facts]
    assert all(nameless) and facts[0].isdisjoint(facts[1])


@by_attribute
def test_an_attribute_has_all_it_needs(attribute: Attribute) -> None:
    assert len(set(attribute.values)) == len(attribute.values) >= 8 and len(attribute.state) >= 6
    assert bool(attribute.change) == (attribute.kind in ("single", "other person"))
    assert len(attribute.change) in (0, *range(5, 20)) and len(attribute.refine) in (0, *range(3, 20))
    assert len(attribute.withdraw) in (0, *range(4, 20)) and len(attribute.details) >= 6 * bool(attribute.refine)
    slots = {"state": {"v"}, "change": {"v", "old"}, "withdraw": {"v"}, "refine": {"v", "d"}}
    for name, phrases in lists(attribute).items():
        for phrase in phrases:
            said, fact = set(re.findall(r"{(\w+)}", phrase.said)), set(re.findall(r"{(\w+)}", phrase.fact))
            assert fact == said | {"n"} and said <= slots[name]  # a fact says no more than the owner did
            assert said == slots[name] or name == "withdraw" or (name == "change" and "v" in said)
            assert said or attribute.kind in ("single", "other person")  # which one of several must be named


def test_a_life_asks_for_things_to_be_forgotten_in_words_of_its_own() -> None:
    for held_out in (False, True):
        facts = [fact for life in many(held_out) for step in life.steps for fact in step.facts]
        asked = [requested(fact.text) for fact in facts if requested(fact.text)]
        assert 0.02 < len(asked) / len(facts) < 0.08
        assert any(statement for statement, _ in asked) and any(named for _, named in asked)


def test_there_is_enough_to_talk_about() -> None:
    assert len(PHRASES.attributes) >= 45 and len(set(PHRASES.first_names)) == len(PHRASES.first_names) >= 80
    assert len(PHRASES.small_talk) + len(PHRASES.friend_small_talk) + len(PHRASES.assistant_small_talk) >= 40
    assert len(PHRASES.replies) + len(PHRASES.friend_replies) + len(PHRASES.assistant_replies) >= 40
    assert len(PHRASES.openers) >= 15 and len(PHRASES.closers) >= 20


def test_no_value_is_the_name_of_somebody_who_talks() -> None:
    words = {
        word
        for attribute in PHRASES.attributes
        for text in attribute.values + attribute.details
        for word in text.split()
    }
    assert words.isdisjoint(PHRASES.first_names)


# ------------------------------------------------------------------------------------------------ the files

GOOD = """\
kind: single
attributes:
  mug:
    topic: things
    values: a cup, a jug
    state: |
      I own {v}. | {n} owns {v}
"""


def test_an_attribute_is_read_from_its_file() -> None:
    [mug] = parse_attributes("mugs.yaml", GOOD)
    assert (mug.name, mug.topic, mug.kind, mug.values) == ("mug", "things", "single", ("a cup", "a jug"))
    assert mug.state == (Phrase("I own {v}.", "{n} owns {v}"),) and not mug.change and mug.exclusive_group is None


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("kind: single", "kind: plural", "mugs.yaml: the kind 'plural' is unknown"),
        ("topic:", "topik:", "mugs.yaml, mug: unknown keys: topik"),
        ("    topic: things\n", "", "mugs.yaml, mug: missing keys: topic"),
        ("values: a cup, a jug", "values_of: cups", "no earlier attribute has that name"),
        (" | ", " : ", "mugs.yaml, mug, state: the line 'I own {v}. : {n} owns {v}' must have two parts"),
        ("owns {v}", "owns {old}", "mugs.yaml, mug, state: 'I own {v}.' has unknown slots: old"),
        ("attributes:", "attributes: [", "mugs.yaml is not valid YAML"),
        ("kind: single\n", "", "mugs.yaml must have exactly these keys: attributes, kind"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(before: str, after: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_attributes("mugs.yaml", GOOD.replace(before, after))
