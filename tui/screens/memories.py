"""The Memories screen: list, search, filter, correct and export memories."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.content import Content
from textual.widget import Widget
from textual.widgets import DataTable, Input, Static

from memlora_mlx.records import MemoryRecord, Neighbour
from memlora_mlx.text import printable, printable_line
from memlora_mlx.tui import memory_queries
from memlora_mlx.tui.memory_editor import MemoryChange, MemoryEditor
from memlora_mlx.tui.screens.forms import FormDialog, FormField
from memlora_mlx.tui.screens.memory_keys import MemoryKeys
from memlora_mlx.tui.times import format_time
from memlora_mlx.tui.widgets.actions import ScreenActions
from memlora_mlx.tui.widgets.memory_filters import MemoryFilters
from memlora_mlx.tui.widgets.row_table import RowTable

DEBOUNCE = 0.2  # seconds without a key before a search starts
NEAR_THE_END = 40  # rows before the last at which the next page is read


class MemoriesScreen(MemoryKeys):
    NAME = "Memories"
    CSS_PATH = "pages.tcss"
    COMMANDS: ClassVar[set[type[Provider] | object]] = {ScreenActions}  # type: ignore[assignment]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "find", "Search", tooltip='Search by meaning; "in quotes" finds the exact text'),
        Binding("e", "edit", "Edit", tooltip="Edit the text", id="memory.edit"),
        Binding(
            "space", "select", "Select", show=False, tooltip="Select it; d deletes all selected", id="memory.select"
        ),
        Binding("d,delete", "delete", "Delete", tooltip="Delete this memory; u undoes it", id="memory.delete"),
        Binding("D", "erase", "Erase", show=False, tooltip="Erase this memory for good", id="memory.erase"),
        Binding("u", "undo", "Undo", tooltip="Undo the last change to this memory", id="memory.undo"),
        Binding("r", "redo", "Redo", show=False, tooltip="Redo the change that was undone last", id="memory.redo"),
        Binding("U", "reverse_last('undo')", "Undo last", show=False, tooltip="Undo the last change of all memories"),
        Binding(
            "R", "reverse_last('redo')", "Redo last", show=False, tooltip="Redo the last undone change of all memories"
        ),
        Binding("h", "history", "History", tooltip="Show the history", id="memory.history"),
        Binding("s", "sort", "Sort", tooltip="Sort by newest, oldest, last changed or last stored", id="memories.sort"),
        Binding("x", "export", "Export", tooltip="Export all memories as JSON lines or Markdown", id="memories.export"),
        Binding(
            "n",
            "next_duplicate",
            "Next double",
            show=False,
            tooltip="Go to the next one that says nearly the same as another",
        ),
        Binding("ctrl+r", "refresh_list", "Refresh", show=False, tooltip="Read the store again", id="page.run"),
        Binding("escape", "back", "Back", show=False, tooltip="To the list; in it, clear the search", id="page.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._query = memory_queries.MemoryQuery()
        self._listed_query = self._query  # what the list shows
        self._was_left = True
        self._is_complete, self._is_reading = True, False

    def compose(self) -> ComposeResult:
        self._editor = MemoryEditor(self.memlora)
        yield from super().compose()

    def compose_body(self) -> Iterable[Widget]:
        yield MemoryFilters()
        yield Static("", classes="says", markup=False, id="says")
        yield RowTable((("said", 12), ("who", 10), ("memory", 0), ("dist.", 5)), id="memories")
        yield Static("", classes="detail", markup=False, id="detail")

    @property
    def filters(self) -> MemoryFilters:
        return self.query_one(MemoryFilters)

    def on_mount(self) -> None:
        self.call_after_refresh(lambda: self.table.focus())  # nested widgets are mounted by then

    def on_screen_suspend(self) -> None:
        self._was_left = self.app.current_mode != "memories"  # otherwise a dialog is open

    def on_screen_resume(self) -> None:
        if self._was_left:
            self.call_after_refresh(self.action_refresh_list)

    # ------------------------------------------------------------------ what is listed

    @on(MemoryFilters.Changed)
    def filters_changed(self) -> None:
        query = self.filters.applied_to(self._query)
        if query != self._query:
            self._query = query
            self.refresh_list()

    @on(Input.Submitted)
    def focus_list(self) -> None:
        self.table.focus()

    @work(group="look", exclusive=True, exit_on_error=False)
    async def refresh_list(self, wait: float = DEBOUNCE) -> None:
        """Read the first page of the list. The cursor stays on its memory."""
        await asyncio.sleep(wait)
        try:
            page = await self.backend.run(partial(memory_queries.memory_page, query=self._query))
        except Exception as error:
            self.query_one("#says", Static).update(Content(f"✗ {printable_line(str(error))}"))
            self._shown = {}
            self.table.clear()
            raise
        self._changes.clear()
        self._selected.clear()
        self._shown = {hit.memory.id: hit for hit in page.hits}
        self._duplicates = dict(page.duplicates)
        self._is_complete, self._is_reading = page.is_last, False
        self.table.set_rows([(hit.memory.id, self._cells(hit)) for hit in page.hits])
        if self._query != self._listed_query:
            self._listed_query = self._query
            self.table.move_cursor(row=0)
        self.query_one("#says", Static).update(Content(_summary(page, self._query)))
        self._show_details()

    @work(group="more", exit_on_error=False)
    async def more(self) -> None:
        """Read the next page and add it to the list."""
        gone = sum(change.is_deleted for change in self._changes.values())  # still shown, but no longer in the store
        query, offset = self._query, len(self._shown) - gone
        page = await self.backend.run(partial(memory_queries.memory_page, query=query, offset=offset))
        if query == self._query:
            new = [hit for hit in page.hits if hit.memory.id not in self._shown]
            self._shown |= {hit.memory.id: hit for hit in new}
            self._duplicates |= page.duplicates
            self.table.extend([(hit.memory.id, self._cells(hit)) for hit in new])
            self._is_complete = page.is_last or not new
        self._is_reading = False

    @work(group="choices", exclusive=True, exit_on_error=False)
    async def fill_choices(self) -> None:
        self.filters.offer(await self.backend.run(memory_queries.filter_choices))

    def _cells(self, hit: Neighbour) -> tuple[str, str, str, str]:
        memory = hit.memory
        said = f"{memory.said_at.day} {memory.said_at:%b %Y}" if memory.said_at else "undated"
        change = self._changes.get(memory.id)
        text = f"{change.label} {memory.text}" if change else memory.text
        text = f"≈ {text}" if memory.id in self._duplicates and not change else text
        text = f"◉ {text}" if memory.id in self._selected else text
        return said, _who(memory), text, f"{hit.distance:.2f}" if hit.distance >= 0 else ""

    # ------------------------------------------------------------------ the memory under the cursor

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
        same = self._shown.get(self._duplicates.get(memory.id, ""))
        change = self._changes.get(memory.id)
        detail.update(_details(memory, change, same.memory.text if same and not change else ""))

    def _show_change(self, change: MemoryChange | None) -> None:
        """Show a change in the memory's row, where it stays until the list is read again."""
        if change is None:
            return
        if (hit := self._shown.get(change.memory_id)) is None:
            self.notify(printable_line(change.text), title=change.title, markup=False)
            self.refresh_list(wait=0.0)
            return
        self._changes[change.memory_id] = change
        hit = self._shown[change.memory_id] = replace(hit, memory=replace(hit.memory, text=change.text))
        self.table.show_row(change.memory_id, self._cells(hit))
        self._show_details()

    # ------------------------------------------------------------------ the list as a whole

    def action_sort(self) -> None:
        orders = memory_queries.ORDERS
        following = orders[(orders.index(self._query.order) + 1) % len(orders)]
        self._query = replace(self._query, order=following)
        if self._query.text.strip():
            self.notify("Search results are sorted by distance. Clear the search to sort the list.", markup=False)
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
        self.filters.search.focus()

    def action_refresh_list(self) -> None:
        self.fill_choices()
        self.refresh_list(wait=0.0)

    def action_back(self) -> None:
        if self.focused is self.table:
            self.filters.search.value = ""
        self.table.focus()


