"""Synthetic dialogues with days: when each exchange was said, and milestones whose time is told relative to that day.

Some relatives are named once, and something else is said of them by name alone; some lists get longer, and a friend tells more.

A talk is the dialogue of a seed with exchanges put between its own. What it adds has random numbers of its own, so the dialogue
stays the one that extraction and update examples are made from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from random import Random
from typing import TypeVar

from memlora_mlx import temporal
from memlora_mlx.distill.phrases import Attribute, Phrases, load_phrases, select_phrases
from memlora_mlx.distill.question_phrases import Milestone, load_questions, relative_of
from memlora_mlx.distill.synthetic_dialogues import (
    DialogueStep,
    Fact,
    FactChange,
    Statement,
    filled,
    generate_statements,
)
from memlora_mlx.memory.evidence import with_dates
from memlora_mlx.memory.stages import format_day
from memlora_mlx.records import Exchange, Message, Role, Scope

T = TypeVar("T")

MILESTONES = (7, 12)  # of each speaker, at least and at most
SHARED = 0.3  # of the milestones are such as the other speaker has, too
NAMED_RELATIVES = 2  # of the owner, of whom something is told by their name
LONGER_LISTS = 3  # things of which the owner tells one or two more
TELLING = 0.5  # share of a friend's empty replies that state something instead
CLOSED = 0.3  # of the owner's milestones are followed by a closer
ROLES: tuple[Role, ...] = ("user", "assistant")
USER = "me"  # the owner of memories in a chat with an assistant, as in the default settings


@dataclass(frozen=True, slots=True)
class Saying:
    """What somebody stated about themselves, and when."""

    step: int
    role: Role
    change: FactChange
    subject: Attribute | Milestone
    value: str
    old: str | None  # the value that this one replaces
    said: str
    day: date

    @property
    def ref(self) -> str:
        """The message, as `talk_exchanges` names it."""
        return message_ref(self.step, self.role)

    @property
    def date_text(self) -> str:
        """The time of what was stated, as evidence has it in brackets; the day it was said, if the words name no time."""
        found = temporal.find(self.said, self.day)
        return temporal.written(found[0].span) if found else self.day_text

    @property
    def date_answer(self) -> str:
        """The same as LoCoMo's annotators write it: weeks and weekends are counted from the day of the words."""
        found = temporal.find(self.said, self.day)
        if not found:
            return self.day_text
        before = (self.day - found[0].ends).days
        if found[0].granularity in ("week", "weekend") and 0 < before <= 7:
            return f"The {found[0].granularity} before {self.day_text}"
        return temporal.written(found[0].span)

    @property
    def day_text(self) -> str:
        return format_day(datetime.combine(self.day, time(9)))

    @property
    def dated(self) -> str:
        """The statement as evidence has it, without its last mark."""
        return with_dates(self.said.rstrip(".!"), self.day)


@dataclass(frozen=True, slots=True)
class TalkStep:
    """One exchange and its day; `facts` are those of the dialogue's step; a step that was added has none."""

    day: date
    turns: tuple[tuple[Role, str], ...]
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class SyntheticTalk:
    """A dialogue with its days, and all that was stated in it, in order."""

    seed: int
    name: str
    owner: str | None  # None: the user of an assistant
    other: str | None
    steps: tuple[TalkStep, ...]
    sayings: tuple[Saying, ...]

    @property
    def scope(self) -> Scope:
        """The owner of its memories."""
        return Scope(user_id=self.owner or USER)

    def name_of(self, role: Role) -> str | None:
        return self.owner if role == "user" else self.other


def message_ref(step: int, role: Role) -> str:
    return f"{step}/{role}"


def generate_talk(seed: int, *, steps: int = 16, held_out: bool = False) -> SyntheticTalk:
    """The talk of a seed. With `held_out` it uses only the phrases that no training dialogue uses."""
    dialogue, stated = generate_statements(seed, steps=steps, held_out=held_out)
    writer = _TalkWriter(Random(f"{dialogue.name} talk"), load_phrases(), held_out, stated, dialogue.owner is not None)
    return writer.talk(seed, dialogue.name, dialogue.owner, dialogue.other, dialogue.steps)


def talk_exchanges(talk: SyntheticTalk) -> list[Exchange]:
    """The exchanges of a talk. Each message has its `message_ref`."""
    exchanges = []
    for number, step in enumerate(talk.steps):
        said_at = datetime.combine(step.day, time(9))
        messages = tuple(
            Message(role, text, talk.name_of(role), said_at, None, message_ref(number, role))
            for role, text in step.turns
        )
        exchanges.append(Exchange(f"{talk.name}/{number}", talk.scope, messages, said_at, talk.name, number))
    return exchanges


