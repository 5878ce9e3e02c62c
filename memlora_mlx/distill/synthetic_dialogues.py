"""Made-up lives: chats whose facts, and what each does to the memories, are known because they were made up.

A life is a row of exchanges. What is true is kept in a bank, and every next fact is drawn from what the bank allows:
new information, a change or a detail of a memory, its end, the wish that it be forgotten, or what is known already in other
words.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeVar

from memlora_mlx.distill import phrases
from memlora_mlx.distill.phrases import ATTRIBUTES, Attribute, Phrase, part
from memlora_mlx.records import Event, Role

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fact:
    """What the owner said, as the extraction should write it, and the right decision about it."""

    text: str
    event: Event
    replaces: str | None  # the old memory it changes, ends or repeats, as it stands; None for an ADD


@dataclass(frozen=True, slots=True)
class DialogueStep:
    """One exchange, and its facts in the order in which they were said."""

    turns: tuple[tuple[Role, str], ...]  # the owner has the role `user`
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class SyntheticDialogue:
    """One owner's conversation, from an empty memory on."""

    seed: int
    name: str
    owner: str | None  # None: the facts say "User"
    other: str | None  # who answers; None: an assistant without a name
    steps: tuple[DialogueStep, ...]


def generate_dialogue(seed: int, *, steps: int = 12, held_out: bool = False) -> SyntheticDialogue:
    """The life of a seed; held out: in the wordings that no other life uses."""
    name = f"life-held-{seed}" if held_out else f"life-{seed}"
    random = Random(name)
    owner, other = (None, None) if random.random() < UNNAMED_SHARE else random.sample(phrases.FIRST_NAMES, 2)
    writer = _DialogueWriter(random, owner, held_out)
    return SyntheticDialogue(seed, name, owner, other, tuple(writer.step() for _ in range(steps)))


def expected_memories(dialogue: SyntheticDialogue, upto: int) -> list[str]:
    """The memories before step `upto`, oldest first, where every decision before it was right."""
    texts: list[str] = []
    for fact in [fact for step in dialogue.steps[:upto] for fact in step.facts]:
        if fact.replaces is None:
            texts.append(fact.text)
        elif fact.event == "UPDATE":  # a changed memory keeps its age
            texts[texts.index(fact.replaces)] = fact.text
        elif fact.event == "DELETE":
            texts.remove(fact.replaces)
    return texts


# ------------------------------------------------------------------------------------------------ what happens

FactChange = Literal["add", "change", "refine", "withdraw", "forget", "repeat"]
_EVENTS: dict[FactChange, Event] = {
    "add": "ADD",
    "change": "UPDATE",
    "refine": "UPDATE",
    "withdraw": "DELETE",
    "forget": "DELETE",
    "repeat": "NONE",
}

UNNAMED_SHARE = 0.3  # share of lives
FACT_COUNTS = {0: 0.15, 1: 0.5, 2: 0.25, 3: 0.1}  # facts of a step: share of steps
# Weights among what is possible. An empty bank allows nothing but "add", which makes its share larger than this.
WEIGHTS: dict[FactChange, float] = {
    "add": 0.23,
    "change": 0.265,
    "refine": 0.08,
    "withdraw": 0.155,
    "forget": 0.05,
    "repeat": 0.22,
}
RELATED_TOPIC_WEIGHT = (
    6.0  # weight of an attribute to add whose topic is in the bank already: easily confused, and yet new
)

OPENED, JOINED, CLOSED = 0.4, 0.5, 0.35  # shares of turns, or of gaps between statements
BY_NAME = 0.35  # share of the requests to forget that name what they are about
OWN_STATEMENT = 0.2  # share of a friend's replies that state something of the friend's own


@dataclass(slots=True)
class _KnownFact:
    """A memory of the bank, and what it means."""

    attribute: Attribute
    value: str
    phrase: Phrase
    text: str
    is_refined: bool = False


@dataclass(frozen=True, slots=True)
class _FilledPhrase:
    """A phrase with what fills it."""

    phrase: Phrase
    slots: dict[str, str]


