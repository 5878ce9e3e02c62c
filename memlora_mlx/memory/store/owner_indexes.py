"""The owners in scope, and their vector indexes as of a read transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from memlora_mlx.memory.retrieval.index import StoreRevision
from memlora_mlx.memory.retrieval.indexes import OwnerIndexes, OwnerVectors
from memlora_mlx.memory.store import rows
from memlora_mlx.records import Scope


def current_indexes(
    connection: sqlite3.Connection, position: StoreRevision, scopes: Sequence[Scope], exact: bool, *kinds: OwnerIndexes
) -> list[list[OwnerVectors]]:
    """For each kind the indexes of the owners in any of the scopes, brought up to date with the read transaction.

    Hold the kinds' locks, taken before the transaction began.

    Args:
        position: the revision that the transaction reads.
    """
    where, values = _any_scope(scopes, exact)
    found: list[list[OwnerVectors]] = []
    for kind in kinds:

        def read(kind: OwnerIndexes = kind) -> tuple[list[OwnerVectors], list[tuple[int, int]]]:
            count = kind.table.count_column
            owners = connection.execute(f"SELECT id, {count} FROM owners o WHERE {where} AND {count}", values)
            return kind.joined(connection, position, [(row[0], row[1]) for row in owners.fetchall()])

        joined, others = kind.cache.get(position, (tuple(scopes), exact), read)
        found.append([*joined, *(kind.current(connection, owner, position, count) for owner, count in others)])
    return found


def owner_rows(connection: sqlite3.Connection, scopes: Sequence[Scope], exact: bool) -> list[int]:
    """The rows of the owners in any of the scopes."""
    where, values = _any_scope(scopes, exact)
    return [row[0] for row in connection.execute(f"SELECT id FROM owners o WHERE {where} ORDER BY id", values)]


def _any_scope(scopes: Sequence[Scope], exact: bool) -> tuple[str, list[str | None]]:
    """SQL over the owners `o` that are in any of the scopes."""
    conditions = [rows.scope_condition(scope, exact=exact) for scope in scopes]
    where = " OR ".join(f"({sql})" for sql, _ in conditions) or "0"
    return f"({where})", [value for _, each in conditions for value in each]
