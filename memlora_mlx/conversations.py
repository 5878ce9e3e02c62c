"""Conversation files -> conversations -> exchanges.

Four forms are told apart by what a file holds, never by its name: LoCoMo samples; OpenAI-style messages, as JSON or
JSONL; ChatGPT's `conversations.json`; plain `Name: text` transcripts. A conversation is hostile data: sizes are
bounded, text is cleaned, and whatever is wrong ends in one line that names the place.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

from memlora_mlx.errors import BadConversation, UsageError
from memlora_mlx.records import Exchange, Image, Message, Role, Scope

Kind = Literal["locomo", "messages", "chatgpt", "transcript"]

MAX_FILE_BYTES = 512 << 20
MAX_LINE_BYTES = 32 << 20  # not for one JSON array, which exporters write as a single long line
BATCH = 2  # turns per exchange where each speaker has a memory (Mem0's LoCoMo protocol)
MAX_ROUND = 6  # turns per exchange of a chat with an assistant

KNOWN_FORMS = (
    'memlora reads LoCoMo samples, {"role", "content"} messages (JSON or JSONL), ChatGPT\'s conversations.json '
    "and `Name: text` lines"
)
_ROLES: dict[str, Role | None] = {  # None: known, but nothing a memory should be made of
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "system": None,
    "developer": None,
    "tool": None,
    "function": None,
}
_DATE_FIELDS = ("timestamp", "created_at", "date", "create_time")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EPOCH = re.compile(r"[0-9]{9,17}(?:\.[0-9]{1,9})?")
_CLOCK = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))?(am|pm)?")
_NUMERIC_DATE = re.compile(r"([0-9]{1,4})([-/.])([0-9]{1,2})\2([0-9]{2,4})")
_DAY = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th)?")
_MERIDIEM = re.compile(r"(?<=[0-9]) ?([ap])\.?m\b\.?")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON_BLANK = re.compile(r"[ \t\n\r]*")


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
    kind: Kind
    sessions: tuple[Session, ...]
    speakers: tuple[str, ...] = ()  # whose memories, for the kinds that name people
    position: int = 0  # 0-based, within its file


class _Fault(Exception):
    """What is wrong and where; `read_conversations` puts the file's name in front."""


def read_conversations(source: Path | BinaryIO) -> list[Conversation]:
    """All conversations of one file that hold at least one turn, in file order.

    Args:
        source: a file, `Path("-")` for standard input, or a binary stream. UTF-8, or UTF-16 with its byte order mark.

    Raises:
        UsageError: there is no such file, it is a folder, or it may not be read.
        BadConversation: it is empty, cut off, wrongly encoded, too large, of no known form, or a part of it is wrong.
    """
    name, stem = "standard input", "stdin"
    if isinstance(source, Path) and str(source) != "-":
        name, stem = _line(str(source)), _line(source.stem)
    try:
        text = _decoded(_read(source))
        found = [conversation for conversation in _parsed(text) if conversation.sessions]
        if not found:
            raise _Fault("holds no messages; is this the right file?")
    except _Fault as fault:
        raise BadConversation(f"{name}: {fault}") from fault
    except IsADirectoryError:
        raise UsageError(f"{name} is a folder; name the conversation files in it") from None
    except FileNotFoundError:
        raise UsageError(f"there is no file {name}; check the path") from None
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror or error}") from error
    return [c if c.name else replace(c, name=stem if len(found) == 1 else f"{stem}#{c.position + 1}") for c in found]


def owners(conversation: Conversation, *, user: str) -> list[Scope]:
    """Whose memories a conversation feeds: every named speaker's own, else those of `user` alone."""
    if conversation.kind == "transcript":
        return [Scope(user_id=speaker) for speaker in conversation.speakers]
    if conversation.kind == "locomo":
        numbers = re.findall("[0-9]+", conversation.id)
        number = numbers[-1] if numbers else conversation.position
        return [Scope(user_id=f"{speaker}_{number}") for speaker in conversation.speakers]
    return [Scope(user_id=user)]


