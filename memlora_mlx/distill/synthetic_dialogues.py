"""Synthetic dialogues: generated chats whose facts and correct update operations are known.

A dialogue is a sequence of exchanges. The generator keeps the list of what is true of the owner, and draws every next fact
from what that list allows: something new, a change or a detail of a memory, its end, a request to forget it, or a known fact
in other words. A seed always gives the same dialogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeVar

from memlora_mlx.distill.phrases import Attribute, Phrase, Phrases, load_phrases, select_phrases
from memlora_mlx.records import Event, Role

T = TypeVar("T")

FactChange = Literal["add", "change", "refine", "withdraw", "forget", "repeat"]


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as the extraction stage should write it, and the correct operation for it."""

    text: str
    event: Event
    replaces: str | None  # the memory that it changes, ends or repeats, word for word; None for an ADD


@dataclass(frozen=True, slots=True)
class DialogueStep:
    """One exchange, and its facts in the order in which they were said."""

    turns: tuple[tuple[Role, str], ...]  # the owner has the role `user`
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class SyntheticDialogue:
    """One owner's conversation, which begins without any memory."""

    seed: int
    name: str
    owner: str | None  # None: the facts say "User"
    other: str | None  # who answers; None: an assistant without a name
    steps: tuple[DialogueStep, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """What somebody states about themselves in a dialogue."""

    step: int
    role: Role  # who says it; what the assistant's role states is no fact of the owner
    change: FactChange
    attribute: Attribute
    value: str
    old: str | None  # the value that this one replaces
    said: str  # as a sentence of its own


def generate_dialogue(seed: int, *, steps: int = 12, held_out: bool = False) -> SyntheticDialogue:
    """The dialogue of a seed. With `held_out` it uses only the phrases that no training dialogue uses."""
    return generate_statements(seed, steps=steps, held_out=held_out)[0]


def generate_statements(
    seed: int, *, steps: int = 12, held_out: bool = False
) -> tuple[SyntheticDialogue, tuple[Statement, ...]]:
    """The dialogue of a seed, and what both speakers state in it, in order."""
    name = f"life-held-{seed}" if held_out else f"life-{seed}"  # the names are seeds: never change them
    random = Random(name)
    phrases = load_phrases()
    owner, other = (None, None) if random.random() < UNNAMED_SHARE else random.sample(phrases.first_names, 2)
    writer = DialogueWriter(random, phrases, owner, held_out)
    dialogue = SyntheticDialogue(seed, name, owner, other, tuple(writer.step() for _ in range(steps)))
    return dialogue, tuple(writer.stated)


def expected_memories(dialogue: SyntheticDialogue, upto: int) -> list[str]:
    """The memories before step `upto`, oldest first, if every operation before it was correct."""
    texts: list[str] = []
    for fact in [fact for step in dialogue.steps[:upto] for fact in step.facts]:
        if fact.replaces is None:
            texts.append(fact.text)
        elif fact.event == "UPDATE":  # a changed memory keeps its place
            texts[texts.index(fact.replaces)] = fact.text
        elif fact.event == "DELETE":
            texts.remove(fact.replaces)
    return texts


# ------------------------------------------------------------------------------------------------ facts

_EVENTS: dict[FactChange, Event] = {
    "add": "ADD",
    "change": "UPDATE",
    "refine": "UPDATE",
    "withdraw": "DELETE",
    "forget": "DELETE",
    "repeat": "NONE",
}

UNNAMED_SHARE = 0.3  # of dialogues
FACT_COUNTS = {0: 0.15, 1: 0.5, 2: 0.25, 3: 0.1}  # facts of a step: share of steps
# Weights among the possible changes. While nothing is known, only "add" is possible, so its share is larger than this.
WEIGHTS: dict[FactChange, float] = {
    "add": 0.23,
    "change": 0.265,
    "refine": 0.08,
    "withdraw": 0.155,
    "forget": 0.05,
    "repeat": 0.22,
}
RELATED_TOPIC_WEIGHT = (
    6.0  # of an attribute whose topic is already known: new facts that are easily confused with old ones
)

OPENED, JOINED, CLOSED = 0.4, 0.5, 0.35  # shares of turns with an opener, of gaps with a joiner, of turns with a closer
BY_NAME = 0.35  # share of the requests to forget that name an attribute
OWN_STATEMENT = 0.2  # share of a friend's replies that state something about the friend


@dataclass(slots=True)
class KnownFact:
    """Something that is true of the owner, and the memory that says so."""

    attribute: Attribute
    value: str
    phrase: Phrase
    text: str
    is_refined: bool = False


@dataclass(frozen=True, slots=True)
class FilledPhrase:
    """A phrase and the texts for its slots."""

    phrase: Phrase
    slots: dict[str, str]


@dataclass(slots=True)
class DialogueWriter:
    """Writes a dialogue step by step. The order of the random draws is part of the seed: keep it."""

    random: Random
    phrases: Phrases
    owner: str | None
    held_out: bool
    known: list[KnownFact] = field(default_factory=list)
    stated: list[Statement] = field(default_factory=list)
    steps: int = 0  # that are complete

    def step(self) -> DialogueStep:
        step = self._step()
        self.steps += 1
        return step

    def _step(self) -> DialogueStep:
        [count] = self.random.choices(list(FACT_COUNTS), list(FACT_COUNTS.values()))
        if not count:
            return DialogueStep(self._small_talk(), ())
        touched: set[Attribute] = set()
        facts, statements = [], []
        for _ in range(count):
            fact, statement = self.next_change(touched)
            facts.append(fact)
            statements.append(statement)
        return DialogueStep((("user", self.turn(statements)), ("assistant", self.reply())), tuple(facts))

    def next_change(self, touched: set[Attribute]) -> tuple[Fact, FilledPhrase]:
        """Draw the next fact about an attribute that is not in `touched`, and add that attribute to `touched`."""
        untouched = [known for known in self.known if known.attribute not in touched]
        changeable = [known for known in untouched if known.attribute.kind != "event"]
        options: dict[FactChange, list[KnownFact]] = {
            "change": [known for known in changeable if known.attribute.change],
            "refine": [known for known in changeable if known.attribute.refine and not known.is_refined],
            "withdraw": [known for known in changeable if known.attribute.withdraw],
            "forget": untouched,
            "repeat": changeable,
        }
        possible: list[FactChange] = ["add", *(change for change, facts in options.items() if facts)]
        [change] = self.random.choices(possible, [WEIGHTS[change] for change in possible])
        known = self._new(touched) if change == "add" else self.random.choice(options[change])
        touched.add(known.attribute)

        before = known.text
        slots = self._slots(change, known)
        candidates = select_phrases(self._phrases_for(change, known.attribute), self.held_out)
        phrase = self.random.choice([phrase for phrase in candidates if phrase is not known.phrase])
        text = filled(phrase.fact, {**slots, "n": self.owner or "User"})

        if change == "add":
            self.known.append(known)
        if change in ("withdraw", "forget"):
            self.known.remove(known)
        elif change != "repeat":
            known.value, known.phrase, known.text = slots["v"], phrase, text
            known.is_refined = change == "refine"
        said = filled(phrase.said, slots)
        self.stated.append(Statement(self.steps, "user", change, known.attribute, slots["v"], slots.get("old"), said))
        replaces = None if change == "add" else before
        return Fact(text, _EVENTS[change], replaces), FilledPhrase(phrase, slots)

    def _slots(self, change: FactChange, known: KnownFact) -> dict[str, str]:
        attribute, slots = known.attribute, {"v": known.value}
        if change == "change":
            slots["old"] = known.value
            slots["v"] = self.random.choice([value for value in attribute.values if value != known.value])
        if change == "refine":
            slots["d"] = self.random.choice(attribute.details)
        if change == "forget":
            slots |= {"a": attribute.name, **self.statement_text(known)}
        return slots

    def _phrases_for(self, change: FactChange, attribute: Attribute) -> Sequence[Phrase]:
        # Every list is built, also those that are not used: `_forget_requests` draws a random number.
        phrases = {
            "change": attribute.change,
            "refine": attribute.refine,
            "withdraw": attribute.withdraw,
            "forget": self._forget_requests(attribute),
        }
        return phrases.get(change, attribute.state)

    def _forget_requests(self, attribute: Attribute) -> Sequence[Phrase]:
        by_name = attribute.kind in ("single", "other person") and self.random.random() < BY_NAME
        return self.phrases.forget_requests_by_name if by_name else self.phrases.forget_requests

    def statement_text(self, known: KnownFact) -> dict[str, str]:
        """The known fact as part of a longer sentence: `s` in the owner's words, `f` in the third person."""
        phrases = select_phrases(known.attribute.state, self.held_out)
        phrase = self.random.choice([phrase for phrase in phrases if ":" not in phrase.said] or phrases)
        said = filled(phrase.said, {"v": known.value}, after=",").rstrip(".")
        return {"s": said, "f": filled(phrase.fact, {"v": known.value, "n": self.owner or "User"}, after=",")}

    def _new(self, touched: AbstractSet[Attribute]) -> KnownFact:
        """Something that can become true: no second value of an attribute that has one, nothing that contradicts a known
        fact of the same exclusive group, and nothing that is known already."""
        held = {known.attribute for known in self.known}
        exclusive: dict[str | None, Attribute] = {
            attribute.exclusive_group: attribute for attribute in held | touched if attribute.exclusive_group
        }
        topics = {attribute.topic for attribute in held}
        values: dict[Attribute, list[str]] = {}
        for attribute in self.phrases.attributes:
            if attribute in touched or exclusive.get(attribute.exclusive_group, attribute) is not attribute:
                continue
            if attribute not in held:
                values[attribute] = list(attribute.values)
            elif attribute.kind in ("several", "event"):
                used = {known.value for known in self.known if known.attribute is attribute}
                values[attribute] = [value for value in attribute.values if value not in used]
        possible = [attribute for attribute, free in values.items() if free]
        weights = [RELATED_TOPIC_WEIGHT if attribute.topic in topics else 1.0 for attribute in possible]
        [attribute] = self.random.choices(possible, weights)
        return KnownFact(attribute, self.random.choice(values[attribute]), Phrase("", ""), "")

    # -------------------------------------------------------------------------------------------- turns

    def turn(self, statements: Sequence[FilledPhrase]) -> str:
        sentences = [self.choose(self.phrases.openers)] if self.random.random() < OPENED else []
        for number, statement in enumerate(statements):
            if number and self.random.random() < JOINED:
                sentences.append(self.choose(self.phrases.joiners))
            sentences.append(filled(statement.phrase.said, statement.slots, after=sentences[-1] if sentences else "."))
        if self.random.random() < CLOSED:
            sentences.append(self.choose(self.phrases.closers))
        return " ".join(sentences)

    def reply(self) -> str:
        """An answer that fits any turn."""
        special = self.phrases.friend_replies if self.owner else self.phrases.assistant_replies
        if self.owner is None or self.random.random() >= OWN_STATEMENT:
            return self.choose(self.phrases.replies, special)
        lead_in = self.choose(self.phrases.friend_lead_ins)
        attribute = self.random.choice(self.phrases.attributes)
        phrase = self.choose(attribute.state).said
        slots = {"v": self.random.choice(attribute.values)}
        said = filled(phrase, slots)
        self.stated.append(Statement(self.steps, "assistant", "add", attribute, slots["v"], None, said))
        return f"{lead_in} {filled(phrase, slots, after=lead_in)}"

    def _small_talk(self) -> tuple[tuple[Role, str], ...]:
        special = self.phrases.friend_small_talk if self.owner else self.phrases.assistant_small_talk
        small_talk = self.choose(self.phrases.small_talk, special)
        return ("user", small_talk.said), ("assistant", small_talk.answer)

    def choose(self, *lists: Sequence[T]) -> T:
        """One entry of the lists: of their training parts, or of their held-out parts."""
        return self.random.choice([entry for entries in lists for entry in select_phrases(entries, self.held_out)])


def filled(template: str, slots: dict[str, str], after: str = ".") -> str:
    """A template with its slots filled: a new sentence after a full stop, else the continuation of `after`."""
    text = template.format(**slots)
    if after.endswith((".", "!", "?")):
        return text[0].upper() + text[1:]
    keeps_case = template.startswith("{") or template.split()[0].split("'")[0] == "I"
    return text if keeps_case else text[0].lower() + text[1:]
