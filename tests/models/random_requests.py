"""Requests of many kinds, the same for the same number."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tiny_models import CORPUS

from memlora_mlx.memory import stages
from memlora_mlx.models.decoding import DecodingSequence, GrammarMatcher
from memlora_mlx.models.student import Student
from memlora_mlx.records import ChatMessages, Stage


def random_sequence(
    student: Student, number: int, of_stages: Sequence[Stage | None], most_tokens: int, **options: Any
) -> DecodingSequence:
    """The request of that number: of one of the stages, guided or free, long or short."""
    dice = random.Random(number)
    text = dice.choice(CORPUS)
    stage = dice.choice(of_stages)
    grammar = None
    chat: ChatMessages = (("user", text[: dice.randint(5, len(text))]),)
    if dice.random() < 0.6:
        old, facts = ["Ann likes tea", text[:30]][: dice.randint(0, 2)], ["Ann moved to Rome"]
        chat, grammar = stages.update_chat(old, facts), stages.update_grammar(old, facts, verbatim_only=False)
    guide = GrammarMatcher(student, grammar) if grammar else None
    return DecodingSequence(
        student, stage, student.encode(chat), guide=guide, max_tokens=dice.randint(1, most_tokens), **options
    )
