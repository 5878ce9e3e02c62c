"""Work on a whole store: embed messages that have no vector yet, and clear the vector indexes."""

from __future__ import annotations

from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import EmbedFunction
from memlora_mlx.memory.store import messages
from memlora_mlx.memory.store.store import MAX_ROW_ID, Store

_EMBEDDED_AT_ONCE = 64  # messages


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


def clear_indexes(store: Store) -> None:
    """Remove all vector indexes, on disk too: the next search makes them from the database."""
    store.indexes.clear()
    store.message_indexes.clear()