def exchanges(conversation: Conversation, *, user: str) -> list[Exchange]:
    """Every owner's exchanges in the order to ingest them: batch by batch, so that all memories grow together.

    Between named speakers an exchange is two turns (the last of a session may be one) and there is one of it for each
    speaker, who has the role `user` in it. With an assistant it is the user's turns and the replies to them.

    Args:
        user: the owner of conversations that name nobody.
    """
    views = list(zip(owners(conversation, user=user), conversation.speakers or (None,), strict=True))
    made: list[Exchange] = []
    seen: Counter[tuple[Scope, str]] = Counter()
    positions: Counter[Scope] = Counter()
    for session in conversation.sessions:
        for turns in _pairs(session.turns) if conversation.speakers else _rounds(session.turns):
            for owner, speaker in views:
                messages = tuple(_message(turn, speaker, session.said_at) for turn in turns)
                content = _content(conversation, session, messages)
                made.append(
                    Exchange(
                        key=_digest([owner.user_id, content, seen[owner, content]]),
                        owner=owner,
                        messages=messages,
                        said_at=messages[0].said_at,
                        source=conversation.name,
                        position=positions[owner],
                    )
                )
                seen[owner, content] += 1
                positions[owner] += 1
    return made


def parse_date(text: str | float) -> datetime:
    """A date as people, programs and LoCoMo write it; without a time it is midnight.

    Reads ISO 8601, "1:56 pm on 8 May, 2023", "May 8, 2023", "13/5/2023", epoch seconds, milli- or microseconds.
    Naive stays naive, aware becomes UTC.

    Raises:
        ValueError: it is none of these, or could be two ("5/8/2023").
    """
    return _from_epoch(text) if isinstance(text, (int, float)) else _date(text, day_first=None)


# Exchanges


def _pairs(turns: tuple[Turn, ...]) -> Iterator[tuple[Turn, ...]]:
    for start in range(0, len(turns), BATCH):
        yield turns[start : start + BATCH]


def _rounds(turns: tuple[Turn, ...]) -> Iterator[tuple[Turn, ...]]:
    """Cut before a user's turn that follows a reply; a greeting that opens the chat stays with the first."""
    start = 0
    asked = False
    for at, turn in enumerate(turns):
        is_next_question = turn.role == "user" and asked and turns[at - 1].role == "assistant"
        if is_next_question or at - start == MAX_ROUND:
            yield turns[start:at]
            start = at
        asked = asked or turn.role == "user"
    yield turns[start:]


def _message(turn: Turn, owner: str | None, session_date: datetime | None) -> Message:
    role: Role = turn.role or ("user" if turn.speaker == owner else "assistant")
    return Message(role, turn.text, turn.speaker or None, turn.said_at or session_date, turn.image, turn.ref)


def _content(conversation: Conversation, session: Session, messages: Iterable[Message]) -> str:
    said_at = session.said_at.isoformat() if session.said_at else None
    parts = [(m.role, m.speaker, m.text, m.image and [m.image.source, m.image.caption]) for m in messages]
    return _digest([conversation.id, said_at, parts])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


# Bytes to text


def _read(source: Path | BinaryIO) -> bytes:
    if not isinstance(source, Path):
        return _bounded(source)
    if str(source) == "-":
        return _bounded(sys.stdin.buffer)
    try:
        stream = source.open("rb")
    except ValueError:  # a NUL in the path
        raise FileNotFoundError from None
    with stream:
        return _bounded(stream)


def _bounded(stream: BinaryIO) -> bytes:
    """All bytes of a stream, which is left as soon as it is too long to be a conversation."""
    chunks: list[bytes] = []
    size, line, line_bytes, first = 0, 1, 0, b""
    while chunk := stream.read(1 << 20):
        chunks.append(chunk)
        size += len(chunk)
        first = first or chunk.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")[:1]
        line += chunk.count(b"\n")
        newline = chunk.rfind(b"\n")
        line_bytes = len(chunk) - newline - 1 if newline >= 0 else line_bytes + len(chunk)
        if line_bytes > MAX_LINE_BYTES and first != b"[":
            raise _Fault(f"line {line} is longer than {MAX_LINE_BYTES >> 20} MB; is this a conversation?")
        if size > MAX_FILE_BYTES:
            raise _Fault(f"is larger than {MAX_FILE_BYTES >> 20} MB; split it into several files")
    return b"".join(chunks)


