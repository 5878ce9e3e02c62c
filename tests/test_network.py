"""After a pull nothing leaves the machine: no socket, no look-up of a name, no telemetry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_home import TALK, environment

# An audit hook sees every socket of the interpreter, also those that a library opens behind its callers.
_WATCHED = """
import json, socket, sys

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.connect"):
        place = arguments[0 if event.startswith("socket.get") else 1]
        if event.startswith("socket.get") or arguments[0].family != getattr(socket, "AF_UNIX", None):
            print(f"NETWORK {event} {place}", file=sys.stderr, flush=True)

sys.addaudithook(watch)
from memlora_mlx.cli import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as left:
        assert not left.code, f"{command}: {left.code}"
"""


def watched(environ: dict[str, str], script: str, commands: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, commands], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return "\n".join(line for line in done.stderr.splitlines() if line.startswith("NETWORK"))


def test_no_command_opens_a_connection(
    tmp_path: Path, tiny_home: Path, varied_student: Path, tiny_embedder: Path
) -> None:
    (tmp_path / "talk.txt").write_text(TALK)
    commands = [
        ["ingest", str(tmp_path / "talk.txt"), "--limit", "2"],
        ["ask", "Where does Ann live?"],
        ["memory", "search", "Rome"],
        ["memory", "list"],
        ["memory", "export", str(tmp_path / "backup")],
        ["models", "list"],
        ["doctor"],
    ]
    environ = environment(tiny_home, varied_student, tiny_embedder)
    assert watched(environ, _WATCHED, json.dumps(commands)) == ""


def test_the_watch_would_see_a_connection(tmp_path: Path) -> None:
    reach = "\nimport socket\ntry: socket.create_connection(('127.0.0.1', 9), 0.1)\nexcept OSError: pass\n"
    seen = watched(environment(tmp_path, tmp_path, tmp_path), _WATCHED + reach, "[]")
    assert "NETWORK socket.connect ('127.0.0.1', 9)" in seen


@pytest.mark.starter
def test_the_starter_remembers_and_answers_without_a_network(tmp_path: Path, starter_models: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").symlink_to(starter_models)
    (tmp_path / "talk.txt").write_text("8 May 2023\nAnn: I moved to Rome last week.\nBob: Lovely!\n")
    environ = environment(tmp_path / "home", Path("smollm2-135m"), Path("all-minilm-l6-v2"))
    commands = [["ingest", str(tmp_path / "talk.txt")], ["ask", "Where did Ann move?", "--json"]]
    assert watched(environ, _WATCHED, json.dumps(commands)) == ""
