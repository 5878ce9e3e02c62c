"""The history of memories: read it, undo a change, and redo what was undone.

Each change has a line. An undo is a line by the actor "undo", and the line that it reverts names it in `undone_by`. A redo
reverts an undo in the same way, by the actor "redo", and the first change is then no longer marked as undone.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import datetime
from typing import Literal, cast

from memlora_mlx.errors import StoreError
from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import EmbedFunction, Vector
from memlora_mlx.memory.store import messages, rows
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.transactions import Transaction
from memlora_mlx.records import Revision, Scope
from memlora_mlx.text import clean_text

_REVERSALS = "('undo', 'redo')"
_LATER_CHANGE = f"""
    SELECT 1 FROM history l WHERE l.memory_id = h.memory_id AND l.id > h.id
        AND l.undone_by IS NULL AND l.actor NOT IN {_REVERSALS}
"""
# A later undo that still counts blocks too: the memory is then older than this undo left it.
_LATER_THAN_UNDO = """
    SELECT 1 FROM history l WHERE l.memory_id = h.memory_id AND l.id > h.id
        AND l.undone_by IS NULL AND l.actor <> 'redo'
"""


def memory_history(store: Store, memory_id: str) -> list[Revision]:
    """All changes of a memory, the oldest first; also after it was deleted."""
    return _read(store, "memory_id", memory_id)


def exchange_history(store: Store, key: str) -> list[Revision]:
    """All changes that one exchange made to memories, in their order."""
    return _read(store, "exchange_key", key)


def _read(store: Store, column: str, value: str) -> list[Revision]:
    query = f"SELECT * FROM history WHERE {column} = ? ORDER BY id"
    with store.snapshot() as connection:
        return [_revision(row) for row in connection.execute(query, [clean_text(value)])]


def changes_since(store: Store, since: datetime, scope: Scope, limit: int = 200) -> list[Revision]:
    """The changes that still count of the memories of exactly this owner from a moment on, the newest first.

    Undos and redos are not listed themselves, nor is what they have reverted.
    """
    where, values = rows.scope_condition(scope, exact=True)
    query = (
        f"SELECT h.* FROM history h JOIN owners o ON o.id = h.owner WHERE {where} AND h.at >= ? AND h.undone_by IS NULL"
        f" AND h.actor NOT IN {_REVERSALS} ORDER BY h.id DESC LIMIT ?"
    )
    with store.snapshot() as connection:
        return [_revision(row) for row in connection.execute(query, [*values, inputs.encode_time(since), limit])]


def undo_change(
    store: Store,
    embed: EmbedFunction,
    revision_id: int | None = None,
    *,
    memory_id: str | None = None,
    scope: Scope = Scope(),  # noqa: B008 - frozen
    owner_exact: bool = False,
) -> Revision:
    """Revert one change: the given one, or the newest in scope that was not undone.

    Args:
        revision_id: the number of the change in the history.
        memory_id: only changes of this memory.
        scope: whose changes; a None in it means any, or with `owner_exact` that the owner has none.

    Returns the new line of history, by the actor "undo".

    Raises:
        StoreError: there is nothing to undo in scope, or the memory has changed since.
    """
    line = _chosen(store, "undo", f"h.actor NOT IN {_REVERSALS}", revision_id, memory_id, scope, owner_exact)
    return _reverted(store, embed, line, "undo")


def redo_change(
    store: Store,
    embed: EmbedFunction,
    revision_id: int | None = None,
    *,
    memory_id: str | None = None,
    scope: Scope = Scope(),  # noqa: B008 - frozen
    owner_exact: bool = False,
) -> Revision:
    """Make a change again that was undone: the given undo, or the newest one in scope whose memory has not changed since.

    Args: as of `undo_change`; `revision_id` is the number of the undo's own line of history.

    Returns the new line of history, by the actor "redo". The change that was undone counts again.

    Raises:
        StoreError: there is nothing to redo in scope, or the memory has changed since.
    """
    redoable = f"h.actor = 'undo' AND NOT EXISTS ({_LATER_THAN_UNDO})"
    line = _chosen(store, "redo", redoable, revision_id, memory_id, scope, owner_exact)
    return _reverted(store, embed, line, "redo")


_NOTHING_LEFT = {
    "undo": "there is nothing to undo: no change is left that was not undone",
    "redo": "there is nothing to redo; only a change that was undone, and not changed since, can be made again: undo one first",
}


def _chosen(
    store: Store,
    verb: Literal["undo", "redo"],
    condition: str,
    revision_id: int | None,
    memory_id: str | None,
    scope: Scope,
    owner_exact: bool,
) -> sqlite3.Row:
    """The given line of history, or the newest in scope that meets the condition and was not reverted."""
    where, values = rows.scope_condition(scope, exact=owner_exact)
    if memory_id is not None:
        where, values = f"{where} AND h.memory_id = ?", [*values, clean_text(memory_id)]
    query = f"SELECT h.* FROM history h JOIN owners o ON o.id = h.owner WHERE {where}"
    with store.snapshot() as connection:
        if revision_id is None:
            newest = f"{query} AND h.undone_by IS NULL AND {condition} ORDER BY h.id DESC LIMIT 1"
            line = connection.execute(newest, values).fetchone()
        elif not 0 < revision_id < 2**63:  # more than an integer of SQLite holds
            line = None
        else:
            line = connection.execute(f"{query} AND h.id = ?", [*values, revision_id]).fetchone()
    if line is None:
        raise StoreError(_NOTHING_LEFT[verb] if revision_id is None else f"no change has the number {revision_id}")
    return cast(sqlite3.Row, line)


def _reverted(store: Store, embed: EmbedFunction, line: sqlite3.Row, actor: Literal["undo", "redo"]) -> Revision:
    vector = None
    if line["event"] != "ADD":  # embedded before the database is locked, because it can take long
        [vector] = inputs.checked_vectors(embed([line["old_text"]]), 1, store.embedding)
    with store.transaction() as transaction:
        number = _revert(transaction, line["id"], vector, actor)
        return _revision(transaction.connection.execute("SELECT * FROM history WHERE id = ?", [number]).fetchone())


def _revert(transaction: Transaction, number: int, vector: Vector | None, actor: Literal["undo", "redo"]) -> int:
    """Write the inverse of a line of history. Returns the number of its own line."""
    execute = transaction.connection.execute
    line = execute("SELECT * FROM history h WHERE h.id = ?", [number]).fetchone()
    if line is None:
        raise StoreError(f"no change has the number {number}")
    if actor == "undo" and (line["undone_by"] or line["actor"] in ("undo", "redo")):
        raise StoreError(f"change {number} cannot be undone: it was already undone, or is itself an undo or a redo")
    if actor == "redo" and (line["undone_by"] or line["actor"] != "undo"):
        raise StoreError(f"change {number} cannot be redone: it was already redone, or is not an undo")
    current = rows.read_memory(transaction.connection, line["memory_id"])
    later = _LATER_CHANGE if actor == "undo" else _LATER_THAN_UNDO
    is_newest = execute(f"SELECT 1 FROM history h WHERE h.id = ? AND EXISTS ({later})", [number]).fetchone() is None
    if not is_newest or (current and current.text) != line["new_text"]:
        hint = "undo its later changes first" if actor == "undo" else "so the undo can no longer be taken back"
        raise StoreError(f"memory {line['memory_id']} has changed since; {hint}")

    if line["event"] == "ADD":
        assert current is not None
        reversal = transaction.remove(current, None, actor)
    else:
        assert vector is not None
        state = json.loads(line["before"])
        before = rows.memory_from_json(state)
        if "message" not in state:  # of before messages were searched
            row = messages.source_message(transaction.connection, before.exchange_key, before.text)
            before = replace(before, message=messages.message_key(transaction.connection, row))
        if current is None:
            transaction.insert_memory(before, vector)
        else:
            transaction.overwrite_memory(before, vector)
        reversal = transaction.record_history("UPDATE" if current else "ADD", current, before, None, actor)
    execute("UPDATE history SET undone_by = ? WHERE id = ?", [reversal, number])
    if actor == "redo":
        execute("UPDATE history SET undone_by = NULL WHERE undone_by = ?", [number])
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
