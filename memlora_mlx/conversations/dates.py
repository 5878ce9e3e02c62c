"""Dates as people, programs and LoCoMo write them."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from memlora_mlx.text import DIRECTION_MARKS

DateOrder = Literal["dmy", "mdy", "ymd"]

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EPOCH = re.compile(r"[0-9]{9,17}(?:\.[0-9]{1,9})?")
_CLOCK = re.compile(r"([0-9]{1,2})(?:[:.h]([0-9]{2}))?(?:[:.]([0-9]{2})(?:[.,][0-9]{1,6})?)?(am|pm)?")
_NUMERIC_DATE = re.compile(r"([0-9]{1,4})([-/.])([0-9]{1,2})\2([0-9]{1,4})\.?")
_DAY = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th)?")
_SPACED_DATE = re.compile(r"(?<![0-9])([0-9]{1,4})\. ?([0-9]{1,2})\. ?([0-9]{1,4})(?:\.(?![0-9])|(?![0-9.]))")
_CJK_DATE = re.compile(r"([0-9]{2,4}) ?[年년] ?([0-9]{1,2}) ?[月월] ?([0-9]{1,2}) ?[日일]")
_SPACED_CLOCK = re.compile(r"(?<=[0-9]) h (?=[0-9]{2}\b)")
_CJK_WEEKDAY = re.compile(
    r"\([月火水木金土日一二三四五六월화수목금토일]\)|[月火水木金土日월화수목금토일][曜요][日일]|星期[一二三四五六日]"
)
# The two halves of a day in the languages of the Unicode CLDR, as messengers write them behind and before the time.
_AM = r"a\.? ?m\.?|a\.|ص|صباحًا|π\.? ?μ\.?|öö|sa|pg|fm|дп|ق\.? ?ظ\.?|पूर्वाह्न"
_PM = r"p\.? ?m\.?|p\.|م|مساءً|μ\.? ?μ\.?|ös|ch|ptg|em|пп|ب\.? ?ظ\.?|अपराह्न"
_SUFFIX = re.compile(rf"(?<=[0-9]) ?(?:({_AM})|({_PM}))(?![^\s,)\]])")
_PREFIX = re.compile(
    r"(?:(上午|早上|清晨|凌晨|午前|오전|am(?= ?[0-9]))|(下午|午後|오후|晚上|pm(?= ?[0-9]))|(中午)) ?"
    r"([0-9]{1,2})([:.][0-9]{2}(?:[:.][0-9]{2})?)"
)
# Words that say nothing in a date. German and the Nordic, Romance and Slavic languages put them before or after the time.
_FILLERS = frozenset(("on", "at", "of", "the", "klo", "kl", "um", "uhr", "à", "às", "alle", "om", "ч", "г", "|"))


def parse_date(text: str | float) -> datetime:
    """A date as people, programs and LoCoMo write it; without a time it is midnight.

    Reads ISO 8601, "1:56 pm on 8 May, 2023", "May 8, 2023", "13/5/2023", epoch seconds, milli- or microseconds.
    Naive stays naive, aware becomes UTC.

    Raises:
        ValueError: it is none of these, or could be two ("5/8/2023").
    """
    match text:
        case str():
            return parse_date_with_order(text, None)
        case int() | float():
            return date_from_epoch(text)
    raise ValueError(f"{type(text).__name__} is no date")


def date_from_epoch(number: float) -> datetime:
    for unit in (1, 1_000, 1_000_000):
        if 1e8 * unit <= number < 1e11 * unit:  # seconds from 1973 to 5138
            return datetime.fromtimestamp(number / unit, UTC)
    raise ValueError("no time since 1970")


def parse_date_with_order(text: str, order: DateOrder | None) -> datetime:
    """`order` settles what 5/8/2023 means; None refuses it."""
    text = normalise_date(text)
    if len(text) > 60:
        raise ValueError("too long for a date")
    if _EPOCH.fullmatch(text):
        return date_from_epoch(float(text))
    try:
        date = datetime.fromisoformat(text.upper())
    except ValueError:
        date = _date_of_words(text, order)
    try:
        return date.astimezone(UTC) if date.tzinfo else date
    except OverflowError:
        raise ValueError("outside the calendar") from None


def normalise_date(text: str) -> str:
    """The text of a date in lower case, without marks, with Western digits, and with am and pm for each language."""
    text = DIRECTION_MARKS.sub("", text[:200]).lower()
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(c, c)) for c in text)
        text = text.replace("،", ",").replace("：", ":").replace("／", "/")
        text = _CJK_DATE.sub(r"\1-\2-\3 ", _CJK_WEEKDAY.sub("", text))
    text = " ".join(text.split())
    text = _PREFIX.sub(_clock_of_prefix, _SPACED_CLOCK.sub("h", _SPACED_DATE.sub(r"\1.\2.\3", text)))
    return _SUFFIX.sub(lambda found: "am" if found[1] else "pm", text).strip()


def _clock_of_prefix(found: re.Match[str]) -> str:
    noon = "pm" if found[4] in ("12", "1", "2") else "am"
    return f"{found[4]}{found[5]}{'am' if found[1] else 'pm' if found[2] else noon}"


def is_date(text: str, order: DateOrder | None) -> bool:
    return _is_date(text[:200], order)


@lru_cache(maxsize=1 << 14)  # a transcript asks for each of its dates several times
def _is_date(text: str, order: DateOrder | None) -> bool:
    try:
        parse_date_with_order(text, order)
    except ValueError:
        return False
    return True


def _date_of_words(text: str, order: DateOrder | None) -> datetime:
    year = month = day = clock = zone = None
    for word in text.replace(",", " ").split():
        stem = word.rstrip(".")
        months = [at for at, name in enumerate(_MONTHS, start=1) if len(stem) >= 3 and name.startswith(stem)]
        if stem in _FILLERS or (len(stem) >= 3 and any(name.startswith(stem) for name in _WEEKDAYS)):
            continue
        if months and month is None:
            month = months[0]
        elif word in ("utc", "gmt") and zone is None:
            zone = UTC
        elif (found := _NUMERIC_DATE.fullmatch(word)) and year is month is day is None:
            year, month, day = _ordered(found, order)
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
    if not 0 <= hour <= 12:  # in Japan noon is 0 pm
        raise ValueError(f"there is no {hour} {meridiem}")
    return hour % 12 + (12 if meridiem == "pm" else 0)


def _ordered(found: re.Match[str], order: DateOrder | None) -> tuple[int, int, int]:
    """Year, month, day of three numbers."""
    first, second, third = int(found[1]), int(found[3]), int(found[4])
    if len(found[1]) == 4:
        return first, second, third
    if order == "ymd" and len(found[1]) == 2 and len(found[4]) <= 2:
        return first + 2000, second, third
    if len(found[1]) > 2 or len(found[4]) not in (2, 4):
        raise ValueError(f"{found[0]} has no year")
    year = third + 2000 if len(found[4]) == 2 else third
    if found[2] == "." or (order is None and first == second):
        order = "dmy"  # nobody who writes dots puts the month first
    if order not in ("dmy", "mdy"):
        if first <= 12 and second <= 12 and first != second:
            raise ValueError(f"{found[0]} can be read as two dates")
        order = "dmy" if first > 12 else "mdy"
    return (year, second, first) if order == "dmy" else (year, first, second)
