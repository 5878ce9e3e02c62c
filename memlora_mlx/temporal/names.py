"""Times with a name of their own: dates, months, seasons, years, weekdays, holidays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date

from memlora_mlx.temporal.reading import NUMBER, Match, Reading, Rule, longest
from memlora_mlx.temporal.spans import Days, Granularity, month_of, season_of, shifted, week_of, year_of
from memlora_mlx.temporal.words import (
    DAY_PARTS,
    DECADES,
    HOLIDAY_STARTS,
    HOLIDAYS,
    MISSPELT_MONTHS,
    MONTHS,
    SEASON_WORDS,
    SHORT_MONTHS,
    SHORT_WEEKDAYS,
    WEEKDAYS,
    words,
)

_DAY = re.compile(r"([1-9]|[12][0-9]|3[01])(st|nd|rd|th)?")
_YEAR = re.compile(r"(?:1[89]|20|21)[0-9]{2}")
_NUMERIC = re.compile(r"([0-9]{1,2})([/.])([0-9]{1,2})\2([0-9]{4})")
_AFTER_DAY = words(
    "and but so or after before with at when to in because for we i it was is he she they that this there"
    " as my our then from until till by if who where which although while since though together i'm it's"
    " we're"
)
_YEARS = {"last": -1, "this": 0, "next": 1}


def day_number(reading: Reading, at: int) -> tuple[int, bool] | None:
    """A day of a month, and whether it was written as an ordinal, such as 12th."""
    found = _DAY.fullmatch(reading.word(at))
    if found is None or (reading.raw(at + 1) in (":", "%") and not found[2]) or reading.word(at + 1) in ("am", "pm"):
        return None
    return int(found[1]), found[2] is not None


def year_number(reading: Reading, at: int) -> int | None:
    word = reading.word(at)
    return int(word) if _YEAR.fullmatch(word) and reading.raw(at - 1) not in ("$", "£", "€", "#") else None


def month_number(reading: Reading, at: int) -> int | None:
    word = reading.raw(at)  # "in April's boots" names a person
    short = SHORT_MONTHS.get(word) if reading.capital(at) else None
    return MONTHS.get(word) or short or MISSPELT_MONTHS.get(word)


def _behind_month(reading: Reading, at: int) -> int:
    """Past the month, and past the full stop of "Sept."."""
    short = reading.word(at) in SHORT_MONTHS
    return at + 2 if short and reading.raw(at + 1) == "." else at + 1


def stated_year(reading: Reading, at: int) -> tuple[int, int, bool] | None:
    """ ", 2023", "of 2023", "last year": the year, the place behind it, and whether it stands fast."""
    start = reading.skip(at, ",", "of", "in")
    year = year_number(reading, start)
    if year is not None:
        return year, start + 1, True
    start = reading.skip(at, "of")
    start = reading.skip(start, "the") if reading.word(start + 1) in _YEARS else start
    if reading.word(start) in _YEARS and reading.word(start + 1) == "year":
        return reading.said.year + _YEARS[reading.word(start)], start + 2, False
    return None


def repeated(reading: Reading, at: int, make: Callable[[int], Days]) -> Days:
    """The one among the days of every year that the sentence means: the last one begun, or the next one not yet over.

    Raises:
        ValueError: there is none in the years around.
    """
    year, near = reading.near.year, reading.near
    past = reading.way(at) == "past"
    for step in range(5 if past else -1, -9, -1) if past else range(-1, 9):
        try:
            days = make(year + step)
        except ValueError:  # 29 February
            continue
        if days[0] <= near if past else days[1] >= near:
            return days
    raise ValueError("no such day")


def _dated(reading: Reading, at: int, after: int, make: Callable[[int], Days], unit: Granularity) -> Match:
    stated = stated_year(reading, after)
    if stated is None:
        return Match(after, repeated(reading, at, make), unit)
    return Match(stated[1], make(stated[0]), unit, fixed=stated[2])


def day_of_month(reading: Reading, at: int) -> Match | None:
    """12 May; the 12th of May, 2023; May 12th; May the 4th."""
    start = reading.skip(at, "the")
    day, month = day_number(reading, start), None
    if day is not None:
        name = reading.skip(start + 1, "of")
        month, after = month_number(reading, name), _behind_month(reading, name)
        plain = not day[1] and name == start + 1
    elif start == at:
        name, month = at, month_number(reading, at)
        number = _behind_month(reading, at)
        number = reading.skip(number, "the") if _DAY.fullmatch(reading.word(number + 1)) else number
        day, after = day_number(reading, number), number + 1
        plain = day is not None and not day[1]
    if day is None or month is None:
        return None
    a_verb = plain and reading.raw(name) in ("may", "march") and not reading.capital(name)
    if a_verb and reading.word(at - 1) not in ("on", "by", "until", "from"):
        return None  # "they march 5 miles"
    number = month
    days = lambda year: (date(year, number, day[0]),) * 2
    return _dated(reading, at, after, days, "day")


def month(reading: Reading, at: int) -> Match | None:
    """May 2023; May of last year; May alone."""
    number = month_number(reading, at)
    if number is None:
        return None
    after = _behind_month(reading, at)
    match = _dated(reading, at, after, lambda year: month_of(year, number), "month")
    if match.next > after:
        return match
    return Match(at + 1, match.days, "month", "month")


def numeric_date(reading: Reading, at: int) -> Match | None:
    """2023-05-07; 25/12/2022, which cannot be read as two days; 7.5.2023."""
    word = reading.word(at)
    if len(word) == 10 and word[4] == "-":
        day = date.fromisoformat(word)
        return Match(at + 1, (day, day), "day", fixed=True)
    found = _NUMERIC.fullmatch(word)
    if found is None:
        return None
    first, second, year = int(found[1]), int(found[3]), int(found[4])
    if found[2] == "/" and first <= 12 and second <= 12 and first != second:
        return None
    day = date(year, second, first) if found[2] == "." or first > 12 else date(year, first, second)
    return Match(at + 1, (day, day), "day", fixed=True)


def ordinal_day(reading: Reading, at: int) -> Match | None:
    """The 12th, where no noun follows."""
    day = day_number(reading, at + 1)
    if reading.word(at) != "the" or day is None or not day[1]:
        return None
    following = reading.word(at + 2)
    if following.isalnum() and following not in _AFTER_DAY:
        return None
    month, year = reading.near.month, reading.near.year
    past = reading.way(at) == "past"
    for step in range(4):
        total = year * 12 + month - 1 + (-step if past else step)
        try:
            found = date(total // 12, total % 12 + 1, day[0])
        except ValueError:  # the 31st
            continue
        if found <= reading.near if past else found >= reading.near:
            return Match(at + 2, (found, found), "day", "day of month")
    return None


def season(reading: Reading, at: int) -> Match | None:
    """Summer 2022; the winter of 2022-23; the summer."""
    start = reading.skip(at, "the")
    name = SEASON_WORDS.get(reading.word(start))
    if name is None:
        return None
    match = _dated(reading, at, start + 1, lambda year: season_of(year, name), "season")
    if match.next > start + 1:
        end = match.next
        if name == "winter" and match.fixed and reading.raw(end) in ("-", "/") and len(reading.word(end + 1)) == 2:
            end += 2 if reading.word(end + 1).isdigit() else 0
        return Match(end, match.days, "season", fixed=match.fixed)
    return Match(start + 1, match.days, "season", "season") if start > at else None


def year(reading: Reading, at: int) -> Match | None:
    number = year_number(reading, at)
    if number is None or reading.raw(at + 1) in ("%", ":"):
        return None
    return Match(at + 1, year_of(number), "year", "year", fixed=True)


def decade(reading: Reading, at: int) -> Match | None:
    """The 1990s, the 90s, the nineties."""
    word = reading.word(at + 1)
    if reading.word(at) != "the":
        return None
    if re.fullmatch(r"(?:1[89]|20)[0-9]0s", word):
        first = int(word[:4])
    elif re.fullmatch(r"[2-9]0s", word):
        first = 1900 + int(word[:2])
    elif word in DECADES:
        first = 1900 + DECADES[word]
    else:
        return None
    return Match(at + 2, (date(first, 1, 1), date(first + 9, 12, 31)), "years", "month", fixed=True)


def holiday(reading: Reading, at: int) -> Match | None:
    """Christmas 2021; New Year's Eve."""
    if reading.word(at) not in HOLIDAY_STARTS:
        return None
    named = named_holiday(reading, at)
    if named is None:
        return None
    after, make = named
    match = _dated(reading, at, after, lambda year: (make(year), make(year)), "day")
    return match if match.next > after else Match(after, match.days, "day", "holiday")


