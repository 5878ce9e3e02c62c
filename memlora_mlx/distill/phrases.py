"""The phrases of the synthetic dialogues: what people say about themselves, and the fact that it states.

The phrases are data: the YAML files in `dialogue_phrases/`. In a file of attributes, `kind` holds for all of them. A phrase is
a line `said | fact`: the owner's words in the first person, and the same in the third person without a full stop. `{n}` is the
owner's name, `{v}` the value, `{old}` the value that it replaces, `{d}` a detail and `{r}` a relative. `values` and `details`
are separated by commas.

The last third of every list is held out: dialogues for training never use it. The order within a list therefore matters, and
a new phrase changes which ones are held out. Every change also changes the dialogue that a seed generates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeVar, get_args

T = TypeVar("T")

# How many values can be true at the same time: "single" has one; "several" has any number; an "event" has happened and stays
# true for ever; "other person" has one and is about a relative of the owner.
Kind = Literal["single", "several", "event", "other person"]

# The files of attributes. Their order is part of the seeds: another order generates other dialogues.
_ATTRIBUTE_FILES = (
    "single_home_and_work",
    "single_food_and_things",
    "single_learning_and_leisure",
    "single_plans",
    "several_home_and_health",
    "several_things_and_leisure",
    "events",
    "other_people",
)
_SLOTS = {"state": {"v"}, "change": {"v", "old"}, "withdraw": {"v"}, "refine": {"v", "d"}}  # beside {n} and {r}
_KEYS = {"topic", "values", "values_of", "relatives", "exclusive_group", "details", *_SLOTS}


@dataclass(frozen=True, slots=True)
class Phrase:
    """One way to say something, and the fact that it states."""

    said: str
    fact: str


@dataclass(frozen=True, slots=True)
class SmallTalk:
    """An exchange that contains no fact about the owner."""

    said: str
    answer: str


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """One thing that can be true of a person, and the phrases that say so. Each attribute is one object."""

    name: str
    topic: str  # attributes of one topic are similar but independent, which a student has to learn
    kind: Kind
    values: tuple[str, ...]  # with their article, unless the phrases have it
    state: tuple[Phrase, ...]  # it is so; any two phrases with the same value repeat each other
    change: tuple[Phrase, ...] = ()  # this value replaces the old one
    withdraw: tuple[Phrase, ...] = ()  # it is no longer so, and no new value is known
    refine: tuple[Phrase, ...] = ()  # what a `state` phrase says, and a detail
    details: tuple[str, ...] = ()  # each fits every value
    # Attributes that could contradict one another (a plan to move, and a move) are never true at the same time.
    exclusive_group: str | None = None


@dataclass(frozen=True, slots=True)
class Phrases:
    """All attributes, and the sentences around the statements; see `dialogue.yaml` for what each list is for."""

    attributes: tuple[Attribute, ...]
    first_names: tuple[str, ...]
    openers: tuple[str, ...]
    forget_requests: tuple[Phrase, ...]
    forget_requests_by_name: tuple[Phrase, ...]
    joiners: tuple[str, ...]
    closers: tuple[str, ...]
    replies: tuple[str, ...]
    friend_replies: tuple[str, ...]
    assistant_replies: tuple[str, ...]
    small_talk: tuple[SmallTalk, ...]
    friend_small_talk: tuple[SmallTalk, ...]
    assistant_small_talk: tuple[SmallTalk, ...]
    friend_lead_ins: tuple[str, ...]


def select_phrases(phrases: Sequence[T], held_out: bool) -> Sequence[T]:
    """The phrases for training, or the last third (rounded up), which is held out."""
    border = len(phrases) - -(-len(phrases) // 3)
    return phrases[border:] if held_out else phrases[:border]


@cache
def load_phrases() -> Phrases:
    """All phrases, read once per process.

    Raises:
        ValueError: a file is malformed; the message names the file, the list and the line.
    """
    attributes: list[Attribute] = []
    for name in _ATTRIBUTE_FILES:
        attributes += parse_attributes(f"{name}.yaml", read_phrase_file(f"{name}.yaml"), attributes)
    return _parse_dialogue("dialogue.yaml", read_phrase_file("dialogue.yaml"), tuple(attributes))


def parse_attributes(where: str, text: str, earlier: Sequence[Attribute] = ()) -> list[Attribute]:
    """The attributes of one YAML file.

    Args:
        where: the file's name, for messages.
        earlier: attributes of the files before it, which `values_of` may name.

    Raises:
        ValueError: see `load_phrases`.
    """
    document = read_mapping(where, text, {"kind", "attributes"})
    kind = document["kind"]
    if kind not in get_args(Kind):
        raise ValueError(f"{where}: the kind {kind!r} is unknown; use one of {', '.join(get_args(Kind))}")
    attributes: list[Attribute] = []
    for name, entry in document["attributes"].items():
        place = f"{where}, {name}"
        if unknown := set(entry) - _KEYS:
            raise ValueError(f"{place}: unknown keys: {', '.join(sorted(unknown))}")
        if missing := {"topic", "state"} - set(entry):
            raise ValueError(f"{place}: missing keys: {', '.join(sorted(missing))}")
        for relative in split_values(entry["relatives"]) if "relatives" in entry else (None,):
            attributes.append(_attribute(place, name, kind, entry, relative, [*earlier, *attributes]))
    return attributes


def _attribute(
    where: str, name: str, kind: Kind, entry: Mapping[str, str], relative: str | None, earlier: Sequence[Attribute]
) -> Attribute:
    if "values_of" in entry:
        source = next((attribute for attribute in earlier if attribute.name == entry["values_of"]), None)
        if source is None:
            raise ValueError(f"{where}: values_of names {entry['values_of']!r}, and no earlier attribute has that name")
        values = source.values
    else:
        values = split_values(entry.get("values", ""))
    if not values:
        raise ValueError(f"{where}: an attribute needs values, or values_of with the name of another attribute")
    phrases = {}
    for key, slots in _SLOTS.items():
        block = entry.get(key, "")
        phrases[key] = _phrases(f"{where}, {key}", block.replace("{r}", relative) if relative else block, slots | {"n"})
    return Attribute(
        f"{relative}'s {name}" if relative else name,
        entry["topic"],
        kind,
        values,
        **phrases,
        details=split_values(entry.get("details", "")),
        exclusive_group=entry.get("exclusive_group"),
    )


def _parse_dialogue(where: str, text: str, attributes: tuple[Attribute, ...]) -> Phrases:
    lists = read_mapping(where, text, set(Phrases.__dataclass_fields__) - {"attributes"})
    parsed: dict[str, Any] = {}
    for name, block in lists.items():
        place = f"{where}, {name}"
        if name == "first_names":
            parsed[name] = split_values(block)
        elif name.startswith("forget_requests"):
            parsed[name] = _phrases(place, block, {"n", "a"} if name.endswith("by_name") else {"n", "s", "f"})
        elif name.endswith("small_talk"):
            parsed[name] = tuple(SmallTalk(*pair) for pair in phrase_pairs(place, block))
        else:
            parsed[name] = split_lines(block)
    return Phrases(attributes, **parsed)


# ------------------------------------------------------------------------------------------------ texts


def read_phrase_file(name: str) -> str:
    """The text of a file in `dialogue_phrases/`."""
    return (files("memlora_mlx.distill") / "dialogue_phrases" / name).read_text(encoding="utf-8")


def read_yaml(where: str, text: str) -> dict[str, Any]:
    """A YAML document; an empty mapping, if it is something else. Raises ValueError, with `where` in its message."""
    import yaml

    try:
        # The parser in C is several times as fast; some builds of PyYAML lack it.
        value = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    return value if isinstance(value, dict) else {}


def read_mapping(where: str, text: str, keys: set[str]) -> dict[str, Any]:
    """A YAML mapping with exactly these keys. Raises ValueError, with `where` in its message."""
    value = read_yaml(where, text)
    if set(value) != keys:
        raise ValueError(f"{where} must have exactly these keys: {', '.join(sorted(keys))}")
    return value


def _phrases(where: str, block: str, slots: set[str]) -> tuple[Phrase, ...]:
    phrases = tuple(Phrase(*pair) for pair in phrase_pairs(where, block))
    for phrase in phrases:
        if unknown := set(re.findall(r"{(\w*)}", f"{phrase.said} {phrase.fact}")) - slots:
            raise ValueError(f"{where}: {phrase.said!r} has unknown slots: {', '.join(sorted(unknown))}")
    return phrases


def phrase_pairs(where: str, block: str) -> Iterator[tuple[str, str]]:
    """The two parts of each line `first | second`. Raises ValueError for another line."""
    for line in split_lines(block):
        first, bar, second = line.partition(" | ")
        if not bar or " | " in second:
            raise ValueError(f"{where}: the line {line!r} must have two parts with ' | ' between them")
        yield first, second


def split_lines(block: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in block.strip().splitlines())


def split_values(block: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in block.split(",")) if block else ()
