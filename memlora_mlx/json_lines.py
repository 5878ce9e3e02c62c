"""Append-only files of JSON lines: each line is there whole or not at all, and a line that a kill has torn is repaired."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self, TextIO


class LineTooLong(ValueError):
    """A line of a file has no end within what may be read of it."""


class JsonLines:
    """A file that lines are added to, from any thread. Use it in a `with` statement, which repairs a torn last line.

    The values must be JSON objects, lists or texts: half a number cannot be told from a whole one.

    Args:
        sync: flush each line to the disk before `append` returns.

    Raises:
        OSError: the file cannot be read or written.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self.path = path
        self._sync = sync
        self._lock = threading.Lock()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        repair_last_line(self.path)
        self._file = self._open.enter_context(self.path.open("ab", buffering=0))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def append(self, value: Any) -> None:
        """Add a line whole. On an OSError, as of a full disk, nothing of it stays.

        If another process has replaced the file, as an erasing does, the line goes to the new one.
        """
        line = json_line(value)
        with self._lock, self._held():
            size = os.fstat(self._file.fileno()).st_size
            try:
                while line:
                    line = line[self._file.write(line) :]
                if self._sync:
                    os.fsync(self._file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(size)
                raise

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        while True:
            with held(self._file):
                if _is_same(self._file, self.path):
                    yield
                    return
            self._file = self._open.enter_context(self.path.open("ab", buffering=0))


@contextlib.contextmanager
def held(file: IO[bytes]) -> Iterator[None]:
    """Let nobody append to a file meanwhile: for whoever reads it and puts another one in its place.

    A file system that knows no locks goes without.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def _is_same(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:  # it is not there
        return False


def json_line(value: Any) -> bytes:
    """A value as one line of UTF-8; a lone surrogate, which a teacher can write and no file takes, becomes "?"."""
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def read_json_lines(path: Path) -> Iterator[Any]:
    """The values of a file, in order; a line that is not JSON is left out, and a file that is not there has none.

    Raises:
        OSError: the file is there but cannot be read.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return
    for line in data.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            yield json.loads(line)


def bounded_lines(file: TextIO, most: int) -> Iterator[str]:
    """The lines of a text file, of which none may be longer than `most` characters.

    Raises:
        LineTooLong: one is longer; no more of it than that was read.
    """
    number = 0
    while line := file.readline(most + 1):
        number += 1
        if len(line) > most and not line.endswith("\n"):
            raise LineTooLong(f"line {number} is longer than {most:,} characters")
        yield line


def repair_last_line(path: Path) -> None:
    """Cut off a last line that was not written whole; one that lacks only its line end gets it."""
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        data = file.read()
        start = data.rfind(b"\n") + 1
        try:
            json.loads(data[start:])
        except (ValueError, RecursionError):
            file.truncate(start)
        else:
            file.write(b"\n")
