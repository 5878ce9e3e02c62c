"""What the student overlooks in an update: what a fact replaces, and facts that would be lost.

A small student has learnt phrases of change and not what they mean. The words decide here, in English; of facts in other
languages the student decides alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta

from memlora_mlx.memory.contradictions import amounts, replaces
from memlora_mlx.memory.retrieval.lexical import content_words, sentences
from memlora_mlx.memory.stages import UpdateAnswer, UpdateOperation
from memlora_mlx.records import Exchange, MemoryRecord

SAME_TALK = timedelta(hours=6)

# What ends without anything new in its place.
_WITHDRAWS = re.compile(
    r"\b(?:no longer|any ?more|any longer|not|\w+n['’]t|will never|cancel(?:s|led|ed)?|drop(?:s|ped)?|scrapped|quit|stop(?:s|ped)|ended"
    r"|g[ai]ve[sn]? (?:up|away)|g[ai]ve[sn]? .* away|given up|threw|thrown|taken out|let .* go|call(?:s|ed)? (?:.{0,20} )?off|broken? off"
    r"|(?:is|are|was|been|['’]s) over|fell through|sold|lost|left|broke up|split up|moved (?:away|out)|died|dead|gone|rid of"
    r"|(?:tired|enough) of|done with|used to|instead|rather than|forgets?|forgot|forgotten|erased?|deleted?|removed?|took back|withdrew"
    r"|withdrawn|closed|r[au]n out|no more|without)\b",
    re.IGNORECASE,
)


# What ends with something new in its place, which would be lost: "is called Eve, not Eva".
_PUTS_ANOTHER = re.compile(
    r", not |\bnot\b.* but |\binstead of\b|\brather than\b|\bno longer\b.*(?: but |,? now )|\band (?:is |are |has )?now\b"
    r"|\b(?:any ?more|any longer), (?:but |and |now )*\w+ \w+",
    re.IGNORECASE,
)
# Who or what a memory is about, and where it goes on with something else: "User is called Ann and is a nurse".
_SUBJECT = re.compile(r"^((?:\S+['’]s? )?\S+(?: [A-Z]\w+)?) (?=(?:is|has|\w+s)\b)")
_NEXT_STATEMENT = re.compile(
    r"(?:,? and |, )(?=(?:is|has|lives|works|likes|loves|hates|owns|plays|drinks|eats|studies|speaks) )"
)


def with_replacements(
    answer: UpdateAnswer,
    facts: Sequence[str],
    memories: Sequence[MemoryRecord],
    exchange: Exchange,
    similarity: Callable[[str, str], float],
) -> UpdateAnswer:
    """The answer, with what the student overlooked.

    - A fact that it adds, or does nothing with, becomes the new text of the nearest memory that it replaces (see `replaces`)
      and that the answer leaves alone. A memory that was said after the exchange stays, as it is the newer one.
    - A memory is not deleted for a single fact that can be true beside it, where neither the fact nor the owner's words say that
      something is over. If the fact has most of its words, it becomes its new text.
    - What a changed memory says besides, as the name in "User is called Ann and is a nurse", stays as a memory of its own.
    - A fact that it does nothing with is added if it has a number or a day that none of the memories has.

    Args:
        facts: those that the update was asked about.
        memories: those that it was offered, nearest first.
        similarity: the cosine of two texts.
    """
    operations = list(answer.operations)
    said = [each for message in exchange.messages if message.role == "user" for each in sentences(message.text)]
    for fact in facts:
        if any(each.event == "UPDATE" and each.text == fact for each in operations):
            continue
        touched = {each.memory_index for each in operations}
        untrue = [
            number
            for number, memory in enumerate(memories)
            if not _is_later(memory, exchange)
            and replaces(fact, memory.text, similarity, said=said, is_recent=_is_recent(memory, exchange))
        ]
        replaced = next((number for number in untrue if number not in touched), None)
        is_written = any(each.text == fact and each.event == "ADD" for each in operations)
        if replaced is not None:
            operations = [each for each in operations if (each.event, each.text) != ("ADD", fact)]
            operations.append(UpdateOperation("UPDATE", fact, replaced))
        elif len(facts) == 1:
            operations = _without_losses(operations, fact, memories, said, untrue)
        if not is_written and not operations and _is_new_amount(fact, memories):
            operations.append(UpdateOperation("ADD", fact))
    told = content_words(" ".join(said))
    known = {memory.text for memory in memories}
    updates = [(each.text, each.memory_index) for each in operations if each.event == "UPDATE"]
    for text, number in updates:
        rest = () if number is None else _untouched_parts(memories[number].text, text, told, similarity)
        operations += [UpdateOperation("ADD", part) for part in rest if part != text and part not in known]
    return UpdateAnswer(tuple(operations), answer.rejected)


def _untouched_parts(
    memory: str, fact: str, told: frozenset[str], similarity: Callable[[str, str], float]
) -> list[str]:
    """What a memory that says several things of one subject says besides what a fact changes.

    The statement that is most like the fact is the one that it changes. Of the others those stay of which neither the fact nor
    the owner's words say anything.

    Args:
        told: the content words of the owner's messages.
    """
    first, *others = _NEXT_STATEMENT.split(memory)
    subject = _SUBJECT.match(first)
    if subject is None or not others:
        return []
    parts = [first, *(f"{subject[1]} {part}" for part in others)]
    changed = max(parts, key=lambda part: similarity(fact, part))
    touched = (content_words(fact) | told) - content_words(subject[1])
    return [part for part in parts if part != changed and not content_words(part) & touched]


def _without_losses(
    operations: Sequence[UpdateOperation],
    fact: str,
    memories: Sequence[MemoryRecord],
    said: Sequence[str],
    untrue: Sequence[int],
) -> list[UpdateOperation]:
    """The operations that one fact is behind, with nothing deleted that it does not end.

    Args:
        said: the owner's sentences.
        untrue: the memories that cannot be true beside the fact.
    """
    is_written = any(each.event != "DELETE" and each.text == fact for each in operations)
    kept: list[UpdateOperation] = []
    for each in operations:
        if each.event != "DELETE" or each.memory_index is None:
            kept.append(each)
            continue
        if not is_written and _PUTS_ANOTHER.search(fact):
            is_written = True
            kept.append(UpdateOperation("UPDATE", fact, each.memory_index))
            continue
        if each.memory_index in untrue:
            kept.append(each)
            continue
        memory = content_words(memories[each.memory_index].text)
        if _WITHDRAWS.search(fact) or any(_WITHDRAWS.search(text) and content_words(text) & memory for text in said):
            kept.append(each)
        elif not is_written:
            is_written, new = True, content_words(fact)
            says_it_too = 2 * len(new & memory) > len(memory)
            kept.append(
                UpdateOperation("UPDATE", fact, each.memory_index) if says_it_too else UpdateOperation("ADD", fact)
            )
    return kept


def _is_new_amount(fact: str, memories: Sequence[MemoryRecord]) -> bool:
    new = amounts(fact)
    return bool(new and memories) and not any(new <= amounts(memory.text) for memory in memories)


def _is_recent(memory: MemoryRecord, exchange: Exchange) -> bool:
    """Whether a memory came from the same talk."""
    age = _age(memory, exchange)
    return memory.source == exchange.source and age is not None and abs(age) <= SAME_TALK


def _is_later(memory: MemoryRecord, exchange: Exchange) -> bool:
    age = _age(memory, exchange)
    return age is not None and age < timedelta()


def _age(memory: MemoryRecord, exchange: Exchange) -> timedelta | None:
    """How long before an exchange the words of a memory were said; None where one of the times is not known."""
    said, before = exchange.said_at, memory.revised_at or memory.said_at
    if said is None or before is None:
        return None
    return said.replace(tzinfo=None) - before.replace(tzinfo=None)  # a time with a zone is in UTC
