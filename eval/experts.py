"""What each expert adds: base against experts under the same constrained decoding, in one table.

    python -m memlora_mlx.eval.experts LOCOMO.json [--exchanges N] [--questions N]

Stage by stage on held-out data: facts against LoCoMo's observations of the validation conversation, decisions on synthetic
lives that nobody trained on, answers from one memory bank. Then end to end, with Table 4's rows: who extracts, who
updates, who generates. All measured on the validation conversation; the test conversations are not touched.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memlora_mlx.distill.banks import empty_bank
from memlora_mlx.distill.observations import Annotated, read_annotated, rows
from memlora_mlx.distill.rows import SPLITS, Row
from memlora_mlx.distill.synthetic import lives, update_rows
from memlora_mlx.eval.bench import calls_of
from memlora_mlx.eval.cache import Cache
from memlora_mlx.eval.calls import ModelClock
from memlora_mlx.eval.metrics import Scores, bootstrap_mean, paired_bootstrap, wilson, workspace_scorer
from memlora_mlx.eval.questions import Case
from memlora_mlx.eval.questions import Question as Asked
from memlora_mlx.eval.systems import Ground, MemorySystem
from memlora_mlx.memory import stages
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import STAGES, Completion, Exchange, Request, Stage
from memlora_mlx.settings import load_settings

if TYPE_CHECKING:
    from memlora_mlx.distill.banks import Question

SAME = 0.7  # cosine from which two facts count as the same
VALIDATION = "conv-26"
LIMIT = 5  # memories of each speaker that an answer is given


# ------------------------------------------------------------------------------------------------ stage by stage


def complete(workspace: Workspace, requests: Iterable[Request]) -> list[Completion]:
    """The student's answers, many at once."""
    from memlora_mlx.models.engine import Priority

    waiting = [workspace.engine.submit(request, priority=Priority.BACKGROUND) for request in requests]
    return [future.result() for future in waiting]


def extraction_scores(workspace: Workspace, conversation: Annotated, chosen: Sequence[Exchange]) -> dict[str, float]:
    """Precision, recall and F1 of facts against the observations, both matched by the embedder; tokens written."""
    answers = complete(
        workspace,
        [
            Request(
                "extraction",
                stages.extraction_chat(exchange),
                stages.extraction_grammar(exchange, grounded=False),
                stages.EXTRACTION_TOKENS,
            )
            for exchange in chosen
        ],
    )
    right = found = wanted = written = 0
    for exchange, answer in zip(chosen, answers, strict=True):
        facts, gold = stages.parse_facts(answer.text), conversation.facts_of(exchange)
        found, wanted, written = found + len(facts), wanted + len(gold), written + answer.output_tokens
        if facts and gold:
            alike = workspace.engine.embed(facts) @ workspace.engine.embed(gold).T >= SAME
            right += min(int(alike.any(axis=0).sum()), int(alike.any(axis=1).sum()))
    precision, recall = right / max(1, found), right / max(1, wanted)
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "facts": found,
        "tokens_out": written / max(1, len(chosen)),
    }


def lives_rows(workspace: Workspace, count: int, *, held_out: bool) -> list[Row]:
    """Update rows of so many lives that no run ever saw; held out: in phrases that none was trained on."""
    made: list[Row] = []
    for life in lives(count, "test", held_out=held_out):
        with empty_bank(workspace) as bank:
            made += update_rows(life, bank, "test")
    return made


def update_scores(workspace: Workspace, examples: Sequence[Row], *, copied: bool) -> dict[str, Any]:
    """Exact accuracy of operations: of whole answers, and of each event.

    An answer is exact if it decides the same (event, id) pairs as the right one, with the same texts for what is added or
    updated.
    """
    asked = [_offered(row) for row in examples]
    answers = complete(
        workspace,
        [
            Request("update", row.chat, stages.update_grammar(old, facts, copied=copied), stages.UPDATE_TOKENS)
            for row, (old, facts) in zip(examples, asked, strict=True)
        ],
    )
    exact = 0
    wanted: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for row, (old, facts), answer in zip(examples, asked, answers, strict=True):
        gold, made = _operations(row.answer, old), _operations(answer.text, old)
        exact += gold == made
        for event, *_ in gold:
            wanted[event] += 1
        for event, *_ in gold & made:
            right[event] += 1
        if len(gold) < len(facts):  # at least one fact says what is known already
            wanted["NONE"] += len(facts) - len(gold)
            right["NONE"] += len(facts) - len(gold) if len(made - gold) == 0 else 0
    return {
        "rows": len(examples),
        "exact": exact / max(1, len(examples)),
        "interval": [round(x, 3) for x in _bounds(exact, len(examples))],
        "events": {event: {"right": right[event], "of": wanted[event]} for event in sorted(wanted)},
        "tokens_out": sum(answer.output_tokens for answer in answers) / max(1, len(answers)),
    }


