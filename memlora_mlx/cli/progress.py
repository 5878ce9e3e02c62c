"""The progress line of a long command on a terminal. Other output is printed above it; it disappears at the end."""

from __future__ import annotations

import sys
from typing import Any, Self

from memlora_mlx.cli.console import stderr_console


class ProgressLine:
    """A description, a bar, a count and details, on standard error.

    If standard error is not a terminal, nothing is drawn (`is_live` is false); `log_every` prints lines instead.

    Args:
        details: text behind the bar until the first `update`.
        bar_width: in terminal columns.
        every: seconds between two lines of `log_every`.
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
            redirect_stdout=sys.stdout.isatty(),  # output into a file or a pipe must not be redirected to standard error
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
        """Redraw with another `description`, `completed`, `total` or `details`."""
        self._bar.update(self._task, **changed)

    def log_every(self, seconds: float, line: str) -> None:
        """Print this line if no bar is drawn and the last line is long enough ago; `seconds` counts from the start."""
        if not self.is_live and seconds - self._logged_at >= self._interval:
            self._logged_at = seconds
            self.print(line)

    def print(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, markup=False)