def _decoded(data: bytes) -> str:
    if not data.strip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"):
        raise _Fault("is empty; is this the right file?")
    hint = "save it as UTF-8"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") and data[2:4] != b"\0\0":
        encoding = "utf-16"
    elif b"\0" in data[:4]:
        raise _Fault(f"is neither UTF-8 nor UTF-16 with a byte order mark (NUL byte in the first four); {hint}")
    else:
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        # the decoder counts from behind a UTF-8 byte order mark
        offset = error.start + (len(data) - len(error.object))
        form = "UTF-16" if encoding == "utf-16" else "UTF-8, nor UTF-16 with a byte order mark"
        raise _Fault(f"is not {form} (wrong from byte {offset} on); {hint}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _clean(text: str) -> str:
    """Without what no prompt, database or terminal should meet: control characters and half surrogate pairs."""
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))).strip()


def _line(text: str) -> str:
    return " ".join(_clean(text).split())


def _quoted(value: object) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(_quoted(key) for key in list(value)[:4]) or 'nothing in it'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(_line(text[:60])) + ("..." if len(text) > 60 else "")


# Text to conversations


def _parsed(text: str) -> list[Conversation]:
    start = _blank_end(text, 0)
    first_line = text[start : start + 200].partition("\n")[0]
    # "[2023-05-08 13:56] Ann: hello" opens with a bracket as well
    if text[start : start + 1] not in ("{", "[") or _split_stamp(first_line)[0]:
        return [_transcript(_clean(text))]
    values = _values(text)
    is_jsonl = len(values) > 1
    items: list[Any] = [value for _, value in values]
    if not is_jsonl and isinstance(items[0], list):
        items = items[0]
    found: list[Conversation] = []
    loose: list[tuple[str, Any]] = []  # messages that lie in the file itself make one conversation
    for position, item in enumerate(items):
        where = f"line {values[position][0]}" if is_jsonl else f"item {position + 1}"
        is_object = isinstance(item, dict)
        if is_object and isinstance(item.get("mapping"), dict):
            found.append(_chatgpt(item, where, position))
        elif is_object and isinstance(item.get("conversation"), dict):
            found.append(_locomo(item, where, position))
        elif is_object and isinstance(item.get("messages"), list):
            found.append(_messages(_numbered(item["messages"], where), item, where, position))
        elif isinstance(item, list):
            found.append(_messages(_numbered(item, where), {}, where, position))
        elif is_object and ("role" in item or "content" in item):
            loose.append((where, item))
        else:
            raise _Fault(f"{where} is {_quoted(item)}, of no known form; {KNOWN_FORMS}")
    if loose:
        found.append(_messages(loose, {}, "messages", len(found)))
    return found


def _blank_end(text: str, at: int) -> int:
    blank = _JSON_BLANK.match(text, at)
    return blank.end() if blank else at


def _values(text: str) -> list[tuple[int, Any]]:
    """The JSON values of a text, each with its line: one of a JSON file, many of a JSONL file."""
    decoder = json.JSONDecoder(strict=False)  # control characters in strings are cleaned later
    end = len(text.rstrip())
    values: list[tuple[int, Any]] = []
    line = 1
    last = 0
    at = _blank_end(text, 0)
    try:
        while at < end:
            line += text.count("\n", last, at)
            value, stop = decoder.raw_decode(text, at)
            values.append((line, value))
            last, at = at, _blank_end(text, stop)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        breaks_at_end = end - error.pos <= 6 and text[end - 1] not in "]}"  # in a number, a `tru`, an escape
        if error.pos >= end or error.msg.startswith("Unterminated") or breaks_at_end:
            raise _Fault(f"looks cut off ({place}); get a complete copy") from error
        raise _Fault(f"is not valid JSON ({place}); {KNOWN_FORMS}") from error
    except RecursionError as error:
        raise _Fault(f"is nested too deeply to be a conversation; {KNOWN_FORMS}") from error
    except ValueError as error:  # Python's limit on the digits of an integer
        raise _Fault(f"has a number of too many digits in the value from line {line} on; remove it") from error
    return values


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Fault(f"{where} is {_quoted(value)} where an object is expected; {KNOWN_FORMS}")
    return value


