"""Values as the store takes them: text, JSON and names cleaned, times as text, vectors of unit length."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import StoreError
from memlora_mlx.memory.changes import EmbeddingFingerprint, Vector
from memlora_mlx.records import Scope
from memlora_mlx.text import clean_text

MAX_MEMORY = 1_000_000  # characters of a memory's text
MAX_DEPTH = 32  # of nested metadata


def clean_json(value: Any, depth: int = 0) -> Any:
    """The same for a JSON value. Raises ValueError for what JSON cannot say: NaN, other types, endless nesting."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no JSON number")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("keys must be text")
        return {clean_text(key): clean_json(item, depth + 1) for key, item in value.items()}
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
        return None if value is None else clean_text(value)

    return Scope(name(scope.user_id), name(scope.agent_id), name(scope.run_id))


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def encode_time(moment: datetime | None) -> str | None:
    """Fixed width up to the microsecond, so that text sorts as time; aware ones as UTC, naive ones as they are."""
    if moment is None:
        return None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")


def decode_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def checked_vector(vector: NDArray[Any], embedding: EmbeddingFingerprint) -> Vector:
    """The vector as float32 of length 1 exactly as stored, shape (dim,).

    Raises:
        StoreError: it is not from this space: other dimension, not finite, not of unit length.
    """
    exact = np.asarray(vector, dtype=np.float64)
    if exact.shape != (embedding.dim,):
        raise StoreError(f"an embedding of shape {exact.shape} does not fit the store's space {embedding}")
    length = float(np.linalg.norm(exact))
    if not abs(length - 1.0) < 0.01:  # also NaN; half-precision embedders are off by about 0.001
        raise StoreError(f"an embedding must have length 1, not {length:.3g}; normalise it")
    return (exact / length).astype("<f4")


def checked_vectors(vectors: NDArray[Any], count: int, embedding: EmbeddingFingerprint) -> list[Vector]:
    """What an `EmbedFunction` returned, checked: `count` unit vectors of this space."""
    if len(vectors) != count:
        raise StoreError(f"the embedder returned {len(vectors)} vectors for {count} texts")
    return [checked_vector(vector, embedding) for vector in vectors]
