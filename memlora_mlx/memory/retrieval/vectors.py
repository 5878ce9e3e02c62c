"""Two indexes of unit vectors: an array that is searched whole, and a graph. Both only propose; see `search.nearest`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.memory.changes import Vector
from memlora_mlx.sealed_files import Sealer

_SEED = 1000  # vectors of a graph that are inserted one after the other
_PIVOTS = 256  # a batch is put into a graph in this many groups of neighbours

Keys = NDArray[np.int64]


class Candidates(NamedTuple):
    """Keys that may be the nearest. What was asked for and is not among them is at least as far away as `distance_bound`."""

    keys: Keys
    squared_distances: NDArray[np.float32]  # distances, by a margin
    distance_bound: float = math.inf


class VectorSearch(Protocol):
    """Unit vectors under integer keys, to search."""

    @property
    def rounding_error(self) -> float:
        """By how much a proposal's squared distance can be off."""

    def __len__(self) -> int: ...
    def nearest(self, query: Vector, limit: int) -> Candidates:
        """The `limit` nearest, in any order."""

    def nearest_of(self, keys: Keys, query: Vector, limit: int) -> Candidates:
        """Of those of the given keys that it has, about the `limit` nearest, or more."""


class VectorIndex(VectorSearch, Protocol):
    """Unit vectors under integer keys, to search and to change."""

    def put(self, keys: Keys, vectors: NDArray[np.float32]) -> None: ...
    def remove(self, keys: Keys) -> None: ...


class FlatIndex:
    """All vectors in one array; exact."""

    rounding_error = 1e-4  # float32 rounding of a dot product over up to 1,024 dimensions

    def __init__(self, dim: int) -> None:
        self._keys = np.empty(64, dtype=np.int64)
        self._vectors = np.empty((64, dim), dtype=np.float32)
        self._rows: dict[int, int] = {}  # key -> row

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, keys: Keys, vectors: NDArray[np.float32]) -> None:
        for key in keys.tolist():
            self._rows.setdefault(key, len(self._rows))
        if len(self._rows) > len(self._keys):
            room = max(len(self._rows), 2 * len(self._keys))
            self._keys = np.resize(self._keys, room)
            self._vectors = np.resize(self._vectors, (room, self._vectors.shape[1]))
        rows = [self._rows[key] for key in keys.tolist()]
        self._keys[rows] = keys
        self._vectors[rows] = vectors

    def remove(self, keys: Keys) -> None:
        for key in keys.tolist():
            row = self._rows.pop(key, None)
            last = len(self._rows)
            if row is not None and row != last:  # the last row moves into the gap
                self._keys[row], self._vectors[row] = self._keys[last], self._vectors[last]
                self._rows[int(self._keys[row])] = row

    def nearest(self, query: Vector, limit: int) -> Candidates:
        count = len(self._rows)
        # vecdot and not `@`: OpenBLAS would use threads, and these wait 8 ms for each other on a busy machine.
        squared: NDArray[np.float32] = 2.0 - 2.0 * np.vecdot(self._vectors[:count], query)  # of unit vectors
        if limit >= count:
            return Candidates(self._keys[:count].copy(), squared)
        chosen = np.argpartition(squared, limit)[:limit]
        return Candidates(self._keys[chosen], squared[chosen], float(squared[chosen].max()))

    def nearest_of(self, keys: Keys, query: Vector, limit: int) -> Candidates:
        rows = [row for key in keys.tolist() if (row := self._rows.get(key)) is not None]
        return Candidates(self._keys[rows], 2.0 - 2.0 * np.vecdot(self._vectors[rows], query))

    def contents(self) -> tuple[Keys, NDArray[np.float32]]:
        return self._keys[: len(self)], self._vectors[: len(self)]


