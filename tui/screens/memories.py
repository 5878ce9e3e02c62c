"""The Memories screen: all that is remembered, found by meaning, person, time and source, and put right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import DataTable, Input, Select, Static

from memlora_mlx.records import Hit, MemoryRecord
from memlora_mlx.text import printable, printable_line
from memlora_mlx.tui import memory_edits, memory_queries
from memlora_mlx.tui.screens.base import MainScreen
from memlora_mlx.tui.screens.dialogs import ConfirmDialog, EditDialog, SourceDialog
from memlora_mlx.tui.screens.forms import FormDialog, FormField, HistoryDialog
from memlora_mlx.tui.times import format_time
from memlora_mlx.tui.widgets.actions import ScreenActions
from memlora_mlx.tui.widgets.row_table import RowTable

DEBOUNCE = 0.2  # seconds without a key before a search begins
NEAR_THE_END = 40  # rows before the last at which the next page is read
ALL = ""
DELETED = "✗ deleted"  # the state of a row whose memory is gone


class MemoriesScreen(MainScreen):
    NAME = "Memories"
    CSS_PATH = "pages.tcss"
    COMMANDS: ClassVar[set[type[Provider] | object]] = {ScreenActions}  # type: ignore[assignment]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "find", "Search", tooltip='Words to search for by meaning; "in quotes": that hold them'),
        Binding("e", "edit", "Edit", tooltip="Give the memory other words", id="memory.edit"),
        Binding("d,delete", "delete", "Delete", tooltip="Remove the memory; undo brings it back", id="memory.delete"),
        Binding("u", "undo", "Undo", tooltip="Take back the memory's last change", id="memory.undo"),
        Binding("U", "undo_last", "Undo last", show=False, tooltip="Take back the last change of all memories"),
        Binding("h", "history", "History", tooltip="All that happened to the memory", id="memory.history"),
        Binding("s", "sort", "Sort", tooltip="By newest, oldest, last changed, last stored", id="memories.sort"),
        Binding("x", "export", "Export", tooltip="All memories as JSON lines or Markdown", id="memories.export"),
        Binding("ctrl+r", "refresh_list", "Refresh", show=False, tooltip="Look at the store again", id="page.run"),
        Binding("escape", "back", "Back", show=False, tooltip="To the list; there: clear the search", id="page.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._question = memory_queries.MemoryQuery()
        self._refreshed_at = self._question  # what the list shows
        self._shown: dict[str, Hit] = {}
        self._states: dict[str, str] = {}  # what was done to memories here
        self._was_left = True
        self._is_complete = True
        self._is_reading = False

    def compose_body(self) -> Iterable[Widget]:
        with Horizontal(classes="fields"):
            yield Input(placeholder='/ search by meaning, "or these words"', compact=True, id="words")
        with Horizontal(classes="fields"):
            yield Select[str]([("everybody", ALL)], value=ALL, allow_blank=False, compact=True, id="person")
            yield Select[str]([("all sources", ALL)], value=ALL, allow_blank=False, compact=True, id="source")
            yield Input(placeholder="since 2023-05-08", compact=True, classes="date", id="since")
            yield Input(placeholder="before", compact=True, classes="date", id="until")
        yield Static("", classes="says", markup=False, id="says")
        yield RowTable((("said", 12), ("who", 10), ("memory", 0), ("dist.", 5)), id="memories")
        yield Static("", classes="detail", markup=False, id="detail")

    @property
    def table(self) -> RowTable:
        return self.query_one("#memories", RowTable)

    def on_mount(self) -> None:
        self.call_after_refresh(self._begin)  # the widgets within widgets are there then

    def _begin(self) -> None:
        self.table.focus()

    def on_screen_suspend(self) -> None:
        self._was_left = self.app.current_mode != "memories"  # else a small window is over it

    def on_screen_resume(self) -> None:
        if self._was_left:
            self.call_after_refresh(self.action_refresh_list)

    # ------------------------------------------------------------------ what is listed

    @on(Input.Changed)
    @on(Select.Changed)
    def current_query(self) -> None:
        def chosen(name: str) -> str | None:
            value = self.query_one(f"#{name}", Select).value
            return str(value) if value not in (ALL, Select.NULL) else None

        question = replace(
            self._question,
            text=self.query_one("#words", Input).value,
            since=self.query_one("#since", Input).value,
            until=self.query_one("#until", Input).value,
            owner=chosen("person"),
            source=chosen("source"),
        )
        if question != self._question:
            self._question = question
            self.refresh_list()

    @on(Input.Submitted)
    def focus_list(self) -> None:
        self.table.focus()

    @work(group="look", exclusive=True, exit_on_error=False)
    async def refresh_list(self, wait: float = DEBOUNCE) -> None:
        """Read the first page of what is asked for; the cursor stays on its memory."""
        await asyncio.sleep(wait)
        try:
            page = await self.backend.run(partial(memory_queries.memory_page, query=self._question))
        except Exception as error:
            self.query_one("#says", Static).update(Content(f"✗ {printable_line(str(error))}"))
            self._shown = {}
            self.table.clear()
            raise
        self._states.clear()
        self._shown = {hit.memory.id: hit for hit in page.hits}
        self._is_complete, self._is_reading = page.is_last, False
        self.table.set_rows([(hit.memory.id, self._cells(hit)) for hit in page.hits])
        if self._question != self._refreshed_at:
            self._refreshed_at = self._question
            self.table.move_cursor(row=0)
        count = f"{page.total:,} {'memory' if page.total == 1 else 'memories'}"
        told = page.note or f"{self._question.order} first"
        if not page.total:
            anything = self._question != memory_queries.MemoryQuery(order=self._question.order)
            told = "none matches" if anything else "nothing is remembered yet; chat, or F4 reads conversations in"
        self.query_one("#says", Static).update(Content(f"{count} · {told}"))
        self._show_details()

    @work(group="more", exit_on_error=False)
    async def more(self) -> None:
        """Read the next page behind the ones that are shown."""
        gone = sum(state == DELETED for state in self._states.values())  # shown, and no longer in the store
        question, offset = self._question, len(self._shown) - gone
        page = await self.backend.run(partial(memory_queries.memory_page, query=question, offset=offset))
        if question == self._question:
            new = [hit for hit in page.hits if hit.memory.id not in self._shown]
            self._shown |= {hit.memory.id: hit for hit in new}
            self.table.extend([(hit.memory.id, self._cells(hit)) for hit in new])
            self._is_complete = page.is_last or not new
        self._is_reading = False

    @work(group="choices", exclusive=True, exit_on_error=False)
    async def fill_choices(self) -> None:
        found = await self.backend.run(memory_queries.filter_choices)
        for name, every, options in (
            ("person", "everybody", found.owners),
            ("source", "all sources", tuple((source, source) for source in found.sources)),
        ):
            select = self.query_one(f"#{name}", Select)
            shown: list[tuple[Text, str]] = [(Text(every), ALL)]
            shown += [(Text(printable_line(label, 40)), value) for label, value in options]
            before = select.value
            with self.prevent(Select.Changed):
                select.set_options(shown)
                select.value = before if before in [value for _, value in shown] else ALL

    def _cells(self, hit: Hit) -> tuple[str, str, str, str]:
        memory = hit.memory
        said = f"{memory.said_at.day} {memory.said_at:%b %Y}" if memory.said_at else "undated"
        state = self._states.get(memory.id, "")
        text = f"{state} {memory.text}" if state else memory.text
        return said, _who(memory), text, f"{hit.distance:.2f}" if hit.distance >= 0 else ""

    # ------------------------------------------------------------------ the memory under the cursor

    @property
    def selected_memory(self) -> MemoryRecord | None:
        hit = self._shown.get(self.table.key_at_cursor or "")
        return hit.memory if hit else None

    @on(DataTable.RowHighlighted, "#memories")
    def cursor_moved(self, event: DataTable.RowHighlighted) -> None:
        self._show_details()
        if not (self._is_complete or self._is_reading) and event.cursor_row >= self.table.row_count - NEAR_THE_END:
            self._is_reading = True
            self.more()

    def _show_details(self) -> None:
        memory = self.selected_memory
        detail = self.query_one("#detail", Static)
        if memory is None:
            detail.update("")
            return
        facts = [f"said {format_time(memory.said_at)}", f"stored {format_time(memory.stored_at)}"]
        facts += [f"changed {format_time(memory.changed_at)}"] if memory.changed_at else []
        facts += [f"from {printable_line(memory.source, 40)}"] if memory.source else []
        facts += [f"image {printable_line(memory.image.caption or memory.image.source, 60)}"] if memory.image else []
        state = self._states.get(memory.id)
        words = printable(memory.text)[:4000]
        detail.update(
            Content.assemble(
                *([(f"{state}  ", "bold")] if state else []), words, "\n", (" · ".join(facts), "$foreground 60%")
            )
        )

    @on(DataTable.RowSelected, "#memories")
    @work(group="act", exit_on_error=False)
    async def open_source(self, event: DataTable.RowSelected) -> None:
        found = await self.backend.run(partial(memory_queries.memory_details, memory_id=str(event.row_key.value)))
        await self.memlora.push_screen(SourceDialog(found.text, found.exchanges, found.history))

    @work(group="act", exit_on_error=False)
    async def action_history(self) -> None:
        if memory := self.selected_memory:
            found = await self.backend.run(partial(memory_queries.memory_details, memory_id=memory.id))
            await self.memlora.push_screen(HistoryDialog(found.text, found.history))

    @work(group="act", exit_on_error=False)
    async def action_edit(self) -> None:
        if (memory := self.selected_memory) is None:
            return
        words = await self.memlora.push_screen_wait(EditDialog(memory.text))
        if words is not None and words != memory.text:
            changed = await self.backend.run(partial(memory_edits.revise, memory_id=memory.id, text=words))
            await self._after_change(changed, "~ changed")

    @work(group="act", exit_on_error=False)
    async def action_delete(self) -> None:
        if (memory := self.selected_memory) is None or self._states.get(memory.id) == DELETED:
            return
        if await self.memlora.push_screen_wait(ConfirmDialog("Delete this memory? Undo brings it back.", memory.text)):
            await self.backend.run(partial(memory_edits.delete, memory_id=memory.id))
            await self._after_change(memory, DELETED)

    @work(group="act", exit_on_error=False)
    async def action_undo(self) -> None:
        if memory := self.selected_memory:
            line = await self.backend.run(partial(memory_edits.undo, memory_id=memory.id))
            await self._after_undo(memory, line.new_text)

    @work(group="act", exit_on_error=False)
    async def action_undo_last(self) -> None:
        line = await self.backend.run(memory_edits.undo)
        hit = self._shown.get(line.memory_id)
        if hit is None:
            self.notify(printable_line(line.new_text or line.old_text or ""), title="Undone", markup=False)
            await self.backend.refresh_counts()
            self.refresh_list(wait=0.0)
        else:
            await self._after_undo(hit.memory, line.new_text)

    async def _after_undo(self, memory: MemoryRecord, words: str | None) -> None:
        await self._after_change(replace(memory, text=words or memory.text), "↶ undone" if words else DELETED)

    async def _after_change(self, memory: MemoryRecord, state: str) -> None:
        """Show in its row what became of a memory; it stays there until the list is read again."""
        self._states[memory.id] = state
        if memory.id in self._shown:
            hit = self._shown[memory.id] = replace(self._shown[memory.id], memory=memory)
            self.table.show_row(memory.id, self._cells(hit))
        self._show_details()
        await self.backend.refresh_counts()

    # ------------------------------------------------------------------ the list as a whole

    def action_sort(self) -> None:
        orders = memory_queries.ORDERS
        following = orders[(orders.index(self._question.order) + 1) % len(orders)]
        self._question = replace(self._question, order=following)
        if self._question.text.strip():
            self.notify("A search shows the nearest first; the order is that of the whole list.", markup=False)
        self.refresh_list(wait=0.0)

    @work(group="export", exit_on_error=False)
    async def action_export(self) -> None:
        form = FormDialog(
            "Export all memories",
            [FormField("path", "File", "memories.jsonl", "memories.jsonl, or memories.md for Markdown")],
        )
        answers = await self.memlora.push_screen_wait(form)
        if answers and (name := answers["path"].strip()):
            path = Path(name).expanduser()
            count = await self.backend.run(partial(memory_queries.export, path=path))
            self.notify(f"{count:,} memories in {printable_line(str(path), 200)}", title="Exported", markup=False)

    def action_find(self) -> None:
        self.query_one("#words", Input).focus()

    def action_refresh_list(self) -> None:
        self.fill_choices()
        self.refresh_list(wait=0.0)

    def action_back(self) -> None:
        words = self.query_one("#words", Input)
        if self.focused is self.table:
            words.value = ""
        self.table.focus()


def _who(memory: MemoryRecord) -> str:
    return memory.owner.user_id or memory.owner.agent_id or memory.owner.run_id or ""
