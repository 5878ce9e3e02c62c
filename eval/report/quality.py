"""How good the answers were: Table 1's form, by category, and paired tests between systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from memlora_mlx.eval.metrics.intervals import Interval
from memlora_mlx.eval.metrics.judges import RUBRICS
from memlora_mlx.eval.metrics.statistics import holm, mcnemar
from memlora_mlx.eval.report import paper
from memlora_mlx.eval.report.document import MISSING, Bar, BarChart, Chart, Column, Section, Table
from memlora_mlx.eval.report.figures import (
    PARTS,
    ValueOf,
    average,
    category_name,
    composite,
    format_interval,
    format_number,
    mean_with_interval,
    p_value,
    paired_difference,
    recall_values,
    score_part,
    scored_rows,
    share_with_interval,
    systems_of,
    values,
    verdicts,
)
from memlora_mlx.eval.results import SCORED, BenchRun, QuestionResult
from memlora_mlx.text import printable_line

TRUSTED = 0.8  # the least share of control answers that a judge has to label as they are

_PAPER_NOTE = (
    "Columns marked “paper” are the paper's figures: its own students, its test conversations (conv-30, conv-41), L by "
    "roberta-large and MiniLM, J by gpt-oss-120b. Other encoders, judges or splits give other figures."
)


def encoders(run: BenchRun) -> str:
    """What L was computed with, in a word: it stands in the head of every column of L."""
    metrics = run.origin.get("metrics")
    if not isinstance(metrics, dict):
        return "encoder not named"
    token = printable_line(metrics.get("bert_score", "not named"), 60).partition(";")[0]
    sentence = printable_line(metrics.get("sentence_bert", "not named"), 60)
    told = [token if sentence in token else f"{token} and {sentence}"]
    if "no synonyms" in str(metrics.get("meteor")):
        told.append("METEOR without synonyms")
    return "; ".join(told)


def quality(run: BenchRun) -> Section:
    """Table 1: every system over categories 1 to 4, and what the paper measured."""
    names = [name for name in systems_of(run, "systems") if scored_rows(run, name)]
    if not names:
        return Section("Answers")
    tables = [quality_table(run, names, "Answers, categories 1 to 4")]
    if scores := _has_scores(run):
        tables.append(
            Table(
                "For reference, the paper's Table 1",
                (Column("system", False), Column("paper: L", True, True), Column("paper: J", True, True)),
                tuple((name, format_number(l_), format_number(j)) for name, l_, j in paper.TABLE_1),
                (_PAPER_NOTE,),
            )
        )
    charts: list[Chart] = []
    for title, get in _headline(run):
        bars = [_bar(name, get(scored_rows(run, name))) for name in names]
        told = tuple(bar for bar in bars if bar)
        if told:
            charts.append(BarChart(f"{title}, with 95 % intervals", (("", told),), 100.0))
    about = (
        f"L is the mean of ROUGE-1, METEOR, BERTScore and SentenceBERT, all × 100; here computed with {encoders(run)}."
        if scores
        else "The answers are not scored."
    )
    judge = run.origin.get("judge")
    judged = "There was no judge, so there is no J."
    if isinstance(judge, dict):
        judged = f"J is the share that the judge {printable_line(judge.get('name', ''))} calls correct. {_controls(judge)}".strip()
    return Section("Answers", (about, judged), tuple(charts), tuple(tables))


def quality_table(run: BenchRun, names: Sequence[str], title: str, counterpart: Sequence[Sequence[str]] = ()) -> Table:
    """L with its parts, token F1, exact match and J of some systems.

    Args:
        counterpart: for each system the paper's name of the row, L and J, where it has such a row; by default those of
            the same student.
    """
    rubrics = [rubric for rubric in RUBRICS if any(rubric in one.verdicts for one in run.asked)]
    beside = [list(told) for told in counterpart] or [_same_student(run, name) for name in names]
    is_beside = any(any(cell != MISSING for cell in told) for told in beside)
    columns = [Column("system", False), Column("n"), Column(f"L ({encoders(run)})"), *map(Column, PARTS.values())]
    columns += [Column("token F1"), Column("exact"), *(Column(f"J {rubric}") for rubric in rubrics)]
    if is_beside:
        columns += [Column("paper: row", False, True), Column("paper: L", True, True), Column("paper: J", True, True)]
    rows = []
    for name, told in zip(names, beside, strict=True):
        mine = scored_rows(run, name)
        cells = [printable_line(name), str(len(mine)), format_interval(mean_with_interval(values(mine, composite())))]
        cells += [average(values(mine, score_part(each))) for each in PARTS]
        cells += [format_interval(mean_with_interval(values(mine, score_part("token_f1")))), _exact(mine)]
        cells += [_judged(mine, rubric) for rubric in rubrics]
        rows.append((*cells, *(told if is_beside else ())))
    notes = [
        "n: questions asked. In brackets 95 % intervals: bootstrap over the questions for means, Wilson's for shares."
    ]
    if missing := {name: _unscored(run, name) for name in names if _unscored(run, name)}:
        notes.append(
            f"Without scores: {', '.join(f'{printable_line(name)} {count}' for name, count in missing.items())}."
        )
    titles = [(name, run.systems.get(name, {}).get("title")) for name in names]
    told_titles = [
        f"{printable_line(name)}: {printable_line(title)}" for name, title in titles if title and title != name
    ]
    if told_titles:
        notes.append("; ".join(told_titles) + ".")
    return Table(title, tuple(columns), tuple(rows), (*notes, *((_PAPER_NOTE,) if is_beside else ())))


def by_category(run: BenchRun) -> Section:
    names = [name for name in systems_of(run, "systems") if scored_rows(run, name)]
    rubrics = [rubric for rubric in RUBRICS if any(rubric in one.verdicts for one in run.asked)]
    columns = (
        Column("category", False), Column("system", False), Column("n"), Column(f"L ({encoders(run)})"),
        Column("token F1"), Column("exact"), *(Column(f"J {rubric}") for rubric in rubrics), Column("recall"),
    )  # fmt: skip
    rows, groups = [], []
    for category in SCORED:
        bars = []
        for name in names:
            mine = [one for one in scored_rows(run, name) if one.category == category]
            if not mine:
                continue
            f1 = mean_with_interval(values(mine, score_part("token_f1")))
            figures = [
                format_interval(mean_with_interval(values(mine, composite()))),
                format_interval(f1),
                _exact(mine),
            ]
            figures += [_judged(mine, rubric) for rubric in rubrics]
            rows.append(
                (category_name(category), printable_line(name), str(len(mine)), *figures, average(recall_values(mine)))
            )
            bars.append(_bar(name, f1))
        if told := tuple(bar for bar in bars if bar):
            groups.append((category_name(category), told))
    if not rows:
        return Section("By category")
    charts = tuple(BarChart(f"Token F1, {name}", (("", bars),), 100.0) for name, bars in groups)
    note = (
        "Numbers and names of the categories are those of LoCoMo's own evaluation code; several published tables have "
        "them shifted. Where a category has few questions the interval is wide: compare intervals, not figures."
    )
    return Section("By category", (), charts, (Table("Scores by category", columns, tuple(rows), (note,)),))


def comparisons(run: BenchRun) -> Section:
    """Every other system against the first one, on the same questions."""
    names = [name for name in systems_of(run, "systems") if scored_rows(run, name)]
    if len(names) < 2:
        return Section("Differences")
    first, rubrics = names[0], [r for r in RUBRICS if any(r in one.verdicts for one in run.asked)]
    found: list[tuple[list[str], list[float | None]]] = []
    for name in names[1:]:
        for category in (None, *SCORED):
            a, b = (
                [one for one in scored_rows(run, each) if category in (None, one.category)] for each in (first, name)
            )
            both = len({one.question_id for one in a} & {one.question_id for one in b})
            if not both:
                continue
            cells = [
                f"{printable_line(first)} − {printable_line(name)}",
                category_name(category) if category else "1 to 4",
                str(both),
            ]
            tests: list[float | None] = []
            for get in (composite(), score_part("token_f1")):
                difference = paired_difference(a, b, get)
                cells.append(_signed(difference.interval) if difference else MISSING)
                tests.append(difference.p_value if difference else None)
            for rubric in rubrics:
                mine, theirs = (
                    {o.question_id: o.verdicts[rubric] for o in rows if rubric in o.verdicts} for rows in (a, b)
                )
                judged = [question for question in mine if question in theirs]
                odd = mcnemar([mine[q] for q in judged], [theirs[q] for q in judged])
                cells.append(f"{odd.only_a} : {odd.only_b}" if judged else MISSING)
                tests.append(odd.p_value if judged else None)
            found.append((cells, tests))
    if not found:
        return Section("Differences")
    heads = ["L", "token F1", *(f"J {rubric}, right alone" for rubric in rubrics)]
    columns = [Column("difference", False), Column("category", False), Column("n")]
    adjusted = [_adjusted([tests[i] for _, tests in found]) for i in range(len(heads))]
    for head in heads:
        columns += [Column(head), Column("p")]
    rows = []
    for i, (cells, _) in enumerate(found):
        told = list(cells[:3])
        for j in range(len(heads)):
            told += [cells[3 + j], adjusted[j][i]]
        rows.append(tuple(told))
    notes = (
        (
            "Paired over the questions that both answered: bootstrap of the mean difference with its 95 % interval; "
            "for J McNemar's exact test on the questions that one system alone got right. p is corrected by Holm's "
            "method for all the tests of its column."
        ),
        (
            "Questions about one conversation are not independent of each other, so intervals and p are rather too "
            "confident where a run has few conversations."
        ),
    )
    return Section(
        "Differences",
        (),
        (),
        (Table(f"{printable_line(first)} against the others", tuple(columns), tuple(rows), notes),),
    )


# ------------------------------------------------------------------------------------------------ parts


def _controls(judge: Mapping[str, Any]) -> str:
    told = judge.get("controls")
    if not isinstance(told, dict):
        return ""
    counts = ", ".join(
        f"{right} of {of} by the {printable_line(rubric)} rubric" for rubric, (right, of) in told.items()
    )
    return f"Of control answers whose label is clear it labelled as they are: {counts}."


def doubtful_judge(run: BenchRun) -> str:
    """A warning where the judge fails on too many control answers; else empty."""
    judge = run.origin.get("judge")
    if not isinstance(judge, dict):
        return ""
    told = judge.get("controls")
    if not isinstance(told, dict) or all(right >= TRUSTED * of for right, of in told.values()):
        return ""
    return f"the judge cannot be trusted, and neither can J: {_controls(judge)[:-1]}"


def _headline(run: BenchRun) -> list[tuple[str, Callable[[Sequence[QuestionResult]], Interval | None]]]:
    """What the first charts show, and how it is computed."""

    def judged(rubric: str, rows: Sequence[QuestionResult]) -> Interval | None:
        return share_with_interval(verdicts(rows, rubric))

    def scored(value: ValueOf, rows: Sequence[QuestionResult]) -> Interval | None:
        return mean_with_interval(values(rows, value))

    rubrics = [rubric for rubric in RUBRICS if any(rubric in one.verdicts for one in run.asked)]
    return [
        *((f"J, {rubric} rubric", partial(judged, rubric)) for rubric in rubrics),
        (f"L ({encoders(run)})", partial(scored, composite())),
        ("Token F1", partial(scored, score_part("token_f1"))),
    ]


def _bar(name: str, interval: Interval | None) -> Bar | None:
    if interval is None:
        return None
    return Bar(printable_line(name), interval.value, format_interval(interval), interval.low, interval.high)


def _has_scores(run: BenchRun) -> bool:
    return any("rouge_1" in one.scores for one in run.asked)


def _unscored(run: BenchRun, name: str) -> int:
    return sum(composite()(one) is None for one in scored_rows(run, name))


def _exact(rows: Sequence[QuestionResult]) -> str:
    return format_interval(share_with_interval([one.scores["exact"] > 0 for one in rows if "exact" in one.scores]))


def _judged(rows: Sequence[QuestionResult], rubric: str) -> str:
    found = verdicts(rows, rubric)
    return format_interval(share_with_interval(found)) + (
        f" of {len(found)}" if found and len(found) < len(rows) else ""
    )


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"


def _adjusted(found: Sequence[float | None]) -> list[str]:
    given = iter(holm([p for p in found if p is not None]))
    return [MISSING if p is None else p_value(next(given)) for p in found]


def _same_student(run: BenchRun, name: str) -> list[str]:
    """The paper's row of the same student, for our own two systems."""
    about = run.systems.get(name, {})
    known = paper.student(str(about.get("student", "")))
    has_experts = bool(about.get("has_experts"))
    is_ours = name in ("memlora", "base") or about.get("table") == "scales"
    if known is None or not is_ours or (known, has_experts) not in paper.QUALITY:
        return [MISSING] * 3
    l_, j = paper.QUALITY[known, has_experts]
    return [known + " + experts" * has_experts, format_number(l_), format_number(j)]
