"""Synthetic dialogues about change: few attributes with many wordings, of the owner and of people around the owner.

They widen the dialogues of `synthetic_dialogues`, whose changes all say that something changes. Here a number or a date is
often just said again with another value, the same thing is true of several people, two people have one name, and of two
things one ends and the other stays. The frames are in `dialogue_phrases/changes.yaml`. A seed always gives the same dialogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from random import Random
from typing import Literal

from memlora_mlx.distill.phrases import Phrase, load_phrases, select_phrases
from memlora_mlx.distill.synthetic_dialogues import (
    UNNAMED_SHARE,
    DialogueStep,
    Fact,
    FactChange,
    SyntheticDialogue,
    filled,
)
from memlora_mlx.records import Event

Kind = Literal["named", "preferred", "planned", "done"]
KINDS: tuple[Kind, ...] = ("named", "preferred", "planned", "done")
_EVENTS: dict[FactChange, Event] = {
    "add": "ADD",
    "change": "UPDATE",
    "refine": "UPDATE",
    "withdraw": "DELETE",
    "forget": "DELETE",
    "repeat": "NONE",
}
# Weights among the possible changes. While little is known, only "add" is possible, so its share is larger than this.
WEIGHTS: dict[FactChange, float] = {
    "add": 0.27,
    "change": 0.34,
    "refine": 0.13,
    "withdraw": 0.15,
    "forget": 0.06,
    "repeat": 0.16,
}
KIND_WEIGHTS: dict[Kind, float] = {"named": 0.4, "preferred": 0.25, "planned": 0.2, "done": 0.15}
OF_OTHERS = 0.3  # share of new facts about somebody around the owner
SAME_THING = 0.45  # share of new facts about what is known of somebody else already
TWO_FACTS = 0.25  # share of the exchanges with two facts
PART_ENDS = 0.4  # share of what ends that is said beside something that stays
OPENED, CLOSED = 0.3, 0.25  # shares of turns with an opener and with a closer


@dataclass(frozen=True, slots=True)
class ChangePhrases:
    """The frames and values of `changes.yaml`."""

    values: Mapping[Kind, Mapping[str, tuple[str, ...]]]  # by kind: what is named, and its values
    frames: Mapping[str, tuple[Phrase, ...]]  # "named_state", ...
    details: Mapping[Kind, tuple[str, ...]]
    third_person: Mapping[str, str]  # of what somebody does
    part_ends: tuple[Phrase, ...]
    relations: tuple[str, ...]
    shared_names: tuple[str, ...]


@cache
def load_change_phrases() -> ChangePhrases:
    """All frames and values, read once per process."""
    import yaml

    text = (files("memlora_mlx.distill") / "dialogue_phrases" / "changes.yaml").read_text(encoding="utf-8")
    lists = {name: block.strip().splitlines() for name, block in yaml.safe_load(text).items()}
    pairs = {name: [line.split(" = ") for line in lines] for name, lines in lists.items() if " = " in lines[0]}
    frames = {
        name: tuple(Phrase(*line.split(" | ")) for line in lines) for name, lines in lists.items() if " | " in lines[0]
    }
    values: dict[Kind, dict[str, tuple[str, ...]]] = {
        "named": {name: tuple(found.split(", ")) for name, found in pairs["named"]},
        "preferred": {name: tuple(found.split(", ")) for name, found in pairs["preferred"]},
        "planned": {"plans": tuple(lists["planned"])},
        "done": {"habits": tuple(said for said, _ in pairs["done"])},
    }
    return ChangePhrases(
        values,
        {name: found for name, found in frames.items() if name != "part_ends"},
        {kind: tuple(lists[f"{kind}_details"]) for kind in KINDS},
        dict(pairs["done"]),
        frames["part_ends"],
        tuple(lists["relations"]),
        tuple(lists["shared_names"]),
    )


def generate_change_dialogue(seed: int, *, steps: int = 12, held_out: bool = False) -> SyntheticDialogue:
    """The dialogue of a seed. With `held_out` it uses only the frames that no training dialogue uses."""
    name = f"changes-held-{seed}" if held_out else f"changes-{seed}"  # the names are seeds: never change them
    random = Random(name)
    names = load_phrases().first_names
    owner, other = (None, None) if random.random() < UNNAMED_SHARE else random.sample(names, 2)
    writer = _ChangeWriter(random, owner, held_out)
    return SyntheticDialogue(seed, name, owner, other, tuple(writer.step() for _ in range(steps)))


@dataclass(slots=True)
class _Known:
    """Something that is true of the owner or of somebody around, and the memory that says so."""

    kind: Kind
    about: str  # "" for the owner, else "sister" or "neighbour Greta"
    thing: str  # what is named; two of one kind, person and thing can only both be true of plans and habits
    value: str
    text: str = ""
    is_refined: bool = False


@dataclass(slots=True)
class _ChangeWriter:
    """Writes a dialogue step by step. The order of the random draws is part of the seed: keep it."""

    random: Random
    owner: str | None
    held_out: bool
    known: list[_Known] = field(default_factory=list)
    phrases: ChangePhrases = field(default_factory=load_change_phrases)
    people: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        one, two, three = self.random.sample(self.phrases.relations, 3)
        name = self.random.choice(self.phrases.shared_names)
        self.people = [f"{one} {name}", f"{two} {name}"] if self.random.random() < 0.5 else [one, three]

    def step(self) -> DialogueStep:
        count = 2 if self.random.random() < TWO_FACTS else 1
        touched: list[_Known] = []
        facts, said = [], []
        for _ in range(count):
            fact, sentence = self._next_change(touched)
            facts.append(fact)
            said.append(sentence)
        chatter = load_phrases()
        if self.random.random() < OPENED:
            opener = self.random.choice(select_phrases([o for o in chatter.openers if o[-1] in ".!?"], self.held_out))
            said.insert(0, opener)
        if self.random.random() < CLOSED:
            said.append(self.random.choice(select_phrases(chatter.closers, self.held_out)))
        reply = self.random.choice(select_phrases(chatter.replies, self.held_out))
        return DialogueStep((("user", " ".join(said)), ("assistant", reply)), tuple(facts))

    def _next_change(self, touched: list[_Known]) -> tuple[Fact, str]:
        free = [known for known in self.known if all(known is not other for other in touched)]
        options: dict[FactChange, list[_Known]] = {
            "change": [known for known in free if known.kind != "done"],
            "refine": [known for known in free if not known.is_refined],
            "withdraw": free,
            "forget": [known for known in free if not known.is_refined],
            "repeat": [known for known in free if not known.is_refined],
        }
        possible: list[FactChange] = ["add", *(change for change, found in options.items() if found)]
        [change] = self.random.choices(possible, [WEIGHTS[change] for change in possible])
        known = self._new() if change == "add" else self.random.choice(options[change])
        touched.append(known)
        before, slots = known.text, self._slots(change, known)
        frame = self._frame(change, known, slots)
        text, sentence = self._texts(frame, known.about, slots)
        if change == "forget":
            text, sentence = self._request(known)
        while text in {other.text for other in self.known}:
            return self._next_change(touched)
        if change == "add":
            self.known.append(known)
        if change in ("withdraw", "forget"):
            self.known.remove(known)
        elif change != "repeat":
            known.value, known.text, known.is_refined = slots["v"], text, change == "refine"
        return Fact(text, _EVENTS[change], None if change == "add" else before), sentence

    def _new(self) -> _Known:
        """Something that can become true: of the owner or somebody else, and often what is known of another person."""
        taken = {(known.kind, known.about, known.thing) for known in self.known if known.kind in ("named", "preferred")}
        used = {(known.kind, known.about, known.value) for known in self.known}
        while True:
            about = self.random.choice(self.people) if self.random.random() < OF_OTHERS else ""
            [kind] = self.random.choices(KINDS, list(KIND_WEIGHTS.values()))
            thing = self.random.choice(list(self.phrases.values[kind]))
            value = self.random.choice(self.phrases.values[kind][thing])
            if self.known and self.random.random() < SAME_THING:
                like = self.random.choice(self.known)
                kind, thing = like.kind, like.thing
                value = self.random.choice([like.value, self.random.choice(self.phrases.values[kind][thing])])
            if (kind, about, thing) not in taken and (kind, about, value) not in used:
                return _Known(kind, about, thing, value)

    def _slots(self, change: FactChange, known: _Known) -> dict[str, str]:
        slots = {"a": known.thing, "v": known.value}
        if change == "change":
            slots["old"] = known.value
            taken = {other.value for other in self.known if (other.kind, other.about) == (known.kind, known.about)}
            values = [value for value in self.phrases.values[known.kind][known.thing] if value not in taken]
            slots["v"] = self.random.choice(values or self.phrases.values[known.kind][known.thing][:1])
        if change == "refine":
            slots["d"] = self.random.choice(self.phrases.details[known.kind])
        if known.kind == "done":
            slots["w"] = self.phrases.third_person[slots["v"]]
        return slots

    def _frame(self, change: FactChange, known: _Known, slots: dict[str, str]) -> Phrase:
        """A frame for the change. What ends may be said beside something of the same person that stays."""
        stays = [
            other for other in self.known if (other.kind, other.about) == ("done", known.about) and other is not known
        ]
        if change == "withdraw" and known.kind == "done" and stays and self.random.random() < PART_ENDS:
            slots["v2"] = self.random.choice(stays).value
            return self.random.choice(select_phrases(self.phrases.part_ends, self.held_out))
        name = {"add": "state", "repeat": "state", "forget": "state"}.get(change, change)
        return self.random.choice(select_phrases(self.phrases.frames[f"{known.kind}_{name}"], self.held_out))

    def _texts(self, frame: Phrase, about: str, slots: Mapping[str, str]) -> tuple[str, str]:
        """The fact in the third person, and what the owner says."""
        owner = self.owner or "User"
        subject = f"{owner}'s {about}" if about else owner
        template = frame.fact.replace(" his ", self.random.choice((" his ", " her ", " the ")))
        fact = filled(template, {**slots, "s": subject, "p": f"{subject}'s"})
        if not about:
            return fact, filled(frame.said, dict(slots))
        mine = f"my {about}"
        return fact, filled(template, {**slots, "s": mine, "p": f"{mine}'s"}) + "."

    def _request(self, known: _Known) -> tuple[str, str]:
        """A request to forget something, with the memory in other words."""
        frames = select_phrases(self.phrases.frames[f"{known.kind}_state"], self.held_out)
        slots = {"a": known.thing, "v": known.value, "w": self.phrases.third_person.get(known.value, "")}
        fact, _ = self._texts(self.random.choice(frames), known.about, slots)
        statement = known.text if self.random.random() < 0.5 else fact
        mine = statement.replace(f"{self.owner or 'User'}'s", "my")
        chatter = load_phrases()
        request = self.random.choice(select_phrases(chatter.forget_requests, self.held_out))
        slots = {"s": mine, "f": statement, "n": self.owner or "User"}
        return filled(request.fact, slots), filled(request.said, slots)
