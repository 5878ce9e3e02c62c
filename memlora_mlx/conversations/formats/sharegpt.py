"""Conversations in the form of ShareGPT: `{"conversations": [{"from": "human", "value": "..."}]}`."""

from __future__ import annotations

from typing import Any

from memlora_mlx.conversations.fields import chat, chat_turn, date_of, name_of, numbered, object_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import ROLES, Conversation, FormatError, Reading, Turn, quote_value

_ROLES = ROLES | {"gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
                  "function_call": None, "observation": None}  # fmt: skip


def read(item: Item, reading: Reading) -> Conversation:
    turns: list[Turn | None] = []
    for place, value in numbered(item.value["conversations"], item.where):
        message = object_of(value, place)
        role = message.get("from")
        if not isinstance(role, str) or role.lower() not in _ROLES:
            raise FormatError(f"{place} is from {quote_value(role)}; use human, gpt or system")
        said = {"content": message.get("value"), "timestamp": message.get("timestamp")}
        turns.append(chat_turn(said, place, reading, _ROLES[role.lower()]))
    id = name_of(item.value.get("id"), f"{item.where}: id")
    return chat("sharegpt", turns, id=id, date=date_of(item.value, item.where), position=item.position)


def recognises(value: dict[str, Any]) -> bool:
    turns = value.get("conversations")
    return isinstance(turns, list) and any(isinstance(t, dict) and "from" in t and "value" in t for t in turns[:20])


FORMAT = ItemFormat("sharegpt", "a conversation in the form of ShareGPT", recognises, read)
