"""How the full-screen app feels: start to first paint, and key to echo while the student is writing.

    python -m benchmarks.tui_latency [--starts N] [--keys N] [--student NAME] [--json FILE]

The real program runs in a terminal of its own (a pty) with an empty store and the models of this machine. The first paint
is there when the prompt is; an echo is there when the letter that was typed comes back for the first time. Beside the
wall time stands the processor time that the program had taken by then: on a busy machine the two lie far apart.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import pty
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import load_settings

SIZE = (30, 110)  # rows and columns
FIRST_PAINT = 0.45  # seconds, the targets
ECHO = 0.02
LETTERS = "αβγδεζηθικλμνξοπρστυφχψωбвгджзийлнптуфцчшщыэюя"  # none is on the screen before it is typed
PROMPT = "rite a message"  # the cursor is drawn on its first letter
# A student that talks replies to it; one that does not writes down the facts in it. Both take long.
TOLD = " ".join(
    f"My friend {name} moved to {place} and works there as a nurse."
    for name in ("Ann", "Tom", "Maya", "Leo")
    for place in ("Graz", "Cork")
)


class Terminal:
    """The program in a pty, and all that it has written."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.output = ""
        self._rest = b""
        self.began = time.perf_counter()
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "memlora_mlx", "chat"], environ)
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))

    def write(self, text: str) -> None:
        os.write(self._file, text.encode())

    def wait(self, words: str, *, since: int = 0, seconds: float = 120.0) -> bool:
        """Read until the words are there, from a place in `seen` on; False when it takes too long or the program ends."""
        end = time.perf_counter() + seconds
        while words not in self.output[since:]:
            left = end - time.perf_counter()
            if left <= 0 or not self._read(left):
                return words in self.output[since:]
        return True

    def _read(self, seconds: float) -> bool:
        if not select.select([self._file], [], [], seconds)[0]:
            return False
        try:
            data = self._rest + os.read(self._file, 65536)
        except OSError:  # the program has ended
            return False
        text = data.decode("utf-8", "ignore")
        self._rest = b"" if text.encode() == data else data[len(text.encode()) :]
        self.output += text
        return bool(data)

    def processor_seconds(self) -> float | None:
        """What the program has taken of the processors so far; None where that cannot be told."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Ask it to leave; end it if it does not."""
        self.write("\x11")
        for number in (None, signal.SIGKILL):
            if number is not None:
                os.kill(self.pid, number)
            for _ in range(400):
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    os.close(self._file)
                    return
                self._read(0.05)


def first_paint_times(environ: dict[str, str], starts: int) -> list[dict[str, float | None]]:
    """Seconds of each start, after one that does not count."""
    rows: list[dict[str, float | None]] = []
    for number in range(starts + 1):
        terminal = Terminal(environ)
        if not terminal.wait(PROMPT):
            terminal.close()
            raise SystemExit(f"the app did not start; it wrote: {terminal.output[-400:]!r}")
        taken, processor = time.perf_counter() - terminal.began, terminal.processor_seconds()
        terminal.close()
        if number:
            rows.append({"seconds": taken, "processor_seconds": processor})
    return rows


def echo_latencies(environ: dict[str, str], keys: int) -> list[float]:
    """Seconds from each key to its echo, while a reply is being written."""
    terminal = Terminal(environ)
    taken: list[float] = []
    try:
        if not terminal.wait("idle"):
            raise SystemExit(f"the student did not load; the app wrote: {terminal.output[-400:]!r}")
        while len(taken) < keys:
            since = len(terminal.output)
            terminal.write(TOLD + "\r")
            if not terminal.wait("▶", since=since):
                raise SystemExit("the student did not begin")
            before = len(taken)
            for letter in LETTERS:
                since = len(terminal.output)
                begun = time.perf_counter()
                terminal.write(letter)
                if not terminal.wait(letter, since=since, seconds=10.0):
                    raise SystemExit("a key had no echo")
                if "idle" in terminal.output[since:]:
                    break  # the reply has ended
                taken.append(time.perf_counter() - begun)
                terminal.wait("\0", since=since, seconds=0.1)  # nobody types faster
            if len(taken) == before:
                raise SystemExit("the replies are too short to type in; choose another student")
            terminal.write("\x1b")  # stop, and empty the prompt
            terminal.wait("idle", since=since)
            terminal.write("\x15" + "\x7f" * len(LETTERS))
            terminal.wait("\0", since=since, seconds=0.5)
    finally:
        terminal.close()
    return taken[:keys]


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--keys", type=int, default=60)
    parser.add_argument("--student", help="by default the one of the settings")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args(argv)

    settings = load_settings({"student": arguments.student})
    with Workspace(settings) as workspace:
        student = workspace.student_name
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "models").symlink_to(settings.models_folder.absolute())
        environ = {**os.environ, "MEMLORA_HOME": home, "MEMLORA_STUDENT": student, "TERM": "xterm-256color"}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its byte code
        environ["PYTHONPYCACHEPREFIX"] = str(Path(home) / "byte-code")
        paints = first_paint_times(environ, arguments.starts)
        typed = echo_latencies(environ, arguments.keys)

    walls = [row["seconds"] or 0.0 for row in paints]
    processors = [row["processor_seconds"] for row in paints if row["processor_seconds"] is not None]
    rows: list[dict[str, Any]] = [
        {"name": "start to first paint", "values": walls, "target": FIRST_PAINT},
        {"name": "processor time of it", "values": processors, "target": None},
        {"name": "key to echo while writing", "values": typed, "target": ECHO},
    ]
    print(f"{'':<28} {'p50':>8} {'p95':>8} {'runs':>5}   target")
    for row in rows:
        values = row.pop("values")
        row |= {"p50": quantile(values, 0.5), "p95": quantile(values, 0.95), "runs": len(values)} if values else {}
        if values:
            target = "" if row["target"] is None else f"{1000 * row['target']:.0f} ms"
            met = "" if row["target"] is None else ("  met" if row["p50"] <= row["target"] else "  missed")
            print(
                f"{row['name']:<28} {1000 * row['p50']:>5.0f} ms {1000 * row['p95']:>5.0f} ms {row['runs']:>5}   {target}{met}"
            )
    load = [round(value, 2) for value in os.getloadavg()]
    print(f"load of the machine at the end: {load[0]} on {os.cpu_count()} processors")
    report = {
        "benchmark": "tui_latency",
        "rows": rows,
        "student": student,
        "load": load,
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "textual": version("textual"),
        "memlora": version("memlora-mlx"),
    }
    print(json.dumps(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
