"""What became of the answers: abstention, retrieval, where they were lost, corrected gold answers, samples."""

from __future__ import annotations

from memlora_mlx.eval.locomo.scoring import is_right
from memlora_mlx.eval.metrics.judges import RUBRICS
from memlora_mlx.eval.report.document import MISSING, Column, Section, StackedChart, Table
from memlora_mlx.eval.report.figures import (
    average,
    category_name,
    composite,
    format_interval,
    format_number,
    mean_with_interval,
    recall_values,
    score_part,
    scored_rows,
    share_with_interval,
    systems_of,
    values,
    verdicts,
)
from memlora_mlx.eval.results import SCORED, BenchRun, QuestionResult
from memlora_mlx.temporal import same_date
from memlora_mlx.text import printable_line

FAILURE_STAGES = ("answered wrongly", "not retrieved", "updated away", "not extracted")
DEPTHS = (1, 5, 10, 20)  # k of recall@k
SAMPLES = 3  # right answers shown of each system, and as many wrong ones


def abstention(run: BenchRun) -> Section:
    """Category 5, and how often systems abstain where they should not."""
    rows = []
    for name in systems_of(run):
        mine = [one for one in run.asked if one.system == name and "abstained" in one.scores]
        asked = [one.scores["abstained"] > 0 for one in mine if one.category == 5]
        answerable = [one.scores["abstained"] > 0 for one in mine if one.category in SCORED]
        if asked:
            cells = (
                format_interval(share_with_interval(asked)),
                str(len(answerable)),
                format_interval(share_with_interval(answerable)),
            )
            rows.append((printable_line(name), str(len(asked)), *cells))
    if not rows:
        return Section("Abstention")
    columns = (
        Column("system", False), Column("n of category 5"), Column("abstains, as it should"), Column("n of 1 to 4"),
        Column("abstains, where there is an answer"),
    )  # fmt: skip
    about = (
        "Category 5 asks for what was never said; the right answer is to say so. It is in no other figure. A system "
        "that never answers gets all of it, so both columns belong together."
    )
    return Section("Abstention", (about,), (), (Table("Category 5, adversarial", columns, tuple(rows)),))


def retrieval(run: BenchRun) -> Section:
    rows = []
    depths = [k for k in DEPTHS if any(len(one.retrieved) > k for one in run.asked)]
    for name in systems_of(run):
        mine = [one for one in scored_rows(run, name) if one.recall is not None]
        if mine:
            at = [average(recall_values(mine, k)) if all(one.retrieved for one in mine) else MISSING for k in depths]
            whole = share_with_interval([one.recall == 1.0 for one in mine])
            rows.append(
                (
                    printable_line(name),
                    str(len(mine)),
                    *at,
                    format_interval(mean_with_interval(recall_values(mine))),
                    format_interval(whole),
                    average([float(one.input_tokens) for one in mine if one.input_tokens]),
                )
            )
    if not rows:
        return Section("Retrieval")
    columns = [Column("system", False), Column("n"), *(Column(f"recall@{k}") for k in depths)]
    columns += [Column("recall of all given"), Column("all evidence given"), Column("tokens of a prompt")]
    about = (
        "The share of a question's evidence turns that the memories and messages given to the answer come from, by "
        "provenance; k counts them, best first. “All evidence given” is the share of questions that miss none of it."
    )
    tables = [Table("Evidence among what was retrieved", tuple(columns), tuple(rows))]
    if by_category := _recall_by_category(run, [k for k in depths if k > 1]):
        tables.append(by_category)
    return Section("Retrieval", (about,), (), tuple(tables))


def _recall_by_category(run: BenchRun, depths: list[int]) -> Table | None:
    rows = []
    for category in SCORED:
        for name in systems_of(run):
            mine = [one for one in scored_rows(run, name) if one.category == category and one.recall is not None]
            if mine and all(one.retrieved for one in mine):
                at = [average(recall_values(mine, k)) for k in depths]
                rows.append((category_name(category), printable_line(name), str(len(mine)), *at))
    columns = (
        Column("category", False),
        Column("system", False),
        Column("n"),
        *(Column(f"recall@{k}") for k in depths),
    )
    return Table("Evidence by category", columns, tuple(rows)) if rows and depths else None


