"""The status bar: which student, what it is doing, how fast, what it takes, and that nothing leaves the machine."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.widgets import Static

from memlora_mlx.tui.text import plain, size

if TYPE_CHECKING:
    from memlora_mlx.tui.app import MemloraApp

INTERVAL = 0.25  # seconds between two looks at the engine


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
        line = "  │  ".join(self.parts())
        if line != self._shown:
            self._shown = line
            self.update(Content(line))

    def parts(self) -> list[str]:
        session = cast("MemloraApp", self.app).session
        status = session.status
        student = plain(Path(status.student or "no student").name, 24)
        if status.phase in ("waiting", "opening"):
            return ["opening the store …", session.network]
        if status.phase == "loading":
            return [f"{student}: loading … {status.seconds:.0f} s", session.network]
        parts = [student]
        engine = session.engine
        if status.phase == "failed" or engine is None:
            parts.append("✗ not loaded")
        else:
            activity = engine.activity()
            self._measure(activity.tokens)
            parts.append(f"▶ {' + '.join(activity.doing)}" if activity.doing else "idle")
            if self._rate is not None:
                parts.append(f"{self._rate:.0f} tok/s")
            parts.append(size(activity.bytes))
        parts.append(_count(session.memories, "memory", "memories"))
        if session.corrections:
            parts.append(_count(session.corrections, "correction", "corrections"))
        return [*parts, session.network]

    def _measure(self, tokens: int) -> None:
        """Tokens a second since the last look at which some were written; the last figure stays while idle."""
        now = monotonic()
        if tokens > self._tokens:
            if self._tokens and now - self._at < 4 * INTERVAL:
                rate = (tokens - self._tokens) / (now - self._at)
                self._rate = rate if self._rate is None else 0.6 * self._rate + 0.4 * rate
            self._tokens, self._at = tokens, now


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
