"""The live line of a long command on a terminal. It goes away at the end, and what is printed meanwhile stands above it."""

from __future__ import annotations

import sys
from typing import Any, Self

from memlora_mlx.cli.options import stderr_console


class ProgressLine:
    """A description, a bar, how many of how many, and words of the command's own, on standard error.

    Where that is no terminal nothing is drawn (`is_live`), and a command prints a line now and then (`tell`) instead.

    Args:
        says: what stands behind the bar until the first `update`.
        bar_width: cells.
        every: seconds between two lines where nothing is drawn.
        quiet: draw and print nothing.
    """

    def __init__(
        self, description: str, details: str, *, bar_width: int = 24, every: float = 10.0, quiet: bool = False
    ) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.console = stderr_console()
        self.console.quiet = quiet
        self.is_live = sys.stderr.isatty() and self.console.is_interactive and not quiet
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=bar_width),
            MofNCompleteColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            console=self.console,
            disable=not self.is_live,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # what goes into a file or a pipe must not end on standard error
        )
        self._task = self._bar.add_task(description, total=None, details=details)
        self._interval, self._logged_at = every, 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._bar.stop()

    def update(self, **changed: Any) -> None:
        """Draw it again with another `description`, `completed`, `total` or `details`."""
        self._bar.update(self._task, **changed)

    def log_every(self, seconds: float, line: str) -> None:
        """Where nothing is drawn, print this, unless the last such line is not long past; seconds since the beginning."""
        if not self.is_live and seconds - self._logged_at >= self._interval:
            self._logged_at = seconds
            self.print(line)

    def print(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, markup=False)
