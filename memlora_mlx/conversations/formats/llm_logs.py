"""Logs of the command `llm`, as `llm logs --json` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memlora_mlx.conversations.fields import chat, date_of, name_of, object_of, ref_of, text_of
from memlora_mlx.conversations.formats.format import Item, RowFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn


def read(items: Sequence[Item], reading: Reading) -> Iterable[Conversation]:
    chats: dict[str, list[Item]] = {}
    for item in items:
        with reading.each_alone():
            row = object_of(item.value, item.where)
            name = name_of(row.get("conversation_id") or row.get("id"), f"{item.where}: conversation_id")
            chats.setdefault(name, []).append(item)
    for position, (id, rows) in enumerate(chats.items()):
        with reading.each_alone():
            turns = [turn for item in rows for turn in _turns(item)]
            turns.sort(key=lambda turn: turn.said_at.timestamp() if turn.said_at else 0.0)
            title = name_of(rows[0].value.get("conversation_name"), f"{rows[0].where}: conversation_name")
            date = turns[0].said_at if turns else None
            yield chat("llm", turns, id=id, title=title, date=date, position=position)


def _turns(item: Item) -> Iterable[Turn]:
    row, where = item.value, item.where
    date = date_of(row, where, ["datetime_utc"])
    ref = ref_of(row.get("id"), f"{where}: id")
    yield Turn("", text_of(row.get("prompt"), f"{where}: prompt"), "user", date, ref=ref)
    yield Turn("", text_of(row.get("response"), f"{where}: response"), "assistant", date, ref=ref)


def recognises(row: dict[str, Any]) -> bool:
    return {"prompt", "response", "model"} <= row.keys()


FORMAT = RowFormat("llm", "logs of the command llm", recognises, read)
