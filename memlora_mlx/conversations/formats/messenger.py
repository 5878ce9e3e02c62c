"""Facebook Messenger and Instagram: `message_1.json` in Meta's data download, and Messenger's own export."""

from __future__ import annotations

from typing import Any

from memlora_mlx.conversations.fields import date_of, list_of, name_of, numbered, object_of, text_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn, daily_sessions, people_of


def read(item: Item, reading: Reading) -> Conversation:
    value, where = item.value, item.where
    messages = numbered(list_of(value["messages"], where), where)
    turns = [turn for place, message in messages if (turn := _turn(message, place, reading))]
    turns.sort(key=lambda turn: turn.said_at.timestamp() if turn.said_at else 0.0)  # the newest comes first
    sessions = daily_sessions(turns)
    title = name_of(_mended(value.get("title") or value.get("threadName")), f"{where}: title")
    id = name_of(_mended(value.get("thread_path")), f"{where}: thread_path") or title
    return Conversation(id, title or id, "messenger", sessions, people_of(sessions), item.position)


def _turn(value: object, where: str, reading: Reading) -> Turn | None:
    message = object_of(value, where)
    if message.get("is_unsent") or message.get("isUnsent"):
        return None
    speaker = name_of(_mended(message.get("sender_name") or message.get("senderName")), f"{where}: sender")
    text = message.get("content") if "sender_name" in message else message.get("text")
    text = text_of(_mended(text), f"{where}: content")
    photos = list_of(message.get("photos"), f"{where}: photos") + list_of(message.get("media"), f"{where}: media")
    image = None
    for photo in photos:
        image = image or reading.picture(str(object_of(photo, f"{where}: photos").get("uri")), where)
    for kind in ("videos", "audio_files", "files", "gifs", "sticker"):
        reading.leave_out("videos, voice messages, stickers and files", where, count=bool(message.get(kind)))
    if "call_duration" in message:
        return None
    return Turn(speaker, text, None, date_of(message, where, ["timestamp_ms", "timestamp"]), image)


def _mended(text: object) -> object:
    """Meta writes the bytes of UTF-8 as if each were a character: "Ã©" for "é"."""
    if not isinstance(text, str):
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text  # it is written rightly


def recognises(value: dict[str, Any]) -> bool:
    messages = value.get("messages")
    return (
        isinstance(messages, list)
        and "participants" in value
        and all(not isinstance(m, dict) or "sender_name" in m or "senderName" in m for m in messages[:20])
    )


FORMAT = ItemFormat("messenger", "a Messenger or Instagram chat", recognises, read)
