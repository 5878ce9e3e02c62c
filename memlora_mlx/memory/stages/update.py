"""The update stage: old memories and new facts in, decisions out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from memlora_mlx.memory.stages.grammars import TEXT_RULE, as_json, literal
from memlora_mlx.memory.stages.text import answer_text, clean_line
from memlora_mlx.records import ChatMessages, Event, Grammar

UPDATE_TOKENS = 512
UpdateProblem = Literal["unknown id", "id named twice", "wrong shape", "more memories than facts"]
_UPDATE = (
    'Old memories:{old}. New retrieved facts: {facts}. Return memory update in JSON format: {{"memory" : '
    '[{{"id" : "<ID of the memory>", "text" : "<Content of the memory>", "event" : "<Operation, among ADD, UPDATE, '
    'DELETE, or NONE>", "old_memory" : "<Old memory content, only if UPDATE event>"}}]}}'
)


@dataclass(frozen=True, slots=True)
class UpdateOperation:
    """One entry of an update answer, in the prompt's small ids."""

    event: Event
    text: str
    memory_index: int | None = None  # of the offered memory it touches; None for an ADD


@dataclass(frozen=True, slots=True)
class UpdateEntry:
    """One entry of an update answer that is to be written."""

    id: str  # of an old memory; it has no meaning for an ADD
    event: str  # ADD, UPDATE, DELETE or NONE
    text: str


class InvalidUpdate(ValueError):
    """The entries of an update are not a valid answer."""

    def __init__(self, reason: UpdateProblem) -> None:
        super().__init__(reason)
        self.reason: UpdateProblem = reason


@dataclass(frozen=True, slots=True)
class UpdateAnswer:
    """An update answer as read: what is to be done, and how many entries named what was not offered."""

    operations: tuple[UpdateOperation, ...]
    rejected: int = 0


def update_chat(old: Sequence[str], facts: Sequence[str]) -> ChatMessages:
    """Ask what the new facts change in the old memories, which get the ids "0", "1", ..."""
    offered = [{"id": str(number), "text": text} for number, text in enumerate(old)]
    return (("user", _UPDATE.format(old=as_json(offered), facts=as_json(list(facts)))),)


def parse_update_chat(chat: ChatMessages) -> tuple[list[str], list[str]] | None:
    """The old memories and the facts that `update_chat` was given; None for a chat of another form."""
    decode, words = json.JSONDecoder().raw_decode, chat[-1][1]
    try:
        rest = words.partition("Old memories:")[2]
        old, end = decode(rest)
        facts, _ = decode(rest[end:].partition("New retrieved facts: ")[2])
        return [memory["text"] for memory in old], [str(fact) for fact in facts]
    except (ValueError, TypeError, KeyError):
        return None


def update_grammar(
    old: Sequence[str], facts: Sequence[str], *, verbatim_only: bool = False, copy_constrained: bool = False
) -> Grammar:
    """The entries an update may hold, in the order of their ids, each id at most once.

    An offered id may be updated (its old text is then given by the grammar), deleted or left; the ids after them add,
    no more of them than there are facts.

    Args:
        verbatim_only: every fact is added as it is, and nothing else can happen.
        copy_constrained: texts are those of the prompt. What is updated or added takes the words of a new fact, what is deleted one or
            its own; facts are added in their order. For experts that were trained on such answers alone.
    """
    first_new, end = len(old), len(old) + len(facts)
    if verbatim_only:
        entries = [
            f'{{"id": "{first_new + i}", "text": {as_json(fact)}, "event": "ADD"}}' for i, fact in enumerate(facts)
        ]
        answer = '{"memory": [' + ", ".join(entries) + "]}"
        return Grammar("lark", f"start: {literal(answer)}", longest_closing=answer)

    longest = max((as_json(text) for text in old), key=len, default="")
    ending = f'{{"id": "{end}", "text": "x", "event": "UPDATE", "old_memory": {longest}}}]}}'
    if copy_constrained:
        longest_fact = max((as_json(fact) for fact in facts), key=len, default="")
        return Grammar(
            "lark", "\n".join(_copy_grammar_rules(old, facts)), longest_closing=ending + longest_fact + longest
        )
    rules = ['start: "{\\"memory\\": [" ("" | next_0) "]}"', TEXT_RULE]
    for number in range(end):
        head = literal(f'{{"id": "{number}", "text": ')
        if number < first_new:
            updated = literal(f'"UPDATE", "old_memory": {as_json(old[number])}}}')
            events = [literal('"DELETE"}'), literal('"NONE"}'), updated]
            tail = literal(', "event": ') + f" ({' | '.join(events)})"
            skip = f" | next_{number + 1}" if number + 1 < end else ""
        else:
            tail, skip = literal(', "event": "ADD"}'), ""
        rules.append(f"next_{number}: {head} TEXT {tail} more_{number + 1}{skip}")
        rules.append(f'more_{number + 1}: ""' + (f' | ", " next_{number + 1}' if number + 1 < end else ""))
    return Grammar("lark", "\n".join(rules), longest_closing=ending)


