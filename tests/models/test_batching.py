"""Batches: every row says what it says alone, whatever shares the batch, with experts of its own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from random_requests import random_sequence
from tiny_models import ALL_LINEAR, CORPUS, Q_V, expert_folder, student_folder

from memlora_mlx.models.batching import DecodingBatch, PrefixCache
from memlora_mlx.models.decoding import DecodingSequence
from memlora_mlx.models.experts import ExpertTable, read_experts
from memlora_mlx.models.kv_cache import NativeCache, RaggedCache
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.student import Student
from memlora_mlx.records import Stage

import mlx.core as mx  # isort: skip

STAGES: tuple[Stage | None, ...] = (None, "extraction", "update", "generation", "vqa")


@pytest.fixture(scope="module", params=["llama", "qwen2", "gemma2"])
def student(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Student:
    return load_student(student_folder(tmp_path_factory.mktemp("students") / request.param, request.param))


@pytest.fixture(scope="module")
def experts_folder(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts")
    for seed, (stage, keys) in enumerate([("extraction", Q_V), ("update", Q_V), ("generation", ALL_LINEAR)], start=1):
        expert_folder(folder / stage, student.model, keys, seed=seed)
    return folder


@pytest.fixture(params=["swap", "fused"])
def table(request: pytest.FixtureRequest, student: Student, experts_folder: Path) -> ExpertTable:
    made = ExpertTable(student.model, read_experts(experts_folder, student.fingerprint), request.param)
    yield made
    made.use(None)


def make_row(student: Student, number: int) -> DecodingSequence:
    return random_sequence(student, number, STAGES, 70)


def run(
    batch: DecodingBatch, rows: list[DecodingSequence], *, arrivals: random.Random | None = None
) -> list[list[int]]:
    """Decode all rows; with `arrivals` they come in at random moments."""
    coming = list(rows)
    while coming or batch.is_busy:
        while coming and (arrivals is None or not batch.is_busy or arrivals.random() < 0.3):
            batch.add(coming.pop(0))
        _, failed = batch.step()
        assert not failed
    return [row.tokens for row in rows]


_ALONE: dict[tuple[str, str, int], list[int]] = {}  # by family, mode of the experts and number: tests ask for the same


def alone(student: Student, table: ExpertTable, numbers: range) -> list[list[int]]:
    for n in numbers:
        if (key := (student.family, table.mode, n)) not in _ALONE:
            _ALONE[key] = run(DecodingBatch(student, table, 1), [make_row(student, n)])[0]
    return [_ALONE[student.family, table.mode, n] for n in numbers]


@pytest.mark.parametrize("rows", [2, 5])
def test_rows_of_mixed_experts_say_what_they_say_alone(student: Student, table: ExpertTable, rows: int) -> None:
    numbers = range(14)
    expected = alone(student, table, numbers)
    together = run(
        DecodingBatch(student, table, rows), [make_row(student, n) for n in numbers], arrivals=random.Random(rows)
    )
    assert together == expected
    assert len({tuple(tokens) for tokens in expected}) > 5, "outputs that agree prove nothing"


def test_prefixes_of_earlier_prompts_change_nothing(student: Student, table: ExpertTable) -> None:
    prefixes: PrefixCache = {}
    numbers = range(20)
    expected = alone(student, table, numbers)
    rows = [make_row(student, n) for n in numbers]
    assert run(DecodingBatch(student, table, 3, prefixes), rows) == expected
    assert sum(row.counters.reused for row in rows) > 50
    again = [make_row(student, n) for n in numbers]
    assert run(DecodingBatch(student, table, 3, prefixes), again) == expected


def test_a_prefix_belongs_to_its_expert(student: Student, table: ExpertTable) -> None:
    """Keys and values depend on the adapter: a stage never starts from another stage's."""
    prefixes: PrefixCache = {}
    prompt = student.encode((("user", CORPUS[0]),))

    def row(stage: Stage | None) -> DecodingSequence:
        return DecodingSequence(student, stage, prompt, guide=None, max_tokens=20)

    expected = {stage: run(DecodingBatch(student, table, 1), [row(stage)])[0] for stage in STAGES}
    for stage in (*STAGES, *STAGES):
        assert run(DecodingBatch(student, table, 1, prefixes), [row(stage)])[0] == expected[stage]


def test_a_dropped_row_leaves_the_others_as_they_were(student: Student, table: ExpertTable) -> None:
    numbers = range(6)
    expected = alone(student, table, numbers)
    rows = [make_row(student, n) for n in numbers]
    batch = DecodingBatch(student, table, 6)
    for row in rows:
        batch.add(row)
    for _ in range(4):
        batch.step()
    batch.cancel(rows[0])
    batch.cancel(rows[3])
    while batch.is_busy:
        batch.step()
    assert [row.tokens for n, row in enumerate(rows) if n not in (0, 3)] == [
        tokens for n, tokens in enumerate(expected) if n not in (0, 3)
    ]


def test_memory_does_not_grow_from_batch_to_batch(student: Student, table: ExpertTable) -> None:
    batch = DecodingBatch(student, table, 8)
    run(batch, [make_row(student, n) for n in range(8)])  # leaves the prefixes of its stages, no more
    mx.clear_cache()
    before = mx.get_active_memory()
    for _ in range(3):
        run(batch, [make_row(student, n) for n in range(8)])
    mx.clear_cache()
    assert mx.get_active_memory() - before < 100_000


def test_a_ragged_cache_equals_the_models_own(student: Student) -> None:
    """Uneven rows, with tokens taken back, against each row through the model's own cache."""
    dice = random.Random(3)
    cache = RaggedCache(student.make_cache(), 4)
    native = [NativeCache(student.make_cache()) for _ in range(3)]
    prompts = [[dice.randrange(3, 300) for _ in range(size)] for size in (5, 11, 300)]
    for i, prompt in enumerate(prompts):
        student.hidden(mx.array([prompt]), cache.begin(i, [len(prompt)]))
        cache.advance([len(prompt)])
        student.hidden(mx.array([prompt]), native[i].begin(0, [len(prompt)]))
        native[i].advance([len(prompt)])
    for _ in range(6):
        width = dice.randint(1, 4)
        tokens = [[dice.randrange(3, 300) for _ in range(width)] for _ in prompts]
        kept = [dice.randint(1, width) for _ in prompts]
        together = student.hidden(mx.array(tokens), cache.begin(0, [width] * 3))
        cache.advance(kept)
        for i in range(3):
            own = student.hidden(mx.array([tokens[i]]), native[i].begin(0, [width]))
            native[i].advance([kept[i]])
            assert mx.abs(together[i] - own[0]).max().item() < 1e-4
