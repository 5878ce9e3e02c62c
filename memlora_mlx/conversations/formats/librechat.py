"""Conversations of LibreChat, from its export as JSON."""

from __future__ import annotations

from typing import Any

from memlora_mlx.conversations.fields import chat, chat_turn, date_of, name_of, numbered, object_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn


def read(item: Item, reading: Reading) -> Conversation:
    """The branch that ends with the last message; LibreChat also exports it as a tree."""
    value, where = item.value, item.where
    messages = [(place, object_of(message, place)) for place, message in numbered(_flat(value["messages"]), where)]
    by_id = {str(message.get("messageId")): (place, message) for place, message in messages}
    branch: list[tuple[str, dict[str, Any]]] = []
    seen: set[str] = set()
    at = str(messages[-1][1].get("messageId")) if messages else ""
    while at in by_id and at not in seen:
        seen.add(at)
        branch.append(by_id[at])
        at = str(by_id[at][1].get("parentMessageId"))
    turns: list[Turn | None] = []
    for place, message in branch[::-1]:
        # a tool or an agent keeps its words in `content`, a plain message in `text`
        said = {**message, "name": None, "id": message.get("messageId"), "role": None}
        if not message.get("content"):
            said.pop("content", None)
        turns.append(chat_turn(said, place, reading, "user" if message.get("isCreatedByUser") else "assistant"))
    id, title = (name_of(value.get(key), f"{where}: {key}") for key in ("conversationId", "title"))
    return chat("librechat", turns, id=id, title=title, date=date_of(value, where), position=item.position)


def _flat(messages: list[Any]) -> list[Any]:
    """The messages of a tree (each with its `children`) or a list, parents first."""
    flat: list[Any] = []
    waiting = list(reversed(messages))
    while waiting:
        message = waiting.pop()
        flat.append(message)
        children = message.get("children") if isinstance(message, dict) else None
        waiting += reversed(children) if isinstance(children, list) else []
    return flat


def recognises(value: dict[str, Any]) -> bool:
    messages = value.get("messages")
    return isinstance(messages, list) and any(isinstance(m, dict) and "isCreatedByUser" in m for m in messages[:20])


FORMAT = ItemFormat("librechat", "a conversation of LibreChat", recognises, read)
