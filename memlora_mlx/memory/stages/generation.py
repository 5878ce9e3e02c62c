"""The generation stage: a question and memories in, an answer out; and the turns of a chat, which the base answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from memlora_mlx.memory.stages.text import format_day
from memlora_mlx.records import ChatMessages

ANSWER_TOKENS = 128
_ANSWER = (
    "Answer the question from these memories in a few words. Behind each stands the day it was said: turn yesterday or "
    "last week into a date. If no memory holds the answer, say that it was not mentioned.\n\n{memories}\n\n"
    "Question: {question}"
)


@dataclass(frozen=True, slots=True)
class PromptMemory:
    """A memory as the answer stage reads it."""

    text: str
    said_at: datetime | None
    owner: str | None  # a name, where more than one owner is asked


def answer_chat(question: str, memories: Sequence[PromptMemory]) -> ChatMessages:
    """Ask a question over memories, oldest first, each with the day it was said.

    The day stands behind the words, and no dash before them: an untrained small student goes on reciting dates that
    begin its lines (Mem0's form), and the items of a list.
    """
    ordered = sorted(memories, key=lambda memory: (memory.said_at is not None, _without_zone(memory.said_at)))
    lines = [f"{_with_owner_name(memory)} ({format_day(memory.said_at)})" for memory in ordered]
    return (("user", _ANSWER.format(memories="\n".join(lines) or "(no memories)", question=question)),)


def chat_turn_with_memories(text: str, memories: Sequence[PromptMemory]) -> ChatMessages:
    """What the user said, after the memories nearest to it; answered by the base, without an expert."""
    if not memories:
        return (("user", text),)
    lines = "\n".join(f"{memory.text} ({format_day(memory.said_at)})" for memory in memories)
    return (("user", f"What you remember about me:\n{lines}\n\n{text}"),)


def _with_owner_name(memory: PromptMemory) -> str:
    named = not memory.owner or re.search(rf"(?<!\w){re.escape(memory.owner)}(?!\w)", memory.text, re.IGNORECASE)
    return memory.text if named else f"{memory.owner}: {memory.text}"


def _without_zone(moment: datetime | None) -> datetime:
    return moment.replace(tzinfo=None) if moment else datetime.min
