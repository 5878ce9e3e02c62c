"""Dialogues about change: their operations can be replayed, and held-out frames are no training frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from memlora_mlx.distill.phrases import select_phrases
from memlora_mlx.distill.synthetic_changes import KINDS, generate_change_dialogue, load_change_phrases
from memlora_mlx.distill.synthetic_dialogues import Fact, SyntheticDialogue, expected_memories
from memlora_mlx.distill.written_facts import says_the_same, with_written_facts

DIALOGUES = st.builds(generate_change_dialogue, st.integers(0, 2**32), steps=st.integers(0, 16), held_out=st.booleans())


def replay(dialogue: SyntheticDialogue) -> None:
    memories: list[str] = []
    for number, step in enumerate(dialogue.steps):
        assert memories == expected_memories(dialogue, number)
        for fact in step.facts:
            assert (fact.event == "ADD") == (fact.replaces is None)
            if fact.replaces is None:
                memories.append(fact.text)
                continue
            place = memories.index(fact.replaces)
            memories[place : place + 1] = {"UPDATE": [fact.text], "DELETE": [], "NONE": [fact.replaces]}[fact.event]
        assert len(set(memories)) == len(memories)


@given(DIALOGUES)
@settings(max_examples=50, deadline=None)
def test_every_operation_can_be_replayed(dialogue: SyntheticDialogue) -> None:
    replay(dialogue)
    for step in dialogue.steps:
        for text in [text for _, text in step.turns] + [fact.text for fact in step.facts]:
            assert "{" not in text and text == " ".join(text.split()) and text[0] == text[0].upper()


def test_all_events_happen_and_changes_most() -> None:
    events = Counter(
        fact.event for seed in range(60) for step in generate_change_dialogue(seed).steps for fact in step.facts
    )
    assert min(events.values()) > 0.07 * events.total() and events["UPDATE"] > 0.25 * events.total()


def test_held_out_frames_are_no_training_frames() -> None:
    phrases = load_change_phrases()
    assert {f"{kind}_state" for kind in KINDS} <= set(phrases.frames)
    for frames in (*phrases.frames.values(), phrases.part_ends):
        training, held_out = select_phrases(frames, held_out=False), select_phrases(frames, held_out=True)
        assert training and held_out and not {frame.said for frame in training} & {frame.said for frame in held_out}


def test_a_written_fact_stands_for_a_known_one_only_if_it_says_the_same() -> None:
    known = Fact("Ana's parking fee is 55 euros, not 40 euros", "UPDATE", "Ana's parking fee is 40 euros")
    assert says_the_same(known, "Ana's parking fee is 55 euros and not 40 euros")
    assert not says_the_same(known, "Ana's parking fee is 55 euros")
    assert not says_the_same(known, "Ana's parking fee is 40 euros, not 45 euros")
    ended = Fact("Ana no longer keeps bees", "DELETE", "Ana keeps bees")
    assert says_the_same(ended, "Ana doesn't keep bees any longer") and not says_the_same(ended, "Ana keeps bees")


def test_written_facts_take_the_place_of_known_ones_for_the_whole_dialogue() -> None:
    dialogue = generate_change_dialogue(3, steps=14)
    same = with_written_facts(dialogue, [[] for _ in dialogue.steps])
    assert same == dialogue
    written = with_written_facts(dialogue, [[f"{fact.text} indeed" for fact in step.facts] for step in dialogue.steps])
    assert written != dialogue and [len(step.facts) for step in written.steps] == [len(s.facts) for s in dialogue.steps]
    assert replace(written, steps=dialogue.steps) == dialogue
    replay(written)
