"""Signal, by the tool signal-export: `data.json`, an object on each line. Its Markdown is read as a transcript."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memlora_mlx.conversations.fields import date_of, list_of, name_of, object_of, text_of
from memlora_mlx.conversations.formats.format import Item, RowFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn, daily_sessions, people_of

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".heic")


def read(items: Sequence[Item], reading: Reading) -> Iterable[Conversation]:
    turns = []
    for item in items:
        row, where = object_of(item.value, item.where), item.where
        image = None
        for value in list_of(row.get("attachments"), f"{where}: attachments"):
            path = str(object_of(value, f"{where}: attachments").get("path") or "")
            if path.lower().endswith(_PICTURES):
                image = image or reading.picture(path, where)
            else:
                reading.leave_out("attachments that are not pictures", where)
        speaker, text = name_of(row.get("sender"), f"{where}: sender"), text_of(row.get("body"), f"{where}: body")
        turns.append(Turn(speaker, text, None, date_of(row, where, ["date"]), image))
    sessions = daily_sessions(turns)
    yield Conversation("", "", "signal", sessions, people_of(sessions))


def recognises(row: dict[str, Any]) -> bool:
    return {"date", "sender", "body"} <= row.keys()


FORMAT = RowFormat("signal", "a chat by signal-export", recognises, read, by_folder=True)
