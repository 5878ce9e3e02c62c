"""The dates at the beginning of a transcript's lines, in the forms of messengers and of people.

A line that has the form of a stamp and no date in it is an error with its number: as text of the turn above it would
be wrong without a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from memlora_mlx.conversations.dates import DateOrder, is_date, normalise_date, parse_date_with_order
from memlora_mlx.conversations.model import FormatError, quote_value
from memlora_mlx.text import DIRECTION_MARKS

Form = Literal["bracket", "dash", "colon", "alone"]
ORDERS: tuple[DateOrder, ...] = ("dmy", "mdy", "ymd")
FIRST_YEAR = 1970
_BRACKET = re.compile(r"\s*\[([^\[\]]{5,60})\]\s?(.*)$", re.DOTALL)
_DASH = re.compile(r"\s*(?=\d)(.{5,60}?)\s[-–—]\s(.*)$", re.DOTALL)
_COLON = re.compile(
    r"\s*(\d{1,4}[-/.]\d{1,2}[-/.]\d{2,4},?\s\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:\s?[AaPp]\.?\s?[Mm]\.?)?):\s(.*)$",
    re.DOTALL,
)
# What has the form of a date and a time, whether or not there is such a day.
_LIKE_DATE = re.compile(r"(?<![0-9])[0-9]{1,4} ?[-/.年년] ?[0-9]{1,2} ?[-/.月월] ?[0-9]{1,4}(?![0-9])")
_LIKE_TIME = re.compile(r"(?<![0-9:.])[0-9]{1,2} ?[:.h] ?[0-9]{2}(?![0-9])")
_HOUR_24 = re.compile(r"(?<![0-9:.])24([:.][0-9]{2}(?:[:.][0-9]{2})?)$")
# The form in which telephones set to American English write: 3/4/24, 9:00 AM.
_AMERICAN = re.compile(r"[1-9][0-9]?/[1-9][0-9]?/[0-9]{2},? [0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?\s[AP]M")
# Nobody who writes from right to left, or dates in other digits, puts the month before the day.
_DAY_FIRST = re.compile("[0-9]\u200f/|[\u0660-\u0669\u06f0-\u06f9\u0966-\u096f]\u200f?/")
_BUDDHIST_YEARS = range(2500, 2600)  # a Thai calendar counts 543 years more


@dataclass(slots=True)
class Line:
    """One line of a transcript: its stamp, if it has one, and what follows."""

    number: int
    form: Form | None
    stamp: str
    rest: str
    raw: str
    said_at: datetime | None = None
    is_unreadable: bool = False  # it has the form of a stamp, and no date in it


def split_line(number: int, raw: str) -> Line:
    """A leading date, as in "[2023-05-08 13:56] Ann: hi" or "2023-05-08 13:56 - Ann: hi", or a line that is one."""
    cleaned = DIRECTION_MARKS.sub("", raw[:90])
    for form, pattern in _FORMS:
        if (found := pattern.match(cleaned)) is None:
            continue
        stamp = found[1].strip()
        if has_date(stamp):
            return Line(number, form, stamp, _rest(raw, found.start(2)), raw)
        if _looks_like_stamp(stamp):
            return Line(number, form, stamp, _rest(raw, found.start(2)), raw, is_unreadable=True)
    line = DIRECTION_MARKS.sub("", raw).strip()
    if len(line) <= 60 and any(map(str.isdigit, line)):
        header = line.strip("-=#*_ ").rstrip(":")
        header = header[5:] if header[:5].lower() == "date:" else header
        if has_date(header):
            return Line(number, "alone", header, "", raw)
    return Line(number, None, "", raw, raw)


_FORMS: tuple[tuple[Form, re.Pattern[str]], ...] = (("bracket", _BRACKET), ("dash", _DASH), ("colon", _COLON))


def _rest(raw: str, length: int) -> str:
    """What follows the stamp, with its marks: one at the beginning of a text says who wrote it.

    Args:
        length: of the stamp with what separates it, in characters that are no marks.
    """
    for at, char in enumerate(raw):
        if length == 0:
            return raw[at:].strip()
        length -= DIRECTION_MARKS.match(char) is None
    return ""


def has_date(text: str) -> bool:
    # a number alone is somebody's telephone, not a time
    if text.replace(".", "").strip().isdigit():
        return False
    text = _HOUR_24.sub(r"00\1", normalise_date(text))
    return any(is_date(text, order) for order in ORDERS) and not _is_foreign(text)


def _is_foreign(text: str) -> bool:
    """Whether the year cannot be one of the Western calendar."""
    year = next((parse_date_with_order(text, order) for order in ORDERS if is_date(text, order)), None)
    return year is not None and year.year < FIRST_YEAR


def _looks_like_stamp(text: str) -> bool:
    text = normalise_date(text)
    date = _LIKE_DATE.search(text)
    return date is not None and date.start() < 12 and _LIKE_TIME.search(text, date.end()) is not None


def check_readable(lines: list[Line]) -> None:
    """Refuse a transcript in which a line has the form of a stamp and no date that can be read."""
    forms = {line.form for line in lines if line.form not in (None, "alone") and not line.is_unreadable}
    first = next((line for line in lines if line.raw.strip()), None)
    for line in lines:
        if line.is_unreadable and (line.form in forms or line is first):
            raise FormatError(
                f"line {line.number} has a date that cannot be read: {quote_value(line.stamp)}; write it as "
                "2023-05-08 13:56, in Western numbers and years"
            )
        if line.is_unreadable:
            line.form, line.rest, line.is_unreadable = None, line.raw, False


def date_lines(lines: list[Line], order: DateOrder | None) -> None:
    """Give every stamped line its time."""
    stamped = [line for line in lines if line.form is not None]
    if order is None and any(_DAY_FIRST.search(line.raw[:40]) for line in stamped):
        order = "dmy"
    chosen = _settled_order([line.stamp for line in stamped], order)
    for line in stamped:
        line.said_at = _parse(line, chosen)
    for at, line in enumerate(stamped):
        if _HOUR_24.search(normalise_date(line.stamp)):
            line.said_at = _after_midnight(line, stamped, at)


def _parse(line: Line, order: DateOrder | None) -> datetime:
    try:
        date = parse_date_with_order(_HOUR_24.sub(r"00\1", normalise_date(line.stamp)), order)
        return date.replace(year=date.year - 543) if date.year in _BUDDHIST_YEARS else date
    except ValueError as error:
        problem = f"line {line.number} has a date that does not fit the others: {quote_value(line.stamp)}"
        raise FormatError(f"{problem} ({error}); correct it, or choose --date-order") from error


def _after_midnight(line: Line, stamped: list[Line], at: int) -> datetime:
    """When 24:05 is: of the next day as a clock counts, or of the same day as some telephones write 00:05."""
    assert line.said_at is not None
    before = next((each.said_at for each in reversed(stamped[:at]) if each.said_at), None)
    after = next((each.said_at for each in stamped[at + 1 :]), None)
    fitting = [
        date
        for date in (line.said_at + timedelta(days=1), line.said_at)
        if (before is None or before <= date) and (after is None or date <= after)
    ]
    if len(fitting) != 1:
        raise FormatError(
            f"line {line.number} has the time {quote_value(line.stamp)}, and its neighbours do not say which day that "
            "is; write 00 for the hour"
        )
    return fitting[0]


def _settled_order(stamps: list[str], order: DateOrder | None) -> DateOrder | None:
    """What 5/8/2023 and 5/8/23 mean in this file: where only one reading is possible, or runs forward, or is short."""
    normal = [_HOUR_24.sub(r"00\1", normalise_date(stamp)) for stamp in stamps]
    unclear = [at for at, stamp in enumerate(normal) if not is_date(stamp, None)]
    has_short_years = any(re.search(r"(?<![0-9])[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{1,2}(?![0-9])", s) for s in normal)
    if order is not None or not (unclear or has_short_years):
        return order
    now = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=2)
    readings: dict[DateOrder, list[datetime]] = {}
    for each in ORDERS:
        try:
            dates = [parse_date_with_order(stamp, each).replace(tzinfo=None) for stamp in normal]
        except ValueError:
            continue
        readings.setdefault(each, dates)
        if any(dates == other for key, other in readings.items() if key != each):
            del readings[each]  # it makes no difference
    # an export does not come from the future, and a chat is written in the order of time
    readings = {key: dates for key, dates in readings.items() if max(dates) <= now} or readings
    readings = {key: dates for key, dates in readings.items() if dates == sorted(dates)} or readings
    spans = {key: max(dates) - min(dates) for key, dates in readings.items()}
    if "ymd" in spans and len(spans) > 1:  # which of the two has the year: days pass between messages, not years
        others = min(span for key, span in spans.items() if key != "ymd")
        if spans["ymd"] < others / 10:
            return "ymd"
        del spans["ymd"]
    is_american = all(_AMERICAN.fullmatch(" ".join(stamp.split())) for stamp in stamps)
    if len(spans) == 2 and is_american and spans["mdy"] <= spans["dmy"]:
        return "mdy"
    if len(spans) != 1:
        raise FormatError(
            f"{quote_value(stamps[unclear[0]] if unclear else stamps[0])} can be read as two dates; say which with "
            "--date-order dmy or --date-order mdy, or write dates as 2023-05-08 13:56"
        )
    return next(iter(spans))
