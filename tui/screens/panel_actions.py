"""What the keys on the memories of the panel do: source, edit, undo, redo, pin, and delete one or several."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from memlora_mlx.tui import memory_queries
from memlora_mlx.tui.widgets.memory_item import MemoryItem, PanelEntry

if TYPE_CHECKING:
    from memlora_mlx.tui.screens.chat import ChatScreen


class PanelActions:
    """The actions on the memories of one Chat screen. They run in a worker; a failure is raised and changes nothing."""

    def __init__(self, chat: ChatScreen) -> None:
        self.chat = chat

    async def run(self, event: MemoryItem.Acted) -> None:
        entry, editor, panel = event.entry, self.chat.editor, self.chat.panel
        change = None
        if event.action == "source":
            await editor.show_source(entry.memory_id)
        elif event.action == "edit":
            change = await editor.edit(entry.memory_id)
        elif event.action == "undo":
            change = await editor.undo(entry.memory_id, facts=panel.facts_behind(entry.memory_id))
        elif event.action == "redo":
            change = await editor.redo(entry.memory_id)
        elif event.action == "pin":
            await self._pin(entry)
        else:
            await self._delete([*panel.selected_entries()] or [entry])
        if change is not None:
            panel.show_change(change)
        await self.refresh()

    async def _pin(self, entry: PanelEntry) -> None:
        is_pinned = await self.chat.backend.run(lambda workspace: memory_queries.toggle_pin(workspace, entry.memory_id))
        self.chat.notify("Every reply is given it." if is_pinned else "", title="Pinned" if is_pinned else "Unpinned")

    async def _delete(self, entries: list[PanelEntry]) -> None:
        from memlora_mlx.tui.screens.dialogs import ConfirmDialog

        if len(entries) > 1:
            texts = "; ".join(entry.text for entry in entries)
            question = f"Delete these {len(entries)} memories? u on each restores it."
            if not await self.chat.memlora.push_screen_wait(ConfirmDialog(question, texts[:1000])):
                return
        for entry in entries:
            change = await self.chat.editor.delete(entry.memory_id, entry.text)
            if change is not None:
                self.chat.panel.show_change(change)
        self.chat.panel.select_none()

    async def refresh(self) -> None:
        """Read again what the panel shows beside the memories of a reply: what is pinned, and what happened today."""
        midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        pinned, today = await self.chat.backend.run(lambda opened: memory_queries.pinned_and_today(opened, midnight))
        self.chat.panel.show_background(pinned, today)
