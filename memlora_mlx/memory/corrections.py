"""Training examples from the user's corrections of memories.

What the user edits, deletes or undoes shows what the experts should have answered. If a memory was added with a wrong text
or should not have been added, the extraction is corrected; if a memory was changed or removed wrongly, the update is.

The examples of an exchange are computed from the store's history alone. They are computed again after every edit, undo and
redo, so the examples of a correction that was undone disappear, and a redo brings them back. Every line of the files is a
training example (see `distill.examples`), so `memlora train --data` takes them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from memlora_mlx.conversations.splits import SPLITS, Split
from memlora_mlx.errors import BadTrainingData, StoreError
from memlora_mlx.files import atomic_write, private_folder
from memlora_mlx.json_lines import json_line
from memlora_mlx.memory import stages
from memlora_mlx.memory.store.history import exchange_history, memory_history
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import ChatMessages, Event, Exchange, Revision, Stage
from memlora_mlx.settings import CORRECTIONS

CORRECTABLE_STAGES: tuple[Stage, ...] = ("extraction", "update")
EXCHANGE_CHARACTERS = 12_000  # of an exchange in a training example: as many as mostly fit into 4096 tokens
TEACHER = "user"  # who gave the answers


@dataclass(frozen=True, slots=True)
class Correction:
    """What an expert should have answered about one exchange."""

    stage: Stage
    chat: ChatMessages  # the prompt
    answer: str
    conversation: str
    exchange: str  # its key
    split: Split
    facts: tuple[str, ...] = ()  # that the student had extracted; the history cannot tell all of them

    def as_json(self) -> dict[str, Any]:
        turns = (*self.chat, ("assistant", self.answer))
        return {
            "stage": self.stage,
            "source": {"conversation": self.conversation, "exchange": self.exchange, "split": self.split},
            "messages": [{"role": role, "content": text} for role, text in turns],
            "teacher": TEACHER,
            "facts": list(self.facts),
        }


def corrections_file(home: Path, stage: Stage) -> Path:
    """The file with the examples of a stage."""
    return home / "teacher" / stage / CORRECTIONS


def count_corrections(home: Path) -> int:
    """How many training examples the user's corrections have made so far."""
    count = 0
    for stage in CORRECTABLE_STAGES:
        with contextlib.suppress(OSError), corrections_file(home, stage).open("rb") as file:
            count += sum(1 for line in file if line.strip())
    return count


def update_corrections(store: Store, home: Path, memory_id: str, *, facts: Sequence[str] = ()) -> int:
    """Compute the examples of the exchanges that added or changed this memory again. Returns how many there are.

    Args:
        facts: what the student extracted from the newest of these exchanges, if that is known. The history has no fact
            that made the student delete a memory; without them such an exchange keeps the facts it had in the file.

    Raises:
        BadTrainingData: the file is damaged; it stays as it is.
        OSError: the file cannot be written.
    """
    changes = memory_history(store, memory_id)
    keys = list(dict.fromkeys(line.exchange_key for line in changes if line.exchange_key and line.actor == "model"))
    found = 0
    for key in keys:
        known = tuple(facts) if key == keys[-1] else ()
        made = correction_examples(store, key, known or _known_facts(home, key))
        found += len(made)
        for stage in CORRECTABLE_STAGES:
            added = [example.as_json() for example in made if example.stage == stage]
            _rewrite(corrections_file(home, stage), {key}, added)
    return found


def remove_forgotten_corrections(store: Store, home: Path) -> None:
    """Remove the examples of exchanges that are no longer in the store.

    Raises: as `update_corrections`.
    """
    for stage in CORRECTABLE_STAGES:
        path = corrections_file(home, stage)
        exchanges = {exchange for exchange, _ in _lines(path)}
        _rewrite(path, exchanges - store.stored_exchanges(exchanges), [])


def correction_examples(store: Store, key: str, facts: Sequence[str] = ()) -> list[Correction]:
    """What the experts should have answered about an exchange: at most one example for each stage."""
    try:
        exchange = store.exchange(key)
    except StoreError:  # it was deleted
        return []
    split = SPLITS["paper"].split_of(exchange.source)
    if split == "test" or not exchange.messages:  # no test conversation is ever trained on, nor what was erased
        return []
    lines = [line for line in exchange_history(store, key) if line.actor == "model"]
    verdicts = [_verdict(line, memory_history(store, line.memory_id)) for line in lines]
    if not facts:
        if any(line.event == "DELETE" for line in lines):
            return []
        facts = [line.new_text or "" for line in lines]
    answers = [_extraction(exchange, facts, verdicts), _update(facts, verdicts)]
    return [
        Correction(stage, chat, answer, exchange.source, exchange.key, split, tuple(facts))
        for stage, (chat, answer) in zip(CORRECTABLE_STAGES, answers, strict=True)
        if answer
    ]


