"""Discord: a channel by DiscordChatExporter, and the user's own messages in Discord's data package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memlora_mlx.conversations.fields import date_of, list_of, name_of, numbered, object_of, ref_of, text_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat, RowFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn, daily_sessions, people_of

_SPOKEN = ("Default", "Reply", "0", "19")  # the other types are joins, pins, calls and the like
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".heic")


def read_channel(item: Item, reading: Reading) -> Conversation:
    value, where = item.value, item.where
    channel = object_of(value["channel"], f"{where}: channel")
    guild = value.get("guild") if isinstance(value.get("guild"), dict) else {}
    assert isinstance(guild, dict)
    messages = numbered(list_of(value["messages"], where), where)
    sessions = daily_sessions(_turn(message, place, reading) for place, message in messages)
    id, *names = (name_of(part, where) for part in (channel.get("id"), guild.get("name"), channel.get("name")))
    name = " ".join(filter(None, names))
    return Conversation(f"discord {id}" if id else name, name, "discord", sessions, people_of(sessions), item.position)


def _turn(value: object, where: str, reading: Reading) -> Turn | None:
    message = object_of(value, where)
    if str(message.get("type", "Default")) not in _SPOKEN:
        return None
    author = object_of(message.get("author") or {}, f"{where}: author")
    speaker = name_of(author.get("nickname") or author.get("name") or author.get("id"), f"{where}: author")
    text, image = text_of(message.get("content"), f"{where}: content"), None
    for attachment in list_of(message.get("attachments"), f"{where}: attachments"):
        file = object_of(attachment, f"{where}: attachments")
        if str(file.get("fileName") or "").lower().endswith(_PICTURES):
            image = image or reading.picture(str(file.get("url")), where)
        else:
            reading.leave_out("attachments that are not pictures", where)
    date, ref = date_of(message, where, ["timestamp"]), ref_of(message.get("id"), f"{where}: id")
    return Turn(speaker, text, "assistant" if author.get("isBot") else None, date, image, ref)


def read_package(items: Sequence[Item], reading: Reading) -> Iterable[Conversation]:
    """The messages of one channel in a data package, which has the user's own alone."""
    turns = []
    for item in items:
        row, where = object_of(item.value, item.where), item.where
        if row.get("Attachments"):
            reading.leave_out("attachments, which Discord's package does not hold", where)
        text = text_of(row.get("Contents"), f"{where}: Contents")
        turns.append(Turn("", text, "user", date_of(row, where, ["Timestamp"]), ref=ref_of(row.get("ID"), where)))
    turns.sort(key=lambda turn: turn.said_at.timestamp() if turn.said_at else 0.0)
    yield Conversation("", "", "discord-package", daily_sessions(turns))


def recognises_channel(value: dict[str, Any]) -> bool:
    return isinstance(value.get("channel"), dict) and isinstance(value.get("messages"), list)


def recognises_package(row: dict[str, Any]) -> bool:
    return {"ID", "Timestamp", "Contents"} <= row.keys()


FORMAT = ItemFormat("discord", "a channel by DiscordChatExporter", recognises_channel, read_channel)
PACKAGE = RowFormat("discord-package", "Discord's data package", recognises_package, read_package, by_folder=True)
