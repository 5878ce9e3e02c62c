"""The whole pipeline on lives that are generated, or on a file of conversations with questions: the judge of new experts."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from memlora_mlx.conversations.splits import SPLITS
from memlora_mlx.distill.synthetic_questions import generate_questions
from memlora_mlx.distill.synthetic_talks import talk_exchanges
from memlora_mlx.distill.synthetic_teacher import generate_talks
from memlora_mlx.eval.cases import BenchmarkCase, Question, limit_case
from memlora_mlx.eval.experts.end_to_end import answerable, workspace_with_experts
from memlora_mlx.eval.locomo.questions import read_cases
from memlora_mlx.eval.metrics.scorer import token_f1
from memlora_mlx.eval.systems.cache import Cache
from memlora_mlx.eval.systems.memory_system import MemorySystem
from memlora_mlx.eval.systems.students import engine_with_experts, run_context
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import STAGES, Stage

SEED = 8  # of lives that neither a training nor another benchmark uses
SHORT = (80, 40)  # exchanges and questions of a conversation from a file, where the time is limited


def generated_cases(count: int) -> list[BenchmarkCase]:
    """So many generated lives in phrases that no training life has, with questions about them."""
    cases = []
    for talk in generate_talks(count, "test", seed=SEED, held_out=True):
        asked = generate_questions(talk, held_out=True)
        questions = tuple(Question(f"{talk.name}/{i}", one.text, one.answer, 4, ()) for i, one in enumerate(asked))
        cases.append(BenchmarkCase(talk.name, tuple(talk_exchanges(talk)), questions))
    return cases


def cases_of_file(file: Path, *, short: bool) -> list[BenchmarkCase]:
    """The conversations of a file and what can be answered from them.

    Of LoCoMo, only those for validation are taken; of another file, all but those for testing.

    Args:
        short: take only the first exchanges, and some of the questions (`SHORT`).

    Raises:
        UsageError, BadConversation: see `read_cases`.
    """
    names = [case.name for case in read_cases(file)[0]]
    splits = SPLITS["paper"]
    held_out = [name for name in names if name in splits.validation]
    chosen = held_out or [name for name in names if splits.split_of(name) != "test"]
    cases = answerable(file, chosen, None, None)
    return [limit_case(case, *SHORT) for case in cases] if short else cases


class PipelineMeasure:
    """Token F1 of each question, with the experts that are given. What was measured before is not measured again.

    Args:
        folder: for what is kept of the measurements.
        cancelled: checked between the calls; `Cancelled` is raised.
    """

    def __init__(self, workspace: Workspace, folder: Path, cancelled: threading.Event) -> None:
        self._workspace, self._folder, self._cancelled = workspace, folder, cancelled

    def __call__(self, experts: Mapping[Stage, Path], cases: Sequence[BenchmarkCase]) -> list[float]:
        """Read every conversation with these experts (other stages use the base), then answer its questions."""
        scores: list[float] = []
        with workspace_with_experts(self._workspace, experts) as opened, Cache(self._folder) as cache:
            rules = opened.pipeline_options
            context = replace(run_context(opened, cache), rules=rules, cancelled=self._cancelled)
            for case in cases:
                calls = engine_with_experts(opened, context, STAGES)
                replies = MemorySystem("pipeline", calls, context).run(case, lambda *_: None).replies
                pairs = zip(replies, case.questions, strict=True)
                scores += [token_f1(reply.answer, question.gold) for reply, question in pairs]
        return scores
