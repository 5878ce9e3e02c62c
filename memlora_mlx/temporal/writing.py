"""Spans as people write dates."""

from __future__ import annotations

from datetime import date, timedelta

from memlora_mlx.temporal.spans import SEASONS, Span, month_of, unit_of
from memlora_mlx.temporal.words import MONTHS

_NAMES = [name.capitalize() for name in MONTHS]
_PARTS = ("early", "mid", "late")


def written(span: Span) -> str:
    """A span in words: "7 May 2023", "the week of 8 May 2023", "summer 2022", "2018 to 2021", "since March 2021"."""
    if span.begins == date.min or span.direction == "until":
        return f"until {_unit(span.ends, span) if span.begins != date.min else _day(span.ends)}"
    if span.ends == date.max:
        return f"since {_day(span.begins)}"
    if span.direction == "since":
        return f"since {_unit(span.begins, span)}"
    return _days(span)


def _day(day: date) -> str:
    return f"{day.day} {_month(day)}"


def _month(day: date) -> str:
    return f"{_NAMES[day.month - 1]} {day.year}"


def _unit(day: date, span: Span) -> str:
    begins, ends = unit_of(day, span.granularity)
    return _days(Span(begins, ends, span.granularity, "past"))


def _days(span: Span) -> str:
    begins, ends, granularity = span.begins, span.ends, span.granularity
    whole = (begins, ends) == unit_of(begins, granularity)
    if begins == ends:
        return _day(begins)
    if granularity == "week":
        if whole:
            return f"the week of {_day(begins)}"
        if begins.day == 1 and ends.day == 7:
            return f"the first week of {_month(begins)}"
        if (ends + timedelta(1)).day == 1 and (ends - begins).days == 6:
            return f"the last week of {_month(begins)}"
    if granularity == "weekend" and whole:
        return f"the weekend of {_day(begins)}"
    if granularity == "month" and whole:
        return _month(begins)
    if granularity == "season" and whole:
        return _season(begins)
    if granularity == "year" and whole:
        return str(begins.year)
    if granularity == "years" and begins == date(begins.year, 1, 1) and ends == date(ends.year, 12, 31):
        decade = begins.year % 10 == 0 and ends.year - begins.year == 9
        return f"the {begins.year}s" if decade else f"{begins.year} to {ends.year}"
    if granularity in ("months", "season", "month") and begins.day == 1 and ends == month_of(ends.year, ends.month)[1]:
        third = (begins.month - 1) // 4
        if (
            granularity == "months"
            and begins.month == 4 * third + 1
            and ends == month_of(begins.year, 4 * third + 4)[1]
        ):
            return f"{_PARTS[third]} {begins.year}"
        first = _month(begins) if begins.year != ends.year else _NAMES[begins.month - 1]
        return f"{first} to {_month(ends)}"
    if granularity == "days" and (begins.year, begins.month) == (ends.year, ends.month):
        third = min((begins.day - 1) // 10, 2)
        last = month_of(ends.year, ends.month)[1]
        if begins.day == 10 * third + 1 and (ends.day == begins.day + 9 if third < 2 else ends == last):
            return f"{_PARTS[third]} {_month(begins)}"
    return _run(begins, ends)


def _season(begins: date) -> str:
    name = next(name for name, month in SEASONS.items() if month == begins.month)
    return f"winter {begins.year}-{(begins.year + 1) % 100:02}" if name == "winter" else f"{name} {begins.year}"


def _run(begins: date, ends: date) -> str:
    if (begins.year, begins.month) == (ends.year, ends.month):
        return f"{begins.day} to {_day(ends)}"
    first = _day(begins) if begins.year != ends.year else f"{begins.day} {_NAMES[begins.month - 1]}"
    return f"{first} to {_day(ends)}"
