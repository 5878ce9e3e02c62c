"""Whole phrases: a preposition with its time, since and until, from one time to another, for three years now."""

from __future__ import annotations

from datetime import date

from memlora_mlx.temporal.compound import COMPOUND, POINT, point
from memlora_mlx.temporal.reading import Kind, Match, Reading, Rules
from memlora_mlx.temporal.relative import counted, units_away
from memlora_mlx.temporal.spans import GRANULARITIES, run_of
from memlora_mlx.temporal.tense import ENDS, Way
from memlora_mlx.temporal.words import words

_CALENDAR = ("in", "during", "by", "for")
_ALLOWED: dict[Kind, tuple[str, ...]] = {
    "year": ("in", "during", "by", "around"),
    "month": _CALENDAR,
    "season": (*_CALENDAR, "over"),
    "weekday": ("on", "by", "for"),
    "holiday": ("on", "at", "for", "over", "during", "by", "around", "until", "till", "since"),
    "day of month": ("on", "by", "around", "for"),
}
_BEFORE = frozenset(("in", "on", "at", "during", "over", "for", "around", "by", "within", "about", "throughout"))
_HABITS = words("every each most any no per many those most all")
_PERFECT = words("have has haven't hasn't been i've we've they've you've who've")


def with_preposition(reading: Reading, at: int) -> Match | None:
    """In June, back in 2010, on the 12th, at Christmas, over the last two months."""
    start = reading.skip(at, "back") if reading.word(at + 1) in ("in", "on", "at", "during") else at
    word = reading.word(start)
    if word not in _BEFORE:
        return None
    if word == "by":
        return until(reading, start)
    after = start + 1
    if word in ("in", "during", "over") and reading.word(after) in ("about", "around"):
        after += 1
    match = point(reading, after)
    if match is None or (match.kind != "full" and word not in _ALLOWED[match.kind]):
        return None
    if match.kind == "year" and not _stands_alone(reading, match.next, word):
        return None
    return match


def _stands_alone(reading: Reading, at: int, word: str) -> bool:
    """Whether a number is a year: "around 2000 people" is none."""
    return word == "in" or word == "during" or not reading.word(at).isalnum() or reading.word(at) in _CALENDAR


def unmarked(reading: Reading, at: int) -> Match | None:
    """A time without a preposition: yesterday, 12 May, Friday night; but not "May" or "the summer"."""
    match = point(reading, at)
    if match is None or match.kind == "full":
        return match
    if match.kind == "weekday" and _ends_clause(reading, at, match.next):
        return match
    return None


def _ends_clause(reading: Reading, at: int, after: int) -> bool:
    """See you Friday. The word before is no article or adjective, and the clause ends behind the weekday."""
    before = reading.word(at - 1)
    if reading.raw(after).isalnum() or not before.isalpha() or before in _NOT_BEFORE:
        return False
    return reading.raw(after) in ("", ".", "!", "?", ",", ";", "\n")


_NOT_BEFORE = words(
    "the a an every each any of my your his her our their black good happy and or like love hate than is"
    " was another one"
)


def since(reading: Reading, at: int) -> Match | None:
    """Since March, ever since last summer."""
    start = reading.skip(at, "ever")
    if reading.word(start) != "since" or reading.said == date.min:
        return None
    match = point(reading.beside(reading.said, "past"), reading.skip(start + 1, "about", "around", "early", "late"))
    if match is None or match.begins > reading.said or match.direction:
        return None
    if match.kind == "season" and reading.word(start + 1) != "the":
        return None
    return Match(match.next, (match.begins, reading.said), match.granularity, direction="since")


def until(reading: Reading, at: int) -> Match | None:
    """Until Friday, by the end of the year: from the day of speaking, or the time itself where it is over."""
    if reading.word(at) not in ("until", "till", "til", "by"):
        return None
    way: Way = "past" if reading.cue(at) == "past" else "future"
    match = point(reading.beside(reading.near, way), at + 1)
    if match is None or match.direction:
        return None
    if match.kind == "year" and reading.word(at) == "by" and not _stands_alone(reading, match.next, "by"):
        return None
    if match.begins <= reading.said or match.granularity not in ("day", "weekend"):
        return match
    return Match(match.next, (reading.said, match.ends), match.granularity, direction="until")


