"""No escape sequence and no direction control of anybody's data reaches the terminal, from any command."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_home import environment
from pseudo_terminal import CTRL_Q, CTRL_R, ESCAPE, F2, F3, F7, PseudoTerminal
from tiny_models import Q_V, expert_folder, model

from memlora_mlx import Memory
from memlora_mlx.cli import main
from memlora_mlx.cli.app import app
from memlora_mlx.cli.printing import CleanStream, clean_console, clean_output
from memlora_mlx.memory.store.conversations import save_question, save_reply
from memlora_mlx.models.cards import CONFIG
from memlora_mlx.records import Scope

# A title, a colour, a cleared screen, a bell, C1's own CSI, overrides and isolates, and markup of Rich.
NASTY = "\x1b]0;pwned\x07 \x1b[31mred\x1b[2J \x9b31m \u202eturned\u202c \u2066in\u2069 [/red] [bold]b[/bold] {0} %s"
HOSTILE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
NAME = NASTY.replace("/", "|")  # as a file's or a folder's name
# What JSON can put in the place of a card, or of a part of one.
SHAPES: list[Any] = [None, True, 7, -1.5, NASTY, [], [NASTY], {}, {NASTY: NASTY}, [[[[]]]], {"a": {"b": [NASTY] * 3}}]


@pytest.fixture
def hostile_home(tiny_home: Path, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which every name, text, card and config is hostile."""
    with Memory() as memory:
        memory.add(f"Ann likes {NASTY}", user_id=f"ann {NASTY}", infer=False, metadata={NASTY: NASTY})
        [added] = memory.add([{"role": "user", "content": NASTY}], user_id=NASTY, agent_id=NASTY, infer=False)[
            "results"
        ]
        memory.update(added["id"], f"Changed {NASTY}")
        said_at = datetime(2024, 3, 3, tzinfo=UTC)
        save_question(memory.workspace.store, Scope(user_id=NASTY), f"Hello {NASTY}", key=NASTY, said_at=said_at)
        save_reply(memory.workspace.store, NASTY, f"Hi {NASTY}", question=f"Hello {NASTY}", said_at=said_at)
    student = tiny_home / "models" / NAME
    shutil.copytree(tiny_student, student)
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps({**config, "architectures": [NASTY]}))
    other = tiny_home / "models" / f"other {NAME}"
    shutil.copytree(tiny_student, other)
    (other / "config.json").write_text(json.dumps({**config, "model_type": NASTY}))
    monkeypatch.setenv("MEMLORA_STUDENT", str(student))
    base, _ = model()
    for stage in ("extraction", "update"):
        expert_folder(tiny_home / "adapters" / NAME / stage, base, Q_V, seed=1)
    card = {
        "stage": "extraction",
        "base": {"name": NASTY, "fingerprint": ""},
        "data": {"licence": NASTY, "teachers": {NASTY: 3}, "files": [NASTY], "hash": NASTY},
        "recipe": {NASTY: NASTY},
        "command": NASTY,
        NASTY: {NASTY: [NASTY]},
    }
    write_card(tiny_home / "adapters" / NAME / "extraction", card)
    run = tmp_path / f"run {NAME}"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"stage": NASTY, NASTY: NASTY}))
    (tmp_path / f"chat {NAME}.json").write_text(
        json.dumps([{"role": "user", "content": NASTY, "name": NASTY}, {"role": "assistant", "content": NASTY}])
    )
    (tmp_path / f"talk {NAME}.txt").write_text(f"Ann {NASTY}: hello {NASTY}\nBob: {NASTY}\nAnn {NASTY}: bye\n")
    (tmp_path / f"bad {NAME}.json").write_text(f'{{"{NASTY}": ')
    return tmp_path


def write_card(folder: Path, card: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "memlora": card}))


def leaf_commands() -> Iterator[str]:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[str]:
        for name, sub in getattr(command, "commands", {}).items():
            if hasattr(sub, "commands"):
                yield from walk(sub, (*path, name))
            else:
                yield " ".join((*path, name))

    yield from walk(typer.main.get_command(app), ())


