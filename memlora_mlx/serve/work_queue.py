"""Work that is done later: a folder with one file for each call that nobody waits for.

What a chat said is put here the moment its reply is given, and the transcript of a session when it ends, so that neither
waits for the student. The resident process works the files off in order. A file stays until its call is done, and calls
carry keys, so that a killed process loses nothing and stores nothing twice.

This module loads nothing slow, because hooks write here.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlora_mlx.errors import MemloraError, StoreBroken
from memlora_mlx.files import atomic_write, private_folder
from memlora_mlx.sealed_files import PLAIN, Sealer
from memlora_mlx.settings import WORK_QUEUE, has_key_file

LOCK_FILE = "worker.lock"  # in the folder; held by the process that works it off
MAX_WAITING = 10_000  # calls; a worker that never runs must not fill the disk
_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A call of an operation that waits."""

    path: Path
    operation: str
    arguments: dict[str, Any]


class WorkQueue:
    """The calls that wait in a data folder."""

    def __init__(self, home: Path) -> None:
        self._store = home / "store"
        self.folder = home / WORK_QUEUE
        self.failed = self.folder / "failed"

    def put(self, operation: str, arguments: Mapping[str, Any]) -> Path:
        """Queue a call; it is on the disk when this returns.

        Raises:
            MemloraError: the folder cannot be written, or too many calls wait already.
            StoreLocked: the store is encrypted, and so are its calls, but the key cannot be had.
        """
        self.make_folder()
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(_counter):06d}.json"
        if self.count() >= MAX_WAITING:
            raise MemloraError(
                f"{MAX_WAITING:,} calls wait in {self.folder}; run `memlora serve`, which works them off"
            )
        path = self.folder / name
        content = json.dumps({"operation": operation, "arguments": dict(arguments)}).encode()
        try:
            if has_key_file(self._store):
                from memlora_mlx.memory.store.keys import key_lock

                with key_lock(self._store):
                    self._sealer().write(path, content)
            else:
                atomic_write(path, content)
                if has_key_file(self._store):
                    self._seal_afterwards(path)
        except OSError as error:
            raise MemloraError(f"cannot write {self.folder}: {error.strerror}; check its permissions") from error
        return path

    def _seal_afterwards(self, path: Path) -> None:
        """Encrypt a call that was written plain while an encryption began. Raises StoreLocked: it is removed then."""
        from memlora_mlx.memory.store.keys import key_lock

        try:
            with key_lock(self._store), contextlib.suppress(FileNotFoundError):  # a worker may just have done it
                self._sealer().reseal(path)
        except MemloraError:
            path.unlink(missing_ok=True)
            raise

    def make_folder(self) -> None:
        """Raises MemloraError: it cannot be made."""
        try:
            private_folder(self.folder)
        except OSError as error:
            raise MemloraError(f"cannot make {self.folder}: {error.strerror}; check its permissions") from error

    def next(self) -> QueuedCall | None:
        """The call that has waited longest. A file that is none is put with the failed ones.

        Raises:
            StoreLocked: the store is encrypted and its key cannot be had.
        """
        for path in self._paths():
            try:
                content = json.loads(self._sealer().read(path))
                return QueuedCall(path, str(content["operation"]), dict(content["arguments"]))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError, StoreBroken):
                self._set_aside(path)
        return None

    def done(self, call: QueuedCall) -> None:
        call.path.unlink(missing_ok=True)

    def fail(self, call: QueuedCall) -> None:
        """Keep a call aside that can never be done."""
        self._set_aside(call.path)

    def count(self) -> int:
        return len(self._paths())

    def count_failed(self) -> int:
        return len(list(self.failed.glob("*.json")))

    def _sealer(self) -> Sealer:
        if not has_key_file(self._store):
            return PLAIN
        from memlora_mlx.memory.store.keys import sealer_of  # here: a hook has no use for SQLite otherwise

        return sealer_of(self._store)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))

    def _set_aside(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            private_folder(self.failed)
            path.replace(self.failed / path.name)
