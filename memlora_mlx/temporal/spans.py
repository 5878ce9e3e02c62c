"""Spans of days, and the arithmetic of the calendar: weeks from Monday, seasons of the northern half of the world."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, get_args

Granularity = Literal["day", "days", "weekend", "week", "weeks", "month", "months", "season", "year", "years"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)  # from the finest to the coarsest
Direction = Literal["past", "present", "future", "since", "until"]

SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "winter": 12}  # the month in which each begins


@dataclass(frozen=True, slots=True)
class Span:
    """A run of whole days. Both its first and its last day belong to it.

    The granularity says how exactly the time was named: a `day`, a calendar `week`, a `month`; the plural names are runs
    of such units ("a few days ago", "from June to August"). A span of the direction `since` runs from a time named with
    that granularity to the day the words were said; one of `until` runs from that day to the time named.
    """

    begins: date
    ends: date
    granularity: Granularity
    direction: Direction


@dataclass(frozen=True, slots=True)
class Expression:
    """Words of a text that name a time: `text[start:end]`, in characters."""

    start: int
    end: int
    span: Span

    @property
    def begins(self) -> date:
        return self.span.begins

    @property
    def ends(self) -> date:
        return self.span.ends

    @property
    def granularity(self) -> Granularity:
        return self.span.granularity

    @property
    def direction(self) -> Direction:
        return self.span.direction


Days = tuple[date, date]  # the first and the last day


def shifted(day: date, days: float) -> date:
    return day + timedelta(days)


def week_of(day: date) -> Days:
    monday = shifted(day, -day.weekday())
    return monday, shifted(monday, 6)


def weekend_of(day: date) -> Days:
    """Saturday and Sunday of the week that holds the day."""
    monday, sunday = week_of(day)
    return shifted(monday, 5), sunday


def month_of(year: int, month: int) -> Days:
    return date(year, month, 1), date(year, month, monthrange(year, month)[1])


def month_away(day: date, months: int) -> Days:
    """The month that lies so many months after the one that holds the day."""
    at = day.year * 12 + day.month - 1 + months
    return month_of(at // 12, at % 12 + 1)


def months_away(day: date, months: int) -> date:
    """The same day of another month, or that month's last day."""
    first, last = month_away(day, months)
    return first.replace(day=min(day.day, last.day))


def year_of(year: int) -> Days:
    return date(year, 1, 1), date(year, 12, 31)


def season_of(year: int, name: str) -> Days:
    """The season that begins in that year: winter 2022 ends in February 2023."""
    first = date(year, SEASONS[name], 1)
    return first, month_away(first, 2)[1]


def unit_of(day: date, granularity: Granularity) -> Days:
    """The week, weekend, month, season or year that holds a day; of any other granularity, the day itself."""
    if granularity == "week":
        return week_of(day)
    if granularity == "weekend":
        return weekend_of(day)
    if granularity == "month":
        return month_away(day, 0)
    if granularity == "year":
        return year_of(day.year)
    if granularity == "season":
        first = month_away(day, -(day.month % 3))[0]
        return first, month_away(first, 2)[1]
    return day, day


def run_of(granularity: Granularity) -> Granularity:
    """The granularity of a run of such units: of seasons it is months, of weekends weeks."""
    if granularity in ("day", "days"):
        return "days"
    if granularity in ("weekend", "week", "weeks"):
        return "weeks"
    return "years" if granularity in ("year", "years") else "months"


def easter(year: int) -> date:
    """Easter Sunday of the western churches: the Anonymous Gregorian algorithm."""
    a, b, c = year % 19, year // 100, year % 100
    h = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    k = (32 + 2 * (b % 4) + 2 * (c // 4) - h - c % 4) % 7
    month, day = divmod(h + k - 7 * ((a + 11 * h + 22 * k) // 451) + 114, 31)
    return date(year, month, day + 1)


def nth_weekday(first: date, last: date, weekday: int, number: int) -> date:
    """The number-th such weekday from the first day on; -1 is the last one up to the last day.

    Raises:
        ValueError: there are not so many.
    """
    if number < 0:
        return shifted(last, -((last.weekday() - weekday) % 7))
    day = shifted(first, (weekday - first.weekday()) % 7 + 7 * (number - 1))
    if day > last:
        raise ValueError("no such weekday")
    return day
