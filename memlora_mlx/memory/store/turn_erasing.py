"""What an erasing takes out of the conversations of the chat: whole turns, sentences of turns, and names made of them.

The turns of a conversation are kept beside the messages that are remembered of it, so the same words stand in both.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from memlora_mlx.memory.store import turn_words
from memlora_mlx.memory.store.conversations import name_from
from memlora_mlx.memory.store.erased_texts import ErasedTexts, bare_words

_IN = "IN (SELECT value FROM json_each(?))"


@dataclass(slots=True)
class TurnPlan:
    """The rows of turns and conversations that go or change."""

    gone: set[int] = field(default_factory=set)  # turns
    edits: dict[int, str] = field(default_factory=dict)  # turns that lose some sentences -> what is left
    images: set[int] = field(default_factory=set)  # turns whose image is no longer named
    named: set[int] = field(default_factory=set)  # conversations whose name holds the words
    conversations: set[int] = field(default_factory=set)  # that go as a whole
    unread: set[str] = field(default_factory=set)  # keys of questions that go before they were remembered

    def __bool__(self) -> bool:
        return bool(self.gone or self.edits or self.images or self.named or self.conversations)

    @property
    def count(self) -> int:
        return len(self.gone) + len(self.edits)


def plan_whole(connection: sqlite3.Connection, plan: TurnPlan, where: str, values: Sequence[object]) -> set[str]:
    """Take the turns that a condition names. Returns their texts, and the captions of their images."""
    texts: set[str] = set()
    for row in connection.execute(f"SELECT * FROM turns WHERE {where}", values):
        plan.gone.add(row["id"])
        texts |= {text for text in (row["text"], row["image_caption"]) if text}
        if row["role"] == "user" and not row["is_remembered"]:
            plan.unread.add(row["exchange_key"])
    return texts


def plan_conversations(connection: sqlite3.Connection, plan: TurnPlan, owners: Collection[int]) -> set[str]:
    """Take all conversations of owners. Returns their texts."""
    given = json.dumps(list(owners))
    found = connection.execute(f"SELECT id, name FROM conversations WHERE owner {_IN}", [given]).fetchall()
    plan.conversations |= {row["id"] for row in found}
    chosen = json.dumps([row["id"] for row in found])
    return {row["name"] for row in found} | plan_whole(connection, plan, f"conversation {_IN}", [chosen])


def plan_words(
    connection: sqlite3.Connection, plan: TurnPlan, sought: ErasedTexts, owners: Collection[int] | None = None
) -> None:
    """Take the sentences of turns that hold the words, and turns with nothing else in them.

    Args:
        owners: only the conversations of these.
    """
    if not sought:
        return
    where, given = ("1", []) if owners is None else (f"c.owner {_IN}", [json.dumps(list(owners))])
    for row in connection.execute(
        f"SELECT t.* FROM turns t JOIN conversations c ON c.id = t.conversation WHERE {where}", given
    ):
        if row["id"] in plan.gone:
            continue
        if sought.found_in(row["text"]):
            if kept := sought.cut_from(row["text"]):
                plan.edits[row["id"]] = kept
            else:
                plan.gone.add(row["id"])
                if row["role"] == "user" and not row["is_remembered"]:
                    plan.unread.add(row["exchange_key"])
        if sought.found_in(row["image_source"]) or sought.found_in(row["image_caption"]):
            plan.images.add(row["id"])
    for row in connection.execute(f"SELECT c.id, c.name FROM conversations c WHERE {where}", given):
        if sought.found_in(row["name"]):
            plan.named.add(row["id"])


def plan_names(connection: sqlite3.Connection, plan: TurnPlan, texts: Iterable[str]) -> None:
    """Take the names that were made of texts which go, also where their turn is gone already."""
    given = json.dumps(list({name_from(text) for text in texts}))
    found = connection.execute(f"SELECT id FROM conversations WHERE name {_IN}", [given])
    plan.named |= {row["id"] for row in found}


def remove_turns(connection: sqlite3.Connection, plan: TurnPlan) -> None:
    """Carry a plan out. A conversation that was named after words that go is named after those that are left."""
    if not plan:
        return
    touched = json.dumps([*plan.gone, *plan.edits])
    renamed = set(plan.named)
    for row in connection.execute(
        f"SELECT c.id, c.name, t.text FROM turns t JOIN conversations c ON c.id = t.conversation WHERE t.id {_IN}",
        [touched],
    ):
        if bare_words(row["text"]).startswith(bare_words(row["name"])):
            renamed.add(row["id"])
    connection.execute(f"DELETE FROM turns WHERE id {_IN}", [json.dumps(list(plan.gone))])
    for turn, text in plan.edits.items():
        connection.execute("UPDATE turns SET text = ? WHERE id = ?", [text, turn])
        turn_words.put(connection, turn, text)
    connection.execute(
        f"UPDATE turns SET image_source = NULL, image_caption = NULL WHERE id {_IN}", [json.dumps(list(plan.images))]
    )
    connection.execute(f"DELETE FROM conversations WHERE id {_IN}", [json.dumps(list(plan.conversations))])
    connection.execute("DELETE FROM conversations WHERE id NOT IN (SELECT conversation FROM turns)")
    for conversation in renamed:
        first = connection.execute(
            "SELECT text FROM turns WHERE conversation = ? AND role = 'user' ORDER BY id LIMIT 1", [conversation]
        ).fetchone()
        name = name_from(first["text"] if first is not None else "")
        connection.execute("UPDATE conversations SET name = ? WHERE id = ?", [name, conversation])
    connection.executemany("INSERT OR IGNORE INTO erased_exchanges VALUES (?)", [[key] for key in plan.unread])
    turn_words.remove_orphans(connection)
