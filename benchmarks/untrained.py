"""How a student without experts does with the stages' short prompts, and with rules and examples before them.

    python -m benchmarks.untrained LOCOMO.json --student NAME [--exchanges N] [--lives N] [--dialogues N] [--only PART]

- extraction: the first exchanges of conv-26, facts compared with the annotators' observations, after the guards against
  invented facts.
- update: facts of synthetic lives that no training uses, in phrases that none was trained on; one fact at a time,
  with the same grammar.
- conflicts: the dialogues of the conflict benchmark, through the whole pipeline.
- questions: the same exchanges of conv-26 through the whole pipeline, and the questions that they answer.

A run that was stopped goes on: every call is kept in the benchmarks' cache.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.extraction import Known
from memlora_mlx.conversations.splits import SPLITS
from memlora_mlx.distill.examples import TrainingExample
from memlora_mlx.distill.observations_teacher import read_annotated
from memlora_mlx.eval.conflict import benchmark
from memlora_mlx.eval.experts.end_to_end import answerable, run_end_to_end
from memlora_mlx.eval.experts.stage_scores import SAME, dialogue_examples, update_scores
from memlora_mlx.eval.metrics.scorer import workspace_scorer
from memlora_mlx.eval.systems.cache import Cache, bench_folder
from memlora_mlx.eval.systems.students import engine_with_experts, run_context
from memlora_mlx.eval.systems.system import RunContext
from memlora_mlx.memory import stages
from memlora_mlx.memory.grounding import ground_facts
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import ChatMessages, Request, Stage
from memlora_mlx.settings import load_settings

WAYS = ("short prompt", "rules and examples")
RESAMPLES = 2000
AT_A_TIME = 8  # requests before a line of progress


@dataclass(frozen=True, slots=True)
class Found:
    """Facts of one exchange: how many are right, were found, and are in the observations."""

    right: int
    found: int
    wanted: int


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("locomo", type=Path, help="LoCoMo's file")
    parser.add_argument("--student", required=True, help="a student's name or folder; its experts are not used")
    parser.add_argument("--exchanges", type=int, default=80, help="the first N exchanges of conv-26 (default: 80)")
    parser.add_argument("--lives", type=int, default=6, help="synthetic lives to decide about (default: 6)")
    parser.add_argument("--dialogues", type=int, help="dialogues of each class of conflicts (default: all)")
    parser.add_argument("--only", choices=tuple(PARTS), action="append", help="measure only this; can be repeated")
    options = parser.parse_args(argv)
    settings = load_settings({"student": options.student, "experts": "none"})
    with Workspace(settings) as workspace, Cache(bench_folder(workspace) / "cache") as cache:
        for part in options.only or PARTS:
            PARTS[part](workspace, cache, options)


def measure_extraction(workspace: Workspace, cache: Cache, options: argparse.Namespace) -> None:
    [name] = SPLITS["paper"].validation
    annotated = next(one for one in read_annotated(options.locomo) if one.name == name)
    known = [(one, annotated.facts_of(one)) for one in annotated.exchanges[: options.exchanges]]
    print("| extraction | exchanges | precision | recall | F1 | 95 % | facts |\n|---|---:|---:|---:|---:|---|---:|")
    for way in WAYS:
        print(f"| {way} | {extraction_row(workspace, cache, known, way)} |", flush=True)


def measure_updates(workspace: Workspace, cache: Cache, options: argparse.Namespace) -> None:
    examples = dialogue_examples(workspace, options.lives, held_out=True)
    print(
        "| update | facts right | wrong deletions | ADD | DELETE | NONE | UPDATE |\n|---|---|---:|---:|---:|---:|---:|"
    )
    for way in WAYS:
        print(f"| {way} | {update_row(workspace, cache, examples, way)} |", flush=True)


def measure_conflicts(workspace: Workspace, cache: Cache, options: argparse.Namespace) -> None:
    print("| conflicts | exact | 95 % |\n|---|---:|---|")
    for way in WAYS:
        done = benchmark.run(
            workspace,
            ("base",),
            limit=options.dialogues,
            context=_context(workspace, cache, way),
            on_progress=_progress,
        )
        overall = done["systems"]["base"]["overall"]
        low, high = overall["interval"]
        print(f"| {way} | {overall['exact']} of {overall['n']} | {low:.0%} to {high:.0%} |", flush=True)


def measure_questions(workspace: Workspace, cache: Cache, options: argparse.Namespace) -> None:
    print("| questions | memories | F1 | 95 % | asked |\n|---|---:|---:|---|---:|")
    scorer = workspace_scorer(workspace)
    for way in WAYS:
        context = _context(workspace, cache, way)
        [case] = answerable(options.locomo, list(SPLITS["paper"].validation), options.exchanges, None)
        calls = engine_with_experts(workspace, context, ())
        found = run_end_to_end(calls, context, scorer, case)
        scores = 100 * np.array([one.token_f1 for one in found.scores])
        drawn = np.random.default_rng(0).choice(scores, (RESAMPLES, len(scores))).mean(axis=1)
        low, high = np.percentile(drawn, [2.5, 97.5])
        print(
            f"| {way} | {found.memories} | {scores.mean():.1f} | {low:.1f} to {high:.1f} | {len(scores)} |", flush=True
        )


PARTS: dict[str, Callable[[Workspace, Cache, argparse.Namespace], None]] = {
    "extraction": measure_extraction,
    "update": measure_updates,
    "conflicts": measure_conflicts,
    "questions": measure_questions,
}


def _context(workspace: Workspace, cache: Cache, way: str) -> RunContext:
    """The pipeline as it asks in one way: with examples it also copies facts, and decides about one at a time."""
    context = run_context(workspace, cache)
    shows = way == WAYS[1]
    stages_shown: frozenset[Stage] = frozenset(("extraction", "update") if shows else ())
    rules = replace(context.rules, zero_shot=stages_shown, copy_constrained=shows, per_fact=shows)
    return replace(context, rules=rules)


def _progress(system: str, done: int, exchanges: int) -> None:
    print(f"{done} of {exchanges} exchanges", file=sys.stderr, flush=True)


def prompt(stage: Stage, chat: ChatMessages, way: str) -> ChatMessages:
    return stages.zero_shot_chat(stage, chat) if way == WAYS[1] else chat


def extraction_row(workspace: Workspace, cache: Cache, known: Known, way: str) -> str:
    """The cells of a row of the table."""
    calls = engine_with_experts(workspace, run_context(workspace, cache), ())
    requests = [
        Request(
            "extraction",
            prompt("extraction", stages.extraction_chat(exchange), way),
            stages.extraction_grammar(exchange, verbatim_only=False),
            stages.EXTRACTION_TOKENS,
        )
        for exchange, _ in known
    ]
    found: list[Found] = []
    for begin in range(0, len(requests), AT_A_TIME):
        answers = calls.complete_all(requests[begin : begin + AT_A_TIME])
        for (exchange, gold), answer in zip(known[begin:], answers, strict=False):
            facts = list(ground_facts([(exchange, stages.parse_facts(answer.text))]).kept)
            found.append(Found(_right(workspace, facts, gold), len(facts), len(gold)))
            shown = {"said": [m.text[:120] for m in exchange.messages], "gold": list(gold), "found": facts}
            print(json.dumps(shown, ensure_ascii=False), file=sys.stderr)
    precision, recall, f1 = _shares(found)
    low, high = np.percentile(list(_resampled(found)), [2.5, 97.5])
    count = sum(one.found for one in found)
    return f"{len(found)} | {precision:.2f} | {recall:.2f} | {f1:.2f} | {low:.2f} to {high:.2f} | {count}"


def update_row(workspace: Workspace, cache: Cache, examples: Sequence[TrainingExample], way: str) -> str:
    """The cells of a row of the table."""
    from memlora_mlx.eval.metrics.intervals import wilson

    calls = engine_with_experts(workspace, run_context(workspace, cache), ())
    for begin in range(0, len(examples), AT_A_TIME):  # in small portions, which a stopped run has kept
        portion = examples[begin : begin + AT_A_TIME]
        update_scores(calls, portion, copied=True, prompt=lambda chat: prompt("update", chat, way))
        print(f"{way}: {begin + len(portion)} of {len(examples)}", file=sys.stderr, flush=True)
    found = update_scores(calls, examples, copied=True, prompt=lambda chat: prompt("update", chat, way))
    right = wilson(round(found["facts_exact"] * found["facts"]), found["facts"])
    events = found["events"]
    by_event = [events.get(event, {"right": 0, "of": 0}) for event in ("ADD", "DELETE", "NONE", "UPDATE")]
    cells = " | ".join(f"{one['right']} of {one['of']}" for one in by_event)
    share = f"{right.value:.0%} of {found['facts']} ({right.low:.0%} to {right.high:.0%})"
    return f"{share} | {found['wrong_deletions']} of {found['facts']} | {cells}"


def _right(workspace: Workspace, facts: Sequence[str], gold: Sequence[str]) -> int:
    if not facts or not gold:
        return 0
    alike = workspace.engine.embed(list(facts)) @ workspace.engine.embed(list(gold)).T >= SAME
    return min(int(alike.any(axis=0).sum()), int(alike.any(axis=1).sum()))


def _shares(found: Sequence[Found]) -> tuple[float, float, float]:
    right = sum(one.right for one in found)
    precision = right / max(1, sum(one.found for one in found))
    recall = right / max(1, sum(one.wanted for one in found))
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def _resampled(found: Sequence[Found]) -> Iterator[float]:
    """F1 of exchanges drawn again and again."""
    random = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        yield _shares([found[i] for i in random.integers(len(found), size=len(found))])[2]


if __name__ == "__main__":
    main()
