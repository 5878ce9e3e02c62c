"""The phrases of the generated chats: what is said beside the statements, and simple chats in other languages.

They are data: `chats.yaml` and `languages.yaml` in `dialogue_phrases/`. As in the other files there, the last third of every
list is held out, and every change changes the chats that the seeds generate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from memlora_mlx.distill.phrases import (
    SmallTalk,
    phrase_pairs,
    read_mapping,
    read_phrase_file,
    read_yaml,
    split_lines,
    split_values,
)


@dataclass(frozen=True, slots=True)
class ForeignFact:
    """A statement in another language, the fact that it states, and the values for its slot."""

    said: str
    fact: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForeignPhrases:
    """What is said in another language."""

    language: str
    facts: tuple[ForeignFact, ...]
    openers: tuple[str, ...]
    questions: tuple[str, ...]
    replies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChatPhrases:
    """The lists of `chats.yaml`, which says what each is for, and the other languages."""

    languages: tuple[ForeignPhrases, ...]
    requests: tuple[str, ...]
    requests_with_statement: tuple[str, ...]
    questions: tuple[str, ...]
    musings: tuple[str, ...]
    tasks: tuple[SmallTalk, ...]
    pastes: tuple[str, ...]
    fillers: tuple[str, ...]
    filler_requests: tuple[str, ...]
    slips: tuple[str, ...]
    follow_ups: tuple[str, ...]
    acknowledgements: tuple[str, ...]
    echoes: tuple[str, ...]
    advice: tuple[str, ...]
    list_items: tuple[str, ...]
    guesses: tuple[str, ...]
    claims: tuple[str, ...]
    quotations: tuple[str, ...]
    offers: tuple[str, ...]
    friend_asides: tuple[str, ...]


@cache
def load_chat_phrases() -> ChatPhrases:
    """All phrases of the chats, read once per process.

    Raises:
        ValueError: a file is malformed; the message names the file, the list and the line.
    """
    where = "chats.yaml"
    lists = read_mapping(where, read_phrase_file(where), set(ChatPhrases.__dataclass_fields__) - {"languages"})
    parsed: dict[str, Any] = {
        name: tuple(SmallTalk(*pair) for pair in phrase_pairs(f"{where}, {name}", block))
        if name == "tasks"
        else split_lines(block)
        for name, block in lists.items()
    }
    return ChatPhrases(_languages(), **parsed)


def _languages() -> tuple[ForeignPhrases, ...]:
    where = "languages.yaml"
    return tuple(
        ForeignPhrases(
            language,
            tuple(_foreign_fact(f"{where}, {language}", line) for line in split_lines(lists["facts"])),
            *(split_lines(lists[name]) for name in ("openers", "questions", "replies")),
        )
        for language, lists in read_yaml(where, read_phrase_file(where)).items()
    )


def _foreign_fact(where: str, line: str) -> ForeignFact:
    parts = line.split(" | ")
    if len(parts) != 3 or not all("{v}" in part for part in parts[:2]):
        raise ValueError(f"{where}: the line {line!r} must be 'said | fact | values' with {{v}} in the first two parts")
    said, fact, values = parts
    return ForeignFact(said, fact, split_values(values))