def dates(run: BenchRun) -> Section:
    """Category 2 judged by its dates: token F1 gives half to "8 May 2023" where 7 May is right."""
    rows = []
    for name in systems_of(run):
        mine = [one for one in scored_rows(run, name) if one.category == 2]
        judged = [
            verdict for one in mine if (verdict := same_date(one.answer, one.corrected_gold or one.gold)) is not None
        ]
        if judged:
            right = share_with_interval([verdict != "wrong" for verdict in judged])
            counts = [str(judged.count(verdict)) for verdict in ("day", "span", "wrong")]
            rows.append((printable_line(name), str(len(judged)), *counts, format_interval(right)))
    if not rows:
        return Section("Dates")
    about = (
        "Of the temporal questions whose gold answer names a time: whether the answer names the right day, the right span "
        "of days (docs/temporal.md says what counts), or neither."
    )
    columns = (Column("system", False), Column("n"), *map(Column, ("right day", "right span", "wrong", "right")))
    return Section("Dates", (about,), (), (Table("Temporal answers by date", columns, tuple(rows)),))


def failure_stages(run: BenchRun) -> Section:
    parts = ("right", *FAILURE_STAGES, "wrong, cannot be told")
    rows = []
    for name in systems_of(run):
        mine = [one for one in scored_rows(run, name) if one.scores or one.verdicts]
        if not mine or not any(one.lost for one in mine):
            continue
        right = sum(is_right(one) for one in mine)
        lost = [sum(one.lost == stage and not is_right(one) for one in mine) for stage in FAILURE_STAGES]
        rows.append((printable_line(name), (right, *lost, len(mine) - right - sum(lost))))
    if not rows:
        return Section("Where answers are lost")
    table = Table(
        "Questions by what became of them",
        (Column("system", False), *map(Column, parts)),
        tuple((name, *map(str, counts)) for name, counts in rows),
    )
    rules = run.origin.get("rules")
    told = [printable_line(rules[key]) for key in ("right", "lost") if key in rules] if isinstance(rules, dict) else []
    told = [text[:1].upper() + text[1:] + "." for text in told]
    return Section(
        "Where answers are lost", tuple(told), (StackedChart("Where answers are lost", parts, tuple(rows)),), (table,)
    )


def corrected(run: BenchRun) -> Section:
    """The scores against the corrected gold answers beside those against the published ones."""
    rubrics = [rubric for rubric in RUBRICS if any(rubric in one.corrected_verdicts for one in run.asked)]
    rows = []
    for name in systems_of(run):
        mine = scored_rows(run, name)
        changed = sum(bool(one.corrected_scores) for one in mine)
        if changed:
            found = [
                mean_with_interval(values(mine, get))
                for get in (
                    composite(), composite(corrected=True), score_part("token_f1"), score_part("token_f1", corrected=True)
                )
            ]  # fmt: skip
            found += [
                share_with_interval(verdicts(mine, rubric, corrected=c)) for rubric in rubrics for c in (False, True)
            ]
            rows.append((printable_line(name), str(len(mine)), str(changed), *map(format_interval, found)))
    if not rows:
        return Section("Corrected gold answers")
    heads = [f"{score}, {kind}" for score in ("L", "token F1", *(f"J {rubric}" for rubric in rubrics))
             for kind in ("published", "corrected")]  # fmt: skip
    columns = (Column("system", False), Column("n"), Column("corrected"), *map(Column, heads))
    about = "Some gold answers of LoCoMo are known to be wrong; everywhere else the figures are of the published ones."
    return Section("Corrected gold answers", (about,), (), (Table("Both scores", columns, tuple(rows)),))


def samples(run: BenchRun) -> Section:
    columns = [Column(head, False) for head in ("question", "category", "asked", "gold answer", "answer", "lost")]
    columns.append(Column("token F1"))
    tables = []
    for name in systems_of(run, "systems"):
        mine = [one for one in scored_rows(run, name) if one.scores or one.verdicts]
        for title, wanted in (("right", True), ("wrong", False)):
            found = [one for one in mine if is_right(one) == wanted]
            picked = found[:: max(1, len(found) // SAMPLES)][:SAMPLES]
            if picked:
                tables.append(
                    Table(
                        f"{printable_line(name)}: counted as {title}",
                        tuple(columns),
                        tuple(_sample(one) for one in picked),
                    )
                )
    return Section("Some answers", (), (), tuple(tables))


# ------------------------------------------------------------------------------------------------ parts


def _sample(result: QuestionResult) -> tuple[str, ...]:
    gold = result.gold if result.corrected_gold is None else f"{result.gold} (corrected: {result.corrected_gold})"
    f1 = result.scores.get("token_f1")
    words = [printable_line(text) or MISSING for text in (result.question, gold, result.answer)]
    figure = format_number(None if f1 is None else 100 * f1)
    return (printable_line(result.question_id), category_name(result.category), *words, result.lost or MISSING, figure)
