"""The report of a benchmark run: Markdown, one HTML page, and a summary for the terminal, all from the run alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlora_mlx.errors import MemloraError
from memlora_mlx.eval.metrics.judges import RUBRICS
from memlora_mlx.eval.report import costs, details, quality, vqa
from memlora_mlx.eval.report.document import MISSING, Column, Document, Section, Table, without_empty
from memlora_mlx.eval.report.figures import (
    composite,
    format_interval,
    mean_with_interval,
    score_part,
    scored_rows,
    share_with_interval,
    systems_of,
    values,
    verdicts,
)
from memlora_mlx.eval.results import CATEGORIES, BenchRun
from memlora_mlx.files import atomic_write
from memlora_mlx.text import printable_line

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["build", "summary", "write_report"]


def write_report(run: BenchRun, folder: Path) -> list[Path]:
    """Write report.md and report.html into the folder, which is made if it is not there.

    Raises:
        MemloraError: the folder cannot be written.
    """
    from memlora_mlx.eval.report.html import as_html
    from memlora_mlx.eval.report.markdown import as_markdown

    document = build(run)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("report.md", as_markdown(document)), ("report.html", as_html(document))):
            path = folder / name
            atomic_write(path, text, private=False)
            written.append(path)
    except OSError as error:
        raise MemloraError(f"cannot write the report to {folder} ({error.strerror}); choose another --out") from error
    return written


def build(run: BenchRun) -> Document:
    """Everything that a report says."""
    student, data = printable_line(run.origin.get("student", "student not named")), run.origin.get("data")
    file = printable_line(data["file"]) if isinstance(data, Mapping) and "file" in data else "data not named"
    conversations = run.origin.get("conversations") or sorted({one.conversation for one in run.asked})
    questions = len({one.question_id for one in run.asked})
    sections = (
        _failures(run),
        quality.quality(run),
        quality.by_category(run),
        quality.comparisons(run),
        details.failure_stages(run),
        details.retrieval(run),
        details.dates(run),
        details.abstention(run),
        details.corrected(run),
        costs.ablation(run),
        costs.scales(run),
        costs.conflict(run),
        vqa.images(run),
        costs.operations(run),
        costs.efficiency(run),
        costs.phases(run),
        details.samples(run),
        _origin(run),
    )
    told = (
        f"{student} on {file}: {printable_line(', '.join(map(str, conversations)))}; {questions:,} questions asked of "
    )
    return Document(
        "memlora bench",
        f"{told}{len(systems_of(run))} systems." if run.asked or not _others(run) else f"{student}.",
        without_empty(sections),
    )


def summary(run: BenchRun) -> RenderableType:
    """The main table, within 80 columns."""
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    judged = [rubric for rubric in RUBRICS if any(rubric in one.verdicts for one in run.asked)][:1]
    grid = Grid(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column("system", max_width=20, overflow="ellipsis", no_wrap=True)
    heads = ("n", "L", "token F1", *(f"J {rubric}" for rubric in judged))
    for head in heads:
        grid.add_column(head, justify="right", no_wrap=True)
    for name in systems_of(run):
        mine = scored_rows(run, name)
        if mine:
            found = [
                mean_with_interval(values(mine, composite())),
                mean_with_interval(values(mine, score_part("token_f1"))),
            ]
            found += [share_with_interval(verdicts(mine, rubric)) for rubric in judged]
            grid.add_row(Text(printable_line(name)), str(len(mine)), *map(format_interval, found))
    lines, others = [], _others(run)
    if run.asked or not others:
        lines = [f"Categories 1 to 4, × 100, 95 % intervals; L by {quality.encoders(run)}.", *costs.overhead(run)]
    if run.failures:
        lines.append(f"Went wrong on the way: {len(run.failures)}, see the report.")
    parts: list[RenderableType] = [grid] if grid.row_count else []
    if doubt := quality.doubtful_judge(run):
        lines.append(doubt[:1].upper() + doubt[1:] + ".")
    lines += others
    return Group(*parts, *map(Text, lines))


def _others(run: BenchRun) -> list[str]:
    """A line about each other benchmark that was run."""
    return [told for told in (costs.conflict_line(run), vqa.images_line(run)) if told]


# ------------------------------------------------------------------------------------------ what the run says of itself


def _failures(run: BenchRun) -> Section:
    points = [printable_line(line) for line in run.failures]
    unknown = Counter(one.category for one in run.asked if one.category not in CATEGORIES)
    points += [
        f"{n} answers of the unknown category {printable_line(each)} are in no figure" for each, n in unknown.items()
    ]
    if doubt := quality.doubtful_judge(run):
        points.insert(0, doubt)
    if not run.asked and not run.extra and not run.costs:
        points.append("nothing was asked")
    if not points:
        return Section("What went wrong")
    return Section("What went wrong", ("The figures below are of all the rest.",), bullet_points=tuple(points))


def _origin(run: BenchRun) -> Section:
    rows = tuple((key, value) for key, value in _flat("", run.origin) if key not in ("rules.right", "rules.lost"))
    if not rows:
        return Section("Origin")
    about = "All figures are of this run, and can be computed again from its results.json; docs/evaluation.md says how."
    table = Table("What was measured, with what", (Column("what", False), Column("value", False)), rows)
    return Section("Origin", (about,), (), (table,))


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [row for name, each in value.items() for row in _flat(f"{key}.{name}" if key else str(name), each)]
    if isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
        return [row for i, each in enumerate(value, start=1) for row in _flat(f"{key}.{i}", each)]
    told = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return [(printable_line(key), MISSING if told is None else printable_line(told))]
