"""The memory store: what is remembered, in one SQLite file, found again through the vector indexes beside it.

`<folder>/memories.db` is the truth; `<folder>/indexes/` can be deleted at any time; pictures are in `<folder>/images/`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import MemoryNotFound, StoreError
from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import (
    Add,
    AppliedChange,
    Change,
    Delete,
    EmbeddingFingerprint,
    EmbedFunction,
    ImportResult,
    Owner,
    SortOrder,
    Source,
    Update,
    Vector,
)
from memlora_mlx.memory.retrieval.filters import Condition, all_of, from_filters, not_expired, said_between
from memlora_mlx.memory.retrieval.index import EXACT_LIMIT, OwnerIndex, OwnerIndexes, StoreRevision
from memlora_mlx.memory.retrieval.search import FROM, nearest
from memlora_mlx.memory.store import export_import, history, integrity, rows, sources
from memlora_mlx.memory.store.database import BUSY_SECONDS, Database
from memlora_mlx.memory.store.images import ImageStore, erase_released_images
from memlora_mlx.memory.store.transactions import Transaction
from memlora_mlx.records import Exchange, Hit, MemoryRecord, Revision, Scope

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

MAX_ROW_ID = 2**63 - 1  # that SQLite can count
_ORDERS: Mapping[SortOrder, str] = {
    "newest": "coalesce(m.said_at, m.stored_at) DESC, m.id DESC",
    "oldest": "coalesce(m.said_at, m.stored_at), m.id",
    "stored": "m.id",
    "changed": "coalesce(m.changed_at, m.stored_at) DESC, m.id DESC",
}


def utc_now() -> datetime:
    return datetime.now(UTC)


class Store:
    """A memory store. It may be used from several threads, and its folder from several processes.

    Every method can raise the StoreError that its name says: StoreBusy (another process has been writing for `busy_seconds`),
    StoreFull and StoreReadOnly (writing), StoreBroken (the file is damaged). What a failed call did is undone as a whole.

    Args:
        embedding: the fingerprint of the vectors it will be given.
        any_embedding: open it even where it holds vectors of another embedder, to mend it; `embedding` is then what it has.
        exact_limit: memories of one owner up to which every search looks at all of them.

    Raises:
        StoreError: no store is there and `create` is False, or it holds vectors of another space.
        StoreTooNew: a newer memlora wrote it.
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
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self.folder = folder
        self.expected_embedding = embedding
        self.clock = clock
        self.database = Database(folder / "memories.db", create=create, busy_seconds=busy_seconds)
        self.indexes = OwnerIndexes(folder / "indexes", exact_limit)
        self.images = ImageStore(folder / "images", keep_location=keep_location)
        try:
            self.embedding = self._stored_embedding(embedding)
            if self.embedding != embedding and not any_embedding:
                raise StoreError(
                    f"the store in {folder} was made with {self.embedding}, not {embedding};"
                    " use that embedder, or embed it again with `memlora doctor --repair`"
                )
        except BaseException:
            self.database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def read_only(self) -> bool:
        return self.database.read_only

    def close(self) -> None:
        """Save the indexes and let go of the file. May be called twice."""
        if not self.read_only:
            self.indexes.save()
        self.database.close()

    # Writing

    def commit(
        self, owner: Scope, changes: Sequence[Change], *, exchange: Exchange | None = None, actor: str = "model"
    ) -> list[AppliedChange] | None:
        """Source messages, memories, history and the mark that this exchange is done: all of it, or nothing.

        Returns what became of each change, in order; None if the exchange was done before: nothing is then written.
        A change to a memory that is gone, or another owner's, is rejected and says so.

        Raises:
            StoreError: a vector of another space, or metadata that is not JSON.
            WriteConflict: a memory says something else than what a change was decided on (`expected_text`); nothing is written.
        """
        owner = inputs.clean_scope(owner)
        if exchange is not None and inputs.clean_scope(exchange.owner) != owner:
            raise StoreError(f"exchange {exchange.key} belongs to {exchange.owner}, not to {owner}")
        with self.transaction() as transaction:
            if exchange is not None and self._done(transaction.connection, [exchange.key]):
                transaction.referenced_images |= {
                    m.image.sha256 for m in exchange.messages if m.image and m.image.sha256
                }
                return None
            if exchange is not None:
                transaction.insert_exchange(exchange)
            return [transaction.apply(owner, change, number, exchange, actor) for number, change in enumerate(changes)]

    def revise(
        self,
        memory_id: str,
        text: str,
        vector: Vector,
        *,
        metadata: Mapping[str, Any] | None = None,
        actor: str = "user",
    ) -> MemoryRecord:
        """Give a memory new words. Raises MemoryNotFound."""
        with self.transaction() as transaction:
            old = self._require_memory(transaction.connection, memory_id)
            transaction.update(old, Update(old.id, text, vector, transaction.now, metadata), None, actor)
            return self._require_memory(transaction.connection, memory_id)

    def delete(self, memory_id: str, *, actor: str = "user") -> None:
        """Raises MemoryNotFound."""
        with self.transaction() as transaction:
            transaction.remove(self._require_memory(transaction.connection, memory_id), None, actor)

    def delete_all(self, scope: Scope, *, actor: str = "user") -> int:
        """Delete the memories of every owner in scope, and the conversations they came from, which can then be read again.

        The history stays, and each memory can be brought back by `undo`, without its conversation. Returns their number.
        """
        where, values = rows.scope_condition(scope)
        with self.transaction() as transaction:
            gone = rows.read_memories(transaction.connection, f"WHERE {where} ORDER BY m.id", values)
            for memory in gone:
                transaction.remove(memory, None, actor)
            sources.delete_exchanges(transaction, f"SELECT o.id FROM owners o WHERE {where}", values)
            return len(gone)

    def reset(self) -> None:
        """Forget everything, history too, and leave no trace of it in the file."""
        with self.transaction() as transaction:
            for table in ("history", "tombstones", "memories", "exchanges", "images", "sources", "owners"):
                transaction.connection.execute(f"DELETE FROM {table}")
            _ = transaction.revision  # other processes' indexes see that something happened
        self.indexes.clear()
        self.images.clear()
        self.database.compact()

    def undo(self, embed: EmbedFunction, revision_id: int | None = None, *, owner: Scope | None = None) -> Revision:
        """Take back one change: the given line of history, or the newest that still stands, of this owner if one is given.

        Returns the new line of history, by the actor "undo".

        Raises:
            StoreError: there is nothing to undo, or the memory has changed since.
        """
        return history.undo_change(self, embed, revision_id, None if owner is None else inputs.clean_scope(owner))

    def mark_source(self, name: str, kind: str, exchanges: int, *, finished: bool = False) -> None:
        """Note that a conversation is being read in, or that it has been."""
        with self.transaction() as transaction:
            sources.mark_source(transaction, name, kind, exchanges, finished)

    # Reading

    def stored_exchanges(self, keys: Iterable[str]) -> set[str]:
        """Those exchanges that were committed before."""
        with self.snapshot() as connection:
            return self._done(connection, keys)

    def exchange(self, key: str) -> Exchange:
        """Raises StoreError: no exchange of that key was committed."""
        with self.snapshot() as connection:
            found = rows.read_exchange(connection, key)
        if found is None:
            raise StoreError(f"the store has no exchange {key}")
        return found

    def get(self, memory_id: str) -> MemoryRecord | None:
        with self.snapshot() as connection:
            return rows.read_memory(connection, memory_id)

    def resolve_id(self, beginning: str) -> str:
        """The id that begins so, of a memory that is or was here. Raises MemoryNotFound: none does, or several do."""
        with self.snapshot() as connection:
            found = connection.execute(
                "SELECT id FROM (SELECT public_id AS id FROM memories UNION SELECT memory_id FROM history)"
                " WHERE substr(id, 1, length(:b)) = :b ORDER BY id LIMIT 3",
                {"b": beginning},
            ).fetchall()
        if beginning and len(found) == 1:
            return str(found[0]["id"])
        if beginning in [row["id"] for row in found]:
            return beginning
        raise MemoryNotFound(
            f"several memories have ids that begin with {beginning!r}; give more of it"
            if found and beginning
            else f"no memory has the id {beginning!r}; `memlora memory list` shows them"
        )

    def find_by_prefix(self, beginning: str) -> MemoryRecord:
        """The memory whose id begins so. Raises MemoryNotFound."""
        memory = self.get(self.resolve_id(beginning))
        if memory is None:
            raise MemoryNotFound(f"the memory {beginning} was deleted; `memlora memory undo` can bring it back")
        return memory

    def count(
        self,
        scope: Scope = Scope(),  # noqa: B008 - frozen
        filters: Mapping[str, Any] | None = None,
        *,
        show_expired: bool = False,
    ) -> int:
        where = self._condition(scope, filters, show_expired)
        with self.snapshot() as connection:
            return int(connection.execute(f"SELECT count(*) {FROM} WHERE {where.sql}", where.values).fetchone()[0])

    def owners(self) -> list[Owner]:
        with self.snapshot() as connection:
            return sources.list_owners(connection)

    def sources(self) -> list[Source]:
        with self.snapshot() as connection:
            return sources.list_sources(connection)

    def history(self, memory_id: str) -> list[Revision]:
        """All that ever happened to a memory, oldest first; also after it was deleted."""
        with self.snapshot() as connection:
            return history.memory_history(connection, memory_id)

    def exchange_changes(self, exchange_key: str) -> list[Revision]:
        """All that reading one exchange did to memories, in its order."""
        with self.snapshot() as connection:
            return history.exchange_history(connection, exchange_key)

    def search(
        self,
        vector: Vector,
        limit: int,
        *,
        scope: Scope = Scope(),  # noqa: B008 - frozen
        owner_exact: bool = False,
        filters: Mapping[str, Any] | None = None,
        said_after: datetime | None = None,
        said_before: datetime | None = None,
        source: str | None = None,
        show_expired: bool = False,
    ) -> list[Hit]:
        """The nearest memories by Euclidean distance, nearest first; equal ones in the order they were stored.

        Args:
            vector: unit length, shape (dim,).
            scope: a None in it means any; with `owner_exact` it means an owner that has none.
            said_after, said_before: from the first on, up to but without the second.
            source: the conversation they came from.

        Raises:
            StoreError: a vector of another space.
            UsageError: see `filters`.
        """
        ranges = [] if source is None else [from_filters({"source": {"eq": source}})]
        if said_after is not None or said_before is not None:
            ranges.append(said_between(said_after, said_before))
        query = inputs.checked_vector(np.asarray(vector), self.embedding)
        with self._current_indexes(scope, owner_exact) as (connection, indexes):
            found = nearest(
                connection,
                indexes,
                query,
                max(0, limit),
                common=self._expiry(show_expired),
                indexed=all_of(*ranges),
                filters=from_filters(filters),
            )
            return rows.read_hits(connection, found)

    def search_many(self, vectors: Iterable[NDArray[np.float32]], limit: int, owner: Scope) -> list[list[Hit]]:
        """For each vector the nearest memories of exactly this owner, expired ones left out."""
        queries = [inputs.checked_vector(np.asarray(vector), self.embedding) for vector in vectors]
        always = self._expiry(False)
        with self._current_indexes(owner, True) as (connection, indexes):
            return [
                rows.read_hits(connection, nearest(connection, indexes, query, max(0, limit), common=always))
                for query in queries
            ]

    # In and out, and upkeep

    def export(self) -> Iterator[dict[str, Any]]:
        """The whole store but for history and embeddings, as JSON-able dicts, the format first: see `portable`."""
        return export_import.export_lines(self)

    def import_(self, lines: Iterable[object], embed: EmbedFunction) -> ImportResult:
        """Take in what `export` gave: dicts, or lines of JSON. What is there already is left as it is.

        Raises:
            StoreError: a line is not what it should be, by its number; nothing is then imported.
        """
        return export_import.import_lines(self, lines, embed)

    def check(self) -> list[str]:
        """What is wrong with the store, a line each; empty when all is well."""
        return integrity.check_store(self)

    def repair(self, embed: EmbedFunction) -> list[str]:
        """Mend what can be mended, with vectors of the space this store was opened for. Returns what was done."""
        return integrity.repair_store(self, embed)

    # Inside

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        with self.database.read() as connection:
            yield connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self.database.write() as connection:
            self.position(connection)
            transaction = Transaction(connection, self.embedding, self.clock())
            yield transaction
        erase_released_images(self, transaction.referenced_images, transaction.released_images)

    def position(self, connection: sqlite3.Connection) -> StoreRevision:
        """Where the database stands. Raises StoreError: another process has moved it to another space."""
        meta = {row["key"]: row["value"] for row in connection.execute("SELECT key, value FROM meta")}
        space = EmbeddingFingerprint(**json.loads(meta["space"]))
        if space != self.embedding:
            raise StoreError(
                f"the store in {self.folder} now holds vectors of {space}, not {self.embedding}; open it again"
            )
        return StoreRevision(meta["store"], space, int(meta["revision"]))

    @contextlib.contextmanager
    def _current_indexes(self, scope: Scope, exact: bool) -> Iterator[tuple[sqlite3.Connection, list[OwnerIndex]]]:
        """A read transaction, and the indexes of the owners in scope as they stand in it."""
        where, values = rows.scope_condition(scope, exact=exact)
        with self.indexes.lock, self.snapshot() as connection:
            position = self.position(connection)
            owners = connection.execute(
                f"SELECT id, memories FROM owners o WHERE {where} AND memories", values
            ).fetchall()
            yield connection, [self.indexes.current(connection, row[0], position, row[1]) for row in owners]

    def _condition(self, scope: Scope, filters: Mapping[str, Any] | None, show_expired: bool) -> Condition:
        where, values = rows.scope_condition(scope)
        return all_of(Condition(f"({where})", tuple(values)), from_filters(filters), self._expiry(show_expired))

    def _expiry(self, show_expired: bool) -> Condition:
        return all_of() if show_expired else not_expired(self.clock())

    def _done(self, connection: sqlite3.Connection, keys: Iterable[str]) -> set[str]:
        given = {inputs.clean_text(key): key for key in keys}
        found = connection.execute(
            "SELECT key FROM exchanges WHERE key IN (SELECT value FROM json_each(?))", [json.dumps(list(given))]
        )
        return {given[row["key"]] for row in found}

    def _require_memory(self, connection: sqlite3.Connection, memory_id: str) -> MemoryRecord:
        found = rows.read_memory(connection, memory_id)
        if found is None:
            raise MemoryNotFound(f"no memory has the id {memory_id}; `memlora memory list` shows them")
        return found

    def _stored_embedding(self, embedding: EmbeddingFingerprint) -> EmbeddingFingerprint:
        """The space the store holds; a new store takes the one given."""
        with self.snapshot() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'space'").fetchone()
        if row is None:
            with self.database.write() as connection:
                connection.executemany(
                    "INSERT OR IGNORE INTO meta (key, value) VALUES (?, ?)",
                    [
                        ("space", json.dumps({"name": embedding.name, "dim": embedding.dim})),
                        ("store", str(uuid.uuid4())),
                        ("revision", "0"),
                    ],
                )
                row = connection.execute("SELECT value FROM meta WHERE key = 'space'").fetchone()
        return EmbeddingFingerprint(**json.loads(row["value"]))

    # Last: below it `list` is this method and no longer the type

    def list(
        self,
        scope: Scope = Scope(),  # noqa: B008 - frozen
        filters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
        order: SortOrder = "newest",
        *,
        show_expired: bool = False,
    ) -> list[MemoryRecord]:
        """The memories in scope. "newest" and "oldest" go by when they were said, else stored.

        Raises UsageError: see `filters`.
        """
        where = self._condition(scope, filters, show_expired)
        tail = f"WHERE {where.sql} ORDER BY {_ORDERS[order]} LIMIT ? OFFSET ?"
        with self.snapshot() as connection:
            return rows.read_memories(
                connection,
                tail,
                [*where.values, -1 if limit is None else min(max(0, limit), MAX_ROW_ID), max(0, offset)],
            )
