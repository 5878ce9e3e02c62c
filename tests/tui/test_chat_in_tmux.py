"""The real program in a real terminal: tell it something, leave, come back, ask."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_home import environment, store_contents

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

SECONDS = 120.0


class Tmux:
    """One server of its own with one window."""

    def __init__(self, name: str, folder: Path) -> None:
        self._command = ["tmux", "-f", "/dev/null", "-S", str(folder / name)]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True, timeout=30, check=False)
        return done.stdout

    def start(self, environ: dict[str, str]) -> None:
        chosen = [f"{name}={value}" for name, value in environ.items() if name.startswith(("MEMLORA_", "OPENBLAS_"))]
        self(
            "new-session",
            "-d",
            "-x",
            "120",
            "-y",
            "40",
            "env",
            "-u",
            "COLUMNS",
            "-u",
            "LINES",
            *chosen,
            sys.executable,
            "-m",
            "memlora_mlx",
            "chat",
        )

    def type(self, words: str) -> None:
        self("send-keys", "-l", words)
        self("send-keys", "Enter")

    def wait(self, condition: Callable[[str], object], what: str) -> str:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            screen = self("capture-pane", "-p")
            if condition(screen):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"still not so: {what}\n{self('capture-pane', '-p')}")

    def wait_for_the_end(self) -> None:
        self.wait(lambda _: "no server" in self._error() or not self("list-sessions").strip(), "the app has ended")

    def _error(self) -> str:
        done = subprocess.run([*self._command, "list-sessions"], capture_output=True, text=True, check=False)
        return done.stderr


@pytest.fixture
def tmux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tmux]:
    server = Tmux("tmux", tmp_path_factory.mktemp("t"))
    yield server
    server("kill-server")


def test_what_is_told_is_there_after_a_restart(
    tmux: Tmux, tiny_home: Path, varied_student: Path, tiny_embedder: Path
) -> None:
    environ = environment(tiny_home, varied_student, tiny_embedder)
    tmux.start(environ)
    tmux.wait(lambda screen: "Write a message" in screen and "offline" in screen, "the app is up")
    tmux.type("I moved to Rome last week.")
    tmux.type("/remember the doctor said no to coffee")
    tmux.wait(lambda screen: "+ added" in screen, "the notice")
    tmux("send-keys", "C-q")
    tmux.wait_for_the_end()
    found = store_contents(tiny_home)
    assert "I moved to Rome last week." in [text for _, _, _, _, text, *_ in found["messages"]]
    assert "the doctor said no to coffee" in [memory[2] for memory in found["memories"]]

    tmux.start(environ)
    tmux.wait(lambda screen: "Write a message" in screen, "the app is up again")
    tmux.type("what did the doctor say to coffee?")
    screen = tmux.wait(lambda screen: "Given for this reply" in screen and "score" in screen, "the memory is used")
    assert "the doctor said no to coffee" in " ".join(screen.split()).replace("▏ ", "")
    tmux("send-keys", "C-q")
    tmux.wait_for_the_end()
