"""A day of a channel in Slack's export, alone or in its ZIP archive, where each channel has a folder."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from memlora_mlx.conversations.fields import date_of, name_of, object_of, ref_of, text_of
from memlora_mlx.conversations.formats.format import Item, RowFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn, daily_sessions, people_of

_LINK = re.compile(r"<([^<>|]+)(?:\|([^<>]*))?>")
_SPOKEN = (None, "thread_broadcast", "me_message", "file_share", "bot_message")  # subtypes that are somebody's words


def read(items: Sequence[Item], reading: Reading) -> Iterable[Conversation]:
    rows = [(item.where, object_of(item.value, item.where)) for item in items]
    names = {name_of(row.get("user"), f"{where}: user"): _name(row, where) for where, row in rows if row.get("user")}
    turns = [_turn(row, where, names, reading) for where, row in rows]
    sessions = daily_sessions(turns)
    yield Conversation("", "", "slack", sessions, people_of(sessions))


def _turn(row: dict[str, Any], where: str, names: dict[str, str], reading: Reading) -> Turn | None:
    if row.get("type") != "message" or row.get("subtype") not in _SPOKEN:
        return None
    speaker = names.get(name_of(row.get("user"), where)) or _name(row, where) or "somebody"

    def shown(found: re.Match[str]) -> str:
        target, label = found[1], found[2]
        if target.startswith("@"):
            return f"@{label or names.get(target[1:]) or target[1:]}"
        return label or target.lstrip("!#@")

    text = html.unescape(_LINK.sub(shown, text_of(row.get("text"), f"{where}: text")))
    if row.get("files"):
        reading.leave_out("files, which Slack's export does not hold", where)
    is_bot = bool(row.get("bot_id")) or row.get("subtype") == "bot_message"
    ref = ref_of(row.get("ts"), f"{where}: ts")
    return Turn(speaker, text, "assistant" if is_bot else None, date_of(row, where, ["ts"]), ref=ref)


def _name(row: dict[str, Any], where: str) -> str:
    profile = row.get("user_profile")
    fields = profile if isinstance(profile, dict) else {}
    named = fields.get("real_name") or fields.get("display_name") or fields.get("name") or row.get("username")
    return name_of(named or row.get("user"), f"{where}: user")


def recognises(row: dict[str, Any]) -> bool:
    ts = row.get("ts")
    return (
        row.get("type") == "message" and isinstance(ts, str) and re.fullmatch(r"[0-9]{9,11}\.[0-9]{6}", ts) is not None
    )


FORMAT = RowFormat("slack", "a day of Slack's export", recognises, read, by_folder=True)
