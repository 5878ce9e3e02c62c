"""The list of conversations: searched in full text, opened, begun, renamed, deleted and exported."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static
from textual.worker import Worker, WorkerState

from memlora_mlx.text import printable_line
from memlora_mlx.tui import conversation_queries
from memlora_mlx.tui.base_app import BaseApp
from memlora_mlx.tui.times import format_time
from memlora_mlx.tui.widgets.row_table import RowTable

if TYPE_CHECKING:
    from memlora_mlx.memory.store.conversations import SavedConversation


@dataclass(frozen=True, slots=True)
class ConversationChoice:
    """What to show next: a conversation, at a place in it or at its end, or a new one."""

    conversation: str | None = None
    at: str | None = None  # the exchange key of the place


class SearchField(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "down",
            "screen.to_list",
            "List: rename, delete, export",
            tooltip="Move to the list, where e renames, d deletes and x exports",
            id="conversations.list",
        ),
    ]


class ConversationTable(RowTable):
    """The conversations. `delete` is what a Mac keyboard has as Fn+Backspace, so every action has a letter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "screen.rename", "Rename", tooltip="Give it another name", id="conversations.rename"),
        Binding("d,delete", "screen.remove", "Delete", tooltip="Delete it", id="conversations.delete"),
        Binding("x", "screen.export", "Export", tooltip="Write it to a Markdown file", id="conversations.export"),
        Binding("n", "screen.new", "New", show=False, id="conversations.new.letter"),
        Binding("slash", "screen.search", "Search", tooltip="Move to the search field", id="conversations.search"),
    ]


