"""`memlora serve --install`: the service's file, the commands that are run for it, and what doctor says of it."""

from __future__ import annotations

import os
import plistlib
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cli_home import environment, run_command
from memory_servers import resident_process

from memlora_mlx.serve.service import service

SCRIPT = """#!/bin/sh
echo "$@" >> "$SEEN"
case "$*" in *"$FAILS"*) echo "no such domain" >&2; exit 5;; esac
"""


@pytest.fixture
def environ(tmp_path: Path, tiny_home: Path, tiny_student: Path, tiny_embedder: Path) -> dict[str, str]:
    """A user's home of its own, with a manager of services that writes down what it was asked."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("systemctl", "launchctl"):
        (tools / name).write_text(SCRIPT)
        (tools / name).chmod(stat.S_IRWXU)
    kept = environment(tiny_home, tiny_student, tiny_embedder)
    kept.pop("XDG_CONFIG_HOME", None)
    return kept | {
        "HOME": str(tmp_path / "user"),
        "PATH": f"{tools}{os.pathsep}{kept['PATH']}",
        "SEEN": str(tmp_path / "seen"),
        "FAILS": "nothing fails",
    }


def test_an_agent_of_launchd_has_all_it_needs(tmp_path: Path) -> None:
    data = tmp_path / "data & more"
    made = service(data, ["--port", "8765"], home=tmp_path, platform="darwin")
    content = plistlib.loads(made.content.encode())
    assert made.path == tmp_path / "Library/LaunchAgents/org.memlora.serve.plist"
    assert content["ProgramArguments"] == [sys.executable, "-m", "memlora_mlx", "serve", "--port", "8765"]
    assert content["EnvironmentVariables"] == {"MEMLORA_HOME": str(data)}
    kinds = {"Label": str, "ProgramArguments": list, "EnvironmentVariables": dict, "RunAtLoad": bool, "KeepAlive": dict}
    kinds |= {"ThrottleInterval": int, "StandardErrorPath": str, "Umask": int}  # as launchd.plist(5) has them
    assert {key: type(value) for key, value in content.items()} == kinds
    assert content["RunAtLoad"] and content["KeepAlive"] == {"SuccessfulExit": False}
    assert made.start[-1] == ("launchctl", "bootstrap", f"gui/{os.getuid()}", str(made.path))


def test_a_unit_of_systemd_quotes_what_has_a_meaning_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    made = service(tmp_path / 'a "b" 100%', ["--upstream", "http://h/$v1"], home=tmp_path, platform="linux")
    assert made.path == tmp_path / ".config/systemd/user/memlora.service"
    assert '\\"b\\" 100%%"' in made.content and '"http://h/$$v1"' in made.content
    if (verify := shutil.which("systemd-analyze")) is not None:
        made.path.parent.mkdir(parents=True)
        made.path.write_text(made.content)
        environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}  # without one it gives up before it reads the unit
        command = [verify, "--user", "verify", made.path]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")  # what it does not understand it only tells


@pytest.mark.skipif(sys.platform == "darwin", reason="the commands are those of Linux")
def test_installing_writes_the_file_runs_the_commands_and_is_undone(environ: dict[str, str], tmp_path: Path) -> None:
    unit = tmp_path / "user/.config/systemd/user/memlora.service"
    (tmp_path / "token").write_text("a token of more than sixteen")
    options = ("--port", "8765", "--token-file", tmp_path / "token", "--student", "smollm2-135m")
    code, out, err = run_command(environ, "serve", *options, "--install", "--dry-run")
    assert code == 0, err
    assert "Would write" in out and "--user enable memlora.service" in out and not unit.exists()
    assert "sixteen" not in out  # the token itself is nowhere
    code, out, err = run_command(environ, "serve", *options, "--install")
    assert code == 0 and "The service runs" in out, err
    text = unit.read_text()
    assert f'"--token-file" "{tmp_path / "token"}"' in text and '"--student" "smollm2-135m"' in text
    assert f'MEMLORA_HOME={environ["MEMLORA_HOME"]}"' in text
    assert [line.split()[1] for line in (tmp_path / "seen").read_text().splitlines()] == [
        "daemon-reload", "enable", "restart",
    ]  # fmt: skip
    code, out, _ = run_command(environ, "doctor")
    assert code == 1 and "does not run" in out and "PROBLEM  serve" in out
    with resident_process(environ):
        code, out, _ = run_command(environ, "doctor")
        assert code == 0 and "`memlora serve` runs as process" in out
    code, out, _ = run_command(environ, "serve", "--uninstall")
    assert code == 0 and not unit.exists() and "disable --now" in (tmp_path / "seen").read_text()
    code, out, _ = run_command(environ, "serve", "--uninstall")
    assert code == 0 and "nothing was changed" in out


@pytest.mark.skipif(sys.platform == "darwin", reason="the commands are those of Linux")
def test_a_command_that_fails_is_told_with_what_to_run(environ: dict[str, str]) -> None:
    code, _, err = run_command(environ | {"FAILS": "enable"}, "serve", "--install")
    assert code == 1 and "no such domain" in err and "run the commands yourself: systemctl --user" in err
    code, _, err = run_command(environ, "serve", "--install", "--host", "0.0.0.0", "--port", "1")
    assert code == 2 and "--token-file" in err
    code, _, err = run_command(environ, "serve", "--dry-run")
    assert code == 2 and "--install" in err
