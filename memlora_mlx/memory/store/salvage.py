"""What is whole of a damaged database, as a new one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from memlora_mlx.files import new_private_file
from memlora_mlx.memory import inputs
from memlora_mlx.memory.store import checksums
from memlora_mlx.memory.store.checksums import Table, checked_tables
from memlora_mlx.memory.store.database import Database, prepare_connection
from memlora_mlx.memory.store.encrypted_sqlite import connect

# Rows that others hang on: one that can be read is kept even where it is not what was written.
_PARENTS = frozenset({"owners", "exchanges", "images", "meta", "indexed_messages", "conversations"})
# What is left to do where a row that others name is lost: lines that cannot be without it go, others forget its name.
_RELATIONS = (
    (
        "INSERT INTO owners (id, user_id) SELECT DISTINCT owner, 'salvaged-' || owner FROM memories"
        " WHERE owner NOT IN (SELECT id FROM owners)"
    ),
    "DELETE FROM exchanges WHERE owner NOT IN (SELECT id FROM owners)",
    "DELETE FROM messages WHERE exchange NOT IN (SELECT id FROM exchanges)",
    "UPDATE messages SET image = NULL WHERE image NOT IN (SELECT id FROM images)",
    (
        "DELETE FROM indexed_messages WHERE (exchange, position) NOT IN (SELECT exchange, position FROM messages)"
        " OR owner NOT IN (SELECT id FROM owners)"
    ),
    "UPDATE indexed_messages SET previous = NULL WHERE previous NOT IN (SELECT id FROM indexed_messages)",
    "DELETE FROM message_vectors WHERE message NOT IN (SELECT id FROM indexed_messages)",
    "UPDATE indexed_messages SET is_embedded = id IN (SELECT message FROM message_vectors)",
    "DELETE FROM ended_facts WHERE message NOT IN (SELECT id FROM indexed_messages)",
    "UPDATE memories SET exchange = NULL WHERE exchange NOT IN (SELECT id FROM exchanges)",
    "UPDATE memories SET message = NULL WHERE message NOT IN (SELECT id FROM indexed_messages)",
    "UPDATE memories SET image = NULL WHERE image NOT IN (SELECT id FROM images)",
    "DELETE FROM embeddings WHERE memory NOT IN (SELECT id FROM memories)",
    "DELETE FROM history WHERE owner NOT IN (SELECT id FROM owners)",
    "UPDATE history SET undone_by = NULL WHERE undone_by NOT IN (SELECT id FROM history)",
    (
        "INSERT INTO conversations (id, public_id, owner, name, started_at, changed_at)"
        " SELECT t.conversation, 'salvaged-' || t.conversation, x.owner, 'Conversation', min(t.said_at), max(t.said_at)"
        " FROM turns t JOIN exchanges x ON x.key = t.exchange_key"
        " WHERE t.conversation NOT IN (SELECT id FROM conversations) GROUP BY t.conversation"
    ),
    "DELETE FROM conversations WHERE owner NOT IN (SELECT id FROM owners)",
    "DELETE FROM turns WHERE conversation NOT IN (SELECT id FROM conversations)",
    "DELETE FROM tombstones WHERE owner NOT IN (SELECT id FROM owners)",
    "DELETE FROM message_tombstones WHERE owner NOT IN (SELECT id FROM owners)",
    (
        "UPDATE owners SET memories = (SELECT count(*) FROM memories WHERE owner = owners.id),"
        " messages = (SELECT count(*) FROM indexed_messages WHERE owner = owners.id AND is_embedded)"
    ),
    "DELETE FROM meta WHERE key = 'words'",  # the full-text index is made again when the store is opened
)
# The number that the rows of a table are found by, where that is not `id`.
_NUMBERS = {
    "embeddings": "t.memory",
    "message_vectors": "t.message",
    "tombstones": "t.memory",
    "message_tombstones": "t.message",
    "messages": "t.exchange",
    "ended_facts": "t.message",
}
_CHUNK = 10_000  # keys read at once
_WITH_WORDS = "messages", "memories", "history", "turns"


@dataclass
class SalvageReport:
    """How many rows of each table were kept, and how many were damaged or could not be read."""

    kept: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """What was kept of what a person has put in."""
        names = {"messages": "messages", "memories": "memories", "history": "changes in the history"}
        names["turns"] = "messages of chats"
        return [f"{self.kept.get(t, 0)} {names[t]} are whole, {self.lost.get(t, 0)} are lost" for t in _WITH_WORDS]


def salvage_rows(source: sqlite3.Connection, path: Path, key_folder: Path) -> SalvageReport:
    """Copy all rows of a damaged database that are what was written to a new database at `path`.

    Args:
        key_folder: the store's folder, which has the key where the store is encrypted.
    """
    prepare_connection(source)
    source.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    new_private_file(path)
    made = Database(path, key_folder=key_folder)
    made.close()
    report = SalvageReport()
    with closing(connect(path, made.keys)) as new:
        prepare_connection(new)
        new.execute("BEGIN")
        triggers = new.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for trigger in triggers:  # they count, and all is counted at the end
            new.execute(f"DROP TRIGGER {trigger['name']}")
        for table in checked_tables(new):
            _copy_table(source, new, table, report)
        for statement in _RELATIONS:
            new.execute(statement)
        for trigger in triggers:
            new.execute(trigger["sql"])
        checksums.compute_all(new, [])
        new.execute("COMMIT")
    return report


def _copy_table(source: sqlite3.Connection, new: sqlite3.Connection, table: Table, report: SalvageReport) -> None:
    kept, noted = 0, _noted(source, table)
    columns = [row[1] for row in new.execute(f"PRAGMA table_xinfo({table.name})")]
    try:
        there = {row[1] for row in source.execute(f"PRAGMA table_xinfo({table.name})")}
    except sqlite3.Error:
        there = set()
    shared = [column for column in columns if column in there]
    if shared:
        listed = ", ".join(f"t.{column}" for column in shared)
        checks = ("1",) if noted is None else (checksums.is_sound(table, "t"), "1")
        selects = [f"SELECT {listed}, {check} AS is_sound FROM {table.name} t" for check in checks]
        put = f"INSERT OR IGNORE INTO {table.name} ({', '.join(shared)}) VALUES ({', '.join('?' * len(shared))})"
        for row in _readable(source, table.name, selects):
            if row["is_sound"] or table.name in _PARENTS or _has_its_words(table.name, row):
                try:
                    kept += new.execute(put, tuple(row)[:-1]).rowcount
                except (sqlite3.Error, UnicodeEncodeError):  # what it holds cannot be a row
                    continue
    report.kept[table.name] = kept
    report.lost[table.name] = max(0, (noted or 0) - kept)


def _noted(source: sqlite3.Connection, table: Table) -> int | None:
    """How many rows the table had; None where the database has no checksums."""
    try:
        return int(source.execute("SELECT count(*) FROM checksums WHERE tbl = ?", [table.name]).fetchone()[0])
    except sqlite3.Error:
        return None


def _has_its_words(table: str, row: sqlite3.Row) -> bool:
    """A memory has a hash of its text besides: where that is right, something else of it was damaged."""
    if table != "memories":
        return False
    try:
        json.loads(row["metadata"])
        return bool(inputs.text_sha256(row["text"]) == row["sha256"])
    except (ValueError, TypeError, AttributeError):
        return False


def _readable(source: sqlite3.Connection, table: str, selects: Sequence[str]) -> Iterator[sqlite3.Row]:
    """The rows of a table, past the pages that cannot be read.

    Args:
        selects: the query, and one that does without the checksums.
    """
    key = _NUMBERS.get(table, "t.id")
    try:
        source.execute(f"SELECT {key} FROM {table} t LIMIT 0")
    except sqlite3.Error:  # it has no numbers to go by, and is small
        yield from _until_damage(source, selects[0])
        return
    first, last, size = 0, _last(source, table, key), _CHUNK
    while first <= last:
        is_empty = True
        for row in _between(source, selects, key, first, min(first + size - 1, last)):
            is_empty = False
            yield row
        first, size = first + size, size * 2 if is_empty else _CHUNK


def _last(source: sqlite3.Connection, table: str, key: str) -> int:
    queries = (
        f"SELECT max({key}) FROM {table} t",
        f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'",
        f"SELECT max(key) FROM checksums WHERE tbl = '{table}' AND typeof(key) = 'integer'",
    )
    known = [10_000]
    for query in queries:
        try:
            found = source.execute(query).fetchone()
        except sqlite3.Error:
            continue
        if found is not None and isinstance(found[0], int):
            known.append(min(found[0], 2**40))
    return max(known)


def _between(
    source: sqlite3.Connection, selects: Sequence[str], key: str, first: int, last: int
) -> Iterator[sqlite3.Row]:
    """The rows with a key in a range; where a page cannot be read, its range is halved until it stands alone."""
    try:
        found = source.execute(f"{selects[0]} WHERE {key} BETWEEN ? AND ?", [first, last]).fetchall()
    except (sqlite3.Error, MemoryError):
        middle = (first + last) // 2
        if first < last:
            yield from _between(source, selects, key, first, middle)
            yield from _between(source, selects, key, middle + 1, last)
        elif len(selects) > 1:  # it may be the checksum that cannot be read
            yield from _between(source, selects[1:], key, first, last)
        return
    yield from found


def _until_damage(source: sqlite3.Connection, select: str) -> Iterator[sqlite3.Row]:
    try:
        yield from source.execute(select)
    except sqlite3.Error:
        return
