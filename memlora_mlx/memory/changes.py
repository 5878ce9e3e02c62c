"""What goes into the store and what it answers: the plain records of the memory room's own borders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.records import Event, Image, Provenance, Scope

Vector: TypeAlias = NDArray[np.float32]  # shape (dim,), unit length
EmbedFunction: TypeAlias = Callable[[Sequence[str]], NDArray[np.float32]]  # texts -> shape (len(texts), dim), unit rows
SortOrder = Literal["newest", "oldest", "stored", "changed"]


@dataclass(frozen=True, slots=True)
class EmbeddingFingerprint:
    """An embedding space. Vectors of two spaces cannot be compared, so a store holds vectors of one only."""

    name: str  # the model with its pooling and prompt
    dim: int

    def __str__(self) -> str:
        return f"{self.name} ({self.dim} dimensions)"


@dataclass(frozen=True, slots=True, eq=False)
class Add:
    """A new memory."""

    text: str
    vector: Vector
    said_at: datetime | None = None
    image: Image | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None
    id: str | None = None  # None: derived from the exchange, or random without one
    position: int | None = None  # of the message in the exchange that it came from; None: the likeliest one
    provenance: Provenance = "user"


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """New words for a memory. It keeps its id, when it was first said and stored, and the metadata not named here."""

    memory_id: str
    text: str
    vector: Vector
    revised_at: datetime | None = None  # None: when the exchange was said
    metadata: Mapping[str, Any] | None = None
    image: Image | None = None  # that came with the new words; taken where the memory has none
    expected_text: str | None = None  # the words that this was decided on; None: whatever it says
    provenance: Provenance = "user"  # of a class below the memory's, the words are added beside it

    def additions(self, said_at: datetime | None) -> tuple[Add, ...]:
        """What is added where the class is too low: the same words as a memory of their own."""
        said_at = self.revised_at or said_at
        return (Add(self.text, self.vector, said_at, self.image, self.metadata or {}, provenance=self.provenance),)


@dataclass(frozen=True, slots=True)
class Delete:
    memory_id: str
    expected_text: str | None = None
    provenance: Provenance = "user"  # of a class below the memory's, it is not deleted, ...
    instead: tuple[Add, ...] = ()  # ... and these are added
    is_requested: bool = False  # the owner asked for it to be forgotten: its words are not found either

    def additions(self, said_at: datetime | None) -> tuple[Add, ...]:
        """What is added where the class is too low."""
        return self.instead


Change: TypeAlias = Add | Update | Delete


class WriteConflict(Exception):
    """A memory no longer says what a change to it was decided on: somebody else changed it meanwhile."""


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """What became of one change, in the order the changes were given."""

    event: Event
    memory_id: str
    text: str | None  # as stored; None for a DELETE
    old_text: str | None = None  # what the memory said before, for UPDATE and DELETE
    rejected: str | None = None  # why nothing was done; None where it was
    provenance: Provenance = "user"  # of what was added or changed
    kept: str | None = None  # the id of a memory of a higher class that was to be changed or deleted, and was not


@dataclass(frozen=True, slots=True)
class Owner:
    scope: Scope
    name: str | None  # a display name
    memories: int


@dataclass(frozen=True, slots=True)
class Source:
    """A conversation that was read in: how far its reading has come."""

    name: str
    kind: str
    exchanges: int  # in all
    done: int
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ImportResult:
    """How many memories an import brought, and how many were there already."""

    added: int
    skipped: int
