"""Times told from the day of speaking: yesterday, last week, three months ago, in two days."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date

from memlora_mlx.temporal.names import any_weekday, behind_day_part, month_number, named_holiday, nearest_weekday
from memlora_mlx.temporal.reading import NUMBER, Match, Quantity, Reading, Rule, quantity
from memlora_mlx.temporal.spans import (
    Days,
    Granularity,
    month_away,
    month_of,
    months_away,
    run_of,
    season_of,
    shifted,
    week_of,
    weekend_of,
    year_of,
)
from memlora_mlx.temporal.words import ABOUT, DAY_PARTS, NUMBERS, SEASON_WORDS, TENS, TODAY, UNITS, words


def one(day: date) -> Days:
    return day, day


def near_day(reading: Reading, at: int) -> Match | None:
    """Today, tomorrow night, the day before yesterday, last night, this morning."""
    word, said = reading.word(at), reading.said
    if reading.says(at, "the", "day", "before", "yesterday"):
        return Match(at + 4, one(shifted(said, -2)), "day")
    if reading.says(at, "day", "before", "yesterday"):
        return Match(at + 3, one(shifted(said, -2)), "day")
    if reading.says(at, "the", "day", "after", "tomorrow"):
        return Match(at + 4, one(shifted(said, 2)), "day")
    if reading.says(at, "the", "night", "before", "last"):
        return Match(at + 4, one(shifted(said, -2)), "day")
    if reading.says(at, "the", "other") and reading.word(at + 2) in ("day", "night"):
        return Match(at + 3, (shifted(said, -5), shifted(said, -2)), "days")
    if word in TODAY:
        return Match(behind_day_part(reading, at + 1), one(shifted(said, TODAY[word])), "day")
    part = reading.word(at + 1)
    if word == "last" and part in ("night", "evening"):
        return Match(at + 2, one(shifted(said, -1)), "day")
    if word == "this" and part in DAY_PARTS:
        return Match(at + 2, one(said), "day")
    return None


def units_away(said: date, unit: str, count: float) -> tuple[Days, Granularity]:
    """The unit that lies so many of them before (negative) or after a day."""
    if unit in ("hour", "minute"):
        return one(shifted(said, int(count * (1 / 24 if unit == "hour" else 1 / 1440)))), "day"
    if unit == "decade":
        return year_of(said.year + round(count * 10)), "year"
    if unit == "day":
        return one(shifted(said, round(count))), "day"
    if unit in ("week", "fortnight"):
        return week_of(shifted(said, round(count * (7 if unit == "week" else 14)))), "week"
    if unit == "weekend":
        return weekend_of(shifted(said, 7 * round(count))), "weekend"
    if unit == "month":
        return month_away(said, round(count)), "month"
    away = month_away(said, round(count * 12))[0]
    return (month_away(said, round(count * 12)), "month") if 0 < abs(count) < 1 else (year_of(away.year), "year")


def _exactly_away(said: date, unit: str, count: float) -> date:
    if unit in ("month", "year", "decade"):
        return months_away(said, round(count * {"month": 1, "year": 12, "decade": 120}[unit]))
    days = {"day": 1, "week": 7, "weekend": 7, "fortnight": 14, "hour": 1 / 24, "minute": 1 / 1440}[unit]
    return shifted(said, int(count * days))


def _away(said: date, unit: str, count: Quantity, sign: int) -> tuple[Days, Granularity]:
    nearer, granularity = units_away(said, unit, sign * count.least)
    if count.least == count.most or unit in ("hour", "minute"):
        return nearer, granularity
    farther, _ = units_away(said, unit, sign * count.most)
    days = (farther[0], nearer[1]) if sign < 0 else (nearer[0], farther[1])
    return days, run_of(granularity)


def counted(reading: Reading, at: int) -> tuple[int, Quantity, str] | None:
    """A quantity and its unit: the place behind them, the quantity, the unit."""
    count = quantity(reading, at)
    unit = UNITS.get(reading.word(count.next)) if count else None
    if count is None or unit is None:
        return None
    after = count.next + 1
    if reading.says(after, "and", "a", "half"):
        return after + 3, Quantity(after + 3, count.least + 0.5, count.most + 0.5), unit
    return after, count, unit


def ago(reading: Reading, at: int) -> Match | None:
    """Three years ago; a few days back; two weeks from now; a week from today; a week ago today."""
    found = counted(reading, at)
    if found is None:
        return None
    after, count, unit = found
    word, said = reading.word(after), reading.said
    if word == "back" and reading.word(after + 1) in ("to", "in", "and", "at", "home"):
        return None
    if word in ("ago", "back"):
        if word == "ago" and reading.word(after + 1) == "today" and count.least == count.most:
            return Match(after + 2, one(_exactly_away(said, unit, -count.least)), "day")
        days, granularity = _away(said, unit, count, -1)
        return Match(after + 1, days, granularity)
    if word != "from" or count.least != count.most:
        return None
    if reading.word(after + 1) == "now":
        days, granularity = _away(said, unit, count, 1)
        return Match(after + 2, days, granularity)
    if reading.word(after + 1) in TODAY:
        start = shifted(said, TODAY[reading.word(after + 1)])
        return Match(after + 2, one(_exactly_away(start, unit, count.least)), "day")
    weekday = any_weekday(reading, after + 1)
    if weekday is None:
        return None
    start = nearest_weekday(reading.beside(said, "future"), after + 1, weekday)[0]
    return Match(after + 2, one(_exactly_away(start, unit, count.least)), "day")


def in_some_time(reading: Reading, at: int) -> Match | None:
    """In three days, unless the sentence tells of the past ("I read it in three days")."""
    if reading.word(at) != "in" or reading.cue(at) == "past":
        return None
    found = counted(reading, at + 1)
    if found is None or found[2] in ("hour", "minute"):
        return None
    after, count, unit = found
    if (unit == "day" and count.least == 1) or reading.word(after) == "of":
        return None
    days, granularity = _away(reading.said, unit, count, 1)
    return Match(after, days, granularity)


def last_units(reading: Reading, at: int) -> Match | None:
    """The last two months; the past week; the next few days: runs that end or begin on the day of speaking."""
    start = reading.skip(at, "the", "these", "this")
    word = reading.word(start)
    if word not in ("last", "past", "next", "coming", "previous"):
        return None
    found = counted(reading, start + 1)
    if found is None and (word == "past" or (word == "last" and start > at and reading.word(at) == "the")):
        unit = UNITS.get(reading.word(start + 1))
        found = (start + 2, Quantity(start + 2, 1, 1), unit) if unit else None
    if found is None or found[2] in ("hour", "minute") or found[1].next == start + 1:
        return None
    after, count, unit = found
    if unit == "weekend" and count.most == 1:
        return None  # "this past weekend" is a weekend
    if word in ("last", "past", "previous"):
        days = _exactly_away(reading.said, unit, -count.most), reading.said
    else:
        days = reading.said, _exactly_away(reading.said, unit, count.most)
    single: Granularity = units_away(reading.said, unit, 1)[1]
    return Match(after, days, single if count.most == 1 else run_of(single))


def pointed(reading: Reading, at: int) -> Match | None:
    """Last Friday, this weekend, next summer, this past Saturday, last Christmas."""
    start = reading.skip(at, "the", "earlier", "later")
    word = reading.word(start)
    if word == "this" and reading.word(start + 1) in ("past", "coming", "last", "next"):
        start, word = start + 1, reading.word(start + 1)
    if word not in ("last", "this", "next", "past", "coming", "previous"):
        return None
    word = {"past": "last", "previous": "last", "coming": "next"}.get(word, word)
    if start > at and word == "this" and reading.word(at) == "the":
        return None
    target = start + 1
    for choose in (_weekday, _unit, _month, _season, _holiday):
        match = choose(reading, target, word)
        if match is not None:
            return match
    return None


def _weekday(reading: Reading, at: int, word: str) -> Match | None:
    number = any_weekday(reading, at)
    if number is None:
        return None
    said = reading.said
    if word == "this":
        day = shifted(week_of(said)[0], number)
        cue = reading.cue(at)
        if cue == "future" and day < said:
            day = shifted(day, 7)
        elif cue == "past" and day > said:
            day = shifted(day, -7)
    else:
        day = nearest_weekday(reading.beside(said, "past" if word == "last" else "future"), at, number)[0]
    return Match(behind_day_part(reading, at + 1), one(day), "day")


def _unit(reading: Reading, at: int, word: str) -> Match | None:
    unit, said = reading.word(at), reading.said
    if unit not in ("week", "weekend", "month", "year", "decade"):
        return None
    step = {"last": -1, "this": 0, "next": 1}[word]
    if unit == "weekend" and word == "this" and said.weekday() < 5 and reading.cue(at) == "past":
        step = -1
    if unit == "decade":
        first = (said.year // 10 + step) * 10
        return Match(at + 1, (date(first, 1, 1), date(first + 9, 12, 31)), "years")
    days, granularity = units_away(said, unit, step)
    if unit == "week":
        day = reading.skip(at + 1, "on")
        number = any_weekday(reading, day)
        if number is not None:
            return Match(behind_day_part(reading, day + 1), one(shifted(days[0], number)), "day")
    return Match(at + 1, days, granularity)


def _chosen(said: date, word: str, make: Callable[[int], Days], apart: int = 0) -> Days:
    """The last one over, or the next one not begun, of days that come every year."""
    for step in (2, 1, 0, -1, -2) if word == "last" else (-1, 0, 1, 2):
        days = make(said.year + step)
        if shifted(days[1], apart) < said if word == "last" else days[0] > said:
            return days
    raise ValueError("no such day")


def _month(reading: Reading, at: int, word: str) -> Match | None:
    number = month_number(reading, at)
    if number is None:
        return None
    this = month_of(reading.said.year, number)
    days = this if word == "this" else _chosen(reading.said, word, lambda year: month_of(year, number))
    return Match(at + 1, days, "month")


def _season(reading: Reading, at: int, word: str) -> Match | None:
    name, said = SEASON_WORDS.get(reading.word(at)), reading.said
    if name is None:
        return None
    if word == "this":
        running = season_of(said.year - 1, name)
        days = running if running[1] >= said else season_of(said.year, name)
    elif word == "next" and name != "winter":
        days = season_of(said.year + 1, name)  # the one of this year is "this summer"
    else:
        days = _chosen(said, word, lambda year: season_of(year, name))
    return Match(at + 1, days, "season")


def _holiday(reading: Reading, at: int, word: str) -> Match | None:
    named = named_holiday(reading, at)
    if named is None:
        return None
    after, make = named
    if word == "this":
        return Match(after, one(make(reading.said.year)), "day")
    return Match(after, _chosen(reading.said, word, lambda year: one(make(year)), apart=13), "day")


def before_last(reading: Reading, at: int) -> Match | None:
    """The week before last, the Friday before last, the summer before last, the weekend after next."""
    start = reading.skip(at, "the")
    if start == at:
        return None
    after = start + 3
    if reading.says(start + 1, "before", "last"):
        word, step = "last", -1
    elif reading.says(start + 1, "after", "next"):
        word, step = "next", 1
    else:
        return None
    unit = reading.word(start)
    if unit in ("week", "weekend", "month", "year"):
        days, granularity = units_away(reading.said, unit, 2 * step)
        return Match(after, days, granularity)
    weekday = _weekday(reading, start, word)
    if weekday is not None:
        return Match(after, one(shifted(weekday.begins, 7 * step)), "day")
    season = _season(reading, start, word)
    if season is not None:
        name = SEASON_WORDS[unit]
        return Match(after, season_of(season.begins.year + step, name), "season")
    return None


_POINTERS = words("last this next past coming previous")
COUNTS = words("a an few couple several half more less the") | ABOUT | {*NUMBERS, *TENS, NUMBER}
RELATIVE: dict[Rule, Iterable[str]] = {
    near_day: {*TODAY, "the", "day", "last", "this"},
    ago: COUNTS,
    in_some_time: {"in"},
    last_units: {*_POINTERS, "the", "these"},
    pointed: {*_POINTERS, "the", "earlier", "later"},
    before_last: {"the"},
}
