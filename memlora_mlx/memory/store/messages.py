"""Messages as things to find: their rows, their words in the full-text index, and which memories came from them.

Every message of an exchange has a row in `indexed_messages` and one in the full-text table `message_words`, written in the
transaction of its exchange. Its vector may come later: until then the message is found by its words alone. A memory that
came from no message has a row of its own among the words. All of this can be made again: see `full_text`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from memlora_mlx.memory.changes import Vector
from memlora_mlx.memory.inputs import decode_time
from memlora_mlx.memory.retrieval.lexical import searchable, source_position
from memlora_mlx.records import Exchange, MemoryRecord, MessageKey
from memlora_mlx.text import clean_text

SESSION_GAP = timedelta(hours=1)  # a longer silence begins a new session
# Rows of `message_words` are ordered by owner, so that a search of one owner's words reads only those.
OWNER_BITS = 40
_PREVIOUS = """
    SELECT p.id, p.said_at FROM indexed_messages p
    WHERE p.exchange = (SELECT max(id) FROM exchanges WHERE owner = :owner AND source = :source AND id < :exchange)
    ORDER BY p.position DESC LIMIT 1
"""
_TEXT = """
    SELECT g.text, i.caption FROM indexed_messages p JOIN messages g ON g.exchange = p.exchange AND g.position = p.position
    LEFT JOIN images i ON i.id = g.image WHERE p.id = ?
"""


@dataclass(frozen=True, slots=True)
class EndedFact:
    """A memory that came from a message once and no longer does."""

    memory_id: str
    at: str  # ISO 8601, UTC
    is_forgotten: bool  # somebody deleted it, so that its words must not be found either


def message_row(owner: int, message: int) -> int:
    """The rowid of a message in `message_words`."""
    return owner << OWNER_BITS | message << 1


def memory_row(owner: int, memory: int) -> int:
    """The rowid of a memory without a message in `message_words`."""
    return owner << OWNER_BITS | memory << 1 | 1


def owner_rows(owner: int) -> tuple[int, int]:
    """The first and the last rowid that an owner can have in `message_words`."""
    return owner << OWNER_BITS, (owner + 1 << OWNER_BITS) - 1


def split_row(row: int) -> tuple[bool, int]:
    """Of a rowid in `message_words`: whether it is a message, and the rowid of the message or the memory."""
    return not row & 1, (row & (1 << OWNER_BITS) - 1) >> 1


def shown_text(text: str, caption: str | None) -> str:
    """A message in one line, with what its image shows."""
    return " ".join(f"{text} {f'[shares an image: {caption}]' if caption else ''}".split())


def embedding_text(speaker: str | None, text: str, caption: str | None) -> str:
    """What a message's vector is made of."""
    said = shown_text(text, caption) or "[shares an image]"
    return f"{speaker}: {said}" if speaker else said


# ------------------------------------------------------------------ writing


def index_exchange(connection: sqlite3.Connection, exchange: int, revision: int) -> list[int]:
    """Make the rows of an exchange's messages and their words. Returns the rows, in the order of the messages.

    The previous message of the first is the last one of the owner's exchange before it in the same conversation, unless more
    than `SESSION_GAP` lies between them.
    """
    header = connection.execute("SELECT owner, source, said_at FROM exchanges WHERE id = ?", [exchange]).fetchone()
    known = {"owner": header["owner"], "source": header["source"], "exchange": exchange}
    previous = connection.execute(_PREVIOUS, known).fetchone()
    before = None if previous is None else (previous["id"], previous["said_at"])
    made: list[int] = []
    texts: list[str] = []
    messages = connection.execute(
        "SELECT g.*, i.caption FROM messages g LEFT JOIN images i ON i.id = g.image WHERE exchange = ? ORDER BY position",
        [exchange],
    ).fetchall()
    for message in messages:
        said_at = message["said_at"] or header["said_at"]
        if not made and before is not None and not _is_same_session(before[1], said_at):
            before = None
        row = connection.execute(
            """
            INSERT INTO indexed_messages (exchange, position, owner, previous, speaker, said_at, revision)
            VALUES (?, ?, ?, ?, ?, ?, ?)
            """,
            [
                exchange,
                message["position"],
                header["owner"],
                before and before[0],
                message["speaker"],
                said_at,
                revision,
            ],
        ).lastrowid
        assert row is not None
        before = (row, said_at)
        made.append(row)
        texts.append(searchable(shown_text(message["text"], message["caption"])))
    if made:
        insert_words(connection, header["owner"], made, texts)
    return made