def conversation_id(folder: Path) -> str:
    """The id of the stored conversation of the chat, if there is one."""
    database = folder / "home/store/memories.db"
    if not database.is_file():
        return "none"
    with closing(sqlite3.connect(database)) as connection:
        return str(connection.execute("SELECT public_id FROM conversations").fetchone()[0])


def command_lines(folder: Path, memory_id: str) -> dict[str, list[list[str]]]:
    """For every command, lines that lead it to hostile data: in its arguments, in files, or in the home."""
    chat, talk, bad = (
        str(folder / f"{kind} {NAME}.{end}") for kind, end in (("chat", "json"), ("talk", "txt"), ("bad", "json"))
    )
    talk_id = conversation_id(folder)
    run, expert = str(folder / f"run {NAME}"), str(folder / "home" / "adapters" / NAME / "extraction")
    return {
        "chat": [["--plain", "--user", NASTY], ["--plain", "--student", NASTY]],
        "ask": [[NASTY], [NASTY, "--json"], ["who?", "--user", NASTY], ["who?", "--image", chat]],
        "ingest": [[chat], [talk, "--json"], [bad], [NASTY], [chat, "--conversation", NASTY], ["--user", NASTY, chat]],
        "demo": [["--student", NASTY]],
        "teach": [["--stage", NASTY], ["--stage", "update", "--teacher", NASTY], ["--stage", "update", "--model", NASTY, "--base-url", NASTY, chat]],
        "doctor": [[], ["--json"]],
        "restore": [["--list"], ["--from", NASTY], ["--list", "--json"], ["--salvage"], ["--yes"]],
        "encrypt": [[], [NASTY], ["--yes"]],
        "decrypt": [[], [NASTY], ["--yes"]],
        "rekey": [[], [NASTY]],
        "memory list": [[], ["--json"], ["--user", NASTY], ["--since", NASTY]],
        "memory search": [[NASTY], [NASTY, "--json"], ["x", "--source", NASTY]],
        "memory show": [[memory_id], [memory_id, "--json"], [NASTY]],
        "memory edit": [[memory_id, f"Edited {NASTY}"], [memory_id, NASTY * 3000], [NASTY, "x"]],
        "memory delete": [[NASTY], [memory_id]],
        "memory erase": [[NASTY], ["--containing", "pwned", "--dry-run"], ["--person", NASTY], [memory_id, "--yes", "--json"]],
        "memory history": [[memory_id], [memory_id, "--json"], [NASTY]],
        "memory undo": [[], ["--user", NASTY], [NASTY]],
        "memory redo": [[], [NASTY]],
        "memory export": [[], [str(folder / f"out {NAME}")], [str(folder / "none" / NAME)]],
        "memory import": [[bad], [chat], [NASTY]],
        "conversations list": [[], ["--json"], ["--user", NASTY]],
        "conversations search": [["hello"], [NASTY, "--json"]],
        "conversations show": [[talk_id], [talk_id, "--json"], [NASTY]],
        "conversations rename": [[talk_id, NASTY], [NASTY, "x"]],
        "conversations delete": [[NASTY], [talk_id, "--memories"]],
        "conversations export": [[talk_id], [talk_id, "--format", NASTY], [NASTY]],
        "people list": [[], ["--json"]],
        "people merge": [[NASTY, NASTY], [NASTY.strip(), f"ann {NASTY}"], [f"ann {NASTY}", "nobody"]],
        "people rename": [[NASTY, "x"], [f"ann {NASTY}", NASTY]],
        "people split": [[NASTY, NASTY, NASTY]],
        "models list": [[], ["--json"]],
        "models pull": [[NASTY]],
        "models add": [[chat], [NASTY], [bad, "--name", NASTY]],
        "models use": [[NASTY]],
        "models path": [[NASTY], [NAME]],
        "models remove": [[NASTY], [f"other {NAME}"]],
        "adapters list": [[], ["--json"]],
        "adapters show": [[expert], [expert, "--json"], [NASTY]],
        "adapters verify": [[expert], [expert, "--json"], [NASTY]],
        "adapters install": [[expert], [run], [NASTY]],
        "adapters export": [[expert, str(folder / f"exported {NAME}")], [NASTY, NASTY]],
        "train all": [["--budget", NASTY], ["--locomo", bad], ["--val", NASTY], ["--student", NASTY]],
        "train run": [["--stage", NASTY], ["--stage", "update", "--data", chat], ["--stage", "update", "--data", NASTY]],
        "train resume": [[run], [NASTY]],
        "train search": [["--stage", NASTY], [run], [NASTY]],
        "bench run": [[bad], [chat], [NASTY]],
        "bench locomo": [[talk], ["--split", NASTY, chat]],
        "bench mine": [[NASTY], ["--judge", NASTY]],
        "bench conflict": [["--systems", NASTY], ["--student", NASTY]],
        "bench vqa": [[NASTY], [run]],
        "bench report": [[run], [NASTY]],
        "serve": [[NASTY], ["--token-file", NASTY], ["--host", NASTY, "--port", "0"], ["--upstream", NASTY], ["--install", "--dry-run", "--student", NASTY]],
        "hook install": [[NASTY]],
        "hook uninstall": [[NASTY]],
        "hook claude-code": [[NASTY], []],
        "hook work": [[NASTY], []],
        "mcp run": [[NASTY]],
        "mcp install": [[NASTY]],
        "mcp uninstall": [[NASTY]],
        "vqa build": [[chat, "--out", run], ["--model", NASTY, NASTY]],
    }  # fmt: skip


