"""JSON and JSONL: LoCoMo samples, OpenAI-style messages, ChatGPT's export."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from memlora_mlx.conversations.dates import parse_date
from memlora_mlx.conversations.model import (
    KNOWN_FORMATS,
    ROLES,
    Conversation,
    ConversationFormat,
    FormatError,
    Session,
    Turn,
    nonempty_turns,
    quote_value,
    turn_text,
)
from memlora_mlx.records import Image
from memlora_mlx.text import clean_name

_DATE_FIELDS = ("timestamp", "created_at", "date", "create_time")
_JSON_BLANK = re.compile(r"[ \t\n\r]*")


def parse_json_conversations(text: str) -> list[Conversation]:
    """The conversations of a text that is JSON or JSONL."""
    values = _json_values(text)
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
            found.append(_messages(_numbered_sessions(item["messages"], where), item, where, position))
        elif isinstance(item, list):
            found.append(_messages(_numbered_sessions(item, where), {}, where, position))
        elif is_object and ("role" in item or "content" in item):
            loose.append((where, item))
        else:
            raise FormatError(f"{where} is {quote_value(item)}, of no known form; {KNOWN_FORMATS}")
    if loose:
        found.append(_messages(loose, {}, "messages", len(found)))
    return found


def _blank_end(text: str, at: int) -> int:
    blank = _JSON_BLANK.match(text, at)
    return blank.end() if blank else at


def _json_values(text: str) -> list[tuple[int, Any]]:
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
            raise FormatError(f"looks cut off ({place}); get a complete copy") from error
        raise FormatError(f"is not valid JSON ({place}); {KNOWN_FORMATS}") from error
    except RecursionError as error:
        raise FormatError(f"is nested too deeply to be a conversation; {KNOWN_FORMATS}") from error
    except ValueError as error:  # Python's limit on the digits of an integer
        raise FormatError(f"has a number of too many digits in the value from line {line} on; remove it") from error
    return values


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{where} is {quote_value(value)} where an object is expected; {KNOWN_FORMATS}")
    return value


def _text(value: object, where: str) -> str:
    if isinstance(value, str):
        return turn_text(value)
    if isinstance(value, (dict, list)):
        raise FormatError(f"{where} is {quote_value(value)} where text is expected; correct it")
    return "" if value is None else json.dumps(value)


def _date_field(fields: dict[str, Any], names: Iterable[str], where: str) -> datetime | None:
    for name in names:
        value = fields.get(name)
        if value is None or value == "" or value == 0:  # how exporters say "unknown"
            continue
        try:
            return parse_date(value if isinstance(value, (str, int, float)) else "")
        except ValueError as error:
            hint = "write it as 2023-05-08 13:56"
            raise FormatError(
                f"{where}: {name} is {quote_value(value)}, not a date that can be read; {hint}"
            ) from error
    return None


def _locomo(sample: dict[str, Any], where: str, position: int) -> Conversation:
    said = sample["conversation"]
    name = clean_name(_text(sample.get("sample_id"), f"{where}: sample_id"))
    where = name or where
    pair = [clean_name(_text(said.get(key), f"{where}: {key}")) for key in ("speaker_a", "speaker_b")]
    if not all(pair) or pair[0] == pair[1]:
        raise FormatError(f"{where}: speaker_a is {pair[0]!r} and speaker_b {pair[1]!r}; give two names")
    # date keys may stand for sessions that do not exist, so the lists of turns decide
    numbers = [int(key[8:]) for key in said if re.fullmatch("session_[1-9][0-9]{0,5}", key)]
    sessions = []
    for number in sorted(numbers):
        key = f"session_{number}"
        place = f"{where}, {key}"
        if not isinstance(said[key], list):
            raise FormatError(f"{place} is {quote_value(said[key])} where a list of turns is expected; correct it")
        date = _date_field(said, [f"{key}_date_time"], where)
        turns = [_locomo_turn(turn, f"{place}, turn {at}", pair) for at, turn in enumerate(said[key], start=1)]
        sessions.append(Session(date, nonempty_turns(turns)))
    return Conversation(name, name, "locomo", tuple(s for s in sessions if s.turns), tuple(pair), position)


def _locomo_turn(value: object, where: str, pair: list[str]) -> Turn:
    turn = _object(value, where)
    speaker = clean_name(_text(turn.get("speaker"), f"{where}: speaker"))
    if speaker not in pair:
        raise FormatError(
            f"{where}: speaker {quote_value(speaker)} is neither {pair[0]!r} nor {pair[1]!r}; correct the name"
        )
    urls = turn.get("img_url")
    url = _text(urls[0] if isinstance(urls, list) and urls else urls or None, f"{where}: img_url")
    caption = clean_name(_text(turn.get("blip_caption"), f"{where}: blip_caption"))
    image = Image(url, caption or None) if url else None
    ref = clean_name(_text(turn.get("dia_id"), f"{where}: dia_id"))
    return Turn(speaker, _text(turn.get("text"), f"{where}: text"), image=image, ref=ref or None)


def _numbered_sessions(messages: list[Any], where: str) -> list[tuple[str, Any]]:
    return [(f"{where}, message {number}", message) for number, message in enumerate(messages, start=1)]


def _messages(items: list[tuple[str, Any]], fields: dict[str, Any], where: str, position: int) -> Conversation:
    date = _date_field(fields, _DATE_FIELDS, where)
    return _chat("messages", fields, date, [_chat_turn(message, place) for place, message in items], position)


def _chat(
    kind: ConversationFormat, fields: dict[str, Any], date: datetime | None, turns: list[Turn | None], position: int
) -> Conversation:
    title, *ids = (clean_name(_text(fields.get(key), key)) for key in ("title", "conversation_id", "id"))
    id = next(filter(None, ids), title)  # a title can be changed later, an id cannot
    said = nonempty_turns(turns)
    return Conversation(id, title or id, kind, (Session(date, said),) if said else (), position=position)


def _chat_turn(value: object, where: str) -> Turn | None:
    message = _object(value, where)
    name = message.get("role")
    if not isinstance(name, str) or name.lower() not in ROLES:
        problem = "has no role" if name is None else f"has the unknown role {quote_value(name)}"
        raise FormatError(f"{where} {problem}; use user, assistant, system or tool")
    role = ROLES[name.lower()]
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
        speaker=clean_name(_text(message.get("name"), f"{where}: name")),
        text="\n".join(filter(None, texts)),
        role=role,
        said_at=_date_field(message, _DATE_FIELDS, where),
        image=image,
        ref=clean_name(_text(message.get("id"), f"{where}: id")) or None,
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
            raise FormatError(
                f"{where}: node {quote_value(at)} is missing from its mapping; export the conversation again"
            )
        node = _object(mapping[at], f"{where}, node {quote_value(at)}")
        if node.get("message") is not None:
            place = f"{where}, message {quote_value(at)}"
            branch.append(_chatgpt_turn(_object(node["message"], place), place))
        at = node.get("parent")
    return _chat("chatgpt", item, _date_field(item, ["create_time"], where), branch[::-1], position)


def _content_text(part: object) -> str | None:
    """The text of one part of a message: typed, or spoken and written down."""
    if isinstance(part, dict) and part.get("content_type") == "audio_transcription":
        part = part.get("text")
    return part if isinstance(part, str) else None


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
    texts = [
        turn_text(text)
        for part in (parts if isinstance(parts, list) else [])
        if (text := _content_text(part)) is not None
    ]
    ref = clean_name(_text(message.get("id"), f"{where}: id"))
    text = "\n".join(filter(None, texts))
    return Turn("", text, ROLES[role], _date_field(message, ["create_time"], where), ref=ref or None)
