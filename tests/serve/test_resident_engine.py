"""Commands while `memlora serve` runs: they load no model, do the same as alone, and leave a process that does not fit."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from cli_home import TALK, environment, start_command, store_contents
from memory_servers import messages_of, resident_of, resident_process, wait_until

from memlora_mlx import Memory
from memlora_mlx.errors import Cancelled
from memlora_mlx.memory.engine_identity import engine_identity
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Request
from memlora_mlx.serve import connection
from memlora_mlx.serve.backends import ChoosingBackend
from memlora_mlx.serve.resident_engine import ResidentEngine, _GivenText
from memlora_mlx.settings import load_settings

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def homes(
    tmp_path_factory: pytest.TempPathFactory, varied_student: Path, tiny_embedder: Path
) -> Iterator[tuple[Path, Path]]:
    """Two equal data folders; a resident process serves the second one."""
    folder = tmp_path_factory.mktemp("homes")
    alone, served = folder / "alone", folder / "served"
    with Memory({"home": alone, "student": varied_student, "embedder": tiny_embedder}) as memory:
        for text in ("I like green tea", "I moved to Rome", "My cat is called Moss"):
            memory.add(text, user_id="ann", infer=False, timestamp="2026-03-01", key=text)
    shutil.copytree(alone, served)
    with resident_process(environment(served, varied_student, tiny_embedder), "--port", "0"):
        yield alone, served


@pytest.fixture
def both(
    homes: tuple[Path, Path],
    varied_student: Path,
    tiny_embedder: Path,
    run_memlora: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[int, str, str]]:
    """Run a command alone and with the resident process, which must do the same, and return what it did.

    The second run could not load a model of its own.
    """
    monkeypatch.setenv("MEMLORA_STUDENT", str(varied_student))
    monkeypatch.setenv("MEMLORA_EMBEDDER", str(tiny_embedder))

    def run(*arguments: object, said: str = "") -> tuple[int, str, str]:
        results = []
        for home in homes:
            monkeypatch.setenv("MEMLORA_HOME", str(home))
            with monkeypatch.context() as patched:
                patched.setattr("sys.stdin", io.StringIO(said))
                patched.setattr("memlora_mlx.cli.chat.uuid", numbered())
                if home == homes[1]:
                    patched.setattr(Workspace, "engine", property(no_engine))
                results.append(run_memlora(*arguments))
        first, second = [(code, without_the_clock(out), without_the_clock(err)) for code, out, err in results]
        assert first == second
        assert contents(homes[0]) == contents(homes[1])
        return first

    return run


def contents(home: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What a store holds, without the time of a user's edit."""
    found = store_contents(home)
    return {**found, "memories": [(*row[:4], *row[5:]) for row in found["memories"]]}


def numbered() -> SimpleNamespace:
    """Names for the exchanges of a chat, which are random otherwise."""
    numbers = itertools.count()
    return SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"chat-{next(numbers)}"))


def no_engine(workspace: Workspace) -> None:
    raise AssertionError("the command opened an engine of its own")


def without_the_clock(text: str) -> str:
    with contextlib.suppress(ValueError):
        shown = json.loads(text)
        if isinstance(shown, dict):
            return json.dumps({name: value for name, value in shown.items() if name != "seconds"})
    return "\n".join(line for line in text.splitlines() if "exchanges read in" not in line and "tokens/s" not in line)


def test_asking_and_searching_are_the_same(both: Run) -> None:
    code, out, err = both("ask", "What do I like?", "--user", "ann")
    assert code == 0 and "I like green tea" in out and err == ""
    assert json.loads(both("ask", "What do I like?", "--user", "ann", "--json")[1])["tokens"]["out"] > 0
    assert "Not mentioned" in both("ask", "What do I like?", "--user", "nobody")[1]
    assert "Moss" in both("memory", "search", "the cat", "--user", "ann")[1]
    assert len(json.loads(both("memory", "search", "the cat", "--user", "ann", "--json")[1])) == 3


def test_errors_are_the_same(both: Run, tmp_path: Path) -> None:
    assert both("ask", "  ")[0] == 2
    assert both("ask", "What is it?", "--image", tmp_path / "none.png")[0] == 1
    assert both("memory", "edit", "no-such-id", "x")[0] == 1
    assert both("ingest", tmp_path / "none.txt")[0] == 2


def test_reading_a_file_stores_the_same(both: Run, tmp_path: Path, homes: tuple[Path, Path]) -> None:
    (tmp_path / "talk.txt").write_text("\n".join(TALK.splitlines()[:5]))
    code, out, _ = both("ingest", tmp_path / "talk.txt", "--json", "--yes")
    assert code == 0 and json.loads(out)["done"] == 4
    assert messages_of(homes[1], "Ann")


