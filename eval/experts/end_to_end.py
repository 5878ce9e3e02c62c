"""The whole way, from exchanges to answers, with any stage's expert or without: the benchmark's own pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from memlora_mlx.eval.cases import BenchmarkCase, limit_case
from memlora_mlx.eval.locomo.questions import read_cases
from memlora_mlx.eval.metrics.scorer import Scorer, Scores, mean_scores, workspace_scorer
from memlora_mlx.eval.results import SCORED
from memlora_mlx.eval.systems.cache import Cache
from memlora_mlx.eval.systems.cached_engine import CachedEngine
from memlora_mlx.eval.systems.memory_system import MemorySystem
from memlora_mlx.eval.systems.students import engine_with_experts, run_context
from memlora_mlx.eval.systems.system import RunContext
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import STAGES, Stage


@dataclass(frozen=True, slots=True)
class EndToEndResult:
    """One row of the ablation: the scores, and what the way there cost."""

    scores: list[Scores]
    memories: int
    ingest_seconds: float
    tokens: Mapping[str, float]  # written by each stage, a call


def run_end_to_end(calls: CachedEngine, context: RunContext, scorer: Scorer, case: BenchmarkCase) -> EndToEndResult:
    """The benchmark's own pipeline on a conversation."""
    outcome = MemorySystem("pipeline", calls, context).run(case, lambda *_: None)
    pairs = [(reply.answer, question.gold) for reply, question in zip(outcome.replies, case.questions, strict=True)]
    tokens = {cost.stage: cost.output_tokens / cost.calls for cost in outcome.costs if cost.calls}
    return EndToEndResult(scorer.score(pairs), outcome.memory["memories"], outcome.phases[0].seconds, tokens)


def pipeline_scores(
    workspace: Workspace,
    experts: Mapping[Stage, Path],
    file: Path,
    names: Sequence[str],
    *,
    questions: int | None = None,
    exchanges: int | None = None,
) -> dict[str, float]:
    """The full pipeline with these experts on whole conversations (Algorithm B1's outer loop); nothing of it is kept."""
    scores: list[Scores] = []
    with (
        workspace_with_experts(workspace, experts) as opened,
        tempfile.TemporaryDirectory() as folder,
        Cache(Path(folder)) as cache,
    ):
        ground, scorer = run_context(opened, cache), workspace_scorer(opened)
        for case in answerable(file, names, exchanges, questions):
            scores += run_end_to_end(engine_with_experts(opened, ground, STAGES), ground, scorer, case).scores
    return mean_scores(scores)


def answerable(file: Path, names: Sequence[str], exchanges: int | None, questions: int | None) -> list[BenchmarkCase]:
    """The first exchanges of these conversations, and what can be answered from them (categories 1 to 4)."""
    cases = []
    for whole in read_cases(file, names=names)[0]:
        case = limit_case(whole, exchanges, None)
        case = replace(case, questions=tuple(one for one in case.questions if one.category in SCORED))
        cases.append(limit_case(case, None, questions))
    return cases


@contextmanager
def workspace_with_experts(workspace: Workspace, experts: Mapping[Stage, Path]) -> Iterator[Workspace]:
    """The same student with other experts."""
    with tempfile.TemporaryDirectory() as folder:
        for stage, path in experts.items():
            Path(folder, stage).symlink_to(path.resolve(), target_is_directory=True)
        chosen = folder if experts else "none"
        settings = replace(workspace.settings, experts=chosen)
        with Workspace(settings, models_folder=workspace.models_folder) as opened:
            yield opened
