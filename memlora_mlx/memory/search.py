"""The nearest memories: the indexes propose, the database disposes."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.memory.changes import Vector
from memlora_mlx.memory.filters import EVERYTHING, Condition, all_of
from memlora_mlx.memory.index import Keys, OwnerIndex, vectors_from

FROM = "FROM memories m JOIN owners o ON o.id = m.owner LEFT JOIN exchanges x ON x.id = m.exchange"
FEW = 1000  # memories that are measured about as fast as proposals are found

Found = list[tuple[int, float]]  # rowid and Euclidean distance


def nearest(
    connection: sqlite3.Connection,
    indexes: Sequence[OwnerIndex],
    query: Vector,
    limit: int,
    *,
    always: Condition = EVERYTHING,
    filters: Condition = EVERYTHING,
    indexed: bool = False,
) -> Found:
    """The `limit` nearest memories that meet both conditions, nearest first, ties by age in the store.

    Args:
        indexes: in step with the connection's transaction.
        query: unit length, shape (dim,).
        always: holds for nearly every memory, like not being expired.
        filters: may hold for few, which are then looked for in the database and measured one by one.
        indexed: the database finds what `filters` asks for without looking at every memory.

    However narrow the conditions are, the answer is that of a look at every matching memory (in an owner whose index is a
    graph: but for the graph's own recall), since proposals are widened until they provably hold the answer.
    """
    where = all_of(always, filters)
    total = sum(len(index.vectors) for index in indexes)
    margin = max((index.vectors.margin for index in indexes), default=0.0)
    width = 2 * limit + 16
    scanned = filters == EVERYTHING
    while True:
        if not scanned and (indexed or width > FEW):
            scanned = True
            if (few := _few(connection, indexes, where)) is not None:
                return _roots(_measured(connection, few, query, EVERYTHING)[:limit])
        keys, farthest = _proposals(indexes, query, width)
        found = _measured(connection, keys.tolist(), query, where)
        # Nothing that was not proposed can be nearer than the farthest proposal, rounding aside.
        if width >= total or (len(found) >= limit and found[limit - 1][1] + margin < farthest):
            return _roots(found[:limit])
        width *= 4


def _few(connection: sqlite3.Connection, indexes: Sequence[OwnerIndex], where: Condition) -> list[int] | None:
    """All the rowids that meet the condition, if they are few."""
    owners = json.dumps([index.owner for index in indexes])
    matching = connection.execute(
        f"SELECT m.id {FROM} WHERE m.owner IN (SELECT value FROM json_each(?)) AND {where.sql} LIMIT ?",
        [owners, *where.values, FEW + 1],
    ).fetchall()
    return None if len(matching) > FEW else [row[0] for row in matching]


def _proposals(indexes: Sequence[OwnerIndex], query: Vector, width: int) -> tuple[Keys, float]:
    """The `width` nearest keys over all the indexes and the squared distance of the farthest of them."""
    keys: Keys = np.empty(0, dtype=np.int64)
    squared: NDArray[np.float32] = np.empty(0, dtype=np.float32)
    if indexes:
        parts = [index.vectors.nearest(query, width) for index in indexes]
        keys = np.concatenate([part[0] for part in parts])
        squared = np.concatenate([part[1] for part in parts])
    if len(keys) > width:
        chosen = np.argpartition(squared, width)[:width]
        keys, squared = keys[chosen], squared[chosen]
    return keys, float(squared.max(initial=0.0))


def _measured(connection: sqlite3.Connection, keys: list[int], query: Vector, where: Condition) -> Found:
    """The keys that are there and meet the condition, with squared distances from the stored embeddings, in order."""
    rows = connection.execute(
        f"""
        SELECT m.id, e.vector {FROM} JOIN embeddings e ON e.memory = m.id
        WHERE m.id IN (SELECT value FROM json_each(?)) AND length(e.vector) = ? AND {where.sql}
        """,
        [json.dumps(keys), 4 * len(query), *where.values],
    ).fetchall()
    vectors = vectors_from((row[1] for row in rows), len(query)).astype(np.float64)
    squared = ((vectors - query) ** 2).sum(axis=1)
    # A NaN can only come from a damaged file; it is nobody's neighbour.
    found = [(row[0], value) for row, value in zip(rows, squared.tolist(), strict=True) if not math.isnan(value)]
    return sorted(found, key=lambda pair: (pair[1], pair[0]))


def _roots(found: Found) -> Found:
    return [(key, math.sqrt(squared)) for key, squared in found]
