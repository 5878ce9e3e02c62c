"""Messages with roles, as OpenAI's API, Vercel's AI SDK, Gemini's API and most programs keep them.

A conversation is an object with the list `messages` (or `contents`), or a list of messages; messages that lie in the
file itself make one conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from memlora_mlx.conversations.fields import chat, chat_turn, date_of, list_of, name_of, numbered, object_of, role_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import Conversation, Reading

_LISTS = ("messages", "contents", "history")


def read(item: Item, reading: Reading) -> Conversation:
    if isinstance(item.value, list):
        return read_messages(numbered(item.value, item.where), {}, item.where, item.position, reading)
    key = next(key for key in _LISTS if isinstance(item.value.get(key), list))
    messages = numbered(list_of(item.value[key], item.where), item.where)
    return read_messages(messages, item.value, item.where, item.position, reading)


def read_messages(
    items: Sequence[tuple[str, Any]], fields: dict[str, Any], where: str, position: int, reading: Reading
) -> Conversation:
    """The conversation of messages, each with its place; `fields` are what is said of all of them."""
    date = date_of(fields, where, order=reading.options.date_order)
    title, *ids = (name_of(fields.get(key), key) for key in ("title", "conversation_id", "id"))
    turns = []
    for place, value in items:
        message = object_of(value, place)
        turns.append(chat_turn(message, place, reading, role_of(message, place)))
    made = chat("messages", turns, id=next(filter(None, ids), title), title=title, date=date, position=position)
    named = [turn for turn in turns if turn and turn.role == "user"]
    names = tuple(dict.fromkeys(turn.speaker for turn in named))
    if len(names) < 2:  # one user is the owner, however he is called
        return made
    return replace(made, speakers=names)


def recognises(value: dict[str, Any]) -> bool:
    return any(isinstance(value.get(key), list) for key in _LISTS)


def is_message(value: object) -> bool:
    return isinstance(value, dict) and ("role" in value or "content" in value)


FORMAT = ItemFormat("messages", "messages with roles", recognises, read)
