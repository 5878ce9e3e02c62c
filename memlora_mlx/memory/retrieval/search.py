"""The nearest memories: the indexes propose, the database disposes."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence

import numpy as np

from memlora_mlx.memory.changes import Vector
from memlora_mlx.memory.retrieval.filters import EVERYTHING, Condition, all_of
from memlora_mlx.memory.retrieval.index import Keys, OwnerIndex, Proposed, vectors_from

FROM = "FROM memories m JOIN owners o ON o.id = m.owner LEFT JOIN exchanges x ON x.id = m.exchange"
Found = list[tuple[int, float]]  # rowid and distance


def nearest(
    connection: sqlite3.Connection,
    indexes: Sequence[OwnerIndex],
    query: Vector,
    limit: int,
    *,
    always: Condition = EVERYTHING,
    ranges: Condition = EVERYTHING,
    filters: Condition = EVERYTHING,
) -> Found:
    """The `limit` nearest memories that meet all three conditions, nearest first, ties by age in the store.

    Args:
        indexes: in step with the connection's transaction.
        query: unit length, shape (dim,).
        always: holds for nearly every memory, like not being expired.
        ranges, filters: may hold for few, which are then looked up in the database, and only they are proposed. The
            database finds what `ranges` asks for without looking at every memory.

    However narrow the conditions are, the answer is that of a look at every matching memory (in an owner whose index is a
    graph: but for the graph's own recall), since proposals are widened until they provably hold the answer.
    """
    vectors = {index.owner: index.vectors for index in indexes}
    total = sum(len(owned) for owned in vectors.values())
    if not total or not limit:
        return []
    margin = max(owned.margin for owned in vectors.values())
    chosen = all_of(*(condition for condition in (ranges, filters) if condition != EVERYTHING))
    most = 5 * math.isqrt(limit * total)  # where more match, going through the nearest finds enough of them sooner
    narrow = ranges != EVERYTHING and not _more(connection, most, vectors, ranges)
    wanted = 2 * limit if chosen == EVERYTHING else 2 * limit * total // most
    scanned = chosen == EVERYTHING
    few = None
    while True:
        if not scanned and (narrow or 16 * wanted > total):  # to scan a row takes a sixteenth of measuring a memory
            scanned = True
            few = _few(connection, most, vectors, chosen)
            if few is not None:
                wanted = 2 * limit
        if few is not None:
            parts = [vectors[owner].among(keys, query, wanted) for owner, keys in few.items()]
        else:
            widths = {owner: _first(limit) + 2 * wanted * len(owned) // total for owner, owned in vectors.items()}
            parts = [vectors[owner].nearest(query, width) for owner, width in widths.items()]
        if not parts:
            return []
        found, sure = _best(connection, _merged(parts), query, all_of(always, chosen), limit, margin)
        if sure:
            return [(key, math.sqrt(squared)) for key, squared in found]
        wanted *= 4


_MATCHING = f"SELECT m.id, m.owner {FROM} WHERE m.owner IN (SELECT value FROM json_each(?)) AND"


def _more(connection: sqlite3.Connection, most: int, owners: Iterable[int], where: Condition) -> bool:
    """Whether more than `most` memories meet the condition."""
    values = [json.dumps(list(owners)), *where.values, most]
    return bool(connection.execute(f"{_MATCHING} {where.sql} LIMIT 1 OFFSET ?", values).fetchall())


def _few(connection: sqlite3.Connection, most: int, owners: Iterable[int], where: Condition) -> dict[int, Keys] | None:
    """By owner, the rowids of all memories that meet the condition; None if there are more than `most`."""
    values = [json.dumps(list(owners)), *where.values, most + 1]
    count, *columns = connection.execute(
        f"SELECT count(*), json_group_array(id), json_group_array(owner) FROM ({_MATCHING} {where.sql} LIMIT ?)", values
    ).fetchone()
    if count > most:
        return None
    keys, of = (np.array(json.loads(column), dtype=np.int64) for column in columns)
    return {owner: keys[of == owner] for owner in np.unique(of).tolist()}


def _merged(parts: Sequence[Proposed]) -> Proposed:
    """In order, as far as all of the parts reach."""
    keys = np.concatenate([part.keys for part in parts])
    squared = np.concatenate([part.squared for part in parts])
    horizon = min(part.horizon for part in parts)
    order = np.argsort(squared)
    order = order[: np.searchsorted(squared, horizon, side="right", sorter=order)]
    return Proposed(keys[order], squared[order], horizon)


def _best(
    connection: sqlite3.Connection, proposed: Proposed, query: Vector, where: Condition, limit: int, margin: float
) -> tuple[Found, bool]:
    """The `limit` nearest proposals that meet the condition, by squared distance; and whether nothing can be nearer."""
    keys, squared, horizon = proposed
    found: Found = []
    start, end = 0, _first(limit)
    while start < len(keys):
        found += _measured(connection, keys[start:end].tolist(), query, where)
        found.sort(key=lambda pair: (pair[1], pair[0]))
        beyond = squared[end] if end < len(keys) else horizon  # as far is what is not measured, rounding aside
        if len(found) >= limit and found[limit - 1][1] + margin < beyond:
            return found[:limit], True
        start, end = end, end * max(2, 2 * limit // max(1, len(found), limit // 8))
    return found[:limit], horizon == math.inf


def _first(limit: int) -> int:
    """How many proposals are measured first."""
    return 2 * limit + 16


def _measured(connection: sqlite3.Connection, keys: list[int], query: Vector, where: Condition) -> Found:
    """The keys that are there and meet the condition, with squared distances from the stored embeddings."""
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
    return [(row[0], value) for row, value in zip(rows, squared.tolist(), strict=True) if not math.isnan(value)]
