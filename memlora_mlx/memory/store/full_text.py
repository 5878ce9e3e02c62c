"""The full-text tables, of messages with memories and of turns: made, made again, and checked.

They hold nothing that is not also in exchanges, memories, history and turns. They are made when a store is first opened,
and again where another version of memlora prepared their words.
"""

from __future__ import annotations

import sqlite3

from memlora_mlx.memory.retrieval.lexical import TOKENIZER, WORDS_VERSION
from memlora_mlx.memory.store import turn_words
from memlora_mlx.memory.store.database import Database
from memlora_mlx.memory.store.messages import (
    end_fact,
    index_exchange,
    insert_words,
    refresh_facts,
    source_message,
    words_of,
)
from memlora_mlx.memory.store.meta import next_revision
from memlora_mlx.records import MessageKey

_WORDS = f"""
    CREATE VIRTUAL TABLE message_words USING fts5(text, before, facts, after, tokenize = '{TOKENIZER}')
"""


def create_words(connection: sqlite3.Connection) -> None:
    """An empty full-text table of messages in place of the one that may be there, and that of the turns."""
    connection.execute("DROP TABLE IF EXISTS message_words")
    connection.execute(_WORDS)
    turn_words.fill(connection)
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('words', ?)", [str(WORDS_VERSION)])


def words_version(connection: sqlite3.Connection) -> int:
    """The version of the full-text table; 0 where there is none yet, -1 where damage has changed it."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'words'").fetchone()
    if row is None:
        return 0
    return int(row["value"]) if str(row["value"]).isdecimal() else -1


def fill_if_outdated(database: Database) -> None:
    """Create the full-text index of a new store, or recreate one that another version of memlora made."""
    with database.read() as connection:
        is_current = words_version(connection) == WORDS_VERSION
        has_turns = turn_words.exists(connection)
    if not is_current:
        with database.write() as connection:
            fill(connection, next_revision(connection))
    elif not has_turns:  # a store of before conversations were kept
        with database.write() as connection:
            turn_words.fill(connection)


def fill(connection: sqlite3.Connection, revision: int) -> None:
    """Create the rows that are missing, and recreate the full-text table, from exchanges, memories and history."""
    is_first = words_version(connection) == 0
    create_words(connection)
    every = connection.execute(
        "SELECT id, EXISTS (SELECT 1 FROM indexed_messages WHERE exchange = x.id) FROM exchanges x"
    )
    for exchange, is_indexed in every.fetchall():
        if is_indexed:
            _refill_words(connection, exchange)
        else:
            index_exchange(connection, exchange, revision)
    if is_first:
        _replay_history(connection)
    memories = connection.execute("SELECT id, message FROM memories").fetchall()
    from_messages = {row["message"] for row in memories if row["message"] is not None}
    refresh_facts(connection, from_messages, (row["id"] for row in memories if row["message"] is None))


def _refill_words(connection: sqlite3.Connection, exchange: int) -> None:
    rows = connection.execute(
        "SELECT id, owner FROM indexed_messages WHERE exchange = ? ORDER BY position", [exchange]
    ).fetchall()
    messages = [row["id"] for row in rows]
    insert_words(connection, rows[0]["owner"], messages, [words_of(connection, message) for message in messages])


def _replay_history(connection: sqlite3.Connection) -> None:
    """Tell for the memories of an older store which messages they came from, and which messages lost a memory."""
    links: dict[str, int | None] = {}
    for line in connection.execute("SELECT * FROM history ORDER BY id").fetchall():
        memory_id, is_undone = line["memory_id"], line["undone_by"] is not None
        if line["actor"] in ("undo", "redo"):
            continue
        if is_undone:
            withdrawn = line["exchange_key"] if line["event"] == "ADD" else None
            if (message := source_message(connection, withdrawn, line["new_text"] or "")) is not None:
                end_fact(connection, message, memory_id, line["at"], is_forgotten=True)
            continue
        ended = links.pop(memory_id, None)
        if ended is not None:
            is_forgotten = line["event"] == "DELETE" and line["actor"] != "model"
            end_fact(connection, ended, memory_id, line["at"], is_forgotten=is_forgotten)
        if line["event"] != "DELETE":
            links[memory_id] = source_message(connection, line["exchange_key"], line["new_text"])
    for row in connection.execute(
        "SELECT m.id, m.public_id, m.text, x.key FROM memories m LEFT JOIN exchanges x ON x.id = m.exchange"
    ).fetchall():
        known = row["public_id"] in links
        message = links[row["public_id"]] if known else source_message(connection, row["key"], row["text"])
        if message is not None:
            connection.execute("UPDATE memories SET message = ? WHERE id = ?", [message, row["id"]])
            connection.execute(
                "DELETE FROM ended_facts WHERE message = ? AND memory_id = ?", [message, row["public_id"]]
            )


def problems(connection: sqlite3.Connection) -> list[str]:
    """What does not fit together between messages, memories and their words, one line each."""
    counts = {
        "messages cannot be found, as they have no row in the search index": """
            SELECT count(*) FROM messages g
            LEFT JOIN indexed_messages i ON i.exchange = g.exchange AND i.position = g.position WHERE i.id IS NULL
        """,
        "texts are missing in the full-text index, or there twice": """
            SELECT abs((SELECT count(*) FROM message_words_content) - (SELECT count(*) FROM indexed_messages)
                - (SELECT count(*) FROM memories WHERE message IS NULL))
        """,
        "messages are marked as embedded but have no embedding": """
            SELECT count(*) FROM indexed_messages i LEFT JOIN message_vectors v ON v.message = i.id
            WHERE i.is_embedded AND v.message IS NULL
        """,
    }
    found = {problem: connection.execute(query).fetchone()[0] for problem, query in counts.items()}
    return [f"{count} {problem}" for problem, count in found.items() if count] + turn_words.problems(connection)


def ended_and_standing(connection: sqlite3.Connection) -> tuple[frozenset[MessageKey], frozenset[MessageKey]]:
    """Messages of which a memory was changed, withdrawn or deleted, and messages of which a memory is stored now."""
    query = """
        SELECT x.key, i.position, f.id IS NOT NULL AS is_standing,
            EXISTS (SELECT 1 FROM ended_facts WHERE message = i.id) AS has_ended
        FROM indexed_messages i JOIN exchanges x ON x.id = i.exchange LEFT JOIN memories f ON f.message = i.id
    """
    found = [(MessageKey(row["key"], row["position"]), row) for row in connection.execute(query)]
    ended = frozenset(key for key, row in found if row["has_ended"])
    return ended, frozenset(key for key, row in found if row["is_standing"])
