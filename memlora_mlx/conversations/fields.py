"""Reading the fields of JSON objects: text, dates, roles, and what a message says in one of its many forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memlora_mlx.conversations.dates import DateOrder, parse_date_with_order
from memlora_mlx.conversations.model import (
    ROLES,
    Conversation,
    FormatError,
    Reading,
    Session,
    Turn,
    nonempty_turns,
    quote_value,
    turn_text,
)
from memlora_mlx.records import Image, Role
from memlora_mlx.text import clean_name

# Where programs keep the time of a message or a conversation; the first that is there counts. A time of change
# stands for the time of writing only where that is not given.
DATE_FIELDS = (
    *("timestamp", "created_at", "createdAt", "date", "create_time", "createTime", "time", "datetime", "dateTime"),
    *("sent_at", "sentAt", "said_at", "saidAt", "started_at", "startedAt", "created", "ts", "timestamp_ms"),
    *("timestampMs", "updated_at", "updatedAt", "update_time", "updateTime"),
)
_TEXT_FIELDS = ("content", "parts", "text")  # where programs keep what a message says
# parts of a message that are no words of its speaker: tool calls and their results, and what a model thinks
_SILENT_PARTS = (
    *("tool", "function", "think", "reasoning", "redacted", "step-", "source", "data-", "refusal", "token_budget"),
    *("server_tool", "web_search", "code_", "mcp_"),
)
_TOOL_FIELDS = ("tool_calls", "toolCalls", "function_call", "toolInvocations", "functionCall", "reasoning_content")


def object_of(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{where} is {quote_value(value)} where an object is expected; correct or remove it")
    return value


def list_of(value: object, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise FormatError(f"{where} is {quote_value(value)} where a list is expected; correct or remove it")
    return value


def text_of(value: object, where: str) -> str:
    if isinstance(value, str):
        return turn_text(value)
    if isinstance(value, (dict, list)):
        raise FormatError(f"{where} is {quote_value(value)} where text is expected; correct it")
    return "" if value is None else json.dumps(value)


def name_of(value: object, where: str) -> str:
    return clean_name(text_of(value, where))


def ref_of(value: object, where: str) -> str | None:
    return name_of(value, where) or None


def date_of(
    fields: Mapping[str, Any], where: str, names: Iterable[str] = DATE_FIELDS, order: DateOrder | None = None
) -> datetime | None:
    """The first date that the fields hold."""
    for name in names:
        value = fields.get(name)
        if value is None or value == "" or value == 0:  # how exporters say "unknown"
            continue
        try:
            is_written = isinstance(value, (str, int, float)) and not isinstance(value, bool)
            return parse_date_with_order(str(value) if is_written else "", order)
        except ValueError as error:
            hint = "write it as 2023-05-08 13:56"
            raise FormatError(
                f"{where}: {name} is {quote_value(value)}, not a date that can be read; {hint}"
            ) from error
    return None


def role_of(message: Mapping[str, Any], where: str) -> Role | None:
    """Who speaks; None for the system and for tools, whose words are nobody's."""
    name = message.get("role")
    if not isinstance(name, str) or name.lower() not in ROLES:
        problem = "has no role" if name is None else f"has the unknown role {quote_value(name)}"
        raise FormatError(f"{where} {problem}; use user, assistant, system or tool")
    return ROLES[name.lower()]


@dataclass(slots=True)
class Content:
    """What a message says."""

    texts: list[str]
    image: Image | None = None
    is_silent: bool = False  # it has parts, and all are tool calls and the like

    @property
    def text(self) -> str:
        return "\n".join(filter(None, self.texts))


def content_of(message: Mapping[str, Any], where: str, reading: Reading) -> Content:
    """The words and the picture of a message, in whichever field and form a program keeps them."""
    found = Content([])
    for name in _TEXT_FIELDS:
        value = message.get(name)
        parts = value if isinstance(value, list) else [value]
        for part in parts:
            _add_part(found, part, f"{where}: {name}", reading, within_list=isinstance(value, list))
        if found.text or found.image:
            break
    found.is_silent = found.is_silent or any(message.get(name) for name in _TOOL_FIELDS)
    return found


def _add_part(found: Content, part: object, where: str, reading: Reading, *, within_list: bool) -> None:
    if not isinstance(part, dict) or not within_list:
        found.texts.append(text_of(part, where))
        return
    kind = str(part.get("type") or "")
    if kind.startswith(_SILENT_PARTS) or "functionCall" in part or "functionResponse" in part or part.get("thought"):
        found.is_silent = True
        return
    text = part.get("text")
    if isinstance(text, dict):  # OpenAI's assistants keep annotations beside the text
        text = text.get("value")
    if text is not None:
        found.texts.append(text_of(text, f"{where}: text"))
    elif image := _image_of(part, where):
        if found.image is None:
            found.image = image
        else:
            reading.leave_out("pictures after the first of their message", where)
    else:
        reading.leave_out(f"parts of messages that are no text ({quote_value(kind or part)})", where)


def _image_of(part: Mapping[str, Any], where: str) -> Image | None:
    """A picture in the forms of OpenAI, Anthropic, Gemini and the AI SDK."""
    address = part.get("image_url") or part.get("imageUrl")
    if isinstance(address, dict):
        address = address.get("url")
    media = part.get("mediaType") or part.get("media_type") or part.get("mimeType") or ""
    data = None
    for name in ("source", "inlineData", "inline_data"):
        if isinstance(inner := part.get(name), dict):
            media = inner.get("media_type") or inner.get("mimeType") or inner.get("mime_type") or media
            data, address = inner.get("data"), address or inner.get("url")
    if not address and str(media).startswith("image/"):
        address = part.get("url")
    if data and not address and str(media).startswith("image/"):
        address = f"data:{media};base64,{data}"
    source = text_of(address, f"{where}: image_url")
    return Image(source) if source else None


def chat_turn(message: Mapping[str, Any], where: str, reading: Reading, role: Role | None) -> Turn | None:
    """The turn of a message of the user or an assistant; None for others, and for what says nothing."""
    if role is None:
        return None
    content = content_of(message, where, reading)
    if not content.text and content.image is None:
        if not content.is_silent:
            reading.leave_out(f"messages of the {role} without text", where)
        return None
    return Turn(
        speaker=name_of(message.get("name"), f"{where}: name"),
        text=content.text,
        role=role,
        said_at=date_of(message, where, order=reading.options.date_order),
        image=content.image,
        ref=ref_of(message.get("id") or message.get("uuid"), f"{where}: id"),
    )


def chat(
    kind: str,
    turns: Iterable[Turn | None],
    *,
    id: str = "",
    title: str = "",
    date: datetime | None = None,
    position: int = 0,
) -> Conversation:
    """A conversation of a user with an assistant, in one session."""
    said = nonempty_turns(turns)
    id = id or title  # a title can be changed later, an id cannot
    return Conversation(id, title or id, kind, (Session(date, said),) if said else (), position=position)


def numbered(messages: Iterable[Any], where: str) -> list[tuple[str, Any]]:
    return [(f"{where}, message {number}", message) for number, message in enumerate(messages, start=1)]
