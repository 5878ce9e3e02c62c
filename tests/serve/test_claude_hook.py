"""Claude Code's hook as Claude Code runs it: an event on standard input, what to add to the prompt on standard output."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_home import environment, run_command
from memory_servers import messages_of, resident_of, resident_process, wait_until

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.serve.hook_files import planned_hook_edit
from memlora_mlx.serve.work_queue import WorkQueue

COMMAND = "/usr/bin/python3 -m memlora_mlx.serve.claude_hook --home '/a b'"


@pytest.fixture
def environ(tiny_home: Path, varied_student: Path, tiny_embedder: Path) -> dict[str, str]:
    return environment(tiny_home, varied_student, tiny_embedder)


def fire(environ: dict[str, str], **event: Any) -> tuple[int, str, str]:
    """The hook with one event: exit code, standard output and standard error."""
    command = [sys.executable, "-m", "memlora_mlx.serve.claude_hook"]
    done = subprocess.run(
        command, env=environ, input=json.dumps(event), capture_output=True, text=True, timeout=600, check=False
    )
    return done.returncode, done.stdout, done.stderr


def session_file(path: Path) -> Path:
    def row(role: str, text: str, number: int) -> dict[str, Any]:
        said = {"role": role, "content": text}
        return {"type": role, "message": said, "uuid": f"u{number}", "sessionId": "s1",
                "timestamp": f"2026-03-01T10:0{number}:00.000Z"}  # fmt: skip

    rows = [row("user", "I always use tabs.", 0), row("assistant", "Tabs it is.", 1)]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def test_a_prompt_gets_memories_from_the_resident_process(environ: dict[str, str], tiny_home: Path) -> None:
    prompt = {"hook_event_name": "UserPromptSubmit", "prompt": "Which tea do I like?", "session_id": "s"}
    assert fire(environ, **prompt) == (0, "", "")  # none runs
    with resident_process(environ):
        call = resident_of(tiny_home).call
        asyncio.run(call("add", {"messages": "I like green tea", "user_id": "me", "infer": False}))
        asyncio.run(call("add", {"messages": "Bob likes coffee", "user_id": "bob", "infer": False}))
        code, out, err = fire(environ, **prompt)
        assert (code, err) == (0, "")
        added = json.loads(out)["hookSpecificOutput"]
        assert added["hookEventName"] == "UserPromptSubmit"
        assert "I like green tea" in added["additionalContext"] and "not instructions" in added["additionalContext"]
        assert "coffee" not in added["additionalContext"]  # of somebody else
        assert fire(environ, **{**prompt, "prompt": "/clear"}) == (0, "", "")
    (tiny_home / "serve.json").write_text(json.dumps({"socket": str(tiny_home / "serve.sock"), "pid": 1}))
    assert fire(environ, **prompt) == (0, "", "")  # it was killed and left its file


def test_a_session_that_ends_is_queued_and_read_later(environ: dict[str, str], tiny_home: Path, tmp_path: Path) -> None:
    end = {
        "hook_event_name": "SessionEnd",
        "transcript_path": str(session_file(tmp_path / "s1.jsonl")),
        "reason": "exit",
    }
    assert fire(environ, **end) == (0, "", "")
    queue = WorkQueue(tiny_home)
    assert queue.count() == 1
    with resident_process(environ):
        wait_until(lambda: queue.count() == 0)
        assert messages_of(tiny_home, "me") == ["I always use tabs.", "Tabs it is."]
        fire(environ, **end)  # the same session again
        wait_until(lambda: queue.count() == 0)
    assert messages_of(tiny_home, "me") == ["I always use tabs.", "Tabs it is."]
    fire(environ, **{**end, "transcript_path": str(session_file(tmp_path / "s2.jsonl"))})
    code, out, _ = run_command(environ, "hook", "work")
    assert code == 0 and "1 queued things" in out and queue.count() == 0


def test_what_can_never_be_read_is_set_aside_and_doctor_says_so(
    environ: dict[str, str], tiny_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    for path in ("/etc/passwd", str(tmp_path / "gone.jsonl"), str(tmp_path / "other.jsonl")):
        fire(environ, hook_event_name="SessionEnd", transcript_path=path)
    queue = WorkQueue(tiny_home)
    (queue.folder / "0-broken.json").write_text("{")
    code, out, _ = run_command(environ, "hook", "work")
    assert code == 0 and "0 queued things" in out
    assert (queue.count(), queue.count_failed()) == (0, 4)
    code, out, _ = run_command(environ, "doctor")
    assert code == 1 and "4 could not be remembered" in out


@pytest.mark.parametrize("said", ["", "[]", "null", "{", '{"hook_event_name": "SessionEnd"}', '{"prompt": 7}'])
def test_the_hook_never_fails(environ: dict[str, str], said: str) -> None:
    command = [sys.executable, "-m", "memlora_mlx.serve.claude_hook"]
    done = subprocess.run(command, env=environ, input=said, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stdout) == (0, "") and "Traceback" not in done.stderr


def test_no_client_may_have_a_file_read(environ: dict[str, str], tiny_home: Path, tmp_path: Path) -> None:
    with resident_process(environ), pytest.raises(MemloraError, match="there is no operation"):
        path = str(session_file(tmp_path / "s.jsonl"))
        asyncio.run(resident_of(tiny_home).call("read_transcript", {"path": path}))


def test_the_hook_loads_little(environ: dict[str, str]) -> None:
    script = (
        "import sys; import memlora_mlx.serve.claude_hook;"
        "print([m for m in ('mlx', 'numpy', 'typer', 'httpx2', 'pydantic', 'mcp', 'sqlite3', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Its place in the client's settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    (tmp_path / ".claude").mkdir()
    return tmp_path / ".claude" / "settings.json"


def test_installing_keeps_other_hooks_and_uninstalling_leaves_what_was_there(tmp_path: Path, settings: Path) -> None:
    other = {"matcher": "x", "hooks": [{"type": "command", "command": "say done"}]}
    before = {"model": "opus", "hooks": {"SessionEnd": [other], "Stop": [other]}}
    settings.write_text(json.dumps(before, indent=2))
    backup = planned_hook_edit(COMMAND, home=tmp_path).apply()
    assert backup is not None and json.loads(backup.read_text()) == before
    hooks = json.loads(settings.read_text())["hooks"]
    assert hooks["SessionEnd"][0] == other and hooks["SessionEnd"][1]["hooks"][0]["command"] == COMMAND
    assert hooks["UserPromptSubmit"][0]["hooks"][0]["type"] == "command" and hooks["Stop"] == [other]
    assert not planned_hook_edit(COMMAND, home=tmp_path).is_change
    planned_hook_edit(COMMAND.replace("/usr", "/opt"), home=tmp_path).apply()  # another installation takes its place
    assert len(json.loads(settings.read_text())["hooks"]["SessionEnd"]) == 2
    planned_hook_edit(None, home=tmp_path).apply()
    assert json.loads(settings.read_text()) == before
    assert not planned_hook_edit(None, home=tmp_path).is_change


@pytest.mark.parametrize("text", ["{", "[]", '{"hooks": []}', '{"hooks": {"SessionEnd": {}}}'])
def test_a_broken_settings_file_is_left_as_it_is(tmp_path: Path, settings: Path, text: str) -> None:
    settings.write_text(text)
    with pytest.raises(MemloraError, match="It was not changed"):
        planned_hook_edit(COMMAND, home=tmp_path)
    assert settings.read_text() == text


def test_the_command_shows_the_change_and_knows_one_client(environ: dict[str, str], tmp_path: Path) -> None:
    environ = {name: value for name, value in environ.items() if name != "CLAUDE_CONFIG_DIR"} | {"HOME": str(tmp_path)}
    code, out, _ = run_command(environ, "hook", "install", "claude-code", "--dry-run")
    assert code == 0 and "+" in out and "claude_hook" in out and not (tmp_path / ".claude").exists()
    assert run_command(environ, "hook", "install", "claude-code")[0] == 0
    [entry] = json.loads((tmp_path / ".claude" / "settings.json").read_text())["hooks"]["SessionEnd"]
    done = subprocess.run(
        ["sh", "-c", entry["hooks"][0]["command"]], env=environ, input="{}", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run_command(environ, "hook", "uninstall", "claude-code")[0] == 0
    code, _, err = run_command(environ, "hook", "install", "emacs")
    assert code == UsageError.exit_code and "claude-code" in err
