"""What the keys of the Memories screen do with the memory under the cursor, and with those that are selected."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on, work
from textual.widgets import DataTable

from memlora_mlx.records import MemoryRecord, Neighbour
from memlora_mlx.tui.memory_editor import MemoryChange, MemoryEditor
from memlora_mlx.tui.screens.base import MainScreen
from memlora_mlx.tui.screens.dialogs import ConfirmDialog
from memlora_mlx.tui.widgets.row_table import RowTable


class MemoryKeys(MainScreen):
    """The actions on the memories of a list. A failure is reported and changes nothing."""

    _editor: MemoryEditor

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[str, Neighbour] = {}
        # The user's last change of each memory, until the list is read again.
        self._changes: dict[str, MemoryChange] = {}
        self._duplicates: dict[str, str] = {}  # memories that say nearly the same as another one, with its id
        self._selected: set[str] = set()  # memories that `d` deletes together

    @property
    def table(self) -> RowTable:
        return self.query_one("#memories", RowTable)

    def _cells(self, hit: Neighbour) -> tuple[str, str, str, str]:
        """The row of a memory."""
        raise NotImplementedError

    def _show_change(self, change: MemoryChange | None) -> None:
        """Show a change in the memory's row."""
        raise NotImplementedError

    @property
    def selected_memory(self) -> MemoryRecord | None:
        hit = self._shown.get(self.table.key_at_cursor or "")
        return hit.memory if hit else None

    @on(DataTable.RowSelected, "#memories")
    @work(group="act", exit_on_error=False)
    async def open_source(self, event: DataTable.RowSelected) -> None:
        await self._editor.show_source(str(event.row_key.value))

    @work(group="act", exit_on_error=False)
    async def action_history(self) -> None:
        if memory := self.selected_memory:
            await self._editor.show_history(memory.id)

    @work(group="act", exit_on_error=False)
    async def action_edit(self) -> None:
        if memory := self.selected_memory:
            self._show_change(await self._editor.edit(memory.id))

    @work(group="act", exit_on_error=False)
    async def action_delete(self) -> None:
        chosen = [hit.memory for key, hit in self._shown.items() if key in self._selected]
        chosen = chosen or ([self.selected_memory] if self.selected_memory else [])
        standing = [each for each in chosen if not ((done := self._changes.get(each.id)) and done.is_deleted)]
        if not standing:
            return
        if len(standing) == 1:
            question = "Delete this memory? Undo restores it."
            self._show_change(await self._editor.delete(standing[0].id, standing[0].text, confirm=question))
        elif await self.memlora.push_screen_wait(
            ConfirmDialog(f"Delete these {len(standing)} memories? u on each restores it.", _joined(standing))
        ):
            self._selected.clear()
            for each in standing:
                self._show_change(await self._editor.delete(each.id, each.text))

    def action_select(self) -> None:
        """Select the memory under the cursor, or not any more, and go to the next one."""
        if (memory := self.selected_memory) is not None and self.focused is self.table:
            self._selected ^= {memory.id}
            self.table.show_row(memory.id, self._cells(self._shown[memory.id]))
            self.table.action_cursor_down()

    def action_next_duplicate(self) -> None:
        """Go to the next memory that says nearly the same as another one."""
        keys, at = list(self._shown), self.table.cursor_row
        rows = [row for row, key in enumerate(keys) if key in self._duplicates and key not in self._changes]
        if not rows:
            self.notify("No memory of this list says nearly the same as another.", markup=False)
            return
        self.table.focus()
        self.table.move_cursor(row=next((row for row in rows if row > at), rows[0]))

    @work(group="act", exit_on_error=False)
    async def action_erase(self) -> None:
        if memory := self.selected_memory:
            self._show_change(await self._editor.erase(memory.id, memory.text))

    @work(group="act", exit_on_error=False)
    async def action_undo(self) -> None:
        if memory := self.selected_memory:
            self._show_change(await self._editor.undo(memory.id))

    @work(group="act", exit_on_error=False)
    async def action_redo(self) -> None:
        if memory := self.selected_memory:
            self._show_change(await self._editor.redo(memory.id))

    @work(group="act", exit_on_error=False)
    async def action_reverse_last(self, verb: str) -> None:
        self._show_change(await (self._editor.redo() if verb == "redo" else self._editor.undo()))


def _joined(memories: Sequence[MemoryRecord]) -> str:
    """The texts of several memories, for a question about all of them."""
    return "; ".join(memory.text for memory in memories)[:1000]
