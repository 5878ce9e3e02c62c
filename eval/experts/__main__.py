"""What each expert adds: base against experts under the same constrained decoding, in one table.

    python -m memlora_mlx.eval.experts LOCOMO.json [--exchanges N] [--questions N]

Stage by stage on held-out data: facts against LoCoMo's observations of the validation conversation, decisions on synthetic
lives that nobody trained on, answers from one memory bank. Then end to end, with Table 4's rows: who extracts, who
updates, who generates. All measured on the validation conversation; the test conversations are not touched.

The student's calls are kept where `memlora bench` keeps them, so a run that was stopped goes on, and what one of the two
has measured the other does not measure again. Writes docs/experts.json and docs/experts.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from memlora_mlx.distill.observations_teacher import AnnotatedConversation, read_annotated
from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.eval.cases import BenchmarkCase
from memlora_mlx.eval.experts import end_to_end, stage_scores
from memlora_mlx.eval.experts.report import as_markdown
from memlora_mlx.eval.metrics.intervals import bootstrap_mean, paired_bootstrap
from memlora_mlx.eval.metrics.scorer import Scorer, Scores, mean_scores, workspace_scorer
from memlora_mlx.eval.systems.cache import Cache, bench_folder
from memlora_mlx.eval.systems.cached_engine import CachedEngine
from memlora_mlx.eval.systems.students import engine_with_experts, run_context
from memlora_mlx.eval.systems.system import RunContext
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.adapter_registry import WEIGHTS, read_card
from memlora_mlx.records import Stage
from memlora_mlx.settings import load_settings

VALIDATION = "conv-26"
PARTS = ("extraction", "update", "generation", "pipeline")
ABLATION: Sequence[tuple[str, tuple[Stage, ...]]] = (
    ("base / base / base", ()),
    ("expert / base / base", ("extraction",)),
    ("expert / expert / base", ("extraction", "update")),
    ("all experts", ("extraction", "update", "generation")),
)


@dataclass(frozen=True, slots=True)
class StageBench:
    """What all parts are measured with."""

    workspace: Workspace
    context: RunContext
    scorer: Scorer
    conversation: AnnotatedConversation
    case: BenchmarkCase  # the same, as far as it is read, with its questions
    lives: int  # synthetic ones, of either kind

    @property
    def base_and_experts(self) -> dict[str, CachedEngine]:
        chosen: dict[str, tuple[Stage, ...]] = {"base": (), "experts": ABLATION[-1][1]}
        return {name: engine_with_experts(self.workspace, self.context, who) for name, who in chosen.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m memlora_mlx.eval.experts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("locomo", type=Path, help="LoCoMo's file")
    parser.add_argument("--exchanges", type=int, help="only the first so many of the validation conversation")
    parser.add_argument("--questions", type=int, help="only so many questions")
    parser.add_argument("--lives", type=int, default=12, help="synthetic lives to decide on, of either kind")
    parser.add_argument(
        "--experts", type=Path, help="a folder with a sub-folder for each stage; default: the shipped ones"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be given several times")
    parser.add_argument("--out", type=Path, default=Path("docs/experts.json"), help="the .md is written beside it")
    options = parser.parse_args(arguments)
    try:
        if not options.out.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {options.out.absolute().parent} to write into")
        settings = load_settings({"experts": str(options.experts) if options.experts else None})
        with Workspace(settings) as workspace, Cache(bench_folder(workspace) / "cache") as cache:
            report = measure(workspace, cache, options)
        if options.only and options.out.is_file():
            before = json.loads(options.out.read_text(encoding="utf-8"))
            report = before | report | {"measured": before["measured"] | report["measured"]}
        options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        options.out.with_suffix(".md").write_text(as_markdown(report), encoding="utf-8")
    except (MemloraError, OSError) as error:
        print(f"memlora: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code if isinstance(error, MemloraError) else 1) from None
    print(as_markdown(report))


def measure(workspace: Workspace, cache: Cache, options: argparse.Namespace) -> dict[str, Any]:
    """The parts asked for, base beside experts.

    Raises:
        UsageError: the student has no experts, or the file lacks the validation conversation.
    """
    from memlora_mlx.distill.training_runs import describe_environment

    if not workspace.expert_folders:
        raise UsageError(
            f"{workspace.student_name} has no experts that could be measured; name a folder with --experts"
        )
    [case] = end_to_end.answerable(options.locomo, [VALIDATION], options.exchanges, options.questions)
    bench = StageBench(
        workspace,
        run_context(workspace, cache),
        workspace_scorer(workspace),
        next(one for one in read_annotated(options.locomo) if one.name == VALIDATION),
        case,
        options.lives,
    )
    report: dict[str, Any] = {
        "environment": describe_environment()
        | {"student": workspace.student_name, "embedder": workspace.settings.embedder},
        "conversation": VALIDATION,
        "metrics": bench.scorer.origin,
        "measured": {},
    }
    about = {
        "made": f"{date.today():%d %B %Y}".lstrip("0"),
        "device": report["environment"]["device"],
        "experts": {stage: _weights(folder) for stage, folder in workspace.expert_folders.items()},
        "chosen_by": _chosen(workspace),
        "exchanges": len(case.exchanges),
        "questions": len(case.questions),
        "limit": bench.context.top_k,
    }
    measures = {"extraction": _extraction, "update": _update, "generation": _generation, "pipeline": _pipeline}
    for part in options.only or PARTS:
        report |= measures[part](bench)
        report["measured"][part] = about  # parts of other runs may stand beside it
    return report


def _weights(folder: Path) -> str:
    """Eight digits that name an expert's weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:8]


