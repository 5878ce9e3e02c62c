"""Store messages as they are: `Memory.add(infer=False)`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import Add
from memlora_mlx.memory.provenance import speaker_class
from memlora_mlx.memory.secrets import screen_exchange
from memlora_mlx.memory.store.messages import exchange_texts
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange
from memlora_mlx.text import clean_line


def store_verbatim(
    workspace: Workspace, exchange: Exchange, metadata: Mapping[str, Any], expires: datetime | None
) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """Store each message of an exchange as a memory, without asking the student.

    Returns Mem0's results, and how many secrets and private passages were not stored, by kind.
    """
    screened = screen_exchange(exchange, keep_secrets=workspace.settings.keep_secrets)
    exchange = screened.exchange or exchange
    chosen = [
        (position, message)
        for position, message in enumerate(exchange.messages)
        if message.role != "system" and clean_line(message.text)
    ]
    messages = [message for _, message in chosen]
    texts = [clean_line(message.text, inputs.MAX_MEMORY) for message in messages]
    said = exchange_texts(exchange)
    vectors = workspace.memory_engine.embed([*said, *texts]) if said or texts else ()
    changes = [
        Add(
            text,
            vector,
            said_at=message.said_at or exchange.said_at,
            image=message.image,
            metadata={
                **metadata,
                "role": message.role,
                **({"actor_id": message.speaker} if message.speaker else {}),
            },
            expires_at=expires,
            position=position,
            provenance=speaker_class(message),
        )
        for (position, message), text, vector in zip(chosen, texts, vectors[len(said) :], strict=True)
    ]
    applied = workspace.store.commit(
        exchange.owner, changes, exchange=exchange, message_vectors=list(vectors[: len(said)]), actor="user"
    )
    if applied is None:  # the exchange is stored already
        return [], {}
    results = [
        {
            "id": change.memory_id,
            "memory": change.text,
            "event": "ADD",
            "actor_id": message.speaker,
            "role": message.role,
        }
        for change, message in zip(applied, messages, strict=True)
    ]
    return results, dict(screened.withheld)
