"""Requests to forget: which of an owner's sentences ask for something to be forgotten, and which memories they mean.

Such a request is carried out by rule. A small student writes what is to be forgotten down as a new fact instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memlora_mlx.memory.changes import Add, Change, Delete, EmbedFunction
from memlora_mlx.memory.quotes import split_quotes
from memlora_mlx.memory.retrieval.lexical import content_words, sentences
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, MemoryRecord, Neighbour, Scope

Words = frozenset[str]

# Measured on synthetic dialogues for training: see decision 27.
NAMED_SHARE = 0.5  # of the content words of a request or of a memory, that the other must have too
NEAR = 0.35  # cosine from which one shared content word is enough
CLOSE = 0.45  # cosine from which none is needed ("my employer")

_LEAD = (
    r"(?:(?:and|so|also|but|oh|now|well|okay|ok|actually|hey|hi|yes|no|then|please|kindly|just)[,:]?\s+)*"
    r"(?:(?:can|could|would|will)\s+you\s+|i(?:'d| would)\s+like\s+you\s+to\s+|i\s+(?:want|need|ask)\s+you\s+to\s+"
    r"|you\s+(?:can|should|may|must)\s+|do\s+me\s+a\s+favou?r\s+and\s+)?(?:please\s+|kindly\s+|just\s+)*"
)
_KNOWING = r"(?:memory|memories|notes?|records?|remember\w*|know|known|told|said|say|mention\w*|talked|stored?|saved?)"
_CLAIM = r"(?:that|what|it|this|how|the\s+(?:bit|part|fact|entry|note|thing)|everything|anything|all)\b"
_VERBS = r"(?:delete|erase|remove|wipe|scrub|strike|drop|clear|cross\s+out|get\s+rid\s+of)"
_REQUESTS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{_LEAD}(?:forget|unlearn)\b(?!\s+(?:to|about\s+it)\b)",
        rf"^{_LEAD}{_VERBS}\s+{_CLAIM}",
        rf"^{_LEAD}{_VERBS}\b.*\b{_KNOWING}\b",
        rf"^{_LEAD}take\s.*\b(?:out\s+of|off|from)\s+your\b",
        rf"^{_LEAD}(?:do\s+not|don't|never|stop)\s+(?:remember|keep|stor|sav|memori[sz]|retain)\w*\b(?!\s+to\b)",
        r"\byou\s+(?:to\s+not|not\s+to|did\s+not|didn't|should\s+not|shouldn't|would\s+not|wouldn't)\s+(?:remember|keep|know)\b",
        r"\bi\s+(?:do\s+not|don't)\s+want\s+you\s+to\s+(?:remember|keep|know|store|save)\b",
        r"\b(?:not|n't|never)\s+be\s+(?:kept|stored|remembered|saved|in\s+your\s+memory)\b",
        r"\b(?:should|must|want|like|needs?\s+to)\b.*\b(?:be\s+)?(?:forgotten|erased|deleted|wiped)\b",
    )
]
_QUOTED = re.compile(r"[\"“«][^\"”»]*[\"”»]")
# Where a request may begin within a sentence: "forget" after a comma alone is mostly part of a list.
_CLAUSE = re.compile(
    r"[;:–—]\s+|,?\s+(?=(?:and|so)\s+(?:please\s+|you\s|i\s|delete|erase|remove|wipe|forget\s+(?:that|it|this|what|i)))"
    r"|,\s+(?=(?:please|kindly|can|could|would|do\s+me\s+a\s+favou?r)\b"
    rf"|(?:forget|unlearn|{_VERBS}|don't\s+remember|do\s+not\s+remember)\s+(?:that|it|this|what|i\b|the\s|from\s+your))",
    re.IGNORECASE,
)
# What a request says beside what it means.
_ASKING = content_words(
    "user please forget unlearn delete erase remove wipe scrub strike drop clear cross take memory memories note notes record records"
    " remember keep know known tell told said say mention talked store stored save saved want like favour favor everything"
    " anything bit part fact entry thing everybody nobody forgotten erased deleted wiped kept wish rather business ever that"
)
_EVERYTHING = re.compile(r"\b(?:everything|anything|all)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """A request of the owner's to forget something."""

    text: str  # the sentence, with the one before it where it only says "forget that"
    words: Words  # what it means, in content words
    spoken: Words  # all its content words
    means_all: bool  # everything about it, not one thing


def forget_requests(exchange: Exchange) -> list[ForgetRequest]:
    """The owner's sentences that ask for something to be forgotten. What the owner only quotes asks for nothing."""
    names = frozenset[str]().union(*(content_words(m.speaker) for m in exchange.messages if m.speaker))
    found: list[ForgetRequest] = []
    for message in exchange.messages:
        if message.role != "user":
            continue
        before = ""
        for text in (text for line in split_quotes(message.text)[0].splitlines() for text in sentences(line)):
            if asks_to_forget(text):
                words = content_words(text) - _ASKING - names
                if not words and before:
                    words, text = content_words(before) - _ASKING - names, f"{before} {text}"
                if words:
                    found.append(ForgetRequest(text, words, content_words(text), bool(_EVERYTHING.search(text))))
            before = text
    return found


def asks_to_forget(sentence: str) -> bool:
    """Whether a sentence asks the memory to forget something."""
    spoken = _QUOTED.sub('""', sentence).replace("’", "'")
    return any(pattern.search(clause.strip()) for clause in (spoken, *_CLAUSE.split(spoken)) for pattern in _REQUESTS)


def meant_memories(request: ForgetRequest, nearest: Sequence[Neighbour]) -> list[MemoryRecord]:
    """Which of the memories nearest to a request it means: the one that is close and shares most words.

    Where a request asks for everything, all memories with the words that this one shares. None where none is near enough.
    """
    scores: dict[int, float] = {}
    for number, hit in enumerate(nearest):
        words = content_words(hit.memory.text) - _ASKING
        common = len(request.words & words)
        is_named = common and common >= NAMED_SHARE * min(len(words), len(request.words))
        if is_named or hit.score >= (NEAR if common else CLOSE):
            scores[number] = hit.score + common / len(words | request.words)
    if not scores:
        return []
    best = nearest[max(scores, key=lambda number: scores[number])].memory
    wanted = request.words & content_words(best.text)
    if not request.means_all or not wanted:
        return [best]
    meant = [nearest[number].memory for number in scores]
    return [memory for memory in meant if wanted <= content_words(memory.text)]


def with_requested_deletions(
    changes: Sequence[Change], exchange: Exchange, nearest: Callable[[str, Scope], Sequence[Neighbour]]
) -> list[Change]:
    """The changes of an exchange and the deletions that its owner asks for; a memory that is deleted is not changed before.

    Args:
        nearest: the memories of an owner that are nearest to a text.
    """
    meant: dict[str, Change] = {}
    for request in forget_requests(exchange):
        found = [hit for hit in nearest(request.text, exchange.owner) if hit.memory.id not in meant]
        for memory in meant_memories(request, found):
            meant[memory.id] = Delete(memory.id, expected_text=memory.text, is_requested=True)
    return [one for one in changes if isinstance(one, Add) or one.memory_id not in meant] + list(meant.values())


def nearest_in(store: Store, embed: EmbedFunction, count: int) -> Callable[[str, Scope], Sequence[Neighbour]]:
    """A search for so many memories of an owner that are nearest to a text."""
    return lambda text, owner: store.search_many(embed([text]), count, owner)[0]
