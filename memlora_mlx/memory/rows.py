"""Between records and rows: cleaning what comes in, datetimes as text, memories as JSON, the queries that read them."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import StoreError
from memlora_mlx.memory.changes import Space, Vector
from memlora_mlx.records import Exchange, Hit, Image, Memory, Message, Scope

MAX_MEMORY = 1_000_000  # characters of a memory's text
MAX_DEPTH = 32  # of nested metadata
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Text that SQLite, JSON, UTF-8 and terminals can all take: surrogate pairs joined, lone ones as U+FFFD, of control
    characters line ends and tabs alone.
    """
    text = _CONTROL.sub("", text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_json(value: Any, depth: int = 0) -> Any:
    """The same for a JSON value. Raises ValueError for what JSON cannot say: NaN, other types, endless nesting."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no JSON number")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("keys must be text")
        return {clean(key): clean_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item, depth + 1) for item in value]
    raise ValueError(f"{type(value).__name__} is no JSON type")


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Raises StoreError: the metadata is not JSON."""
    try:
        return json.dumps(clean_json(metadata), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise StoreError(f"metadata must be JSON ({error})") from None


def clean_scope(scope: Scope) -> Scope:
    def name(value: str | None) -> str | None:
        return None if value is None else clean(value)

    return Scope(name(scope.user_id), name(scope.agent_id), name(scope.run_id))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def time_text(moment: datetime | None) -> str | None:
    """Fixed width up to the microsecond, so that text sorts as time; aware ones as UTC, naive ones as they are."""
    if moment is None:
        return None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")


def time_from(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def unit_vector(vector: NDArray[Any], space: Space) -> Vector:
    """The vector as float32 of length 1 exactly as stored, shape (dim,).

    Raises:
        StoreError: it is not from this space: other dimension, not finite, not of unit length.
    """
    exact = np.asarray(vector, dtype=np.float64)
    if exact.shape != (space.dim,):
        raise StoreError(f"an embedding of shape {exact.shape} does not fit the store's space {space}")
    length = float(np.linalg.norm(exact))
    if not abs(length - 1.0) < 0.01:  # also NaN; half-precision embedders are off by about 0.001
        raise StoreError(f"an embedding must have length 1, not {length:.3g}; normalise it")
    return (exact / length).astype("<f4")


def unit_rows(vectors: NDArray[Any], count: int, space: Space) -> list[Vector]:
    """What an `Embed` callback returned, checked: `count` unit vectors of this space."""
    if len(vectors) != count:
        raise StoreError(f"the embedder returned {len(vectors)} vectors for {count} texts")
    return [unit_vector(vector, space) for vector in vectors]


def scope_condition(scope: Scope, *, exact: bool = False) -> tuple[str, list[str | None]]:
    """SQL over the owners `o`. A None in `scope` means any, or no value where `exact`."""
    ids = [("user_id", scope.user_id), ("agent_id", scope.agent_id), ("run_id", scope.run_id)]
    chosen = [(column, value) for column, value in ids if exact or value is not None]
    sql = " AND ".join(f"o.{column} IS ?" for column, _ in chosen) or "1"
    return sql, [None if value is None else clean(value) for _, value in chosen]


_MEMORIES = """
    SELECT m.*, o.user_id, o.agent_id, o.run_id, x.key AS exchange_key, x.source AS source,
        i.source AS image_source, i.caption AS image_caption, i.sha256 AS image_sha256,
        (SELECT json_group_array(ref) FROM
            (SELECT ref FROM messages WHERE exchange = m.exchange AND ref IS NOT NULL ORDER BY position)) AS refs
    FROM memories m JOIN owners o ON o.id = m.owner
    LEFT JOIN exchanges x ON x.id = m.exchange LEFT JOIN images i ON i.id = m.image
"""


def memories(connection: sqlite3.Connection, tail: str, values: Iterable[object] = ()) -> list[Memory]:
    """Those that `tail` ("WHERE ... ORDER BY ...") asks for; `m`, `o`, `x` are memory, owner and exchange."""
    return [_memory(row) for row in connection.execute(_MEMORIES + tail, tuple(values))]


def memory(connection: sqlite3.Connection, public_id: str) -> Memory | None:
    return next(iter(memories(connection, "WHERE m.public_id = ?", [clean(public_id)])), None)


def hits(connection: sqlite3.Connection, found: Sequence[tuple[int, float]]) -> list[Hit]:
    """Memories for (rowid, distance) pairs, in their order."""
    keys = json.dumps([key for key, _ in found])
    rows = connection.execute(_MEMORIES + "WHERE m.id IN (SELECT value FROM json_each(?))", [keys])
    by_key = {row["id"]: _memory(row) for row in rows}
    return [Hit(by_key[key], distance) for key, distance in found]


def exchange(connection: sqlite3.Connection, key: str) -> Exchange | None:
    row = connection.execute(
        "SELECT x.*, o.user_id, o.agent_id, o.run_id FROM exchanges x JOIN owners o ON o.id = x.owner WHERE x.key = ?",
        [clean(key)],
    ).fetchone()
    if row is None:
        return None
    messages = connection.execute(
        """
        SELECT g.*, i.source AS image_source, i.caption AS image_caption, i.sha256 AS image_sha256
        FROM messages g LEFT JOIN images i ON i.id = g.image WHERE g.exchange = ? ORDER BY g.position
        """,
        [row["id"]],
    )
    return Exchange(
        key=row["key"],
        owner=Scope(row["user_id"], row["agent_id"], row["run_id"]),
        messages=tuple(
            Message(g["role"], g["text"], g["speaker"], time_from(g["said_at"]), _image(g), g["ref"]) for g in messages
        ),
        said_at=time_from(row["said_at"]),
        source=row["source"],
        position=row["position"],
    )


def memory_json(memory: Memory) -> dict[str, Any]:
    """A memory as JSON, with its exchange by key; `source` and `refs` are the exchange's."""
    return {
        "id": memory.id,
        "text": memory.text,
        "owner": scope_json(memory.owner),
        "said_at": time_text(memory.said_at),
        "revised_at": time_text(memory.revised_at),
        "stored_at": time_text(memory.stored_at),
        "changed_at": time_text(memory.changed_at),
        "expires_at": time_text(memory.expires_at),
        "exchange_key": memory.exchange_key,
        "image": image_json(memory.image),
        "metadata": dict(memory.metadata),
    }


def memory_from_json(state: Mapping[str, Any]) -> Memory:
    """The inverse of `memory_json`, for JSON that we wrote ourselves."""
    stored_at = time_from(state["stored_at"])
    assert stored_at is not None
    return Memory(
        id=state["id"],
        text=state["text"],
        owner=Scope(**state["owner"]),
        said_at=time_from(state["said_at"]),
        revised_at=time_from(state["revised_at"]),
        stored_at=stored_at,
        changed_at=time_from(state["changed_at"]),
        expires_at=time_from(state["expires_at"]),
        exchange_key=state["exchange_key"],
        image=None if state["image"] is None else Image(**state["image"]),
        metadata=state["metadata"],
    )


def scope_json(scope: Scope) -> dict[str, str | None]:
    return {"user_id": scope.user_id, "agent_id": scope.agent_id, "run_id": scope.run_id}


def image_json(image: Image | None) -> dict[str, str | None] | None:
    if image is None:
        return None
    kept = {} if image.sha256 is None else {"sha256": image.sha256}
    return {"source": image.source, "caption": image.caption, **kept}


def _memory(row: sqlite3.Row) -> Memory:
    stored_at = time_from(row["stored_at"])
    assert stored_at is not None
    return Memory(
        id=row["public_id"],
        text=row["text"],
        owner=Scope(row["user_id"], row["agent_id"], row["run_id"]),
        said_at=time_from(row["said_at"]),
        stored_at=stored_at,
        changed_at=time_from(row["changed_at"]),
        revised_at=time_from(row["revised_at"]),
        exchange_key=row["exchange_key"],
        source=row["source"],
        refs=tuple(json.loads(row["refs"])),
        image=_image(row),
        expires_at=time_from(row["expires_at"]),
        metadata=json.loads(row["metadata"]),
    )


def _image(row: sqlite3.Row) -> Image | None:
    if row["image_source"] is None:
        return None
    return Image(row["image_source"], row["image_caption"], row["image_sha256"])
