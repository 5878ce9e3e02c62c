"""The status bar: the student, its work and speed, the memory in use, and whether the network is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import cast

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.widgets import Static

from memlora_mlx.text import format_bytes, printable_line
from memlora_mlx.tui.base_app import BaseApp

INTERVAL = 0.25  # seconds between two refreshes


StatusPart = tuple[str, int]  # a text, and its rank: where room is short the highest rank is dropped first, 0 never


class StatusBar(Static):
    """One line, updated several times a second and redrawn only when its text changes."""

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
        backend = cast(BaseApp, self.app).backend
        status = backend.status
        student = printable_line(Path(status.student or "no student").name, 24)
        if status.phase in ("waiting", "opening"):
            return [("opening the store …", 0), (backend.has_network_activity, 0)]
        if status.phase == "loading":
            return [(f"{student}: loading … {status.seconds:.0f} s", 0), (backend.has_network_activity, 0)]
        parts: list[StatusPart] = [(student, 0)]
        engine = backend.engine
        if status.phase == "failed" or engine is None:
            parts.append(("✗ not loaded", 0))
        else:
            activity = engine.activity()
            self._tokens_per_second(activity.tokens)
            parts.append((f"▶ {' + '.join(activity.doing)}" if activity.doing else "idle", 0))
            done, total = activity.reading
            if total:
                parts.append((f"reading {100 * done // total} % of {total:,} tokens", 0))
            if self._rate is not None:
                parts.append((f"{self._rate:.0f} tok/s", 1))
            parts.append((format_bytes(activity.bytes), 2))
        if (percent := backend.index_percent) is not None:
            parts.append((f"indexing {percent} %", 1))
        parts += [(f"{name} {state}", 0) for name, state in cast(BaseApp, self.app).background_work.items()]
        parts.append((_count(backend.memories, "memory", "memories"), 0))
        if backend.corrections:
            parts.append((_count(backend.corrections, "correction", "corrections"), 3))
        return [*parts, (backend.has_network_activity, 0)]

    def _tokens_per_second(self, tokens: int) -> None:
        """Update the tokens per second. While the student is idle, the last figure stays."""
        now = monotonic()
        if tokens > self._tokens:
            if self._tokens and now - self._at < 4 * INTERVAL:
                rate = (tokens - self._tokens) / (now - self._at)
                self._rate = rate if self._rate is None else 0.6 * self._rate + 0.4 * rate
            self._tokens, self._at = tokens, now


def fit_parts(parts: Sequence[StatusPart], width: int) -> str:
    """Join the parts in one line of at most `width` cells. The last part, the network's state, is never shortened."""
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
