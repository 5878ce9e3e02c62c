"""Plain `Name: text` lines, with or without dates, as messengers export them and people write them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from memlora_mlx.conversations import notices
from memlora_mlx.conversations.formats.format import TextFormat
from memlora_mlx.conversations.model import (
    Conversation,
    FormatError,
    Reading,
    Session,
    Turn,
    nonempty_turns,
    quote_value,
    turn_text,
)
from memlora_mlx.conversations.speakers import conversation_of_names
from memlora_mlx.conversations.stamps import Line, check_readable, date_lines, split_line
from memlora_mlx.records import Image
from memlora_mlx.text import DIRECTION_MARKS, clean_name

_MARK = "\u200e"  # left-to-right: WhatsApp on iOS begins with it what it says itself, "image omitted" too
_QUOTES = re.compile('["“”„«»「」]')
_CLOCK_IN_NAME = re.compile(r"^(.{1,60}?) ?[(\[]([0-9]{1,2}:)?[0-9]{1,2}:[0-9]{2}[)\]]: ?(.*)$", re.DOTALL)
_SAID = re.compile(r"^(.{1,30}?) said$")
_REACTIONS = re.compile(r"^\(- .+: .+ -\)$")  # signal-export writes them below a message
_MARKDOWN_PICTURE = re.compile(r"!\[[^\[\]\n]*\]\(([^()\s]+)\)")
# What stands before a colon within a text more often than it is somebody's name.
_LABELS = frozenset(
    """note|notes|ingredients|time|date|subject|place|where|when|why|how|what|price|address|phone|tel|email|mail|ps|p.s|todo
to do|tip|warning|question|answer|q|a|update|edit|tldr|tl;dr|re|fwd|cc|bcc|title|summary|topic|url|link|source|example
note to self|reminder|shopping|shopping list|total|cost|duration|location|http|https|method|directions|steps|yield|serves
notiz|zutaten|zeit|datum|betreff|ort|preis|adresse|hinweis|nota|notas|ingredientes|hora|fecha|asunto|lugar|precio|dirección
remarque|ingrédients|heure|objet|lieu|prix|adresse|nb|n.b|pd|p.d""".replace("\n", "|").split("|")
)
MOST_ONCE = 3  # names that may each occur only once in a transcript without dates


@dataclass(slots=True)
class _Said:
    """A turn while its lines are gathered."""

    name: str
    said_at: datetime | None
    number: int
    is_marked: bool  # the messenger says it, not the person
    words: list[str] = field(default_factory=list)


def read(text: str, reading: Reading) -> Iterable[Conversation]:
    lines = [split_line(number, raw) for number, raw in enumerate(text.split("\n"), start=1)]
    check_readable(lines)
    named = _named_lines(lines)
    _keep_written_dates(lines, named)
    date_lines(lines, reading.options.date_order)
    speakers = _speakers(lines, named)
    is_stamped = any(line.form not in (None, "alone") and found for line, found in zip(lines, named, strict=True))

    sessions = _sessions(lines, named, speakers)
    said = [turn for _, turns in sessions for turn in turns]
    if not is_stamped:
        labels = {line.rest.partition(":")[0].strip().casefold() for line in lines if ":" in line.rest} & _LABELS
        _refuse_lists(said, len(labels))
    people = frozenset(turn.name for turn in said)
    groups = _groups(said)
    spoken = {text for turn in said for text in (line.strip() for line in turn.words) if text}
    made = []
    for date, turns in sessions:
        kept = nonempty_turns(_turn(turn, people, groups, spoken, reading) for turn in turns)
        if kept:
            made.append(Session(date, kept))
    yield conversation_of_names("transcript", (), reading.options, is_dated=is_stamped, sessions=tuple(made))


def _named_lines(lines: list[Line]) -> list[tuple[str, str] | None]:
    """What each line has before and after its colon, if that can be a name and what it says."""
    named = [_name_and_text(line.rest, line.form is not None) for line in lines]
    stamped = Counter(found[0] for line, found in zip(lines, named, strict=True) if found and line.form)
    bare = Counter(found[0] for line, found in zip(lines, named, strict=True) if found and not line.form)
    for at, (line, found) in enumerate(zip(lines, named, strict=True)):
        if found is None and line.form:  # "Ann:hello", where Ann is somebody
            name, colon, text = line.rest.partition(":")
            name = _shown_name(name)
            named[at] = (name, text.strip()) if colon and name in stamped else None
        elif found and line.form and stamped[found[0]] == 1 and _is_notice(found[0], stamped):
            named[at] = None
        elif found and not line.form:
            is_long = len(found[0].split()) > 3 or bool(_QUOTES.search(found[0]))
            if bare[found[0]] == 1 and (is_long or found[0].casefold() in _LABELS):
                named[at] = None
    return named


def _is_notice(name: str, stamped: Counter[str]) -> bool:
    """Whether what stands once before a colon is a messenger's sentence: 'Ann created group "Trip: Norway"'."""
    words = len(name.split())
    begins = any(name.startswith(f"{other} ") and words - len(other.split()) >= 3 for other in stamped if other != name)
    return bool(_QUOTES.search(name)) or begins


