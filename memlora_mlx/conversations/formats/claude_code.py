"""Sessions of Claude Code: the JSONL files below `~/.claude/projects`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memlora_mlx.conversations.fields import chat, chat_turn, name_of, object_of
from memlora_mlx.conversations.formats.format import Item, RowFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn

# What Claude Code writes under the user's name: commands, their output, and what a tool was told to pass on.
_NOT_TYPED: tuple[str, ...] = (
    "<command-",
    "<local-command",
    "<system-reminder>",
    "Caveat: The messages below",
    "<bash-",
)
_NOT_TYPED += ("[Request interrupted", "<task-notification>", "<user-memory-input>")


def read(items: Sequence[Item], reading: Reading) -> Iterable[Conversation]:
    turns: list[Turn | None] = []
    id = title = ""
    for item in items:
        row = object_of(item.value, item.where)
        id = id or name_of(row.get("sessionId"), f"{item.where}: sessionId")
        if row.get("type") == "summary":
            title = name_of(row.get("summary"), f"{item.where}: summary")
        if row.get("type") not in ("user", "assistant") or row.get("isMeta") or row.get("isSidechain"):
            continue
        message = object_of(row.get("message"), f"{item.where}: message")
        dated = {**message, "timestamp": row.get("timestamp"), "id": row.get("uuid"), "name": None}
        turn = chat_turn(dated, item.where, reading, "user" if row["type"] == "user" else "assistant")
        if turn and not (turn.role == "user" and turn.text.startswith(_NOT_TYPED)):
            turns.append(turn)
    date = next((turn.said_at for turn in turns if turn and turn.said_at), None)
    yield chat("claude-code", turns, id=id, title=title, date=date)


def recognises(row: dict[str, Any]) -> bool:
    is_turn = row.get("type") in ("user", "assistant") and isinstance(row.get("message"), dict)
    return is_turn and ("uuid" in row or "sessionId" in row)


FORMAT = RowFormat("claude-code", "a session of Claude Code", recognises, read)
