"""The operations of an exchange's updates as changes of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from memlora_mlx.memory.changes import Add, Change, Delete, Update, Vector
from memlora_mlx.memory.provenance import lowest
from memlora_mlx.memory.results import UpdateInput
from memlora_mlx.memory.stages import UpdateOperation
from memlora_mlx.records import Exchange, Image, Provenance


def operations_as_changes(
    operations: Sequence[tuple[UpdateInput, UpdateOperation]],
    vectors: Mapping[str, Vector],
    exchange: Exchange,
    metadata: Mapping[str, object],
    expires_at: datetime | None,
    provenance: Mapping[str, Provenance],
) -> list[Change]:
    """The operations as changes of the store.

    Args:
        vectors: the embedding of every new text, and of every fact.
        provenance: the class of a fact or a text.
    """
    written = {operation.text for _, operation in operations if operation.event != "DELETE"}

    def addition(text: str) -> Add:
        return Add(text, vectors[text], exchange.said_at, image, metadata, expires_at, provenance=provenance[text])

    image = image_of_exchange(exchange)
    changed_ids: set[str] = set()
    changes: list[Change] = []
    for related, operation in operations:
        text, index = operation.text, operation.memory_index
        memory = None if index is None else related.memories[index]
        if memory is not None and memory.id not in changed_ids:
            changed_ids.add(memory.id)
            # Of an operation that does not say which fact is behind it, any may be.
            behind = (text,) if text in related.facts else related.facts or (text,)
            by = lowest(provenance[fact] for fact in behind)
            if operation.event == "UPDATE":
                vector, more = vectors[text], metadata or None
                changes.append(Update(memory.id, text, vector, None, more, image, memory.text, by))
            else:
                instead = tuple(addition(fact) for fact in related.facts if fact not in written)
                changes.append(Delete(memory.id, memory.text, by, instead))
        elif operation.event != "DELETE":
            changes.append(addition(text))
    return changes


def image_of_exchange(exchange: Exchange) -> Image | None:
    """The image that the facts of an exchange are stored with. Of several it is the owner's: what they show is theirs.

    One that is kept comes before a mere reference.
    """
    found = sorted(
        (message for message in exchange.messages if message.image),
        key=lambda message: (message.image is None or message.image.sha256 is None, message.role != "user"),
    )
    return found[0].image if found else None
