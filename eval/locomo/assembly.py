"""What the systems said, put together into one run: rows, sums, order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memlora_mlx.eval.cases import BenchmarkCase, Question
from memlora_mlx.eval.locomo.questions import read_predictions
from memlora_mlx.eval.locomo.scoring import is_right
from memlora_mlx.eval.results import BenchRun, PhaseCost, QuestionResult, StageCost
from memlora_mlx.eval.systems.system import System, SystemAnswer, SystemResult


@dataclass(frozen=True, slots=True)
class SystemEntry:
    """A system that takes part, and what the report says of it."""

    system: System
    about: Mapping[str, Any]


def assemble(
    outcomes: Sequence[tuple[SystemEntry, BenchmarkCase, SystemResult]], corrections: Mapping[str, str]
) -> BenchRun:
    asked: list[QuestionResult] = []
    costs: list[StageCost] = []
    phases: list[PhaseCost] = []
    systems: dict[str, dict[str, Any]] = {}
    for entrant, case, outcome in outcomes:
        name = entrant.system.name
        for question, reply in zip(case.questions, outcome.replies, strict=True):
            asked.append(question_result(name, case.name, question, reply, corrections))
        costs += outcome.costs
        phases += outcome.phases
        known = systems.setdefault(name, {**entrant.about, "conversations": 0})
        known["conversations"] += 1
        known |= add_counts(known, outcome.memory)
    return BenchRun({}, tuple(asked), tuple(costs), tuple(phases), systems)


def question_result(
    system: str, conversation: str, question: Question, reply: SystemAnswer, corrections: Mapping[str, str]
) -> QuestionResult:
    return QuestionResult(
        system=system,
        conversation=conversation,
        question_id=question.id,
        category=question.category,
        question=question.text,
        gold=question.gold,
        evidence=question.evidence,
        answer=reply.answer,
        retrieved=reply.retrieved,
        recall=reply.recall,
        lost=reply.failure_stage,  # `finished` takes it back where the answer is right
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        seconds=round(reply.seconds, 4),
        corrected_gold=corrections.get(question.id),
    )


def prediction_results(
    files: Sequence[Path], cases: Sequence[BenchmarkCase], corrections: Mapping[str, str], failures: list[str]
) -> list[QuestionResult]:
    """The answers of prediction files, each a system named like its file."""
    made = []
    for file in files:
        answers = read_predictions(file)
        questions = [(case, question) for case in cases for question in case.questions]
        missing = [question.id for _, question in questions if question.id not in answers]
        if missing:
            few = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            failures.append(
                f"{file.name} has no answer to {len(missing)} of {len(questions)} questions; they count as unanswered ({few})"
            )
        for case, question in questions:
            reply = SystemAnswer(answers.get(question.id, ""), (), None, None, 0, 0, 0.0)
            made.append(question_result(file.stem, case.name, question, reply, corrections))
    return made


def unused_corrections_warning(corrections: Mapping[str, str], cases: Sequence[BenchmarkCase]) -> list[str]:
    """A complaint if none of the corrections is of a question that is asked: they are named wrongly, or of another file."""
    asked = [question.id for case in cases for question in case.questions]
    if not corrections or not asked or not corrections.keys().isdisjoint(asked):
        return []
    named = next(iter(corrections))
    return [
        f"none of the {len(corrections)} corrections is of a question of this run: {named!r} is none, {asked[0]!r} is"
    ]


def unread_exchanges_warnings(run: BenchRun) -> list[str]:
    """A line on each system that could not read all of its exchanges."""
    told = [(name, about["errors"]) for name, about in run.systems.items() if about.get("errors")]
    return [f"{name} failed on {count} exchanges, and remembers nothing of them" for name, count in told]


def finalise_run(run: BenchRun) -> BenchRun:
    """The run as it is kept: nothing lost where the answer was right, rows in order, costs and phases summed."""
    systems, conversations = run.origin["systems"], run.origin["conversations"]

    def place(one: QuestionResult) -> tuple[int, int, int]:
        number = int(one.question_id.rpartition("/")[2])
        return systems.index(one.system), conversations.index(one.conversation), number

    return replace(
        run,
        asked=tuple(replace(one, lost=None if is_right(one) else one.lost) for one in sorted(run.asked, key=place)),
        costs=tuple(sorted(_summed_costs(run.costs), key=lambda cost: systems.index(cost.system))),
        phases=tuple(sorted(_summed_phases(run.phases), key=lambda phase: systems.index(phase.system))),
        systems={name: run.systems[name] for name in systems if name in run.systems},
    )


def add_counts(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of `b` added to those of `a`."""
    summed: dict[str, Any] = {}
    for name, value in b.items():
        if isinstance(value, Mapping):
            summed[name] = {**a.get(name, {}), **add_counts(a.get(name, {}), value)}
        else:
            summed[name] = a.get(name, 0) + value
    return summed


def _summed_costs(costs: Sequence[StageCost]) -> tuple[StageCost, ...]:
    sums: dict[tuple[str, str], StageCost] = {}
    for cost in costs:
        known = sums.get((cost.system, cost.stage), StageCost(cost.system, cost.stage, 0, 0, 0, 0.0))
        sums[cost.system, cost.stage] = StageCost(
            cost.system,
            cost.stage,
            int(known.calls + cost.calls),
            int(known.input_tokens + cost.input_tokens),
            int(known.output_tokens + cost.output_tokens),
            known.seconds + cost.seconds,
        )
    return tuple(sums.values())


def _summed_phases(phases: Sequence[PhaseCost]) -> tuple[PhaseCost, ...]:
    sums: dict[tuple[str, str], PhaseCost] = {}
    for phase in phases:
        known = sums.get((phase.system, phase.name), PhaseCost(phase.system, phase.name, 0.0, 0.0, True))
        sums[phase.system, phase.name] = PhaseCost(
            phase.system,
            phase.name,
            known.seconds + phase.seconds,
            known.model_seconds + phase.model_seconds,
            known.from_cache and phase.from_cache,
            known.kept_seconds + phase.kept_seconds,
        )
    return tuple(sums.values())
