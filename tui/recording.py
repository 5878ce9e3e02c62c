"""Record a short session of the real program: tell it something, see it noted, correct it, ask again, look at the memory.

    python -m memlora_mlx.tui.recording FOLDER [--student NAME] [--size 80x24]

The program runs in a terminal of its own with an empty store and the models of this machine; nothing in it is made up. The
session is written to FOLDER/session.cast in asciinema's format, and drawn as FOLDER/session.svg, an animation. This needs the
extra `recording`: termtosvg draws, and pyte, which it brings, reads the terminal.
"""

from __future__ import annotations

import argparse
import codecs
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from memlora_mlx.settings import load_settings

SECONDS = 120.0  # that a step may take on a busy machine
KEY_SECONDS = 0.055  # between two keys
LONGEST_PAUSE = 1.6  # seconds for which the recording shows the same screen
SESSION = (  # what is typed, and what the screen shows then
    ("I live in Vienna.", "Noted: lives in Vienna"),
    ("Where do I live?", "You live in Vienna"),
    ("I live in Graz now.", "Changed: lives in Graz"),
    ("Where do I live?", "You live in Graz"),
)


class RecordedTerminal:
    """The program in a pty, its screen, and all that it has written with the times."""

    def __init__(self, environ: dict[str, str], columns: int, rows: int) -> None:
        emulator: Any = import_module("pyte")
        self._screen = emulator.Screen(columns, rows)
        self._stream = emulator.Stream(self._screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.events: list[tuple[float, str]] = []
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "memlora_mlx", "chat"], environ)
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._began = time.monotonic()

    @property
    def text(self) -> str:
        return "\n".join(self._screen.display)

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def read_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._file], [], [], left)[0]:
                return
            try:
                data = os.read(self._file, 65536)
            except OSError:  # the program has ended
                return
            text = self._decoder.decode(data)
            self.events.append((self.now, text))
            self._stream.feed(text)

    def wait(self, words: str) -> None:
        """Wait until the screen shows these words. Raises SystemExit when it takes too long."""
        end = time.monotonic() + SECONDS
        while words not in self.text:
            if time.monotonic() > end:
                raise SystemExit(f"the screen does not show {words!r}:\n{self.text}")
            self.read_for(0.1)

    def type(self, words: str) -> None:
        for key in words:
            os.write(self._file, key.encode())
            self.read_for(KEY_SECONDS)

    def close(self) -> None:
        os.write(self._file, b"\x11")
        end = time.monotonic() + 20
        while time.monotonic() < end and not os.waitpid(self.pid, os.WNOHANG)[0]:
            try:
                select.select([self._file], [], [], 0.1)
                os.read(self._file, 65536)
            except OSError:
                pass


def record(environ: dict[str, str], columns: int, rows: int) -> list[tuple[float, str]]:
    """Hold the session. Returns what the terminal wrote, each piece with the seconds since the first screen."""
    terminal = RecordedTerminal(environ, columns, rows)
    try:
        terminal.wait("idle")  # the student is loaded
        begins = len(terminal.events)
        for typed, shown in SESSION:
            terminal.type(typed)
            terminal.read_for(0.3)
            terminal.type("\r")
            terminal.wait(shown)
            terminal.read_for(LONGEST_PAUSE)
            terminal.events.append((terminal.now, ""))  # the pause belongs to the recording
        terminal.type("\x0f")  # Ctrl+O: the panel, with the focus on the memory of the reply and its keys below
        terminal.wait("Given for this reply")
        terminal.read_for(LONGEST_PAUSE)
        terminal.events.append((terminal.now, ""))
    finally:
        events = list(terminal.events)
        terminal.close()
    start = events[begins - 1][0]
    return [(max(0.0, at - start), text) for at, text in events]


def shortened(events: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """The events with no pause above `LONGEST_PAUSE`."""
    found, before, now = [], 0.0, 0.0
    for at, text in events:
        now += min(at - before, LONGEST_PAUSE)
        before = at
        found.append((round(now, 3), text))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--student", help="by default the one of the settings")
    parser.add_argument("--size", default="80x24", help="columns and rows")
    arguments = parser.parse_args(argv)
    columns, rows = map(int, arguments.size.split("x"))
    settings = load_settings({"student": arguments.student})
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "models").symlink_to(settings.models_folder.absolute())
        environ = {**os.environ, "MEMLORA_HOME": home, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        if settings.student is not None:
            environ["MEMLORA_STUDENT"] = settings.student
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environ.pop(name, None)
        events = shortened(record(environ, columns, rows))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    cast, picture = arguments.folder / "session.cast", arguments.folder / "session.svg"
    head = {"version": 2, "width": columns, "height": rows, "title": "memlora chat"}
    lines = [json.dumps(head), *(json.dumps([at, "o", text], ensure_ascii=False) for at, text in events)]
    cast.write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "termtosvg", "render", str(cast), str(picture), "-t", "window_frame"], check=True
    )
    print(f"{events[-1][0]:.0f} seconds in {cast}, drawn in {picture}")


if __name__ == "__main__":
    main()
