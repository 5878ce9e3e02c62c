"""The people of a store: which conversations each comes from, and how the user puts right who is who."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from memlora_mlx.errors import StoreError
from memlora_mlx.memory.store import full_text
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.transactions import Transaction
from memlora_mlx.memory.store.upkeep import clear_indexes
from memlora_mlx.records import Scope
from memlora_mlx.text import clean_name


@dataclass(frozen=True, slots=True)
class Person:
    """An owner of memories with a user id."""

    user_id: str
    memories: int
    sources: tuple[str, ...]  # conversations


def list_people(store: Store) -> list[Person]:
    """Everybody who has memories or conversations, the oldest first."""
    query = """
        SELECT o.user_id, sum(o.memories) AS memories,
            (SELECT group_concat(source, char(0)) FROM (SELECT DISTINCT x.source FROM exchanges x
                JOIN owners p ON p.id = x.owner WHERE p.user_id = o.user_id ORDER BY 1)) AS sources
        FROM owners o WHERE o.user_id IS NOT NULL GROUP BY o.user_id ORDER BY min(o.id)
    """
    with store.snapshot() as connection:
        return [
            Person(row["user_id"], row["memories"], tuple(filter(None, (row["sources"] or "").split("\0"))))
            for row in connection.execute(query)
        ]


def known_person(store: Store, source: str, speaker: str) -> str | None:
    """The owner that a speaker of a conversation was given before."""
    with store.snapshot() as connection:
        row = connection.execute(
            "SELECT user_id FROM people WHERE source = ? AND speaker = ?", [clean_name(source), clean_name(speaker)]
        ).fetchone()
    return None if row is None else str(row["user_id"])


def owner_of_exchanges(store: Store, keys: Sequence[str]) -> str | None:
    """The owner of the first of these exchanges that is stored."""
    query = """
        SELECT o.user_id FROM exchanges x JOIN owners o ON o.id = x.owner
        WHERE x.key IN (SELECT value FROM json_each(?)) ORDER BY x.id LIMIT 1
    """
    with store.snapshot() as connection:
        row = connection.execute(query, [json.dumps(list(keys))]).fetchone()
    return None if row is None else row["user_id"]


def is_taken(store: Store, user_id: str, source: str, speaker: str) -> bool:
    """Whether an owner is somebody else than this speaker: with memories, or with a conversation to come."""
    values = [clean_name(user_id), clean_name(source), clean_name(speaker)]
    with store.snapshot() as connection:
        other = "SELECT 1 FROM people WHERE user_id = ? AND (source, speaker) <> (?, ?)"
        if connection.execute(other, values).fetchone():
            return True
        used = """
            SELECT 1 FROM owners o WHERE o.user_id = ? AND (o.memories > 0
                OR EXISTS (SELECT 1 FROM exchanges WHERE owner = o.id) OR EXISTS (SELECT 1 FROM history WHERE owner = o.id))
        """
        return connection.execute(used, values[:1]).fetchone() is not None


def record_person(store: Store, source: str, speaker: str, user_id: str) -> None:
    """Remember which owner a speaker of a conversation is; what is known already is not written again."""
    if known_person(store, source, speaker) == clean_name(user_id):
        return
    with store.transaction() as transaction:
        values = [clean_name(source), clean_name(speaker), clean_name(user_id)]
        transaction.connection.execute("INSERT OR REPLACE INTO people VALUES (?, ?, ?)", values)


def rename_person(store: Store, user_id: str, new: str) -> None:
    """Give a person another name. Raises StoreError: there is no such person, or the name is somebody's."""
    new = clean_name(new)
    with store.transaction() as transaction:
        _require(transaction.connection, user_id)
        if not new or transaction.connection.execute("SELECT 1 FROM owners WHERE user_id = ?", [new]).fetchone():
            raise StoreError(f"{new!r} is somebody already; `memlora people merge` makes two people one")
        transaction.connection.execute("UPDATE owners SET user_id = ? WHERE user_id = ?", [new, user_id])
        _renamed(transaction.connection, user_id, new)


def merge_people(store: Store, user_id: str, into: str) -> int:
    """Make two people one: all that the first has is the second's. Returns how many memories that were.

    Raises StoreError: one of them is not there.
    """
    if user_id == into:
        raise StoreError(f"{user_id!r} and {into!r} are the same person; name two people")
    with store.transaction() as transaction:
        connection = transaction.connection
        _require(connection, into)
        count = 0
        for row in _require(connection, user_id):
            target = transaction.owner_row(Scope(into, row["agent_id"], row["run_id"]))
            count += _move(transaction, row["id"], target, "1", [])
            connection.execute("DELETE FROM owners WHERE id = ?", [row["id"]])
        _renamed(connection, user_id, into)
        full_text.fill(connection, transaction.revision)
    clear_indexes(store)
    return count


