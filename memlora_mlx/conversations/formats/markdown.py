"""Chats in Markdown: `## User` or `**User:**` before each turn, as exporters of assistants write them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from memlora_mlx.conversations.formats.format import TextFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn, turn_text
from memlora_mlx.conversations.speakers import conversation_of_names, is_assistant
from memlora_mlx.text import clean_name

_HEADING = re.compile(r"^#{1,6} +(?:\*\*)?([^\n#*:]{1,40}?)(?:\*\*)?:?(?: said)?:? *$")
_BOLD = re.compile(r"^\*\*([^\n*:]{1,40}?)(?: said)?(?::\*\*|\*\*:) *(.*)$")


def read(text: str, reading: Reading) -> Iterable[Conversation]:
    turns: list[tuple[str, list[str]]] = []
    title = ""
    in_code = False
    for line in text.split("\n"):
        if line.lstrip().startswith(("```", "~~~")):
            in_code = not in_code
        head = None if in_code else _head(line, reading)
        if head:
            turns.append((head[0], [head[1]]))
        elif turns:
            turns[-1][1].append(line)
        elif not title and line.startswith("# "):
            title = clean_name(line[2:])
    said = [Turn(name, _text(words)) for name, words in turns]
    yield conversation_of_names("markdown", said, reading.options, is_dated=False, name=title)


def _head(line: str, reading: Reading) -> tuple[str, str] | None:
    """The speaker whom a line names, and what it says behind the name."""
    found = _HEADING.match(line) or _BOLD.match(line)
    if not found:
        return None
    name = re.sub(r"^[^\w]+", "", clean_name(found[1]))  # "🧑 User"
    if not (reading.options.is_own_name(name) or is_assistant(name, is_dated=False) or name.lower() == "system"):
        return None
    return name, found[2] if len(found.groups()) > 1 else ""


def _text(words: list[str]) -> str:
    text = turn_text("\n".join(words))
    return turn_text(re.sub(r"\n+(?:---+|\*\*\*+)$", "", text))  # the rule that ends a turn


def recognises(text: str) -> bool:
    named = [found[1].lower() for line in text.split("\n") if (found := _HEADING.match(line) or _BOLD.match(line))]
    names = {re.sub(r"^[^\w]+", "", name).strip() for name in named}
    return bool(names & {"user", "human", "you", "me", "prompt"}) or any(is_assistant(n, is_dated=False) for n in names)


FORMAT = TextFormat("markdown", "a chat in Markdown", recognises, read)
