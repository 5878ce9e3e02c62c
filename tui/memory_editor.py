"""What any screen does with one memory: edit, delete, undo, redo, show its source or history; dialogs and notices.

The changes themselves, and the training examples that follow from them, are the work of `memlora_mlx.memory.editing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from memlora_mlx.errors import MemoryNotFound, StoreError
from memlora_mlx.text import printable_line
from memlora_mlx.tui.base_app import BaseApp

if TYPE_CHECKING:
    from memlora_mlx.memory.editing import Reversal

EDITED, DELETED, UNDONE, REDONE = "~ edited", "✗ deleted", "↶ undone", "↷ redone"
ERASED = "✗ erased"


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """What the user did to a memory."""

    memory_id: str
    label: str  # EDITED, DELETED, UNDONE, REDONE or ERASED
    text: str  # after the change; of a deleted memory its last text, of an erased one nothing
    is_deleted: bool = False  # the memory is no longer in the store

    @property
    def title(self) -> str:
        """The label as the title of a notice."""
        return self.label.partition(" ")[2].capitalize()


class MemoryEditor:
    """What the user does with the memories of one screen.

    Its methods wait for dialogs, so they must run in a worker. A failure is raised and changes nothing.
    """

    def __init__(self, app: BaseApp) -> None:
        self._app = app
        self._edits_without_effect: set[str] = set()  # memories whose last edit here failed or changed nothing

    async def edit(self, memory_id: str) -> MemoryChange | None:
        """Ask for a new text and save it. Returns None if the user cancels or leaves the text as it is.

        Raises:
            MemoryNotFound: the memory is deleted.
            MemloraError: the text cannot be embedded or saved.
        """
        from memlora_mlx.memory.editing import UNCHANGED
        from memlora_mlx.memory.secrets import describe_withheld
        from memlora_mlx.tui.screens.dialogs import EditDialog

        memory = await self._app.backend.run(lambda workspace: workspace.store.get(memory_id))
        if memory is None:
            raise MemoryNotFound("This memory is deleted. Press u to restore it.")
        text = await self._app.push_screen_wait(EditDialog(memory.text))
        if text is None:
            return None
        self._edits_without_effect.add(memory_id)
        edit = await self._app.backend.run(lambda workspace: workspace.editor.revise(memory_id, text))
        if not edit.is_change:
            self._app.notify(UNCHANGED, title="Unchanged", markup=False)
            return None
        if told := describe_withheld(edit.withheld):
            self._app.notify(told, title="Left out", markup=False)
        return await self._done(MemoryChange(memory_id, EDITED, edit.memory.text), edit.problem)

    async def delete(self, memory_id: str, text: str, *, confirm: str = "") -> MemoryChange | None:
        """Delete a memory, after a question if one is given. Returns None if the user says no."""
        from memlora_mlx.tui.screens.dialogs import ConfirmDialog

        if confirm and not await self._app.push_screen_wait(ConfirmDialog(confirm, text)):
            return None
        edit = await self._app.backend.run(lambda workspace: workspace.editor.delete(memory_id))
        return await self._done(MemoryChange(memory_id, DELETED, edit.memory.text, is_deleted=True), edit.problem)

    async def erase(self, memory_id: str, text: str) -> MemoryChange | None:
        """Erase a memory for good, after a question that says what goes with it. Returns None if the user says no.

        Raises:
            StoreError: it is erased already, or another process reads the store; the user can repeat the key then.
        """
        from memlora_mlx.memory.erasing import Selection, erase, preview_erasing
        from memlora_mlx.tui.screens.dialogs import EraseDialog

        chosen, home = Selection(ids=(memory_id,)), self._app.backend.settings.home
        would = await self._app.backend.run(lambda workspace: preview_erasing(workspace.store, home, chosen))
        goes = (
            f"Messages: {would.messages}, turns of conversations: {would.turns}, history: {would.history},"
            f" traces in other files: {would.traces.count}"
        )
        question = f"Erase this for good, with all that it came from? Nothing can undo it. {goes}"
        if not await self._app.push_screen_wait(EraseDialog(question, text)):
            return None
        done = await self._app.backend.run(lambda workspace: erase(workspace.store, home, chosen))
        if done.exports:
            where = printable_line(", ".join(map(str, done.exports)), 200)
            self._app.notify(f"Exports may still hold it: {where}", title="Not touched", markup=False)
        return await self._done(MemoryChange(memory_id, ERASED, "", is_deleted=True), None)

    async def undo(self, memory_id: str | None = None, *, facts: Sequence[str] = ()) -> MemoryChange | None:
        """Undo the last change of this memory, or of the whole store.

        After an edit that changed nothing there is nothing to undo: the first call says so and returns None, so that
        it does not undo an older change that the user did not mean.

        Args:
            facts: what the student had extracted from the exchange, where that is known.

        Raises:
            StoreError: there is nothing to undo.
        """
        if memory_id is not None and memory_id in self._edits_without_effect:
            self._edits_without_effect.discard(memory_id)
            self._app.notify(
                "Your last edit changed nothing. Press u again to undo the change before it.",
                title="Nothing to undo",
                markup=False,
            )
            return None
        undo = await self._app.backend.run(lambda workspace: workspace.editor.undo(memory_id=memory_id, facts=facts))
        return await self._reversed(UNDONE, undo)

    async def redo(self, memory_id: str | None = None, *, facts: Sequence[str] = ()) -> MemoryChange:
        """Redo the change of this memory, or of the whole store, that was undone last.

        Raises:
            StoreError: there is nothing to redo.
        """
        redo = await self._app.backend.run(lambda workspace: workspace.editor.redo(memory_id=memory_id, facts=facts))
        return await self._reversed(REDONE, redo)

    async def show_source(self, memory_id: str) -> bool:
        """Show the exchanges that a memory came from, and its history; from there, its place in its conversation.

        Returns whether its conversation was opened.
        """
        from memlora_mlx.tui.memory_queries import memory_details
        from memlora_mlx.tui.screens.dialogs import SourceDialog

        details = await self._app.backend.run(partial(memory_details, memory_id=memory_id))
        has_place = details.place is not None
        dialog = SourceDialog(details.text, details.exchanges, details.history, has_place=has_place)
        if await self._app.push_screen_wait(dialog) and details.place is not None:
            await self._app.open_conversation(*details.place)
            return True
        return False

    async def show_history(self, memory_id: str) -> None:
        """Show the history of a memory."""
        from memlora_mlx.tui.memory_queries import memory_details
        from memlora_mlx.tui.screens.forms import HistoryDialog

        details = await self._app.backend.run(partial(memory_details, memory_id=memory_id))
        await self._app.push_screen(HistoryDialog(details.text, details.history))

    async def _reversed(self, label: str, reversal: Reversal) -> MemoryChange:
        revision = reversal.revision
        text = revision.new_text or revision.old_text or ""
        change = MemoryChange(revision.memory_id, label, text, is_deleted=revision.new_text is None)
        return await self._done(change, reversal.problem)

    async def _done(self, change: MemoryChange, problem: str | None) -> MemoryChange:
        self._edits_without_effect.discard(change.memory_id)
        await self._app.backend.refresh_counts()
        if problem is not None:
            self._app.report_error(StoreError(problem))
        return change
