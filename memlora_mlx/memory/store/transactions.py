"""A write transaction: inserts, updates and deletes rows and records each change in the history."""

from __future__ import annotations

import functools
import json
import sqlite3
import uuid
from dataclasses import replace
from datetime import datetime

import numpy as np

from memlora_mlx.errors import UsageError
from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import (
    Add,
    AppliedChange,
    Change,
    Delete,
    EmbeddingFingerprint,
    Update,
    Vector,
    WriteConflict,
)
from memlora_mlx.memory.store import messages, meta, rows
from memlora_mlx.records import PROVENANCES, Event, Exchange, Image, MemoryRecord, MessageKey, Scope
from memlora_mlx.text import clean_text

# An exchange's memories get the same ids however often its ingest is begun again.
_NAMESPACE = uuid.UUID("6f1d3c0e-52c5-5b8e-9d1c-0a6f7d8f1b42")


class Transaction:
    """The writer's side of one transaction. `now` is the time of all that it writes."""

    def __init__(self, connection: sqlite3.Connection, embedding: EmbeddingFingerprint, now: datetime) -> None:
        self.connection = connection
        self.now = now
        self.embedding = embedding
        self.referenced_images: set[str] = set()  # SHA-256 of pictures that rows written here name
        self.released_images: set[str] = set()  # of pictures that a memory removed or changed here has had
        # Rows whose facts changed here, and whose words in the full-text index have to follow.
        self._changed_messages: set[int] = set()
        self._changed_memories: set[int] = set()

    def finish(self) -> None:
        """Bring the full-text index up to date; to be called once, when all else is written."""
        messages.refresh_facts(self.connection, self._changed_messages, self._changed_memories)

    @functools.cached_property
    def revision(self) -> int:
        """The number of this transaction; taken only when something is written."""
        return meta.next_revision(self.connection)

    def apply(
        self, owner: Scope, change: Change, number: str, exchange: Exchange | None, actor: str
    ) -> list[AppliedChange]:
        """One change, in order: the `number`-th of its exchange. Raises WriteConflict: see `Store.commit`.

        What a lower class says neither changes nor deletes what a higher class said, whoever decided so: it is added.
        """
        key = None if exchange is None else clean_text(exchange.key)
        if isinstance(change, Add):
            return [self._add(owner, change, number, key, actor)]
        old = rows.read_memory(self.connection, change.memory_id)
        if change.expected_text is not None and (old is None or old.text != change.expected_text):
            raise WriteConflict(change.memory_id)
        event: Event = "UPDATE" if isinstance(change, Update) else "DELETE"
        if old is None or old.owner != owner:
            text = clean_text(change.text) if isinstance(change, Update) else None
            return [AppliedChange(event, change.memory_id, text, rejected="this owner has no memory of that id")]
        if PROVENANCES.index(change.provenance) > PROVENANCES.index(old.provenance):
            instead = change.additions(None if exchange is None else exchange.said_at)
            added = [self._add(owner, add, f"{number}.{i}", key, actor) for i, add in enumerate(instead)]
            rejected = AppliedChange(event, old.id, None, rejected="somebody of a higher class said this memory")
            return [replace(one, kept=old.id) for one in added or [rejected]]
        if isinstance(change, Delete):
            self.remove(old, key, "request" if change.is_requested else actor)
            asked_in = messages.source_message(self.connection, key, old.text) if change.is_requested else None
            if asked_in is not None:  # the request repeats what is to be forgotten
                self._end_fact(asked_in, old.id, is_forgotten=True)
            return [AppliedChange(event, old.id, None, old.text)]
        new = self.update(old, change, exchange, actor)
        return [AppliedChange(event, old.id, new.text, old.text, provenance=new.provenance)]

    def _add(self, owner: Scope, change: Add, number: str, key: str | None, actor: str) -> AppliedChange:
        new = MemoryRecord(
            id=clean_text(change.id) if change.id else _new_id(self.connection, key, number),
            text=clean_text(change.text),
            owner=owner,
            said_at=change.said_at,
            stored_at=self.now,
            changed_at=None,
            exchange_key=key,
            image=change.image,
            expires_at=change.expires_at,
            metadata=change.metadata,
            message=None if key is None or change.position is None else MessageKey(key, change.position),
            provenance=change.provenance,
        )
        if _is_taken(self.connection, new.id):
            return AppliedChange("ADD", new.id, new.text, rejected="a memory of that id is already there")
        self.insert_memory(new, change.vector)
        self.record_history("ADD", None, new, key, actor)
        return AppliedChange("ADD", new.id, new.text, provenance=new.provenance)

    def update(self, old: MemoryRecord, change: Update, exchange: Exchange | None, actor: str) -> MemoryRecord:
        said_at = None if exchange is None else exchange.said_at
        new = replace(
            old,
            text=clean_text(change.text),
            metadata={**old.metadata, **(change.metadata or {})},
            image=old.image or change.image,
            revised_at=change.revised_at or said_at,
            changed_at=self.now,
            message=self._source_message(change, old, exchange),
            provenance=change.provenance,
        )
        self.overwrite_memory(new, change.vector)
        self.record_history("UPDATE", old, new, None if exchange is None else clean_text(exchange.key), actor)
        return new

    def _source_message(self, change: Update, old: MemoryRecord, exchange: Exchange | None) -> MessageKey | None:
        """The message that a memory's new words came from: one of the exchange, none where a person wrote them."""
        if clean_text(change.text) == old.text:
            return old.message
        if exchange is None:
            return None
        row = messages.source_message(self.connection, clean_text(exchange.key), clean_text(change.text))
        return messages.message_key(self.connection, row)

    def remove(self, old: MemoryRecord, key: str | None, actor: str) -> int:
        """Returns the number of its line of history."""
        [row, owner, message] = self.connection.execute(
            "SELECT id, owner, message FROM memories WHERE public_id = ?", [old.id]
        ).fetchone()
        self.connection.execute("INSERT INTO tombstones VALUES (?, ?, ?)", [row, owner, self.revision])
        self.connection.execute("DELETE FROM memories WHERE id = ?", [row])
        self._release_image(old.image)
        if message is None:
            messages.remove_memory(self.connection, owner, row)
        else:
            # Whoever removes a memory by hand wants its words forgotten; the model only finds it out of date.
            self._end_fact(message, old.id, is_forgotten=actor != "model")
        return self.record_history("DELETE", old, None, key, actor)

    def insert_memory(self, memory: MemoryRecord, vector: Vector) -> None:
        row = self.connection.execute(
            """
            INSERT INTO memories (public_id, owner, stored_at, exchange, message, image, expires_at, said_at,
                revised_at, changed_at, text, sha256, metadata, provenance, revision)
            VALUES (?, ?, ?, (SELECT id FROM exchanges WHERE key = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                memory.id,
                self.owner_row(memory.owner),
                inputs.encode_time(memory.stored_at),
                memory.exchange_key,
                message := messages.message_of(self.connection, memory),
                self.image_row(memory.image),
                inputs.encode_time(memory.expires_at),
                inputs.encode_time(memory.said_at),
                *self._changeable(memory),
            ],
        ).lastrowid
        assert row is not None
        self._embed(row, vector)
        self._begin_fact(message, memory.id, row)

    def overwrite_memory(self, memory: MemoryRecord, vector: Vector) -> None:
        """Give a stored memory the text, message, metadata, image and times of change of this one."""
        before = rows.read_memory(self.connection, memory.id)
        self._release_image(before.image if before else None)
        [row, old_message] = self.connection.execute(
            "SELECT id, message FROM memories WHERE public_id = ?", [memory.id]
        ).fetchone()
        message = None if memory.message is None else messages.find_message(self.connection, memory.message)
        self.connection.execute(
            """
            UPDATE memories SET message = ?, image = ?, revised_at = ?, changed_at = ?, text = ?, sha256 = ?,
                metadata = ?, provenance = ?, revision = ?
            WHERE id = ?
            """,
            [message, self.image_row(memory.image), *self._changeable(memory), row],
        )
        self._embed(row, vector)
        if old_message is not None and old_message != message:
            self._end_fact(old_message, memory.id, is_forgotten=False)
        self._begin_fact(message, memory.id, row)

    def _begin_fact(self, message: int | None, memory_id: str, row: int) -> None:
        self._changed_memories.add(row)
        if message is not None:
            self._changed_messages.add(message)
            messages.begin_fact(self.connection, message, memory_id)

    def _end_fact(self, message: int, memory_id: str, *, is_forgotten: bool) -> None:
        self._changed_messages.add(message)
        at = inputs.encode_time(self.now) or ""
        messages.end_fact(self.connection, message, memory_id, at, is_forgotten=is_forgotten)

    def _changeable(self, memory: MemoryRecord) -> list[object]:
        return [
            inputs.encode_time(memory.revised_at),
            inputs.encode_time(memory.changed_at),
            memory.text,
            inputs.text_sha256(memory.text),
            inputs.metadata_text(memory.metadata),
            memory.provenance,
            self.revision,
        ]

    def _embed(self, row: int | None, vector: Vector) -> None:
        blob = inputs.checked_vector(np.asarray(vector), self.embedding).tobytes()
        self.connection.execute("INSERT OR REPLACE INTO embeddings (memory, vector) VALUES (?, ?)", [row, blob])

    def record_history(
        self, event: Event, old: MemoryRecord | None, new: MemoryRecord | None, key: str | None, actor: str
    ) -> int:
        """One line of history. It holds all that undoing it takes, but for the embedding."""
        either = old or new
        assert either is not None
        line = self.connection.execute(
            """
            INSERT INTO history (memory_id, owner, event, old_text, new_text, before, exchange_key, at, actor)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                either.id,
                self.owner_row(either.owner),
                event,
                old and old.text,
                new and new.text,
                old and json.dumps(rows.memory_json(old), ensure_ascii=False),
                key,
                inputs.encode_time(self.now),
                actor,
            ],
        ).lastrowid
        assert line is not None
        return line

    def owner_row(self, scope: Scope, name: str | None = None) -> int:
        """Its row, made if need be; `name` is given to an owner that has none."""
        scope = inputs.clean_scope(scope)
        if not (scope.user_id or scope.agent_id or scope.run_id):
            raise UsageError("a memory needs an owner; give a user, an agent or a run")
        where, values = rows.scope_condition(scope, exact=True)
        row = self.connection.execute(f"SELECT o.id, o.name FROM owners o WHERE {where}", values).fetchone()
        if row is None:
            inserted = self.connection.execute(
                "INSERT INTO owners (user_id, agent_id, run_id, name) VALUES (?, ?, ?, ?)",
                [scope.user_id, scope.agent_id, scope.run_id, name and clean_text(name)],
            ).lastrowid
            assert inserted is not None
            return inserted
        if name and row["name"] is None:
            self.connection.execute("UPDATE owners SET name = ? WHERE id = ?", [clean_text(name), row["id"]])
        return int(row["id"])

    def image_row(self, image: Image | None) -> int | None:
        """Its row, made if need be."""
        if image is None:
            return None
        if image.sha256 is not None:
            self.referenced_images.add(image.sha256)
        caption = None if image.caption is None else clean_text(image.caption)
        values = [clean_text(image.source), caption, image.sha256]
        row = self.connection.execute(
            "SELECT id FROM images WHERE source = ? AND caption IS ? AND sha256 IS ?", values
        ).fetchone()
        if row is not None:
            return int(row["id"])
        return self.connection.execute(
            "INSERT INTO images (source, caption, sha256) VALUES (?, ?, ?)", values
        ).lastrowid

    def _release_image(self, image: Image | None) -> None:
        if image is not None and image.sha256 is not None:
            self.released_images.add(image.sha256)


def _new_id(connection: sqlite3.Connection, key: str | None, number: str) -> str:
    """Random, or derived from the exchange; if an undo has brought that memory back, another one."""
    derived = "" if key is None else str(uuid.uuid5(_NAMESPACE, f"{key}:{number}"))
    return derived if derived and not _is_taken(connection, derived) else str(uuid.uuid4())


def _is_taken(connection: sqlite3.Connection, memory_id: str) -> bool:
    return connection.execute("SELECT 1 FROM memories WHERE public_id = ?", [memory_id]).fetchone() is not None