def open_ended(reading: Reading, at: int) -> Match | None:
    """Before June, after 2019: everything on that side."""
    word = reading.word(at)
    if word not in ("before", "after"):
        return None
    match = point(reading, at + 1)
    if match is None or match.direction:
        return None
    if match.kind == "year" and not _stands_alone(reading, match.next, word):
        return None
    if word == "before":
        return Match(match.next, (date.min, date.fromordinal(match.begins.toordinal() - 1)), "days", direction="until")
    return Match(match.next, (date.fromordinal(match.ends.toordinal() + 1), date.max), "days", direction="since")


def between(reading: Reading, at: int) -> Match | None:
    """From June to August 2021, between 2 and 5 May, from Monday to Wednesday."""
    word = reading.word(at)
    joins = {"from": ("to", "until", "till", "through", "-", "–"), "between": ("and", "-", "–")}.get(word)
    if joins is None:
        first = point(reading, at)
        if first is None or first.kind not in ("full", "month") or first.granularity not in ("day", "month"):
            return None
        return _closed(reading, first, at, ("to", "-", "–", "through"))
    start = at + 1
    run = COMPOUND.read(reading, start)
    if run is not None and run.granularity == "days":
        return run
    first = point(reading, start)
    return None if first is None else _closed(reading, first, start, joins)


def _closed(reading: Reading, first: Match, at: int, joins: tuple[str, ...]) -> Match | None:
    join = first.next
    if reading.raw(join) == "," or reading.raw(join) not in joins:
        return None
    last = point(reading, join + 1)
    if last is None or last.direction or first.direction:
        return None
    if first.kind == "weekday" or not last.fixed:
        ahead = point(reading.beside(first.begins, "future"), join + 1)
        last = ahead if ahead is not None and ahead.next == last.next else last
    elif not first.fixed:
        behind = point(reading.beside(last.ends, "past"), at)
        first = behind if behind is not None and behind.next == join else first
    if first.begins > last.ends:
        return None
    finer = min(first.granularity, last.granularity, key=GRANULARITIES.index)
    return Match(last.next, (first.begins, last.ends), run_of(finer), fixed=last.fixed)


def for_so_long(reading: Reading, at: int) -> Match | None:
    """For three years now, and "for three years" in "I have had them for three years": a span since then."""
    if reading.word(at) != "for":
        return None
    start = reading.skip(at + 1, "the")
    start = reading.skip(start, "past", "last")
    found = counted(reading, start)
    if found is None or found[2] in ("hour", "minute"):
        return None
    after, count, unit = found
    now = reading.word(after) == "now"
    if not now and start == at + 1 and not _perfect(reading, at):
        return None
    if start > at + 1 and not _perfect(reading, at):
        return None
    days, granularity = units_away(reading.said, unit, -count.most)
    return Match(after + now, (days[0], reading.said), granularity, direction="since")


def _perfect(reading: Reading, at: int) -> bool:
    """Whether the sentence says "have been" or the like not far before."""
    for back in range(1, 13):
        word = reading.raw(at - back)
        if not word or word in ENDS:
            return False
        if word in _PERFECT:
            return True
        if word in ("didn't", "did", "was", "were", "will", "to") or word.endswith("'ll"):
            return False
    return False


_UNMARKED = POINT.words
PHRASES = Rules(
    "phrase",
    {
        with_preposition: {*_BEFORE, "back"},
        unmarked: _UNMARKED,
        since: {"since", "ever"},
        until: {"until", "till", "til", "by"},
        open_ended: {"before", "after"},
        between: {"from", "between", *_UNMARKED},
        for_so_long: {"for"},
    },
)


def phrase(reading: Reading, at: int) -> Match | None:
    """The longest time phrase that begins at a word."""
    return None if reading.word(at - 1) in _HABITS else PHRASES.read(reading, at)
