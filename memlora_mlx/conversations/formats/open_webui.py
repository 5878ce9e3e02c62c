"""Chats of Open WebUI, from its export of one chat or of all."""

from __future__ import annotations

from typing import Any

from memlora_mlx.conversations.fields import chat, chat_turn, date_of, list_of, name_of, numbered, object_of, role_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import Conversation, FormatError, Reading, Turn, quote_value


def read(item: Item, reading: Reading) -> Conversation:
    """The branch that was on the screen last."""
    where, kept = item.where, item.value["chat"]
    history = kept.get("history")
    turns: list[Turn | None] = []
    for place, value in (
        _branch(object_of(history, where), where) if history else numbered(list_of(kept.get("messages"), where), where)
    ):
        message = object_of(value, place)
        turns.append(chat_turn({**message, "name": None}, place, reading, role_of(message, place)))
    id = name_of(item.value.get("id") or kept.get("id"), f"{where}: id")
    title = name_of(item.value.get("title") or kept.get("title"), f"{where}: title")
    return chat("open-webui", turns, id=id, title=title, date=date_of(item.value, where), position=item.position)


def _branch(history: dict[str, Any], where: str) -> list[tuple[str, Any]]:
    nodes = object_of(history.get("messages"), f"{where}: history")
    at = history.get("currentId") or next(reversed(nodes), None)
    branch: list[tuple[str, Any]] = []
    visited: set[str] = set()
    while isinstance(at, str) and at not in visited:
        visited.add(at)
        if at not in nodes:
            raise FormatError(f"{where}: message {quote_value(at)} is missing from its history; export the chat again")
        place = f"{where}, message {quote_value(at)}"
        branch.append((place, nodes[at]))
        at = object_of(nodes[at], place).get("parentId")
    return branch[::-1]


def recognises(value: dict[str, Any]) -> bool:
    chat = value.get("chat")
    return isinstance(chat, dict) and ("history" in chat or isinstance(chat.get("messages"), list))


FORMAT = ItemFormat("open-webui", "a chat of Open WebUI", recognises, read)