def test_every_command_is_driven(tmp_path: Path) -> None:
    assert set(command_lines(tmp_path, "1")) == set(leaf_commands())


@pytest.mark.parametrize("name", sorted(leaf_commands()))
def test_no_command_lets_hostile_data_reach_the_terminal(
    hostile_home: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with Memory() as memory:
        memory_id = memory.get_all(user_id=NASTY.strip())["results"][0]["id"]
    monkeypatch.setattr("builtins.input", lambda prompt="": (_ for _ in ()).throw(EOFError))
    for arguments in command_lines(hostile_home, memory_id)[name]:
        with pytest.raises(SystemExit) as left:  # never a traceback
            main([*name.split(), *arguments])
        said = capfdbinary.readouterr()
        assert left.value.code in (0, 1, 2, 130), (arguments, said.err)
        for stream in said:
            found = HOSTILE.search(stream.decode("utf-8"))
            assert found is None, (arguments, stream)
        if left.value.code:
            last = (said.err or b"memlora: ").splitlines()[-1]
            assert last.startswith(b"memlora: ") or name in ("chat", "doctor", "adapters verify"), said.err


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_a_card_of_any_shape_is_listed_or_is_one_line(
    tiny_home: Path, capfdbinary: pytest.CaptureFixture[bytes], shape: Any
) -> None:
    base, _ = model()
    folder = tiny_home / "adapters" / "tiny-llama" / "update"
    expert_folder(folder, base, Q_V, seed=1)
    plain = json.loads((folder / CONFIG).read_text())
    parts = ["data", "base", "metrics", "recipe", "environment", "start", "stage", "version", "command", "sha256"]
    cards = [
        shape,
        *({part: shape} for part in parts),
        {"data": {"teachers": shape}},
        {"data": {"licence": shape}},
        {"metrics": {"validation_loss": shape}},
    ]
    configs = [shape, *({**plain, "memlora": card} for card in cards), *({**plain, key: shape} for key in plain)]
    for config in configs:
        (folder / CONFIG).write_text(json.dumps(config))
        for arguments in (["list"], ["list", "--json"], ["show", str(folder)], ["show", str(folder), "--json"]):
            with pytest.raises(SystemExit) as left:
                main(["adapters", *arguments])
            said = capfdbinary.readouterr()
            assert not HOSTILE.search(said.out.decode() + said.err.decode()), (config, arguments)
            assert left.value.code in (0, 1) and said.err.count(b"\n") == bool(left.value.code), (config, said.err)
            if arguments[0] == "list" and "--json" not in arguments and not left.value.code:
                assert sum(b"update" in line for line in said.out.splitlines()) >= 1


def test_json_loses_nothing(hostile_home: Path, run_memlora: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run_memlora("memory", "list", "--json")
    assert code == 0 and not HOSTILE.search(out)
    assert any("\u202eturned\u202c" in memory["user_id"] for memory in json.loads(out))
    code, out, _ = run_memlora("memory", "export")
    assert code == 0 and any(
        "\u202eturned\u202c" in json.dumps(json.loads(line), ensure_ascii=False) for line in out.splitlines()
    )


def test_a_bug_prints_its_traceback_through_the_same_door(tmp_path: Path) -> None:
    program = tmp_path / "bug.py"
    program.write_text(
        "import sys\nfrom memlora_mlx.cli import printing\n"
        f"with printing.clean_output():\n    raise ValueError({NASTY!r})\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, check=False)
    text = done.stderr.decode()
    assert done.returncode == 1 and "Traceback" in text and "ValueError" in text and not HOSTILE.search(text)


def test_logging_warnings_and_rich_go_through_the_door(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    import logging
    import warnings

    with clean_output():
        print(NASTY)
        print(NASTY, file=sys.stderr)
        typer.echo(NASTY)
        logging.getLogger("somebody").warning(NASTY)
        warnings.showwarning(UserWarning(NASTY), UserWarning, NASTY, 1)
        clean_console().print(NASTY, style="red")
        assert isinstance(sys.stdout, CleanStream)
    assert not isinstance(sys.stdout, CleanStream)
    out, err = capfdbinary.readouterr()
    for stream in (out, err):
        assert not HOSTILE.search(stream.decode())
    assert out.count(b"turned") == 3 and b"[bold]b[/bold]" in out


def test_on_a_terminal_only_our_own_escapes_are_written(
    hostile_home: Path, tiny_student: Path, tiny_embedder: Path
) -> None:
    """Rich colours notes and draws progress there; nothing of the data takes part in it."""
    environ = environment(hostile_home / "home", tiny_student, tiny_embedder) | {"TERM": "xterm-256color"}
    chat = hostile_home / f"chat {NAME}.json"
    for arguments in (["memory", "list"], ["adapters", "list"], ["models", "list"], ["ingest", str(chat)], [NASTY]):
        text = on_a_terminal(environ, arguments)
        for hostile in ("\x1b]0;", "pwned\x07", "\x1b[31mred", "\x1b[2J", "\x9b", "\u202e", "\u2066"):
            assert hostile not in text, (arguments, text)
        assert "turned" in text or arguments[0] in ("ingest", "models"), text


def test_the_app_writes_only_its_own_escapes(hostile_home: Path, tiny_embedder: Path) -> None:
    """Its screens show names, memories, conversations and models; the raw bytes on the terminal are looked at."""
    home = hostile_home / "home"
    environ = environment(home, home / "models" / NAME, tiny_embedder, user=NASTY) | {"TERM": "xterm-256color"}
    with PseudoTerminal(environ, "chat", size=(45, 140)) as terminal:
        terminal.wait("Write a message")
        for keys, shown in ((F3, "Changed"), (F7, "turned"), (F2, "Write"), (CTRL_R, "Hello"), (ESCAPE, "Write")):
            terminal.type(keys)
            terminal.wait(shown)
        terminal.type(CTRL_Q)
        code, text = terminal.end()
    assert code == 0 and text.count("turned") > 2
    for hostile in (
        "\x1b]0;",
        "pwned\x07",
        "\x1b[31mred",
        "red\x1b[2J",
        "\x9b",
        "\u202e",
        "\u2066",
        "\u202c",
        "\u2069",
    ):
        assert hostile not in text, hostile


def on_a_terminal(environ: dict[str, str], arguments: list[str]) -> str:
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "memlora_mlx", *arguments]
    with subprocess.Popen(command, env=environ, stdin=child, stdout=child, stderr=child) as process:
        os.close(child)
        pieces = []
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:
                break
            if not piece:
                break
            pieces.append(piece)
        process.wait(60)
    os.close(parent)
    return b"".join(pieces).decode("utf-8", "replace")
