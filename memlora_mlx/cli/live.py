"""The live line of a long command on a terminal. It goes away at the end, and what is printed meanwhile stands above it."""

from __future__ import annotations

import sys
from typing import Any, Self

from memlora_mlx.cli.options import notes


class LiveLine:
    """A description, a bar, how many of how many, and words of the command's own, on standard error.

    Where that is no terminal nothing is drawn (`is_drawn`), and a command prints a line now and then (`tell`) instead.

    Args:
        says: what stands behind the bar until the first `update`.
        bar_width: cells.
        every: seconds between two lines where nothing is drawn.
        quiet: draw and print nothing.
    """

    def __init__(
        self, description: str, says: str, *, bar_width: int = 24, every: float = 10.0, quiet: bool = False
    ) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.console = notes()
        self.console.quiet = quiet
        self.is_drawn = sys.stderr.isatty() and self.console.is_interactive and not quiet
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=bar_width),
            MofNCompleteColumn(),
            TextColumn("{task.fields[says]}", markup=False),
            console=self.console,
            disable=not self.is_drawn,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # what goes into a file or a pipe must not end on standard error
        )
        self._task = self._bar.add_task(description, total=None, says=says)
        self._every, self._told = every, 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._bar.stop()

    def update(self, **changed: Any) -> None:
        """Draw it anew with another `description`, `completed`, `total` or `says`."""
        self._bar.update(self._task, **changed)

    def tell(self, seconds: float, line: str) -> None:
        """Where nothing is drawn, print this, unless the last such line is not long past; seconds since the beginning."""
        if not self.is_drawn and seconds - self._told >= self._every:
            self._told = seconds
            self.print(line)

    def print(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, markup=False)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
