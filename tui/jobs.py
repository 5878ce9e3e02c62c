"""Work in a process of its own: a training, a benchmark, a download.

It has a session of its own and writes to a file, so that it neither shares the app's memory nor ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from memlora_mlx.errors import MemloraError
from memlora_mlx.settings import Settings
from memlora_mlx.text import printable_line

TAIL_BYTES = 64_000  # bytes of a log that are looked at


class Job:
    """A command that runs.

    Args:
        arguments: behind `python -m`.
        log: where its words go; a file beside it holds its process id while it runs.

    Raises:
        MemloraError: it cannot be started.
    """

    def __init__(self, arguments: Sequence[str], settings: Settings, log: Path) -> None:
        self.log = log
        self.is_stopped = False  # it was asked to end
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as out:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **environment_variables(settings), "COLUMNS": "200"},
                    start_new_session=True,
                )
            _pid_file(log).write_text(str(self._process.pid), encoding="ascii")
        except OSError as error:
            raise MemloraError(f"cannot start it ({error.strerror or error}); make room on the disk") from error

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        code = self._process.poll()
        if code is not None:
            with contextlib.suppress(OSError):
                _pid_file(self.log).unlink(missing_ok=True)
        return code

    def stop(self) -> None:
        """Ask it to end as Ctrl-C does: what it has done is kept."""
        if self.poll() is None and not self.is_stopped:  # a second signal would interrupt it at once
            self.is_stopped = True
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGINT)

    @property
    def last_line(self) -> str:
        lines = self.lines()
        return lines[-1] if lines else ""

    def lines(self) -> list[str]:
        """What it has said, without empty lines; of a long log the end."""
        return log_lines(self.log)

    def progress_fields(self) -> tuple[str, int, int] | None:
        """Phase, done and total of the last line that is `phase<TAB>done<TAB>total`; `log_lines` makes blanks of tabs."""
        for line in reversed(self.lines()):
            parts = line.split(" ")
            if len(parts) > 2 and parts[-1].isdigit() and parts[-2].isdigit():
                return " ".join(parts[:-2]), int(parts[-2]), int(parts[-1])
        return None

    def failure_reason(self) -> str:
        """Why it failed, in its own words."""
        told = [line for line in self.lines() if line.startswith("memlora:")]
        return (told[-1].removeprefix("memlora:").strip() if told else self.last_line) or "it ended without a word"


def log_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for raw in text.splitlines() if (line := printable_line(raw))]


def stop_orphaned_job(log: Path) -> bool:
    """Ask a job of an earlier run of the app to end. Whether there was one.

    Call it only where something else shows that the job still runs, such as the lock of its folder.
    """
    try:
        os.killpg(int(_pid_file(log).read_text(encoding="ascii")), signal.SIGINT)
    except (OSError, ValueError):
        return False
    return True


def environment_variables(settings: Settings) -> dict[str, str]:
    """The settings as the variables that `load_settings` reads."""
    said: dict[str, str] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        said[f"MEMLORA_{field.name.upper()}"] = "" if value is None else str(value)
    return said


def _pid_file(log: Path) -> Path:
    return log.with_suffix(".pid")
