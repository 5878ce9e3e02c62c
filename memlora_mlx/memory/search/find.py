"""Find what belongs to a question, as the protocol says: memories and messages in one ranking, or memories alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from memlora_mlx.memory.changes import EmbedFunction, Vector
from memlora_mlx.memory.search.hits import find_hits
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.upkeep import embed_messages
from memlora_mlx.records import Hit, Scope
from memlora_mlx.settings import Protocol

EMBEDDED_BEFORE_A_SEARCH = 32  # messages: a fraction of a second


def find(
    store: Store,
    question: str,
    vector: Vector,
    limit: int,
    *,
    protocol: Protocol,
    scopes: Sequence[Scope] = (Scope(),),
    owner_exact: bool = False,
    filters: Mapping[str, Any] | None = None,
    said_after: datetime | None = None,
    said_before: datetime | None = None,
    source: str | None = None,
    show_expired: bool = False,
    show_superseded: bool = True,
) -> list[Hit]:
    """The best hits for a question, `limit` for each scope, best first. See `find_hits` for the arguments.

    The paper's protocol takes the nearest memories of each scope; their score is the cosine.
    """
    if protocol == "product":
        return find_hits(
            store,
            question,
            vector,
            limit * len(scopes),
            scopes=scopes,
            owner_exact=owner_exact,
            filters=filters,
            said_after=said_after,
            said_before=said_before,
            source=source,
            show_expired=show_expired,
            show_superseded=show_superseded,
        )
    near = [
        neighbour
        for scope in scopes
        for neighbour in store.search(
            vector,
            limit,
            scope=scope,
            owner_exact=owner_exact,
            filters=filters,
            said_after=said_after,
            said_before=said_before,
            source=source,
            show_expired=show_expired,
        )
    ]
    near.sort(key=lambda neighbour: neighbour.distance)
    return [Hit(neighbour.memory, None, neighbour.score) for neighbour in near]


def embed_some_messages(store: Store, embed: EmbedFunction, protocol: Protocol) -> None:
    """Before a search, embed some of the messages that have no vector yet: those of a store of before this search.

    Until all of them have one they are found by their words. Ingesting and `memlora doctor --repair` embed all at once.
    """
    if protocol == "product" and not store.database.read_only:
        embed_messages(store, embed, EMBEDDED_BEFORE_A_SEARCH)
