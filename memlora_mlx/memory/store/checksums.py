"""A checksum of every row of the store, which tells whether the row is still what was written.

SQLite itself does not notice when the disk changes a letter of a text. So every row of every table has a CRC-32 over its
columns in the table `checksums`, written in the row's own transaction by triggers. The triggers belong to the connection
and are made from the tables as they are, so a new table or column needs nothing here. A row that something else than
memlora has written has no right checksum. The full-text tables are not covered: they can be made again from the rest.

A CRC-32 finds damage, of which every change of one bit and of up to 32 bits in a row. It does not find a forger.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache

from memlora_mlx.errors import StoreBroken
from memlora_mlx.memory.store.schema import MIGRATIONS

UNSOUND = -1  # the checksum of a row that was found damaged: no row has it


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows have checksums.

    Attributes:
        key: SQL over a row's columns which gives its primary key as one value; `{row}` stands for the row's name.
        value: SQL which gives its checksum.
    """

    name: str
    key: str
    value: str

    def key_of(self, row: str) -> str:
        return self.key.replace("{row}", row)

    def value_of(self, row: str) -> str:
        return self.value.replace("{row}", row)


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """A row that is not what was written. `is_gone`: it is not there at all, or its key was changed."""

    table: str
    key: int | str
    is_gone: bool = False


def row_checksum(types: str, *values: bytes | None) -> int:
    """The CRC-32 of a row.

    Args:
        types: the SQL types of its columns, for a text and a blob can have the same bytes.
        values: the columns as blobs.
    """
    parts = [value or b"" for value in values]
    return zlib.crc32(b"".join(parts), zlib.crc32(f"{types} {[len(part) for part in parts]}".encode()))


def checked_tables(connection: sqlite3.Connection) -> list[Table]:
    """The tables whose rows have checksums, as they are now."""
    names = connection.execute(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name <> 'checksums'"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE 'message\\_words%' ESCAPE '\\'"
        " AND name NOT LIKE 'turn\\_words%' ESCAPE '\\' ORDER BY name"
    ).fetchall()
    return [_table(connection, row[0]) for row in names]


def watch(connection: sqlite3.Connection) -> None:
    """Keep the checksums in step with all that this connection writes from now on.

    A row that was damaged before somebody changed it stays damaged.
    """
    for table in checked_tables(connection):
        old, new = table.key_of("OLD"), table.key_of("NEW")
        drop = f"DELETE FROM checksums WHERE tbl = '{table.name}' AND key = "
        put = f"INSERT INTO checksums VALUES ('{table.name}', {new}, {table.value_of('NEW')});"
        change = (
            f"UPDATE checksums SET key = {new}, sum = CASE WHEN sum = {table.value_of('OLD')}"
            f" THEN {table.value_of('NEW')} ELSE {UNSOUND} END WHERE tbl = '{table.name}' AND key = {old};"
        )
        # What is put is first dropped: a REPLACE removes a row without a word to the triggers.
        for event, does in {"INSERT": f"{drop} {new}; {put}", "UPDATE": change, "DELETE": f"{drop} {old};"}.items():
            connection.execute(
                f"CREATE TEMP TRIGGER IF NOT EXISTS sum_{table.name}_{event} AFTER {event} ON main.{table.name}"
                f" BEGIN {does} END"
            )


def is_watched(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM temp.sqlite_master LIMIT 1").fetchone() is not None


def compute_all(connection: sqlite3.Connection, unsound: Sequence[DamagedRow]) -> None:
    """Compute the checksums of all rows, after a migration.

    Args:
        unsound: the rows that were damaged before it, and stay so.
    """
    connection.execute("DELETE FROM checksums")
    tables = checked_tables(connection)
    for table in tables:
        connection.execute(
            f"INSERT INTO checksums SELECT '{table.name}', {table.key_of('t')}, {table.value_of('t')}"
            f" FROM {table.name} t"
        )
    names = {table.name for table in tables}
    connection.executemany(
        "INSERT OR REPLACE INTO checksums VALUES (?, ?, ?)",
        [(row.table, row.key, UNSOUND) for row in unsound if row.table in names],
    )


def accept(connection: sqlite3.Connection, table: Table, key: int | str) -> None:
    """Take a row as it is for what was written."""
    connection.execute(
        f"INSERT OR REPLACE INTO checksums SELECT '{table.name}', {table.key_of('t')}, {table.value_of('t')}"
        f" FROM {table.name} t WHERE {table.key_of('t')} = ?",
        [key],
    )


def all_damaged_rows(connection: sqlite3.Connection) -> list[DamagedRow]:
    """The rows of all tables that are not what was written. Raises sqlite3.DatabaseError: a table cannot be read."""
    return [row for table in checked_tables(connection) for row in damaged_rows(connection, table)]


def damaged_rows(connection: sqlite3.Connection, table: Table) -> list[DamagedRow]:
    """The rows of a table that are not what was written. Raises sqlite3.DatabaseError: the table cannot be read."""
    name, key, value = table.name, table.key_of("t"), table.value_of("t")
    changed = [
        DamagedRow(name, row[0])
        for row in connection.execute(
            f"SELECT {key} FROM {name} t LEFT JOIN checksums c ON c.tbl = '{name}' AND c.key = {key}"
            f" WHERE c.sum IS NOT {value}"
        )
    ]
    [there] = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
    [noted] = connection.execute("SELECT count(*) FROM checksums WHERE tbl = ?", [name]).fetchone()
    if not changed and there == noted:
        return []
    gone = connection.execute(
        f"SELECT key FROM checksums WHERE tbl = ? AND key NOT IN (SELECT {key} FROM {name} t)", [name]
    )
    return changed + [DamagedRow(name, row[0], is_gone=True) for row in gone]


def is_sound(table: Table, row: str) -> str:
    """SQL that is true where the row of that name in a query is what was written."""
    return (
        f"(SELECT sum FROM checksums WHERE tbl = '{table.name}' AND key = {table.key_of(row)}) IS {table.value_of(row)}"
    )


def require_sound(row: sqlite3.Row, what: str) -> None:
    """Raises StoreBroken: the row of a query, which has an `is_sound`, is not what was written."""
    if not row["is_sound"]:
        raise StoreBroken(
            f"{what} is damaged: it is not what was written; `memlora doctor --repair` takes it from a backup"
        )


@cache
def sound_sql(table: str, row: str) -> str:
    """`is_sound` for a table of the schema."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in (statement for statements in MIGRATIONS for statement in statements):
            connection.execute(statement)
        return is_sound(_table(connection, table), row)


def _table(connection: sqlite3.Connection, name: str) -> Table:
    columns = connection.execute(f"PRAGMA main.table_xinfo({name})").fetchall()
    keys = [column[1] for column in sorted(columns, key=lambda column: int(column[5])) if column[5]]
    # A plus takes a column's type away: a comparison with `checksums.key`, which has none, then uses its index.
    key = " || '/' || ".join(f"+{{row}}.{column}" for column in keys)
    names = [column[1] for column in columns]
    types = " || ".join(f"substr(typeof({{row}}.{column}), 1, 1)" for column in names)  # n, i, r, t or b
    values = ", ".join(f"CAST({{row}}.{column} AS BLOB)" for column in names)
    return Table(name, key, f"row_checksum({types}, {values})")
