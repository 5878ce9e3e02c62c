"""The questions about synthetic dialogues as data: the files `questions_*.yaml` and `names.yaml` in `dialogue_phrases/`.

As in the files of statements, the last third of every list is held out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from memlora_mlx.distill.phrases import (
    Attribute,
    parse_attributes,
    read_phrase_file,
    read_yaml,
    split_lines,
    split_values,
)

_ATTRIBUTE_FILES = ("single", "several", "events")
_LISTS = ("ask", "check", "count", "when")


@dataclass(frozen=True, slots=True)
class Questions:
    """The wordings of the questions about one attribute or milestone. {n} is the person, {v} the value."""

    ask: tuple[str, ...] = ()  # answered with the value, or all of them
    check: tuple[str, ...] = ()  # answered with yes or no
    count: tuple[str, ...] = ()  # answered with the number of values
    when: tuple[str, ...] = ()  # answered with a date


@dataclass(frozen=True, slots=True, eq=False)
class Milestone:
    """Something that happens once. {t} is the words for its time."""

    name: str
    times: Literal["past", "future"]
    values: tuple[str, ...]
    said: tuple[str, ...]
    questions: Questions
    not_with: tuple[str, ...] = ()  # attributes whose questions could mean this milestone, too


@dataclass(frozen=True, slots=True)
class QuestionPhrases:
    """All questions."""

    own: Mapping[str, Questions] = field(default_factory=dict)  # by the attribute's name
    relatives: Mapping[str, Questions] = field(default_factory=dict)  # by the name without the relative, who is {r}
    milestones: tuple[Milestone, ...] = ()
    names: tuple[Attribute, ...] = ()  # of relatives

    def of(self, attribute: Attribute) -> Questions:
        """The questions about an attribute, with its relative's name filled in.

        Raises:
            KeyError: there are none.
        """
        relative = relative_of(attribute)
        if relative is None:
            return self.own[attribute.name]
        found = self.relatives[attribute.name.removeprefix(f"{relative}'s ")]
        return Questions(*(tuple(line.replace("{r}", relative) for line in getattr(found, key)) for key in _LISTS))


def relative_of(attribute: Attribute) -> str | None:
    """The relative that an attribute is about: "sister"."""
    return attribute.name.partition("'s ")[0] if attribute.kind == "other person" else None


@cache
def load_questions() -> QuestionPhrases:
    """All questions, read once per process.

    Raises:
        ValueError: a file is malformed; the message names the file and the entry.
    """
    own: dict[str, Questions] = {}
    for name in _ATTRIBUTE_FILES:
        own |= parse_questions(*_file(name))
    names = tuple(parse_attributes("names.yaml", read_phrase_file("names.yaml")))
    return QuestionPhrases(own, parse_questions(*_file("relatives")), parse_milestones(*_file("milestones")), names)


def parse_questions(where: str, text: str) -> dict[str, Questions]:
    """The questions of one file by the names of their attributes. Raises ValueError, see `load_questions`."""
    return {
        name: _questions(f"{where}, {name}", entry, set(_LISTS), {"n", "v", "r"})
        for name, entry in read_yaml(where, text).items()
    }


def parse_milestones(where: str, text: str) -> tuple[Milestone, ...]:
    """The milestones of one file. Raises ValueError, see `load_questions`."""
    milestones = []
    for name, entry in read_yaml(where, text).items():
        place = f"{where}, {name}"
        if entry.get("times") not in ("past", "future") or not entry.get("values") or not entry.get("said"):
            raise ValueError(f"{place}: needs `times` (past or future), `values` and `said`")
        said = split_lines(entry["said"])
        for line in said:
            if set(re.findall(r"{(\w*)}", line)) != {"t", "v"}:
                raise ValueError(f"{place}: {line!r} must have the slots t and v")
        asked = {key: value for key, value in entry.items() if key not in ("times", "values", "said", "not_with")}
        questions = _questions(place, asked, {"ask", "when"}, {"n", "v"})
        not_with = split_values(entry.get("not_with", ""))
        milestones.append(Milestone(name, entry["times"], split_values(entry["values"]), said, questions, not_with))
    return tuple(milestones)


def addressed(wording: str, name: str | None, **slots: str) -> str:
    """A question with its slots filled. Without a name the user asks about themselves: "Where do I live?"."""
    if name is None:
        for pattern, words in _FIRST_PERSON:
            wording = pattern.sub(words, wording)
    text = wording.format(n=name, **slots)
    return text[0].upper() + text[1:]


_FIRST_PERSON = [
    (re.compile(pattern), words)
    for pattern, words in (
        (r"friend of {n}", "friend of mine"),
        (r"{n}'s", "my"),
        (r"\b([Dd])oes {n}", r"\1o I"),
        (r"\bIs {n}", "Am I"),
        (r"\bis {n}", "am I"),
        (r"\b([Hh])as {n}", r"\1ave I"),
        (r"\b([Dd]id|[Ww]as|[Ww]ill|can't) {n}", r"\1 I"),
        (r"\bthat {n} is\b", "that I am"),
        (r"\bthat {n} has\b", "that I have"),
        (r"\bthat {n}", "that I"),
        (r"{n}", "me"),
    )
]


def _file(name: str) -> tuple[str, str]:
    return f"questions_{name}.yaml", read_phrase_file(f"questions_{name}.yaml")


def _questions(place: str, entry: Mapping[str, Any], lists: set[str], slots: set[str]) -> Questions:
    if unknown := set(entry) - lists:
        raise ValueError(f"{place}: unknown keys: {', '.join(sorted(unknown))}")
    wordings = {key: split_lines(block) for key, block in entry.items()}
    for line in (line for lines in wordings.values() for line in lines):
        if not line.endswith("?") or (set(re.findall(r"{(\w*)}", line)) - slots) or "{n}" not in line:
            raise ValueError(f"{place}: {line!r} must be a question about {{n}} without unknown slots")
    return Questions(**wordings)
