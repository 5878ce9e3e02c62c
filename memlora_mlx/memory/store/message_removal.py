"""Take messages out of a store, or words out of messages, with their vectors and their words in the full-text index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from memlora_mlx.memory.store.messages import (
    OWNER_BITS,
    drop_vectors,
    message_row,
    owner_rows,
    remove_words,
    words_of,
)


def remove_owners(connection: sqlite3.Connection, owners: Sequence[int], revision: int) -> None:
    """Remove the messages of owners and every trace of their words; their exchanges are still there."""
    for owner in owners:
        connection.execute(
            "INSERT INTO message_tombstones SELECT id, owner, ? FROM indexed_messages WHERE owner = ?",
            [revision, owner],
        )
        connection.execute("DELETE FROM message_words WHERE rowid BETWEEN ? AND ?", owner_rows(owner))
        connection.execute("DELETE FROM indexed_messages WHERE owner = ?", [owner])
    # FTS5 only marks deleted words as deleted, until parts of its index are merged.
    connection.execute("INSERT INTO message_words (message_words) VALUES ('optimize')")


def remove_messages(connection: sqlite3.Connection, chosen: Iterable[tuple[int, int]], revision: int) -> list[int]:
    """Remove messages, given as (exchange, position), with their words and vectors.

    Returns the rows of memories that came from one of them and now need words of their own; see `refresh_facts`.
    """
    alone: list[int] = []
    for exchange, position in sorted(chosen):
        place = [exchange, position]
        row = connection.execute(
            "SELECT id, owner, previous FROM indexed_messages WHERE exchange = ? AND position = ?", place
        ).fetchone()
        if row is not None:
            alone += [m[0] for m in connection.execute("SELECT id FROM memories WHERE message = ?", [row["id"]])]
            connection.execute(
                "INSERT OR REPLACE INTO message_tombstones VALUES (?, ?, ?)", [row["id"], row["owner"], revision]
            )
            remove_words(connection, message_row(row["owner"], row["id"]))
            connection.execute(
                "UPDATE message_words SET before = '' WHERE rowid IN (SELECT (owner << ?) | (id << 1) FROM indexed_messages"
                " WHERE previous = ?)",
                [OWNER_BITS, row["id"]],
            )
            connection.execute(
                "UPDATE indexed_messages SET previous = ?, revision = ? WHERE previous = ?",
                [row["previous"], revision, row["id"]],
            )
        connection.execute("DELETE FROM messages WHERE exchange = ? AND position = ?", place)
        if row is not None and row["previous"] is not None:
            _refresh_neighbours(connection, row["owner"], row["previous"])
    return alone


def replace_texts(connection: sqlite3.Connection, texts: Mapping[tuple[int, int], str], revision: int) -> None:
    """Give messages, by (exchange, position), other texts. They are embedded again when there is an embedder."""
    for (exchange, position), text in texts.items():
        connection.execute(
            "UPDATE messages SET text = ? WHERE exchange = ? AND position = ?", [text, exchange, position]
        )
        row = connection.execute(
            "SELECT id, owner, previous FROM indexed_messages WHERE exchange = ? AND position = ?", [exchange, position]
        ).fetchone()
        if row is None:
            continue
        drop_vectors(connection, [row["id"]], revision)
        connection.execute("UPDATE indexed_messages SET revision = ? WHERE previous = ?", [revision, row["id"]])
        connection.execute(
            "UPDATE message_words SET text = ? WHERE rowid = ?",
            [words_of(connection, row["id"]), message_row(row["owner"], row["id"])],
        )
        _refresh_neighbours(connection, row["owner"], row["id"])
        if row["previous"] is not None:
            _refresh_neighbours(connection, row["owner"], row["previous"])


def _refresh_neighbours(connection: sqlite3.Connection, owner: int, message: int) -> None:
    """Bring the words that a message and those behind it have of each other up to date."""
    following = [
        row[0]
        for row in connection.execute("SELECT id FROM indexed_messages WHERE previous = ? ORDER BY id", [message])
    ]
    for row in following:
        connection.execute(
            "UPDATE message_words SET before = ? WHERE rowid = ?",
            [words_of(connection, message), message_row(owner, row)],
        )
    after = words_of(connection, following[0]) if following else ""
    connection.execute("UPDATE message_words SET after = ? WHERE rowid = ?", [after, message_row(owner, message)])