def named_holiday(reading: Reading, at: int) -> tuple[int, Callable[[int], date]] | None:
    """The place behind the holiday's name, and its day in each year."""
    for name, make in HOLIDAYS:
        said = [reading.word(at + ahead) for ahead in range(len(name))]
        written = [reading.raw(at + ahead) for ahead in range(len(name))]
        if all(part in pair for part, *pair in zip(name, said, written, strict=True)):
            return at + len(name), make
    return None


def weekday_number(reading: Reading, at: int) -> int | None:
    word = reading.raw(at)
    return WEEKDAYS.get(reading.word(at)) if word not in SHORT_WEEKDAYS else None


def any_weekday(reading: Reading, at: int) -> int | None:
    """A weekday's full or short name: short names are words of their own, so only some places allow them."""
    short = SHORT_WEEKDAYS.get(reading.word(at)) if reading.capital(at) else None
    return weekday_number(reading, at) if short is None else short


def behind_day_part(reading: Reading, at: int) -> int:
    """Past "night" in "Friday night", but not past "Night" in "Saturday Night Live"."""
    return at + 1 if reading.word(at) in DAY_PARTS and not reading.capital(at) else at


def weekday(reading: Reading, at: int) -> Match | None:
    """Friday; Friday night; Friday last week; Friday, 9 June 2023; Friday the 9th."""
    number = any_weekday(reading, at)
    if number is None:
        return None
    after = at + 1
    exact = longest((day_of_month, ordinal_day, numeric_date), reading, reading.skip(after, ",", "."))
    if exact is not None:
        return Match(exact.next, exact.days, "day", fixed=exact.fixed)
    if weekday_number(reading, at) is None and reading.word(at - 1) != "on":
        return None
    start = reading.skip(after, "of")
    if reading.word(start) in _YEARS and reading.word(start + 1) == "week":
        monday = week_of(shifted(reading.said, 7 * _YEARS[reading.word(start)]))[0]
        day = shifted(monday, number)
        return Match(start + 2, (day, day), "day")
    days = nearest_weekday(reading, at, number)
    part = behind_day_part(reading, after)
    return Match(part, days, "day", "full" if part > after else "weekday")


def nearest_weekday(reading: Reading, at: int, number: int) -> Days:
    """The weekday before or after the day it was said, by the sentence's tense."""
    near = reading.near
    if reading.way(at) == "past":
        day = shifted(near, -((near.weekday() - number - 1) % 7 + 1))
    else:
        day = shifted(near, (number - near.weekday() - 1) % 7 + 1)
    return day, day


_MONTH_WORDS = frozenset((*MONTHS, *SHORT_MONTHS, *MISSPELT_MONTHS))
NAMES: dict[Rule, Iterable[str]] = {
    day_of_month: {"the", NUMBER, *_MONTH_WORDS},
    month: _MONTH_WORDS,
    numeric_date: {NUMBER},
    ordinal_day: {"the"},
    season: {"the", *SEASON_WORDS},
    year: {NUMBER},
    decade: {"the"},
    holiday: HOLIDAY_STARTS,
    weekday: {*WEEKDAYS, *SHORT_WEEKDAYS},
}
