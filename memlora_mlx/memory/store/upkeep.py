"""Work on a whole store: embed messages that have no vector yet; build the vector indexes, and clear them."""

from __future__ import annotations

import time
from collections.abc import Callable

from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import EmbedFunction
from memlora_mlx.memory.retrieval.indexes import Progress
from memlora_mlx.memory.store import messages, meta
from memlora_mlx.memory.store.owner_indexes import current_indexes
from memlora_mlx.memory.store.store import MAX_ROW_ID, Store
from memlora_mlx.records import Scope

_EMBEDDED_AT_ONCE = 64  # messages
_TRIES = 3
_PAUSE = 0.2  # seconds between two looks at a build


def embed_messages(store: Store, embed: EmbedFunction, limit: int | None = None) -> int:
    """Embed messages that have no vector yet, at most `limit` of them. Returns how many it embedded."""
    done = 0
    while limit is None or done < limit:
        with store.snapshot() as connection:
            missing = messages.pending(connection, min(_EMBEDDED_AT_ONCE, (limit or MAX_ROW_ID) - done))
        if not missing:
            break
        vectors = inputs.checked_vectors(embed([text for _, text in missing]), len(missing), store.embedding)
        with store.transaction() as transaction:
            rows_and_vectors = zip((row for row, _ in missing), vectors, strict=True)
            messages.put_vectors(transaction.connection, rows_and_vectors, transaction.revision)
        done += len(missing)
    return done


def index_progress(store: Store) -> Progress | None:
    """How far the large indexes are that are being built now; None where none is. Waits for no search."""
    found = [each for each in (store.indexes.progress(), store.message_indexes.progress()) if each is not None]
    return Progress(sum(each.done for each in found), sum(each.total for each in found)) if found else None


def build_indexes(store: Store, report: Callable[[Progress], None] | None = None) -> None:
    """Bring the indexes of all owners up to date, and wait for the large ones.

    Args:
        report: called several times a second while one is being built.
    """
    for _ in range(_TRIES):  # others may store much meanwhile
        with store.indexes.lock, store.message_indexes.lock, store.snapshot() as connection:
            position = meta.read_revision(connection, store.embedding, store.folder)
            current_indexes(connection, position, [Scope()], False, store.indexes, store.message_indexes)
        if index_progress(store) is None:
            return
        while (progress := index_progress(store)) is not None:
            if report is not None:
                report(progress)
            time.sleep(_PAUSE)


def clear_indexes(store: Store) -> None:
    """Remove all vector indexes, on disk too: the next search makes them from the database."""
    store.indexes.clear()
    store.message_indexes.clear()
