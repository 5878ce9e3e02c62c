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
from memlora_mlx.eval.cases import BenchmarkCase, Question
from memlora_mlx.eval.results import FailureStage, PhaseCost, StageCost
from memlora_mlx.eval.systems.cache import Cache, content_key
from memlora_mlx.eval.systems.cached_engine import CachedEngine, ModelClock
from memlora_mlx.eval.systems.provenance import failure_stage, recall
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.scheduling import MAX_IN_FLIGHT
from memlora_mlx.records import Completion, Request

OnPhaseProgress = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True, slots=True)
class SystemAnswer:
    """What a system said to one question."""

    answer: str
    retrieved: tuple[Mapping[str, Any], ...]
    recall: float | None
    failure_stage: FailureStage | None  # should the answer be wrong
    input_tokens: int
    output_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SystemResult:
    """One system on one conversation."""

    replies: tuple[SystemAnswer, ...]
    costs: tuple[StageCost, ...]
    phases: tuple[PhaseCost, ...]
    memory: Mapping[str, Any] = field(default_factory=dict)  # sums: memories, facts, operations, rejected, duplicates


@dataclass(frozen=True, slots=True)
class RunContext:
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

    def run(self, case: BenchmarkCase, on_done: OnPhaseProgress) -> SystemResult:
        """Read the conversation and answer its questions."""


def retrieved_turn(text: str, refs: Sequence[str], score: float | None) -> dict[str, Any]:
    """One line that an answer was given. `score` is what the order of the search goes by; None where none was made."""
    return {"text": text, "refs": list(refs), "score": None if score is None else round(float(score), 6)}


def reply(
    question: Question,
    completion: Completion,
    shown: tuple[Mapping[str, Any], ...],
    refs: set[str],
    *,
    known: set[str] | frozenset[str],
    given: set[str],
    standing: set[str],
) -> SystemAnswer:
    return SystemAnswer(
        answer=completion.text.strip(),
        retrieved=shown,
        recall=recall(question.evidence, known=known, retrieved=refs),
        failure_stage=failure_stage(question.evidence, known=known, given=given, standing=standing, retrieved=refs),
        input_tokens=completion.prompt_tokens,
        output_tokens=completion.output_tokens,
        seconds=completion.seconds,
    )


def cached_answer_phase(
    name: str,
    case: BenchmarkCase,
    identity: object,
    context: RunContext,
    ask: Callable[[], list[SystemAnswer]],
    more: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[SystemAnswer], StageCost, PhaseCost]:
    """The answers phase of any system, from the cache where it was done before.

    Args:
        more: what `ask` leaves to be kept beside its replies.
    """
    key = content_key([identity, [asdict(question) for question in case.questions], code_fingerprint()])
    value = context.cache.get_phase("answers", key)
    is_cached = value is not None
    if value is None:
        with measure_phase(context.clock) as spent:
            replies = ask()
        value = {"replies": [asdict(one) for one in replies], **spent, **(more or {})}
        context.cache.put_phase("answers", key, value)
    replies = [SystemAnswer(**{**one, "retrieved": tuple(one["retrieved"])}) for one in value["replies"]]
    cost = StageCost(
        name,
        "generation",
        len(replies),
        sum(one.input_tokens for one in replies),
        sum(one.output_tokens for one in replies),
        sum(one.seconds for one in replies),
    )
    taken = [value[name] for name in ("seconds", "model_seconds", "kept_seconds")]
    return value, replies, cost, PhaseCost(name, "answers", taken[0], taken[1], is_cached, taken[2])


def complete_all(
    calls: CachedEngine, requests: Sequence[Request], context: RunContext, on_done: OnPhaseProgress
) -> list[Completion]:
    return calls.complete_all(
        requests,
        ahead=context.ahead,
        on_done=lambda done: on_done("answers", done, len(requests)),
        cancelled=context.cancelled,
    )


def add_cost(costs: dict[str, list[float]], stage: str, prompt: int, output: int, seconds: float) -> None:
    """Calls, input and output tokens, seconds of a stage, summed."""
    numbers = (1, prompt, output, seconds)
    costs[stage] = [a + b for a, b in zip(costs.get(stage, [0, 0, 0, 0.0]), numbers, strict=True)]


@contextmanager
def measure_phase(clock: ModelClock) -> Iterator[dict[str, float]]:
    """Wall and model seconds of the block, and those of kept calls, filled in when it ends."""
    spent: dict[str, float] = {}
    wall, model, kept = time.perf_counter(), clock.seconds, clock.kept
    yield spent
    spent["seconds"], spent["model_seconds"] = time.perf_counter() - wall, clock.seconds - model
    spent["kept_seconds"] = clock.kept - kept


# What decides what a phase gives, as files of the package.
_CODE = (
    "conversations/__init__.py",
    "eval/systems/cached_engine.py",
    "eval/systems/memory_system.py",
    "eval/systems/provenance.py",
    "eval/systems/system.py",
    "eval/systems/baselines.py",
    "memory/abstention.py",
    "memory/answer_words.py",
    "memory/answering.py",
    "memory/dated_answers.py",
    "memory/evidence.py",
    "memory/forgetting.py",
    "memory/grounding.py",
    "memory/speaker_names.py",
    "memory/inputs.py",
    "memory/pipeline.py",
    "memory/search/find.py",
    "memory/search/words.py",
    "memory/retrieval/lexical.py",
    "memory/search/hits.py",
    "memory/retrieval/search.py",
    "memory/retrieval/tables.py",
    "memory/stages/extraction.py",
    "memory/stages/generation.py",
    "memory/stages/grammars.py",
    "memory/stages/prompts.py",
    "memory/stages/text.py",
    "memory/stages/update.py",
    "memory/stages/vqa.py",
    "memory/store/full_text.py",
    "memory/store/messages.py",
    "memory/store/rows.py",
    "memory/store/store.py",
    "memory/store/transactions.py",
)


@once
def code_fingerprint() -> str:
    """Names the code that decides what a phase gives: where it changes, phases are done again (from kept calls)."""
    package = files("memlora_mlx")
    return content_key([(package / name).read_text(encoding="utf-8") for name in _CODE])
