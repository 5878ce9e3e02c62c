"""Answers to scores and verdicts; what is right, and what abstains."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from memlora_mlx.errors import MemloraError
from memlora_mlx.eval.results import BenchRun, PhaseCost, QuestionResult
from memlora_mlx.eval.systems.cache import CacheNamespace, content_key
from memlora_mlx.eval.systems.system import RunContext, measure_phase
from memlora_mlx.memory.workspace import Workspace

RIGHT_F1 = 0.5
RULES: Mapping[str, str] = {
    "right": f"without a judge an answer counts as right from a token F1 of {RIGHT_F1}, or as an exact match; with one, by"
    " its generous rubric",
    "abstained": "an answer abstains if it is empty or says that there is no answer (not mentioned, no information, do not"
    " know, unknown, cannot be determined and the like)",
    "lost": "the first stage that one of the evidence turns did not pass: its exchange gave no memory (not extracted); all it"
    " gave was deleted, or replaced by words that keep less than half of its own (updated away); none of it was among"
    " what the answer was given (not retrieved); else the answer was wrong (answered wrongly)",
}
_ABSTAINS = re.compile(
    r"\b(not (explicitly |directly )?(mentioned|stated|specified|said|provided|given|known|available|discussed|clear)"
    r"|no (information|mention|answer|memory|memories|evidence)|never (mentioned|said|stated)"
    r"|(do|does|did) ?n[o']t (know|mention|say|state|specify)|does not (hold|contain)|unknown|unanswerable|n/a"
    r"|cannot be (determined|answered|known)|can ?n[o']t (tell|say|answer))\b",
    re.IGNORECASE,
)

OnRunProgress = Callable[[str, str, str, int, int], None]  # system, conversation, phase, done, total


def score_run(
    run: BenchRun, workspace: Workspace, context: RunContext, origin: dict[str, Any], on_progress: OnRunProgress
) -> BenchRun:
    """The run with every answer scored against its gold answer, and its corrected one."""
    from memlora_mlx.eval.metrics.scorer import workspace_scorer

    scorer = workspace_scorer(workspace)
    origin["metrics"] = scorer.origin
    known: dict[tuple[str, str], dict[str, float]] = {}
    phases = []
    names = list(dict.fromkeys(one.system for one in run.asked))
    for name in names:
        context.check()
        mine = [one for one in run.asked if one.system == name and one.category != 5]
        golds = [(one.answer, gold) for one in mine for gold in (one.gold, one.corrected_gold) if gold]
        before = scorer.model_seconds
        with measure_phase(context.clock) as spent:
            keys = {pair: content_key(["score", scorer.origin, pair]) for pair in golds if pair not in known}
            known |= {pair: found for pair, key in keys.items() if (found := context.cache.get(key)) is not None}
            missing = [pair for pair in keys if pair not in known]
            on_progress(name, "", "scores", len(golds) - len(missing), len(golds))
            for pair, found in zip(missing, scorer.score(missing), strict=True):
                known[pair] = {part: round(value, 6) for part, value in asdict(found).items()}
                context.cache.put(keys[pair], known[pair])
        phases.append(
            PhaseCost(name, "scores", spent["seconds"], scorer.model_seconds - before, bool(golds) and not missing)
        )
    asked = []
    for one in run.asked:
        abstained = {"abstained": float(is_abstention(one.answer))}
        scores = {} if one.category == 5 else known[one.answer, one.gold]
        corrected = known[one.answer, one.corrected_gold] if one.corrected_gold and one.category != 5 else {}
        asked.append(replace(one, scores={**scores, **abstained}, corrected_scores=corrected))
    return replace(run, asked=tuple(asked), phases=(*run.phases, *phases))


def judge_run(
    run: BenchRun,
    spec: str | None,
    workspace: Workspace,
    context: RunContext,
    origin: dict[str, Any],
    failures: list[str],
    on_progress: OnRunProgress,
) -> BenchRun:
    """The run with a judge's verdicts by both rubrics; what it said before is not asked again."""
    origin["judge"] = None
    if spec is None:
        return run
    from memlora_mlx.eval.metrics.judges import RUBRICS, JudgedAnswer, open_judge

    try:
        judge = open_judge(spec, workspace, cache=CacheNamespace(context.cache, "judge"))
    except MemloraError as error:
        failures.append(f"no answer was judged: {error}")
        return run
    origin["judge"] = {"name": judge.name, "prompts": dict(judge.prompt_hashes)}
    # of each answer, by the published gold answer and by the corrected one
    verdicts: dict[tuple[int, bool], dict[str, bool]] = {
        (i, of): {} for i in range(len(run.asked)) for of in (False, True)
    }
    phases = []
    with judge:
        origin["judge"]["controls"] = {rubric: list(told) for rubric, told in judge.controls().items()}
        for name in dict.fromkeys(one.system for one in run.asked):
            mine = [(i, one) for i, one in enumerate(run.asked) if one.system == name and one.category != 5]
            items = {(i, False): JudgedAnswer(one.question, one.gold, one.answer) for i, one in mine}
            items |= {
                (i, True): JudgedAnswer(one.question, one.corrected_gold, one.answer)
                for i, one in mine
                if one.corrected_gold
            }
            is_known = True
            with measure_phase(context.clock) as spent:
                for rubric in RUBRICS:
                    context.check()
                    steps: list[int] = []

                    def told(more: int, steps: list[int] = steps, of: str = name, by: str = rubric) -> None:
                        steps.append(more)
                        on_progress(of, by, "judge", sum(steps), len(items))  # noqa: B023 - called before it changes

                    found = judge.verdicts(list(items.values()), rubric, on_progress=told)
                    for place, verdict in zip(items, found, strict=True):
                        if verdict is not None:
                            verdicts[place][rubric] = verdict
                    is_known = is_known and steps[:1] == [len(items)]
            phases.append(PhaseCost(name, "judge", spent["seconds"], spent["seconds"], is_known))
    if judge.failures:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in judge.failures.most_common())
        failures.append(f"{judge.name} gave no verdict on some answers, and J is of the others: {reasons}")
    asked = tuple(
        replace(one, verdicts=verdicts[i, False], corrected_verdicts=verdicts[i, True])
        for i, one in enumerate(run.asked)
    )
    return replace(run, asked=asked, phases=(*run.phases, *phases))


def is_right(result: QuestionResult) -> bool:
    """By `RULES["right"]`; in category 5, whether it abstained."""
    if result.category == 5:
        return result.scores.get("abstained") == 1.0
    if "generous" in result.verdicts:
        return result.verdicts["generous"]
    return result.scores.get("token_f1", 0.0) >= RIGHT_F1 or result.scores.get("exact") == 1.0


def is_abstention(answer: str) -> bool:
    """By `RULES["abstained"]`."""
    return not answer.strip() or _ABSTAINS.search(answer.replace("\u2019", "'")) is not None
