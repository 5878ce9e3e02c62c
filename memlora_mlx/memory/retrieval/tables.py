"""The two kinds of rows that are found by their vectors: memories, and messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class VectorTable:
    """Where rows of one kind and their vectors are in the database.

    A row's vector is stored, or it is the sum of two stored ones, made a unit vector.
    """

    name: str  # of the folder of its indexes; "" for the indexes folder itself
    count_column: str  # of `owners`
    rows: str  # FROM clause: `m`, `o` and `x` are the row, its owner and its exchange, as conditions name them
    vectors: str  # joins that add the stored vectors `e` and `p` to it
    second: str  # the second vector, or NULL
    source: str  # FROM clause: `m` has key, owner and revision of each row with a vector, `e` and `p` are its vectors
    removed: str  # the keys of rows of an owner (?) that were removed after a revision (?)
    distinct: str = ""  # "DISTINCT" where `rows` can have a row several times


MEMORIES = VectorTable(
    name="",
    count_column="memories",
    rows="FROM memories m JOIN owners o ON o.id = m.owner LEFT JOIN exchanges x ON x.id = m.exchange",
    vectors="JOIN embeddings e ON e.memory = m.id",
    second="NULL",
    source="FROM memories m JOIN embeddings e ON e.memory = m.id",
    removed="SELECT memory FROM tombstones WHERE owner = ? AND revision > ?",
)

# To a condition, a message is each of the memories that came from it, or, if none did, a memory without metadata that was
# said when it was. It also says whether somebody deleted such a memory, and whether the last such memory is gone.
MESSAGES = VectorTable(
    name="messages",
    count_column="messages",
    rows="""
        FROM (
            SELECT i.id, i.owner, i.exchange, i.position, i.previous, i.said_at, f.id AS memory, f.public_id, f.revised_at,
                f.stored_at, f.changed_at, f.expires_at, coalesce(f.metadata, '{}') AS metadata,
                EXISTS (SELECT 1 FROM ended_facts WHERE message = i.id AND is_forgotten) AS is_forgotten
            FROM indexed_messages i LEFT JOIN memories f ON f.message = i.id
        ) m JOIN owners o ON o.id = m.owner JOIN exchanges x ON x.id = m.exchange
    """,
    vectors="JOIN message_vectors e ON e.message = m.id LEFT JOIN message_vectors p ON p.message = m.previous",
    second="p.vector",
    source="""
        FROM indexed_messages m JOIN message_vectors e ON e.message = m.id
        LEFT JOIN message_vectors p ON p.message = m.previous
    """,
    removed="SELECT message FROM message_tombstones WHERE owner = ? AND revision > ?",
    distinct="DISTINCT",
)


def vectors_from(pairs: Sequence[tuple[object, object]], dim: int) -> tuple[list[int], NDArray[np.float32]]:
    """The vectors of rows, given as their two stored vectors, the second of which may be missing.

    Returns the positions of the rows that have a vector of the right size, and the vectors: shape (positions, dim).
    """
    size = 4 * dim
    sound = [at for at, (first, _) in enumerate(pairs) if isinstance(first, bytes) and len(first) == size]
    vectors = _array([pairs[at][0] for at in sound], dim)
    seconds = [pairs[at][1] for at in sound]
    paired = [at for at, second in enumerate(seconds) if isinstance(second, bytes) and len(second) == size]
    if paired:
        summed = vectors[paired] + _array([seconds[at] for at in paired], dim)
        # Two opposite vectors have no sum of unit length; the row then keeps its own.
        lengths = np.sqrt(np.vecdot(summed, summed))[:, None]
        vectors = vectors.copy()
        vectors[paired] = np.where(lengths > 1e-6, summed / np.maximum(lengths, 1e-6), vectors[paired])
    return sound, vectors


def _array(blobs: Sequence[object], dim: int) -> NDArray[np.float32]:
    joined = b"".join(blob for blob in blobs if isinstance(blob, bytes))
    return np.frombuffer(joined, dtype="<f4").reshape(-1, dim)
