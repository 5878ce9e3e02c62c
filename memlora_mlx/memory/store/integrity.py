"""Check a store, repair it, and compute its embeddings again for another embedder."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import StoreBroken, StoreError
from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import EmbeddingFingerprint, EmbedFunction
from memlora_mlx.memory.retrieval.indexes import Progress
from memlora_mlx.memory.store import full_text, messages, meta
from memlora_mlx.memory.store.checksums import checked_tables, damaged_rows
from memlora_mlx.memory.store.damage import find_damage, guarded
from memlora_mlx.memory.store.images import images_in_use
from memlora_mlx.memory.store.mending import mend_counters, mend_rows
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.upkeep import build_indexes, clear_indexes, embed_messages

BATCH = 256  # texts embedded at once
TRIES = 5


def check_store(store: Store, report: Callable[[Progress], None] | None = None) -> list[str]:
    """The problems of a store, one line each; empty if there are none. Damage never raises an error here.

    Args:
        report: is told how far the large indexes are, which are completed first.
    """
    try:
        with store.snapshot() as connection:
            if problems := find_damage(connection):
                return problems + guarded(lambda: _derived_problems(store, connection))
            problems = [*_relations(connection), *_derived_problems(store, connection)]
    except StoreBroken as error:
        return [str(error)]
    if not store.database.read_only:
        erase_unused_images(store)
    return problems + _check_indexes(store, report)


def _relations(connection: sqlite3.Connection) -> Iterator[str]:
    for row in connection.execute("PRAGMA foreign_key_check"):
        yield f"a row of {row['table']} belongs to a row of {row['parent']} that is gone"


def _derived_problems(store: Store, connection: sqlite3.Connection) -> Iterator[str]:
    """What does not fit together, and can be made again."""
    if store.embedding != store.expected_embedding:
        yield f"its vectors are of {store.embedding}, not of {store.expected_embedding}"
    damaged, altered = _damaged_rows(connection, store.embedding)
    if damaged:
        yield f"{len(damaged)} memories have no sound embedding and are not found by searches"
    if altered:
        yield f"{len(altered)} memories have another text than was stored"
    yield from full_text.problems(connection)
    if broken := _broken_messages(connection, store.embedding):
        yield f"{len(broken)} messages have no sound embedding"
    yield from _check_pictures(store, connection)
    for row in _wrong_counts(connection):
        counts = (
            ("memories", row["memories"], row["live"]),
            ("embedded messages", row["messages"], row["said"]),
        )
        for what, told, found in counts:
            if told != found:
                yield f"owner {row['id']} is said to have {told} {what}, but has {found}"


def erase_unused_images(store: Store) -> int:
    """Erase the pictures that no memory uses: a crash, or a picture of an exchange that nothing was remembered of.

    Returns their number. One that is just being kept stays.
    """
    with store.snapshot() as connection:
        used = images_in_use(connection, store.clock())
    store.images.remove_partial_files()
    return store.images.erase({path.stem for path in store.images.files()} - used)


def repair_store(store: Store, embed: EmbedFunction) -> list[str]:
    """Repair what can be repaired, with vectors of the embedder that this store was opened for.

    Returns what was done, one line each.
    """
    done = []
    if store.embedding != store.expected_embedding:
        count = reembed(store, embed, store.expected_embedding)
        done.append(f"embedded {count} memories again, with {store.embedding}")
    if mended := mend_rows(store.database, store.embedding):
        done.append(f"took {mended} damaged rows from a backup")
    with store.snapshot() as connection:
        damaged, altered = _damaged_rows(connection, store.embedding)
        texts = _texts(connection, sorted(damaged | altered))
    vectors = _embedded(embed, list(texts.values()), store.embedding)
    with store.transaction() as transaction:
        for row in _wrong_counts(transaction.connection):
            counts = [row["live"], row["said"], row["id"]]
            transaction.connection.execute("UPDATE owners SET memories = ?, messages = ? WHERE id = ?", counts)
            done.append(f"counted the memories of owner {row['id']} again")
        for (key, text), vector in zip(texts.items(), vectors, strict=True):
            changed = transaction.connection.execute(
                "UPDATE memories SET sha256 = ?, revision = ? WHERE id = ? AND text = ?",
                [inputs.text_sha256(text), transaction.revision, key, text],
            ).rowcount
            if changed:  # else somebody has just given it new words, and an embedding with them
                transaction.connection.execute(
                    "INSERT OR REPLACE INTO embeddings VALUES (?, ?)", [key, vector.tobytes()]
                )
        if count := mend_counters(transaction.connection):
            done.append(f"set {count} counters of the database anew")
        transaction.connection.execute("REINDEX")
        full_text.fill(transaction.connection, transaction.revision)
        done.append("made the full-text index again")
        broken = _broken_messages(transaction.connection, store.embedding)
        messages.drop_vectors(transaction.connection, broken, transaction.revision)
    if texts:
        done.append(f"embedded {len(texts)} memories again")
    if count := embed_messages(store, embed):
        done.append(f"embedded {count} messages")
    if removed := store.images.erase(store.images.find_damaged()):
        done.append(f"removed {removed} damaged pictures; their memories keep words and captions")
    clear_indexes(store)
    done.append("cleared the indexes; the next search builds them from the database")
    return done


def reembed(store: Store, embed: EmbedFunction, embedding: EmbeddingFingerprint) -> int:
    """Move the store to another embedding space. Returns how many memories were embedded.

    The old vectors stay until all the new ones are there.
    """
    if store.database.read_only:
        raise StoreError(f"the store in {store.folder} cannot be written; copy it to another folder first")
    ready: dict[int, tuple[str, NDArray[np.float32]]] = {}
    for _ in range(TRIES):
        # Embedding may take minutes: it is done while others may write, and what they wrote is caught up with.
        with store.snapshot() as connection:
            stored = _texts(connection, None)
        missing = {
            key: text for key, text in stored.items() if ready.get(key, ("", None))[0] != text or key not in ready
        }
        for (key, text), vector in zip(
            missing.items(), _embedded(embed, list(missing.values()), embedding), strict=True
        ):
            ready[key] = (text, vector)
        with store.transaction() as transaction:
            stored = _texts(transaction.connection, None)
            if any(key not in ready or ready[key][0] != text for key, text in stored.items()):
                continue
            transaction.connection.execute("DELETE FROM embeddings")
            transaction.connection.executemany(
                "INSERT INTO embeddings VALUES (?, ?)", [(key, ready[key][1].tobytes()) for key in stored]
            )
            transaction.connection.execute("UPDATE memories SET revision = ?", [transaction.revision])
            messages.drop_vectors(transaction.connection, None, transaction.revision)
            transaction.connection.execute(
                "UPDATE meta SET value = ? WHERE key = 'space'", [json.dumps(asdict(embedding))]
            )
        store.embedding = store.expected_embedding = embedding
        clear_indexes(store)
        return len(stored)
    raise StoreError("another process kept writing to the store; close it, then run `memlora doctor --repair` again")


def _damaged_rows(connection: sqlite3.Connection, embedding: EmbeddingFingerprint) -> tuple[set[int], set[int]]:
    """Rowids of memories without a unit vector of the space, and of those whose text has another hash."""
    damaged, altered = _unsound_keys(connection, "embeddings"), set()
    for row in connection.execute(
        "SELECT m.id, m.text, m.sha256, e.vector FROM memories m LEFT JOIN embeddings e ON e.memory = m.id"
    ):
        if not _is_intact(row["vector"], embedding):
            damaged.add(row["id"])
        if inputs.text_sha256(row["text"]) != row["sha256"]:
            altered.add(row["id"])
    # Of a damaged row its own hash may be what says that the text is whole, so it is not computed again.
    return damaged, altered - _unsound_keys(connection, "memories")


def _is_intact(blob: object, embedding: EmbeddingFingerprint) -> bool:
    if not isinstance(blob, bytes) or len(blob) != 4 * embedding.dim:
        return False
    return abs(float(np.linalg.norm(np.frombuffer(blob, dtype="<f4"))) - 1.0) < 1e-3  # a NaN is not


def _wrong_counts(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    return connection.execute(
        """
        SELECT * FROM (
            SELECT id, memories, messages, (SELECT count(*) FROM memories m WHERE m.owner = o.id) AS live,
                (SELECT count(*) FROM indexed_messages i WHERE i.owner = o.id AND i.is_embedded) AS said
            FROM owners o
        ) WHERE memories <> live OR messages <> said
        """
    ).fetchall()


def _broken_messages(connection: sqlite3.Connection, embedding: EmbeddingFingerprint) -> set[int]:
    """Rows of messages that are marked as embedded but have no unit vector of the space."""
    found = connection.execute(
        "SELECT i.id, v.vector FROM indexed_messages i LEFT JOIN message_vectors v ON v.message = i.id"
        " WHERE i.is_embedded"
    )
    broken = {row["id"] for row in found if not _is_intact(row["vector"], embedding)}
    return broken | _unsound_keys(connection, "message_vectors")


def _unsound_keys(connection: sqlite3.Connection, name: str) -> set[int]:
    """The keys of a table's rows that are not what was written, of those that are there."""
    [table] = [table for table in checked_tables(connection) if table.name == name]
    return {int(row.key) for row in damaged_rows(connection, table) if not row.is_gone}


