"""A JSONL journal: one entry per finished step, written before the step counts, so that a run can resume."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from memlora_mlx.errors import UsageError
from memlora_mlx.json_lines import JsonLines, read_json_lines


class Journal:
    """The entries of a run by their keys; the last entry of a key counts. Use it in a `with` statement.

    A last line that is incomplete because the process was killed is removed. Several threads may use a journal.

    Raises:
        UsageError: another process is writing the file, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        self._open = ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        import filelock

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open.enter_context(filelock.FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0))
            self._file = self._open.enter_context(JsonLines(self.path))
            for entry in read_json_lines(self.path):
                with suppress(KeyError, TypeError):  # the step of an entry that cannot be read is done again
                    self.entries[str(entry["key"])] = entry
        except filelock.Timeout:
            self._open.close()
            raise UsageError(f"Another process is writing {self.path}. Wait for it, or stop it first.") from None
        except OSError as error:
            self._open.close()
            raise _write_error(self.path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, key: str, **fields: Any) -> dict[str, Any]:
        """Write an entry. Returns it."""
        entry = {"key": key, **fields}
        with self._lock:
            try:
                self._file.append(entry)
            except OSError as error:
                raise _write_error(self.path, error) from error
            self.entries[key] = entry
        return entry


def _write_error(path: Path, error: OSError) -> UsageError:
    reason = error.strerror or error
    return UsageError(
        f"Cannot write {path} ({reason}). Free disk space or choose another folder, and run the command again."
    )