def _name_and_text(line: str, is_stamped: bool) -> tuple[str, str] | None:
    if found := _CLOCK_IN_NAME.match(line):  # "Maria Lopez (00:00:01): ..."
        return _shown_name(found[1]), found[3].strip()
    name, colon, text = line.partition(":")
    text = text.rstrip()
    if not is_stamped and (said := _SAID.match(name.strip())):  # "ChatGPT said:"
        name = said[1]
    name = _shown_name(name)
    if not colon or not name or len(name) > 60 or (text and not (text[0].isspace() or text[0] == _MARK)):
        return None
    if not is_stamped and not (name[0].isalpha() and len(name.split()) <= 5 and not set(name) & set("<>{}[]=?!,;/")):
        return None
    return name, text.strip()


def _shown_name(name: str) -> str:
    """A name without the marks around it, and without the tilde before those who are not in the address book."""
    return clean_name(DIRECTION_MARKS.sub("", name)).removeprefix("~").strip()


def _keep_written_dates(lines: list[Line], named: list[tuple[str, str] | None]) -> None:
    """A date alone on a line begins a session only before a turn without a stamp; elsewhere somebody wrote it."""
    is_before_turn = False
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at]
        if line.form == "alone" and not is_before_turn:
            line.form, line.rest = None, line.raw
        if line.form or line.rest.strip():
            is_before_turn = line.form == "alone" or (line.form is None and named[at] is not None)


def _speakers(lines: list[Line], named: list[tuple[str, str] | None]) -> frozenset[str]:
    """Who may speak on a line without a stamp: nobody where most turns have one, so that "Note: ..." stays text."""
    stamped = [found[0] for line, found in zip(lines, named, strict=True) if found and line.form]
    bare = [found[0] for line, found in zip(lines, named, strict=True) if found and not line.form]
    return frozenset(bare if len(bare) > len(stamped) else stamped)


def _sessions(
    lines: list[Line], named: list[tuple[str, str] | None], speakers: frozenset[str]
) -> list[tuple[datetime | None, list[_Said]]]:
    sessions: list[tuple[datetime | None, list[_Said]]] = [(None, [])]
    current: _Said | None = None
    notice = _Said("", None, 0, True)  # where the lines below a notice go
    for line, found in zip(lines, named, strict=True):
        date, turns = sessions[-1]
        is_other_day = line.said_at and (date is None or line.said_at.date() != date.date())
        if line.said_at and (line.form == "alone" or is_other_day):
            turns = []
            sessions.append((line.said_at, turns))
        if found and (line.form or found[0] in speakers):
            text = found[1]
            is_marked = (
                line.form is not None
                and text.startswith(_MARK)
                and not notices.attached_file(DIRECTION_MARKS.sub("", text))
            )
            current = _Said(found[0], line.said_at, line.number, is_marked, [text])
            turns.append(current)
        elif line.form:
            current = notice if line.rest else None  # a stamped line without a name is the messenger's notice
        elif current is not None:
            current.words.append(line.rest)
        elif line.rest.strip():
            raise FormatError(f"is neither JSON nor a transcript (line {line.number} is {quote_value(line.rest)})")
    return sessions


