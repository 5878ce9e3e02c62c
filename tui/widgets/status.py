"""The status bar: which student, what it is doing, how fast, what it takes, and that nothing leaves the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.widgets import Static

from memlora_mlx.text import format_bytes, printable_line

if TYPE_CHECKING:
    from memlora_mlx.tui.app import MemloraApp

INTERVAL = 0.25  # seconds between two looks at the engine


StatusPart = tuple[str, int]  # words, and how soon they go where there is little room; 0: never


class StatusBar(Static):
    """One line, brought up to date a few times a second; it is drawn anew only when it says something else."""

    DEFAULT_CSS = """
    StatusBar { height: 1; padding: 0 1; background: $panel; color: $foreground; }
    """

    def __init__(self) -> None:
        super().__init__(id="status", markup=False)
        self._shown = ""
        self._tokens, self._at = 0, monotonic()
        self._rate: float | None = None

    def on_mount(self) -> None:
        self.set_interval(INTERVAL, self.refresh_status)
        self.refresh_status()

    def refresh_status(self) -> None:
        line = fit_parts(self.parts(), self.size.width - 2)
        if line != self._shown:
            self._shown = line
            self.update(Content(line))

    def on_resize(self) -> None:
        self.refresh_status()

    def parts(self) -> list[StatusPart]:
        session = cast("MemloraApp", self.app).backend
        status = session.status
        student = printable_line(Path(status.student or "no student").name, 24)
        if status.phase in ("waiting", "opening"):
            return [("opening the store …", 0), (session.has_network_activity, 0)]
        if status.phase == "loading":
            return [(f"{student}: loading … {status.seconds:.0f} s", 0), (session.has_network_activity, 0)]
        parts: list[StatusPart] = [(student, 0)]
        engine = session.engine
        if status.phase == "failed" or engine is None:
            parts.append(("✗ not loaded", 0))
        else:
            activity = engine.activity()
            self._tokens_per_second(activity.tokens)
            parts.append((f"▶ {' + '.join(activity.doing)}" if activity.doing else "idle", 0))
            if self._rate is not None:
                parts.append((f"{self._rate:.0f} tok/s", 1))
            parts.append((format_bytes(activity.bytes), 2))
        parts.append((_count(session.memories, "memory", "memories"), 0))
        if session.corrections:
            parts.append((_count(session.corrections, "correction", "corrections"), 3))
        return [*parts, (session.has_network_activity, 0)]

    def _tokens_per_second(self, tokens: int) -> None:
        """Tokens a second since the last look at which some were written; the last figure stays while idle."""
        now = monotonic()
        if tokens > self._tokens:
            if self._tokens and now - self._at < 4 * INTERVAL:
                rate = (tokens - self._tokens) / (now - self._at)
                self._rate = rate if self._rate is None else 0.6 * self._rate + 0.4 * rate
            self._tokens, self._at = tokens, now


def fit_parts(parts: Sequence[StatusPart], width: int) -> str:
    """The parts in one line of at most `width` cells; the last one, which says whether we are offline, always whole."""
    kept = list(parts)
    line = "  │  ".join(words for words, _ in kept)
    while cell_len(line) > width > 0:
        line = " │ ".join(words for words, _ in kept)
        going = max(kept, key=lambda part: part[1])
        if cell_len(line) <= width or not going[1]:
            break
        kept.remove(going)
    if cell_len(line) > width > 0:
        last = f" │ {kept[-1][0]}"
        line = set_cell_size(line.removesuffix(last), max(0, width - cell_len(last) - 1)) + f"…{last}"
    return line


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
