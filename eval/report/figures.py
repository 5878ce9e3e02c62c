"""Figures of a run: means and shares with their intervals, for any selection of answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from memlora_mlx.eval.metrics.intervals import Difference, Interval, bootstrap_mean, paired_bootstrap, wilson
from memlora_mlx.eval.report.document import MISSING
from memlora_mlx.eval.results import CATEGORIES, SCORED, BenchRun, QuestionResult

PARTS: Mapping[str, str] = {
    "rouge_1": "ROUGE-1",
    "meteor": "METEOR",
    "bert_score": "BERTScore",
    "sentence_bert": "SentenceBERT",
}

ValueOf = Callable[[QuestionResult], float | None]


def score_part(name: str, *, corrected: bool = False) -> ValueOf:
    """The value of a score, x 100; corrected: against the corrected gold answer where there is one."""

    def value(one: QuestionResult) -> float | None:
        scores = one.corrected_scores if corrected and one.corrected_scores else one.scores
        found = scores.get(name)
        return None if found is None else 100.0 * found

    return value


def composite(*, corrected: bool = False) -> ValueOf:
    """L: the plain mean of its four parts, x 100."""
    parts = [score_part(name, corrected=corrected) for name in PARTS]

    def value(one: QuestionResult) -> float | None:
        found = [get(one) for get in parts]
        told = [each for each in found if each is not None]
        return sum(told) / len(told) if len(told) == len(found) else None

    return value


def scored_rows(run: BenchRun, system: str) -> list[QuestionResult]:
    """A system's answers in the categories that L and J are taken over."""
    return [one for one in run.asked if one.system == system and one.category in SCORED]


def systems_of(run: BenchRun, table: str | None = None) -> list[str]:
    """The systems in the order of the run; only those of one table where it is named."""
    named = run.origin.get("systems")
    listed = [name for name in named if isinstance(name, str)] if isinstance(named, list | tuple) else []
    present = {one.system for one in run.asked} | {cost.system for cost in run.costs} | set(run.systems)
    listed += sorted(present - set(listed))
    names = [name for name in dict.fromkeys(listed) if name in present]
    return [name for name in names if table is None or run.systems.get(name, {}).get("table", "systems") == table]


def category_name(category: int) -> str:
    return f"{category} {CATEGORIES.get(category, 'unknown')}"


def values(rows: Iterable[QuestionResult], value: ValueOf) -> tuple[float, ...]:
    return tuple(found for one in rows if (found := value(one)) is not None)


def mean_with_interval(found: Sequence[float]) -> Interval | None:
    """The mean with its bootstrap interval; None where there is nothing to take it of."""
    return _mean(tuple(found)) if found else None


@lru_cache(maxsize=1024)  # the page, the Markdown and the terminal show the same figures
def _mean(found: tuple[float, ...]) -> Interval:
    return bootstrap_mean(found)


def share_with_interval(found: Sequence[bool]) -> Interval | None:
    """A share x 100 with Wilson's interval."""
    if not found:
        return None
    interval = wilson(sum(found), len(found))
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high)


def verdicts(rows: Iterable[QuestionResult], rubric: str, *, corrected: bool = False) -> list[bool]:
    """A judge's verdicts; corrected: by the corrected gold answer where there is one."""
    told = (one.corrected_verdicts if corrected and one.corrected_gold else one.verdicts for one in rows)
    return [found[rubric] for found in told if rubric in found]


def paired_difference(a: Sequence[QuestionResult], b: Sequence[QuestionResult], value: ValueOf) -> Difference | None:
    """By how much the first is better on the questions that both have a value for."""
    mine, theirs = ({one.question_id: found for one in rows if (found := value(one)) is not None} for rows in (a, b))
    both = [question for question in mine if question in theirs]
    return _paired(tuple(mine[q] for q in both), tuple(theirs[q] for q in both)) if both else None


@lru_cache(maxsize=1024)
def _paired(a: tuple[float, ...], b: tuple[float, ...]) -> Difference:
    return paired_bootstrap(a, b)


def recall_at(one: QuestionResult, k: int | None = None) -> float | None:
    """The recall of the nearest `k` memories; None: of all that the answer was given."""
    if k is None or not one.recall:
        return one.recall
    # `recall` leaves out evidence that was never read, so the whole it is a share of is not always all the evidence
    near, all_given = (
        len({ref for memory in given for ref in memory["refs"]} & set(one.evidence))
        for given in (one.retrieved[:k], one.retrieved)
    )
    return one.recall * near / all_given if all_given else None


def recall_values(rows: Iterable[QuestionResult], k: int | None = None) -> tuple[float, ...]:
    """Recall at `k` x 100, where it can be told."""
    return tuple(100 * found for one in rows if (found := recall_at(one, k)) is not None)


# ------------------------------------------------------------------------------------------------ as text


def format_number(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


def average(found: Sequence[float]) -> str:
    """A mean alone; it costs no bootstrap."""
    return format_number(sum(found) / len(found)) if found else MISSING


def format_interval(interval: Interval | None) -> str:
    return MISSING if interval is None else f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
