"""Claude's data export: `conversations.json`, also inside its ZIP archive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from memlora_mlx.conversations.fields import chat, chat_turn, date_of, list_of, name_of, numbered, object_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import Conversation, FormatError, Reading, Turn, quote_value
from memlora_mlx.records import Role

_SENDERS: dict[str, Role] = {"human": "user", "user": "user", "assistant": "assistant"}
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".heic")


def read(item: Item, reading: Reading) -> Conversation:
    value, where = item.value, item.where
    messages = value.get("chat_messages")
    if messages is None:
        messages = value.get("messages")
    turns = [_turn(message, place, reading) for place, message in numbered(list_of(messages, where), where)]
    id, title = (name_of(value.get(key), f"{where}: {key}") for key in ("uuid", "name"))
    return chat("claude", turns, id=id, title=title, date=date_of(value, where), position=item.position)


def _turn(value: object, where: str, reading: Reading) -> Turn | None:
    message = object_of(value, where)
    sender = message.get("sender")
    if not isinstance(sender, str) or sender not in _SENDERS:
        raise FormatError(f"{where}: the sender is {quote_value(sender)}, not human or assistant; export it again")
    image = None
    for key in ("attachments", "files", "files_v2"):
        for file in list_of(message.get(key), f"{where}: {key}"):
            name = str(object_of(file, f"{where}: {key}").get("file_name") or "")
            if name.lower().endswith(_PICTURES):
                image = image or reading.picture(name, where)
            elif key != "files_v2":  # it repeats the list `files`
                reading.leave_out("attachments that are not pictures", where)
    content = message if message.get("content") else {"text": message.get("text")}
    turn = chat_turn({**message, "content": content.get("content"), "name": None}, where, reading, _SENDERS[sender])
    return replace(turn, image=image) if turn and image else turn


def recognises(value: dict[str, Any]) -> bool:
    messages = value.get("messages")
    has_senders = isinstance(messages, list) and any(
        isinstance(message, dict) and message.get("sender") in _SENDERS and "isCreatedByUser" not in message
        for message in messages[:20]
    )
    return isinstance(value.get("chat_messages"), list) or has_senders


FORMAT = ItemFormat("claude", "Claude's data export", recognises, read)
