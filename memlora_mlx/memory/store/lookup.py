"""Find a memory by the first characters of its id, as a user types them."""

from __future__ import annotations

from memlora_mlx.errors import MemoryNotFound
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import MemoryRecord


def resolve_id(store: Store, beginning: str) -> str:
    """The whole id of a memory that is in the store or was deleted.

    Raises:
        MemoryNotFound: no id begins so, or several ids do.
    """
    with store.snapshot() as connection:
        found = connection.execute(
            "SELECT id FROM (SELECT public_id AS id FROM memories UNION SELECT memory_id FROM history)"
            " WHERE substr(id, 1, length(:b)) = :b ORDER BY id LIMIT 3",
            {"b": beginning},
        ).fetchall()
    if beginning and len(found) == 1:
        return str(found[0]["id"])
    if beginning in [row["id"] for row in found]:
        return beginning
    raise MemoryNotFound(
        f"several memory ids start with {beginning!r}; type more characters of the id"
        if found and beginning
        else f"no memory has the id {beginning!r}; `memlora memory list` shows them"
    )


def find_by_prefix(store: Store, beginning: str) -> MemoryRecord:
    """The memory whose id begins so. Raises MemoryNotFound: see `resolve_id`, or it was deleted."""
    memory = store.get(resolve_id(store, beginning))
    if memory is None:
        raise MemoryNotFound(f"the memory {beginning} was deleted; `memlora memory undo` can bring it back")
    return memory