@dataclass(slots=True)
class _DialogueWriter:
    """Writes a life step by step."""

    random: Random
    owner: str | None
    held_out: bool
    truths: list[_KnownFact] = field(default_factory=list)

    def step(self) -> DialogueStep:
        [count] = self.random.choices(list(FACT_COUNTS), list(FACT_COUNTS.values()))
        if not count:
            return DialogueStep(self._chatter(), ())
        touched: set[Attribute] = set()
        facts, statements = [], []
        for _ in range(count):
            fact, statement = self._next_change(touched)
            facts.append(fact)
            statements.append(statement)
        return DialogueStep((("user", self._turn(statements)), ("assistant", self._reply())), tuple(facts))

    def _next_change(self, touched: set[Attribute]) -> tuple[Fact, _FilledPhrase]:
        """Let something happen to the bank, and not to the attributes touched; adds its own to them."""
        untouched = [truth for truth in self.truths if truth.attribute not in touched]
        free = [truth for truth in untouched if truth.attribute.kind != "event"]
        options: dict[FactChange, list[_KnownFact]] = {
            "change": [truth for truth in free if truth.attribute.change],
            "refine": [truth for truth in free if truth.attribute.refine and not truth.is_refined],
            "withdraw": [truth for truth in free if truth.attribute.withdraw],
            "forget": untouched,
            "repeat": free,
        }
        possible: list[FactChange] = ["add", *(happening for happening, truths in options.items() if truths)]
        [happening] = self.random.choices(possible, [WEIGHTS[happening] for happening in possible])
        truth = self._new(touched) if happening == "add" else self.random.choice(options[happening])
        touched.add(truth.attribute)

        attribute, before, slots = truth.attribute, truth.text, {"v": truth.value}
        if happening == "change":
            slots["old"] = truth.value
            slots["v"] = self.random.choice([value for value in attribute.values if value != truth.value])
        if happening == "refine":
            slots["d"] = self.random.choice(attribute.details)
        if happening == "forget":
            slots |= {"a": attribute.name, **self._statement_text(truth)}
        kinds = {
            "change": attribute.change,
            "refine": attribute.refine,
            "withdraw": attribute.withdraw,
            "forget": self._requests(attribute),
        }
        known = kinds.get(happening, attribute.state)
        phrase = self.random.choice([phrase for phrase in part(known, self.held_out) if phrase is not truth.phrase])
        text = _filled(phrase.fact, {**slots, "n": self.owner or "User"})

        if happening == "add":
            self.truths.append(truth)
        if happening in ("withdraw", "forget"):
            self.truths.remove(truth)
        elif happening != "repeat":
            truth.value, truth.phrase, truth.text = slots["v"], phrase, text
            truth.is_refined = happening == "refine"
        touches = None if happening == "add" else before
        return Fact(text, _EVENTS[happening], touches), _FilledPhrase(phrase, slots)

    def _requests(self, attribute: Attribute) -> Sequence[Phrase]:
        by_name = attribute.kind in ("single", "other person") and self.random.random() < BY_NAME
        return phrases.REQUESTS_BY_NAME if by_name else phrases.REQUESTS

    def _statement_text(self, truth: _KnownFact) -> dict[str, str]:
        """What a truth says as part of a longer sentence, in the owner's words and in the third person."""
        known = part(truth.attribute.state, self.held_out)
        phrase = self.random.choice([one for one in known if ":" not in one.said] or known)
        said = _filled(phrase.said, {"v": truth.value}, after=",").rstrip(".")
        return {"s": said, "f": _filled(phrase.fact, {"v": truth.value, "n": self.owner or "User"}, after=",")}

    def _new(self, touched: AbstractSet[Attribute]) -> _KnownFact:
        """Something that may become true: no second value of what has one, no rival, nothing twice."""
        held = {truth.attribute for truth in self.truths}
        rivals: dict[str | None, Attribute] = {
            attribute.rivals: attribute for attribute in held | touched if attribute.rivals
        }
        topics = {attribute.topic for attribute in held}
        values: dict[Attribute, list[str]] = {}
        for attribute in ATTRIBUTES:
            if attribute in touched or rivals.get(attribute.rivals, attribute) is not attribute:
                continue
            if attribute not in held:
                values[attribute] = list(attribute.values)
            elif attribute.kind in ("several", "event"):
                known = {truth.value for truth in self.truths if truth.attribute is attribute}
                values[attribute] = [value for value in attribute.values if value not in known]
        possible = [attribute for attribute, free in values.items() if free]
        [attribute] = self.random.choices(
            possible, [RELATED_TOPIC_WEIGHT if one.topic in topics else 1.0 for one in possible]
        )
        return _KnownFact(attribute, self.random.choice(values[attribute]), Phrase("", ""), "")

    # -------------------------------------------------------------------------------------------- how it is said

    def _turn(self, statements: Sequence[_FilledPhrase]) -> str:
        sentences = [self._one(phrases.OPENERS)] if self.random.random() < OPENED else []
        for number, statement in enumerate(statements):
            if number and self.random.random() < JOINED:
                sentences.append(self._one(phrases.JOINERS))
            sentences.append(_filled(statement.phrase.said, statement.slots, after=sentences[-1] if sentences else "."))
        if self.random.random() < CLOSED:
            sentences.append(self._one(phrases.CLOSERS))
        return " ".join(sentences)

    def _reply(self) -> str:
        """An answer that fits whatever was said."""
        own = phrases.REPLIES_OF_A_FRIEND if self.owner else phrases.REPLIES_OF_AN_ASSISTANT
        if self.owner is None or self.random.random() >= OWN_STATEMENT:
            return self._one(phrases.REPLIES, own)
        lead, attribute = self._one(phrases.LEADS_OF_A_FRIEND), self.random.choice(ATTRIBUTES)
        statement = self._one(attribute.state).said
        return f"{lead} {_filled(statement, {'v': self.random.choice(attribute.values)}, after=lead)}"

    def _chatter(self) -> tuple[tuple[Role, str], ...]:
        special = phrases.CHATTER_WITH_A_FRIEND if self.owner else phrases.CHATTER_WITH_AN_ASSISTANT
        chatter = self._one(phrases.CHATTER, special)
        return ("user", chatter.said), ("assistant", chatter.answer)

    def _one(self, *lists: Sequence[T]) -> T:
        """One of the lists' training parts, or of their held-out ones."""
        return self.random.choice([one for known in lists for one in part(known, self.held_out)])


def _filled(template: str, slots: dict[str, str], after: str = ".") -> str:
    """A template with its slots filled, as a sentence of its own or running on from what comes before it."""
    text = template.format(**slots)
    if after.endswith((".", "!", "?")):
        return text[0].upper() + text[1:]
    keeps = template.startswith("{") or template.split()[0].split("'")[0] == "I"
    return text if keeps else text[0].lower() + text[1:]
