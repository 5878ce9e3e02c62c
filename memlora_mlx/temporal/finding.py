"""Find the time expressions of a text, and the time that a question asks about."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

from memlora_mlx.temporal.names import holiday, month, season, year
from memlora_mlx.temporal.phrases import phrase
from memlora_mlx.temporal.reading import Match, Reading, longest
from memlora_mlx.temporal.spans import GRANULARITIES, Direction, Expression, Span, run_of, unit_of


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
    run = run_of(max((span.granularity for span in spans), key=GRANULARITIES.index))
    return Span(begins, ends, run, _direction(begins, ends, said))


def dates_in(text: str, said: date | None, near: date | None = None) -> tuple[Span, ...]:
    """The times that an answer names, where a year alone ("2019") is one.

    Without the day it was said, words such as "yesterday" mean nothing and are left out; dates without a year are taken
    for the last ones up to `near`, or are left out as well. A span `since` a time is given as that time itself.
    """
    readings = [_answers(text, day, near or day) for day in ((said,) if said else _TWO_DAYS)]
    return tuple(span for span in readings[0] if all(span in other for other in readings))


_TWO_DAYS = (date(2000, 1, 5), date(1931, 8, 14))  # what means the same on both does not depend on the day


def _answers(text: str, said: date, near: date) -> list[Span]:
    reading = replace(Reading.of(text, said), near=near, forced="past")
    return [_named(match) for _, match in _matches(reading, answers=True)]


def _named(match: Match) -> Span:
    """The time itself that a span begins or ends with, where it is told by one end."""
    days = match.days
    if match.direction is not None:
        day = match.begins if match.direction == "since" else match.ends
        days = unit_of(day, match.granularity)
    return Span(*days, match.granularity, "past")


def _day(when: date | datetime) -> date:
    return when.date() if isinstance(when, datetime) else when


def _matches(reading: Reading, answers: bool = False) -> list[tuple[int, Match]]:
    found: list[tuple[int, Match]] = []
    at = 0
    while at < len(reading.words):
        match = phrase(reading, at)
        if match is None and answers:
            match = _alone(reading, at)
        if match is None:
            at += 1
            continue
        found.append((at, match))
        at = match.next
    return found


def _alone(reading: Reading, at: int) -> Match | None:
    """A year, a month, a season or a holiday without a preposition: in an answer that is enough."""
    match = longest((year, month, season, holiday), reading, at)
    return match if match is None or match.kind != "month" or reading.capital(at) else None


def _expression(reading: Reading, start: int, match: Match) -> Expression:
    words = reading.words
    return Expression(words[start].start, words[match.next - 1].end, _span(match, reading.said))


def _span(match: Match, said: date) -> Span:
    direction = match.direction or _direction(match.begins, match.ends, said)
    return Span(match.begins, match.ends, match.granularity, direction)


def _direction(begins: date, ends: date, said: date) -> Direction:
    return "past" if ends < said else "future" if begins > said else "present"
