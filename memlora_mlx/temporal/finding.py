"""Find the time expressions of a text, and the time that a question asks about."""

from __future__ import annotations

from datetime import date, datetime

from memlora_mlx.temporal.names import year
from memlora_mlx.temporal.phrases import phrase
from memlora_mlx.temporal.reading import Match, Reading
from memlora_mlx.temporal.spans import Direction, Expression, Granularity, Span
from memlora_mlx.temporal.words import (
    ABOUT,
    DAY_PARTS,
    EARLY,
    HOLIDAY_STARTS,
    MISSPELT_MONTHS,
    MONTHS,
    NUMBERS,
    ORDINALS,
    SEASON_WORDS,
    SHORT_MONTHS,
    SHORT_WEEKDAYS,
    TENS,
    TODAY,
    WEEKDAYS,
)

_STARTS = frozenset().union(
    *(ABOUT, DAY_PARTS, EARLY, HOLIDAY_STARTS, MISSPELT_MONTHS, MONTHS, NUMBERS, ORDINALS, SEASON_WORDS, SHORT_MONTHS),
    *(SHORT_WEEKDAYS, TENS, TODAY, WEEKDAYS),
    "in on at during over for around by within throughout back the a an few couple several half last this next past"
    " coming previous these earlier later since ever until till til before after from between day week weekend month"
    " year night more less".split(),
)
_COARSE: tuple[Granularity, ...] = (
    *("day", "days", "weekend", "week", "weeks", "month", "months", "season", "year", "years"),
)


def find(text: str, said_at: date | datetime) -> tuple[Expression, ...]:
    """The words of a text that name a time, each with the days it means when said on `said_at`.

    Reads English. What names no time of its own ("every Friday", "when I was ten", "three hours", "one day") is left
    out, and so is a time open at one end ("before June"). Never raises on any text, and takes time in proportion to it.
    """
    said = _day(said_at)
    reading = Reading.of(text, said)
    found = ((start, match) for start, match in _matches(reading) if date.min < match.begins and match.ends < date.max)
    return tuple(_expression(reading, start, match) for start, match in found)


def asked(text: str, now: date | datetime) -> Span | None:
    """The days that a question asks about ("what did I do in May?"); None where it names none.

    Where it names several, the span reaches from the first to the last of them. "Before June" and "after June" begin
    at `date.min` and end at `date.max`.
    """
    said = _day(now)
    spans = [_span(match, said) for _, match in _matches(Reading.of(text, said))]
    if len(spans) < 2:
        return spans[0] if spans else None
    begins, ends = min(span.begins for span in spans), max(span.ends for span in spans)
    coarse = max((span.granularity for span in spans), key=_COARSE.index)
    run: Granularity = {"day": "days", "weekend": "days", "week": "weeks", "month": "months"}.get(coarse, coarse)  # type: ignore[assignment]
    return Span(begins, ends, run, _direction(begins, ends, said))


def fixed_spans(text: str, said: date | None) -> tuple[Span, ...]:
    """The times that a text names; without the day it was said, only those that do not depend on it.

    A text that is hardly more than a date may give a year alone ("2019"), which `find` takes for a number.
    """
    reading = Reading.of(text, said or date(2000, 1, 1))
    return tuple(
        _span(match, reading.said) for _, match in _matches(reading, bare_years=True) if match.fixed or said is not None
    )


def _day(when: date | datetime) -> date:
    return when.date() if isinstance(when, datetime) else when


def _matches(reading: Reading, bare_years: bool = False) -> list[tuple[int, Match]]:
    found: list[tuple[int, Match]] = []
    at = 0
    while at < len(reading.words):
        word = reading.words[at].word
        match = phrase(reading, at) if word in _STARTS or word[:1].isdigit() else None
        if match is None and bare_years:
            match = year(reading, at)
        if match is None:
            at += 1
            continue
        found.append((at, match))
        at = match.next
    return found


def _expression(reading: Reading, start: int, match: Match) -> Expression:
    words = reading.words
    return Expression(words[start].start, words[match.next - 1].end, _span(match, reading.said))


def _span(match: Match, said: date) -> Span:
    direction = match.direction or _direction(match.begins, match.ends, said)
    return Span(match.begins, match.ends, match.granularity, direction)


def _direction(begins: date, ends: date, said: date) -> Direction:
    return "past" if ends < said else "future" if begins > said else "present"