def split_person(store: Store, user_id: str, source: str, new: str) -> int:
    """Make a new person of what somebody has from one conversation. Returns how many memories that were.

    Raises StoreError: there is no such person or conversation, or the new name is somebody's.
    """
    new, source = clean_name(new), clean_name(source)
    with store.transaction() as transaction:
        connection = transaction.connection
        owners = _require(connection, user_id)
        if not new or connection.execute("SELECT 1 FROM owners WHERE user_id = ?", [new]).fetchone():
            raise StoreError(f"{new!r} is somebody already; choose another name")
        ids = [row["id"] for row in owners]
        marks = ",".join("?" * len(ids))
        found = f"SELECT 1 FROM exchanges WHERE source = ? AND owner IN ({marks})"
        if connection.execute(found, [source, *ids]).fetchone() is None:
            raise StoreError(f"{user_id} has nothing from {source!r}; `memlora people list` shows who has what")
        count = 0
        for row in owners:
            target = transaction.owner_row(Scope(new, row["agent_id"], row["run_id"]))
            count += _move(transaction, row["id"], target, "x.source = ?", [source])
        connection.execute("UPDATE people SET user_id = ? WHERE user_id = ? AND source = ?", [new, user_id, source])
        full_text.fill(connection, transaction.revision)
    clear_indexes(store)
    return count


def _require(connection: sqlite3.Connection, user_id: str) -> list[sqlite3.Row]:
    found = connection.execute("SELECT * FROM owners WHERE user_id = ? ORDER BY id", [user_id]).fetchall()
    if not found:
        raise StoreError(f"there is nobody called {user_id!r}; `memlora people list` shows who there is")
    return found


def _move(transaction: Transaction, owner: int, target: int, where: str, values: list[str]) -> int:
    """Give one owner's exchanges that meet a condition over `x`, with what came from them, to another owner."""
    connection, revision = transaction.connection, transaction.revision
    is_all = where == "1"
    exchanges = f"SELECT x.id FROM exchanges x WHERE x.owner = ? AND {where}"
    keys = f"SELECT x.key FROM exchanges x WHERE x.owner = ? AND {where}"
    memories = "owner = ?" if is_all else f"owner = ? AND exchange IN ({exchanges})"
    given: list[object] = [owner] if is_all else [owner, owner, *values]
    # By the changes of an exchange, and all earlier and later ones of the memories that it made.
    histories = (
        "owner = ?"
        if is_all
        else f"owner = ? AND (exchange_key IN ({keys}) OR memory_id IN (SELECT public_id FROM memories WHERE {memories}))"
    )
    history_given = given if is_all else [owner, owner, *values, *given]
    _set_history_owner(connection, histories, history_given, target)
    count = connection.execute(
        f"UPDATE memories SET owner = ?, revision = ? WHERE {memories}", [target, revision, *given]
    ).rowcount
    connection.execute(
        f"UPDATE indexed_messages SET owner = ?, revision = ? WHERE owner = ? AND exchange IN ({exchanges})",
        [target, revision, owner, owner, *values],
    )
    connection.execute(f"UPDATE exchanges SET owner = ? WHERE id IN ({exchanges})", [target, owner, *values])
    for each in (owner, target):
        connection.execute(
            """
            UPDATE owners SET memories = (SELECT count(*) FROM memories WHERE owner = owners.id),
                messages = (SELECT count(*) FROM indexed_messages WHERE owner = owners.id AND is_embedded)
            WHERE id = ?
            """,
            [each],
        )
    return count


def _set_history_owner(connection: sqlite3.Connection, where: str, values: list[object], target: int) -> None:
    connection.execute(
        f"""
        UPDATE history SET owner = ?, before = CASE WHEN before IS NULL THEN NULL ELSE
            json_set(before, '$.owner.user_id', (SELECT user_id FROM owners WHERE id = ?)) END
        WHERE {where}
        """,
        [target, target, *values],
    )


def _renamed(connection: sqlite3.Connection, user_id: str, new: str) -> None:
    """Bring what names a person up to date: conversations to come, and what an undo would restore."""
    connection.execute("UPDATE people SET user_id = ? WHERE user_id = ?", [new, user_id])
    connection.execute(
        "UPDATE history SET before = json_set(before, '$.owner.user_id', ?) WHERE json_extract(before, '$.owner.user_id') = ?",
        [new, user_id],
    )