def insert_words(connection: sqlite3.Connection, owner: int, messages: Sequence[int], texts: Sequence[str]) -> None:
    [first] = connection.execute("SELECT previous FROM indexed_messages WHERE id = ?", [messages[0]]).fetchone()
    before = "" if first is None else words_of(connection, first)
    if first is not None:
        connection.execute("UPDATE message_words SET after = ? WHERE rowid = ?", [texts[0], message_row(owner, first)])
    connection.executemany(
        "INSERT INTO message_words (rowid, text, before, facts, after) VALUES (?, ?, ?, '', ?)",
        [
            [message_row(owner, row), text, earlier, later]
            for row, text, earlier, later in zip(messages, texts, [before, *texts], [*texts[1:], ""], strict=False)
        ],
    )


def words_of(connection: sqlite3.Connection, message: int) -> str:
    return searchable(shown_text(*connection.execute(_TEXT, [message]).fetchone()))


def _is_same_session(earlier: str | None, later: str | None) -> bool:
    before, after = decode_time(earlier), decode_time(later)
    if before is None or after is None:
        return before is after
    if (before.tzinfo is None) != (after.tzinfo is None):
        return False
    return abs(after - before) <= SESSION_GAP


def put_vectors(connection: sqlite3.Connection, vectors: Iterable[tuple[int, Vector]], revision: int) -> None:
    """Store vectors of messages, given with their rows. A message that is gone meanwhile is left out."""
    for row, vector in vectors:
        done = connection.execute(
            "UPDATE indexed_messages SET is_embedded = 1, revision = ? WHERE id = ?", [revision, row]
        ).rowcount
        if done:
            connection.execute("INSERT OR REPLACE INTO message_vectors VALUES (?, ?)", [row, vector.tobytes()])
            # A message's vector in the index has the previous message's in it.
            connection.execute("UPDATE indexed_messages SET revision = ? WHERE previous = ?", [revision, row])


def drop_vectors(connection: sqlite3.Connection, chosen: Iterable[int] | None, revision: int) -> None:
    """Forget the vectors of messages, given by their rows or None for all, until they are embedded again."""
    rows = None if chosen is None else json.dumps(list(chosen))
    where = "is_embedded" if rows is None else "id IN (SELECT value FROM json_each(?))"
    values = [] if rows is None else [rows]
    vectors = "1" if rows is None else "message IN (SELECT value FROM json_each(?))"
    connection.execute(f"DELETE FROM message_vectors WHERE {vectors}", values)
    connection.execute(f"UPDATE indexed_messages SET is_embedded = 0, revision = ? WHERE {where}", [revision, *values])


def pending(connection: sqlite3.Connection, limit: int) -> list[tuple[int, str]]:
    """Messages without a vector, the newest first: their rows, and the texts to embed."""
    found = connection.execute(
        """
        SELECT p.id, p.speaker, g.text, i.caption FROM indexed_messages p
        JOIN messages g ON g.exchange = p.exchange AND g.position = p.position LEFT JOIN images i ON i.id = g.image
        WHERE NOT p.is_embedded ORDER BY p.id DESC LIMIT ?
        """,
        [limit],
    )
    return [(row["id"], embedding_text(row["speaker"], row["text"], row["caption"])) for row in found]


def source_message(connection: sqlite3.Connection, exchange_key: str | None, fact: str) -> int | None:
    """The message of an exchange that a fact came from."""
    found = connection.execute(
        """
        SELECT p.id, g.text, i.caption, g.role FROM exchanges x JOIN indexed_messages p ON p.exchange = x.id
        JOIN messages g ON g.exchange = p.exchange AND g.position = p.position LEFT JOIN images i ON i.id = g.image
        WHERE x.key = ? ORDER BY p.position
        """,
        [exchange_key],
    ).fetchall()
    said = ((shown_text(row["text"], row["caption"]), row["role"] == "user") for row in found)
    position = source_position(fact, said)
    return None if position is None else int(found[position]["id"])


def find_message(connection: sqlite3.Connection, key: MessageKey) -> int | None:
    """The row of a message; None where it is gone."""
    row = connection.execute(
        "SELECT p.id FROM indexed_messages p JOIN exchanges x ON x.id = p.exchange WHERE x.key = ? AND p.position = ?",
        [key.exchange_key, key.position],
    ).fetchone()
    return None if row is None else int(row["id"])


def message_of(connection: sqlite3.Connection, memory: MemoryRecord) -> int | None:
    """The row of the message that a memory came from: the one it names, else the likeliest of its exchange."""
    if memory.message is not None:
        return find_message(connection, memory.message)
    row = source_message(connection, memory.exchange_key, memory.text)
    return None if row is None or has_ended(connection, row, memory.id) else row


def message_key(connection: sqlite3.Connection, message: int | None) -> MessageKey | None:
    row = connection.execute(
        "SELECT x.key, p.position FROM indexed_messages p JOIN exchanges x ON x.id = p.exchange WHERE p.id = ?",
        [message],
    ).fetchone()
    return None if row is None else MessageKey(row["key"], row["position"])


