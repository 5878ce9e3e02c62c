"""The full-text table of the turns of conversations. It holds nothing that is not in `turns`, and can be made again."""

from __future__ import annotations

import sqlite3

from memlora_mlx.memory.retrieval.lexical import TOKENIZER, searchable

_TABLE = f"CREATE VIRTUAL TABLE turn_words USING fts5(text, tokenize = '{TOKENIZER}')"


def exists(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'turn_words'").fetchone() is not None


def fill(connection: sqlite3.Connection) -> None:
    """Make the table anew from the turns."""
    connection.execute("DROP TABLE IF EXISTS turn_words")
    connection.execute(_TABLE)
    for row in connection.execute("SELECT id, text FROM turns").fetchall():
        put(connection, row["id"], row["text"])


def put(connection: sqlite3.Connection, turn: int, text: str) -> None:
    """Store the words of a turn in place of those that it had."""
    connection.execute("INSERT OR REPLACE INTO turn_words (rowid, text) VALUES (?, ?)", [turn, searchable(text)])


def remove_orphans(connection: sqlite3.Connection) -> None:
    """Remove the words of turns that are gone, and every trace of them."""
    connection.execute("DELETE FROM turn_words WHERE rowid NOT IN (SELECT id FROM turns)")
    # FTS5 only marks deleted words as deleted, until parts of its index are merged.
    connection.execute("INSERT INTO turn_words (turn_words) VALUES ('optimize')")


def problems(connection: sqlite3.Connection) -> list[str]:
    """What does not fit together between turns and their words, one line each."""
    [count] = connection.execute(
        "SELECT abs((SELECT count(*) FROM turn_words_content) - (SELECT count(*) FROM turns))"
    ).fetchone()
    return [f"{count} turns of conversations are missing in the full-text index, or there twice"] if count else []


def count_wrong(connection: sqlite3.Connection) -> int:
    """How many texts in the table are not those of their turns."""
    found = connection.execute("SELECT w.text, t.text AS said FROM turn_words w LEFT JOIN turns t ON t.id = w.rowid")
    return sum(row["said"] is None or row["text"] != searchable(row["said"]) for row in found)
