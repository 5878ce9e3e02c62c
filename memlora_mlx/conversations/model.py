"""What a conversation consists of, how its text is made fit to keep, and what a reader is asked and reports."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from memlora_mlx.conversations.dates import DateOrder
from memlora_mlx.records import Image, Role
from memlora_mlx.text import clean_name, clean_text

ROLES: dict[str, Role | None] = {  # None: known, but nothing a memory should be made of
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "system": None,
    "developer": None,
    "tool": None,
    "function": None,
    "ipython": None,
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
    format: str  # the name of its format, as in `formats.FORMATS`
    sessions: tuple[Session, ...]
    speakers: tuple[str, ...] = ()  # whose memories, for the kinds that name people
    position: int = 0  # 0-based, within its file
    # of its file, or the ZIP archive that it is in: paths of images are looked for in it
    folder: Path | None = field(default=None, compare=False)
    own_speakers: frozenset[str] = frozenset()  # those of the speakers that are the user, such as "Me"


class FormatError(Exception):
    """What is wrong and where; `read_conversations` puts the file's name in front."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a file cannot say by itself."""

    date_order: DateOrder | None = None  # what 5/8/2023 means; None: only where the file leaves no doubt
    own_names: frozenset[str] = frozenset()  # how the user is called in transcripts; "Me" and "You" are known

    def is_own_name(self, name: str) -> bool:
        return name.casefold() in OWN_NAMES or name.casefold() in {own.casefold() for own in self.own_names}


OWN_NAMES = frozenset({"me", "you", "user", "human", "myself"})  # how exports call the person who made them


@dataclass(slots=True)
class ReadReport:
    """What was left out of the files that were read. One report may serve many files."""

    problems: list[str] = field(default_factory=list)  # conversations and files that could not be read, one line each
    left_out: Counter[str] = field(default_factory=Counter)  # messages and files, by what they are ("without text")
    places: dict[str, str] = field(default_factory=dict)  # the first place of each kind that was left out

    def notes(self) -> list[str]:
        """One line for each kind of thing that was left out."""
        return [
            f"{what}: {count} ({'first in ' if count > 1 else ''}{self.places[what]})"
            for what, count in self.left_out.most_common()
        ]


@dataclass(slots=True)
class Reading:
    """What a format is given beside the content of one file, and where it says what it leaves out."""

    options: ReadOptions
    report: ReadReport
    find_picture: Callable[[str], str | None] = lambda name: None  # its path beside the file or in the archive
    name: str = ""  # of the file, for its lines in the report

    @contextmanager
    def each_alone(self) -> Iterator[None]:
        """Around one conversation of several: what is wrong with it is reported, and the others are read."""
        try:
            yield
        except FormatError as error:
            self.report.problems.append(f"{self.name}: {error}")

    def leave_out(self, what: str, where: str = "", count: int = 1) -> None:
        if count:
            self.report.left_out[what] += count
            self.report.places.setdefault(what, f"{self.name}: {where}" if where else self.name)

    def picture(self, name: str, where: str = "") -> Image | None:
        """An attached picture that came with the file; None where it did not, which is reported."""
        path = self.find_picture(name)
        if path is None:
            self.leave_out("pictures that are not in the export", where)
        return None if path is None else Image(path)


def nonempty_turns(turns: Iterable[Turn | None]) -> tuple[Turn, ...]:
    return tuple(turn for turn in turns if turn and (turn.text or turn.image))


def daily_sessions(turns: Iterable[Turn | None]) -> tuple[Session, ...]:
    """Turns that have their own times, cut where a day ends. One without a time stays with those before it."""
    sessions: list[tuple[datetime | None, list[Turn]]] = []
    for turn in nonempty_turns(turns):
        day = turn.said_at.date() if turn.said_at else None
        if not sessions or (day and (sessions[-1][0] is None or sessions[-1][0].date() != day)):
            sessions.append((turn.said_at, []))
        sessions[-1][1].append(turn)
    return tuple(Session(said_at, tuple(said)) for said_at, said in sessions)


def people_of(sessions: Iterable[Session]) -> tuple[str, ...]:
    """The names of those who speak, assistants not among them, in the order of their first words."""
    names = {t.speaker: None for session in sessions for t in session.turns if t.speaker and t.role != "assistant"}
    return tuple(names)


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
