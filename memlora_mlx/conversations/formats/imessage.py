"""Text of imessage-exporter: a time, the sender, and the lines of the message, for each message."""

from __future__ import annotations

import re
from collections.abc import Iterable

from memlora_mlx.conversations.dates import parse_date
from memlora_mlx.conversations.formats.format import TextFormat
from memlora_mlx.conversations.model import (
    Conversation,
    FormatError,
    Reading,
    Turn,
    daily_sessions,
    people_of,
    quote_value,
    turn_text,
)
from memlora_mlx.text import clean_name

_STAMP = re.compile(
    r"^(?P<date>[A-Z][a-z]{2} +[0-9]{1,2}, [0-9]{4} +[0-9]{1,2}:[0-9]{2}:[0-9]{2}.?[AP]M)(?: \((?:Read|Delivered|Sent)[^()]*\))?$"
)
_LIKE_STAMP = re.compile(r"^[A-Z][a-z]{2} +[0-9]+, [0-9]+ +[0-9]+:[0-9]+:[0-9]+")
_FILE = re.compile(r"^(?:~|/|attachments/|[A-Za-z0-9-]+/)\S*\.(\w{2,5})$")
_REACTION = re.compile(
    r"^(?:Tapbacks:|(?:Loved|Liked|Disliked|Laughed|Emphasized|Questioned) by |Edited |Expressive: )"
)


def read(text: str, reading: Reading) -> Iterable[Conversation]:
    lines = text.split("\n")
    turns = []
    starts = [at for at, line in enumerate(lines) if _STAMP.match(line)]
    for at, line in enumerate(lines):
        if not _STAMP.match(line) and _LIKE_STAMP.match(line):
            raise FormatError(f"line {at + 1} looks like the time of a message and cannot be read: {quote_value(line)}")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        found = _STAMP.match(lines[start])
        assert found
        try:
            date = parse_date(found["date"])
        except ValueError as error:
            raise FormatError(f"line {start + 1} has a time that cannot be read ({error}); correct it") from error
        speaker = clean_name(lines[start + 1]) if start + 1 < end else ""
        words = []
        for line in lines[start + 2 : end]:
            if _REACTION.match(line.strip()):
                break  # what others did with the message
            if line.startswith("    "):
                continue  # a reply, indented below the message that it answers, comes again with its own time
            if _FILE.match(line.strip()):
                reading.leave_out("attachments", f"line {start + 1}")
                continue
            words.append(line)
        if speaker:
            turns.append(Turn(speaker, turn_text("\n".join(words)), None, date))
    sessions = daily_sessions(turns)
    yield Conversation("", "", "imessage", sessions, people_of(sessions))


def recognises(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0]
    return _STAMP.match(first) is not None


FORMAT = TextFormat("imessage", "a chat by imessage-exporter", recognises, read)