def _text(value: object, where: str) -> str:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, (dict, list)):
        raise _Fault(f"{where} is {_quoted(value)} where text is expected; correct it")
    return "" if value is None else json.dumps(value)


def _when(fields: dict[str, Any], names: Iterable[str], where: str) -> datetime | None:
    for name in names:
        value = fields.get(name)
        if value is None or value == "" or value == 0:  # how exporters say "unknown"
            continue
        try:
            return parse_date(value if isinstance(value, (str, int, float)) else "")
        except ValueError as error:
            hint = "write it as 2023-05-08 13:56"
            raise _Fault(f"{where}: {name} is {_quoted(value)}, not a date that can be read; {hint}") from error
    return None


def _locomo(sample: dict[str, Any], where: str, position: int) -> Conversation:
    said = sample["conversation"]
    name = _line(_text(sample.get("sample_id"), f"{where}: sample_id"))
    where = name or where
    pair = [_line(_text(said.get(key), f"{where}: {key}")) for key in ("speaker_a", "speaker_b")]
    if not all(pair) or pair[0] == pair[1]:
        raise _Fault(f"{where}: speaker_a is {pair[0]!r} and speaker_b {pair[1]!r}; give two names")
    # date keys may stand for sessions that do not exist, so the lists of turns decide
    numbers = [int(key[8:]) for key in said if re.fullmatch("session_[1-9][0-9]{0,5}", key)]
    sessions = []
    for number in sorted(numbers):
        key = f"session_{number}"
        place = f"{where}, {key}"
        if not isinstance(said[key], list):
            raise _Fault(f"{place} is {_quoted(said[key])} where a list of turns is expected; correct it")
        date = _when(said, [f"{key}_date_time"], where)
        turns = [_locomo_turn(turn, f"{place}, turn {at}", pair) for at, turn in enumerate(said[key], start=1)]
        sessions.append(Session(date, _said(turns)))
    return Conversation(name, name, "locomo", tuple(s for s in sessions if s.turns), tuple(pair), position)


def _locomo_turn(value: object, where: str, pair: list[str]) -> Turn:
    turn = _object(value, where)
    speaker = _line(_text(turn.get("speaker"), f"{where}: speaker"))
    if speaker not in pair:
        raise _Fault(f"{where}: speaker {_quoted(speaker)} is neither {pair[0]!r} nor {pair[1]!r}; correct the name")
    urls = turn.get("img_url")
    url = _text(urls[0] if isinstance(urls, list) and urls else urls or None, f"{where}: img_url")
    caption = _line(_text(turn.get("blip_caption"), f"{where}: blip_caption"))
    image = Image(url, caption or None) if url else None
    ref = _line(_text(turn.get("dia_id"), f"{where}: dia_id"))
    return Turn(speaker, _text(turn.get("text"), f"{where}: text"), image=image, ref=ref or None)


def _said(turns: Iterable[Turn | None]) -> tuple[Turn, ...]:
    return tuple(turn for turn in turns if turn and (turn.text or turn.image))


def _numbered(messages: list[Any], where: str) -> list[tuple[str, Any]]:
    return [(f"{where}, message {number}", message) for number, message in enumerate(messages, start=1)]


def _messages(items: list[tuple[str, Any]], fields: dict[str, Any], where: str, position: int) -> Conversation:
    date = _when(fields, _DATE_FIELDS, where)
    return _chat("messages", fields, date, [_chat_turn(message, place) for place, message in items], position)


