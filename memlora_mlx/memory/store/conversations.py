"""The conversations of the chat as they were held: kept, listed, searched, renamed and deleted.

The user's words are stored before the reply begins, and the reply when it has ended. A conversation belongs to one owner and
has an id, a name and times. What is remembered of it is stored apart, as an exchange with memories; the turns of a question
and its reply have the key of that exchange, so a memory's source leads to its place in the conversation.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from memlora_mlx.errors import StoreError, UsageError
from memlora_mlx.memory import inputs
from memlora_mlx.memory.retrieval.lexical import prefix_expression, question_terms
from memlora_mlx.memory.secrets import NOTHING_LEFT, screen_text, screen_turns
from memlora_mlx.memory.store import rows, turn_words
from memlora_mlx.memory.store.exchanges import delete_exchanges
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.transactions import Transaction
from memlora_mlx.records import Image, Role, Scope
from memlora_mlx.text import clean_line, clean_text

TurnState = Literal["complete", "cut"]  # cut: the user stopped the reply, or it failed on its way

NAME_CHARACTERS = 48  # of the first words that name a conversation
MAX_NAME = 200  # characters of a name that the user gives
EXCERPT = 100  # characters of a turn that a search shows
MAX_FOUND = 1_000  # turns of a search that are looked at, the best first


@dataclass(frozen=True, slots=True)
class SavedTurn:
    """What one side said."""

    exchange_key: str  # the same for a question and its reply
    role: Role
    text: str
    said_at: datetime  # UTC
    state: TurnState = "complete"
    image: Image | None = None
    is_remembered: bool = False  # the memory work of its exchange is done


@dataclass(frozen=True, slots=True)
class SavedConversation:
    """One conversation, without its turns."""

    id: str
    name: str
    started_at: datetime  # UTC
    changed_at: datetime  # UTC; when something was last said in it
    turns: int
    excerpt: str = ""  # of the turn that a search found
    found_key: str | None = None  # the exchange key of that turn


# ------------------------------------------------------------------ while it is held


def save_question(
    store: Store,
    owner: Scope,
    text: str,
    *,
    key: str,
    said_at: datetime,
    conversation: str | None = None,
    image: Image | None = None,
    keep_secrets: bool = False,
) -> str:
    """Store what the user says, before there is a reply. The same key again changes nothing.

    Args:
        key: of the exchange that the turn will be remembered in.
        keep_secrets: store secrets; see `memlora_mlx.memory.secrets`.
        conversation: its id; without one, or where it was deleted meanwhile, a new conversation begins.

    Returns the id of the conversation.

    Raises:
        StoreError: the store cannot be written.
    """
    text = screen_text(clean_text(text), keep_secrets=keep_secrets).text or NOTHING_LEFT * bool(text)
    if image is not None and image.caption:
        image = replace(image, caption=screen_text(image.caption, keep_secrets=keep_secrets).text)
    with store.transaction() as transaction:
        row = transaction.connection.execute(
            "SELECT id FROM conversations WHERE public_id = ?", [conversation]
        ).fetchone()
        if row is None:
            conversation = str(uuid.uuid4())
            time = inputs.encode_time(said_at)
            number = transaction.connection.execute(
                "INSERT INTO conversations (public_id, owner, name, started_at, changed_at) VALUES (?, ?, ?, ?, ?)",
                [conversation, transaction.owner_row(owner), name_from(text), time, time],
            ).lastrowid
        else:
            number = row["id"]
        _put(transaction, number, key, "user", text, said_at, "complete", image)
    assert conversation is not None
    return conversation


def save_reply(
    store: Store,
    key: str,
    text: str,
    *,
    question: str,
    said_at: datetime,
    state: TurnState = "complete",
    keep_secrets: bool = False,
) -> None:
    """Store the reply to a saved question, in place of an earlier reply to it. Nothing happens if the question is gone.

    Args:
        question: as the user typed it. The reply may repeat what of it must not be stored.
        keep_secrets: store secrets; see `memlora_mlx.memory.secrets`.
    """
    _, text = screen_turns(clean_text(question), clean_text(text), keep_secrets=keep_secrets)
    with store.transaction() as transaction:
        row = transaction.connection.execute(
            "SELECT conversation FROM turns WHERE exchange_key = ? AND role = 'user'", [key]
        ).fetchone()
        if row is not None:
            earlier = "DELETE FROM turns WHERE exchange_key = ? AND role = 'assistant'"
            if transaction.connection.execute(earlier, [key]).rowcount:
                turn_words.remove_orphans(transaction.connection)
            _put(transaction, row["conversation"], key, "assistant", text, said_at, state, None)


def _put(
    transaction: Transaction,
    conversation: int | None,
    key: str,
    role: Role,
    text: str,
    said_at: datetime,
    state: TurnState,
    image: Image | None,
) -> None:
    time = inputs.encode_time(said_at)
    turn = transaction.connection.execute(
        """
        INSERT INTO turns (conversation, exchange_key, role, text, state, said_at, image_source, image_caption)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id
        """,
        [conversation, key, role, text, state, time, image and image.source, image and image.caption],
    ).fetchone()
    if turn is not None:
        turn_words.put(transaction.connection, turn["id"], text)
        transaction.connection.execute("UPDATE conversations SET changed_at = ? WHERE id = ?", [time, conversation])


def mark_remembered(store: Store, key: str) -> None:
    """Note that the memory work of these turns is done. Nothing is written where there are none, or it is noted already."""
    condition = "exchange_key = ? AND NOT is_remembered"
    with store.snapshot() as connection:
        if connection.execute(f"SELECT 1 FROM turns WHERE {condition}", [key]).fetchone() is None:
            return
    with store.transaction() as transaction:
        transaction.connection.execute(f"UPDATE turns SET is_remembered = 1 WHERE {condition}", [key])


def delete_turns(store: Store, key: str) -> None:
    """Delete a question and its reply, for example because the user asks it in other words. Memories stay."""
    with store.transaction() as transaction:
        transaction.connection.execute("DELETE FROM turns WHERE exchange_key = ?", [key])
        turn_words.remove_orphans(transaction.connection)


# ------------------------------------------------------------------ reading


def list_conversations(
    store: Store, owner: Scope | None = None, *, words: str = "", limit: int | None = None
) -> list[SavedConversation]:
    """The conversations, the one in which something was said last first.

    Args:
        owner: exactly whose; None for everybody's.
        words: only those that contain all of these words in one turn, or in their name. Each may be a word's beginning. A
            conversation that was found by a turn has an excerpt of the best one.
    """
    last = -1 if limit is None else max(0, limit)
    with store.snapshot() as connection:
        where, values = rows.scope_condition(owner, exact=True) if owner is not None else ("1", [])
        if not words.strip():
            found = connection.execute(f"{_CONVERSATIONS} WHERE {where} {_NEWEST} LIMIT ?", [*values, last]).fetchall()
            return [_conversation(row) for row in found]
        turns = _best_turns(connection, words)
        chosen = json.dumps(list(turns))
        condition = (
            f"{where} AND (c.id IN (SELECT value FROM json_each(?)) OR instr(casefold(c.name), casefold(?)) > 0)"
        )
        found = connection.execute(
            f"{_CONVERSATIONS} WHERE {condition} {_NEWEST} LIMIT ?", [*values, chosen, words.strip(), last]
        ).fetchall()
        return [_conversation(row, turns.get(row["id"]), words) for row in found]


def _best_turns(connection: sqlite3.Connection, words: str) -> dict[int, sqlite3.Row]:
    """The best turn with all the words of each conversation that has one."""
    terms = question_terms(words)
    if not terms:
        return {}
    best: dict[int, sqlite3.Row] = {}
    for row in connection.execute(
        "SELECT t.conversation, t.text, t.exchange_key FROM turn_words w JOIN turns t ON t.id = w.rowid"
        " WHERE turn_words MATCH ? ORDER BY rank LIMIT ?",
        [prefix_expression(terms), MAX_FOUND],
    ):
        best.setdefault(row["conversation"], row)
    return best


def latest_conversation(store: Store, owner: Scope) -> SavedConversation | None:
    """The conversation of this owner in which something was said last."""
    return next(iter(list_conversations(store, owner, limit=1)), None)


def find_conversation(store: Store, beginning: str) -> SavedConversation:
    """The conversation whose id begins so. Raises StoreError: no id begins so, or several ids do."""
    with store.snapshot() as connection:
        found = connection.execute(
            f"{_CONVERSATIONS} WHERE substr(c.public_id, 1, length(?)) = ? {_NEWEST} LIMIT 2", [beginning, beginning]
        ).fetchall()
    if beginning and len(found) == 1:
        return _conversation(found[0])
    raise StoreError(
        f"several conversation ids start with {beginning!r}; type more characters of the id"
        if found and beginning
        else f"no conversation has the id {beginning!r}; `memlora conversations list` shows them"
    )


def conversation_of(store: Store, exchange_key: str | None) -> SavedConversation | None:
    """The conversation that an exchange was said in, such as the exchange of a memory; None where none is kept."""
    with store.snapshot() as connection:
        row = connection.execute(
            f"{_CONVERSATIONS} WHERE c.id = (SELECT conversation FROM turns WHERE exchange_key = ?)", [exchange_key]
        ).fetchone()
    return None if row is None else _conversation(row)


def read_turns(
    store: Store, conversation: str, *, last: int | None = None, since: str | None = None
) -> list[SavedTurn]:
    """The turns of a conversation, in order: each question with its reply behind it, if there is one.

    Args:
        last: only so many of the questions, the newest.
        since: only from the question with this exchange key on, where it is further back than `last`.
    """
    with store.snapshot() as connection:
        begin = connection.execute(_FIRST_TURN, {"id": conversation, "last": last, "since": since}).fetchone()[0]
        found = connection.execute(
            """
            SELECT t.* FROM turns t JOIN turns q ON q.exchange_key = t.exchange_key AND q.role = 'user'
            JOIN conversations c ON c.id = t.conversation
            WHERE c.public_id = ? AND q.id >= ? ORDER BY q.id, t.role DESC
            """,
            [conversation, begin],
        ).fetchall()
    return [_turn(row) for row in found]


_FIRST_TURN = """
    SELECT min(ifnull((
        SELECT t.id FROM turns t JOIN conversations c ON c.id = t.conversation
        WHERE c.public_id = :id AND t.role = 'user' AND :last IS NOT NULL ORDER BY t.id DESC LIMIT 1 OFFSET ifnull(:last, 1) - 1
    ), 0), ifnull((SELECT id FROM turns WHERE exchange_key = :since AND role = 'user'), 9223372036854775807))
