"""Exchanges in a write transaction: store one with its messages, delete some, and delete all of some owners."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import Vector
from memlora_mlx.memory.store import message_removal, messages, rows, turn_words
from memlora_mlx.memory.store.transactions import Transaction
from memlora_mlx.records import Exchange, Scope
from memlora_mlx.text import clean_text


def insert_if_new(transaction: Transaction, exchange: Exchange, vectors: Sequence[Vector] | None = None) -> bool:
    """Store an exchange, as `insert_exchange` does, unless it is stored already. Returns whether it was new."""
    if rows.stored_keys(transaction.connection, [exchange.key]):
        transaction.referenced_images |= {m.image.sha256 for m in exchange.messages if m.image and m.image.sha256}
        return False
    insert_exchange(transaction, exchange, vectors)
    return True


def insert_exchange(transaction: Transaction, exchange: Exchange, vectors: Sequence[Vector] | None = None) -> None:
    """The source messages, and with them the mark that this exchange is done.

    Args:
        vectors: of the messages; without them they are found by their words only, until `embed_messages`.
    """
    connection = transaction.connection
    speakers = (message.speaker for message in exchange.messages if message.role == "user")
    owner = transaction.owner_row(exchange.owner, next(filter(None, speakers), None))
    row = connection.execute(
        "INSERT INTO exchanges (key, owner, source, position, said_at) VALUES (?, ?, ?, ?, ?)",
        [
            clean_text(exchange.key),
            owner,
            clean_text(exchange.source),
            exchange.position,
            inputs.encode_time(exchange.said_at),
        ],
    ).lastrowid
    connection.executemany(
        """
        INSERT INTO messages (exchange, position, role, speaker, text, said_at, ref, image)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """,
        [
            [
                row,
                position,
                message.role,
                message.speaker and clean_text(message.speaker),
                clean_text(message.text),
                inputs.encode_time(message.said_at),
                message.ref and clean_text(message.ref),
                transaction.image_row(message.image),
            ]
            for position, message in enumerate(exchange.messages)
        ],
    )
    assert row is not None
    indexed = messages.index_exchange(connection, row, transaction.revision)
    if vectors is not None:
        checked = inputs.checked_vectors(np.asarray(vectors), len(indexed), transaction.embedding)
        messages.put_vectors(connection, zip(indexed, checked, strict=True), transaction.revision)


def delete_exchanges(transaction: Transaction, keys: Sequence[str]) -> None:
    """Delete the exchanges with these keys, and release the images in them. Keys of none are passed over."""
    execute = transaction.connection.execute
    chosen = "SELECT id FROM exchanges WHERE key IN (SELECT value FROM json_each(?))"
    given = [json.dumps([clean_text(key) for key in keys])]
    found = execute(
        "SELECT DISTINCT i.sha256 FROM messages g JOIN images i ON i.id = g.image"
        f" WHERE i.sha256 IS NOT NULL AND g.exchange IN ({chosen})",
        given,
    )
    transaction.released_images |= {row["sha256"] for row in found}
    numbers = [row["id"] for row in execute(chosen, given)]
    said = execute(
        "SELECT exchange, position FROM messages WHERE exchange IN (SELECT value FROM json_each(?))",
        [json.dumps(numbers)],
    ).fetchall()
    alone = message_removal.remove_messages(
        transaction.connection, [(row["exchange"], row["position"]) for row in said], transaction.revision
    )
    execute("DELETE FROM exchanges WHERE id IN (SELECT value FROM json_each(?))", [json.dumps(numbers)])
    messages.refresh_facts(transaction.connection, (), alone)
    # FTS5 only marks deleted words as deleted, until parts of its index are merged.
    execute("INSERT INTO message_words (message_words) VALUES ('optimize')")


def delete_conversations(transaction: Transaction, scope: Scope) -> None:
    """Delete the exchanges and the chat's conversations of every owner in scope, and release the images in them."""
    execute = transaction.connection.execute
    where, values = rows.scope_condition(scope)
    owners = f"SELECT o.id FROM owners o WHERE {where}"
    found = execute(
        "SELECT DISTINCT i.sha256 FROM exchanges x JOIN messages g ON g.exchange = x.id"
        f" JOIN images i ON i.id = g.image WHERE i.sha256 IS NOT NULL AND x.owner IN ({owners})",
        values,
    )
    transaction.released_images |= {row["sha256"] for row in found}
    chosen = [row[0] for row in execute(owners, values)]
    message_removal.remove_owners(transaction.connection, chosen, transaction.revision)
    execute(f"DELETE FROM exchanges WHERE owner IN ({owners})", values)
    execute(f"DELETE FROM conversations WHERE owner IN ({owners})", values)
    turn_words.remove_orphans(transaction.connection)
    execute("UPDATE sources SET finished_at = NULL WHERE name NOT IN (SELECT source FROM exchanges)")
