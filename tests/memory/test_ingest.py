"""Reading conversations in: stopped, killed, begun twice or by two at once, the store is that of one quiet run."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cli_home import (
    EXCHANGES,
    TALK,
    dump_store,
    environment,
    exchanges_done,
    run_command,
    start_command,
    store_contents,
)
from killing import kill_ingests

from memlora_mlx.conversations import read_conversations
from memlora_mlx.errors import Cancelled
from memlora_mlx.memory.ingest import IngestStats, ingest
from memlora_mlx.memory.results import ExchangeResult
from memlora_mlx.memory.store.history import memory_history
from memlora_mlx.memory.store.sources import list_sources
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Request
from memlora_mlx.settings import Settings


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("talk") / "talk.txt"
    file.write_text(TALK)
    return file


@pytest.fixture(scope="module")
def models(varied_student: Path, tiny_embedder: Path) -> dict[str, Path]:
    return {"student": varied_student, "embedder": tiny_embedder}


@pytest.fixture(scope="module")
def quiet_run(tmp_path_factory: pytest.TempPathFactory, talk: Path, models: dict[str, Path]) -> dict[str, Any]:
    """The store of an uninterrupted run."""
    home = tmp_path_factory.mktemp("quiet")
    code, out, err = run_command(environment(home, **models), "ingest", talk)
    assert code == 0, err
    assert f"{EXCHANGES} exchanges read" in out
    found = store_contents(home)
    assert len(found["exchanges"]) == EXCHANGES
    events = {event for _, event, *_ in found["history"]}
    assert events > {"ADD"}, "a run that only adds would prove little"
    return found


def test_kill_9_at_any_moment_gives_the_store_of_a_quiet_run(
    tmp_path: Path, talk: Path, models: dict[str, Path], quiet_run: dict[str, Any]
) -> None:
    """Eight moments; `make soak` goes on with others."""
    progress = kill_ingests(environment(tmp_path, **models), tmp_path, talk, kills=8, seed=26)
    assert progress == sorted(progress)
    assert len(set(progress)) > 3, f"the moments missed the work: {progress}"
    assert store_contents(tmp_path) == quiet_run


def test_ctrl_c_stops_with_one_line_and_the_same_command_goes_on(
    tmp_path: Path, talk: Path, models: dict[str, Path], quiet_run: dict[str, Any]
) -> None:
    environ = environment(tmp_path, **models)
    with start_command(environ, "ingest", talk) as process:
        while exchanges_done(tmp_path) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    done = exchanges_done(tmp_path)
    assert process.returncode == 130 and out == ""
    line = f"Stopped after {done} of {EXCHANGES} exchanges; all of them are saved. Run the same command to continue."
    lines = [each for each in err.splitlines() if not each.startswith("talk: ")]  # progress, on a slow machine
    assert lines == [f"memlora: {line}"]
    assert done < EXCHANGES

    code, out, _ = run_command(environ, "ingest", talk)
    assert code == 0 and f"{EXCHANGES - done} exchanges read" in out and f"{done} were read before" in out
    assert store_contents(tmp_path) == quiet_run

    before = dump_store(tmp_path)
    code, out, _ = run_command(environ, "ingest", talk)
    assert code == 0 and out.startswith("0 exchanges read")
    assert dump_store(tmp_path) == before


def test_two_processes_may_read_the_same_file_at_once_while_others_look(
    tmp_path: Path, talk: Path, models: dict[str, Path], quiet_run: dict[str, Any]
) -> None:
    environ = environment(tmp_path, **models)
    with start_command(environ, "ingest", talk) as one, start_command(environ, "ingest", talk) as other:
        while exchanges_done(tmp_path) < 2:
            assert one.poll() is None or other.poll() is None
            time.sleep(0.02)
        looks = [run_command(environ, "ask", "Where does Ann live?"), run_command(environ, "memory", "list")]
        ends = [process.communicate(timeout=120) + (process.returncode,) for process in (one, other)]
    assert [code for *_, code in ends] == [0, 0], ends
    assert [code for code, _, err in looks if not err] == [0, 0], looks
    assert store_contents(tmp_path) == quiet_run


# In this process, where the steps can be watched


@pytest.fixture
def workspace(tmp_path: Path, models: dict[str, Path]) -> Any:
    settings = Settings(home=tmp_path, student=str(models["student"]), embedder=str(models["embedder"]))
    with Workspace(settings) as opened:
        yield opened


def test_a_first_part_and_then_the_whole_is_the_whole(
    workspace: Workspace, tmp_path: Path, talk: Path, quiet_run: dict[str, Any]
) -> None:
    conversations = read_conversations(talk)
    first = ingest(workspace.pipeline, conversations, user="me", limit=3)
    assert (first.total, first.already_stored, first.done, first.remaining) == (3, 0, 3, 0)
    seen: list[tuple[int, ExchangeResult | None]] = []
    rest = ingest(
        workspace.pipeline,
        conversations,
        user="me",
        on_progress=lambda tally, last: seen.append((tally.remaining, last)),
    )
    assert (rest.total, rest.already_stored, rest.done, rest.remaining) == (EXCHANGES, 3, EXCHANGES - 3, 0)
    assert [left for left, _ in seen] == list(range(EXCHANGES - 3, -1, -1))
    assert seen[0][1] is None and all(last is not None for _, last in seen[1:])
    workspace.close()
    assert store_contents(tmp_path) == quiet_run


def test_the_tally_adds_up(workspace: Workspace, talk: Path) -> None:
    results: list[ExchangeResult] = []
    tally = ingest(
        workspace.pipeline,
        read_conversations(talk),
        user="me",
        limit=6,
        on_progress=lambda _, last: results.append(last) if last else None,
    )
    events = [line.event for memory in workspace.store.list() for line in memory_history(workspace.store, memory.id)]
    assert tally.added - tally.deleted == workspace.store.count()
    assert tally.added >= events.count("ADD")
    assert tally.output_tokens == sum(cost.output_tokens for result in results for cost in result.costs) > 0
    assert tally.tokens["extraction in"] == sum(result.costs[0].prompt_tokens for result in results)
    assert tally.seconds > 0 and tally.seconds_left == 0.0


def test_stopped_within_an_exchange_nothing_of_it_is_kept(workspace: Workspace, talk: Path) -> None:
    cancelled = threading.Event()
    submit = workspace.engine.submit

    def stop_soon(request: Request, **how: Any) -> Any:
        if request.stage == "update":
            threading.Timer(0.02, cancelled.set).start()
        return submit(request, **how)

    workspace.engine.submit = stop_soon  # type: ignore[method-assign]
    tallies: list[IngestStats] = []
    with pytest.raises(Cancelled):
        ingest(
            workspace.pipeline,
            read_conversations(talk),
            user="me",
            on_progress=lambda tally, _: tallies.append(tally),
            cancelled=cancelled,
        )
    [source] = list_sources(workspace.store)
    assert (source.done, source.finished_at) == (tallies[-1].done, None)
    assert source.done < EXCHANGES


def test_what_another_process_has_just_read_is_not_stored_twice(
    workspace: Workspace, tmp_path: Path, talk: Path, quiet_run: dict[str, Any]
) -> None:
    conversations = read_conversations(talk)

    def read_by_another(tally: IngestStats, last: ExchangeResult | None) -> None:
        if tally.done == 2:
            ingest(workspace.pipeline, conversations, user="me", limit=6)

    tally = ingest(workspace.pipeline, conversations, user="me", on_progress=read_by_another)
    assert (tally.already_stored, tally.done) == (4, EXCHANGES - 4)
    workspace.close()
    assert store_contents(tmp_path) == quiet_run
