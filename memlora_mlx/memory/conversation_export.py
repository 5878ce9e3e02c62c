"""A conversation of the chat as questions with their replies, as Markdown, and as JSON that `memlora ingest` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memlora_mlx.errors import UsageError
from memlora_mlx.memory.store.conversations import SavedConversation, SavedTurn


def questions_and_replies(turns: Sequence[SavedTurn]) -> list[tuple[SavedTurn, SavedTurn | None]]:
    """Each question with its reply; None where there is none, because the program ended before it."""
    replies = {turn.exchange_key: turn for turn in turns if turn.role == "assistant"}
    return [(turn, replies.get(turn.exchange_key)) for turn in turns if turn.role == "user"]


def conversation_markdown(conversation: SavedConversation, turns: Sequence[SavedTurn]) -> str:
    """The conversation for a person to read, with local times."""
    parts = [f"# {conversation.name}\n"]
    for turn in turns:
        name = "You" if turn.role == "user" else "memlora"
        parts.append(f"**{name}** ({turn.said_at.astimezone():%Y-%m-%d %H:%M})\n")
        if turn.image is not None:
            parts.append(f"*image: {turn.image.source}*\n")
        cut = " *(stopped)*" if turn.state == "cut" else ""
        parts.append(f"{turn.text.strip()}{cut}\n")
    return "\n".join(parts)


def conversation_json(conversation: SavedConversation, turns: Sequence[SavedTurn]) -> dict[str, Any]:
    """The conversation with all that is known of it; times are UTC."""
    return {
        **conversation_row(conversation),
        "messages": [
            {
                "role": turn.role,
                "content": turn.text,
                "created_at": turn.said_at.isoformat(),
                "state": turn.state,
                **({"image": turn.image.source} if turn.image is not None else {}),
            }
            for turn in turns
        ],
    }


def conversation_row(conversation: SavedConversation) -> dict[str, Any]:
    """The conversation without its turns, as JSON."""
    return {
        "id": conversation.id,
        "title": conversation.name,
        "created_at": conversation.started_at.isoformat(),
        "updated_at": conversation.changed_at.isoformat(),
        "turns": conversation.turns,
        **({"excerpt": conversation.excerpt} if conversation.excerpt else {}),
    }


def write_new_file(path: Path, text: str) -> None:
    """Write a new file. Raises UsageError: it exists, or it cannot be written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} already exists. Give another name.") from None
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}. Give another path.") from error
