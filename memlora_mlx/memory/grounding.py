"""Ground for what the student writes: facts that stand in their exchange, and changes that concern their memory.

A small student invents facts, takes the words of a question for a fact, and changes memories that have nothing to do with
what was said. Here the words decide, not the student. All rules compare content words, which are words without stop
words and endings (see `content_words`), and without the names of the speakers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from memlora_mlx.memory.forgetting import forget_requests
from memlora_mlx.memory.retrieval.lexical import content_words, sentences
from memlora_mlx.memory.speaker_names import with_speaker_names
from memlora_mlx.memory.stages import UpdateAnswer, UpdateOperation
from memlora_mlx.records import Exchange, Message

DropReason = Literal["not said", "only said by others", "only asked", "asked to be forgotten"]
TurnReason = Literal["update without ground", "delete without ground"]
Words = frozenset[str]

# Chosen on 120 exchanges of LoCoMo's conv-42, which is for training, and on the synthetic dialogues for training.
SAID_SHARE = 0.6  # of a fact's content words, in what its owner said
CLOSE = 0.6  # cosine from which a fact concerns a memory with which it shares no content word

# What facts call the speakers of a chat without names, and how they say that something is over or is so now.
_GENERIC = content_words(
    "user assistant longer anymore nowadays day days currently like likes liked owns owned wants everything"
)
_FORGETTING = content_words(
    "forget erase delete remove"
)  # in a question they are a request, as in "Could you forget ...?"
_ENDING = 2  # characters by which the stems of one word may differ at their ends
_QUESTION_MARKS = ("?", "？", "؟")
# A part of a question that states something: "Since I keep a goat, ...?", "I'm vegan, so ...?", not "I would keep a goat, ...?"
_STATED_PART = re.compile(
    r"(?:(?:and|but|as|since|because|given that|considering that|now that) )?"
    r"(?:i|i'm|i've|my|we|we're|we've|our)\b(?!(?: \w+)? (?:would|could|should|might|may)\b)(?!'d\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class GroundedFacts:
    """The facts of an exchange that stand in it, and how many did not."""

    kept: tuple[str, ...] = ()
    dropped: Mapping[DropReason, int] = field(default_factory=dict)


def ground_facts(answers: Iterable[tuple[Exchange, Sequence[str]]]) -> GroundedFacts:
    """The facts that their exchange, or part of one, says: each once, in order. See `missing_ground`."""
    kept: dict[str, None] = {}
    dropped: Counter[DropReason] = Counter()
    for exchange, facts in answers:
        requests = forget_requests(exchange)
        for written in facts:
            fact = with_speaker_names(written, exchange)
            words = content_words(fact) - _names(exchange)
            reason = missing_ground(fact, exchange)
            shares = [sum(occurs(word, request.spoken) for word in words) for request in requests]
            if words and any(share >= SAID_SHARE * len(words) for share in shares):
                reason = "asked to be forgotten"
            if reason is None:
                kept[fact] = None
            else:
                dropped[reason] += 1
    return GroundedFacts(tuple(kept), dict(dropped))


def missing_ground(fact: str, exchange: Exchange) -> DropReason | None:
    """Why an exchange does not say a fact about its owner, or None where it does.

    At least `SAID_SHARE` of the fact's content words must stand in what the owner said, or confirmed: in the owner's
    messages, the captions of the owner's images, and the questions of others after which the owner speaks, as the answer
    may be a mere yes. One of them at least must stand there outside of what the owner merely asks. A fact without content
    words needs none.
    """
    wanted = content_words(fact) - _names(exchange)
    if not wanted:
        return None
    said, owned, stated = set[str](), set[str](), set[str]()
    for message, is_answered in answered_messages(exchange):
        is_owner = message.role == "user"
        whole = sentences_of(message.text, message.image.caption if message.image else None)
        for text in (part for sentence in whole for part in (_owners_parts(sentence) if is_owner else [sentence])):
            spoken = content_words(text)
            words = {word for word in wanted if occurs(word, spoken)}
            is_question = _is_asked(text) and not spoken & _FORGETTING
            said |= words
            if is_owner or (is_question and is_answered):
                owned |= words
            if is_owner != is_question and (is_owner or is_answered):
                stated |= words
    if len(said) < SAID_SHARE * len(wanted):
        return "not said"
    if len(owned) < SAID_SHARE * len(wanted):
        return "only said by others"
    return None if stated else "only asked"


def concerns(fact: str, memory: str, names: Words, similarity: Callable[[], float]) -> bool:
    """Whether a fact may change or end a memory: they share a content word that is no name, or their vectors are close.

    Args:
        names: content words that say nothing here: those of the owner's name, which all its memories share.
        similarity: their cosine; only asked for where they share no word ("Ann moved house to Oslo", "Ann lives in Rome").
    """
    known = content_words(memory) - names - _GENERIC
    return any(occurs(word, known) for word in content_words(fact) - names - _GENERIC) or similarity() >= CLOSE


def ground_operations(
    answer: UpdateAnswer,
    facts: Sequence[str],
    memories: Sequence[str],
    exchange: Exchange,
    similarity: Callable[[str, str], float],
) -> tuple[UpdateAnswer, dict[TurnReason, int]]:
    """The operations of an update that have ground; what is left of the others is added.

    An UPDATE or a DELETE has ground where the fact behind it concerns the memory (see `concerns`). An UPDATE without ground
    becomes an ADD of its text. A DELETE without ground is left out, and the facts behind it are added, but for those that
    concern a memory which is changed. Of an operation that does not say which fact is behind it, any may be.

    Args:
        facts: the new facts that the update was asked about.
        memories: the texts of the memories that it was offered.
        similarity: the cosine of two texts.

    Returns the answer, and how many operations had no ground, by reason.
    """
    names = frozenset[str]().union(
        *(content_words(m.speaker) for m in exchange.messages if m.role == "user" and m.speaker)
    )

    def concerned(fact: str, memory: str) -> bool:
        return concerns(fact, memory, names, lambda: similarity(fact, memory))

    grounded: list[UpdateOperation] = []
    turned: Counter[TurnReason] = Counter()
    for operation in answer.operations:
        if operation.memory_index is None:
            grounded.append(operation)
            continue
        behind = [operation.text] if operation.event == "UPDATE" and operation.text in facts else facts
        if any(concerned(fact, memories[operation.memory_index]) for fact in behind):
            grounded.append(operation)
        elif operation.event == "UPDATE":
            turned["update without ground"] += 1
            grounded.append(UpdateOperation("ADD", operation.text))
        else:
            turned["delete without ground"] += 1
    if turned["delete without ground"]:
        written = {operation.text for operation in grounded if operation.event != "DELETE"}
        changed = [memories[o.memory_index] for o in grounded if o.memory_index is not None]
        lost = [fact for fact in facts if fact not in written and not any(concerned(fact, text) for text in changed)]
        grounded += [UpdateOperation("ADD", fact) for fact in lost]
    return UpdateAnswer(tuple(grounded), answer.rejected), {reason: n for reason, n in turned.items() if n}


def answered_messages(exchange: Exchange) -> Iterator[tuple[Message, bool]]:
    """The messages, each with whether the owner speaks after it."""
    roles = [message.role for message in exchange.messages]
    return ((message, "user" in roles[at + 1 :]) for at, message in enumerate(exchange.messages))


def sentences_of(text: str, caption: str | None) -> list[str]:
    """The sentences of a message's text and of its image's caption."""
    return [sentence for line in [*text.splitlines(), caption or ""] for sentence in sentences(line)]


def _owners_parts(sentence: str) -> list[str]:
    """A sentence of the owner; a question is cut at its commas, and its parts that state something lose the question mark."""
    parts = re.split(r"(?<=[,:;]) ", sentence) if _is_asked(sentence) else []
    if not any(map(_STATED_PART.match, parts)):
        return [sentence]
    return [part.rstrip("?, ") if _STATED_PART.match(part) else f"{part}?" for part in parts]


def _is_asked(text: str) -> bool:
    return text.rstrip(" \"'”’»)").endswith(_QUESTION_MARKS)


def occurs(word: str, words: Words) -> bool:
    """Whether a stem is among others, or is one of them but for its ending: the stems of "play" and "plays" differ."""
    if word in words:
        return True
    return any(
        min(len(word), len(other)) >= 3
        and abs(len(word) - len(other)) <= _ENDING
        and (word.startswith(other) or other.startswith(word))
        for other in words
    )


def _names(exchange: Exchange) -> Words:
    """The words of the speakers' names, and of what facts call speakers without a name."""
    return _GENERIC.union(*(content_words(message.speaker) for message in exchange.messages if message.speaker))