def _chat(
    kind: Kind, fields: dict[str, Any], date: datetime | None, turns: list[Turn | None], position: int
) -> Conversation:
    title, *ids = (_line(_text(fields.get(key), key)) for key in ("title", "conversation_id", "id"))
    id = next(filter(None, ids), title)  # a title can be changed later, an id cannot
    said = _said(turns)
    return Conversation(id, title or id, kind, (Session(date, said),) if said else (), position=position)


def _chat_turn(value: object, where: str) -> Turn | None:
    message = _object(value, where)
    name = message.get("role")
    if not isinstance(name, str) or name.lower() not in _ROLES:
        problem = "has no role" if name is None else f"has the unknown role {_quoted(name)}"
        raise _Fault(f"{where} {problem}; use user, assistant, system or tool")
    role = _ROLES[name.lower()]
    if role is None:
        return None
    content = message.get("content")
    parts = content if isinstance(content, list) else [_text(content, f"{where}: content")]
    texts: list[str] = []
    image = None
    for part in parts:
        if not isinstance(part, dict):
            texts.append(_text(part, f"{where}: content"))
        elif "text" in part:
            texts.append(_text(part["text"], f"{where}: text"))
        elif image is None and "image_url" in part:
            url = part["image_url"]
            source = _text(url.get("url") if isinstance(url, dict) else url, f"{where}: image_url")
            image = Image(source) if source else None
    return Turn(
        speaker=_line(_text(message.get("name"), f"{where}: name")),
        text="\n".join(filter(None, texts)),
        role=role,
        said_at=_when(message, _DATE_FIELDS, where),
        image=image,
        ref=_line(_text(message.get("id"), f"{where}: id")) or None,
    )


def _chatgpt(item: dict[str, Any], where: str, position: int) -> Conversation:
    """The branch that was on the screen last: from `current_node` up to the root."""
    mapping: dict[str, Any] = item["mapping"]
    leaves = [key for key, node in mapping.items() if isinstance(node, dict) and not node.get("children")]
    at = item.get("current_node") or (leaves[-1] if leaves else None)
    branch: list[Turn | None] = []
    visited: set[str] = set()
    while isinstance(at, str) and at not in visited:  # a loop of parents would never end
        visited.add(at)
        if at not in mapping:
            raise _Fault(f"{where}: node {_quoted(at)} is missing from its mapping; export the conversation again")
        node = _object(mapping[at], f"{where}, node {_quoted(at)}")
        if node.get("message") is not None:
            place = f"{where}, message {_quoted(at)}"
            branch.append(_chatgpt_turn(_object(node["message"], place), place))
        at = node.get("parent")
    return _chat("chatgpt", item, _when(item, ["create_time"], where), branch[::-1], position)


