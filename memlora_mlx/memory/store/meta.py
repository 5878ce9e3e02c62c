"""The `meta` table: the embedding fingerprint of a store, its id and its revision number."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from memlora_mlx.errors import StoreBroken, StoreError
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.retrieval.index import StoreRevision
from memlora_mlx.memory.store.database import Database

_ERASED = "erased:"  # and an owner: the revision at which something of the owner was erased last
_UNFINISHED = "erasing"  # there while an erasing has not cleaned up behind itself


def note_erasing(
    connection: sqlite3.Connection, owners: Iterable[int], revision: int, *, keep_backups: bool = False
) -> None:
    """Note in an erasing's own transaction that indexes of these owners are to be made again, and files cleaned.

    Args:
        keep_backups: leave the backups, which go by themselves as they get old.
    """
    left = "keep backups" if keep_backups and unfinished_erasing(connection) != "all" else "all"
    noted = [(f"{_ERASED}{owner}", str(revision)) for owner in owners]
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", [*noted, (_UNFINISHED, left)])


def erased_owners(connection: sqlite3.Connection) -> list[int]:
    """The owners of whom something was erased."""
    found = connection.execute("SELECT key FROM meta WHERE key LIKE ?", [f"{_ERASED}%"])
    return [int(row["key"].removeprefix(_ERASED)) for row in found]


def unfinished_erasing(connection: sqlite3.Connection) -> str | None:
    """What an erasing has left to do: "all", or "keep backups"; None where nothing is."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", [_UNFINISHED]).fetchone()
    return None if row is None else str(row["value"])


def note_erasing_finished(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM meta WHERE key = ?", [_UNFINISHED])


def stored_embedding(database: Database, embedding: EmbeddingFingerprint) -> EmbeddingFingerprint:
    """The fingerprint of the vectors in the store; a new store takes the one that is given."""
    with database.read() as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = 'space'").fetchone()
    if row is None:
        with database.write() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO meta (key, value) VALUES (?, ?)",
                [
                    ("space", json.dumps({"name": embedding.name, "dim": embedding.dim})),
                    ("store", str(uuid.uuid4())),
                    ("revision", "0"),
                ],
            )
            row = connection.execute("SELECT value FROM meta WHERE key = 'space'").fetchone()
    return _fingerprint(row["value"], database.path.parent)


def _fingerprint(text: Any, folder: Path) -> EmbeddingFingerprint:
    """Raises StoreBroken: damage has changed what was written."""
    try:
        found = json.loads(text)
        name, dim = found["name"], found["dim"]
        if isinstance(name, str) and isinstance(dim, int) and dim > 0:
            return EmbeddingFingerprint(name, dim)
    except (ValueError, TypeError, KeyError):
        pass
    raise StoreBroken(f"the store in {folder} is damaged (its embedder is not readable); run `memlora restore`")


def check_embedding(stored: EmbeddingFingerprint, expected: EmbeddingFingerprint, folder: Path) -> None:
    """Raises StoreError: the store holds vectors of another embedder."""
    if stored != expected:
        raise StoreError(
            f"the store in {folder} was made with {stored}, not {expected};"
            " use that embedder, or embed it again with `memlora doctor --repair`"
        )


def read_revision(connection: sqlite3.Connection, embedding: EmbeddingFingerprint, folder: Path) -> StoreRevision:
    """The revision of the database, for the vector indexes.

    Raises:
        StoreBroken: it is not readable.
        StoreError: another process has computed the embeddings again with another embedder.
    """
    meta = {row["key"]: row["value"] for row in connection.execute("SELECT key, value FROM meta")}
    stored = _fingerprint(meta.get("space"), folder)
    if "store" not in meta or not str(meta.get("revision")).isdecimal():
        raise StoreBroken(f"the store in {folder} is damaged (its revision is not readable); run `memlora restore`")
    if stored != embedding:
        raise StoreError(f"the store in {folder} now holds vectors of {stored}, not {embedding}; open it again")
    erased = {int(key.removeprefix(_ERASED)): int(value) for key, value in meta.items() if key.startswith(_ERASED)}
    return StoreRevision(meta["store"], stored, int(meta["revision"]), erased)


@contextlib.contextmanager
def reading(database: Database, embedding: EmbeddingFingerprint) -> Iterator[tuple[sqlite3.Connection, StoreRevision]]:
    """A read transaction, and the revision that it reads. Raises: see `read_revision`."""
    with database.read() as connection:
        yield connection, read_revision(connection, embedding, database.path.parent)


def next_revision(connection: sqlite3.Connection) -> int:
    """Raise the revision of the database by one, and return it."""
    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'")
    return int(connection.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0])
