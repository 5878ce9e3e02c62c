"""The line below the conversation that says that there is more text below what is shown."""

from __future__ import annotations

from textual.containers import VerticalScroll
from textual.widgets import Static


class NewTextMark(Static):
    """Shown while the reader has scrolled up. It says whether text has come since then."""

    DEFAULT_CSS = """
    NewTextMark { height: 1; width: 1fr; text-align: center; color: $text-accent; background: $surface; display: none; }
    """

    def __init__(self, log: VerticalScroll) -> None:
        super().__init__("", markup=False, id="below")
        self._log = log
        self._seen_height = 0  # of the conversation when the reader left its end

    def on_mount(self) -> None:
        self.watch(self._log, "scroll_y", self.look, init=False)
        self.watch(self._log, "virtual_size", self.look, init=False)

    def look(self) -> None:
        """Bring the line up to date with where the reader is."""
        height = self._log.virtual_size.height
        is_at_end = self._log.scroll_y >= self._log.max_scroll_y - 1
        if is_at_end:
            self._seen_height = height
        self.display = not is_at_end
        new = height > self._seen_height
        self.update("▼ new text below (Ctrl+End)" if new else "▼ more below (Ctrl+End)")

    async def on_click(self) -> None:
        await self.run_action("screen.scroll_to_end")
