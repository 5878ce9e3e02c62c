"""The systems that a benchmark sets side by side: our pipeline, and what answers without a memory of facts.

Every system reads one conversation, answers its questions, and says what each answer was given and what it cost. Both
phases are kept in the cache; one that was killed goes on from the calls that were made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache as once
from importlib.resources import files
from typing import Any, Protocol

from memlora_mlx.errors import Cancelled
from memlora_mlx.eval.cases import Case, Question
from memlora_mlx.eval.results import Lost, Phase, StageCost
from memlora_mlx.eval.systems.cache import Cache, digest
from memlora_mlx.eval.systems.calls import Calls, ModelClock
from memlora_mlx.eval.systems.provenance import lost_at, recall
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.pipeline import MAX_IN_FLIGHT, PipelineOptions
from memlora_mlx.records import Completion, Request

OnDone = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True, slots=True)
class Reply:
    """What a system said to one question."""

    answer: str
    retrieved: tuple[Mapping[str, Any], ...]
    recall: float | None
    lost_at: Lost | None  # should the answer be wrong
    input_tokens: int
    output_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One system on one conversation."""

    replies: tuple[Reply, ...]
    costs: tuple[StageCost, ...]
    phases: tuple[Phase, ...]
    memory: Mapping[str, Any] = field(default_factory=dict)  # sums: memories, facts, operations, rejected, duplicates


@dataclass(frozen=True, slots=True)
class Ground:
    """What all systems of a run stand on."""

    cache: Cache
    clock: ModelClock
    space: EmbeddingFingerprint
    rules: PipelineOptions
    top_k: int  # memories of each owner that an answer is given
    cancelled: threading.Event
    ahead: int = MAX_IN_FLIGHT  # exchanges and questions worked on at once

    def check(self) -> None:
        """Raises Cancelled, where the run is to stop."""
        if self.cancelled.is_set():
            raise Cancelled("stopped")


class System(Protocol):
    name: str

    def run(self, case: Case, on_done: OnDone) -> Outcome:
        """Read the conversation and answer its questions."""


def retrieved(text: str, refs: Sequence[str], distance: float | None) -> dict[str, Any]:
    return {"text": text, "refs": list(refs), "distance": None if distance is None else round(float(distance), 6)}


def reply(
    question: Question,
    completion: Completion,
    shown: tuple[Mapping[str, Any], ...],
    refs: set[str],
    *,
    known: set[str] | frozenset[str],
    given: set[str],
    standing: set[str],
) -> Reply:
    return Reply(
        answer=completion.text.strip(),
        retrieved=shown,
        recall=recall(question.evidence, known=known, retrieved=refs),
        lost_at=lost_at(question.evidence, known=known, given=given, standing=standing, retrieved=refs),
        input_tokens=completion.prompt_tokens,
        output_tokens=completion.output_tokens,
        seconds=completion.seconds,
    )


def answered_phase(
    name: str,
    case: Case,
    identity: object,
    ground: Ground,
    ask: Callable[[], list[Reply]],
    more: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[Reply], StageCost, Phase]:
    """The answers phase of any system, from the cache where it was done before.

    Args:
        more: what `ask` leaves to be kept beside its replies.
    """
    key = digest([identity, [asdict(question) for question in case.questions], code_digest()])
    value = ground.cache.phase("answers", key)
    is_cached = value is not None
    if value is None:
        with timed(ground.clock) as spent:
            replies = ask()
        value = {"replies": [asdict(one) for one in replies], **spent, **(more or {})}
        ground.cache.keep_phase("answers", key, value)
    replies = [Reply(**{**one, "retrieved": tuple(one["retrieved"])}) for one in value["replies"]]
    cost = StageCost(
        name,
        "generation",
        len(replies),
        sum(one.input_tokens for one in replies),
        sum(one.output_tokens for one in replies),
        sum(one.seconds for one in replies),
    )
    taken = [value[name] for name in ("seconds", "model_seconds", "kept_seconds")]
    return value, replies, cost, Phase(name, "answers", taken[0], taken[1], is_cached, taken[2])


def complete_all(calls: Calls, requests: Sequence[Request], ground: Ground, on_done: OnDone) -> list[Completion]:
    return calls.complete_all(
        requests,
        ahead=ground.ahead,
        on_done=lambda done: on_done("answers", done, len(requests)),
        cancelled=ground.cancelled,
    )


def add_cost(costs: dict[str, list[float]], stage: str, prompt: int, output: int, seconds: float) -> None:
    """Calls, input and output tokens, seconds of a stage, summed."""
    numbers = (1, prompt, output, seconds)
    costs[stage] = [a + b for a, b in zip(costs.get(stage, [0, 0, 0, 0.0]), numbers, strict=True)]


@contextmanager
def timed(clock: ModelClock) -> Iterator[dict[str, float]]:
    """Wall and model seconds of the block, and those of kept calls, filled in when it ends."""
    spent: dict[str, float] = {}
    wall, model, kept = time.perf_counter(), clock.seconds, clock.kept
    yield spent
    spent["seconds"], spent["model_seconds"] = time.perf_counter() - wall, clock.seconds - model
    spent["kept_seconds"] = clock.kept - kept


# What decides what a phase gives, as files of the package.
_CODE = (
    "conversations/__init__.py",
    "eval/systems/calls.py",
    "eval/systems/memories.py",
    "eval/systems/provenance.py",
    "eval/systems/system.py",
    "eval/systems/turns.py",
    "memory/inputs.py",
    "memory/pipeline.py",
    "memory/retrieval/search.py",
    "memory/stages/extraction.py",
    "memory/stages/generation.py",
    "memory/stages/grammars.py",
    "memory/stages/prompts.py",
    "memory/stages/text.py",
    "memory/stages/update.py",
    "memory/stages/vqa.py",
    "memory/store/rows.py",
    "memory/store/store.py",
    "memory/store/transactions.py",
)


@once
def code_digest() -> str:
    """Names the code that decides what a phase gives: where it changes, phases are done again (from kept calls)."""
    package = files("memlora_mlx")
    return digest([(package / name).read_text(encoding="utf-8") for name in _CODE])
