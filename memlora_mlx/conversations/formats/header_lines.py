"""Copied chats in which a line names the speaker and the time, and the message follows on the lines below.

Telegram (`Ann, [14.08.24 21:00]`), Teams (`Keller, Anna 4/18/2024 9:01 AM`), Discord's text by DiscordChatExporter
(`[14/08/2024 21:00] nora`), Otter (`Maria Lopez  0:01`), and IRC (`21:00 <ann> text`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from memlora_mlx.conversations.formats.format import TextFormat
from memlora_mlx.conversations.model import (
    Conversation,
    FormatError,
    Reading,
    Turn,
    quote_value,
    turn_text,
)
from memlora_mlx.conversations.speakers import conversation_of_names
from memlora_mlx.conversations.stamps import Line, date_lines, has_date
from memlora_mlx.text import clean_name

_NAME = r"(?P<name>[^\n\[\]:<>]{1,60}?)"
_DATE_AND_TIME = r"[0-9]{1,4}[/.-][0-9]{1,2}[/.-][0-9]{2,4},? [0-9]{1,2}[:.][0-9]{2}(?:[:.][0-9]{2})?(?: ?[AP]M)?"
_HEADS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"^{_NAME}, \[(?P<stamp>[^\[\]\n]{{8,40}})\]:?(?P<text>)$",
        r"^\[(?P<stamp>[^\[\]\n]{8,40})\] (?P<name>[^\n\[\]:<>]{1,60})(?P<text>)$",
        rf"^{_NAME} +(?P<stamp>{_DATE_AND_TIME})(?P<text>)$",
        rf"^{_NAME}(?:  +|\t)(?P<stamp>(?:[0-9]{{1,2}}:)?[0-9]{{1,2}}:[0-9]{{2}})(?P<text>)$",
        r"^\[?(?P<stamp>[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)\]? <[@+ ]?(?P<name>[^<>\s]{1,40})> (?P<text>.*)$",
    )
)
_NO_DATE = _HEADS[3:]  # times within a meeting or a day
_DISCORD_MARK = re.compile(r"^\{(?:Attachments|Embed|Reactions|Stickers)\}$")


def read(text: str, reading: Reading) -> Iterable[Conversation]:
    lines = text.split("\n")
    head = _head_of(lines)
    assert head is not None
    stamps: list[Line] = []
    turns: list[tuple[str, list[str]]] = []
    is_silent = False
    for number, line in enumerate(lines, start=1):
        found = head.match(line.rstrip())
        if found and (head in _NO_DATE or any(map(str.isdigit, found["stamp"]))):
            turns.append((clean_name(found["name"]), [found["text"]]))
            stamps.append(Line(number, "bracket", found["stamp"], "", line))
            is_silent = False
        elif _DISCORD_MARK.match(line.strip()):  # the addresses of files, which are not words
            is_silent = True
            reading.leave_out("attachments and reactions", f"line {number}")
        elif turns and not is_silent and not line.startswith("=" * 20):
            turns[-1][1].append(line)
    if head not in _NO_DATE:
        for stamp in stamps:
            stamp.stamp = stamp.stamp.replace(" at ", " ")
        _check_dates(stamps)
        date_lines(stamps, reading.options.date_order)
    made = [
        Turn(name, turn_text("\n".join(words)), None, stamp.said_at)
        for (name, words), stamp in zip(turns, stamps, strict=True)
    ]
    yield conversation_of_names("header-lines", made, reading.options, is_dated=head not in _NO_DATE)


def _check_dates(stamps: list[Line]) -> None:
    for line in stamps:
        if not has_date(line.stamp):
            raise FormatError(
                f"line {line.number} has a date that cannot be read: {quote_value(line.stamp)}; correct it"
            )


def _head_of(lines: list[str]) -> re.Pattern[str] | None:
    """The kind of line that names speakers: one of the first lines is of it, and words follow."""
    first = [line.rstrip() for line in lines[:30] if line.strip() and not line.startswith("=")]
    for pattern in _HEADS:
        matches = [found for line in first if (found := pattern.match(line))]
        if not matches:
            continue
        # more than one head, or words below the only one
        is_enough = pattern is _HEADS[-1] or len(matches) > 1 or (len(first) > 1 and ":" not in first[1][:40])
        begins = pattern.match(first[0]) is not None or first[0].startswith("Guild:")
        is_timed = pattern in _NO_DATE or has_date(matches[0]["stamp"].replace(" at ", " "))
        if begins and is_timed and is_enough:
            return pattern
    return None


def recognises(text: str) -> bool:
    return _head_of(text.split("\n", 60)[:60]) is not None


FORMAT = TextFormat("header-lines", "a copied chat with a line for each speaker", recognises, read)
