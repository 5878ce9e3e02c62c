"""The user's own changes of memories, from any screen.

Each is written to history and, where it corrects the student, kept as a training pair for the expert concerned.

These run on a thread (`Backend.run(partial(revise, memory_id=..., text=...))`) and return records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memlora_mlx.errors import MemoryNotFound, StoreError, UsageError
from memlora_mlx.memory.store.history import memory_history, undo_change
from memlora_mlx.records import MemoryRecord, Revision

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace


def revise(workspace: Workspace, memory_id: str, text: str) -> MemoryRecord:
    """Give a memory new words.

    Raises:
        UsageError: there are no words.
        MemoryNotFound, StoreError: see `Store.revise`.
    """
    from memlora_mlx.memory.stages import clean_line

    words = clean_line(text)
    if not words:
        raise UsageError("a memory needs words; to remove it, delete it")
    old = workspace.store.get(memory_id)
    if old is None:
        raise MemoryNotFound(f"the memory {memory_id} is gone; undo brings it back")
    if old.text == words:
        return old
    [vector] = workspace.engine.embed([words])
    memory = workspace.store.revise(memory_id, words, vector)
    _record(workspace, memory_id)
    return memory


def delete(workspace: Workspace, memory_id: str) -> None:
    """Raises MemoryNotFound, StoreError: see `Store.delete`."""
    workspace.store.delete(memory_id)
    _record(workspace, memory_id)


def undo(workspace: Workspace, memory_id: str | None = None, *, facts: Sequence[str] = ()) -> Revision:
    """Take back the newest change of a memory that still stands; of the whole store, without an id.

    Args:
        facts: what the student had extracted, where that is known; see `record_corrections`.

    Raises:
        StoreError: there is nothing to take back.
    """
    number = None
    if memory_id is not None:
        lines = [
            line for line in memory_history(workspace.store, memory_id) if not line.undone and line.actor != "undo"
        ]
        if not lines:
            raise StoreError("there is nothing to undo for this memory")
        number = lines[-1].id
    revision = undo_change(workspace.store, workspace.engine.embed, number)
    _record(workspace, revision.memory_id, facts)
    return revision


def _record(workspace: Workspace, memory_id: str, facts: Sequence[str] = ()) -> None:
    """Keep what the change teaches. Raises StoreError where the pairs cannot be written; the change itself stands."""
    from memlora_mlx.distill.corrections import update_corrections  # here: it takes a while, and numpy

    try:
        update_corrections(workspace.store, workspace.settings.home, memory_id, facts=facts)
    except OSError as error:
        raise StoreError(f"the change is stored, its training pair is not: {error.strerror or error}") from error
