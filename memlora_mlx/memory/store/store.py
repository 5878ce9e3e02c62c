"""The memory store: memories, their exchanges and embeddings in one SQLite file, and the vector indexes beside it.

All data is in `<folder>/memories.db`. `<folder>/indexes/` is a cache and can be deleted at any time; `<folder>/images/`
holds the images. This module reads, searches and commits. History and undo, export and import, checks and repair, and
upkeep are modules of their own, whose functions take a `Store`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import StoreError
from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import (
    Add,
    AppliedChange,
    Change,
    Delete,
    EmbeddingFingerprint,
    EmbedFunction,
    Owner,
    SortOrder,
    Source,
    Update,
    Vector,
)
from memlora_mlx.memory.retrieval.conditions import expiry, ranges
from memlora_mlx.memory.retrieval.filters import Condition, all_of, from_filters, not_expired
from memlora_mlx.memory.retrieval.index import EXACT_LIMIT
from memlora_mlx.memory.retrieval.indexes import OwnerIndexes
from memlora_mlx.memory.retrieval.search import nearest
from memlora_mlx.memory.retrieval.tables import MEMORIES, MESSAGES
from memlora_mlx.memory.store import full_text, meta, rows
from memlora_mlx.memory.store.backups import DailyBackups
from memlora_mlx.memory.store.converting import finish_conversion
from memlora_mlx.memory.store.database import BUSY_SECONDS, Database
from memlora_mlx.memory.store.exchanges import delete_conversations, insert_if_new
from memlora_mlx.memory.store.images import ImageStore, erase_released_images
from memlora_mlx.memory.store.keys import DATABASE
from memlora_mlx.memory.store.owner_indexes import current_indexes
from memlora_mlx.memory.store.transactions import Transaction
from memlora_mlx.records import Exchange, MemoryRecord, Neighbour, Scope

__all__ = [
    "Add",
    "AppliedChange",
    "Change",
    "Delete",
    "EmbedFunction",
    "EmbeddingFingerprint",
    "Owner",
    "Source",
    "Store",
    "Update",
    "utc_now",
]

_ANY = Scope()
MAX_ROW_ID = 2**63 - 1  # the largest integer of SQLite
_ORDERS: Mapping[SortOrder, str] = {
    "newest": "coalesce(m.said_at, m.stored_at) DESC, m.id DESC",
    "oldest": "coalesce(m.said_at, m.stored_at), m.id",
    "stored": "m.id",
    "changed": "coalesce(m.changed_at, m.stored_at) DESC, m.id DESC",
}


def utc_now() -> datetime:
    return datetime.now(UTC)


class Store:
    """A memory store. It can be used from several threads, and its folder from several processes.

    Every method can raise StoreBusy (another process has been writing for `busy_seconds`), StoreBroken (the file is
    damaged) and, when it writes, StoreFull and StoreReadOnly. A call that failed has changed nothing.

    Args:
        embedding: the embedder that makes the vectors.
        any_embedding: open the store even if it holds vectors of another embedder, to repair it.
        exact_limit: up to this number of memories of one owner, a search compares all of them.
        daily_backups: make a backup when the store is opened, and before the first write of each further day.

    Raises:
        StoreError: there is no store and `create` is False, or it holds vectors of another embedder.
        StoreTooNew: a newer version of memlora wrote it.
    """

    def __init__(
        self,
        folder: Path,
        embedding: EmbeddingFingerprint,
        *,
        clock: Callable[[], datetime] = utc_now,
        create: bool = True,
        any_embedding: bool = False,
        exact_limit: int = EXACT_LIMIT,
        keep_location: bool = False,
        daily_backups: bool = False,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self.folder, self.expected_embedding, self.clock = folder, embedding, clock
        self.database = Database(folder / DATABASE, create=create, busy_seconds=busy_seconds)
        self._backups = DailyBackups(self.database, is_on=daily_backups)
        try:
            sealer = finish_conversion(self.database)
            self.indexes, self.message_indexes = (
                OwnerIndexes(
                    folder / "indexes", exact_limit, table, sealer, lambda: meta.reading(self.database, self.embedding)
                )
                for table in (MEMORIES, MESSAGES)
            )
            self.images = ImageStore(folder / "images", keep_location=keep_location, sealer=sealer)
            self.embedding = meta.stored_embedding(self.database, embedding)
            if not any_embedding:
                meta.check_embedding(self.embedding, embedding, folder)
            if not self.database.read_only:
                full_text.fill_if_outdated(self.database)
            self._backups.make_if_due(self.clock())
        except BaseException:
            self.database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Save the indexes and close the file. Can be called twice."""
        with contextlib.closing(self.database):
            for indexes in (self.indexes, self.message_indexes):
                indexes.close(keep=not self.database.read_only)

    # Writing

    def commit(
        self,
        owner: Scope,
        changes: Sequence[Change],
        *,
        exchange: Exchange | None = None,
        message_vectors: Sequence[Vector] | None = None,
        actor: str = "model",
    ) -> list[AppliedChange] | None:
        """Store an exchange with the changes that it leads to, in one transaction: all of it, or nothing.

        Args:
            message_vectors: of the exchange's messages, in order; without them the messages are found by their words
                alone, until `upkeep.embed_messages`.

        Returns the results of the changes, in order; None if the exchange was already stored: then nothing is written.
        A change to a memory that is gone, or that another owner has, is rejected, and its result says so.

        Raises:
            StoreError: a vector of another embedder, or metadata that is not JSON.
            WriteConflict: a memory no longer has the text that a change was decided on (`expected_text`).
        """
        owner = inputs.clean_scope(owner)
        if exchange is not None and inputs.clean_scope(exchange.owner) != owner:
            raise StoreError(f"exchange {exchange.key} belongs to {exchange.owner}, not to {owner}")
        with self.transaction() as transaction:
            if exchange is not None and not insert_if_new(transaction, exchange, message_vectors):
                return None
            applied = (
                transaction.apply(owner, change, str(number), exchange, actor) for number, change in enumerate(changes)
            )
            return [one for of_change in applied for one in of_change]

    def revise(
        self,
        memory_id: str,
        text: str,
        vector: Vector,
        *,
        metadata: Mapping[str, Any] | None = None,
        actor: str = "user",
    ) -> MemoryRecord:
        """Give a memory a new text. Raises MemoryNotFound."""
        with self.transaction() as transaction:
            old = rows.require_memory(transaction.connection, memory_id)
            transaction.update(old, Update(old.id, text, vector, transaction.now, metadata), None, actor)
            return rows.require_memory(transaction.connection, memory_id)

    def delete(self, memory_id: str, *, actor: str = "user") -> MemoryRecord:
        """Returns the memory as it was. Raises MemoryNotFound."""
        with self.transaction() as transaction:
            memory = rows.require_memory(transaction.connection, memory_id)
            transaction.remove(memory, None, actor)
            return memory

    def delete_all(self, scope: Scope, *, actor: str = "user") -> int:
        """Delete the memories of every owner in scope and the conversations they came from, which can then be read again.

        The history stays, so each memory can be restored, without its conversation. Returns how many were deleted.
        """
        where, values = rows.scope_condition(scope)
        with self.transaction() as transaction:
            gone = rows.read_memories(transaction.connection, f"WHERE {where} ORDER BY m.id", values)
            for memory in gone:
                transaction.remove(memory, None, actor)
            delete_conversations(transaction, scope)
            return len(gone)

    # Reading

    def stored_exchanges(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys whose exchanges are stored."""
        with self.snapshot() as connection:
            return rows.stored_keys(connection, keys)

    def exchange(self, key: str) -> Exchange:
        """Raises StoreError: no exchange has this key."""
        with self.snapshot() as connection:
            return rows.require_exchange(connection, key)

    def get(self, memory_id: str) -> MemoryRecord | None:
        with self.snapshot() as connection:
            return rows.read_memory(connection, memory_id)

    def count(
        self, scope: Scope = _ANY, filters: Mapping[str, Any] | None = None, *, show_expired: bool = False
    ) -> int:
        where = _condition(scope, filters, expiry(self.clock(), show_expired))
        with self.snapshot() as connection:
            found = connection.execute(f"SELECT count(*) {MEMORIES.rows} WHERE {where.sql}", where.values)
            return int(found.fetchone()[0])

    def search(
        self,
        vector: Vector,
        limit: int,
        *,
        scope: Scope = _ANY,
        owner_exact: bool = False,
        filters: Mapping[str, Any] | None = None,
        said_after: datetime | None = None,
        said_before: datetime | None = None,
        source: str | None = None,
        show_expired: bool = False,
    ) -> list[Neighbour]:
        """The nearest memories by Euclidean distance, nearest first; at the same distance, the older row first.

        Only memories and their vectors; `search.hits.find_hits` searches what was said, too.

        Args:
            vector: unit length, shape (dim,).
            scope: a None in it means any; with `owner_exact` it means that the owner has none.
            said_after, said_before: from the first on, and before the second.
            source: the conversation they came from.

        Raises:
            StoreError: a vector of another embedder.
            UsageError: see `filters`.
        """
        query = inputs.checked_vector(np.asarray(vector), self.embedding)
        with self.indexes.lock, self.snapshot() as connection:
            position = meta.read_revision(connection, self.embedding, self.folder)
            [indexes] = current_indexes(connection, position, [scope], owner_exact, self.indexes)
            found = nearest(
                connection,
                indexes,
                query,
                max(0, limit),
                common=expiry(self.clock(), show_expired),
                indexed=ranges(source, said_after, said_before),
                filters=from_filters(filters),
            )
            return rows.read_neighbours(connection, found)

    def search_many(self, vectors: Iterable[NDArray[np.float32]], limit: int, owner: Scope) -> list[list[Neighbour]]:
        """For each vector, the nearest memories of exactly this owner that have not expired."""
        queries = [inputs.checked_vector(np.asarray(vector), self.embedding) for vector in vectors]
        common = not_expired(self.clock())
        with self.indexes.lock, self.snapshot() as connection:
            position = meta.read_revision(connection, self.embedding, self.folder)
            [indexes] = current_indexes(connection, position, [owner], True, self.indexes)
            found = (nearest(connection, indexes, query, max(0, limit), common=common) for query in queries)
            return [rows.read_neighbours(connection, each) for each in found]

    def snapshot(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """A read transaction."""
        return self.database.read()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A write transaction: kept whole, or not at all."""
        self._backups.make_if_due(self.clock())
        with self.database.write() as connection:
            meta.read_revision(connection, self.embedding, self.folder)
            transaction = Transaction(connection, self.embedding, self.clock())
            yield transaction
            transaction.finish()
        erase_released_images(
            self.images, self.database, self.clock(), transaction.referenced_images, transaction.released_images
        )

    # Last: below it `list` is this method and no longer the type

    def list(
        self,
        scope: Scope = _ANY,
        filters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
        order: SortOrder = "newest",
        *,
        show_expired: bool = False,
    ) -> list[MemoryRecord]:
        """The memories in scope. "newest" and "oldest" use the time they were said, or else stored.

        Raises UsageError: see `filters`.
        """
        where = _condition(scope, filters, expiry(self.clock(), show_expired))
        tail = f"WHERE {where.sql} ORDER BY {_ORDERS[order]} LIMIT ? OFFSET ?"
        last = -1 if limit is None else min(max(0, limit), MAX_ROW_ID)
        with self.snapshot() as connection:
            return rows.read_memories(connection, tail, [*where.values, last, max(0, offset)])


def _condition(scope: Scope, filters: Mapping[str, Any] | None, expiry: Condition) -> Condition:
    where, values = rows.scope_condition(scope)
    return all_of(Condition(f"({where})", tuple(values)), from_filters(filters), expiry)