"""


# ------------------------------------------------------------------ changing


def rename_conversation(store: Store, conversation: str, name: str) -> str:
    """Give a conversation a name, on one line. Returns the name. Raises UsageError: the name is empty or too long."""
    name = clean_line(name)
    if not name:
        raise UsageError("a conversation needs a name; type one or more words")
    if len(name) > MAX_NAME:
        raise UsageError(f"a name can have at most {MAX_NAME} characters; this one has {len(name)}. Shorten it")
    with store.transaction() as transaction:
        transaction.connection.execute("UPDATE conversations SET name = ? WHERE public_id = ?", [name, conversation])
    return name


def remembered_count(store: Store, conversation: str) -> int:
    """How many memories stand in the store whose words were said in this conversation."""
    with store.snapshot() as connection:
        return len(rows.read_memories(connection, _REMEMBERED, [conversation]))


def delete_conversation(store: Store, conversation: str, *, with_memories: bool, actor: str = "user") -> int:
    """Delete a conversation with its turns. For the training examples as well see `Editor.delete_conversation`.

    Args:
        with_memories: delete the memories, too, whose words were said in it, and the exchanges that they came from, so that
            nothing that was said can be found any more. Each memory can be restored by `undo`, without its source.

    Returns how many memories were deleted.
    """
    with store.transaction() as transaction:
        connection = transaction.connection
        gone = rows.read_memories(connection, _REMEMBERED, [conversation]) if with_memories else []
        for memory in gone:
            transaction.remove(memory, None, actor)
        if with_memories:
            found = connection.execute(
                "SELECT DISTINCT exchange_key FROM turns t JOIN conversations c ON c.id = t.conversation"
                " WHERE c.public_id = ?",
                [conversation],
            )
            delete_exchanges(transaction, [row["exchange_key"] for row in found])
        connection.execute("DELETE FROM conversations WHERE public_id = ?", [conversation])
        turn_words.remove_orphans(connection)
    return len(gone)


# Memories whose words came from the conversation; of a memory that knows no message, those whose exchange did.
_REMEMBERED = """
    WHERE ifnull((SELECT key FROM exchanges WHERE id = w.exchange), x.key) IN (
        SELECT t.exchange_key FROM turns t JOIN conversations c ON c.id = t.conversation WHERE c.public_id = ?
    ) ORDER BY m.id
