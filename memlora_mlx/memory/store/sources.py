"""The owners of memories, and the conversations that were read."""

from __future__ import annotations

from datetime import datetime

from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import Owner, Source
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Scope
from memlora_mlx.text import clean_text


def list_owners(store: Store) -> list[Owner]:
    """All owners, the oldest first."""
    with store.snapshot() as connection:
        found = connection.execute("SELECT * FROM owners ORDER BY id")
        return [
            Owner(Scope(row["user_id"], row["agent_id"], row["run_id"]), row["name"], row["memories"]) for row in found
        ]


def list_sources(store: Store) -> list[Source]:
    """All conversations that were read, or are being read, the oldest first."""
    with store.snapshot() as connection:
        found = connection.execute(
            "SELECT *, (SELECT count(*) FROM exchanges WHERE source = name) AS done FROM sources ORDER BY rowid"
        )
        return [
            Source(
                name=row["name"],
                kind=row["kind"],
                exchanges=row["exchanges"],
                done=row["done"],
                started_at=datetime.fromisoformat(row["started_at"]),
                finished_at=inputs.decode_time(row["finished_at"]),
            )
            for row in found
        ]


def mark_source(store: Store, name: str, kind: str, exchanges: int, *, finished: bool = False) -> None:
    """Record that a conversation is being read, or that it has been read to its end.

    Args:
        exchanges: how many exchanges the conversation has.
    """
    with store.transaction() as transaction:
        now = inputs.encode_time(transaction.now)
        transaction.connection.execute(
            """
            INSERT INTO sources (name, kind, exchanges, started_at, finished_at) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET
                kind = excluded.kind, exchanges = excluded.exchanges, finished_at = excluded.finished_at
            """,
            [clean_text(name), clean_text(kind), exchanges, now, now if finished else None],
        )


def finish_source(store: Store, name: str) -> None:
    """Record that a conversation has been read to its end, where that was not recorded; else nothing is written."""
    condition, values = "name = ? AND finished_at IS NULL", [clean_text(name)]
    with store.snapshot() as connection:
        if connection.execute(f"SELECT 1 FROM sources WHERE {condition}", values).fetchone() is None:
            return
    with store.transaction() as transaction:
        now = inputs.encode_time(transaction.now)
        transaction.connection.execute(f"UPDATE sources SET finished_at = ? WHERE {condition}", [now, *values])
