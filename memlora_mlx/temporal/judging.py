"""Whether an answer names the right time, judged by dates and not by words."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Literal

from memlora_mlx.temporal.finding import dates_in
from memlora_mlx.temporal.reading import Reading
from memlora_mlx.temporal.relative import counted
from memlora_mlx.temporal.spans import Span

Verdict = Literal["day", "span", "wrong"]

_WEEK_BEFORE = re.compile(r"\bweek before\s+(.{1,60})", re.IGNORECASE | re.DOTALL)
_LENGTHS = {"day": 1.0, "week": 7.0, "fortnight": 14.0, "month": 30.4, "year": 365.0, "decade": 3650.0}
_AHEAD = timedelta(31)  # "the Sunday before 25 May" is told by a later day
_LONGEST = 2_000  # characters of an answer that are read: longer ones are no dates


def same_date(answer: str, gold: str, said_at: date | datetime | None = None) -> Verdict | None:
    """Whether an answer has the right day, the right span, or is wrong; None where the gold answer names no time.

    - `day`: the gold answer names one day, and the answer names it.
    - `span`: the gold answer names a week, a month, a year ..., and the answer names the same, or a time within it; or
      the gold answer names a day, and the answer the week or the weekend that holds it. At least half the days of the
      longer of the two must be shared, so that "the last week of July" may be counted from Monday or from the 25th.
    - `wrong`: everything else. An answer that names more times than the gold answer, such as two days where one is
      right, is wrong; so is one that leaves out one of several.

    "The week before 9 June" may be the seven days before it or the calendar week before. A date without a year is read
    in the year of the other answer. `said_at` is the day from which "yesterday" in the answer is counted; without it
    such words say nothing. Where the gold answer is a length of time ("three weeks"), the same length is `span`.
    """
    said = said_at.date() if isinstance(said_at, datetime) else said_at
    answer, gold = answer[:_LONGEST], gold[:_LONGEST]
    expected = dates_in(gold, None)
    given = dates_in(answer, said, expected[-1].ends + _AHEAD if expected and expected[-1].ends.year < 9999 else None)
    if not expected:
        near = given[-1].ends + _AHEAD if given and given[-1].ends.year < 9999 else date(2000, 12, 31)
        expected = dates_in(gold, None, near)
        given = given or dates_in(answer, said, near)
    if not expected:
        return _same_length(answer, gold)
    expected = tuple(_both_readings(span, gold) for span in expected)
    pairs = [[_compared(mine, theirs) for theirs in expected] for mine in given]
    rows = [max(row) for row in pairs] + [max((row[at] for row in pairs), default=0) for at in range(len(expected))]
    verdicts: tuple[Verdict, ...] = ("wrong", "span", "day")
    return verdicts[min(rows)]


def _compared(answer: Span, gold: Span) -> int:
    """2 for the same day, 1 for the same span, 0 for neither."""
    shared = (min(answer.ends, gold.ends) - max(answer.begins, gold.begins)).days + 1
    if shared < 1:
        return 0
    mine, theirs = (answer.ends - answer.begins).days + 1, (gold.ends - gold.begins).days + 1
    if theirs == 1:
        return 2 if mine == 1 else int(mine <= 7)
    return int(mine == shared or 2 * shared >= max(mine, theirs))


def _both_readings(span: Span, text: str) -> Span:
    found = _WEEK_BEFORE.search(text)
    if found is None or span.granularity != "week":
        return span
    for day in dates_in(found[1], None, span.ends + timedelta(7)):
        if 0 < (day.begins - span.ends).days <= 7:
            return Span(span.begins, day.begins - timedelta(1), "days", "past")
    return span


def _same_length(answer: str, gold: str) -> Verdict | None:
    expected, given = _lengths(gold), _lengths(answer)
    if not expected:
        return None
    return "span" if given and all(any(abs(a - b) <= 0.02 * b for b in expected) for a in given) else "wrong"


def _lengths(text: str) -> list[float]:
    """The lengths of time that a text names, in days."""
    reading, found, at = Reading.of(text, date(2000, 1, 1)), [], 0
    while at < len(reading.words):
        length = counted(reading, at)
        if length is not None and length[2] in _LENGTHS:
            found.append((length[1].least + length[1].most) / 2 * _LENGTHS[length[2]])
        at = length[0] if length is not None else at + 1
    return found
