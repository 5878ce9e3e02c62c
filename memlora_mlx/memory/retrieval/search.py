"""Find the nearest memories.

The vector indexes return candidates; the database filters them and computes exact distances.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence

import numpy as np

from memlora_mlx.memory.changes import Vector
from memlora_mlx.memory.retrieval.filters import MATCH_ALL, Condition, all_of
from memlora_mlx.memory.retrieval.indexes import OwnerVectors
from memlora_mlx.memory.retrieval.tables import MEMORIES, VectorTable, vectors_from
from memlora_mlx.memory.retrieval.vectors import Candidates, Keys

RankedRows = list[tuple[int, float]]  # rowid and distance


def nearest(
    connection: sqlite3.Connection,
    indexes: Sequence[OwnerVectors],
    query: Vector,
    limit: int,
    *,
    table: VectorTable = MEMORIES,
    common: Condition = MATCH_ALL,
    indexed: Condition = MATCH_ALL,
    filters: Condition = MATCH_ALL,
) -> RankedRows:
    """The `limit` nearest rows that meet all three conditions, nearest first, ties by age in the store.

    Args:
        indexes: of this table, in step with the connection's transaction.
        query: unit length, shape (dim,).
        common: holds for nearly every memory, like not being expired.
        indexed, filters: may hold for few, which are then looked up in the database, and only they are proposed. The
            database finds what `indexed` asks for without looking at every memory.

    However narrow the conditions are, the answer is that of a look at every matching memory (in an owner whose index is a
    graph: but for the graph's own recall), since proposals are widened until they provably hold the answer.
    """
    total = sum(len(each.vectors) for each in indexes)
    if not total or not limit:
        return []
    owners = [owner for each in indexes for owner in each.owners]
    rounding_error = max(each.vectors.rounding_error for each in indexes)
    chosen = all_of(*(condition for condition in (indexed, filters) if condition != MATCH_ALL))
    max_matches = 5 * math.isqrt(
        limit * total
    )  # where more match, going through the nearest finds enough of them sooner
    is_selective = indexed != MATCH_ALL and not _matches_exceed(connection, table, max_matches, owners, indexed)
    width = 2 * limit if chosen == MATCH_ALL else 2 * limit * total // max_matches
    was_scanned = chosen == MATCH_ALL
    matching = None
    while True:
        if not was_scanned and (
            is_selective or 16 * width > total
        ):  # to scan a row takes a sixteenth of measuring a memory
            was_scanned = True
            matching = _matching_rows(connection, table, max_matches, owners, chosen)
            if matching is not None:
                width = 2 * limit
        if matching is not None:
            keys, of = matching
            chosen_keys = [(each, keys[np.isin(of, each.owners)]) for each in indexes]
            parts = [each.vectors.nearest_of(found, query, width) for each, found in chosen_keys if len(found)]
        else:
            parts = [
                each.vectors.nearest(query, _initial_width(limit) + 2 * width * len(each.vectors) // total)
                for each in indexes
            ]
        if not parts:
            return []
        found, is_proven = _rank_exactly(
            connection, table, _merged(parts), query, all_of(common, chosen), limit, rounding_error
        )
        if is_proven:
            return [(key, math.sqrt(squared_distances)) for key, squared_distances in found]
        width *= 4


def _matching(table: VectorTable, where: Condition) -> str:
    owners = "m.owner IN (SELECT value FROM json_each(?))"
    return f"SELECT {table.distinct} m.id, m.owner {table.rows} WHERE {owners} AND {where.sql}"


def _matches_exceed(
    connection: sqlite3.Connection, table: VectorTable, max_matches: int, owners: Iterable[int], where: Condition
) -> bool:
    """Whether more than `max_matches` rows meet the condition."""
    values = [json.dumps(list(owners)), *where.values, max_matches]
    return bool(connection.execute(f"{_matching(table, where)} LIMIT 1 OFFSET ?", values).fetchall())


def _matching_rows(
    connection: sqlite3.Connection, table: VectorTable, max_matches: int, owners: Iterable[int], where: Condition
) -> tuple[Keys, Keys] | None:
    """The rowids of all rows that meet the condition, and their owners; None if there are more than `max_matches`."""
    values = [json.dumps(list(owners)), *where.values, max_matches + 1]
    count, *columns = connection.execute(
        f"SELECT count(*), json_group_array(id), json_group_array(owner) FROM ({_matching(table, where)} LIMIT ?)",
        values,
    ).fetchone()
    if count > max_matches:
        return None
    keys, of = (np.array(json.loads(column), dtype=np.int64) for column in columns)
    return keys, of


def _merged(parts: Sequence[Candidates]) -> Candidates:
    """In order, as far as all of the parts reach."""
    keys = np.concatenate([part.keys for part in parts])
    squared_distances = np.concatenate([part.squared_distances for part in parts])
    distance_bound = min(part.distance_bound for part in parts)
    order = np.argsort(squared_distances)
    order = order[: np.searchsorted(squared_distances, distance_bound, side="right", sorter=order)]
    return Candidates(keys[order], squared_distances[order], distance_bound)


def _rank_exactly(
    connection: sqlite3.Connection,
    table: VectorTable,
    candidates: Candidates,
    query: Vector,
    where: Condition,
    limit: int,
    rounding_error: float,
) -> tuple[RankedRows, bool]:
    """The `limit` nearest proposals that meet the condition, by squared distance; and whether nothing can be nearer."""
    keys, squared_distances, distance_bound = candidates
    found: RankedRows = []
    start, end = 0, _initial_width(limit)
    while start < len(keys):
        found += _exact_distances(connection, table, keys[start:end].tolist(), query, where)
        found.sort(key=lambda pair: (pair[1], pair[0]))
        beyond = (
            squared_distances[end] if end < len(keys) else distance_bound
        )  # as far is what is not measured, rounding aside
        if len(found) >= limit and found[limit - 1][1] + rounding_error < beyond:
            return found[:limit], True
        start, end = end, end * max(2, 2 * limit // max(1, len(found), limit // 8))
    return found[:limit], distance_bound == math.inf


def _initial_width(limit: int) -> int:
    """How many proposals are measured first."""
    return 2 * limit + 16


def _exact_distances(
    connection: sqlite3.Connection, table: VectorTable, keys: list[int], query: Vector, where: Condition
) -> RankedRows:
    """The keys that are there and meet the condition, with squared distances from the stored vectors."""
    rows = connection.execute(
        f"""
        SELECT m.id, e.vector, {table.second} {table.rows} {table.vectors}
        WHERE m.id IN (SELECT value FROM json_each(?)) AND {where.sql} GROUP BY m.id
        """,
        [json.dumps(keys), *where.values],
    ).fetchall()
    sound, vectors = vectors_from([(row[1], row[2]) for row in rows], len(query))
    squared_distances = ((vectors.astype(np.float64) - query) ** 2).sum(axis=1)
    # A NaN can only come from a damaged file; it is nobody's neighbour.
    return [
        (rows[at][0], value)
        for at, value in zip(sound, squared_distances.tolist(), strict=True)
        if not math.isnan(value)
    ]
