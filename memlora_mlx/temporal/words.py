"""The words that name times in English, and how a text is cut into words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from memlora_mlx.temporal.spans import easter, month_of, nth_weekday, shifted


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKEN = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9-])"
    r"|(?<![0-9./])[0-9]{1,2}([/.])[0-9]{1,2}\1[0-9]{4}(?![0-9/])"
    r"|[0-9]++(?:(?:st|nd|rd|th|s)(?![^\W\d_]))?"
    r"|[^\W\d_]+(?:['’][^\W\d_]+)?"
    r"|\n|[^\w\s]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number or mark. `word` is in lower case, with straight apostrophes, and without a final 's."""

    word: str
    raw: str
    start: int
    end: int
    capital: bool


def tokens(text: str) -> list[Token]:
    found = []
    for match in _TOKEN.finditer(text):
        raw = match[0].lower().replace("’", "'")
        found.append(Token(raw.removesuffix("'s"), raw, match.start(), match.end(), match[0][:1].isupper()))
    return found


_MONTH_NAMES = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
MONTHS = {name: at for at, name in enumerate(_MONTH_NAMES, start=1)}
SHORT_MONTHS = {name[:3]: at for name, at in MONTHS.items() if name != "may"} | {"sept": 9}
MISSPELT_MONTHS = {"janury": 1, "januarty": 1, "febuary": 2, "feburary": 2, "septmber": 9, "septemeber": 9}
_WEEKDAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WEEKDAYS = {name: at for at, name in enumerate(_WEEKDAY_NAMES)}
SHORT_WEEKDAYS = {name[:3]: at for name, at in WEEKDAYS.items()} | {"tues": 1, "thur": 3, "thurs": 3}
SEASON_WORDS = {"spring": "spring", "summer": "summer", "autumn": "autumn", "fall": "autumn", "winter": "winter"}
DAY_PARTS = words("morning afternoon evening night")
TODAY = {"today": 0, "tonight": 0, "yesterday": -1, "tomorrow": 1}
TODAY |= {"tommorow": 1, "tommorrow": 1, "tomorow": 1, "tmrw": 1, "yesturday": -1, "tonite": 0}
UNITS = {
    "day": "day",
    "days": "day",
    "night": "day",
    "nights": "day",
    "week": "week",
    "weeks": "week",
    "weekend": "weekend",
    "weekends": "weekend",
    "month": "month",
    "months": "month",
    "year": "year",
    "years": "year",
    "yrs": "year",
    "decade": "decade",
    "decades": "decade",
    "fortnight": "fortnight",
    "fortnights": "fortnight",
    "hour": "hour",
    "hours": "hour",
    "minute": "minute",
    "minutes": "minute",
    "mins": "minute",
    "hrs": "hour",
    "moment": "minute",
}
_SMALL = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
NUMBERS = {word: at for at, word in enumerate(f"{_SMALL} eighteen nineteen".split(), start=1)}
TENS = {
    word: at * 10
    for at, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2)
}
ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": -1}
ORDINALS |= {"1st": 1, "2nd": 2, "3rd": 3, "4th": 4, "5th": 5, "final": -1}
DECADES = {f"{word.removesuffix('y')}ies": at for word, at in TENS.items()}
EARLY = {"early": 0, "beginning": 0, "start": 0, "mid": 1, "middle": 1, "late": 2, "end": 2}
ABOUT = words("about around nearly almost roughly approximately over just like maybe exactly only under")


def _in(month: int, day: int) -> Callable[[int], date]:
    return lambda year: date(year, month, day)


def _on(month: int, weekday: int, number: int) -> Callable[[int], date]:
    return lambda year: nth_weekday(*month_of(year, month), weekday, number)


# Longer names come first: "christmas eve" before "christmas". Where countries differ, these are the days of the USA.
HOLIDAYS: tuple[tuple[tuple[str, ...], Callable[[int], date]], ...] = (
    (("christmas", "eve"), _in(12, 24)),
    (("christmas", "day"), _in(12, 25)),
    (("christmas",), _in(12, 25)),
    (("boxing", "day"), _in(12, 26)),
    (("new", "year", "eve"), _in(12, 31)),
    (("new", "years", "eve"), _in(12, 31)),
    (("new", "year", "day"), _in(1, 1)),
    (("new", "years"), _in(1, 1)),
    (("new", "year's"), _in(1, 1)),
    (("halloween",), _in(10, 31)),
    (("valentine", "day"), _in(2, 14)),
    (("valentines", "day"), _in(2, 14)),
    (("independence", "day"), _in(7, 4)),
    (("thanksgiving", "day"), _on(11, 3, 4)),
    (("thanksgiving",), _on(11, 3, 4)),
    (("easter", "monday"), lambda year: shifted(easter(year), 1)),
    (("easter", "sunday"), easter),
    (("easter",), easter),
    (("good", "friday"), lambda year: shifted(easter(year), -2)),
    (("mother", "day"), _on(5, 6, 2)),
    (("father", "day"), _on(6, 6, 3)),
    (("memorial", "day"), _on(5, 0, -1)),
    (("labor", "day"), _on(9, 0, 1)),
    (("labour", "day"), _on(9, 0, 1)),
)
HOLIDAY_STARTS = frozenset(name[0] for name, _ in HOLIDAYS)