def generation_scores(workspace: Workspace, examples: Sequence[Row]) -> tuple[dict[str, Any], list[Scores]]:
    """L and its parts, token F1, exact match and tokens written, for questions over one bank."""
    answers = complete(workspace, [Request("generation", row.chat, None, stages.ANSWER_TOKENS) for row in examples])
    scores = workspace_scorer(workspace).score(
        [(answer.text.strip(), row.answer) for row, answer in zip(examples, answers, strict=True)]
    )
    written = sum(answer.output_tokens for answer in answers) / max(1, len(answers))
    return {**means(scores), "questions": len(examples), "tokens_out": written}, scores


# ------------------------------------------------------------------------------------------------ end to end


@dataclass(frozen=True, slots=True)
class Served:
    """One row of the ablation: the scores, and what the way there cost."""

    scores: list[Scores]
    memories: int
    ingest_seconds: float
    tokens: Mapping[str, float]  # written by each stage, a call


def serve(workspace: Workspace, chosen: Sequence[Exchange], questions: Sequence[Question], *, copied: bool) -> Served:
    """The benchmark's own pipeline on these exchanges and questions, with nothing kept of it."""
    asked = tuple(Asked(f"/{i}", q.text, q.answer, q.category, q.evidence) for i, q in enumerate(questions))
    rules = replace(workspace.rules, grounded=frozenset(), copied=copied)
    with tempfile.TemporaryDirectory() as folder, Cache(Path(folder)) as cache:
        ground = Ground(cache, ModelClock(), workspace.space, rules, LIMIT, threading.Event())
        calls = calls_of({stage: (workspace, True) for stage in STAGES}, workspace, ground)
        outcome = MemorySystem("pipeline", calls, ground).run(Case("", tuple(chosen), asked), lambda *_: None)
    pairs = [(reply.answer, question.answer) for reply, question in zip(outcome.replies, questions, strict=True)]
    tokens = {cost.stage: cost.output_tokens / cost.calls for cost in outcome.costs if cost.calls}
    scores = workspace_scorer(workspace).score(pairs)
    return Served(scores, outcome.memory["memories"], outcome.phases[0].seconds, tokens)


def pipeline_scores(
    workspace: Workspace,
    experts: Mapping[Stage, Path],
    file: Path,
    names: Sequence[str],
    *,
    questions: int | None = None,
    exchanges: int | None = None,
) -> dict[str, float]:
    """The full pipeline with these experts on whole conversations (Algorithm B1's outer loop)."""
    scores: list[Scores] = []
    for conversation in read_annotated(file):
        if conversation.name in names:
            chosen, asked = subset(conversation, exchanges, questions)
            with using(workspace, experts) as opened:
                scores += serve(opened, chosen, asked, copied=opened.rules.copied).scores
    return means(scores)


def subset(
    conversation: Annotated, exchanges: int | None, questions: int | None
) -> tuple[list[Exchange], list[Question]]:
    """The first exchanges, and the questions (categories 1 to 4) whose evidence lies in them."""
    chosen = list(conversation.exchanges[:exchanges])
    said = {message.ref for exchange in chosen for message in exchange.messages}
    asked = [q for q in conversation.questions if q.category != 5 and q.evidence and set(q.evidence) <= said]
    return chosen, asked[:questions]


@contextmanager
def using(workspace: Workspace, experts: Mapping[Stage, Path]) -> Iterator[Workspace]:
    """The same student with other experts."""
    with tempfile.TemporaryDirectory() as folder:
        for stage, path in experts.items():
            Path(folder, stage).symlink_to(path.resolve(), target_is_directory=True)
        chosen = folder if experts else "none"
        settings = replace(workspace.settings, experts=chosen)
        with Workspace(settings, models_folder=workspace.models_folder) as opened:
            yield opened


# ------------------------------------------------------------------------------------------------ parts


def means(scores: Sequence[Scores]) -> dict[str, float]:
    """L, its parts, token F1 and exact match, x 100."""
    names = ("rouge_1", "meteor", "bert_score", "sentence_bert")
    found = {name: 100 * float(np.mean([getattr(score, name) for score in scores])) for name in names}
    return {
        "f1": 100 * float(np.mean([score.token_f1 for score in scores])),
        "L": float(np.mean([score.composite for score in scores])),
        **found,
        "exact": 100 * float(np.mean([score.exact for score in scores])),
    }


def _offered(row: Row) -> tuple[list[str], list[str]]:
    found = stages.offered(row.chat)
    assert found is not None, "not an update prompt"
    return found


