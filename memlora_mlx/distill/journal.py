"""What a long run has done so far: one JSON line a step, on the disk before it counts, so any stop can be gone on from."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from memlora_mlx.errors import UsageError
from memlora_mlx.json_lines import JsonLines, read_json_lines


class Journal:
    """The lines of a run by their keys; the last line of a key counts. Use it in a `with` statement.

    A last line that a kill has torn is cut off. It may be used from several threads.

    Raises:
        UsageError: another process is writing it, or it cannot be written.
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
                with suppress(KeyError, TypeError):  # what cannot be read is done again
                    self.entries[str(entry["key"])] = entry
        except filelock.Timeout:
            self._open.close()
            raise UsageError(f"another process is writing {self.path}; wait for it or stop it") from None
        except OSError as error:
            self._open.close()
            raise _write_error(self.path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, key: str, **entry: Any) -> dict[str, Any]:
        made = {"key": key, **entry}
        with self._lock:
            try:
                self._file.append(made)
            except OSError as error:
                raise _write_error(self.path, error) from error
            self.entries[key] = made
        return made


def _write_error(path: Path, error: OSError) -> UsageError:
    said = error.strerror or error
    return UsageError(f"cannot write {path} ({said}); free some disk space or choose another place, then go on")
