"""Times told from another time: the week before 9 June, early May, the first Monday of June, the end of the year."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from memlora_mlx.temporal.names import (
    NAMES,
    any_weekday,
    day_number,
    day_of_month,
    month_number,
    nearest_weekday,
    stated_year,
)
from memlora_mlx.temporal.reading import Match, Reading, Rule, Rules, longest
from memlora_mlx.temporal.relative import COUNTS, RELATIVE, counted, one, units_away
from memlora_mlx.temporal.spans import (
    Days,
    month_away,
    month_of,
    nth_weekday,
    run_of,
    shifted,
    week_of,
    weekend_of,
    year_of,
)
from memlora_mlx.temporal.words import EARLY, ORDINALS, SHORT_WEEKDAYS, WEEKDAYS

_SIDES = {"before": -1, "after": 1, "following": 1, "of": 0, "preceding": -1, "prior": -1}


_SIMPLE = Rules("simple", {**NAMES, **RELATIVE})


def simple(reading: Reading, at: int) -> Match | None:
    """A time that is told by no other one."""
    return _SIMPLE.read(reading, at)


def whole_unit(reading: Reading, at: int) -> Match | None:
    """The week, the month, the year: the one that runs. Only inside a longer expression, "the end of the year"."""
    if reading.word(at) != "the":
        return None
    said, unit = reading.said, reading.word(at + 1)
    if unit == "week":
        return Match(at + 2, week_of(said), "week")
    if unit == "month":
        return Match(at + 2, month_away(said, 0), "month")
    return Match(at + 2, year_of(said.year), "year") if unit == "year" else None


def _holder(reading: Reading, at: int) -> Match | None:
    return longest((simple, whole_unit), reading, at)


def part(reading: Reading, at: int) -> Match | None:
    """Early May, mid-2021, the end of last month, the rest of the week."""
    start = reading.skip(at, "the")
    word = reading.word(start)
    if word == "rest" and reading.word(start + 1) == "of":
        whole = _holder(reading, start + 2)
        if whole is None or not whole.begins <= reading.said <= whole.ends or whole.granularity == "day":
            return None
        return Match(whole.next, (reading.said, whole.ends), "days")
    if word not in EARLY:
        return None
    after = start + 1
    if word in ("early", "mid", "late"):
        after = reading.skip(after, "-", "in")
    elif reading.word(after) == "of":
        after += 1
    else:
        return None
    whole = _holder(reading, after)
    if whole is None or whole.direction:
        return None
    third = EARLY[word]
    if whole.granularity == "month":
        first = shifted(whole.begins, 10 * third)
        days = first, shifted(first, 9) if third < 2 else whole.ends
        return Match(whole.next, days, "days", fixed=whole.fixed)
    if whole.granularity == "year":
        days = month_of(whole.begins.year, 4 * third + 1)[0], month_of(whole.begins.year, 4 * third + 4)[1]
        return Match(whole.next, days, "months", fixed=whole.fixed)
    if whole.granularity == "season":
        return Match(whole.next, month_away(whole.begins, third), "month", fixed=whole.fixed)
    if whole.granularity == "week":
        bounds = ((0, 1), (2, 3), (4, 6))[third]
        days = shifted(whole.begins, bounds[0]), shifted(whole.begins, bounds[1])
        return Match(whole.next, days, "days", fixed=whole.fixed)
    return None


def numbered(reading: Reading, at: int) -> Match | None:
    """The first week of May, the last weekend of June 2023, the second Monday of March, the last two weeks of August."""
    start = reading.skip(at, "the")
    number = ORDINALS.get(reading.word(start))
    if number is None:
        return None
    run = counted(reading, start + 1)
    target = start + 1 if run is None else run[0] - 1
    if reading.word(target + 1) not in ("of", "in"):
        return None
    whole = _holder(reading, target + 2)
    if whole is None or whole.granularity not in ("month", "year"):
        return None
    unit, (first, last) = reading.word(target), whole.days
    if run is not None:
        return _run_at_edge(whole, number, run[1].most * {"day": 1, "week": 7}.get(run[2], 0))
    weekday = any_weekday(reading, target)
    if weekday is not None:
        return Match(whole.next, one(nth_weekday(first, last, weekday, number)), "day", fixed=whole.fixed)
    if unit == "weekend":
        saturday = nth_weekday(first, last, 5, number)
        return Match(whole.next, (saturday, shifted(saturday, 1)), "weekend", fixed=whole.fixed)
    if unit == "week":
        begins = shifted(last, -6) if number < 0 else shifted(first, 7 * (number - 1))
        return Match(whole.next, (begins, min(shifted(begins, 6), last)), "week", fixed=whole.fixed)
    if unit == "day":
        day = last if number < 0 else shifted(first, number - 1)
        return Match(whole.next, one(day), "day", fixed=whole.fixed)
    return None


def _run_at_edge(whole: Match, number: int, length: float) -> Match | None:
    if length < 1 or number not in (1, -1) or length > 200:
        return None
    first, last = whole.days
    days = (first, shifted(first, length - 1)) if number == 1 else (shifted(last, 1 - length), last)
    return Match(whole.next, days, "days", fixed=whole.fixed)


def beside(reading: Reading, at: int) -> Match | None:
    """The Friday before 9 June, two days after Christmas, the week of 8 May, a few days before November."""
    start = reading.skip(at, "the", "last")
    found = counted(reading, start)
    unit_at = start if found is None else found[0] - 1
    weekday = any_weekday(reading, unit_at) if found is None else None
    if found is None and weekday is None and reading.word(unit_at) not in _UNITS:
        return None
    side = _SIDES.get(reading.word(unit_at + 1))
    if side is None:
        return None
    after = reading.skip(unit_at + 2, "to") if reading.word(unit_at + 1) == "prior" else unit_at + 2
    point = longest((day_run, simple, numbered, part), reading, after)
    if point is None or (point.kind in ("weekday", "day of month") and side == 0):
        return None
    if side == 0:
        return None if found or weekday is not None else _around(point, reading.word(unit_at))
    edge = point.begins if side < 0 else point.ends
    if weekday is not None:
        day = nearest_weekday(reading.beside(edge, "past" if side < 0 else "future"), unit_at, weekday)
        return Match(point.next, day, "day", fixed=point.fixed)
    unit = _UNITS.get(reading.word(unit_at), "day") if found is None else found[2]
    if unit in ("hour", "minute"):
        return Match(point.next, point.days, point.granularity, fixed=point.fixed)
    least, most = (1.0, 1.0) if found is None else (found[1].least, found[1].most)
    near, granularity = units_away(edge, unit, side * least)
    if unit == "weekend":
        near = _weekend_beside(edge, side)
    if least == most:
        return Match(point.next, near, granularity, fixed=point.fixed)
    far = units_away(edge, unit, side * most)[0]
    days = (far[0], near[1]) if side < 0 else (near[0], far[1])
    return Match(point.next, days, run_of(granularity), fixed=point.fixed)


_UNITS = {"day": "day", "night": "day", "morning": "day", "evening": "day", "afternoon": "day"}
_UNITS |= {"week": "week", "weekend": "weekend", "month": "month", "year": "year"}


def _weekend_beside(edge: date, side: int) -> Days:
    """The last weekend over before a day, or the first one that begins after it."""
    if side < 0:
        return weekend_of(shifted(edge, -7))
    saturday = shifted(edge, (5 - edge.weekday() - 1) % 7 + 1)
    return saturday, shifted(saturday, 1)


def _around(point: Match, unit: str) -> Match | None:
    """The week or weekend that holds a day; the night of a day is that day."""
    if (point.ends - point.begins).days > 8:
        return None
    if unit == "week":
        days = point.days if point.begins != point.ends else week_of(point.begins)
        return Match(point.next, days, "week", fixed=point.fixed)
    if unit == "weekend":
        return Match(point.next, weekend_of(point.begins), "weekend", fixed=point.fixed)
    if _UNITS.get(unit) == "day":
        return Match(point.next, point.days, point.granularity, fixed=point.fixed)
    return None


def day_run(reading: Reading, at: int) -> Match | None:
    """12-15 May 2023; May 12 to 15; April 3rd to 9th."""
    dash = ("-", "–", "—", "to", "through", "and")
    first = day_number(reading, at)
    if first is not None and reading.raw(at + 1) in dash:
        last = day_of_month(reading, at + 2)
        if last is None or reading.word(at + 2) == "the" or first[0] >= last.begins.day:
            return None
        return Match(last.next, (last.begins.replace(day=first[0]), last.ends), "days", fixed=last.fixed)
    begin = day_of_month(reading, at)
    if begin is None or reading.raw(begin.next) not in dash:
        return None
    last_day = day_number(reading, begin.next + 1)
    if last_day is None or last_day[0] <= begin.begins.day:
        return None
    if reading.word(begin.next) == "and" or begin.fixed:
        return None
    if month_number(reading, begin.next + 2) is not None:
        return None
    stated = stated_year(reading, begin.next + 2)
    year, after, fixed = stated or (begin.begins.year, begin.next + 2, False)
    days = begin.begins.replace(year=year), begin.begins.replace(year=year, day=last_day[0])
    return Match(after, days, "days", fixed=fixed)


_COMPOUND: dict[Rule, Iterable[str]] = {
    part: {"the", *EARLY},
    numbered: {"the", *ORDINALS},
    beside: {"last", *COUNTS, *_UNITS, *WEEKDAYS, *SHORT_WEEKDAYS},
    day_run: NAMES[day_of_month],
}
COMPOUND = Rules("compound", _COMPOUND)
POINT = Rules("point", {**NAMES, **RELATIVE, **_COMPOUND})


def point(reading: Reading, at: int) -> Match | None:
    """A time that is no phrase with a preposition."""
    return POINT.read(reading, at)
