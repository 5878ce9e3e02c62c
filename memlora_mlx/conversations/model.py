"""What a conversation consists of, and how its text is made fit to keep."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from memlora_mlx.records import Image, Role
from memlora_mlx.text import clean_name, clean_text

ConversationFormat = Literal["locomo", "messages", "chatgpt", "transcript"]
KNOWN_FORMATS = (
    'memlora reads LoCoMo samples, {"role", "content"} messages (JSON or JSONL), ChatGPT\'s conversations.json '
    "and `Name: text` lines"
)
ROLES: dict[str, Role | None] = {  # None: known, but nothing a memory should be made of
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "system": None,
    "developer": None,
    "tool": None,
    "function": None,
}


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said at once."""

    speaker: str  # "" where the source has only roles
    text: str
    role: Role | None = None  # None where the source has only names
    said_at: datetime | None = None  # its own time, if the source gives one; aware ones are UTC
    image: Image | None = None
    ref: str | None = None  # the turn's id in its source


@dataclass(frozen=True, slots=True)
class Session:
    """Turns of one sitting; an exchange never crosses its border."""

    said_at: datetime | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation as its file tells it, seen from nobody in particular."""

    id: str  # what the file itself calls it ("conv-26"); "" where it names none, so that a renamed file stays the same
    name: str  # for people: the id, a ChatGPT title, else the file's stem
    format: ConversationFormat
    sessions: tuple[Session, ...]
    speakers: tuple[str, ...] = ()  # whose memories, for the kinds that name people
    position: int = 0  # 0-based, within its file
    folder: Path | None = field(default=None, compare=False)  # of its file: paths of images are looked for in it


class FormatError(Exception):
    """What is wrong and where; `read_conversations` puts the file's name in front."""


def nonempty_turns(turns: Iterable[Turn | None]) -> tuple[Turn, ...]:
    return tuple(turn for turn in turns if turn and (turn.text or turn.image))


def turn_text(text: str) -> str:
    """What a turn says, as it is kept: cleaned, with "\\n" for every line end."""
    return clean_text(text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def quote_value(value: object) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(quote_value(key) for key in list(value)[:4]) or 'nothing in it'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(clean_name(text[:60])) + ("..." if len(text) > 60 else "")
