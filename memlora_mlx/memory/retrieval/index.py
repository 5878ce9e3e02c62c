"""The nearest-neighbour index of one owner's memories or messages: a cache of the database, always in step with it.

Every write in the database carries a `revision`, a number that only grows; a removed memory leaves a tombstone with one.
An index knows the revision it stands at and reads what came after. That one way serves a saved file that is older than the
database, a crash, a second process that wrote, and a build from nothing (revision 0).

Up to `EXACT_LIMIT` memories an owner's vectors lie in one array and every search looks at all of them (384 dimensions:
0.3 ms for 5,000); beyond it usearch's HNSW graph over bytes does (2 ms for 900,000), which is saved to disk because it
takes seconds to build. Both only propose: `search.nearest` measures what they propose against the database.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import StoreBroken
from memlora_mlx.files import atomic_paths, private_folder
from memlora_mlx.memory.changes import EmbeddingFingerprint, Vector
from memlora_mlx.memory.retrieval.sidecar import Sidecar, file_sha256
from memlora_mlx.memory.retrieval.tables import MEMORIES, VectorTable, vectors_from
from memlora_mlx.sealed_files import PLAIN, Sealer

EXACT_LIMIT = 5_000
_FORMAT = 2  # of the sidecar file
_SEED = 1000  # vectors of a graph that are inserted one after the other
_PIVOTS = 256  # a batch is put into a graph in this many groups of neighbours
_BATCH = 8192  # rows per read while catching up
_LOG = logging.getLogger(__name__)

Keys = NDArray[np.int64]


class Candidates(NamedTuple):
    """Keys that may be the nearest. What was asked for and is not among them is at least as far away as `distance_bound`."""

    keys: Keys
    squared_distances: NDArray[np.float32]  # distances, by a margin
    distance_bound: float = math.inf


class VectorIndex(Protocol):
    """Unit vectors under integer keys."""

    @property
    def rounding_error(self) -> float:
        """By how much a proposal's squared distance can be off."""

    def __len__(self) -> int: ...
    def put(self, keys: Keys, vectors: NDArray[np.float32]) -> None: ...
    def remove(self, keys: Keys) -> None: ...
    def nearest(self, query: Vector, limit: int) -> Candidates:
        """The `limit` nearest, in any order."""

    def nearest_of(self, keys: Keys, query: Vector, limit: int) -> Candidates:
        """Of those of the given keys that it has, about the `limit` nearest, or more."""


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


@dataclass(frozen=True, slots=True)
class StoreRevision:
    """Where the database stands, as a transaction sees it."""

    store: str  # the store's own id
    embedding: EmbeddingFingerprint
    revision: int
    erased: Mapping[int, int] = field(default_factory=dict)  # owner -> the revision at which something was erased last


