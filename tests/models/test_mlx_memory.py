"""MLX's freed buffers and wired memory have limits while the engine serves, and freed buffers do not pile up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from memlora_mlx.models import mlx_memory
from memlora_mlx.models.engine import Engine
from memlora_mlx.models.kv_cache import RaggedCache
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.mlx_memory import MlxMemory
from memlora_mlx.records import Request

import mlx.core as mx  # isort: skip

GB = 1_000_000_000


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A Mac with 12 GB for MLX, as far as limits go; what is set is in the dictionary."""
    made: dict[str, int] = {}
    monkeypatch.setattr(mx, "metal", SimpleNamespace(is_available=lambda: True))
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 12 * GB})
    monkeypatch.setattr(mx, "set_cache_limit", lambda limit: made.update(cache=limit))
    monkeypatch.setattr(mx, "set_wired_limit", lambda limit: made.update(wired=limit))
    return made


def test_on_metal_both_limits_are_set(metal: dict[str, int]) -> None:
    MlxMemory().set_limits()
    assert metal == {"cache": 1.5 * GB, "wired": 12 * GB}
    memory = MlxMemory(cache_limit=500, wired_limit=99_000)
    memory.set_limits()
    assert metal == {"cache": 0.5 * GB, "wired": 12 * GB}, "Metal refuses more than it recommends"
    assert (memory.use().cache_limit, memory.use().wired_limit) == (0.5 * GB, 12 * GB)


def test_without_metal_no_limit_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "metal", SimpleNamespace(is_available=lambda: False))
    monkeypatch.setattr(mx, "set_wired_limit", lambda limit: pytest.fail("there is nothing to wire"))
    MlxMemory(wired_limit=5).set_limits()


def test_the_engine_frees_what_is_kept_when_it_has_nothing_to_do_and_every_so_many_steps(
    tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[None] = []
    monkeypatch.setattr(mx, "clear_cache", lambda: freed.append(None))
    monkeypatch.setattr(mlx_memory, "STEPS", 10)
    with Engine(tiny_student, None) as engine:
        passes: list[None] = []
        step = engine._lanes.step
        monkeypatch.setattr(engine._lanes, "step", lambda lane: (passes.append(None), step(lane)))
        engine.complete(Request("generation", (("user", "Ann moved"),), None, 35))
        engine.call(lambda: None)  # after the last step
        assert len(passes) > 15
        assert len(freed) == len(passes) // 10 + (len(passes) % 10 > 0)
        assert engine.activity().bytes == engine.memory_use().total > engine.student.nbytes


def test_doctor_says_who_answers_and_what_mlx_holds_and_keeps(
    tiny_home: Path, run_memlora: Callable[..., tuple[int, str, str]]
) -> None:
    _, out, _ = run_memlora("doctor")
    lines = {line.split()[1]: line for line in out.splitlines() if ": " in line}
    assert "tiny-llama, llama" in lines["student:"], out
    assert "GB in arrays" in lines["memory:"] and "GB kept" in lines["memory:"]
    assert "extraction, update, generation" in lines["experts:"]


def test_rows_of_many_lengths_need_buffers_of_few_sizes(tiny_student: Path) -> None:
    cache = load_student(tiny_student).make_batch_cache(2)
    assert isinstance(cache, RaggedCache)
    sizes = set()
    for tokens in (5, 40, 200, 250, 300, 511):
        cache.begin(0, [tokens])
        sizes.add(cache._pass.capacity)
    assert sizes == {256, 512}
