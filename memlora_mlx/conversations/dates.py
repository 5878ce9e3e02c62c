"""Dates as people, programs and LoCoMo write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EPOCH = re.compile(r"[0-9]{9,17}(?:\.[0-9]{1,9})?")
_CLOCK = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))?(am|pm)?")
_NUMERIC_DATE = re.compile(r"([0-9]{1,4})([-/.])([0-9]{1,2})\2([0-9]{2,4})")
_DAY = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th)?")
_MERIDIEM = re.compile(r"(?<=[0-9]) ?([ap])\.?m\b\.?")


def parse_date(text: str | float) -> datetime:
    """A date as people, programs and LoCoMo write it; without a time it is midnight.

    Reads ISO 8601, "1:56 pm on 8 May, 2023", "May 8, 2023", "13/5/2023", epoch seconds, milli- or microseconds.
    Naive stays naive, aware becomes UTC.

    Raises:
        ValueError: it is none of these, or could be two ("5/8/2023").
    """
    match text:
        case str():
            return parse_date_with_order(text, day_first=None)
        case int() | float():
            return date_from_epoch(text)
    raise ValueError(f"{type(text).__name__} is no date")


def date_from_epoch(number: float) -> datetime:
    for unit in (1, 1_000, 1_000_000):
        if 1e8 * unit <= number < 1e11 * unit:  # seconds from 1973 to 5138
            return datetime.fromtimestamp(number / unit, UTC)
    raise ValueError("no time since 1970")


def parse_date_with_order(text: str, day_first: bool | None) -> datetime:
    """`day_first` settles what 5/8/2023 means; None refuses it."""
    text = " ".join(text.lower().split())
    if len(text) > 60:
        raise ValueError("too long for a date")
    if _EPOCH.fullmatch(text):
        return date_from_epoch(float(text))
    try:
        date = datetime.fromisoformat(text.upper())
    except ValueError:
        date = _date_of_words(text, day_first)
    try:
        return date.astimezone(UTC) if date.tzinfo else date
    except OverflowError:
        raise ValueError("outside the calendar") from None


def is_date(text: str, day_first: bool | None) -> bool:
    try:
        parse_date_with_order(text, day_first)
    except ValueError:
        return False
    return True


def _date_of_words(text: str, day_first: bool | None) -> datetime:
    year = month = day = clock = zone = None
    for word in _MERIDIEM.sub(r"\1m", text).replace(",", " ").split():
        stem = word.rstrip(".")
        months = [at for at, name in enumerate(_MONTHS, start=1) if len(stem) >= 3 and name.startswith(stem)]
        if word in ("on", "at", "of", "the") or (len(stem) >= 3 and any(name.startswith(stem) for name in _WEEKDAYS)):
            continue
        if months and month is None:
            month = months[0]
        elif word in ("utc", "gmt") and zone is None:
            zone = UTC
        elif (found := _NUMERIC_DATE.fullmatch(word)) and year is month is day is None:
            year, month, day = _ordered(found, day_first)
        elif (found := _DAY.fullmatch(word)) and day is None:
            day = int(found[1])
        elif len(word) == 4 and word.isascii() and word.isdigit() and year is None:
            year = int(word)
        elif (found := _CLOCK.fullmatch(word)) and clock is None:
            clock = _hour(int(found[1]), found[4]), int(found[2] or 0), int(found[3] or 0)
        else:
            raise ValueError(f"{word!r} is no part of a date")
    if year is None or month is None or day is None:
        raise ValueError("no day, month or year")
    return datetime(year, month, day, *(clock or (0, 0, 0)), tzinfo=zone)


def _hour(hour: int, meridiem: str | None) -> int:
    if meridiem is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError(f"there is no {hour} {meridiem}")
    return hour % 12 + (12 if meridiem == "pm" else 0)


def _ordered(found: re.Match[str], day_first: bool | None) -> tuple[int, int, int]:
    """Year, month, day of three numbers."""
    first, second, third = int(found[1]), int(found[3]), int(found[4])
    if len(found[1]) == 4:
        return first, second, third
    if len(found[1]) > 2 or len(found[4]) == 3:
        raise ValueError(f"{found[0]} has no year")
    year = third + 2000 if len(found[4]) == 2 else third
    if found[2] == ".":
        day_first = True  # nobody who writes dots puts the month first
    if day_first is None:
        if first <= 12 and second <= 12 and first != second:
            raise ValueError(f"{found[0]} can be read as two dates")
        day_first = first > 12
    return (year, second, first) if day_first else (year, first, second)
