"""Training pairs from the user's own corrections of what was remembered.

What the user edits, deletes or undoes says what the experts should have answered. A memory that was added in wrong
words, or should not have been, is the extraction's; a memory that was changed or removed wrongly is the update's. The
pairs of an exchange follow from the store's history alone, so a correction that is itself taken back goes too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memlora_mlx.distill.answer_cleaning import CleanedAnswer, clean_answer
from memlora_mlx.distill.examples import SPLITS, ChatMessages, TrainingExample, read_examples, write_examples
from memlora_mlx.distill.teacher_prompts import extraction_prompt
from memlora_mlx.errors import StoreError
from memlora_mlx.memory import stages
from memlora_mlx.memory.store.history import exchange_history, memory_history
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Event, Exchange, Revision, Stage
from memlora_mlx.settings import CORRECTIONS

CORRECTABLE_STAGES: tuple[Stage, ...] = ("extraction", "update")
_WRITING = threading.Lock()


def corrections_file(home: Path, stage: Stage) -> Path:
    """Where a stage's pairs are; `memlora train --data` takes it."""
    return home / "teacher" / stage / CORRECTIONS


def count_corrections(home: Path) -> int:
    """How many training pairs the user's corrections have given so far."""
    count = 0
    for stage in CORRECTABLE_STAGES:
        try:
            with corrections_file(home, stage).open("rb") as file:
                count += sum(1 for line in file if line.strip())
        except OSError:  # there are none yet
            continue
    return count


def update_corrections(store: Store, home: Path, memory_id: str, *, facts: Sequence[str] = ()) -> int:
    """Bring the pairs of the exchanges that made or changed this memory up to date. Returns how many there are now.

    Args:
        facts: what the student extracted from the newest of these exchanges, where that is known. The history does not
            keep a fact that made the student delete something.

    Raises:
        BadTrainingData: the file of pairs was damaged by somebody; it is left as it is.
        OSError: it cannot be written.
    """
    keys = [
        line.exchange_key for line in memory_history(store, memory_id) if line.exchange_key and line.actor == "model"
    ]
    found = 0
    for key in dict.fromkeys(keys):
        rows = correction_examples(store, key, facts if key == keys[-1] else ())
        found += len(rows)
        for stage in CORRECTABLE_STAGES:
            _replace(corrections_file(home, stage), key, [row for row in rows if row.stage == stage])
    return found


def correction_examples(store: Store, key: str, facts: Sequence[str] = ()) -> list[TrainingExample]:
    """What the experts should have answered about an exchange, at most one row a stage; none where they were right."""
    try:
        exchange = store.exchange(key)
    except StoreError:  # its words were forgotten
        return []
    split = SPLITS["paper"].split_of(exchange.source)
    if split == "test":  # nothing of a test conversation is ever trained on
        return []
    lines = [line for line in exchange_history(store, key) if line.actor == "model"]
    verdicts = [_verdict(line, memory_history(store, line.memory_id)) for line in lines]
    if not facts:
        if any(line.event == "DELETE" for line in lines):
            return []
        facts = [line.new_text or "" for line in lines]
    answers = [_extraction(exchange, facts, verdicts), _update(facts, verdicts)]
    return [
        TrainingExample(stage, chat, answer, "user", exchange.source, exchange.key, split)
        for stage, (chat, answer) in zip(CORRECTABLE_STAGES, answers, strict=True)
        if answer
    ]


@dataclass(frozen=True, slots=True)
class _ReviewedChange:
    """A change of the student's, and what the user made of it."""

    line: Revision
    event: Event  # what should have been done; NONE for nothing
    text: str  # in which words

    @property
    def is_right(self) -> bool:
        return self.event == self.line.event and self.text == (self.line.new_text or "")


def _verdict(line: Revision, history: Sequence[Revision]) -> _ReviewedChange:
    if line.undone:
        return _ReviewedChange(line, "NONE", "")
    event, text = line.event, line.new_text or ""
    for later in history:
        if later.id <= line.id or later.undone or later.actor == "undo":
            continue
        if later.actor != "user":
            break  # from here on it is about another exchange
        if later.event == "UPDATE":
            text = later.new_text or ""
        elif later.event == "DELETE":
            event, text = ("NONE", "") if line.event == "ADD" else ("DELETE", "")
    return _ReviewedChange(line, event, text)


def _extraction(
    exchange: Exchange, facts: Sequence[str], verdicts: Sequence[_ReviewedChange]
) -> tuple[ChatMessages, str]:
    """The prompt and its answer; no answer where the extraction was right."""
    right = _corrected(facts, verdicts)
    if right == list(facts):
        return (), ""
    answer = clean_answer("extraction", json.dumps({"facts": right}, ensure_ascii=False))
    return extraction_prompt(exchange), answer.text if isinstance(answer, CleanedAnswer) else ""


def _corrected(facts: Sequence[str], verdicts: Sequence[_ReviewedChange]) -> list[str]:
    """The facts in the user's words, without those that are not worth keeping."""
    words: dict[str, str] = {}
    for verdict in verdicts:
        if verdict.line.new_text and not verdict.is_right:
            if verdict.event in ("ADD", "UPDATE"):
                words[verdict.line.new_text] = verdict.text
            elif verdict.line.event == "ADD":
                words[verdict.line.new_text] = ""
    return list(dict.fromkeys(text for fact in facts if (text := words.get(fact, fact))))


def _update(facts: Sequence[str], verdicts: Sequence[_ReviewedChange]) -> tuple[ChatMessages, str]:
    """The prompt, with the memories that were touched as the old ones, and its answer; none where it was right."""
    touching = [verdict for verdict in verdicts if verdict.line.event in ("UPDATE", "DELETE")]
    right = _corrected(facts, verdicts)
    if all(verdict.is_right for verdict in touching) or not right:
        return (), ""
    old = [verdict.line.old_text or "" for verdict in touching]
    entries = [
        {"id": str(number), "text": verdict.text, "event": verdict.event, "old_memory": old[number]}
        for number, verdict in enumerate(touching)
        if verdict.event != "NONE"
    ]
    added = [verdict.text for verdict in verdicts if verdict.line.event == "ADD" and verdict.event == "ADD"]
    entries += [{"id": str(len(old) + i), "text": text, "event": "ADD"} for i, text in enumerate(added)]
    answer = clean_answer("update", json.dumps({"memory": entries}, ensure_ascii=False), old=old, facts=right)
    return stages.update_chat(old, right), answer.text if isinstance(answer, CleanedAnswer) else ""


def _replace(path: Path, key: str, rows: Sequence[TrainingExample]) -> None:
    """Put an exchange's rows in place of those it had."""
    with _WRITING:
        before = list(read_examples(path)) if path.is_file() else []
        after = [row for row in before if row.exchange != key] + list(rows)
        if after:
            if after != before:
                write_examples(path, after)
        else:
            path.unlink(missing_ok=True)
