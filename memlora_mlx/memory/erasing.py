"""Erase for good: the one service behind `memlora memory erase`, the app and `Memory.erase`.

Deleting forgets and can be undone. Erasing leaves no byte of the words below the data folder, and nothing can be undone.
First the files beside the database are cleaned, then the database: so whenever an erasing is killed, the database still
knows what was meant, or notes that only its own cleaning is left. The same command again does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlora_mlx.errors import MemoryNotFound, StoreReadOnly
from memlora_mlx.memory.store.backups import backup_files
from memlora_mlx.memory.store.erase_plan import ErasedMemory, ErasePlan, Selection
from memlora_mlx.memory.store.erased_texts import ErasedTexts
from memlora_mlx.memory.store.erasure import count_rows, erase_rows, finish_erasing, plan_of
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.traces import Traces, known_exports, remove_derived, sweep

__all__ = ["Erased", "Selection", "erase", "erased_as_json", "preview_erasing"]


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasing took away, or would."""

    memories: tuple[ErasedMemory, ...]
    memory_count: int
    messages: int  # whole ones
    shortened: int  # messages that lost some sentences
    history: int  # lines
    turns: int  # of conversations of the chat; those that lose some sentences count too
    backups: int  # copies of the database, which all go; one of what is left is made instead
    traces: Traces  # beside the database
    staying: tuple[ErasedMemory, ...]  # memories that came from the same words and stay
    exports: tuple[Path, ...]  # that may hold the words, and are the user's to remove
    names: tuple[str, ...] = ()  # of people and speakers that hold the words, and stay

    @property
    def is_empty(self) -> bool:
        counts = (self.memory_count, self.messages, self.shortened, self.history, self.turns, self.traces.count)
        return not any(counts)


def preview_erasing(store: Store, home: Path, selection: Selection) -> Erased:
    """What `erase` would take away. Raises: see `plan_of`."""
    plan = plan_of(store, selection)
    if selection.everything:
        counts = _with_backups(store, count_rows(store))
        traces = remove_derived(home, dry_run=True)
        return _erased(home, plan, traces, counts)
    traces = sweep(home, plan.traces, selection, with_backups=plan.is_empty, dry_run=True)
    return _erased(home, plan, traces, _counts(store, plan), _names_with(store, selection))


def erase(store: Store, home: Path, selection: Selection) -> Erased:
    """Erase what a selection means from the store and from all files below the data folder.

    An erasing that was interrupted is finished by the same call.

    Raises:
        StoreReadOnly: the store cannot be written.
        MemoryNotFound, StoreError: there is no such memory or person.
        StoreBusy: another process reads the store; what is erased is gone, but its journal still holds it.
    """
    if store.database.read_only:
        raise StoreReadOnly(f"the store in {store.folder} cannot be written, so nothing can be erased from it")
    if selection.everything:
        counts = _with_backups(store, count_rows(store))
        traces = remove_derived(home)
        return _erased(home, erase_rows(store, selection), traces, counts)
    try:
        planned = plan_of(store, selection)
    except MemoryNotFound:
        if finish_erasing(store):  # it is gone: an earlier run was interrupted while it cleaned up
            return _erased(home, ErasePlan(), Traces(), {})
        raise
    counts = _counts(store, planned)
    # The backups go together with the rows; where no row is left, they may still hold the words.
    traces = sweep(home, planned.traces, selection, with_backups=planned.is_empty)
    done = erase_rows(store, selection)
    if done.texts - planned.texts:  # somebody has stored more of it meanwhile
        traces = _joined(traces, sweep(home, done.traces, selection, with_backups=False))
    finish_erasing(store)
    return _erased(home, done, traces, counts, _names_with(store, selection))


def _counts(store: Store, plan: ErasePlan) -> dict[str, int]:
    with store.snapshot() as connection:
        of_exchange = "SELECT count(*) FROM messages WHERE exchange = ?"
        whole = sum(connection.execute(of_exchange, [row]).fetchone()[0] for row in plan.exchanges)
    further = sum(exchange not in plan.exchanges for exchange, _ in plan.messages)
    counts = {"memories": len(plan.memories), "messages": whole + further, "history": len(plan.history)}
    counts["turns"] = plan.chat.count
    return counts if plan.is_empty else _with_backups(store, counts)


def _with_backups(store: Store, counts: dict[str, int]) -> dict[str, int]:
    return {**counts, "backups": len(backup_files(store.folder))}


def _names_with(store: Store, selection: Selection) -> tuple[str, ...]:
    """The names in which the words of a selection stand. A name is who somebody is, so it is told and not erased."""
    sought = ErasedTexts(part=selection.containing)
    columns = [("owners", "user_id"), ("owners", "agent_id"), ("owners", "run_id"), ("owners", "name")]
    columns.append(("messages", "speaker"))
    with store.snapshot() as connection:
        found = {row[0] for table, column in columns for row in connection.execute(f"SELECT {column} FROM {table}")}
    return tuple(sorted(name for name in found if name and sought.found_in(name)))


def _erased(home: Path, plan: ErasePlan, traces: Traces, counts: dict[str, int], names: tuple[str, ...] = ()) -> Erased:
    return Erased(
        tuple(plan.memories.values()),
        counts.get("memories", 0),
        counts.get("messages", 0),
        len(plan.edits),
        counts.get("history", 0),
        counts.get("turns", 0),
        counts.get("backups", 0),
        traces,
        tuple(plan.staying),
        tuple(known_exports(home)),
        names,
    )


def _joined(first: Traces, second: Traces) -> Traces:
    lines = dict(first.lines)
    for path, count in second.lines.items():
        lines[path] = lines.get(path, 0) + count
    return Traces(lines, first.files | second.files, first.left | second.left, first.trained | second.trained)


def erased_as_json(erased: Erased, *, done: bool) -> dict[str, Any]:
    """What an erasing took away, or would, as the command and `Memory.erase` tell it."""
    return {
        "erased": done,
        "memories": erased.memory_count,
        "messages": erased.messages,
        "shortened": erased.shortened,
        "history": erased.history,
        "turns": erased.turns,
        "backups": erased.backups,
        "lines": {str(path): count for path, count in sorted(erased.traces.lines.items())},
        "files": [str(path) for path in sorted(erased.traces.files)],
        "staying": [{"id": memory.id, "memory": memory.text} for memory in erased.staying],
        "trained": [str(path) for path in sorted(erased.traces.trained)],
        "left": [str(path) for path in sorted(erased.traces.left)],
        "exports": [str(path) for path in erased.exports],
        "names": list(erased.names),
    }
