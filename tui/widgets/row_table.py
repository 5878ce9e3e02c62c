"""A table of rows with a key each: the cursor selects whole rows, one column fills the width, and text is never markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from memlora_mlx.text import printable_line

ColumnSpec = tuple[str, int]  # heading and width in cells; width 0 takes what the other columns leave

MIN_FLEXIBLE_WIDTH = 16  # cells of the column that fills the width


class RowTable(DataTable[Text]):
    """
    Args:
        columns: their headings and widths.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open", tooltip="Open the selected row", id="rows.open"),
        Binding("down,j", "cursor_down", show=False),
        Binding("up,k", "cursor_up", show=False),
        Binding("home", "scroll_top", show=False),
        Binding("end", "scroll_bottom", show=False),
    ]

    def __init__(self, columns: Sequence[ColumnSpec], *, id: str) -> None:
        super().__init__(id=id, cursor_type="row", cell_padding=1)
        for number, (heading, width) in enumerate(columns):
            self.add_column(Text(heading), width=width or MIN_FLEXIBLE_WIDTH, key=f"{number} {heading}")
        self._flexible_column = next(
            (f"{number} {heading}" for number, (heading, width) in enumerate(columns) if not width), None
        )

    def set_rows(self, rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Show these rows, each with its key. The cursor stays on its key."""
        at, place = self.key_at_cursor, self.cursor_row
        self.clear()
        self.extend(rows)
        if at is not None and self.row_count:
            keys = [key for key, _ in rows]
            self.move_cursor(row=keys.index(at) if at in keys else min(place, self.row_count - 1))

    def extend(self, rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        for key, cells in rows:
            self.add_row(*(Text(printable_line(cell), no_wrap=True, overflow="ellipsis") for cell in cells), key=key)

    def show_row(self, key: str, cells: Sequence[str]) -> None:
        """Change the cells of a row."""
        for column, cell in zip(list(self.columns), cells, strict=True):
            self.update_cell(key, column, Text(printable_line(cell), no_wrap=True, overflow="ellipsis"))

    @property
    def key_at_cursor(self) -> str | None:
        if not self.row_count or not 0 <= self.cursor_row < self.row_count:
            return None
        return self.ordered_rows[self.cursor_row].key.value

    def on_resize(self, event: events.Resize) -> None:
        for key, column in self.columns.items():
            if key.value == self._flexible_column:
                others = [other for other in self.columns.values() if other is not column]
                taken = sum(other.width + 2 * self.cell_padding for other in others) + 2 * self.cell_padding
                column.width = max(
                    MIN_FLEXIBLE_WIDTH,
                    # Room for the scroll bar, shown or not: rows that come later must not make the table wider than it is.
                    event.size.width - self.styles.gutter.width - taken - self.styles.scrollbar_size_vertical,
                )
                self._clear_caches()
                self._require_update_dimensions = True
                self.refresh()