def _chosen(workspace: Workspace) -> dict[str, str]:
    """What decided for an expert beside its validation loss, as its card says: a figure of the same kind is biased."""
    found = {stage: read_card(folder).metrics for stage, folder in workspace.expert_folders.items()}
    return {stage: told.chosen_by for stage, told in found.items() if told and told.chosen_by}


def _extraction(bench: StageBench) -> dict[str, Any]:
    found, said = {}, bench.case.exchanges
    for name, calls in bench.base_and_experts.items():
        options = PipelineOptions() if name == "base" else bench.context.rules
        found[name] = stage_scores.extraction_scores(calls, bench.workspace.engine, options, bench.conversation, said)
        _say("extraction", name, found[name])
    return {"extraction": found, "extraction_exchanges": len(said)}


def _update(bench: StageBench) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for key, held_out in (("update", False), ("update_held_out_phrases", True)):
        examples = stage_scores.dialogue_examples(bench.workspace, bench.lives, held_out=held_out)
        report[key] = {}
        for name, calls in bench.base_and_experts.items():
            report[key][name] = stage_scores.update_scores(calls, examples, copied=bench.context.rules.copy_constrained)
            _say(key, name, report[key][name])
    return report


def _generation(bench: StageBench) -> dict[str, Any]:
    examples = stage_scores.held_out_generation_examples(bench.workspace, bench.conversation)[
        : len(bench.case.questions)
    ]
    found: dict[str, Any] = {}
    by_side: dict[str, list[Scores]] = {}
    for name, calls in bench.base_and_experts.items():
        found[name], by_side[name] = stage_scores.generation_scores(calls, bench.scorer, examples)
        _say("generation", name, found[name])
    return {"generation": found | {"gain": _gain(by_side["base"], by_side["experts"])}}


def _pipeline(bench: StageBench) -> dict[str, Any]:
    found: dict[str, Any] = {}
    scores: list[list[Scores]] = []
    for name, experts in ABLATION:
        if not all(stage in bench.workspace.expert_folders for stage in experts):
            continue
        calls = engine_with_experts(bench.workspace, bench.context, experts)
        served = end_to_end.run_end_to_end(calls, bench.context, bench.scorer, bench.case)
        scores.append(served.scores)
        found[name] = {
            **mean_scores(served.scores),
            "memories": served.memories,
            "exchanges_per_second": len(bench.case.exchanges) / served.ingest_seconds,
            "tokens_out": dict(served.tokens),
            "f1_interval": _interval([score.token_f1 for score in served.scores]),
            "L_interval": _interval([score.composite / 100 for score in served.scores]),
        }
        _say("pipeline", name, found[name])
    return {"pipeline": found, "pipeline_gain": _gain(scores[0], scores[-1])}


def _gain(base: Sequence[Scores], experts: Sequence[Scores]) -> dict[str, Any]:
    a, b = [score.token_f1 for score in experts], [score.token_f1 for score in base]
    difference = paired_bootstrap(a, b)
    return {
        "f1": float(np.mean(a)) / max(1e-9, float(np.mean(b))),
        "L": mean_scores(experts)["L"] / max(1e-9, mean_scores(base)["L"]),
        "f1_difference": [round(100 * x, 1) for x in (difference.interval.low, difference.interval.high)],
        "p": difference.p_value,
    }


def _interval(values: Sequence[float]) -> list[float]:
    found = bootstrap_mean(values)
    return [round(100 * found.low, 1), round(100 * found.high, 1)]


def _say(part: str, name: str, found: Mapping[str, Any]) -> None:
    print(part, name, dict(found), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
