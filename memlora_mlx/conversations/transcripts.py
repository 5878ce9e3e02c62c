"""Plain `Name: text` lines, with or without dates, as messengers export them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from memlora_mlx.conversations.dates import is_date, parse_date_with_order
from memlora_mlx.conversations.model import (
    KNOWN_FORMATS,
    ROLES,
    Conversation,
    FormatError,
    Session,
    Turn,
    nonempty_turns,
    quote_value,
    turn_text,
)

_MARK = "\u200e"  # left-to-right: WhatsApp on iOS begins with it what it says itself, "image omitted" too


def parse_transcript(text: str) -> Conversation:
    lines = [split_timestamp(line) for line in text.split("\n")]
    named = [(bool(timestamp), _name_and_text(rest, bool(timestamp))) for timestamp, rest in lines]
    is_before_turn = False
    for at in range(len(lines) - 1, -1, -1):
        timestamp, rest = lines[at]
        if timestamp and not rest and not is_before_turn:  # a date that somebody wrote on a line of its own
            lines[at] = (None, timestamp)
        if timestamp or rest.strip():
            is_before_turn = bool(named[at][1] or lines[at][0])
    day_first = _day_first([timestamp for timestamp, _ in lines if timestamp])
    stamped_names = [found[0] for has_stamp, found in named if found and has_stamp]
    bare_names = [found[0] for has_stamp, found in named if found and not has_stamp]
    # where most turns carry a time, "Note: ..." without one is a line of the turn above
    may_be_bare = set(bare_names) if len(bare_names) > len(stamped_names) else set(stamped_names)

    sessions: list[tuple[datetime | None, list[tuple[str, datetime | None, list[str]]]]] = [(None, [])]
    words: list[str] | None = None
    for number, ((timestamp, rest), (_, found)) in enumerate(zip(lines, named, strict=True), start=1):
        said_at = parse_date_with_order(timestamp, day_first) if timestamp else None
        session_date, session_turns = sessions[-1]
        is_other_day = said_at and (session_date is None or said_at.date() != session_date.date())
        if said_at and (not rest or is_other_day):  # a line that is only a date, or a turn of another day
            session_turns = []
            sessions.append((said_at, session_turns))
        if found and (timestamp or found[0] in may_be_bare):
            words = [found[1]]
            session_turns.append((found[0], said_at, words))
        elif timestamp:
            words = [] if rest else None  # a stamped line without a name is the messenger's notice
        elif words is not None:
            words.append(rest)
        elif rest.strip():
            raise FormatError(
                f"is neither JSON nor a transcript (line {number} is {quote_value(rest)}); {KNOWN_FORMATS}"
            )

    names = Counter(name for _, turns in sessions for name, _, _ in turns)
    if len(names) > 3 and max(names.values()) == 1:  # the head of a mail, a list of settings
        raise FormatError(f"is no conversation: nobody in it speaks twice; {KNOWN_FORMATS}")
    has_roles = all(name.lower() in ROLES for name in names)
    return Conversation(
        id="",
        name="",
        format="messages" if has_roles else "transcript",
        sessions=tuple(
            s for s in (Session(date, _speaker_and_text(turns, has_roles)) for date, turns in sessions) if s.turns
        ),
        speakers=() if has_roles else tuple(names),
    )


def _speaker_and_text(turns: list[tuple[str, datetime | None, list[str]]], has_roles: bool) -> tuple[Turn, ...]:
    made = []
    for name, said_at, words in turns:
        role = ROLES[name.lower()] if has_roles else None
        if role or not has_roles:
            made.append(Turn("" if has_roles else name, turn_text("\n".join(words)), role, said_at))
    return nonempty_turns(made)


def split_timestamp(line: str) -> tuple[str | None, str]:
    """A leading date, as in "[2023-05-08 13:56] Ann: hi" or "2023-05-08 13:56 - Ann: hi", or a line that is one."""
    whole, line = line, line.lstrip(f"{_MARK} ").strip()
    if line.startswith("[") and (end := line.find("]", 0, 50)) > 0:
        timestamp, rest = line[1:end], line[end + 1 :]
    elif line[:1].isdigit() and (end := line.find(" - ", 0, 50)) > 0:
        timestamp, rest = line[:end], line[end + 3 :]
    elif len(line) <= 60 and any(map(str.isdigit, line)):
        header = line.strip("-=#*_ ").rstrip(":")
        timestamp, rest = header[5:] if header[:5].lower() == "date:" else header, ""
    else:
        return None, whole
    # a number alone is somebody's telephone, not a time
    timestamp = timestamp.replace(_MARK, "")
    has_date = not timestamp.replace(".", "").strip().isdigit() and any(
        is_date(timestamp, order) for order in (True, False)
    )
    return (timestamp, rest.strip()) if has_date else (None, whole)


def _name_and_text(line: str, is_stamped: bool) -> tuple[str, str] | None:
    name, colon, text = line.partition(":")
    name, text = " ".join(name.replace(_MARK, "").split()), text.rstrip()
    if not colon or not name or len(name) > 60 or (text and not text[0].isspace()):
        return None
    if is_stamped and (text.lstrip().startswith(_MARK) or set(name) & set('"“”')):  # 'Ann created group "Trip: Norway"'
        return None
    if not is_stamped and not (name[0].isalpha() and len(name.split()) <= 3 and not set(name) & set('"<>{}[]=?!,;/')):
        return None
    return name, text.replace(_MARK, "").strip()


def _day_first(timestamps: list[str]) -> bool | None:
    """Whether 5/8/2023 is the fifth of August in this file: where only one reading is possible or runs forward."""
    unclear = [timestamp for timestamp in timestamps if not is_date(timestamp, None)]
    if not unclear:
        return None
    readings: dict[bool, list[datetime]] = {}
    for order in (True, False):
        if all(is_date(timestamp, order) for timestamp in timestamps):
            readings[order] = [parse_date_with_order(timestamp, order).replace(tzinfo=None) for timestamp in timestamps]
    forward = [order for order, dates in readings.items() if dates == sorted(dates)]
    fitting = forward or list(readings)
    if len(fitting) != 1:
        raise FormatError(f"{quote_value(unclear[0])} can be read as two dates; write dates as 2023-05-08 13:56")
    return fitting[0]