def _summary(page: memory_queries.MemoryPage, query: memory_queries.MemoryQuery) -> str:
    """How many memories there are, and in what order."""
    told = page.note or f"{query.order} first"
    if not page.total:
        anything = query != memory_queries.MemoryQuery(order=query.order)
        told = "no matches" if anything else "No memories yet. Chat, or import conversations with F4."
    count = len(page.duplicates)
    told += f" · ≈ {count} nearly the same as another (n: next)" if count else ""
    return f"{page.total:,} {'memory' if page.total == 1 else 'memories'} · {told}"


def _details(memory: MemoryRecord, change: MemoryChange | None, same: str) -> Content:
    """The memory under the cursor with what is known of it, and the one that says nearly the same."""
    facts = [f"said {format_time(memory.said_at)}", f"stored {format_time(memory.stored_at)}"]
    facts += [f"changed {format_time(memory.changed_at)}"] if memory.changed_at else []
    facts += [f"from {printable_line(memory.source, 40)}"] if memory.source else []
    facts += [f"image {printable_line(memory.image.caption or memory.image.source, 60)}"] if memory.image else []
    label = [(f"{change.label}  ", "bold")] if change else []
    double = [f"\n≈ nearly the same as: {printable_line(same, 120)} (d deletes this one, u undoes it)"] if same else []
    return Content.assemble(*label, printable(memory.text)[:4000], "\n", (" · ".join(facts), "$text-muted"), *double)


def _who(memory: MemoryRecord) -> str:
    return memory.owner.user_id or memory.owner.agent_id or memory.owner.run_id or ""