@dataclass(frozen=True, slots=True)
class _ReviewedChange:
    """A change by the student, and what it should have been according to the user."""

    line: Revision
    event: Event  # the correct one; NONE if nothing should have been done
    text: str  # the correct text

    @property
    def is_right(self) -> bool:
        return self.event == self.line.event and self.text == (self.line.new_text or "")


def _verdict(line: Revision, history: Sequence[Revision]) -> _ReviewedChange:
    if line.undone:
        return _ReviewedChange(line, "NONE", "")
    event, text = line.event, line.new_text or ""
    for later in history:
        if later.id <= line.id or later.undone or later.actor in ("undo", "redo"):
            continue
        if later.actor != "user":
            break  # later changes are about another exchange
        if later.event == "UPDATE":
            text = later.new_text or ""
        elif later.event == "DELETE":
            event, text = ("NONE", "") if line.event == "ADD" else ("DELETE", "")
    return _ReviewedChange(line, event, text)


def _extraction(
    exchange: Exchange, facts: Sequence[str], verdicts: Sequence[_ReviewedChange]
) -> tuple[ChatMessages, str]:
    """The prompt and the correct answer; empty if the extraction was correct, or if the student cannot write the answer."""
    right = _corrected(facts, verdicts)
    if right == list(facts):
        return (), ""
    if any(len(fact) > stages.MAX_TEXT for fact in right):
        return (), ""
    return stages.extraction_chat(exchange, EXCHANGE_CHARACTERS), stages.extraction_answer(right)


def _corrected(facts: Sequence[str], verdicts: Sequence[_ReviewedChange]) -> list[str]:
    """The facts with the user's texts, without those that the user deleted."""
    words: dict[str, str] = {}
    for verdict in verdicts:
        if verdict.line.new_text and not verdict.is_right:
            if verdict.event in ("ADD", "UPDATE"):
                words[verdict.line.new_text] = verdict.text
            elif verdict.line.event == "ADD":
                words[verdict.line.new_text] = ""
    return list(dict.fromkeys(text for fact in facts if (text := words.get(fact, fact))))


def _update(facts: Sequence[str], verdicts: Sequence[_ReviewedChange]) -> tuple[ChatMessages, str]:
    """The prompt, with the changed memories as the old ones, and the correct answer; empty as in `_extraction`."""
    touching = [verdict for verdict in verdicts if verdict.line.event in ("UPDATE", "DELETE")]
    right = _corrected(facts, verdicts)
    if all(verdict.is_right for verdict in touching) or not right:
        return (), ""
    old = [verdict.line.old_text or "" for verdict in touching]
    texts = [verdict.text for verdict in verdicts if verdict.event in ("ADD", "UPDATE")]
    if any(len(text) > stages.MAX_TEXT for text in texts):
        return (), ""
    entries = [stages.UpdateEntry(str(number), verdict.event, verdict.text) for number, verdict in enumerate(touching)]
    entries += [
        stages.UpdateEntry("", "ADD", verdict.text)
        for verdict in verdicts
        if verdict.line.event == "ADD" and verdict.event == "ADD"
    ]
    try:
        return stages.update_chat(old, right), stages.update_answer(entries, old, right)
    except stages.InvalidUpdate:
        return (), ""


def _known_facts(home: Path, key: str) -> tuple[str, ...]:
    """The facts of an exchange in the examples that it has."""
    for stage in CORRECTABLE_STAGES:
        for exchange, value in _lines(corrections_file(home, stage)):
            if exchange == key and value.get("facts"):
                return tuple(value["facts"])
    return ()


def _rewrite(path: Path, removed: Collection[str], added: list[dict[str, Any]]) -> None:
    """Replace the examples of the exchanges with these keys. A file without examples is removed."""
    if not (added or path.is_file()):
        return
    private_folder(path.parent)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):  # other threads and processes write it too
        before = [value for _, value in _lines(path)]
        after = [value for exchange, value in _lines(path) if exchange not in removed] + added
        if not after:
            path.unlink(missing_ok=True)
        elif after != before:
            atomic_write(path, b"".join(map(json_line, after)))


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The examples of a file with the keys of their exchanges. Raises BadTrainingData: a line is damaged."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            exchange = str(value["source"]["exchange"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadTrainingData(f"line {number} of {path} is not a training example; remove that line") from error
        yield exchange, value
