"""Conversion between records and SQL rows: memories, exchanges and hits, as JSON too, and the queries that read them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from memlora_mlx.errors import MemoryNotFound, StoreError
from memlora_mlx.memory.inputs import decode_time, encode_time
from memlora_mlx.memory.store.checksums import require_sound, sound_sql
from memlora_mlx.records import Exchange, Image, MemoryRecord, Message, MessageKey, Neighbour, Scope
from memlora_mlx.text import clean_text


def scope_condition(scope: Scope, *, exact: bool = False) -> tuple[str, list[str | None]]:
    """SQL over the owners `o`. A None in `scope` means any, or no value where `exact`."""
    ids = [("user_id", scope.user_id), ("agent_id", scope.agent_id), ("run_id", scope.run_id)]
    chosen = [(column, value) for column, value in ids if exact or value is not None]
    sql = " AND ".join(f"o.{column} IS ?" for column, _ in chosen) or "1"
    return sql, [None if value is None else clean_text(value) for _, value in chosen]


_MEMORIES = f"""
    SELECT m.*, {sound_sql("memories", "m")} AS is_sound, o.user_id, o.agent_id, o.run_id, x.key AS exchange_key, x.source AS source,
        w.position AS message_position, (SELECT key FROM exchanges WHERE id = w.exchange) AS message_exchange,
        i.source AS image_source, i.caption AS image_caption, i.sha256 AS image_sha256,
        (SELECT json_group_array(ref) FROM
            (SELECT ref FROM messages WHERE exchange = m.exchange AND ref IS NOT NULL ORDER BY position)) AS refs
    FROM memories m JOIN owners o ON o.id = m.owner
    LEFT JOIN exchanges x ON x.id = m.exchange LEFT JOIN images i ON i.id = m.image
    LEFT JOIN indexed_messages w ON w.id = m.message
"""


def read_memories(connection: sqlite3.Connection, tail: str, values: Iterable[object] = ()) -> list[MemoryRecord]:
    """Those that `tail` ("WHERE ... ORDER BY ...") asks for; `m`, `o`, `x` are memory, owner and exchange."""
    return [_memory(row) for row in connection.execute(_MEMORIES + tail, tuple(values))]


def read_memory(connection: sqlite3.Connection, public_id: str) -> MemoryRecord | None:
    return next(iter(read_memories(connection, "WHERE m.public_id = ?", [clean_text(public_id)])), None)


def require_memory(connection: sqlite3.Connection, public_id: str) -> MemoryRecord:
    """Raises MemoryNotFound."""
    found = read_memory(connection, public_id)
    if found is None:
        raise MemoryNotFound(f"no memory has the id {public_id}; `memlora memory list` shows them")
    return found


def stored_keys(connection: sqlite3.Connection, keys: Iterable[str]) -> set[str]:
    """Those of the keys that a stored exchange has, or one whose words were erased."""
    given = {clean_text(key): key for key in keys}
    chosen = "key IN (SELECT value FROM json_each(:keys))"
    found = connection.execute(
        f"SELECT key FROM exchanges WHERE {chosen} UNION SELECT key FROM erased_exchanges WHERE {chosen}",
        {"keys": json.dumps(list(given))},
    )
    return {given[row["key"]] for row in found}


def read_rows(connection: sqlite3.Connection, keys: Iterable[int]) -> dict[int, MemoryRecord]:
    """Memories by their rowids."""
    chosen = json.dumps(list(keys))
    rows = connection.execute(_MEMORIES + "WHERE m.id IN (SELECT value FROM json_each(?))", [chosen])
    return {row["id"]: _memory(row) for row in rows}


def read_neighbours(connection: sqlite3.Connection, found: Sequence[tuple[int, float]]) -> list[Neighbour]:
    """Memories for (rowid, distance) pairs, in their order."""
    by_key = read_rows(connection, (key for key, _ in found))
    return [Neighbour(by_key[key], distance) for key, distance in found]


def read_exchange(connection: sqlite3.Connection, key: str) -> Exchange | None:
    row = connection.execute(
        "SELECT x.*, o.user_id, o.agent_id, o.run_id FROM exchanges x JOIN owners o ON o.id = x.owner WHERE x.key = ?",
        [clean_text(key)],
    ).fetchone()
    if row is None:
        return None
    messages = connection.execute(
        f"""
        SELECT g.*, {sound_sql("messages", "g")} AS is_sound, i.source AS image_source, i.caption AS image_caption, i.sha256 AS image_sha256
        FROM messages g LEFT JOIN images i ON i.id = g.image WHERE g.exchange = ? ORDER BY g.position
        """,
        [row["id"]],
    )
    return Exchange(
        key=row["key"],
        owner=Scope(row["user_id"], row["agent_id"], row["run_id"]),
        messages=tuple(_message(g) for g in messages),
        said_at=decode_time(row["said_at"]),
        source=row["source"],
        position=row["position"],
    )


def require_exchange(connection: sqlite3.Connection, key: str) -> Exchange:
    """Raises StoreError: no exchange has this key."""
    found = read_exchange(connection, key)
    if found is None:
        raise StoreError(f"the store has no exchange {key}")
    return found


def memory_json(memory: MemoryRecord) -> dict[str, Any]:
    """A memory as JSON, with its exchange by key; `source` and `refs` are the exchange's."""
    return {
        "id": memory.id,
        "text": memory.text,
        "owner": scope_json(memory.owner),
        "said_at": encode_time(memory.said_at),
        "revised_at": encode_time(memory.revised_at),
        "stored_at": encode_time(memory.stored_at),
        "changed_at": encode_time(memory.changed_at),
        "expires_at": encode_time(memory.expires_at),
        "exchange_key": memory.exchange_key,
        "image": image_json(memory.image),
        "metadata": dict(memory.metadata),
        "message": None if memory.message is None else asdict(memory.message),
        "provenance": memory.provenance,
    }


