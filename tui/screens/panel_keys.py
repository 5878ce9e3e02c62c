"""What the Chat screen consists of, and what the keys on the memories of its panel do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from textual import on, work
from textual.containers import VerticalScroll

from memlora_mlx.tui.chat_controller import ChatController, ChatTurn
from memlora_mlx.tui.memory_editor import REDONE, UNDONE, MemoryChange, MemoryEditor
from memlora_mlx.tui.screens.base import MainScreen
from memlora_mlx.tui.widgets.attachment import Attachment
from memlora_mlx.tui.widgets.exchange import ExchangeView
from memlora_mlx.tui.widgets.memory_item import MemoryItem, PanelEntry
from memlora_mlx.tui.widgets.memory_panel import MemoryPanel
from memlora_mlx.tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from memlora_mlx.memory.changes import AppliedChange


class PanelKeys(MainScreen):
    """The parts of the Chat screen, and the actions on the memories of its panel. A failure is reported and changes nothing."""

    controller: ChatController
    editor: MemoryEditor

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[ChatTurn] = []

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    @property
    def panel(self) -> MemoryPanel:
        return self.query_one(MemoryPanel)

    @property
    def attachment(self) -> Attachment:
        return self.query_one(Attachment)

    @property
    def log_view(self) -> VerticalScroll:
        return self.query_one("#log", VerticalScroll)

    # ------------------------------------------------------------------ what the screen does with its turns

    async def clear(self) -> None:
        """Remove all turns from the screen."""
        raise NotImplementedError

    async def wait_for_replies(self) -> None:
        """Wait until no reply is being written."""
        raise NotImplementedError

    def action_stop_reply(self) -> None:
        """Stop the reply that is being written."""
        raise NotImplementedError

    # ------------------------------------------------------------------ memories

    @on(MemoryItem.Acted)
    @work(group="memory", exit_on_error=False)
    async def act(self, event: MemoryItem.Acted) -> None:
        """Do to a memory what its key says."""
        entry, editor, panel = event.entry, self.editor, self.panel
        change = None
        if event.action == "source":
            if await editor.show_source(entry.memory_id):
                return  # the panel follows the conversation
        elif event.action == "edit":
            change = await editor.edit(entry.memory_id)
        elif event.action == "undo":
            change = await editor.undo(entry.memory_id, facts=panel.facts_behind(entry.memory_id))
        elif event.action == "redo":
            change = await editor.redo(entry.memory_id)
        elif event.action == "erase":
            change = await editor.erase(entry.memory_id, entry.text)
        elif event.action == "pin":
            await self._pin(entry)
        else:
            await self._delete_entries([*panel.selected_entries()] or [entry])
        if change is not None:
            self.show_change(change)
        await self.refresh_panel()

    def show_change(self, change: MemoryChange) -> None:
        """Show what the user did to a memory in the panel, and below the exchange whose change was undone or made again."""
        self.panel.show_change(change)
        for view in self.query(ExchangeView):
            if change.label == REDONE:
                view.turn.undone.discard(change.memory_id)
            elif change.label == UNDONE and any(_is_taken_back(made, change) for made in _changes_of(view.turn)):
                view.turn.undone.add(change.memory_id)
            view.refresh_note()

    async def _pin(self, entry: PanelEntry) -> None:
        from memlora_mlx.tui.memory_queries import toggle_pin

        is_pinned = await self.backend.run(lambda workspace: toggle_pin(workspace, entry.memory_id))
        self.notify("Every reply is given it." if is_pinned else "", title="Pinned" if is_pinned else "Unpinned")

    async def _delete_entries(self, entries: list[PanelEntry]) -> None:
        from memlora_mlx.tui.screens.dialogs import ConfirmDialog

        if len(entries) > 1:
            texts = "; ".join(entry.text for entry in entries)
            question = f"Delete these {len(entries)} memories? u on each restores it."
            if not await self.memlora.push_screen_wait(ConfirmDialog(question, texts[:1000])):
                return
        for entry in entries:
            change = await self.editor.delete(entry.memory_id, entry.text)
            if change is not None:
                self.show_change(change)
        self.panel.select_none()

    @work(group="count", exclusive=True, exit_on_error=False)
    async def refresh_counts(self) -> None:
        """Bring the figures of the status bar and the panel up to date."""
        await self.backend.refresh_counts()
        await self.refresh_panel()

    async def refresh_panel(self) -> None:
        """Read again what the panel shows beside the memories of a reply: what is pinned, and what happened today."""
        from memlora_mlx.tui.memory_queries import pinned_and_today  # here: the first frame has no use for it

        midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        pinned, today = await self.backend.run(lambda opened: pinned_and_today(opened, midnight))
        self.panel.show_background(pinned, today)
        self.panel.show_corrections(self.backend.corrections)


def _changes_of(turn: ChatTurn) -> Sequence[AppliedChange]:
    """What the exchange of a turn changed."""
    return [each for each in turn.remembered.applied if each.rejected is None] if turn.remembered is not None else []


def _is_taken_back(made: AppliedChange, undone: MemoryChange) -> bool:
    """Whether an undone change is the one that an exchange made: the memory is then as it was before the exchange."""
    if made.memory_id != undone.memory_id:
        return False
    return undone.is_deleted if made.event == "ADD" else undone.text == made.old_text