"""
_CONVERSATIONS = """
    SELECT c.*, (SELECT count(*) FROM turns WHERE conversation = c.id) AS turns
    FROM conversations c JOIN owners o ON o.id = c.owner
"""
_NEWEST = "ORDER BY c.changed_at DESC, c.id DESC"


def name_from(text: str) -> str:
    """A name for a conversation that begins with this text: its first words."""
    line = clean_line(next((line for line in text.splitlines() if line.strip()), ""))
    if len(line) <= NAME_CHARACTERS:
        return line or "Conversation"
    head = line[:NAME_CHARACTERS]
    return f"{head.rpartition(' ')[0] or head} …"


def excerpt(text: str, words: Sequence[str]) -> str:
    """A piece of a text around the first of the words, on one line."""
    line = clean_line(text)
    folded = line.casefold()
    at = min((place for word in words if (place := folded.find(word.casefold())) >= 0), default=0)
    begin = 0 if at < EXCERPT // 2 else line.rfind(" ", 0, at - EXCERPT // 4) + 1
    piece = line[begin : begin + EXCERPT]
    return f"{'… ' if begin else ''}{piece}{' …' if begin + EXCERPT < len(line) else ''}"


def _conversation(row: sqlite3.Row, found: sqlite3.Row | None = None, words: str = "") -> SavedConversation:
    return SavedConversation(
        row["public_id"],
        row["name"],
        datetime.fromisoformat(row["started_at"]),
        datetime.fromisoformat(row["changed_at"]),
        row["turns"],
        "" if found is None else excerpt(found["text"], question_terms(words)),
        None if found is None else found["exchange_key"],
    )


def _turn(row: sqlite3.Row) -> SavedTurn:
    return SavedTurn(
        row["exchange_key"],
        row["role"],
        row["text"],
        datetime.fromisoformat(row["said_at"]),
        row["state"],
        None if row["image_source"] is None else Image(row["image_source"], row["image_caption"]),
        bool(row["is_remembered"]),
    )