class HnswIndex:
    """usearch's HNSW over vectors rounded to bytes; approximate (recall above 0.97 in 900,000) and fast.

    A byte stands for a component between `-quantisation_range` and `quantisation_range`, which the first vectors determine. Half as large as half
    precision, built and walked 1.5 times as fast.
    """

    def __init__(self, dim: int, quantisation_range: float = 0.0, index: Any = None) -> None:
        from usearch.index import Index  # here, since only large stores pay for loading it

        self._index = index or Index(ndim=dim, metric="l2sq", dtype="i8", connectivity=16, expansion_add=128)
        self.quantisation_range = quantisation_range

    def __len__(self) -> int:
        return len(self._index)

    @property
    def rounding_error(self) -> float:
        error = self.quantisation_range / 127 / math.sqrt(12)  # of a component: rounded evenly
        dim = int(self._index.ndim)
        # Five standard deviations at a right angle, less for what is nearer; and what the errors themselves add up to.
        return 20 * error + 2 * dim * error**2

    def put(self, keys: Keys, vectors: NDArray[np.float32]) -> None:
        if not self.quantisation_range and len(vectors):
            self.quantisation_range = min(1.0, max(1.5 * float(np.abs(vectors).max()), 8 / math.sqrt(vectors.shape[1])))
        self.remove(keys)
        # Threads that insert into a nearly empty graph do not see each other's nodes, and some are then never found.
        alone = max(0, _SEED - len(self))
        self._add(keys[:alone], vectors[:alone], threads=1)
        self._add(keys[alone:], vectors[alone:], threads=0)

    def _add(self, keys: Keys, vectors: NDArray[np.float32], threads: int) -> None:
        if not len(keys):
            return
        # Neighbours one after the other walk over the same nodes, which are then in the processor's cache: half the time.
        order = np.argsort((vectors @ vectors[:: len(vectors) // _PIVOTS + 1].T).argmax(axis=1))
        self._index.add(keys[order].astype(np.uint64), self._bytes(vectors[order]), threads=threads)

    def remove(self, keys: Keys) -> None:
        unsigned = keys.astype(np.uint64)
        if len(known := unsigned[np.atleast_1d(self._index.contains(unsigned))]):
            self._index.remove(known)

    def nearest(self, query: Vector, limit: int) -> Candidates:
        count = len(self)
        # Nodes a walk keeps in view; among more, more of them are needed lest it ends in the wrong region.
        view = max(256, math.isqrt(count), limit)
        self._index.expansion_search = view
        # Looking at everything is as fast as a walk to every fortieth, and misses nothing.
        matches = self._index.search(self._bytes(query), min(limit, count), exact=40 * view >= count)
        squared = matches.distances * self._unit**2
        horizon = math.inf if limit >= count else float(squared.max(initial=0))
        return Candidates(matches.keys.astype(np.int64), squared, horizon)

    def nearest_of(self, keys: Keys, query: Vector, limit: int) -> Candidates:
        # A step of a walk takes as long as to look up a vector.
        width = limit * len(self) // len(keys)
        if width < len(keys):
            proposed = self.nearest(query, width)
            chosen = np.isin(proposed.keys, keys)
            return Candidates(proposed.keys[chosen], proposed.squared_distances[chosen], proposed.distance_bound)
        keys = keys[np.atleast_1d(self._index.contains(keys))]
        gaps = np.array(self._index.get(keys), dtype=np.float32).reshape(len(keys), -1)
        gaps -= query / self._unit
        return Candidates(keys, np.vecdot(gaps, gaps) * self._unit**2)

    def save(self, path: Path, sealer: Sealer) -> None:
        if sealer.is_plain:
            self._index.save(str(path))
        else:
            path.write_bytes(sealer.seal(bytes(self._index.save()), path.name))

    @classmethod
    def load(cls, path: Path, dim: int, quantisation_range: float, sealer: Sealer) -> HnswIndex:
        """Raises ValueError: the file is of another kind. Its bytes must have been checked: usearch does not."""
        from usearch.index import Index

        index = Index.restore(str(path) if sealer.is_plain else sealer.read(path))
        if index is None or index.ndim != dim:
            raise ValueError(f"not an index of {dim} dimensions")
        index.expansion_add = 128
        return cls(dim, quantisation_range, index)

    def _bytes(self, vectors: NDArray[np.float32]) -> NDArray[np.int8]:
        with np.errstate(invalid="ignore"):  # a NaN can only come from a damaged file; `search` leaves it out
            rounded: NDArray[np.int8] = np.rint(
                np.clip(vectors, -self.quantisation_range, self.quantisation_range) / self._unit
            ).astype(np.int8)
        return rounded

    @property
    def _unit(self) -> float:
        """What a byte's 1 stands for."""
        return self.quantisation_range / 127
