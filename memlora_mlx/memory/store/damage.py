"""Find damage in a store's file: pages, tables, rows and the full-text index. Nothing here fails on a damaged file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache

from memlora_mlx.memory.retrieval.lexical import WORDS_VERSION, searchable
from memlora_mlx.memory.store import messages, turn_words
from memlora_mlx.memory.store.checksums import DamagedRow, checked_tables, damaged_rows
from memlora_mlx.memory.store.full_text import words_version
from memlora_mlx.memory.store.schema import MIGRATIONS

SHOWN = 5  # rows of a table that are named
# Rows that can be made again from others.
DERIVED = frozenset({"embeddings", "message_vectors"})
_NAMES = {
    "embeddings": "embeddings of memories",
    "ended_facts": "notes of forgotten memories",
    "history": "changes in the history",
    "indexed_messages": "entries of messages in the search index",
    "message_tombstones": "marks of deleted messages",
    "message_vectors": "embeddings of messages",
    "meta": "properties of the store",
    "owners": "owners",
    "people": "people",
    "sources": "conversations",
    "tombstones": "marks of deleted memories",
    "conversations": "conversations of the chat",
    "turns": "messages of the chat",
}


def find_damage(connection: sqlite3.Connection) -> list[str]:
    """What is damaged, one line each; empty if nothing is."""
    problems: list[str] = []
    for check in (_pages, _schema, _rows, _counters, _words):
        problems += guarded(lambda check=check: check(connection))  # type: ignore[misc]
    return problems


def guarded(check: Callable[[], Iterator[str]]) -> list[str]:
    """The lines of a check. Where damage ends it, its error is the last line."""
    found: list[str] = []
    try:
        found.extend(check())
    except Exception as error:  # what damage does to whoever reads it cannot be listed
        found.append(f"the database file is damaged: {' '.join(str(error).split()) or type(error).__name__}")
    return found


def unsound_rows(connection: sqlite3.Connection) -> tuple[list[DamagedRow], list[str]]:
    """The rows that are not what was written, and the tables that cannot be read to their end."""
    rows: list[DamagedRow] = []
    unreadable: list[str] = []
    for table in checked_tables(connection):
        try:
            rows += damaged_rows(connection, table)
        except sqlite3.Error:
            unreadable.append(table.name)
    return rows, unreadable


def _pages(connection: sqlite3.Connection) -> Iterator[str]:
    for row in connection.execute("PRAGMA integrity_check(10)"):
        if row[0] != "ok":
            yield f"the database file is damaged: {row[0]}"


def _schema(connection: sqlite3.Connection) -> Iterator[str]:
    stated = {row[0]: row[1] for row in connection.execute("SELECT name, sql FROM sqlite_master")}
    [version] = connection.execute("PRAGMA user_version").fetchone()
    for name, sql in _expected_schema(version).items():
        if name not in stated:
            yield f"the database file is damaged: {name} is missing"
        elif stated[name] != sql:
            yield f"the database file is damaged: {name} has another definition"


@cache
def _expected_schema(version: int) -> dict[str, str | None]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in (statement for statements in MIGRATIONS[:version] for statement in statements):
            connection.execute(statement)
        return dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())


def _rows(connection: sqlite3.Connection) -> Iterator[str]:
    found, unreadable = unsound_rows(connection)
    for table in unreadable:
        yield f"the database file is damaged: not all {_NAMES.get(table, table)} can be read"
    by_table: dict[str, list[str]] = {}
    for row in found:
        by_table.setdefault(row.table, []).append(_name(connection, row))
    for table, names in by_table.items():
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        yield f"{len(names)} {_NAMES.get(table, table)} are damaged or missing: {shown}"


def _name(connection: sqlite3.Connection, row: DamagedRow) -> str:
    """What a person can look a row up by."""
    if row.table in ("memories", "embeddings") and not row.is_gone:
        try:
            found = connection.execute("SELECT public_id FROM memories WHERE id = ?", [row.key]).fetchone()
        except sqlite3.Error:
            found = None
        if found is not None:
            return ascii(found[0])[1:-1]
    return ascii(row.key).strip("'")


def wrong_counters(connection: sqlite3.Connection) -> dict[str, int]:
    """The least that the counter of a table must be, for each table whose counter is lost or behind its rows.

    A number that was given out must never be given out again.
    """
    counters = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    counted = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'")
    wrong = {}
    for [table] in counted.fetchall():
        [last] = connection.execute(f"SELECT ifnull(max(id), 0) FROM [{table}]").fetchone()
        counter = counters.get(table, 0)
        if not isinstance(counter, int) or counter < last:
            wrong[table] = last
    return wrong


def _counters(connection: sqlite3.Connection) -> Iterator[str]:
    for table in wrong_counters(connection):
        yield f"the database file is damaged: {table} has rows beyond its counter"


def _words(connection: sqlite3.Connection) -> Iterator[str]:
    """Every text in the full-text table against what it was made of."""
    if words_version(connection) not in (WORDS_VERSION, -1):
        return  # a copy that another version of memlora made
    found = connection.execute("SELECT rowid, text, before, facts, after FROM message_words")
    if wrong := sum(tuple(row)[1:] != _expected_words(connection, row["rowid"]) for row in found):
        yield f"{wrong} texts in the full-text index are not those of their messages and memories"
    if turn_words.exists(connection) and (wrong := turn_words.count_wrong(connection)):
        yield f"{wrong} texts in the full-text index are not those of the messages of the chat"


def _expected_words(connection: sqlite3.Connection, row: int) -> tuple[str, str, str, str]:
    is_message, key = messages.split_row(row)
    if not is_message:
        found = connection.execute("SELECT text FROM memories WHERE id = ?", [key]).fetchone()
        return "", "", "" if found is None else searchable(found["text"]), ""
    [before, after] = connection.execute(
        "SELECT previous, (SELECT max(id) FROM indexed_messages WHERE previous = i.id) FROM indexed_messages i"
        " WHERE id = ?",
        [key],
    ).fetchone() or (None, None)
    text, earlier, later = (
        "" if each is None else messages.words_of(connection, each) for each in (key, before, after)
    )
    return text, earlier, messages.words_of_facts(connection, key), later