def _chatgpt_turn(message: dict[str, Any], where: str) -> Turn | None:
    author, content, metadata = (message.get(key) or {} for key in ("author", "content", "metadata"))
    role = _object(author, f"{where}: author").get("role")
    content = _object(content, f"{where}: content")
    is_hidden = _object(metadata, f"{where}: metadata").get("is_visually_hidden_from_conversation")
    is_to_tool = message.get("recipient") not in (None, "all")
    is_text = content.get("content_type") in ("text", "multimodal_text")
    if role not in ("user", "assistant") or is_hidden or is_to_tool or not is_text:
        return None
    parts = content.get("parts")
    texts = [_clean(part) for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
    ref = _line(_text(message.get("id"), f"{where}: id"))
    text = "\n".join(filter(None, texts))
    return Turn("", text, _ROLES[role], _when(message, ["create_time"], where), ref=ref or None)


# Transcripts


def _transcript(text: str) -> Conversation:
    lines = [_split_stamp(line) for line in text.split("\n")]
    named = [(bool(stamp), _name_and_text(rest, bool(stamp))) for stamp, rest in lines]
    is_before_turn = False
    for at in range(len(lines) - 1, -1, -1):
        stamp, rest = lines[at]
        if stamp and not rest and not is_before_turn:  # a date that somebody wrote on a line of its own
            lines[at] = (None, stamp)
        if stamp or rest.strip():
            is_before_turn = bool(named[at][1] or lines[at][0])
    day_first = _day_first([stamp for stamp, _ in lines if stamp])
    stamped_names = [found[0] for has_stamp, found in named if found and has_stamp]
    bare_names = [found[0] for has_stamp, found in named if found and not has_stamp]
    # where most turns carry a time, "Note: ..." without one is a line of the turn above
    may_be_bare = set(bare_names) if len(bare_names) > len(stamped_names) else set(stamped_names)

    sessions: list[tuple[datetime | None, list[tuple[str, datetime | None, list[str]]]]] = [(None, [])]
    words: list[str] | None = None
    for number, ((stamp, rest), (_, found)) in enumerate(zip(lines, named, strict=True), start=1):
        said_at = _date(stamp, day_first) if stamp else None
        session_date, session_turns = sessions[-1]
        is_other_day = said_at and (session_date is None or said_at.date() != session_date.date())
        if said_at and (not rest or is_other_day):  # a line that is only a date, or a turn of another day
            session_turns = []
            sessions.append((said_at, session_turns))
        if found and (stamp or found[0] in may_be_bare):
            words = [found[1]]
            session_turns.append((found[0], said_at, words))
        elif stamp:
            words = [] if rest else None  # a stamped line without a name is the messenger's notice
        elif words is not None:
            words.append(rest)
        elif rest.strip():
            raise _Fault(f"is neither JSON nor a transcript (line {number} is {_quoted(rest)}); {KNOWN_FORMS}")

    names = Counter(name for _, turns in sessions for name, _, _ in turns)
    if len(names) > 3 and max(names.values()) == 1:  # the head of a mail, a list of settings
        raise _Fault(f"is no conversation: nobody in it speaks twice; {KNOWN_FORMS}")
    has_roles = all(name.lower() in _ROLES for name in names)
    return Conversation(
        id="",
        name="",
        kind="messages" if has_roles else "transcript",
        sessions=tuple(s for s in (Session(date, _spoken(turns, has_roles)) for date, turns in sessions) if s.turns),
        speakers=() if has_roles else tuple(names),
    )


def _spoken(turns: list[tuple[str, datetime | None, list[str]]], has_roles: bool) -> tuple[Turn, ...]:
    made = []
    for name, said_at, words in turns:
        role = _ROLES[name.lower()] if has_roles else None
        if role or not has_roles:
            made.append(Turn("" if has_roles else name, _clean("\n".join(words)), role, said_at))
    return _said(made)


def _split_stamp(line: str) -> tuple[str | None, str]:
    """A leading date, as in "[2023-05-08 13:56] Ann: hi" or "2023-05-08 13:56 - Ann: hi", or a line that is one."""
    whole, line = line, line.replace("\u200e", "").strip()  # WhatsApp marks the direction of its own text
    if line.startswith("[") and (end := line.find("]", 0, 50)) > 0:
        stamp, rest = line[1:end], line[end + 1 :]
    elif line[:1].isdigit() and (end := line.find(" - ", 0, 50)) > 0:
        stamp, rest = line[:end], line[end + 3 :]
    elif len(line) <= 60 and any(map(str.isdigit, line)):
        header = line.strip("-=#*_ ").rstrip(":")
        stamp, rest = header[5:] if header[:5].lower() == "date:" else header, ""
    else:
        return None, whole
    # a number alone is somebody's telephone, not a time
    is_date = not stamp.replace(".", "").strip().isdigit() and any(_reads(stamp, order) for order in (True, False))
    return (stamp, rest.strip()) if is_date else (None, whole)


def _name_and_text(line: str, is_stamped: bool) -> tuple[str, str] | None:
    name, colon, text = line.partition(":")
    name = " ".join(name.split())
    if not colon or not name or len(name) > 60 or (text and not text[0].isspace()):
        return None
    if not is_stamped and not (name[0].isalpha() and len(name.split()) <= 3 and not set(name) & set('"<>{}[]=?!,;/')):
        return None
    return name, text.strip()


def _reads(text: str, day_first: bool | None) -> bool:
    try:
        _date(text, day_first)
    except ValueError:
        return False
    return True


def _day_first(stamps: list[str]) -> bool | None:
    """Whether 5/8/2023 is the fifth of August in this file: where only one reading is possible or runs forward."""
    unclear = [stamp for stamp in stamps if not _reads(stamp, None)]
    if not unclear:
        return None
    readings: dict[bool, list[datetime]] = {}
    for order in (True, False):
        if all(_reads(stamp, order) for stamp in stamps):
            readings[order] = [_date(stamp, order).replace(tzinfo=None) for stamp in stamps]
    forward = [order for order, dates in readings.items() if dates == sorted(dates)]
    fitting = forward or list(readings)
    if len(fitting) != 1:
        raise _Fault(f"{_quoted(unclear[0])} can be read as two dates; write dates as 2023-05-08 13:56")
    return fitting[0]


# Dates


def _from_epoch(number: float) -> datetime:
    for unit in (1, 1_000, 1_000_000):
        if 1e8 * unit <= number < 1e11 * unit:  # seconds from 1973 to 5138
            return datetime.fromtimestamp(number / unit, UTC)
    raise ValueError("no time since 1970")


def _date(text: str, day_first: bool | None) -> datetime:
    """`day_first` settles what 5/8/2023 means; None refuses it."""
    text = " ".join(text.lower().split())
    if len(text) > 60:
        raise ValueError("too long for a date")
    if _EPOCH.fullmatch(text):
        return _from_epoch(float(text))
    try:
        date = datetime.fromisoformat(text.upper())
    except ValueError:
        date = _date_of_words(text, day_first)
    try:
        return date.astimezone(UTC) if date.tzinfo else date
    except OverflowError:
        raise ValueError("outside the calendar") from None


def _date_of_words(text: str, day_first: bool | None) -> datetime:
    year = month = day = clock = zone = None
    for word in _MERIDIEM.sub(r"\1m", text).replace(",", " ").split():
        stem = word.rstrip(".")
        months = [at for at, name in enumerate(_MONTHS, start=1) if len(stem) >= 3 and name.startswith(stem)]
        if word in ("on", "at", "of", "the") or (len(stem) >= 3 and any(name.startswith(stem) for name in _WEEKDAYS)):
            continue
        if months and month is None:
            month = months[0]
        elif word in ("utc", "gmt") and zone is None:
            zone = UTC
        elif (found := _NUMERIC_DATE.fullmatch(word)) and year is month is day is None:
            year, month, day = _ordered(found, day_first)
        elif (found := _DAY.fullmatch(word)) and day is None:
            day = int(found[1])
        elif len(word) == 4 and word.isascii() and word.isdigit() and year is None:
            year = int(word)
        elif (found := _CLOCK.fullmatch(word)) and clock is None:
            clock = _hour(int(found[1]), found[4]), int(found[2] or 0), int(found[3] or 0)
        else:
            raise ValueError(f"{word!r} is no part of a date")
    if year is None or month is None or day is None:
        raise ValueError("no day, month or year")
    return datetime(year, month, day, *(clock or (0, 0, 0)), tzinfo=zone)


def _hour(hour: int, meridiem: str | None) -> int:
    if meridiem is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError(f"there is no {hour} {meridiem}")
    return hour % 12 + (12 if meridiem == "pm" else 0)


def _ordered(found: re.Match[str], day_first: bool | None) -> tuple[int, int, int]:
    """Year, month, day of three numbers."""
    first, second, third = int(found[1]), int(found[3]), int(found[4])
    if len(found[1]) == 4:
        return first, second, third
    if len(found[1]) > 2 or len(found[4]) == 3:
        raise ValueError(f"{found[0]} has no year")
    year = third + 2000 if len(found[4]) == 2 else third
    if found[2] == ".":
        day_first = True  # nobody who writes dots puts the month first
    if day_first is None:
        if first <= 12 and second <= 12 and first != second:
            raise ValueError(f"{found[0]} can be read as two dates")
        day_first = first > 12
    return (year, second, first) if day_first else (year, first, second)
