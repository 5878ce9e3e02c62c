"""The report of a training session: what got better and by how much, and what did not and was left."""

from __future__ import annotations

from collections.abc import Sequence

from memlora_mlx.distill.session_state import SessionState, StageState
from memlora_mlx.distill.training_config import config_from_json
from memlora_mlx.distill.training_data import short_path
from memlora_mlx.distill.training_session import mean
from memlora_mlx.eval.metrics.intervals import paired_bootstrap
from memlora_mlx.text import format_duration

WHAT_CAME_OF_IT = {
    "planned": "not trained yet",
    "trained": "trained, not judged yet",
    "no better": "no better on held-out rows: left",
    "failed": "failed: left",
    "too long": "not tried: too little time",
    "rejected": "the pipeline is worse with it: left",
    "kept": "better: not installed, as asked",
    "installed": "better: installed",
}


def summary(state: SessionState) -> list[str]:
    """The report in a few lines, for the terminal."""
    lines = []
    for stage in state.stages:
        loss = _losses(stage)
        lines.append(
            f"{stage.stage}: {WHAT_CAME_OF_IT[stage.outcome]}{f' ({loss} on held-out rows)' if loss else ''}"
            + (f". {stage.reason}" if stage.reason else "")
        )
    if state.before:
        lines.append(pipeline_line(state))
    return lines


def pipeline_line(state: SessionState) -> str:
    """The pipeline's score before and after the session."""
    before, after = state.before or (), final_scores(state)
    where = f"{len(before)} questions about held-out conversations"
    if after is None or after == before:
        return f"The pipeline's token F1 is {100 * mean(before):.1f} on {where}, as before."
    return (
        f"The pipeline's token F1 on {where}: {100 * mean(before):.1f} before, {100 * mean(after):.1f} now "
        f"({_difference(after, before)})."
    )


def final_scores(state: SessionState) -> tuple[float, ...] | None:
    """Token F1 of each question with all experts that were kept; None where there are none."""
    kept = [one.scores for one in state.stages if one.outcome in ("kept", "installed") and one.scores]
    return kept[-1] if kept else None


def as_markdown(state: SessionState) -> str:
    """The report as a page."""
    options = state.options
    budget = f", with a budget of {format_duration(options.budget)}" if options.budget else ""
    lines = [
        f"# Experts of {short_path(options.student)}",
        "",
        f"`{state.command}` made this page in {format_duration(state.seconds)}{budget}. {state.device}.",
        "",
        "A stage's expert is installed if its loss on held-out rows is lower than that of the expert in use (or of the base, if",
        "there is none), and if the whole pipeline answers no worse with it.",
        "",
        "| stage | examples | steps | tokens a second | memory | time | loss on held-out rows | pipeline, token F1 | what came of it |",
        "|---|---:|---:|---:|---:|---:|---|---|---|",
        *_rows(state),
        "",
        pipeline_line(state) if state.before else "The pipeline was not measured.",
        "Its difference is a 95 % interval (paired bootstrap over the questions); with few questions it is wide.",
    ]
    problems = [f"- **{stage.stage}**: {stage.reason}" for stage in state.stages if stage.reason]
    data = [f"- **{stage.stage}**: {', '.join(map(short_path, stage.files))}" for stage in state.stages if stage.files]
    lines += ["", "## Data", "", *data]
    if problems:
        lines += ["", "## Notes", "", *problems]
    return "\n".join(lines) + "\n"


def _rows(state: SessionState) -> list[str]:
    rows, best = [], state.before
    for stage in state.stages:
        score = "not measured"
        if stage.scores and best:
            score = f"{100 * mean(best):.1f} -> {100 * mean(stage.scores):.1f} ({_difference(stage.scores, best)})"
        if stage.outcome in ("kept", "installed") and stage.scores:
            best = stage.scores
        examples = steps = memory = pace = "-"
        if stage.config is not None and stage.steps:
            config = config_from_json(stage.config)
            examples, steps = str(min(config.rows or stage.available, stage.available)), str(stage.steps)
            memory, pace = f"{stage.memory / 1e9:.1f} GB", f"{stage.tokens_per_second or 0:.0f}"
        rows.append(
            f"| {stage.stage} | {examples} | {steps} | {pace} | {memory} | {format_duration(stage.seconds)} | "
            f"{_losses(stage) or '-'} | {score} | {WHAT_CAME_OF_IT[stage.outcome]} |"
        )
    return rows


def _losses(stage: StageState) -> str:
    if stage.loss_before is None or stage.loss_after is None:
        return ""
    return f"loss {stage.loss_before:.4f} -> {stage.loss_after:.4f}"


def _difference(after: Sequence[float], before: Sequence[float]) -> str:
    found = paired_bootstrap(after, before).interval
    return f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
