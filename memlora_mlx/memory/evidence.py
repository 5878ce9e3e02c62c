"""Hits as the lines that an answer is based on.

A message is given as `Speaker: text`, the best hits whole and the others by the one sentence that has most to do with the
question: the words hold the answer, and few tokens hold much of the evidence. Times that were said relative to the day
("yesterday") have their date behind them, since counting days is code's work and not a small model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from memlora_mlx import temporal
from memlora_mlx.memory.retrieval.lexical import content_words, sentences
from memlora_mlx.memory.stages import PromptMemory
from memlora_mlx.memory.store.messages import shown_text
from memlora_mlx.records import Hit, Scope, SourceMessage

WHOLE = 5  # hits that are given with the whole message
MAX_WORDS = 150  # of a message that is given whole; of a longer one, the best sentences


def evidence(question: str, hits: Sequence[Hit], *, names: bool = False) -> list[PromptMemory]:
    """One line for each hit, in their order.

    Args:
        names: say whose memory each is, where more than one owner is asked; a message always says who said it.
    """
    asked = content_words(question)
    return [_line(hit, asked, names=names, is_whole=rank < WHOLE) for rank, hit in enumerate(hits)]


def _line(hit: Hit, asked: frozenset[str], *, names: bool, is_whole: bool) -> PromptMemory:
    message = hit.message
    if message is None:
        assert hit.memory is not None
        return PromptMemory(
            with_dates(hit.memory.text, hit.said_at and hit.said_at.date()),
            hit.said_at,
            owner_name(hit.owner) if names else None,
        )
    facts = content_words(hit.memory.text) if hit.memory is not None else frozenset()
    text = _excerpt(message, asked, facts, MAX_WORDS if is_whole else 0)
    said = with_dates(text, message.said_at and message.said_at.date())
    return PromptMemory(said_by(message, said), message.said_at, None)


def said_by(message: SourceMessage, text: str | None = None) -> str:
    """A message, or a part of its text, behind the name of who said it."""
    speaker = message.speaker or (owner_name(message.owner) if message.role == "user" else message.role.capitalize())
    said = shown_text(message.text, message.image.caption if message.image else None) if text is None else text
    return f"{speaker}: {said}" if speaker else said


def _excerpt(message: SourceMessage, asked: frozenset[str], facts: frozenset[str], words: int) -> str:
    """A message in one line: whole, or its best sentences up to a number of words, but at least one."""
    caption = message.image.caption if message.image is not None else None
    whole = shown_text(message.text, caption)
    if len(whole.split()) <= words:
        return whole
    parts = sentences(" ".join(message.text.split()))
    ranked = sorted(range(len(parts)), key=lambda at: (-_relevance(parts[at], asked, facts), at))
    kept, left = ranked[:1], words - len(parts[ranked[0]].split()) if ranked else words
    for at in ranked[1:]:
        if (size := len(parts[at].split())) <= left:
            kept.append(at)
            left -= size
    said = " ".join(" ".join(parts[at] for at in sorted(kept)).split()[:MAX_WORDS])
    is_caption_needed = caption is not None and (not said or content_words(caption) & (asked | facts))
    return shown_text(said, caption if is_caption_needed else None)


def _relevance(sentence: str, asked: frozenset[str], facts: frozenset[str]) -> float:
    """How much a sentence has to do with the question, and with the memory that came from its message."""
    words = content_words(sentence)
    length = min(len(sentence.split()), 12) / 100
    return 2 * len(words & asked) + len(words & facts) - 0.5 * sentence.endswith("?") + length


def with_dates(text: str, said_on: date | None) -> str:
    """A text with dates behind the times in it that mean something only on the day they were said."""
    if said_on is None:
        return text
    pieces, end = [], 0
    for found in temporal.find(text, said_on):
        words = text[found.start : found.end]
        dated = temporal.written(found.span)
        is_said_day = (found.begins, found.ends) == (said_on, said_on)
        if is_said_day or str(found.begins.year) in words or dated.casefold() in words.casefold():
            continue
        pieces.append(f"{text[end : found.end]} ({dated})")
        end = found.end
    return "".join([*pieces, text[end:]])


def owner_name(owner: Scope) -> str | None:
    """An owner as people say it: LoCoMo's `Caroline_26` is Caroline."""
    name = owner.user_id or owner.agent_id or owner.run_id
    if name is None:
        return None
    first, _, last = name.rpartition("_")
    return first if first and last.isdigit() else name
