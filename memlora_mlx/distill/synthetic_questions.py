"""Questions about synthetic talks, with the shortest right answers.

What a talk states is known, so the answer of every question is known as well: the present value where it has changed, all of
several values, a date that follows from the day of the words, yes or no. A share of the questions has no answer: nobody said
it, only the other person or another relative did, or the owner asked to forget it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from memlora_mlx.distill.phrases import Attribute, load_phrases, select_phrases
from memlora_mlx.distill.question_phrases import (
    Milestone,
    QuestionPhrases,
    Questions,
    addressed,
    load_questions,
    relative_of,
)
from memlora_mlx.distill.synthetic_talks import Saying, SyntheticTalk
from memlora_mlx.memory.abstention import NOT_MENTIONED
from memlora_mlx.memory.stages import PromptMemory, format_day
from memlora_mlx.records import Role

QUESTIONS = 16  # about one talk
UNANSWERABLE_SHARE = 0.2

Kind = Literal["fact", "changed", "relative", "two hops", "list", "count", "check", "when", "milestone", "unanswerable"]
WEIGHTS: dict[Kind, float] = {
    "fact": 3.0,
    "changed": 2.5,
    "relative": 1.5,
    "two hops": 2.0,
    "list": 2.0,
    "count": 1.0,
    "check": 1.5,
    "when": 4.5,
    "milestone": 2.5,
}
# A friend's small talk has to do with these, so no question about the friend is sure to have the answer that is known here.
_FRIENDS_SMALL_TALK = {
    *(
        "job",
        "employer",
        "pets",
        "children",
        "book",
        "countries visited",
        "liked foods",
        "home city",
        "studies",
        "courses",
    ),
    *("new class begun", "accident with food", "passed test", "sold thing", "start planned", "family trip", "visitors"),
}


@dataclass(frozen=True, slots=True)
class SyntheticQuestion:
    """A question about a talk."""

    kind: Kind
    text: str
    answer: str
    evidence: tuple[str, ...] = ()  # the messages that hold the answer; see `synthetic_talks.message_ref`
    shown: tuple[str, ...] = ()  # words of these messages: the answer follows only where all of them are given
    forgotten: Saying | None = None  # the owner's request to forget the answer

    def follows_from(self, recalled: Sequence[PromptMemory]) -> bool:
        """Whether the answer is right for somebody who knows no more than these lines."""
        dated = [f"{memory.text} ({format_day(memory.said_at)})".casefold() for memory in recalled]
        lines = [*dated, *(re.sub(r" \([^()]*\)", "", line) for line in dated)]
        if not all(any(words.casefold() in line for line in lines) for words in self.shown):
            return False
        if self.forgotten is None:
            return True
        request, value = self.forgotten.dated.casefold(), self.forgotten.value.casefold()
        return any(request in line for line in lines) or not any(value in line for line in lines)


def generate_questions(
    talk: SyntheticTalk, *, count: int = QUESTIONS, held_out: bool = False
) -> list[SyntheticQuestion]:
    """About `count` questions of all kinds; a talk in which little is told has fewer."""
    asker = _Asker(Random(f"{talk.name} questions"), talk, held_out)
    pools = {kind: list(make()) for kind, make in asker.makers().items()}
    for pool in pools.values():
        asker.random.shuffle(pool)
    declined = round(count * UNANSWERABLE_SHARE)
    chosen: list[SyntheticQuestion] = pools.pop("unanswerable")[:declined]
    while len(chosen) < count and any(pools.values()):
        kinds = [kind for kind, pool in pools.items() if pool]
        [kind] = asker.random.choices(kinds, [WEIGHTS[kind] for kind in kinds])
        chosen.append(pools[kind].pop())
    asker.random.shuffle(chosen)
    return chosen


@dataclass(slots=True)
class _Person:
    """What is true of one of the two at the end of the talk."""

    role: Role
    values: dict[Attribute, list[str]] = field(default_factory=dict)
    ended: list[Saying] = field(default_factory=list)  # that a value is no longer true
    forgotten: list[Saying] = field(default_factory=list)
    milestones: list[Saying] = field(default_factory=list)
    names: set[str] = field(default_factory=set)  # of everything ever told

    def add(self, saying: Saying) -> None:
        self.names.add(saying.subject.name)
        if isinstance(saying.subject, Milestone):
            self.milestones.append(saying)
            return
        values = self.values.setdefault(saying.subject, [])
        if saying.change == "change":
            values[values.index(str(saying.old))] = saying.value
            self.ended.append(saying)
        elif saying.change in ("withdraw", "forget"):
            values.remove(saying.value)
            (self.ended if saying.change == "withdraw" else self.forgotten).append(saying)
        elif saying.value not in values:
            values.append(saying.value)


@dataclass(slots=True)
class _Asker:
    """Makes questions about one talk."""

    random: Random
    talk: SyntheticTalk
    held_out: bool
    wordings: QuestionPhrases = field(default_factory=load_questions)
    people: list[_Person] = field(init=False)

    def __post_init__(self) -> None:
        roles: tuple[Role, ...] = ("user", "assistant") if self.talk.owner else ("user",)
        self.people = [_Person(role) for role in roles]
        for person in self.people:
            for saying in self.talk.sayings:
                if saying.role == person.role:
                    person.add(saying)

    def makers(self) -> dict[Kind, Callable[[], Iterator[SyntheticQuestion]]]:
        return {
            "fact": lambda: self._single(lambda attribute, changed: attribute.kind == "single" and not changed),
            "changed": lambda: self._single(lambda attribute, changed: changed, "changed"),
            "relative": lambda: self._single(lambda attribute, changed: attribute.kind == "other person", "relative"),
            "two hops": self._two_hops,
            "list": self._lists,
            "count": self._counts,
            "check": self._checks,
            "when": self._whens,
            "milestone": self._milestones,
            "unanswerable": self._unanswerable,
        }

    # -------------------------------------------------------------------------------------------- answered

    def _single(self, wanted: Callable[[Attribute, bool], bool], kind: Kind = "fact") -> Iterator[SyntheticQuestion]:
        """What has one value now."""
        for person, attribute, values in self._known():
            changed = any(saying.subject is attribute and saying.change == "change" for saying in person.ended)
            if attribute.kind in ("single", "other person") and wanted(attribute, changed):
                source = self._source(person, attribute, values[0])
                if self._by_name(source) is None:
                    yield self._question(kind, person, self._ask(attribute), values[0], [source], [values[0]])

    def _two_hops(self) -> Iterator[SyntheticQuestion]:
        """What is told of a relative whose name another message tells."""
        for person, attribute, values in self._known():
            source = self._source(person, attribute, values[0])
            if named := self._by_name(source):
                sources, shown = [source, named], [values[0], named.dated]
                yield self._question("two hops", person, self._ask(attribute), values[0], sources, shown)

    def _lists(self) -> Iterator[SyntheticQuestion]:
        for person, attribute, values in self._known():
            is_rare = len(values) == 1 and self.random.random() < 0.5
            if attribute.kind in ("several", "event") and self.wordings.of(attribute).ask and not is_rare:
                sources = [self._source(person, attribute, value) for value in values]
                yield self._question("list", person, self._ask(attribute), ", ".join(values), sources, values)

    def _counts(self) -> Iterator[SyntheticQuestion]:
        for person, attribute, values in self._known():
            wordings = self.wordings.of(attribute).count
            if wordings and (len(values) > 1 or self.random.random() < 0.3):
                sources = [self._source(person, attribute, value) for value in values]
                yield self._question("count", person, wordings, str(len(values)), sources, values)

    def _checks(self) -> Iterator[SyntheticQuestion]:
        """Yes and no, in equal shares where possible."""
        yes = []
        for person, attribute, values in self._known():
            value = self.random.choice(values)
            source = self._source(person, attribute, value)
            if self._by_name(source) is not None:
                continue
            yes.append(self._check(person, attribute, value, "Yes", source, value))
            if attribute.kind in ("single", "other person"):
                other = self.random.choice([other for other in attribute.values if other != value])
                if self.random.random() < 0.2:  # somebody asks about a value that nobody has named
                    yield self._check(person, attribute, other, "No", source, value)
        self.random.shuffle(yes)
        no = []
        for person in self.people:
            for saying in person.ended:
                about, was = saying.subject, saying.old or saying.value
                assert isinstance(about, Attribute)
                if was not in person.values[about]:
                    shown = saying.value if saying.change == "change" else saying.dated
                    no.append(self._check(person, about, was, "No", saying, shown))
        yield from no
        yield from yes[: len(no) + 1]

    def _whens(self) -> Iterator[SyntheticQuestion]:
        events = [
            (person, self._source(person, attribute, value), self.wordings.of(attribute))
            for person, attribute, values in self._known()
            for value in values
            if attribute.kind == "event"
        ]
        milestones = [(person, saying, _questions(saying)) for person in self.people for saying in self._told(person)]
        for person, saying, questions in [*events, *milestones]:
            if questions.when:
                shown = {saying.date_text, *([saying.day_text] if " before " in saying.date_answer else [])}
                yield self._question(
                    "when", person, questions.when, saying.date_answer, [saying], sorted(shown), saying.value
                )

    def _milestones(self) -> Iterator[SyntheticQuestion]:
        for person in self.people:
            for saying in self._told(person):
                if wordings := _questions(saying).ask:
                    yield self._question("milestone", person, wordings, saying.value, [saying], [saying.value])

    # -------------------------------------------------------------------------------------------- unanswerable

    def _unanswerable(self) -> Iterator[SyntheticQuestion]:
        for person in self.people:
            others = [other for other in self.people if other is not person]
            names = self._taken(person)
            for milestone in self.wordings.milestones:
                theirs = [s for other in others for s in other.milestones if s.subject is milestone]
                is_free = milestone.name not in names and names.isdisjoint(milestone.not_with)
                if is_free and (theirs or self.random.random() < 0.1):
                    value = theirs[0].value if theirs else self.random.choice(milestone.values)
                    lists = [words for words in (milestone.questions.ask, milestone.questions.when) if words]
                    yield self._declined(person, self.random.choice(lists), value)
            topics = {attribute.topic for attribute in person.values}
            for attribute in load_phrases().attributes:
                if attribute.name in names or not self.wordings.of(attribute).ask:
                    continue
                is_theirs = any(other.values.get(attribute) for other in others)
                if is_theirs or self.random.random() < (0.15 if attribute.topic in topics else 0.02):
                    yield self._declined(person, self._ask(attribute), "")
            for saying in person.forgotten:
                about = saying.subject
                assert isinstance(about, Attribute)
                if not person.values[about] and (wordings := self._ask(about)):
                    yield self._declined(person, wordings, "", forgotten=saying)

    def _declined(
        self, person: _Person, wordings: Sequence[str], value: str, forgotten: Saying | None = None
    ) -> SyntheticQuestion:
        text = self._text(person, wordings, value)
        return SyntheticQuestion("unanswerable", text, NOT_MENTIONED, forgotten=forgotten)

    def _taken(self, person: _Person) -> set[str]:
        """The names of what could answer a question about somebody."""
        taken = set(person.names)
        for saying in person.milestones:
            assert isinstance(saying.subject, Milestone)
            taken |= set(saying.subject.not_with)
        return taken | _FRIENDS_SMALL_TALK if person.role == "assistant" else taken

    # -------------------------------------------------------------------------------------------- parts

    def _known(self) -> Iterator[tuple[_Person, Attribute, list[str]]]:
        for person in self.people:
            for attribute, values in person.values.items():
                is_clear = len(values) == 1 or attribute.kind in (
                    "several",
                    "event",
                )  # a friend's replies may contradict
                if values and is_clear and (person.role == "user" or attribute.name not in _FRIENDS_SMALL_TALK):
                    yield person, attribute, values

    def _told(self, person: _Person) -> Iterator[Saying]:
        for saying in person.milestones:
            if person.role == "user" or saying.subject.name not in _FRIENDS_SMALL_TALK:
                yield saying

    def _source(self, person: _Person, attribute: Attribute, value: str) -> Saying:
        """Where a value was said last."""
        return next(
            saying
            for saying in reversed(self.talk.sayings)
            if (saying.role, saying.subject, saying.value) == (person.role, attribute, value)
            and saying.change not in ("withdraw", "forget")
        )

    def _by_name(self, source: Saying) -> Saying | None:
        """Where the name of a relative was told, for something that is told of them by their name alone."""
        relative = relative_of(source.subject) if isinstance(source.subject, Attribute) else None
        if relative is None or f"my {relative}" in source.said.casefold() or source.subject in self.wordings.names:
            return None
        return next((s for s in self.talk.sayings if s.subject.name == f"{relative}'s name"), None)

    def _ask(self, attribute: Attribute) -> Sequence[str]:
        return self.wordings.of(attribute).ask

    def _check(
        self, person: _Person, attribute: Attribute, value: str, answer: str, source: Saying, shown: str
    ) -> SyntheticQuestion:
        return self._question("check", person, self.wordings.of(attribute).check, answer, [source], [shown], value)

    def _question(
        self,
        kind: Kind,
        person: _Person,
        wordings: Sequence[str],
        answer: str,
        sources: Sequence[Saying],
        shown: Sequence[str],
        value: str = "",
    ) -> SyntheticQuestion:
        evidence = tuple(dict.fromkeys(source.ref for source in sources))
        return SyntheticQuestion(kind, self._text(person, wordings, value), answer, evidence, tuple(shown))

    def _text(self, person: _Person, wordings: Sequence[str], value: str) -> str:
        wording = self.random.choice(select_phrases(wordings, self.held_out))
        return addressed(wording, self.talk.name_of(person.role), v=value)


def _questions(saying: Saying) -> Questions:
    assert isinstance(saying.subject, Milestone)
    return saying.subject.questions
