"""Conversations of LM Studio: `*.conversation.json` below `~/.lmstudio/conversations`."""

from __future__ import annotations

from typing import Any

from memlora_mlx.conversations.fields import chat, chat_turn, date_of, list_of, name_of, numbered, object_of, role_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import Conversation, FormatError, Reading, Turn


def read(item: Item, reading: Reading) -> Conversation:
    """Each message in the version that was chosen."""
    value, where = item.value, item.where
    turns: list[Turn | None] = []
    for place, message in numbered(value["messages"], where):
        message = object_of(message, place)
        versions = list_of(message.get("versions"), f"{place}: versions")
        at = message.get("currentlySelected") or 0
        if not isinstance(at, int) or not 0 <= at < len(versions):
            raise FormatError(f"{place}: there is no version {at!r}; save the conversation in LM Studio again")
        version = object_of(versions[at], place)
        parts = list(list_of(version.get("content"), f"{place}: content"))
        for step in list_of(version.get("steps"), f"{place}: steps"):
            step = object_of(step, f"{place}: steps")
            is_thought = isinstance(style := step.get("style"), dict) and style.get("type") == "thinking"
            if step.get("type") == "contentBlock" and not is_thought:
                parts += list_of(step.get("content"), f"{place}: content")
        turn = {"content": parts, "toolCalls": bool(version.get("steps")) and not parts}
        turns.append(chat_turn(turn, place, reading, role_of(version, place)))
    title, date = name_of(value.get("name"), f"{where}: name"), date_of(value, where)
    # the time it was created names it: a name can be changed
    id = f"lm-studio {date.isoformat()}" if date else title
    return chat("lm-studio", turns, id=id, title=title, date=date, position=item.position)


def recognises(value: dict[str, Any]) -> bool:
    messages = value.get("messages")
    return isinstance(messages, list) and any(isinstance(m, dict) and "versions" in m for m in messages[:20])


FORMAT = ItemFormat("lm-studio", "a conversation of LM Studio", recognises, read)
