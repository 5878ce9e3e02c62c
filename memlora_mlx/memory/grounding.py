"""Ground for what the student writes: facts that stand in their exchange, and changes that concern their memory.

A small student invents facts, takes the words of a question for a fact, and changes memories that have nothing to do with
what was said. Here the words decide, not the student. All rules compare content words, which are words without stop
words and endings (see `content_words`), and without the names of the speakers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from memlora_mlx.memory.retrieval.lexical import content_words, sentences
from memlora_mlx.memory.stages import UpdateAnswer, UpdateOperation
from memlora_mlx.records import Exchange, Message

DropReason = Literal["not said", "only asked", "only said by the assistant"]
TurnReason = Literal["update without ground", "delete without ground"]
Words = frozenset[str]

# Chosen on 120 exchanges of LoCoMo's conv-42, and on the synthetic dialogues for training; see docs/evaluation.md.
SAID_SHARE = 0.5  # of a fact's content words, in the exchange
STATED_SHARE = 0.3  # in what was not merely asked, and with an assistant in the owner's own words
CLOSE = 0.6  # cosine from which a fact concerns a memory with which it shares no content word

# Names under which an assistant speaks; a speaker of another name is a person, whose words may tell of the owner.
_ASSISTANTS = frozenset(["assistant", "ai", "bot", "chatbot", "chatgpt", "gpt", "claude", "gemini", "copilot", "model"])
_GENERIC = content_words("user assistant")  # what facts call the speakers of a chat without names
_QUESTION_MARKS = ("?", "？", "؟")


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
        for fact in facts:
            if (reason := missing_ground(fact, exchange)) is None:
                kept[fact] = None
            else:
                dropped[reason] += 1
    return GroundedFacts(tuple(kept), dict(dropped))


def missing_ground(fact: str, exchange: Exchange) -> DropReason | None:
    """Why an exchange does not say a fact, or None where it does.

    A fact is said where at least `SAID_SHARE` of its content words stand in the exchange, captions of images included, and
    at least `STATED_SHARE` in what is stated. A question states nothing, unless it is another speaker's and the owner
    speaks after it: then the answer may be a mere yes. What an assistant says states nothing about the owner. A fact
    without content words of its own needs none.
    """
    wanted = content_words(fact) - _names(exchange)
    if not wanted:
        return None
    if _share(wanted, exchange, lambda *_: True) < SAID_SHARE:
        return "not said"
    if _share(wanted, exchange, _is_statement) < STATED_SHARE:
        return "only asked"
    if (
        _share(wanted, exchange, lambda place, text: _is_statement(place, text) and not _is_assistant(place.message))
        < STATED_SHARE
    ):
        return "only said by the assistant"
    return None


def concerns(fact: str, memory: str, names: Words, similarity: Callable[[], float]) -> bool:
    """Whether a fact may change or end a memory: they share a content word that is no name, or their vectors are close.

    Args:
        names: content words that say nothing here: those of the owner's name, which all its memories share.
        similarity: their cosine; only asked for where they share no word ("Ann moved house to Oslo", "Ann lives in Rome").
    """
    return bool((content_words(fact) & content_words(memory)) - names - _GENERIC) or similarity() >= CLOSE


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


def _share(wanted: Words, exchange: Exchange, counts: Callable[[_Place, str], bool]) -> float:
    """The share of the words that stand in those sentences of the exchange that count."""
    found: set[str] = set()
    for at, message in enumerate(exchange.messages):
        place = _Place(message, any(later.role == "user" for later in exchange.messages[at + 1 :]))
        shown = message.image.caption if message.image and message.image.caption else ""
        texts = [sentence for line in message.text.splitlines() for sentence in sentences(line)]
        for text in [*texts, shown]:
            if counts(place, text):
                found |= wanted & content_words(text)
    return len(found) / len(wanted)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a sentence stands."""

    message: Message
    is_answered: bool  # the owner speaks after the message


def _is_statement(place: _Place, text: str) -> bool:
    is_question = text.rstrip(" \"'”’»)").endswith(_QUESTION_MARKS)
    return not is_question or (place.message.role != "user" and place.is_answered)


def _is_assistant(message: Message) -> bool:
    """Whether a message is an assistant's: not the owner's, and no person's."""
    return message.role == "assistant" and (not message.speaker or message.speaker.casefold() in _ASSISTANTS)


def _names(exchange: Exchange) -> Words:
    """The words of the speakers' names, and of what facts call speakers without a name."""
    return _GENERIC.union(*(content_words(message.speaker) for message in exchange.messages if message.speaker))
