"""Who the memories belong to, and the conversations they came from."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import Owner, Source
from memlora_mlx.memory.store.transactions import Transaction
from memlora_mlx.records import Scope


def list_owners(connection: sqlite3.Connection) -> list[Owner]:
    found = connection.execute("SELECT * FROM owners ORDER BY id")
    return [Owner(Scope(row["user_id"], row["agent_id"], row["run_id"]), row["name"], row["memories"]) for row in found]


def list_sources(connection: sqlite3.Connection) -> list[Source]:
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


def delete_exchanges(transaction: Transaction, owners: str, values: Sequence[str | None]) -> None:
    """Delete the exchanges of the owners that a query gives, and let go of the pictures in them."""
    execute = transaction.connection.execute
    found = execute(
        "SELECT DISTINCT i.sha256 FROM exchanges x JOIN messages g ON g.exchange = x.id JOIN images i ON i.id = g.image"
        f" WHERE i.sha256 IS NOT NULL AND x.owner IN ({owners})",
        values,
    )
    transaction.released_images |= {row["sha256"] for row in found}
    execute(f"DELETE FROM exchanges WHERE owner IN ({owners})", values)
    execute("UPDATE sources SET finished_at = NULL WHERE name NOT IN (SELECT source FROM exchanges)")


def mark_source(transaction: Transaction, name: str, kind: str, exchanges: int, finished: bool) -> None:
    """See `Store.mark_source`."""
    now = inputs.encode_time(transaction.now)
    transaction.connection.execute(
        """
        INSERT INTO sources (name, kind, exchanges, started_at, finished_at) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET
            kind = excluded.kind, exchanges = excluded.exchanges, finished_at = excluded.finished_at
        """,
        [inputs.clean_text(name), inputs.clean_text(kind), exchanges, now, now if finished else None],
    )
