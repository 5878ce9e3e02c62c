"""The user's own changes of memories, as the screens make them: see `memory.editing`.

These run on a thread (`Backend.run(partial(revise, memory_id=..., text=...))`) and return records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memlora_mlx.errors import StoreError
from memlora_mlx.records import MemoryRecord, Revision

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace


def revise(workspace: Workspace, memory_id: str, text: str) -> MemoryRecord:
    """Raises: see `Editor.revise`; StoreError: the change is saved, but not its training example."""
    edit = workspace.editor.revise(memory_id, text)
    _check(edit.problem)
    return edit.memory


def delete(workspace: Workspace, memory_id: str) -> None:
    """Raises: see `Editor.delete`; StoreError: as of `revise`."""
    _check(workspace.editor.delete(memory_id).problem)


def undo(workspace: Workspace, memory_id: str | None = None, *, facts: Sequence[str] = ()) -> Revision:
    """Undo the newest change of a memory, or without an id of the whole store. Raises StoreError: see `Editor.undo`."""
    reversal = workspace.editor.undo(memory_id=memory_id, facts=facts)
    _check(reversal.problem)
    return reversal.revision


def redo(workspace: Workspace, memory_id: str | None = None, *, facts: Sequence[str] = ()) -> Revision:
    """Redo what `undo` took back last. Raises StoreError: see `Editor.redo`."""
    reversal = workspace.editor.redo(memory_id=memory_id, facts=facts)
    _check(reversal.problem)
    return reversal.revision


def _check(problem: str | None) -> None:
    if problem is not None:
        raise StoreError(problem)
