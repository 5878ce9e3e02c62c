"""Take rows out of the database so that no byte of them is left in its file, in its journal or in the vector indexes.

The rows go in one transaction, which also notes that the rest is to be done: merge the full-text index, write the file anew,
empty the journal, remove saved indexes, pictures and backups. A kill in between leaves the note, and `finish_erasing` does
the rest.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable

from memlora_mlx.errors import StoreReadOnly
from memlora_mlx.memory.store import full_text, message_removal, messages, meta, turn_erasing
from memlora_mlx.memory.store.backups import back_up_or_warn, forget_backups
from memlora_mlx.memory.store.erase_plan import ErasePlan, Selection, plan_erasing
from memlora_mlx.memory.store.images import images_in_use
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.transactions import Transaction

_IN = "IN (SELECT value FROM json_each(?))"
_TABLES = (
    *("history", "tombstones", "message_tombstones", "memories", "exchanges", "images", "sources", "people"),
    *("erased_exchanges", "turns", "conversations", "owners"),
)


def erase_rows(store: Store, selection: Selection) -> ErasePlan:
    """Erase what a selection means from the database. Returns what that was.

    Raises:
        StoreReadOnly: nothing can be erased from a store that cannot be written.
        MemoryNotFound, StoreError: see `plan_erasing`.
    """
    if store.database.read_only:
        raise StoreReadOnly(f"the store in {store.folder} cannot be written, so nothing can be erased from it")
    if not selection.everything:
        return erase_planned(store, lambda connection: plan_erasing(connection, selection))
    with store.transaction() as transaction:
        _remove_everything(transaction)
    finish_erasing(store)
    return ErasePlan()


def erase_planned(
    store: Store, make_plan: Callable[[sqlite3.Connection], ErasePlan], *, keep_backups: bool = False
) -> ErasePlan:
    """Erase what a plan says that is made in the transaction itself. Returns the plan.

    Args:
        keep_backups: leave the copies of the database, which go by themselves as they get old.

    Raises: see `erase_rows`.
    """
    with store.transaction() as transaction:
        plan = make_plan(transaction.connection)
        if plan.is_empty:
            return plan
        _remove(transaction, plan, keep_backups=keep_backups)
    finish_erasing(store)
    return plan


def erase_everything(store: Store) -> None:
    """Erase all there is, the history and the mark of what was read too. Raises: see `erase_rows`."""
    erase_rows(store, Selection(everything=True))


def finish_erasing(store: Store) -> bool:
    """Do what an erasing has left to do, if there was one. Returns whether there was.

    Raises:
        StoreBusy: another process reads the store, so that its journal cannot be emptied; the words are still in there.
        StoreFull: there is no room to write the file anew.
    """
    with store.snapshot() as connection:
        if (left := meta.unfinished_erasing(connection)) is None:
            return False
        owners = meta.erased_owners(connection)
        used = images_in_use(connection, store.clock())
        is_empty = connection.execute("SELECT 1 FROM owners").fetchone() is None
    if is_empty:
        store.indexes.clear()
        store.message_indexes.clear()
        store.images.clear()
    store.indexes.forget(owners)
    store.message_indexes.forget(owners)
    store.images.erase({path.stem for path in store.images.files()} - used)
    store.database.compact()
    had_backups = left == "all" and forget_backups(store.folder)  # copies of the database hold the words, too
    with store.database.write() as connection:
        meta.note_erasing_finished(connection)
    if had_backups:  # of what is left
        back_up_or_warn(store.database, store.clock().astimezone().date())
    return True


def _remove_everything(transaction: Transaction) -> None:
    transaction.connection.execute("DELETE FROM meta WHERE key LIKE 'erased:%'")
    for table in _TABLES:
        transaction.connection.execute(f"DELETE FROM {table}")
    full_text.create_words(transaction.connection)  # afterwards: it takes the words of the turns that are there
    # A new revision, so that the indexes of other processes notice it.
    meta.note_erasing(transaction.connection, (), transaction.revision)


def _remove(transaction: Transaction, plan: ErasePlan, *, keep_backups: bool) -> None:
    connection, revision = transaction.connection, transaction.revision
    owners = _affected_owners(connection, plan)
    sources = [
        row[0]
        for row in connection.execute(
            f"SELECT DISTINCT source FROM exchanges WHERE id {_IN}", [json.dumps(list(plan.exchanges))]
        )
    ]
    _remove_memories(connection, plan, revision)
    for line in plan.history:
        # The lines that one of these reverts are kept: they count as reverted no more only if they go too (see the plan).
        connection.execute("UPDATE history SET undone_by = NULL WHERE undone_by = ?", [line])
    connection.execute(f"DELETE FROM history WHERE id {_IN}", [json.dumps(list(plan.history))])
    of_exchanges = connection.execute(
        f"SELECT exchange, position FROM messages WHERE exchange {_IN}", [json.dumps(list(plan.exchanges))]
    )
    gone = plan.messages | {(row["exchange"], row["position"]) for row in of_exchanges}
    alone = message_removal.remove_messages(connection, gone, revision)
    message_removal.replace_texts(
        connection, {place: text for place, text in plan.edits.items() if place not in gone}, revision
    )
    connection.executemany(
        "INSERT OR IGNORE INTO erased_exchanges VALUES (?)", [[key] for key in plan.exchanges.values()]
    )
    connection.execute(f"DELETE FROM exchanges WHERE id {_IN}", [json.dumps(list(plan.exchanges))])
    turn_erasing.remove_turns(connection, plan.chat)
    _remove_images(connection, plan)
    _rename_sources(connection, plan)
    names = json.dumps(sources)
    connection.execute(f"DELETE FROM sources WHERE name {_IN} AND name NOT IN (SELECT source FROM exchanges)", [names])
    for owner in plan.owners:
        connection.execute("DELETE FROM people WHERE user_id = (SELECT user_id FROM owners WHERE id = ?)", [owner])
    connection.execute(f"DELETE FROM owners WHERE id {_IN}", [json.dumps(list(plan.owners))])
    messages.refresh_facts(connection, (), alone)
    # FTS5 only marks deleted words as deleted, until parts of its index are merged.
    connection.execute("INSERT INTO message_words (message_words) VALUES ('optimize')")
    meta.note_erasing(connection, owners, revision, keep_backups=keep_backups)


def _affected_owners(connection: sqlite3.Connection, plan: ErasePlan) -> set[int]:
    touched = {exchange for exchange, _ in (*plan.messages, *plan.edits)} | set(plan.exchanges)
    found = connection.execute(f"SELECT DISTINCT owner FROM exchanges WHERE id {_IN}", [json.dumps(list(touched))])
    return {row[0] for row in found} | {one.owner for one in plan.memories.values()} | plan.owners


def _remove_memories(connection: sqlite3.Connection, plan: ErasePlan, revision: int) -> None:
    changed = set()
    for row, memory in plan.memories.items():
        [message] = connection.execute("SELECT message FROM memories WHERE id = ?", [row]).fetchone()
        connection.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", [row, memory.owner, revision])
        connection.execute("DELETE FROM memories WHERE id = ?", [row])
        if message is None:
            messages.remove_memory(connection, memory.owner, row)
        else:
            changed.add(message)
    ids = json.dumps([memory.id for memory in plan.memories.values()])
    connection.execute(f"DELETE FROM ended_facts WHERE memory_id {_IN}", [ids])
    messages.refresh_facts(connection, changed, ())


def _remove_images(connection: sqlite3.Connection, plan: ErasePlan) -> None:
    """What nothing names any more, and what names the words: a message then has no image."""
    given = json.dumps(list(plan.images))
    places = connection.execute(
        f"SELECT g.exchange, g.position, g.text FROM messages g WHERE image {_IN}", [given]
    ).fetchall()
    connection.execute(f"UPDATE messages SET image = NULL WHERE image {_IN}", [given])
    connection.execute(f"UPDATE memories SET image = NULL WHERE image {_IN}", [given])
    if places:  # their captions are words, too
        revision = meta.next_revision(connection)
        texts = {(row["exchange"], row["position"]): row["text"] for row in places}
        message_removal.replace_texts(connection, texts, revision)
    connection.execute(
        """
        DELETE FROM images WHERE id NOT IN (SELECT image FROM messages WHERE image IS NOT NULL
            UNION SELECT image FROM memories WHERE image IS NOT NULL)
        """
    )


def _rename_sources(connection: sqlite3.Connection, plan: ErasePlan) -> None:
    for name, new in plan.sources.items():
        for table, column in (("exchanges", "source"), ("sources", "name"), ("people", "source")):
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", [new, name])


def count_rows(store: Store) -> dict[str, int]:
    """How many memories, messages, lines of history and turns there are, for a question before everything is erased."""
    counts: dict[str, int] = {}
    with store.snapshot() as connection, contextlib.suppress(sqlite3.OperationalError):
        for table in ("memories", "messages", "history", "turns"):
            counts[table] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return counts


def plan_of(store: Store, selection: Selection) -> ErasePlan:
    """What an erasing would take out of the database; for everything, see `count_rows`. Raises: see `plan_erasing`."""
    if selection.everything:
        return ErasePlan()
    with store.snapshot() as connection:
        return plan_erasing(connection, selection)