def test_a_plain_chat_answers_and_remembers_the_same(both: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from memlora_mlx.cli import chat

    monkeypatch.setattr(chat, "datetime", FixedClock)
    code, out, _ = both("chat", "--plain", "--user", "ann", said="I like tea\n/memories\n/quit\n")
    assert code == 0 and "Moss" in out


class FixedClock:
    """What was said is dated by the clock, and memories show the day."""

    @staticmethod
    def now(zone: Any) -> Any:
        from datetime import datetime

        return datetime(2026, 3, 2, tzinfo=zone)


def test_editing_embeds_there(both: Run, homes: tuple[Path, Path]) -> None:
    memory = next(row[0] for row in store_contents(homes[1])["memories"] if row[2] == "I moved to Rome")
    code, out, _ = both("memory", "edit", memory, "I moved to Oslo")
    assert code == 0 and "I moved to Oslo" in out


def test_the_app_loads_no_model_either(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from memlora_mlx.tui.backend import Backend

    monkeypatch.setattr(Workspace, "engine", property(no_engine))
    backend = Backend(load_settings())
    asyncio.run(backend.load())
    assert backend.status.phase == "ready" and backend.engine is not None
    assert backend.engine.activity().doing == ()
    backend.close()


@pytest.fixture
def served(
    homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, varied_student: Path, tiny_embedder: Path
) -> Path:
    """The data folder with the resident process, chosen."""
    for name, value in (("HOME", homes[1]), ("STUDENT", varied_student), ("EMBEDDER", tiny_embedder)):
        monkeypatch.setenv(f"MEMLORA_{name}", str(value))
    return homes[1]


def test_a_process_of_another_version_is_not_used_and_that_is_told(served: Path, run_memlora: Run) -> None:
    state = served / connection.STATE_FILE
    before = state.read_text()
    try:
        state.write_text(json.dumps({**json.loads(before), "version": "0.0.1"}))
        code, out, err = run_memlora("memory", "search", "tea", "--user", "ann")
    finally:
        state.write_text(before)
    assert code == 0 and "Moss" in out
    assert err.startswith("The resident process is not used because it is of version 0.0.1") and err.count("\n") == 1


def test_a_process_with_another_student_is_not_used_and_that_is_told(
    served: Path, run_memlora: Run, tiny_student: Path
) -> None:
    code, out, err = run_memlora("ask", "What do I like?", "--user", "ann", "--student", tiny_student)
    assert code == 0 and "Moss" in out
    assert "other models or settings (student); restart it" in err and err.count("\n") == 1


def test_the_process_of_another_data_folder_is_none(served: Path, tmp_path: Path) -> None:
    shutil.copy(served / connection.STATE_FILE, tmp_path)
    assert connection.find(served) is not None and connection.find(tmp_path) is None


def test_an_mcp_client_with_another_user_does_not_write_into_this_ones_memories(served: Path) -> None:
    import asyncio

    backend = ChoosingBackend(load_settings({"user": "zoe"}))
    asyncio.run(backend.call("add", {"messages": "I play chess", "infer": False}, lambda done, what: None))
    backend.close()
    assert messages_of(served, "zoe") == ["I play chess"] and messages_of(served, "me") == []


def test_models_that_changed_on_the_disk_are_opened_anew(
    served: Path, run_memlora: Run, varied_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(varied_student / "config.json")
    monkeypatch.setattr(Workspace, "engine", property(no_engine))
    code, out, err = run_memlora("ask", "What do I like?", "--user", "ann")
    assert code == 0 and "Moss" in out and err == ""


def health(home: Path) -> dict[str, Any]:
    return dict(httpx2.get(f"{resident_of(home).url}/health").json())


def test_the_engine_is_not_on_the_port(served: Path) -> None:
    answer = httpx2.post(f"{resident_of(served).url}/engine/complete", json={"identity": {}})
    assert answer.status_code == 404


LONG = Request(None, (("user", "Say much."),), None, max_tokens=3000)


def test_a_cancelled_or_closed_request_ends_there(served: Path) -> None:
    with Workspace(load_settings()) as workspace:
        resident = resident_of(served)

        def engine() -> ResidentEngine:
            return ResidentEngine(resident, engine_identity(workspace), lambda: workspace.engine, print)

        cancelled, first = threading.Event(), threading.Event()
        answer = engine().submit(LONG, on_text=lambda piece: first.set(), cancelled=cancelled)
        assert first.wait(600) and health(served)["doing"] == ["chat"]
        cancelled.set()
        with pytest.raises(Cancelled):
            answer.result(600)
        wait_until(lambda: health(served)["doing"] == [])
        second = engine()
        stream = second.stream(LONG)
        next(stream)
        second.close()
        wait_until(lambda: health(served)["doing"] == [])


def test_ctrl_c_ends_a_command_and_its_work_in_the_process(served: Path) -> None:
    with start_command(os.environ, "ask", "Say much about everything", "--free", "--user", "ann") as process:
        wait_until(lambda: health(served)["doing"] != [] or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
        assert process.returncode in (0, 130) and "Traceback" not in err
    wait_until(lambda: health(served)["doing"] == [])


def test_what_runs_goes_on_alone_when_the_process_is_killed(
    tmp_path: Path, run_memlora: Run, tiny_home: Path, tiny_student: Path, tiny_embedder: Path
) -> None:
    told: list[str] = []
    environ = environment(tiny_home, tiny_student, tiny_embedder)
    with resident_process(environ) as process, Workspace(load_settings()) as workspace:
        own = engine_identity(workspace)
        engine = ResidentEngine(resident_of(tiny_home), own, lambda: workspace.engine, told.append)
        before = engine.embed(["tea"])
        process.kill()
        process.wait(600)
        after = engine.embed(["tea"])
        assert (before == after).all() and engine.student.context == workspace.engine.student.context
    assert told == ["The resident process has ended; this command goes on with models of its own."]
    _, _, err = run_memlora("ask", "Anything?", "--user", "ann")  # its state file is still there
    assert "resident" not in err


def test_an_answer_that_is_made_again_goes_on_where_it_was() -> None:
    shown: list[str] = []
    given = _GivenText(shown.append)
    given.first("The aqu")
    for piece in ("The", " aquari", "um"):
        given.again(piece)
    assert "".join(shown) == "The aquarium"
    other = _GivenText(shown.append)
    other.first("The aqu")
    with pytest.raises(connection.ConnectionLost, match="ask again"):
        other.again("A pond")
