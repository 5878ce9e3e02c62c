"""Search an owner's vectors in the database itself: exact, without an index, in little memory."""

from __future__ import annotations

import json
import math
import sqlite3

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.memory.changes import Vector
from memlora_mlx.memory.retrieval.tables import VectorTable, vectors_from
from memlora_mlx.memory.retrieval.vectors import Candidates, Keys

_BATCH = 4096  # rows in memory at once


class DatabaseScan:
    """The vectors of one owner as a transaction sees them. It serves searches for as long as no graph is there.

    A search reads all of them: 1.5 KB for each row of 384 dimensions.
    """

    rounding_error = 1e-4  # float32 rounding, as of `FlatIndex`

    def __init__(self, connection: sqlite3.Connection, table: VectorTable, owner: int, count: int) -> None:
        self._connection, self._table, self._owner, self._count = connection, table, owner, count

    def __len__(self) -> int:
        return self._count

    def nearest(self, query: Vector, limit: int) -> Candidates:
        """The `limit` nearest, in any order."""
        return self._scan("", [], query, limit)

    def nearest_of(self, keys: Keys, query: Vector, limit: int) -> Candidates:
        """The `limit` nearest of the given keys."""
        return self._scan("AND m.id IN (SELECT value FROM json_each(?))", [json.dumps(keys.tolist())], query, limit)

    def _scan(self, where: str, values: list[str], query: Vector, limit: int) -> Candidates:
        rows = self._connection.execute(
            f"SELECT m.id, e.vector, {self._table.second} {self._table.source} WHERE m.owner = ? {where}",
            [self._owner, *values],
        )
        rows.row_factory = None  # tuples: rows by name take half of the time
        keys: Keys = np.empty(0, dtype=np.int64)
        squared: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        found = 0
        while batch := rows.fetchmany(_BATCH):
            sound, vectors = vectors_from([(row[1], row[2]) for row in batch], len(query))
            found += len(sound)
            keys = np.concatenate([keys, np.array([batch[at][0] for at in sound], dtype=np.int64)])
            squared = np.concatenate([squared, 2.0 - 2.0 * np.vecdot(vectors, query)])
            if len(keys) > limit:
                chosen = np.argpartition(squared, limit)[:limit]
                keys, squared = keys[chosen], squared[chosen]
        return Candidates(keys, squared, math.inf if found <= limit else float(squared.max(initial=0)))