def _check_indexes(store: Store, report: Callable[[Progress], None] | None) -> list[str]:
    """Each index, once it has caught up, against the database's count."""
    problems = []
    build_indexes(store, report)
    with store.indexes.lock, store.message_indexes.lock, store.snapshot() as connection:
        position = meta.read_revision(connection, store.embedding, store.folder)
        for owner in connection.execute("SELECT id, memories, messages FROM owners").fetchall():
            for kind in (store.indexes, store.message_indexes):
                counted = kind.table.count_column
                index = kind.current(connection, owner["id"], position, owner[counted])
                if len(index.vectors) != owner[counted]:
                    problems.append(
                        f"the index of owner {owner['id']} has {len(index.vectors)} of {owner[counted]} {counted}"
                    )
    return problems


def _check_pictures(store: Store, connection: sqlite3.Connection) -> list[str]:
    if damaged := store.images.find_damaged():
        return [f"{len(damaged)} pictures are damaged, the first is {damaged[0][:12]}"]
    return []


def _texts(connection: sqlite3.Connection, keys: Sequence[int] | None) -> dict[int, str]:
    where = "" if keys is None else "WHERE id IN (SELECT value FROM json_each(?))"
    values = [] if keys is None else [json.dumps(keys)]
    return dict(map(tuple, connection.execute(f"SELECT id, text FROM memories {where}", values)))


def _embedded(embed: EmbedFunction, texts: Sequence[str], embedding: EmbeddingFingerprint) -> list[NDArray[np.float32]]:
    vectors: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        vectors += inputs.checked_vectors(embed(batch), len(batch), embedding)
    return vectors