def begin_fact(connection: sqlite3.Connection, message: int, memory_id: str) -> None:
    """A memory comes from a message, perhaps again."""
    connection.execute("DELETE FROM ended_facts WHERE message = ? AND memory_id = ?", [message, memory_id])


def has_ended(connection: sqlite3.Connection, message: int, memory_id: str) -> bool:
    query = "SELECT 1 FROM ended_facts WHERE message = ? AND memory_id = ?"
    return connection.execute(query, [message, memory_id]).fetchone() is not None


def end_fact(connection: sqlite3.Connection, message: int, memory_id: str, at: str, *, is_forgotten: bool) -> None:
    """Note that a memory came from a message once and no longer does."""
    connection.execute("INSERT OR REPLACE INTO ended_facts VALUES (?, ?, ?, ?)", [message, memory_id, at, is_forgotten])


def ended_facts(connection: sqlite3.Connection, exchange_key: str) -> dict[int, list[EndedFact]]:
    """Memories that once came from a message of an exchange, by its position."""
    found: dict[int, list[EndedFact]] = {}
    for row in connection.execute(
        "SELECT i.position, e.* FROM exchanges x JOIN indexed_messages i ON i.exchange = x.id"
        " JOIN ended_facts e ON e.message = i.id WHERE x.key = ?",
        [exchange_key],
    ):
        fact = EndedFact(row["memory_id"], row["at"], bool(row["is_forgotten"]))
        found.setdefault(row["position"], []).append(fact)
    return found


def restore_ended_facts(
    connection: sqlite3.Connection, exchange_key: str, facts: Mapping[int, Sequence[EndedFact]]
) -> None:
    for position, ended in facts.items():
        if (row := find_message(connection, MessageKey(exchange_key, position))) is not None:
            for fact in ended:
                end_fact(connection, row, fact.memory_id, fact.at, is_forgotten=fact.is_forgotten)


def refresh_facts(connection: sqlite3.Connection, messages: Iterable[int], memories: Iterable[int]) -> None:
    """Bring the words of memories up to date: those that came from a message, and those that came from none."""
    for message in sorted(messages):
        row = connection.execute("SELECT owner FROM indexed_messages WHERE id = ?", [message]).fetchone()
        if row is not None:
            connection.execute(
                "UPDATE message_words SET facts = ? WHERE rowid = ?",
                [words_of_facts(connection, message), message_row(row["owner"], message)],
            )
    for memory in sorted(memories):
        row = connection.execute("SELECT owner, text, message FROM memories WHERE id = ?", [memory]).fetchone()
        if row is not None:
            remove_words(connection, memory_row(row["owner"], memory))
            if row["message"] is None:
                _insert_memory_words(connection, row["owner"], memory, row["text"])


def words_of_facts(connection: sqlite3.Connection, message: int) -> str:
    texts = connection.execute("SELECT text FROM memories WHERE message = ? ORDER BY id", [message])
    return searchable(". ".join(row["text"] for row in texts))


def _insert_memory_words(connection: sqlite3.Connection, owner: int, memory: int, text: str) -> None:
    connection.execute(
        "INSERT INTO message_words (rowid, text, before, facts, after) VALUES (?, '', '', ?, '')",
        [memory_row(owner, memory), searchable(text)],
    )


def remove_memory(connection: sqlite3.Connection, owner: int, memory: int) -> None:
    """Remove the words of a memory that came from no message."""
    remove_words(connection, memory_row(owner, memory))


def remove_words(connection: sqlite3.Connection, row: int) -> None:
    """Remove a row of the full-text table."""
    connection.execute("DELETE FROM message_words WHERE rowid = ?", [row])


def said_last(connection: sqlite3.Connection, owners: Sequence[int]) -> datetime | None:
    """The last time that anything was said by or to these owners."""
    times = [
        connection.execute("SELECT max(said_at) FROM indexed_messages WHERE owner = ?", [owner]).fetchone()[0]
        for owner in owners
    ]
    return decode_time(max(filter(None, times), default=None))


def speakers(connection: sqlite3.Connection, owners: Sequence[int]) -> list[str]:
    """The names of those who spoke in the owners' conversations."""
    found: dict[str, None] = {}
    for owner in owners:
        last: str | None = ""
        while last is not None:  # from name to name along the index, past all messages of each
            [last] = connection.execute(
                "SELECT min(speaker) FROM indexed_messages WHERE owner = ? AND speaker > ?", [owner, last]
            ).fetchone()
            if last is not None:
                found[last] = None
    return list(found)


def exchange_texts(exchange: Exchange) -> list[str]:
    """What the vectors of an exchange's messages are made of, in order."""
    return [
        embedding_text(
            message.speaker and clean_text(message.speaker),
            clean_text(message.text),
            clean_text(message.image.caption) if message.image and message.image.caption else None,
        )
        for message in exchange.messages
    ]
