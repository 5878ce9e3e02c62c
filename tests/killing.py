"""Commands killed with -9 at random moments, again and again: the tests do it a few times, the soak for as long as it lasts."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from cli_home import exchanges_done, start_command

# Imports first and then waits, so that the moments fall into the work and not into Python's start.
_READY = """
import sys
import memlora_mlx.memory.store.store, memlora_mlx.models.decoding, mlx_lm.utils, transformers.tokenization_utils_tokenizers
from memlora_mlx.cli import main
print("ready", flush=True)
sys.stdin.readline()
main(["ingest", sys.argv[1]])
"""


def kill_ingests(environ: dict[str, str], home: Path, talk: Path, kills: int, seed: int) -> list[int]:
    """Kill so many ingests of one file, then let two run to the end. Returns how many exchanges were done after each."""

    def ready() -> subprocess.Popen[str]:
        command, pipe = [sys.executable, "-c", _READY, str(talk)], subprocess.PIPE
        return subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, text=True)

    moments = random.Random(seed)
    progress = [0]
    waiting = deque([ready(), ready()])
    for turn in range(kills):
        with waiting.popleft() as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            if turn % 2:  # however slow the machine is, half of them come this far
                while exchanges_done(home) == progress[-1] and process.poll() is None:
                    time.sleep(0.01)
            time.sleep(moments.uniform(0.0, 0.3))
            process.kill()
        waiting.append(ready())
        progress.append(exchanges_done(home))
    for process in waiting:  # the last two run to the end, one after the other
        process.communicate("go\n", timeout=120)
        assert process.returncode == 0
    return progress


def kill_chats(environ: dict[str, str], home: Path, kills: int, seed: int) -> list[str]:
    """Kill so many plain chats of one conversation. Returns the lines that were sent, in order.

    A line counts as sent when its reply has begun.
    """
    moments = random.Random(seed)
    sent: list[str] = []
    conversation: list[str] = []
    for number in range(kills):
        with start_command(environ, "chat", *conversation) as process:
            for part in range(moments.randint(1, 2)):
                if part:
                    _wait_for_the_reply(process)
                sent.append(f"I moved to town {number}-{part}.")
                _write(process, sent[-1])
                assert process.stdout is not None and os.read(process.stdout.fileno(), 1)
            time.sleep(moments.uniform(0.0, 0.3))
            process.kill()
        conversation = ["--conversation", only_conversation(home)]
    return sent


def only_conversation(home: Path) -> str:
    """The id of the one conversation in a store."""
    with sqlite3.connect(home / "store" / "memories.db") as database:
        [[found]] = database.execute("SELECT public_id FROM conversations").fetchall()
    return str(found)


def said_in_chats(home: Path) -> list[str]:
    """What users said in conversations, as it is in the store."""
    with sqlite3.connect(home / "store" / "memories.db") as database:
        return [row[0] for row in database.execute("SELECT text FROM turns WHERE role = 'user' ORDER BY id")]


def _write(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _wait_for_the_reply(process: subprocess.Popen[str]) -> None:
    """Wait until the last reply has ended, and read all of it."""
    _write(process, "/what")  # is answered behind it
    assert process.stderr is not None and process.stdout is not None
    while "/memories lists" not in process.stderr.readline():
        pass
    os.set_blocking(process.stdout.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while os.read(process.stdout.fileno(), 65536):
            pass
    os.set_blocking(process.stdout.fileno(), True)