def _refuse_lists(said: list[_Said], labels: int) -> None:
    """Refuse what has no dates and names hardly anybody twice: the head of a mail, a recipe, a list of settings.

    Args:
        labels: how many other words stand before a colon, such as "Date".
    """
    counts = Counter(turn.name for turn in said)
    if len(counts) + labels > MOST_ONCE and max(counts.values(), default=1) == 1:
        raise FormatError("is no conversation: nobody in it speaks twice")
    once = [turn for turn in said if counts[turn.name] == 1]
    if len(once) > MOST_ONCE and 2 * len(once) > len(counts):
        raise FormatError(
            f"may be a list: line {once[0].number} begins with {quote_value(once[0].name)}, and {len(once)} of "
            f"{len(counts)} names occur only once; write the time before each message, as [2023-05-08 13:56] Ann: hi"
        )


def _groups(said: list[_Said]) -> frozenset[str]:
    """The name of the group, under which WhatsApp on iOS writes its notices: the encryption notice is its first."""
    first: dict[str, _Said] = {}
    for turn in said:
        first.setdefault(turn.name, turn)
    found = [name for name, turn in first.items() if turn is said[0] and notices.is_encryption_notice(turn.words[0])]
    return frozenset(found if len(first) > 2 else ())


def _turn(
    said: _Said, people: frozenset[str], groups: frozenset[str], spoken: set[str], reading: Reading
) -> Turn | None:
    """The turn of somebody's lines; None for what the messenger says under a name."""
    where = f"line {said.number}"
    words = [line for line in said.words if not _REACTIONS.match(line.strip())]
    # signal-export writes the message that somebody answers as a quote: these words are another's
    words = [line for line in words if not (line.startswith("> ") and line[2:].strip() in spoken)]
    text = turn_text(DIRECTION_MARKS.sub("", "\n".join(words)))
    is_first_notice = said.said_at is not None and said.number <= 3 and notices.is_encryption_notice(text)
    if said.is_marked or said.name in groups or is_first_notice or (
        said.said_at is not None and notices.is_group_notice(text, people)
    ):  # fmt: skip
        reading.leave_out("notices of the messenger", where)
        return None
    text = notices.marked_poll(notices.without_edit_mark(text))
    if said.said_at is not None and notices.is_placeholder(text):
        reading.leave_out("media, calls and deleted messages that the export does not hold", where)
        return None
    image: Image | None = None
    if said.said_at is not None and (file := notices.attached_file(text)):
        text, image = _with_file(file[0], file[1], where, reading)
    elif said.said_at is not None and (picture := _MARKDOWN_PICTURE.search(text)):
        text, image = _with_file(picture[1], _MARKDOWN_PICTURE.sub("", text).strip(), where, reading)
    return Turn(said.name, text, None, said.said_at, image)


def _with_file(name: str, words: str, where: str, reading: Reading) -> tuple[str, Image | None]:
    if name.lower().endswith(tuple(f".{suffix}" for suffix in notices.PICTURES)):
        return words, reading.picture(name, where)
    reading.leave_out("attachments that are not pictures", where)
    return words, None


def recognises(text: str) -> bool:
    return True  # the last format: what is no transcript either is refused with its first line


FORMAT = TextFormat("transcript", "a transcript of `Name: text` lines", recognises, read)
