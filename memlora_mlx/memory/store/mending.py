"""Take damaged rows from the backups: the checksum that a row should have says which backup still has that very row."""

from __future__ import annotations

import json
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.store import checksums
from memlora_mlx.memory.store.backups import daily_backups
from memlora_mlx.memory.store.checksums import UNSOUND, DamagedRow, Table, checked_tables
from memlora_mlx.memory.store.damage import unsound_rows, wrong_counters
from memlora_mlx.memory.store.database import Database, open_unchanging
from memlora_mlx.memory.store.keys import StoreKeys


def mend_rows(database: Database, embedding: EmbeddingFingerprint) -> int:
    """Put back each damaged row that a backup still has as it was last written. Returns how many.

    Args:
        embedding: of the store's vectors.

    Raises:
        StoreBroken: the pages of the database are damaged, not only rows.
    """
    with database.write() as connection:
        rows, _ = unsound_rows(connection)
        tables = {table.name: table for table in checked_tables(connection)}
        mended: set[DamagedRow] = set()
        for path in daily_backups(database.path.parent) if rows else []:
            left = [row for row in rows if row not in mended]
            mended |= {row for row in left if _mend_from(path, database.keys, connection, tables[row.table], row)}
        _mend_properties(connection, [row for row in rows if row not in mended and row.table == "meta"], embedding)
        return len(mended)


def mend_counters(connection: sqlite3.Connection) -> int:
    """Set the counters that are lost or behind their rows to the number of the last row. Returns how many."""
    wrong = wrong_counters(connection)
    for table, last in wrong.items():
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", [table])
        connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", [table, last])
    return len(wrong)


def _mend_properties(connection: sqlite3.Connection, rows: list[DamagedRow], embedding: EmbeddingFingerprint) -> None:
    """Properties of the store that follow from the rest of it."""
    revisions = " UNION ALL ".join(
        f"SELECT max(revision) AS one FROM {table}"
        for table in ("memories", "tombstones", "indexed_messages", "message_tombstones")
    )
    [last] = connection.execute(f"SELECT ifnull(max(one), 0) FROM ({revisions})").fetchone()
    known = {
        "revision": str(last + 1),
        "store": str(uuid.uuid4()),  # another identity: saved indexes are not its own
        "space": json.dumps({"name": embedding.name, "dim": embedding.dim}),
    }
    for row in rows:
        connection.execute("DELETE FROM meta WHERE key = ?", [row.key])
        if row.key in known:
            connection.execute("INSERT INTO meta VALUES (?, ?)", [row.key, known[str(row.key)]])


def _mend_from(
    path: Path, keys: StoreKeys | None, connection: sqlite3.Connection, table: Table, row: DamagedRow
) -> bool:
    try:
        with closing(open_unchanging(path, keys)) as backup:
            if _version(backup) != _version(connection):
                return False
            old = _read(backup, table, row.key)
    except (sqlite3.Error, UnicodeDecodeError):
        return False
    if old is None:
        return False
    noted = connection.execute("SELECT sum FROM checksums WHERE tbl = ? AND key = ?", [table.name, row.key]).fetchone()
    present = None if row.is_gone else _read(connection, table, row.key)
    # The row as it was in the backup, or the present one with one of its columns from there.
    candidates = [old] if present is None else [old, *({**present, name: old[name]} for name in old)]
    for found in candidates if noted is not None and noted["sum"] != UNSOUND else []:
        if _sum(connection, table, found) == noted["sum"]:
            _put(connection, table, row, found)
            break
    else:
        if present is None or present != old:
            return False  # if they are equal, it was the checksum that was damaged
    checksums.accept(connection, table, row.key)
    return True


def _read(connection: sqlite3.Connection, table: Table, key: int | str) -> dict[str, object] | None:
    try:
        found = connection.execute(f"SELECT t.* FROM {table.name} t WHERE {table.key_of('t')} = ?", [key]).fetchone()
    except sqlite3.OperationalError:  # a text of it is not UTF-8
        return None
    return None if found is None else dict(found)


def _sum(connection: sqlite3.Connection, table: Table, row: dict[str, object]) -> int:
    given = ", ".join(f"? AS {name}" for name in row)
    found = connection.execute(f"SELECT {table.value_of('t')} FROM (SELECT {given}) t", list(row.values()))
    return int(found.fetchone()[0])


def _put(connection: sqlite3.Connection, table: Table, row: DamagedRow, found: dict[str, object]) -> None:
    if row.is_gone:
        marks = ", ".join("?" * len(found))
        connection.execute(f"INSERT INTO {table.name} ({', '.join(found)}) VALUES ({marks})", list(found.values()))
    else:  # not replaced: that would take with it what hangs on it
        given = ", ".join(f"{name} = ?" for name in found)
        values = [*found.values(), row.key]
        connection.execute(f"UPDATE {table.name} AS t SET {given} WHERE {table.key_of('t')} = ?", values)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
