"""Measurements that need MLX: loading, switching, decoding. For benchmarks; nothing else calls them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from memlora_mlx.models.batching import DecodingBatch
from memlora_mlx.models.decoding import LOOKUP_TOKENS, DecodingSequence, GrammarMatcher
from memlora_mlx.models.experts import ExpertTable
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.student import Student
from memlora_mlx.records import Grammar, Stage


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of repeated runs, the warm-up left out."""

    p50: float
    p95: float
    runs: int

    @classmethod
    def of(cls, function: Callable[[], object], *, runs: int, warm_up: int = 1) -> Timing:
        for _ in range(warm_up):
            function()
        taken = []
        for _ in range(runs):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
        return cls.from_seconds(taken)

    @classmethod
    def from_seconds(cls, taken: Sequence[float]) -> Timing:
        ordered = sorted(taken)
        return cls(statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], len(ordered))


def load_seconds(folder: Path) -> float:
    """One load of a student, from files that the system has cached."""
    start = time.perf_counter()
    load_student(folder)
    return time.perf_counter() - start


def reload_seconds(folder: Path, adapter: Path) -> float:
    """The same change of experts as mlx-lm does it: the model is loaded again with the other adapter."""
    from mlx_lm import load

    start = time.perf_counter()
    model = load(str(folder), adapter_path=str(adapter))[0]
    mx.eval(model.parameters())
    return time.perf_counter() - start


def switch_seconds(table: ExpertTable, stages: Sequence[Stage], *, runs: int = 300) -> Timing:
    """Switching to the next stage's expert, without any use of it."""
    taken = []
    for i in range(runs):
        stage = stages[i % len(stages)]
        start = time.perf_counter()
        table.use(stage)
        taken.append(time.perf_counter() - start)
    return Timing.from_seconds(taken[10:])


def decode_step_seconds(student: Student, prompt: Sequence[int], *, tokens: int) -> float:
    """Median seconds of a plain decode step after a prompt: one token in, one token out."""
    cache = student.make_cache()
    token = mx.argmax(student.logits(student.hidden(mx.array([list(prompt)]), cache)[:, -1]), axis=-1)
    mx.eval(token)
    taken = []
    for _ in range(tokens):
        start = time.perf_counter()
        token = mx.argmax(student.logits(student.hidden(token[None], cache)[:, -1]), axis=-1)
        mx.eval(token)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def answer_seconds(
    student: Student,
    experts: ExpertTable,
    chat: Sequence[tuple[str, str]],
    grammar: Grammar | None,
    *,
    stage: Stage | None = None,
    max_tokens: int,
    lookup: int = LOOKUP_TOKENS,
    force: bool = True,
) -> tuple[float, DecodingSequence]:
    """One request alone, with nothing known of its prompt: seconds, and the row that was written."""
    start = time.perf_counter()
    guide = GrammarMatcher(student, grammar) if grammar else None
    row = DecodingSequence(
        student, stage, student.encode(chat), guide=guide, max_tokens=max_tokens, lookup=lookup, force=force
    )
    batch = DecodingBatch(student, experts, 1)
    batch.add(row)
    while batch.is_busy:
        batch.step()
    return time.perf_counter() - start, row


def bandwidth(nbytes: int) -> float:
    """Bytes a second of reading a float32 matrix of that size once: the roof of a decode step at batch 1."""
    columns = 8192
    matrix, vector = mx.random.normal((max(1, nbytes // 4 // columns), columns)), mx.random.normal((columns, 1))
    mx.eval(matrix, vector)
    timing = Timing.of(lambda: mx.eval(matrix @ vector), runs=7)
    return matrix.nbytes / timing.p50
