"""The command on a terminal of its own, as a person has it: questions are read from `/dev/tty`, and Ctrl-C is a key."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

CTRL_C, CTRL_D, CTRL_Q, CTRL_R, ESCAPE = b"\x03", b"\x04", b"\x11", b"\x12", b"\x1b"
F2, F3, F7 = b"\x1bOQ", b"\x1bOR", b"\x1b[18~"
SECONDS = 60.0  # until the command is given up
# In a new session, the first terminal that a process opens becomes its own, on any system with TIOCSCTTY too.
_BEGIN = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class PseudoTerminal:
    """A process whose input, output and errors are one pseudo terminal.

    Args:
        environ: all of its environment.
        arguments: of `memlora`.
        size: rows and columns.
    """

    def __init__(self, environ: Mapping[str, str], *arguments: object, size: tuple[int, int] = (24, 80)) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, size)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN, "-m", "memlora_mlx", *map(str, arguments)],
            env={"TERM": "xterm", **environ},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = b""  # all that was printed
        self._read = 0  # of it, by `wait`

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def wait(self, text: str) -> None:
        """Return when the text was printed since the last `wait`."""
        sought, ends = text.encode(), time.monotonic() + SECONDS
        while (at := self.seen.find(sought, self._read)) < 0:
            assert self._more(ends), f"{text!r} did not come: {self.seen.decode(errors='replace')}"
        self._read = at + len(sought)

    def type(self, keys: bytes | str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode() if isinstance(keys, str) else keys)

    def answer(self, question: str, words: bytes | str) -> None:
        """Wait for a question, and type the answer with Enter."""
        self.wait(question)
        self.type(words if isinstance(words, bytes) else words + "\n")

    def end(self) -> tuple[int, str]:
        """Wait until the command ends. Returns its exit code, and all that it printed."""
        ends = time.monotonic() + SECONDS
        while self._more(ends):
            pass
        assert time.monotonic() < ends, f"it does not end: {self.seen.decode(errors='replace')}"
        code = self._process.wait(timeout=SECONDS)
        return code, self.seen.decode(errors="replace").replace("\r\n", "\n")

    def _more(self, ends: float) -> bool:
        """Read what is printed. False: nothing more comes, or the time is up."""
        if not select.select([self._ours], [], [], max(0.0, ends - time.monotonic()))[0]:
            return False
        piece = b""
        with contextlib.suppress(OSError):  # the other end is closed
            piece = os.read(self._ours, 65536)
        self.seen += piece
        return bool(piece)
