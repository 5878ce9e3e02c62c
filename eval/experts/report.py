"""The report on the experts for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memlora_mlx.eval.experts.stage_scores import SAME


def as_markdown(report: Mapping[str, Any]) -> str:
    """The report for people: a table a stage, then the ablation."""
    about = report["environment"]
    lines = [
        "# What the experts add",
        "",
        "`python -m memlora_mlx.eval.experts LOCOMO.json` writes this page. It compares the base model with the experts, both with",
        f"the same constrained decoding. Student {about['student']}, embedder {about['embedder']}, mlx {about['mlx']}.",
        f"LoCoMo {report['conversation']} (validation, never trained on). Each part says when and where it was measured,",
        "and with which experts (the first digits of the SHA-256 of their weights).",
        "",
        *_extraction(report),
        *_update(report, "update", "Update, held-out synthetic dialogues"),
        *_update(report, "update_held_out_phrases", "Update, held-out synthetic dialogues in phrases never trained on"),
        *_generation(report),
        *_pipeline(report),
        "METEOR: {meteor}; BERTScore: {bert_score}.".format_map(_Known(report["metrics"])),
        "",
    ]
    return "\n".join(lines)


def _extraction(report: Mapping[str, Any]) -> list[str]:
    if not (found := report.get("extraction")):
        return []
    lines = [
        "## Extraction",
        "",
        f"Facts compared with LoCoMo's observations, {report['extraction_exchanges']} exchanges.",
        f"Two facts count as the same from a cosine of {SAME}. {_when(report, 'extraction')}",
        "",
        "| | precision | recall | F1 | facts | output tokens |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in found.items():
        shares = " | ".join(f"{row[key]:.2f}" for key in ("precision", "recall", "f1"))
        lines.append(f"| {name} | {shares} | {row['facts']} | {row['tokens_out']:.1f} |")
    return [*lines, ""]


def _update(report: Mapping[str, Any], key: str, title: str) -> list[str]:
    if not (found := report.get(key)):
        return []
    events = list(next(iter(found.values()))["events"])
    lines = [
        f"## {title}",
        "",
        "Exchanges and facts with exactly the right operations and texts, and right operations by event. Each fact is asked",
        f"about separately, with the memories nearest to it. {_when(report, 'update')}",
        "",
        "| | exchanges exact | 95 % | facts exact | " + " | ".join(events) + " |",
        "|---|---:|---|---:|" + "---:|" * len(events),
    ]
    for name, row in found.items():
        low, high = row["interval"]
        told = " | ".join(f"{row['events'][e]['right']} of {row['events'][e]['of']}" for e in events)
        exact = f"{row['exact']:.0%} of {row['exchanges']} | {low:.0%} to {high:.0%}"
        lines.append(f"| {name} | {exact} | {row['facts_exact']:.0%} of {row['facts']} | {told} |")
    return [*lines, ""]


def _generation(report: Mapping[str, Any]) -> list[str]:
    if not (found := report.get("generation")):
        return []
    sides = {name: row for name, row in found.items() if name != "gain"}
    count = next(iter(sides.values()))["questions"]
    told = f"{count} questions, answered from one store made of the observations. {_when(report, 'generation')}"
    return ["## Generation", "", told, *_chosen(report), "", *_quality(sides), "", _gain_line(found["gain"]), ""]


def _pipeline(report: Mapping[str, Any]) -> list[str]:
    if not (found := report.get("pipeline")):
        return []
    about = report["measured"]["pipeline"]
    return [
        "## End to end",
        "",
        f"{about['exchanges']} exchanges read, then {about['questions']} questions answered from {about['limit']}",
        f"memories of each speaker; 95 % intervals in brackets. {_when(report, 'pipeline')}",
        *_chosen(report, "pipeline"),
        "The first column says who extracts / updates / generates:",
        "",
        *_quality(found),
        "",
        _gain_line(report["pipeline_gain"]),
        "",
    ]


def _chosen(report: Mapping[str, Any], part: str = "generation") -> list[str]:
    told = report["measured"][part].get("chosen_by", {}).get("generation")
    if told is None:
        return []
    return [
        f"The generation expert was chosen by {told}. Its figures on these questions are therefore on the high side."
    ]


def _when(report: Mapping[str, Any], part: str) -> str:
    about = report["measured"][part]
    experts = ", ".join(f"{stage} {weights}" for stage, weights in about["experts"].items())
    return f"{about['made']}, {about['device']}; {experts}."


class _Known(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "not named"


def _quality(sides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = {"f1": "token F1", "L": "L", "rouge_1": "ROUGE-1", "meteor": "METEOR", "bert_score": "BERTScore"}
    columns |= {"sentence_bert": "SentenceBERT", "exact": "exact"}
    lines = ["| | " + " | ".join(columns.values()) + " | output tokens |", "|---|" + "---:|" * (len(columns) + 1)]
    for name, row in sides.items():
        out = row["tokens_out"]["generation"] if isinstance(row["tokens_out"], dict) else row["tokens_out"]
        cells = [f"{row[key]:.1f}{_bracketed(row.get(f'{key}_interval'))}" for key in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {out:.1f} |")
    return lines


def _bracketed(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" [{interval[0]}, {interval[1]}]"


def _gain_line(gain: Mapping[str, Any]) -> str:
    told = f"Experts over base: token F1 x {gain['f1']:.2f}, L x {gain['L']:.2f}"
    if "f1_difference" in gain:
        low, high = gain["f1_difference"]
        told += f" (token F1 differs by {low} to {high}, 95 %, paired bootstrap; p = {gain['p']:.3g})"
    return told + "."
