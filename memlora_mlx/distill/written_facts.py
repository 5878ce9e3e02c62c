"""Synthetic dialogues with their facts in the words of an extraction expert.

The update stage reads what extraction writes, which is not word for word what a generator knows to be said. So the expert is
asked about every exchange of a dialogue, and a fact that it wrote takes the place of the known one that it matches. What
matches none is left out, and a known fact that the expert did not write keeps its own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from memlora_mlx.distill.synthetic_dialogues import Fact, SyntheticDialogue
from memlora_mlx.memory.retrieval.lexical import content_words

SHARED = 0.6  # of the content words of each of the two, at least
SHARED_OF_CHANGE = (
    0.8  # of those of a known fact that changes a memory: without the new value or the detail it changes nothing
)
_NEGATION = re.compile(r"\b(?:no|not|never|nothing|without|over|ends?|ended|drop\w*|stop\w*)\b|n't\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:[:.,]\d+)*")


def says_the_same(known: Fact, written: str) -> bool:
    """Whether a written fact may stand for a known one: most words of each, all numbers, and the negation are the same."""
    one, other = content_words(known.text), content_words(written)
    if not one or not other or len(one & other) < SHARED * max(len(one), len(other)):
        return False
    if known.event == "UPDATE" and len(one & other) < SHARED_OF_CHANGE * len(one):
        return False
    if set(_NUMBER.findall(known.text)) != set(_NUMBER.findall(written)):
        return False
    return bool(_NEGATION.search(known.text)) == bool(_NEGATION.search(written))


def with_written_facts(dialogue: SyntheticDialogue, written: Sequence[Sequence[str]]) -> SyntheticDialogue:
    """The dialogue with the facts that an extraction expert wrote in place of those known.

    Args:
        written: the facts that the expert wrote about each step, in order.
    """
    texts: dict[str, str] = {}  # by a memory's known text
    steps = []
    for step, found in zip(dialogue.steps, written, strict=True):
        facts: list[Fact] = []
        free = list(found)
        for fact in step.facts:
            before = None if fact.replaces is None else texts.get(fact.replaces, fact.replaces)
            text = next((text for text in free if says_the_same(fact, text)), fact.text)
            if text in texts.values() or text in (fact.text for fact in facts):
                text = fact.text
            if text in free:
                free.remove(text)
            facts.append(Fact(text, fact.event, before))
            if fact.event in ("UPDATE", "DELETE"):
                texts.pop(str(fact.replaces), None)
            if fact.event in ("ADD", "UPDATE"):
                texts[fact.text] = text
        steps.append(replace(step, facts=tuple(facts)))
    return replace(dialogue, steps=tuple(steps))