def memory_from_json(state: Mapping[str, Any]) -> MemoryRecord:
    """The inverse of `memory_json`, for JSON that we wrote ourselves."""
    stored_at = decode_time(state["stored_at"])
    assert stored_at is not None
    return MemoryRecord(
        id=state["id"],
        text=state["text"],
        owner=Scope(**state["owner"]),
        said_at=decode_time(state["said_at"]),
        revised_at=decode_time(state["revised_at"]),
        stored_at=stored_at,
        changed_at=decode_time(state["changed_at"]),
        expires_at=decode_time(state["expires_at"]),
        exchange_key=state["exchange_key"],
        image=None if state["image"] is None else Image(**state["image"]),
        metadata=state["metadata"],
        message=MessageKey(**message) if (message := state.get("message")) else None,  # older stores did not say
        provenance=state.get("provenance", "user"),
    )


def scope_json(scope: Scope) -> dict[str, str | None]:
    return {"user_id": scope.user_id, "agent_id": scope.agent_id, "run_id": scope.run_id}


def image_json(image: Image | None) -> dict[str, str | None] | None:
    if image is None:
        return None
    kept = {} if image.sha256 is None else {"sha256": image.sha256}
    return {"source": image.source, "caption": image.caption, **kept}


def _message(row: sqlite3.Row) -> Message:
    require_sound(row, "a message")
    return Message(row["role"], row["text"], row["speaker"], decode_time(row["said_at"]), _image(row), row["ref"])


def _memory(row: sqlite3.Row) -> MemoryRecord:
    require_sound(row, f"memory {row['public_id']}")
    stored_at = decode_time(row["stored_at"])
    assert stored_at is not None
    return MemoryRecord(
        id=row["public_id"],
        text=row["text"],
        owner=Scope(row["user_id"], row["agent_id"], row["run_id"]),
        said_at=decode_time(row["said_at"]),
        stored_at=stored_at,
        changed_at=decode_time(row["changed_at"]),
        revised_at=decode_time(row["revised_at"]),
        exchange_key=row["exchange_key"],
        source=row["source"],
        refs=tuple(json.loads(row["refs"])),
        image=_image(row),
        expires_at=decode_time(row["expires_at"]),
        metadata=json.loads(row["metadata"]),
        message=MessageKey(row["message_exchange"], row["message_position"]) if row["message_exchange"] else None,
        provenance=row["provenance"],
    )


def _image(row: sqlite3.Row) -> Image | None:
    if row["image_source"] is None:
        return None
    return Image(row["image_source"], row["image_caption"], row["image_sha256"])