def _operations(answer: str, old: Sequence[str]) -> set[tuple[str, str, str]]:
    """(event, id or "new", text) of each decision; a DELETE has no text of its own."""
    return {
        (d.event, "new" if d.number is None else str(d.number), "" if d.event == "DELETE" else d.text.casefold())
        for d in stages.parse_update(answer, old).decisions
    }


def _bounds(successes: int, n: int) -> tuple[float, float]:
    interval = wilson(successes, max(1, n))
    return interval.low, interval.high


# ------------------------------------------------------------------------------------------------ the command


ABLATION: Sequence[tuple[str, Sequence[Stage]]] = (
    ("base / base / base", ()),
    ("expert / base / base", ("extraction",)),
    ("expert / expert / base", ("extraction", "update")),
    ("all experts", ("extraction", "update", "generation")),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m memlora_mlx.eval.experts", description=__doc__)
    parser.add_argument("locomo", type=Path, help="LoCoMo's file")
    parser.add_argument("--exchanges", type=int, help="only the first so many of the validation conversation")
    parser.add_argument("--questions", type=int, help="only so many questions")
    parser.add_argument("--lives", type=int, default=12, help="synthetic lives to decide on, of either kind")
    parser.add_argument(
        "--experts", type=Path, help="a folder with a sub-folder for each stage; default: the shipped ones"
    )
    parser.add_argument("--only", choices=("extraction", "update", "generation", "pipeline"), action="append")
    parser.add_argument("--out", type=Path, default=Path("docs/experts.json"))
    options = parser.parse_args(arguments)
    with Workspace(load_settings({"experts": str(options.experts) if options.experts else None})) as workspace:
        experts = dict(workspace.expert_folders)
        report = measure(workspace, experts, options)
    known = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    known |= report
    options.out.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(as_markdown(known), encoding="utf-8")
    print(as_markdown(known))


def measure(workspace: Workspace, experts: Mapping[Stage, Path], options: argparse.Namespace) -> dict[str, Any]:
    """The parts asked for, base beside experts."""
    from memlora_mlx.distill.workflow import environment

    conversation = next(c for c in read_annotated(options.locomo) if c.name == VALIDATION)
    chosen, asked = subset(conversation, options.exchanges, options.questions)
    copied = workspace.rules.copied  # the same decoding for both sides
    only = options.only or ("extraction", "update", "generation", "pipeline")
    report: dict[str, Any] = {
        "environment": environment() | {"student": workspace.student_name, "embedder": workspace.settings.embedder},
        "conversation": VALIDATION,
        "exchanges": len(chosen),
        "questions": len(asked),
        "metrics": workspace_scorer(workspace).origin,
    }
    sides: dict[str, Mapping[Stage, Path]] = {"base": {}, "experts": experts}
    if "extraction" in only:
        report["extraction"], report["extraction_exchanges"] = {}, len(chosen)
        for name, side in sides.items():
            with using(workspace, side) as opened:
                report["extraction"][name] = extraction_scores(opened, conversation, chosen)
            _say("extraction", name, report["extraction"][name])
    if "update" in only:
        data = {
            kind: lives_rows(workspace, options.lives, held_out=kind == "held_out") for kind in ("lives", "held_out")
        }
        for kind, examples in data.items():
            key = "update" if kind == "lives" else "update_held_out_phrases"
            report[key] = {}
            for name, side in sides.items():
                with using(workspace, side) as opened:
                    report[key][name] = update_scores(opened, examples, copied=copied)
                _say(key, name, report[key][name])
    if "generation" in only:
        examples = [
            row for row in rows("generation", conversation, workspace, SPLITS["paper"]) if row.answer != "Not mentioned"
        ][: options.questions]
        report["generation"], by_side = {}, []
        for name, side in sides.items():
            with using(workspace, side) as opened:
                report["generation"][name], scores = generation_scores(opened, examples)
                by_side.append(scores)
            _say("generation", name, report["generation"][name])
        report["generation"]["gain"] = _gain(*by_side)
    if "pipeline" in only:
        report["pipeline"] = {}
        served: dict[str, Served] = {}
        for name, stages_used in ABLATION:
            if all(stage in experts for stage in stages_used):
                with using(workspace, {stage: experts[stage] for stage in stages_used}) as opened:
                    served[name] = one = serve(opened, chosen, asked, copied=copied)
                report["pipeline"][name] = {
                    **means(one.scores),
                    "memories": one.memories,
                    "exchanges_per_second": len(chosen) / one.ingest_seconds,
                    "tokens_out": dict(one.tokens),
                    "f1_interval": _interval([score.token_f1 for score in one.scores]),
                    "L_interval": _interval([score.composite / 100 for score in one.scores]),
                }
                _say("pipeline", name, report["pipeline"][name])
        report["pipeline_gain"] = _gain(served[ABLATION[0][0]].scores, served[list(served)[-1]].scores)
    return report


def as_markdown(report: Mapping[str, Any]) -> str:
    """The report for people: a table a stage, then the ablation."""
    about = report["environment"]
    lines = [
        "# What the experts add",
        "",
        "Written by `python -m memlora_mlx.eval.experts LOCOMO.json`: base against experts, both under the same constrained",
        f"decoding. Student {about['student']}, embedder {about['embedder']}, {about['device']}, mlx {about['mlx']}.",
        f"LoCoMo {report['conversation']} (validation, never trained on).",
        "",
    ]
    if found := report.get("extraction"):
        lines += [
            "## Extraction",
            "",
            f"Facts against LoCoMo's observations, {report['extraction_exchanges']} exchanges;",
        ]
        lines += [f"two facts are the same from a cosine of {SAME} on.", ""]
        lines += ["| | precision | recall | F1 | facts | tokens out |", "|---|---:|---:|---:|---:|---:|"]
        for name, row in found.items():
            shares = " | ".join(f"{row[key]:.2f}" for key in ("precision", "recall", "f1"))
            lines.append(f"| {name} | {shares} | {row['facts']} | {row['tokens_out']:.1f} |")
        lines.append("")
    for key, title in (
        ("update", "Update, held-out lives"),
        ("update_held_out_phrases", "Update, held-out lives in phrases never trained on"),
    ):
        if found := report.get(key):
            lines += [
                f"## {title}",
                "",
                "Answers with exactly the right decisions and texts; right decisions per event.",
                "",
            ]
            events = list(next(iter(found.values()))["events"])
            lines += ["| | exact | 95 % | " + " | ".join(events) + " |", "|---|---:|---|" + "---:|" * len(events)]
            for name, row in found.items():
                low, high = row["interval"]
                told = " | ".join(f"{row['events'][e]['right']} of {row['events'][e]['of']}" for e in events)
                lines.append(f"| {name} | {row['exact']:.0%} of {row['rows']} | {low:.0%} to {high:.0%} | {told} |")
            lines.append("")
    if found := report.get("generation"):
        sides = {name: row for name, row in found.items() if name != "gain"}
        count = next(iter(sides.values()))["questions"]
        lines += [
            "## Generation",
            "",
            f"{count} questions over one bank, of the observations.",
            "",
            *_quality(sides),
            "",
        ]
        lines += [_gain_line(found["gain"]), ""]
    if found := report.get("pipeline"):
        lines += [
            "## End to end",
            "",
            f"{report['exchanges']} exchanges read, then {report['questions']} questions answered",
        ]
        lines += [
            f"from {LIMIT} memories of each speaker. Who extracts / updates / generates:",
            "",
            *_quality(found),
            "",
        ]
        lines += [_gain_line(report["pipeline_gain"]), ""]
    lines += ["METEOR: {meteor}; BERTScore: {bert_score}.".format_map(_Known(report["metrics"])), ""]
    return "\n".join(lines)


class _Known(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "not named"


def _quality(sides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = {"f1": "token F1", "L": "L", "rouge_1": "ROUGE-1", "meteor": "METEOR", "bert_score": "BERTScore"}
    columns |= {"sentence_bert": "SentenceBERT", "exact": "exact"}
    lines = ["| | " + " | ".join(columns.values()) + " | tokens out |", "|---|" + "---:|" * (len(columns) + 1)]
    for name, row in sides.items():
        out = row["tokens_out"]["generation"] if isinstance(row["tokens_out"], dict) else row["tokens_out"]
        lines.append(f"| {name} | " + " | ".join(f"{row[key]:.1f}" for key in columns) + f" | {out:.1f} |")
    return lines


def _gain_line(gain: Mapping[str, Any]) -> str:
    told = f"Experts over base: token F1 x {gain['f1']:.2f}, L x {gain['L']:.2f}"
    if "f1_difference" in gain:
        low, high = gain["f1_difference"]
        told += f" (token F1 differs by {low} to {high}, 95 %, paired bootstrap; p = {gain['p']:.3g})"
    return told + "."


def _gain(base: Sequence[Scores], experts: Sequence[Scores]) -> dict[str, Any]:
    a, b = [score.token_f1 for score in experts], [score.token_f1 for score in base]
    difference = paired_bootstrap(a, b)
    return {
        "f1": float(np.mean(a)) / max(1e-9, float(np.mean(b))),
        "L": means(experts)["L"] / max(1e-9, means(base)["L"]),
        "f1_difference": [round(100 * x, 1) for x in (difference.interval.low, difference.interval.high)],
        "p": difference.p_value,
    }


def _interval(values: Sequence[float]) -> list[float]:
    found = bootstrap_mean(values)
    return [round(100 * found.low, 1), round(100 * found.high, 1)]


def _say(*parts: object) -> None:
    print(*parts, flush=True)


if __name__ == "__main__":
    main()
