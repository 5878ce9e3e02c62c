"""`memlora chat` with its lines piped in: replies stream, and what was said is remembered."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from cli_home import environment, run_command, start_command, store_contents

from memlora_mlx import Memory
from memlora_mlx.memory.chat import MAX_TURNS, Chat
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import load_settings


@pytest.fixture
def environ(tiny_home: Path, varied_student: Path, tiny_embedder: Path) -> dict[str, str]:
    return environment(tiny_home, varied_student, tiny_embedder, user="zoe")


def test_two_lines_are_answered_and_remembered(environ: dict[str, str], tiny_home: Path) -> None:
    code, out, err = run_command(
        environ, "chat", said="I moved to Rome.\n\nI like tea.\n/memories\n/quit\nnever read\n"
    )
    assert code == 0, err
    found = store_contents(tiny_home)
    assert [(owner, source) for _, owner, source, *_ in found["exchanges"]] == [("zoe", "chat")] * 2
    said = [(role, text) for _, _, role, _, text, *_ in found["messages"]]
    assert [text for role, text in said if role == "user"] == ["I moved to Rome.", "I like tea."]
    printable = {role: "".join(filter(str.isprintable, text)) for role, text in said}
    assert printable["assistant"] in "".join(filter(str.isprintable, out))
    assert not [c for c in out if c < " " and c != "\n" and c != "\t"], "nothing that could drive a terminal"
    for memory in found["memories"]:
        assert memory[2] in out + err
    assert "Traceback" not in err


def test_forget_takes_back_the_last_change(environ: dict[str, str], tiny_home: Path, varied_student: Path) -> None:
    with Memory({"student": str(varied_student)}) as memory:
        memory.add("Zoe likes tea", user_id="zoe", infer=False)
    code, out, err = run_command(environ, "chat", said="/memories\n/undo\n/memories\n/undo\n/what\n")
    assert code == 0
    assert out.count("Zoe likes tea") == 2 and "undone: Zoe likes tea" in out
    assert "there is nothing to undo" in err and "/memories lists" in err
    assert store_contents(tiny_home)["memories"] == []


def test_ctrl_c_ends_a_chat_from_a_pipe(environ: dict[str, str], tiny_home: Path) -> None:
    with start_command(environ, "chat") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("/memories\n/undo\n")
        process.stdin.flush()
        while not (tiny_home / "store" / "memories.db").exists():
            time.sleep(0.02)
        time.sleep(0.3)  # it waits for a line by now
        process.send_signal(signal.SIGINT)
        process.stdin.close()
        process.wait(30)
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1:] == ["memlora: Stopped."]
    assert process.returncode == 130


# The conversation behind the command


def test_a_reply_sees_the_nearest_memories_and_the_last_turns(
    tiny_home: Path, varied_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMLORA_STUDENT", str(varied_student))
    with Workspace(load_settings()) as workspace:
        memory = Memory.of(workspace)
        for text in ("ann likes tea", "the doctor said no", "seven green apples"):
            memory.add(text, user_id="ann", infer=False, timestamp="2023-05-08")
        memory.add("bob likes tea", user_id="bob", infer=False)
        asked = []
        submit = workspace.engine.submit
        monkeypatch.setattr(
            workspace.engine, "submit", lambda request, **how: asked.append(request) or submit(request, **how)
        )
        chat = Chat(workspace.pipeline, "ann", limit=2)
        for number in range(MAX_TURNS):
            assert "".join(chat.reply(f"ann likes tea {number}")).strip() == chat.turns[-1][1]
        assert [hit.memory.owner.user_id for hit in chat.hits] == ["ann", "ann"]
        assert chat.hits[0].memory.text == "ann likes tea"
        last = asked[-1].chat
        assert len(last) == MAX_TURNS + 1 and last[-2] == chat.turns[-3]
        assert "ann likes tea (8 May 2023)" in last[-1][1] and last[-1][1].endswith(f"ann likes tea {MAX_TURNS - 1}")
        assert all(request.stage is None and request.grammar is None for request in asked)


def test_a_reply_that_is_left_counts_as_far_as_it_came(
    tiny_home: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace(load_settings()) as workspace:
        workspace.store  # noqa: B018 - made
        chat = Chat(workspace.pipeline, "ann", limit=2)
        stream = chat.reply("Tell me everything.")
        first = next(stream)
        stream.close()
        assert chat.turns == [("user", "Tell me everything."), ("assistant", first.strip())]
        assert "".join(chat.reply("And now?")), "the student is free again"


def test_a_long_talk_still_fits_the_prompt(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLORA_MAX_CONTEXT", "900")
    with Workspace(load_settings()) as workspace:
        chat = Chat(workspace.pipeline, "ann", limit=5)
        engine = workspace.engine
        prompts: list[int] = []
        submit = engine.submit

        def count(request: object, **how: object) -> object:
            prompts.append(engine.count_tokens(request.chat))  # type: ignore[attr-defined]
            return submit(request, **how)  # type: ignore[arg-type]

        monkeypatch.setattr(engine, "submit", count)
        for number in range(3):
            list(chat.reply(f"{number}: " + json.dumps("apples " * 60)))
        assert max(prompts) <= 900


def test_lines_that_were_erased_during_a_chat_do_not_come_back(
    isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chat writes what was typed in it, and nothing that it had read before."""
    import readline

    from memlora_mlx.cli.chat import _line_history
    from memlora_mlx.settings import load_settings

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    isolated_home.mkdir(parents=True)
    readline.clear_history()
    for line in ("I see Dr. Quibblefrotz", "my cat is Moss"):
        readline.add_history(line)
    file = isolated_home / "chat-history"
    readline.write_history_file(file)
    readline.clear_history()
    with _line_history(load_settings()):
        assert readline.get_current_history_length() == 2
        file.write_text("".join(line for line in file.read_text().splitlines(True) if "Quibblefrotz" not in line))
        readline.add_history("my password is Quibble77frotz")
        readline.add_history("hello")
    readline.clear_history()
    kept = file.read_text()
    assert "Moss" in kept and "hello" in kept and "removed" in kept and "frotz" not in kept