class OwnerIndex:
    """One owner's vectors of one table, at one revision."""

    def __init__(
        self,
        owner: int,
        folder: Path,
        exact_limit: int,
        position: StoreRevision,
        table: VectorTable = MEMORIES,
        sealer: Sealer = PLAIN,
    ) -> None:
        self.owner = owner
        self._sealer = sealer
        self.table = table
        self.revision = 0
        self.vectors: VectorIndex = FlatIndex(position.embedding.dim)
        self._position = position
        self._folder = folder
        self._exact_limit = exact_limit
        self._unusable = 0  # rows whose stored vector is missing or of a wrong size
        self._unsaved = 0
        self._fresh = True

    @property
    def path(self) -> Path:
        return self._folder / f"{self.owner}.usearch"

    def catch_up(self, connection: sqlite3.Connection, position: StoreRevision, count: int) -> None:
        """Bring it to `position`, where the owner has `count` rows; from scratch if the counts then differ."""
        if self._fresh:
            self._fresh = False
            if count > self._exact_limit:
                self._load(position)
        self._position = position
        # A graph only marks vectors as removed: one that an erased vector may still be in is made again.
        was_erased = self.revision < position.erased.get(self.owner, 0)
        if self.revision == 0 or self.revision > position.revision or was_erased:
            self.rebuild(connection, count)
        elif self.revision < position.revision:
            self._read_changes(connection)
        if len(self.vectors) + self._unusable != count:
            _LOG.warning(
                "index of owner %d has %d %s, not %d: rebuilt",
                self.owner,
                len(self.vectors),
                self.table.count_column,
                count,
            )
            self.rebuild(connection, count)
        if isinstance(self.vectors, FlatIndex) and count > self._exact_limit:
            graph = HnswIndex(position.embedding.dim)
            graph.put(*self.vectors.contents())
            self.vectors, self._unsaved = graph, count
        elif isinstance(self.vectors, HnswIndex) and count < self._exact_limit // 2:
            self.rebuild(connection, count)
        if self._unsaved > max(1000, count // 10):
            self.save()

    def rebuild(self, connection: sqlite3.Connection, count: int) -> None:
        dim = self._position.embedding.dim
        self.vectors = HnswIndex(dim) if count > self._exact_limit else FlatIndex(dim)
        self.revision = 0
        self._read_changes(connection)
        self._unusable = count - len(self.vectors)

    def save(self) -> None:
        """Keep the graph on disk. A failure costs only time at the next start."""
        if not isinstance(self.vectors, HnswIndex) or not self._unsaved:
            return
        try:
            private_folder(self._folder)
            # A crash, or another process, between the two leaves a pair that does not match, and is then rebuilt.
            with atomic_paths(self.path, self.path.with_suffix(".json")) as (new, described):
                self.vectors.save(new, self._sealer)
                sidecar = Sidecar(
                    _FORMAT,
                    self._position.store,
                    asdict(self._position.embedding),
                    self.revision,
                    len(self.vectors),
                    self.vectors.quantisation_range,
                    file_sha256(new),
                )
                described.write_text(json.dumps(asdict(sidecar)), encoding="utf-8")
            self._unsaved = 0
        except (OSError, RuntimeError, OverflowError) as error:
            _LOG.info("index of owner %d stays in memory: %s", self.owner, error)

    def _load(self, position: StoreRevision) -> None:
        """Take the saved graph if it is whole and of this store and space; otherwise stay empty."""
        try:
            sidecar = Sidecar(**json.loads(self.path.with_suffix(".json").read_text(encoding="utf-8")))
            if (sidecar.format, sidecar.store, sidecar.space) != (_FORMAT, position.store, asdict(position.embedding)):
                raise ValueError("it belongs to another store or embedding space")
            if not 0 < sidecar.revision <= position.revision:
                raise ValueError("it is newer than the database")
            if sidecar.sha256 != file_sha256(self.path):
                raise ValueError("its checksum is wrong")
            graph = HnswIndex.load(self.path, position.embedding.dim, sidecar.reach, self._sealer)
            if len(graph) != sidecar.count:
                raise ValueError("its count is wrong")
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, RuntimeError, StoreBroken) as error:
            _LOG.info("saved index of owner %d is not used: %s", self.owner, error)
            return
        self.vectors, self.revision = graph, sidecar.revision

    def _read_changes(self, connection: sqlite3.Connection) -> None:
        """What changed after this index's revision, up to the transaction's."""
        dim = self._position.embedding.dim
        since = [self.owner, self.revision]
        gone = connection.execute(self.table.removed, since).fetchall()
        if gone and self.revision:
            self.vectors.remove(np.array([row[0] for row in gone], dtype=np.int64))
            self._unsaved += len(gone)
        changed = connection.execute(self.table.changed, since)
        while rows := changed.fetchmany(_BATCH):
            sound, vectors = vectors_from([(row[1], row[2]) for row in rows], dim)
            self.vectors.put(np.array([rows[at][0] for at in sound], dtype=np.int64), vectors)
            self._unsaved += len(sound)
        self.revision = self._position.revision


class OwnerIndexes:
    """The indexes of one table of a store, one an owner, made when first asked for. Hold `lock` while using them.

    Take the lock before beginning the transaction: then a transaction never sees an older state than the indexes do.
    """

    def __init__(
        self, folder: Path, exact_limit: int = EXACT_LIMIT, table: VectorTable = MEMORIES, sealer: Sealer = PLAIN
    ) -> None:
        self.folder = folder / table.name
        self._sealer = sealer
        self.table = table
        self.lock = threading.RLock()
        self._exact_limit = exact_limit
        self._owners: dict[int, OwnerIndex] = {}

    def current(self, connection: sqlite3.Connection, owner: int, position: StoreRevision, count: int) -> OwnerIndex:
        index = self._owners.get(owner)
        if index is None:
            index = self._owners[owner] = OwnerIndex(
                owner, self.folder, self._exact_limit, position, self.table, self._sealer
            )
        try:
            index.catch_up(connection, position, count)
        except BaseException:
            del self._owners[owner]  # only partly caught up: it is rebuilt at the next use
            raise
        return index

    def save(self) -> None:
        with self.lock:
            for index in self._owners.values():
                index.save()

    def forget(self, owners: Iterable[int]) -> None:
        """Remove the indexes of some owners, on disk too."""
        with self.lock:
            for owner in owners:
                self._owners.pop(owner, None)
                for suffix in ("usearch", "json"):
                    (self.folder / f"{owner}.{suffix}").unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget them all, on disk too: they will be built again from the database."""
        with self.lock:
            self._owners.clear()
            for path in [*self.folder.glob("*.usearch"), *self.folder.glob("*.json")]:
                path.unlink(missing_ok=True)