# ------------------------------------------------------------------------------------------------ milestones

PAST_TIMES = {
    "yesterday": 4.0,
    "today": 1.0,
    "this morning": 1.0,
    "last {weekday}": 4.0,
    "on {weekday}": 1.5,
    "last weekend": 2.5,
    "last week": 4.0,
    "two weeks ago": 1.5,
    "{few} days ago": 2.0,
    "a few days ago": 1.0,
    "last month": 2.5,
    "two months ago": 1.0,
    "back in {month}": 1.5,
    "last year": 1.5,
    "two years ago": 0.8,
    "in {year}": 1.5,
    "last summer": 1.0,
    "on the {day}": 0.7,
}
FUTURE_TIMES = {
    "tomorrow": 3.0,
    "next week": 3.0,
    "next month": 4.0,
    "next {weekday}": 3.0,
    "next weekend": 2.0,
    "next year": 1.5,
    "next summer": 1.0,
}
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(slots=True)
class _TalkWriter:
    """Puts days and milestones into a dialogue."""

    random: Random
    phrases: Phrases
    held_out: bool
    stated: Sequence[Statement]
    has_friend: bool
    added: list[Statement] = field(default_factory=list)  # by the friend
    barred: set[str] = field(default_factory=set)  # attributes that the friend's milestones could be confused with

    def talk(
        self, seed: int, name: str, owner: str | None, other: str | None, steps: Sequence[DialogueStep]
    ) -> SyntheticTalk:
        added = [*self._milestones(), *self._named_relatives(), *self._longer_lists()]
        self.random.shuffle(added)
        places = sorted(self.random.sample(range(len(steps) + len(added)), len(added)))
        day = date(self.random.randint(2018, 2025), self.random.randint(1, 12), self.random.randint(1, 28))
        made: list[TalkStep] = []
        sayings: list[Saying] = []
        own = 0
        for place in range(len(steps) + len(added)):
            day += timedelta(self.random.choice((1, 2, 3, 3, 4, 6, 9, 14, 30)))
            if place in places:
                step, said = self._added_step(place, day, added[place - own])
                sayings += said
            else:
                stated = [s for s in self.stated if s.step == own]
                turns = dict(steps[own].turns)
                if self.has_friend and not any(s.role == "assistant" for s in stated):
                    stated += self._friends_statement(own, turns)
                step = TalkStep(day, tuple(turns.items()), steps[own].facts)
                sayings += [Saying(place, s.role, s.change, s.attribute, s.value, s.old, s.said, day) for s in stated]
                own += 1
            made.append(step)
        return SyntheticTalk(seed, name, owner, other, tuple(made), tuple(sayings))

    def _milestones(self) -> list[dict[Role, Milestone | Statement]]:
        """The milestones of each exchange. None can be confused with what the same person states otherwise."""
        told: dict[Role, set[str]] = {"user": set(), "assistant": set()}
        for statement in self.stated:
            told[statement.role].add(statement.attribute.name)
        candidates = list(load_questions().milestones)
        self.random.shuffle(candidates)
        lists: dict[Role, list[Milestone]] = {}
        for role in ROLES if self.has_friend else ROLES[:1]:
            count = self.random.randint(*MILESTONES)
            shared = round(SHARED * count) if role == "assistant" else 0
            first = MILESTONES[1] if role == "assistant" else 0
            chosen = [*candidates[:shared], *candidates[first : first + count - shared]]
            lists[role] = [milestone for milestone in chosen if told[role].isdisjoint(milestone.not_with)]
            self.random.shuffle(lists[role])
        self.barred = {name for milestone in lists.get("assistant", ()) for name in milestone.not_with}
        longest = max(map(len, lists.values()))
        return [{role: chosen[i] for role, chosen in lists.items() if i < len(chosen)} for i in range(longest)]

    def _named_relatives(self) -> list[dict[Role, Milestone | Statement]]:
        """The names of some relatives, and in other exchanges something about each that is not told otherwise."""
        told = {statement.attribute for statement in self.stated if statement.role == "user"}
        names = {relative_of(attribute): attribute for attribute in load_questions().names}
        free = [a for a in self.phrases.attributes if a.kind == "other person" and a not in told]
        added: list[dict[Role, Milestone | Statement]] = []
        for attribute in self.random.sample(free, NAMED_RELATIVES):
            relative = relative_of(attribute)
            if (named := names.pop(relative, None)) is None:  # both are about the same relative
                continue
            used = [statement["user"].value for statement in added if isinstance(statement["user"], Statement)]
            name = self.random.choice([value for value in named.values if value not in used])
            said = filled(self._choose(named.state).said, {"v": name})
            added.append({"user": Statement(-1, "user", "add", named, name, None, said)})
            value = self.random.choice(attribute.values)
            said = filled(self._choose(attribute.state).said, {"v": value})
            said = re.sub(rf"\bmy {relative}\b", name, said, flags=re.IGNORECASE)
            added.append({"user": Statement(-1, "user", "add", attribute, value, None, said)})
        return added

    def _longer_lists(self) -> list[dict[Role, Milestone | Statement]]:
        """More values of what the owner has several of."""
        told: dict[Attribute, set[str]] = {}
        for statement in self.stated:
            if statement.role == "user" and statement.attribute.kind in ("several", "event"):
                told.setdefault(statement.attribute, set()).add(statement.value)
        added: list[dict[Role, Milestone | Statement]] = []
        for attribute in self.random.sample(list(told), min(LONGER_LISTS, len(told))):
            free = [value for value in attribute.values if value not in told[attribute]]
            for value in self.random.sample(free, self.random.randint(1, 2)):
                said = filled(self._choose(attribute.state).said, {"v": value})
                added.append({"user": Statement(-1, "user", "add", attribute, value, None, said)})
        return added

    def _friends_statement(self, step: int, turns: dict[Role, str]) -> list[Statement]:
        """Perhaps something about the friend that contradicts nothing they tell otherwise; it becomes their reply."""
        if turns["assistant"] not in self._replies or self.random.random() >= TELLING:
            return []
        told = {statement.attribute for statement in (*self.stated, *self.added) if statement.role == "assistant"}
        groups = {attribute.exclusive_group for attribute in told} - {None}
        free = [
            attribute
            for attribute in self.phrases.attributes
            if attribute not in told and attribute.exclusive_group not in groups and attribute.name not in self.barred
        ]
        attribute = self.random.choice(free)
        value = self.random.choice(attribute.values)
        phrase, lead_in = self._choose(attribute.state).said, self._choose(self.phrases.friend_lead_ins)
        turns["assistant"] = f"{lead_in} {filled(phrase, {'v': value}, after=lead_in)}"
        statement = Statement(step, "assistant", "add", attribute, value, None, filled(phrase, {"v": value}))
        self.added.append(statement)
        return [statement]

    @property
    def _replies(self) -> frozenset[str]:
        return frozenset((*self.phrases.replies, *self.phrases.friend_replies))

    def _added_step(
        self, number: int, day: date, added: Mapping[Role, Milestone | Statement]
    ) -> tuple[TalkStep, list[Saying]]:
        phrases, sayings, said = self.phrases, [], {}
        for role, subject in added.items():
            if isinstance(subject, Statement):
                said[role] = subject.said
                saying = Saying(number, role, "add", subject.attribute, subject.value, None, subject.said, day)
            else:
                value, words = self.random.choice(subject.values), self._time(subject, day)
                said[role] = filled(self._choose(subject.said), {"v": value, "t": words})
                saying = Saying(number, role, "add", subject, value, None, said[role], day)
            sayings.append(saying)
        replies = phrases.friend_replies if self.has_friend else phrases.assistant_replies
        turns: dict[Role, str] = {
            "user": self._choose(phrases.closers),
            "assistant": self._choose([*phrases.replies, *replies]),
        }
        if "user" in said:
            closer = f" {turns['user']}" if self.random.random() < CLOSED else ""
            turns["user"] = f"{said['user']}{closer}"
        if "assistant" in said:
            turns["assistant"] = f"{self._choose(phrases.friend_lead_ins)} {said['assistant']}"
        return TalkStep(day, tuple(turns.items()), ()), sayings

    def _time(self, milestone: Milestone, day: date) -> str:
        times = PAST_TIMES if milestone.times == "past" else FUTURE_TIMES
        [words] = self.random.choices(list(times), list(times.values()))
        earlier = day - timedelta(self.random.randint(45, 250))
        return words.format(
            weekday=self.random.choice([name for name in _WEEKDAYS if name != _WEEKDAYS[day.weekday()]]),
            few=self.random.choice(("two", "three", "four", "five")),
            month=f"{earlier:%B}",
            year=day.year - self.random.randint(2, 9),
            day=_ordinal(max(1, day.day - self.random.randint(1, 9))),
        )

    def _choose(self, entries: Sequence[T]) -> T:
        return self.random.choice(select_phrases(entries, self.held_out))


def _ordinal(number: int) -> str:
    ending = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
