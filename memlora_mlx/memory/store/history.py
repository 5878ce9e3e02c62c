"""What happened to memories, and taking it back."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from typing import TYPE_CHECKING

from memlora_mlx.errors import StoreError
from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import EmbedFunction, Vector
from memlora_mlx.memory.store import rows
from memlora_mlx.memory.store.transactions import Transaction
from memlora_mlx.records import Revision, Scope

if TYPE_CHECKING:
    from memlora_mlx.memory.store.store import Store

_OWNER = "SELECT id FROM owners WHERE user_id IS ? AND agent_id IS ? AND run_id IS ?"
_STANDING = "undone_by IS NULL AND actor <> 'undo'"  # neither undone nor an undoing


def memory_history(connection: sqlite3.Connection, memory_id: str) -> list[Revision]:
    found = connection.execute("SELECT * FROM history WHERE memory_id = ? ORDER BY id", [inputs.clean_text(memory_id)])
    return [_revision(row) for row in found]


def exchange_history(connection: sqlite3.Connection, key: str) -> list[Revision]:
    found = connection.execute("SELECT * FROM history WHERE exchange_key = ? ORDER BY id", [inputs.clean_text(key)])
    return [_revision(row) for row in found]


def undo_change(store: Store, embed: EmbedFunction, revision_id: int | None, owner: Scope | None = None) -> Revision:
    """See `Store.undo`."""
    with store.snapshot() as connection:
        if revision_id is None:
            where, values = ("1", []) if owner is None else (f"owner = ({_OWNER})", [*rows.scope_json(owner).values()])
            newest = f"SELECT * FROM history WHERE {_STANDING} AND {where} ORDER BY id DESC LIMIT 1"
            line = connection.execute(newest, values).fetchone()
        elif not 0 < revision_id < 2**63:  # more than SQLite can count
            line = None
        else:
            line = connection.execute("SELECT * FROM history WHERE id = ?", [revision_id]).fetchone()
    if line is None:
        raise StoreError(
            "there is nothing to undo" if revision_id is None else f"no change has the number {revision_id}"
        )
    vector = None
    if line["event"] != "ADD":  # embedded before the database is locked, as it may take long
        [vector] = inputs.checked_vectors(embed([line["old_text"]]), 1, store.embedding)
    with store.transaction() as transaction:
        number = _undo(transaction, line["id"], vector)
        return _revision(transaction.connection.execute("SELECT * FROM history WHERE id = ?", [number]).fetchone())


def _undo(transaction: Transaction, number: int, vector: Vector | None) -> int:
    """The inverse of a line of history, itself written to history. Returns its number there."""
    execute = transaction.connection.execute
    line = execute(f"SELECT *, {_STANDING} AS stands FROM history WHERE id = ?", [number]).fetchone()
    if line is None or not line["stands"]:
        raise StoreError(f"change {number} is already undone, or is an undoing itself")
    current = rows.read_memory(transaction.connection, line["memory_id"])
    later = execute(
        f"SELECT 1 FROM history WHERE memory_id = ? AND id > ? AND {_STANDING}", [line["memory_id"], number]
    )
    if later.fetchone() or (current and current.text) != line["new_text"]:
        raise StoreError(f"memory {line['memory_id']} has changed since; undo its later changes first")

    if line["event"] == "ADD":
        assert current is not None
        reversal = transaction.remove(current, None, "undo")
    else:
        assert vector is not None
        before = rows.memory_from_json(json.loads(line["before"]))
        if current is None:
            transaction.insert_memory(before, vector)
        else:
            transaction.overwrite_memory(before, vector)
        reversal = transaction.record_history("UPDATE" if current else "ADD", current, before, None, "undo")
    execute("UPDATE history SET undone_by = ? WHERE id = ?", [reversal, number])
    return reversal


def _revision(row: sqlite3.Row) -> Revision:
    return Revision(
        id=row["id"],
        memory_id=row["memory_id"],
        event=row["event"],
        old_text=row["old_text"],
        new_text=row["new_text"],
        at=datetime.fromisoformat(row["at"]),
        actor=row["actor"],
        exchange_key=row["exchange_key"],
        undone=row["undone_by"] is not None,
    )