class DeleteDialog(ModalScreen[bool | None]):
    """Delete a conversation, and what was remembered of it? The result is None for no, else whether the memories go, too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k,enter", "answer(False)", "Keep memories", tooltip="Delete the conversation only", id="delete.keep"),
        Binding("m", "answer(True)", "Delete both", tooltip="Delete its memories, too", id="delete.both"),
        Binding("n,escape", "dismiss", "Cancel", tooltip="Delete nothing", id="delete.no"),
    ]

    def __init__(self, name: str, memories: int) -> None:
        super().__init__()
        self._name, self._memories = name, memories

    def compose(self) -> ComposeResult:
        one = self._memories == 1
        with Vertical(classes="dialog"):
            yield Static("Delete this conversation?", classes="dialog-title", markup=False)
            yield Static(Content(printable_line(self._name)), markup=False)
            yield Static(
                f"\n{self._memories} {'memory' if one else 'memories'} came from it. Press k to keep "
                f"{'it' if one else 'them'}, or m to delete {'it' if one else 'them'} with the conversation.",
                markup=False,
            )
            yield Footer(show_command_palette=False)

    def action_answer(self, with_memories: bool) -> None:
        self.dismiss(with_memories)


class ConversationsScreen(ModalScreen[ConversationChoice | None]):
    """
    Args:
        current: the id of the conversation behind this list.
    """

    CSS_PATH = "pages.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "new", "New", tooltip="Start a new conversation; memories stay", id="conversations.new"),
        Binding("escape", "back", "Back", id="conversations.back"),
    ]

    def __init__(self, current: str | None) -> None:
        super().__init__()
        self._current = current
        self._found: dict[str, SavedConversation] = {}

    @property
    def memlora(self) -> BaseApp:
        """The app, as the type that it has."""
        return cast(BaseApp, self.app)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide conversations"):
            yield Static("Conversations", classes="dialog-title", markup=False)
            yield SearchField(placeholder="Search what was said", compact=True, id="search")
            yield ConversationTable([("Last", 18), ("Name", 0), ("Messages", 8)], id="conversations")
            yield Static(classes="hint", id="found", markup=False)
            yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(SearchField).focus()
        self.refresh_list()

    @property
    def _table(self) -> ConversationTable:
        return self.query_one(ConversationTable)

    @property
    def _chosen(self) -> SavedConversation | None:
        return self._found.get(self._table.key_at_cursor or "")

    @on(Input.Changed)
    @work(group="list", exclusive=True, exit_on_error=False)
    async def refresh_list(self) -> None:
        words = self.query_one(SearchField).value
        found = await self.memlora.backend.run(partial(conversation_queries.listed, words=words))
        self._found = {one.id: one for one in found}
        rows = [
            (
                one.id,
                (format_time(one.changed_at), f"{'● ' if one.id == self._current else ''}{one.name}", f"{one.turns}"),
            )
            for one in found
        ]
        self._table.set_rows(rows)
        self._show_excerpt()

    @on(DataTable.RowHighlighted)
    def _show_excerpt(self) -> None:
        """Below the list: where the words were found, or why the list is empty."""
        words = self.query_one(SearchField).value.strip()
        if (one := self._chosen) is not None:
            line = one.excerpt or f"begun {format_time(one.started_at)}"
        else:
            line = "No conversation contains these words." if words else "No conversation is stored yet."
        self.query_one("#found", Static).update(Content(printable_line(line, 160)))

    # ------------------------------------------------------------------ keys

    @on(Input.Submitted)
    @on(DataTable.RowSelected)
    def open(self) -> None:
        if (one := self._chosen) is not None:
            self.dismiss(ConversationChoice(one.id, one.found_key))

    def action_new(self) -> None:
        self.dismiss(ConversationChoice())

    def action_back(self) -> None:
        """Leave the list. If the open conversation was deleted here, a new one begins."""
        self.dismiss(ConversationChoice() if self._current == "" else None)

    def action_to_list(self) -> None:
        if self._table.row_count:
            self._table.focus()

    def action_search(self) -> None:
        self.query_one(SearchField).focus()

    @work(group="change", exit_on_error=False)
    async def action_rename(self) -> None:
        from memlora_mlx.tui.screens.forms import FormDialog, FormField

        if (one := self._chosen) is None:
            return
        answers = await self.app.push_screen_wait(
            FormDialog("Rename this conversation", [FormField("name", "Name", one.name)])
        )
        if answers is not None:
            name = answers["name"]
            await self.memlora.backend.run(lambda workspace: workspace.editor.rename_conversation(one.id, name))
            self.refresh_list()

    @work(group="change", exit_on_error=False)
    async def action_remove(self) -> None:
        from memlora_mlx.memory.store.conversations import remembered_count
        from memlora_mlx.tui.screens.dialogs import ConfirmDialog

        if (one := self._chosen) is None:
            return
        count = await self.memlora.backend.run(lambda workspace: remembered_count(workspace.store, one.id))
        with_memories: bool | None = False
        if count:
            with_memories = await self.app.push_screen_wait(DeleteDialog(one.name, count))
        elif not await self.app.push_screen_wait(ConfirmDialog("Delete this conversation?", one.name)):
            with_memories = None
        if with_memories is None:
            return
        goes = with_memories
        await self.memlora.backend.run(
            lambda workspace: workspace.editor.delete_conversation(one.id, with_memories=goes)
        )
        copies = await self.memlora.backend.run(lambda workspace: workspace.editor.copies_of_conversation(one.id))
        if copies:
            days = ", ".join(path.stem for path in copies)
            self.notify(
                f"Its words are still in backups: {days}. `memlora memory erase --containing TEXT` reaches them.",
                title="Deleted",
                markup=False,
            )
        if one.id == self._current:
            self._current = ""
        await self.memlora.backend.refresh_counts()
        self.refresh_list()

    @work(group="change", exit_on_error=False)
    async def action_export(self) -> None:
        from memlora_mlx.tui.screens.forms import FormDialog, FormField

        if (one := self._chosen) is None:
            return
        form = FormDialog("Export as Markdown", [FormField("path", "File", "conversation.md")])
        if (answers := await self.app.push_screen_wait(form)) is None:
            return
        path = Path(answers["path"] or "conversation.md").expanduser()
        count = await self.memlora.backend.run(partial(conversation_queries.export, conversation=one.id, path=path))
        words = f"{count} messages in {printable_line(str(path), 120)}"
        self.notify(words, title="Exported", markup=False)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Report a failure. The list stays."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.memlora.report_error(event.worker.error)
