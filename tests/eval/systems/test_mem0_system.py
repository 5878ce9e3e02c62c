"""The real mem0ai over a tiny student's real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from locomo import locomo_file

from memlora_mlx.eval.bench import run
from memlora_mlx.eval.bench_config import BenchConfig
from memlora_mlx.eval.systems.mem0_server import StudentServer
from memlora_mlx.extras import has
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import load_settings

needs_mem0 = pytest.mark.skipif(not has("mem0"), reason="mem0ai is not installed")


@needs_mem0
def test_mem0_reads_and_answers_and_is_not_asked_twice(
    tiny_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = BenchConfig(locomo_file(tmp_path), systems=("mem0",), limit=2, questions=2)
    with Workspace(load_settings({"limit": 3})) as opened:
        made = run(plan, opened)
    assert made.failures == ()
    assert len(made.asked) == 2
    calls = {cost.stage: cost for cost in made.costs}
    assert calls["extraction"].calls == 2
    assert calls["extraction"].input_tokens > 2 * 1000  # its own prompt, in bytes nearly: the tokenizer is tiny
    assert made.systems["mem0"]["memories"] >= 0
    assert {phase.name for phase in made.phases} == {"ingest", "answers", "scores"}

    def no_server(*_: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr("memlora_mlx.eval.systems.mem0_server.mlx_server", no_server)
    with Workspace(load_settings({"limit": 3})) as opened:
        again = run(plan, opened)
        other = run(
            BenchConfig(plan.file, systems=("mem0",), limit=2, questions=1), opened
        )  # read again, from kept calls
    assert [one.answer for one in again.asked] == [one.answer for one in made.asked]
    assert other.failures == ()
    assert len(other.asked) == 1


@needs_mem0
def test_what_mem0_could_not_read_is_said(tiny_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise OSError("the server has died")

    monkeypatch.setattr(StudentServer, "_ask", breaks)
    with Workspace(load_settings({"limit": 3})) as opened:
        made = run(BenchConfig(locomo_file(tmp_path), systems=("mem0",), limit=1, questions=1), opened)
    assert made.failures == ("mem0 failed on 1 exchanges, and remembers nothing of them",)
    assert len(made.asked) == 1
