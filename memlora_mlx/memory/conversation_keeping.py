"""Keep the chat's conversations as they are held, without the secrets and private passages that are said in them."""

from __future__ import annotations

from datetime import datetime

from memlora_mlx.memory.secrets import screen_text
from memlora_mlx.memory.store.conversations import TurnState, save_question, save_reply
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Image, Scope

NOTHING_KEPT = "(private)"  # a message of which nothing may be stored


def keep_question(
    store: Store,
    owner: Scope,
    text: str,
    *,
    key: str,
    said_at: datetime,
    conversation: str | None = None,
    image: Image | None = None,
    keep_secrets: bool = False,
) -> str:
    """Store what the user says, before there is a reply; see `save_question`. Returns the id of the conversation."""
    kept = screen_text(text, keep_secrets=keep_secrets).text.strip() or NOTHING_KEPT
    return save_question(store, owner, kept, key=key, said_at=said_at, conversation=conversation, image=image)


def keep_reply(
    store: Store, key: str, text: str, *, said_at: datetime, state: TurnState = "complete", keep_secrets: bool = False
) -> None:
    """Store a reply that has ended; see `save_reply`."""
    save_reply(store, key, screen_text(text, keep_secrets=keep_secrets).text, said_at=said_at, state=state)
