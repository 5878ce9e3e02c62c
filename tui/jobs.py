"""Work in a separate process: a training, a benchmark or a download.

The process has its own session and writes to a log file. It does not share memory with the app and does not end with it.
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

TAIL_BYTES = 64_000  # bytes that are read from the end of a log


class Job:
    """A running command.

    Args:
        arguments: what follows `python -m`.
        log: the file of its output. While it runs, a file next to the log contains its process id.

    Raises:
        MemloraError: the process cannot be started.
    """

    def __init__(self, arguments: Sequence[str], settings: Settings, log: Path) -> None:
        self.log = log
        self.is_stopped = False  # `stop` was called
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
            raise MemloraError(
                f"Cannot start the process: {error.strerror or error}. Check the free disk space."
            ) from error

    def poll(self) -> int | None:
        """The exit code, or None while the process runs."""
        code = self._process.poll()
        if code is not None:
            with contextlib.suppress(OSError):
                _pid_file(self.log).unlink(missing_ok=True)
        return code

    def stop(self) -> None:
        """Interrupt the process as Ctrl-C does. It saves its work first."""
        if self.poll() is None and not self.is_stopped:  # a second signal would end it without saving
            self.is_stopped = True
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGINT)

    @property
    def last_line(self) -> str:
        lines = self.lines()
        return lines[-1] if lines else ""

    def lines(self) -> list[str]:
        """The lines of its output without empty ones; of a long log only the end."""
        return log_lines(self.log)

    def progress_fields(self) -> tuple[str, int, int] | None:
        """Phase, done and total of the last `phase<TAB>done<TAB>total` line; `log_lines` turns tabs into spaces."""
        for line in reversed(self.lines()):
            parts = line.split(" ")
            if len(parts) > 2 and parts[-1].isdigit() and parts[-2].isdigit():
                return " ".join(parts[:-2]), int(parts[-2]), int(parts[-1])
        return None

    def failure_reason(self) -> str:
        """The error message of the process, or else its last line."""
        told = [line for line in self.lines() if line.startswith("memlora:")]
        return (
            told[-1].removeprefix("memlora:").strip() if told else self.last_line
        ) or "The process ended without output."


def log_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for raw in text.splitlines() if (line := printable_line(raw))]


def stop_orphaned_job(log: Path) -> bool:
    """Stop a job that an earlier run of the app started. Returns whether there was one.

    Call it only if something else shows that the job still runs, such as the lock of its folder.
    """
    try:
        os.killpg(int(_pid_file(log).read_text(encoding="ascii")), signal.SIGINT)
    except (OSError, ValueError):
        return False
    return True


def environment_variables(settings: Settings) -> dict[str, str]:
    """The settings as environment variables that `load_settings` reads."""
    said: dict[str, str] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        said[f"MEMLORA_{field.name.upper()}"] = "" if value is None else str(value)
    return said


def _pid_file(log: Path) -> Path:
    return log.with_suffix(".pid")
