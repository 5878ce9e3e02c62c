"""Prompts of Google AI Studio, as it saves them to Google Drive."""

from __future__ import annotations

from typing import Any

from memlora_mlx.conversations.fields import chat, chat_turn, date_of, list_of, numbered, object_of, role_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn


def read(item: Item, reading: Reading) -> Conversation:
    chunks = object_of(item.value["chunkedPrompt"], item.where).get("chunks")
    turns: list[Turn | None] = []
    for where, value in numbered(list_of(chunks, f"{item.where}: chunks"), item.where):
        chunk = object_of(value, where)
        if chunk.get("isThought"):
            continue
        turns.append(chat_turn(chunk, where, reading, role_of(chunk, where)))
    return chat("ai-studio", turns, date=date_of(item.value, item.where), position=item.position)


def recognises(value: dict[str, Any]) -> bool:
    return isinstance(value.get("chunkedPrompt"), dict)


FORMAT = ItemFormat("ai-studio", "a prompt of Google AI Studio", recognises, read)
