"""Replies of a student that cannot talk freely: an answer from the memories, said back to the user, or that there is none."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from memlora_mlx.memory.abstention import NOT_MENTIONED
from memlora_mlx.memory.answering import Answerer
from memlora_mlx.memory.asked_about import LEAST_NEARNESS, asked_kind, asked_words, nearness
from memlora_mlx.memory.evidence import owner_name
from memlora_mlx.memory.offered import CLOSE_SHARE, LEAST_SHARE, about_asked_person, cited, near_enough
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.retrieval.lexical import content_words, sentences
from memlora_mlx.memory.second_person import to_second_person
from memlora_mlx.memory.stages.text import format_day
from memlora_mlx.records import Hit, Scope

NOT_TOLD = "Not mentioned: I remember nothing about that."
_NEAREST = " What I remember is near to it: "
NEAR = 0.4  # score of a memory that is told although it may be no answer, since a student and a distance may miss one
HALF_NEAR = 1.5  # the same for a nearness to what is asked about: see `LEAST_NEARNESS`
LONGEST = 1000  # characters of a hit that are measured, since each of its words is
_ASKS_TIME = re.compile(
    r"(?<!\w)(?:when|what (?:time|day|date|month|year)|which (?:day|month|year)|how long)(?!\w)", re.IGNORECASE
)
_YES_NO = content_words("yes no not")


@dataclass(frozen=True, slots=True)
class MemoryReply:
    """A reply with the hits that were offered to the student, and those that its words come from."""

    text: str
    offered: tuple[Hit, ...] = ()
    cited: tuple[Hit, ...] = ()


def reply_from_memory(
    answerer: Answerer, owner: Scope, question: str, hits: Sequence[Hit], cancelled: threading.Event | None = None
) -> MemoryReply:
    """Answer a question of the owner's from hits, best first, with one of the user's own sentences where that says it.

    A student of this size is given few lines, those about what and whom is asked, since every other line misleads it.

    Raises:
        Cancelled: `cancelled` was set.
    """
    if not hits:
        return MemoryReply(NOT_TOLD)
    options = answerer.options
    measured = _nearness(answerer, question, hits)
    fitting = list(hits)
    if measured is not None and options.least_cosine is not None:
        fitting = [
            hit for hit, near in zip(hits, measured, strict=True) if near >= LEAST_NEARNESS * options.least_cosine
        ]
        if not fitting:
            near = about_asked_person(question, _half_near(hits, measured, options))
            return _not_told(near, owner)
    offered = about_asked_person(question, near_enough(fitting, options, CLOSE_SHARE) or fitting[:1])
    by_rule = answerer.answer_by_rule(question, offered)
    if by_rule == NOT_MENTIONED:
        return MemoryReply(NOT_TOLD, tuple(offered))
    said, answer = [(hit, text) for hit in offered for text in _sayings(hit, owner)], by_rule
    if answer is None and options.use_expert_in_chat:
        request, truncated = answerer.answer_request(question, offered)
        offered = offered[: len(offered) - truncated]
        answer = "".join(answerer.engine.stream(request, cancelled=cancelled)).strip()
    if by_rule is None and answer and options.grounded_answers and not _is_said(question, answer, said):
        answer = said[0][1] if measured is not None else NOT_MENTIONED
    return _as_reply(question, answer or "", by_rule is not None, offered, said)


def _nearness(answerer: Answerer, question: str, hits: Sequence[Hit]) -> list[float] | None:
    """How near each hit is to what the question asks about; None where that cannot be told. See `nearness`."""
    names = {hit.message.speaker for hit in hits if hit.message} | {owner_name(hit.owner) for hit in hits}
    asked = asked_words(question, [name for name in names if name])
    if not asked or answerer.options.least_cosine is None:
        return None
    whole = [_with_message(hit) for hit in hits]  # a message may say more than the memory that was made of it
    measured = nearness(
        asked, [*(hit.text[:LONGEST] for hit in hits), *whole], answerer.engine.embed, asked_kind(question)
    )
    return [max(pair) for pair in zip(measured[: len(hits)], measured[len(hits) :], strict=True)]


def _with_message(hit: Hit) -> str:
    """A memory, and the user's words where they have more."""
    if hit.message is None or hit.message.role != "user" or content_words(hit.message.text) <= content_words(hit.text):
        return hit.text[:LONGEST]
    return f"{hit.text} {hit.message.text}"[:LONGEST]


def _half_near(hits: Sequence[Hit], measured: Sequence[float], options: PipelineOptions) -> list[Hit]:
    """The hits that may be about what is asked, best first: by their words and their score, or by a high score alone."""
    least = options.least_cosine or math.inf
    found = [
        (hit.score + max(near, HALF_NEAR * least), hit)
        for hit, near in zip(hits, measured, strict=True)
        if hit.score >= NEAR or (near >= HALF_NEAR * least and hit.score >= LEAST_SHARE * least)
    ]
    return [hit for _, hit in sorted(found, key=lambda each: -each[0])]


def _is_said(question: str, answer: str, said: Sequence[tuple[Hit, str]]) -> bool:
    """Whether all content words of a student's answer stand in what it was given, or in the question."""
    known = content_words(question) | _YES_NO | content_words(NOT_MENTIONED)
    for hit, text in said:
        known |= content_words(text)
        if _ASKS_TIME.search(question):
            known |= content_words(format_day(hit.said_at))
    return content_words(answer) <= known


def _not_told(near: Sequence[Hit], owner: Scope) -> MemoryReply:
    """That nothing is remembered about the question, with the nearest memory, if there is one."""
    texts = [text for hit in near[:1] for text in _sayings(hit, owner)]
    return MemoryReply(f"{NOT_TOLD}{_NEAREST}{_ended(texts[0])}" if texts else NOT_TOLD, tuple(near[:1]))


def _as_reply(
    question: str, answer: str, is_by_rule: bool, offered: Sequence[Hit], said: Sequence[tuple[Hit, str]]
) -> MemoryReply:
    """The sentence that holds the answer; the answer itself, where no single sentence does."""
    if answer.rstrip(".").casefold() == NOT_MENTIONED.casefold():
        is_near = said and said[0][0].score >= NEAR
        return MemoryReply(f"{NOT_TOLD}{_NEAREST}{_ended(said[0][1])}" if is_near else NOT_TOLD, tuple(offered))
    new = content_words(answer) - content_words(question) - _YES_NO
    holding = [(hit, text) for hit, text in said if new <= content_words(text)]
    if said and not is_by_rule and not new:  # yes, no, or words of the question: the best memory says it better
        holding = said[:1]  # type: ignore[assignment]
    if holding:
        hit, text = holding[0]
        return MemoryReply(_ended(text), tuple(offered), (hit,))
    text = to_second_person(answer)
    if is_by_rule and said:
        return MemoryReply(f"{text}: {said[0][1]}", tuple(offered), (said[0][0],))
    return MemoryReply(_ended(text), tuple(offered), cited(question, answer, offered))


def _sayings(hit: Hit, owner: Scope) -> list[str]:
    """What a hit says, in the second person: the memory, then the sentences of the user's message."""
    if hit.owner != owner:
        return [hit.text]
    texts = [hit.memory.text] if hit.memory is not None else []
    if hit.message is not None and hit.message.role == "user":
        texts += [text for line in hit.message.text.splitlines() for text in sentences(line) if not text.endswith("?")]
    return [to_second_person(text) for text in texts]


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
