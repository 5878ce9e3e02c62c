"""Sessions of Codex: the JSONL files below `~/.codex/sessions`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memlora_mlx.conversations.fields import chat, chat_turn, name_of, object_of, role_of
from memlora_mlx.conversations.formats.format import Item, RowFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn

_NOT_TYPED: tuple[str, ...] = (
    "<environment_context>",
    "<user_instructions>",
    "# AGENTS.md instructions",
    "<turn_aborted>",
)
_NOT_TYPED += ("<permissions", "<skill", "<INSTRUCTIONS>", "<user_shell_command>")


def read(items: Sequence[Item], reading: Reading) -> Iterable[Conversation]:
    turns: list[Turn | None] = []
    id = ""
    for item in items:
        row = object_of(item.value, item.where)
        payload = row.get("payload")
        if row.get("type") == "session_meta" and isinstance(payload, dict):
            id = id or name_of(payload.get("id"), f"{item.where}: id")
        # events repeat the messages for the screen; old versions have the message in the row itself
        message = payload if row.get("type") == "response_item" else row if row.get("type") == "message" else None
        if message is None:
            continue
        message = object_of(message, f"{item.where}: payload")
        if message.get("type") != "message":
            continue
        dated = {**message, "timestamp": row.get("timestamp"), "name": None}
        turn = chat_turn(dated, item.where, reading, role_of(message, item.where))
        if turn and not (turn.role == "user" and turn.text.startswith(_NOT_TYPED)):
            turns.append(turn)
    date = next((turn.said_at for turn in turns if turn and turn.said_at), None)
    yield chat("codex", turns, id=id, date=date)


def recognises(row: dict[str, Any]) -> bool:
    is_wrapped = row.get("type") in ("session_meta", "response_item") and isinstance(row.get("payload"), dict)
    return is_wrapped or (row.get("type") == "message" and isinstance(row.get("content"), list) and "role" in row
                          and "ts" not in row and "id" not in row)  # fmt: skip


FORMAT = RowFormat("codex", "a session of Codex", recognises, read)