def _copy_grammar_rules(old: Sequence[str], facts: Sequence[str]) -> list[str]:
    """`next_i`: an entry for memory i or a later one, or the first addition; `add_c_f`: the c-th, of fact f or a later one."""
    offered, new = len(old), len(facts)
    rules = ['start: "{\\"memory\\": [" ("" | next_0) "]}"', f"FACT: {' | '.join(literal(as_json(f)) for f in facts)}"]
    for number, text in enumerate(old):
        head = literal(f'{{"id": "{number}", "text": ')
        updated = literal(f', "event": "UPDATE", "old_memory": {as_json(text)}}}')
        own, deleted = literal(as_json(text)), literal(', "event": "DELETE"}')
        rules.append(
            f"next_{number}: {head} (FACT ({updated} | {deleted}) | {own} {deleted}) more_{number + 1} | next_{number + 1}"
        )
        rules.append(f'more_{number + 1}: "" | ", " next_{number + 1}')
    rules.append(f"next_{offered}: add_0_0")
    for count in range(new):
        for first in range(count, new):
            head = f'{{"id": "{offered + count}", "text": {as_json(facts[first])}, "event": "ADD"}}'
            goes_on = count + 1 < new and first + 1 < new
            more = f' ("" | ", " add_{count + 1}_{first + 1})' if goes_on else ""
            later = f" | add_{count}_{first + 1}" if first + 1 < new else ""
            rules.append(f"add_{count}_{first}: {literal(head)}{more}{later}")
    return rules


def update_answer(entries: Iterable[UpdateEntry], old: Sequence[str], facts: Sequence[str]) -> str:
    """The answer with these entries, in the one form that `update_grammar` allows.

    An entry that changes nothing is left out, and additions get the ids that follow those of the old memories.

    Raises:
        InvalidUpdate: the entries are not a valid answer about these memories and facts.
    """
    changes: dict[int, dict[str, str]] = {}
    added: dict[str, None] = {}
    offered = {str(number): number for number in range(len(old))}
    for entry in entries:
        if entry.event == "NONE":
            continue
        if entry.event == "ADD":  # its id has no meaning: it gets the next one
            added[answer_text(entry.text)] = None
            continue
        if entry.id not in offered:
            raise InvalidUpdate("unknown id")
        number = offered[entry.id]
        before = old[number]
        text = answer_text(before if entry.event == "DELETE" else entry.text)
        if not text:
            raise InvalidUpdate("wrong shape")
        change = {"id": entry.id, "text": text, "event": entry.event}
        if entry.event == "UPDATE":
            if text in (before, answer_text(before)):
                continue
            change["old_memory"] = before
        if changes.setdefault(number, change) != change:
            raise InvalidUpdate("id named twice")
    known = {text for number, text in enumerate(old) if number not in changes}
    new = [text for text in added if text not in known]
    if len(new) > len(facts):
        raise InvalidUpdate("more memories than facts")
    written = [changes[number] for number in sorted(changes)]
    written += [{"id": str(number), "text": text, "event": "ADD"} for number, text in enumerate(new, len(old))]
    return as_json({"memory": written})


def parse_update(text: str, old: Sequence[str]) -> UpdateAnswer:
    """Read an update answer. An id that was not offered, or an event that does not fit its id, is rejected.

    An UPDATE to the same words and a NONE do nothing and are left out.
    """
    try:
        entries = json.loads(text)["memory"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return UpdateAnswer((), 0)
    if not isinstance(entries, list):
        return UpdateAnswer((), 0)
    operations: list[UpdateOperation] = []
    seen: set[str] = set()
    rejected = 0
    for entry in entries:
        if not isinstance(entry, dict):
            rejected += 1
            continue
        key, event = str(entry.get("id", "")), entry.get("event")
        content = clean_line(entry["text"]) if isinstance(entry.get("text"), str) else ""
        number = int(key) if re.fullmatch(r"[0-9]{1,4}", key) else None
        offered = number is not None and number < len(old)
        if event == "NONE":
            continue
        if event == "ADD" and number is not None and not offered and content and key not in seen:
            operations.append(UpdateOperation("ADD", content))
        elif event == "UPDATE" and offered and content and key not in seen:
            if content != old[int(key)]:
                operations.append(UpdateOperation("UPDATE", content, number))
        elif event == "DELETE" and offered and key not in seen:
            operations.append(UpdateOperation("DELETE", old[int(key)], number))
        else:
            rejected += 1
        seen.add(key)
    return UpdateAnswer(tuple(operations), rejected)
