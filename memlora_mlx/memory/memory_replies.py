"""Replies of a student that cannot talk freely: an answer from the memories, said back to the user, or that there is none."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from memlora_mlx.memory.abstention import NOT_MENTIONED
from memlora_mlx.memory.answering import Answerer
from memlora_mlx.memory.offered import CLOSE_SHARE, about_asked_person, cited, near_enough
from memlora_mlx.memory.retrieval.lexical import content_words, sentences
from memlora_mlx.memory.second_person import to_second_person
from memlora_mlx.records import Hit, Scope

NOT_TOLD = "Not mentioned: I remember nothing about that."
_NEAREST = " What I remember is near to it: "
NEAR = 0.4  # score of a memory that is told although the student finds no answer in it, since it may miss one


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

    A student of this size is given few lines, those about the person asked, since every other line misleads it.

    Raises:
        Cancelled: `cancelled` was set.
    """
    if not hits:
        return MemoryReply(NOT_TOLD)
    offered = about_asked_person(question, near_enough(hits, answerer.options, CLOSE_SHARE) or hits[:1])
    by_rule = answerer.answer_by_rule(question, offered)
    if by_rule == NOT_MENTIONED:
        return MemoryReply(NOT_TOLD, tuple(offered))
    said, answer = [(hit, text) for hit in offered for text in _sayings(hit, owner)], by_rule
    if answer is None and answerer.options.use_expert_in_chat:
        request, truncated = answerer.answer_request(question, offered)
        offered = offered[: len(offered) - truncated]
        answer = "".join(answerer.engine.stream(request, cancelled=cancelled)).strip()
    return _as_reply(question, answer or "", by_rule is not None, offered, said)


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


_YES_NO = content_words("yes no not")


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
