"""What a rule works on, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Literal

from memlora_mlx.temporal.spans import Days, Granularity
from memlora_mlx.temporal.tense import Tenses, Way
from memlora_mlx.temporal.words import ABOUT, NUMBERS, TENS, Token, tokens

Kind = Literal["full", "year", "month", "season", "weekday", "holiday", "day of month"]


@dataclass(frozen=True, slots=True)
class Match:
    """A time read from the words up to `next`, which is not part of it.

    Kinds other than "full" are words that mean something else as well, such as "may": they count only behind a
    preposition. `fixed`: the day on which it was said does not matter.
    """

    next: int
    days: Days
    granularity: Granularity
    kind: Kind = "full"
    fixed: bool = False
    direction: Literal["since", "until"] | None = None

    @property
    def begins(self) -> date:
        return self.days[0]

    @property
    def ends(self) -> date:
        return self.days[1]


@dataclass(frozen=True)
class Reading:
    """The words of a text, the day they were said, and the day from which "June" is looked for."""

    words: list[Token]
    said: date
    near: date
    forced: Way | None = None  # the direction in which to look, where it is not the sentence that decides

    @staticmethod
    def of(text: str, said: date) -> Reading:
        return Reading(tokens(text), said, said)

    @cached_property
    def known(self) -> dict[tuple[str, int], Match | None]:
        """What each set of rules has read at each place."""
        return {}

    @cached_property
    def _tenses(self) -> Tenses:
        return Tenses(self.words)

    def word(self, at: int) -> str:
        return self.words[at].word if 0 <= at < len(self.words) else ""

    def raw(self, at: int) -> str:
        return self.words[at].raw if 0 <= at < len(self.words) else ""

    def capital(self, at: int) -> bool:
        return 0 <= at < len(self.words) and self.words[at].capital

    def says(self, at: int, *expected: str) -> bool:
        return all(self.word(at + ahead) == word for ahead, word in enumerate(expected))

    def skip(self, at: int, *optional: str) -> int:
        """The place behind one of the words, if it is there."""
        return at + 1 if self.word(at) in optional else at

    def cue(self, at: int) -> Way | None:
        return self.forced or self._tenses.way(at)

    def way(self, at: int) -> Way:
        return self.cue(at) or "past"

    def beside(self, day: date, way: Way) -> Reading:
        """The same words, with months and weekdays looked for before or after another day."""
        other = replace(self, near=day, forced=way)
        if "_tenses" in self.__dict__:
            other.__dict__["_tenses"] = self.__dict__["_tenses"]
        return other


Rule = Callable[[Reading, int], Match | None]


class Rules:
    """Rules by the words that they can begin with, so that most words of a text cost one look into a table."""

    def __init__(self, name: str, rules: Mapping[Rule, Iterable[str]]) -> None:
        """`NUMBER` among the words stands for anything that begins with a digit."""
        table: dict[str, list[Rule]] = {}
        for rule, words in rules.items():
            for word in frozenset(words):
                table.setdefault(word, []).append(rule)
        self.name = name
        self.words = frozenset(table)
        self._table = {word: tuple(found) for word, found in table.items()}

    def read(self, reading: Reading, at: int) -> Match | None:
        """What the rule that reads most words gives. Each place is read once, since larger rules ask again and again."""
        word = reading.word(at)
        rules = self._table.get(NUMBER if "0" <= word[:1] <= "9" else word)
        if rules is None:
            return None
        key = self.name, at
        if key not in reading.known:
            reading.known[key] = longest(rules, reading, at)
        return reading.known[key]


NUMBER = "0"


def longest(rules: Iterable[Rule], reading: Reading, at: int) -> Match | None:
    """The rule that reads most words decides; a date outside the calendar is none."""
    best: Match | None = None
    for rule in rules:
        try:
            match = rule(reading, at)
        except (ValueError, OverflowError):  # there is no 31 June, and no year 10,000
            continue
        if match is not None and (best is None or match.next > best.next):
            best = match
    return best


@dataclass(frozen=True, slots=True)
class Quantity:
    next: int
    least: float
    most: float  # more than `least` where the words are vague: "a few"


def quantity(reading: Reading, at: int) -> Quantity | None:
    """A number as people say it before a unit: "two", "a", "12", "a couple of", "one and a half"."""
    for _ in range(3):  # "just over about"
        if reading.word(at) in ("more", "less") and reading.word(at + 1) == "than":
            at += 2
        at = reading.skip(at, *ABOUT)
    word = reading.word(at)
    if word in ("a", "an", "the") and reading.word(at + 1) == "couple":
        at, word = at + 1, "couple"
    if word == "couple":
        return Quantity(reading.skip(at + 1, "of"), 2, 3)
    if word == "a" and reading.word(at + 1) == "few":
        at, word = at + 1, "few"
    if word == "few":
        return Quantity(at + 1, 2, 5)
    if word == "several":
        return Quantity(at + 1, 3, 7)
    if word == "half":
        return Quantity(reading.skip(at + 1, "a", "an"), 0.5, 0.5)
    number, after = _number(reading, at)
    if number is None:
        return None
    if reading.says(after, "and", "a", "half"):
        return Quantity(after + 3, number + 0.5, number + 0.5)
    return Quantity(after, number, number)


def _number(reading: Reading, at: int) -> tuple[int | None, int]:
    word = reading.word(at)
    if word in ("a", "an"):
        return 1, at + 1
    if word in NUMBERS:
        return NUMBERS[word], at + 1
    if word in TENS:
        after = reading.skip(at + 1, "-")
        unit = NUMBERS.get(reading.word(after), 10)
        return (TENS[word] + unit, after + 1) if unit < 10 else (TENS[word], at + 1)
    if word.isascii() and word.isdigit() and len(word) <= 3 and reading.raw(at - 1) not in (".", "/", "-", ":", ","):
        return int(word), at + 1
    return None, at
