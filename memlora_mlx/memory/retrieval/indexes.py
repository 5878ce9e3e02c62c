"""The indexes of all owners of a store. A large graph is built on a thread, while searches read the database."""

from __future__ import annotations

import logging
import sqlite3
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from memlora_mlx.errors import MemloraError
from memlora_mlx.memory.retrieval.index import EXACT_LIMIT, OwnerIndex, StoreRevision
from memlora_mlx.memory.retrieval.scan import DatabaseScan
from memlora_mlx.memory.retrieval.tables import MEMORIES, VectorTable
from memlora_mlx.memory.retrieval.vectors import FlatIndex, VectorSearch
from memlora_mlx.sealed_files import PLAIN, Sealer

READ_AT_ONCE = 2_000  # vectors that a search puts into a graph itself: about a second
_BATCH = 2048  # rows of one transaction of a build, which ends within a second when it is to stop
_LOG = logging.getLogger(__name__)

JOINED_OWNERS = 64  # so many small owners are searched in one array: one by one takes 10 microseconds for each
JOINED_ROWS = 100_000  # of such an array at most: 150 MB of 384 dimensions
MAX_CACHED = 200
T = TypeVar("T")
Reading = tuple[sqlite3.Connection, StoreRevision]


class OwnerVectors(NamedTuple):
    """What a search of the rows of some owners looks into, within its transaction."""

    owners: tuple[int, ...]
    vectors: VectorSearch


class RevisionCache:
    """What was computed from the database and holds until something is written."""

    def __init__(self) -> None:
        self._position: StoreRevision | None = None
        self._found: dict[Hashable, Any] = {}

    def get(self, position: StoreRevision, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gave for this key at this position; it is called where that is not known."""
        if position != self._position or len(self._found) > MAX_CACHED:
            self._position, self._found = position, {}
        if key not in self._found:
            self._found[key] = make()
        found: T = self._found[key]
        return found


class Progress(NamedTuple):
    """Of the graphs that are being built: rows that are in, of those that are to be."""

    done: int
    total: int


class OwnerIndexes:
    """The indexes of one table of a store, one an owner, made when first asked for. Hold `lock` while using them.

    Take the lock before beginning the transaction: then a transaction never sees an older state than the indexes do.

    Args:
        read: begins a read transaction on the calling thread, for building in the background. Without it, graphs of any
            size are built within the search that needs them.
    """

    def __init__(
        self,
        folder: Path,
        exact_limit: int = EXACT_LIMIT,
        table: VectorTable = MEMORIES,
        sealer: Sealer = PLAIN,
        read: Callable[[], AbstractContextManager[Reading]] | None = None,
    ) -> None:
        self.folder = folder / table.name
        self._sealer = sealer
        self.table = table
        self.lock = threading.RLock()
        self.read_at_once = READ_AT_ONCE
        self.cache = RevisionCache()
        self._exact_limit = exact_limit
        self._read = read
        self._owners: dict[int, OwnerIndex] = {}
        self._builds: dict[int, _Build] = {}
        self._turn = threading.Lock()  # one build at a time
        # A thread within usearch must not be there any more when the interpreter ends.
        weakref.finalize(self, _stop, self._builds)

    def current(self, connection: sqlite3.Connection, owner: int, position: StoreRevision, count: int) -> OwnerVectors:
        """The vectors of an owner, who has `count` rows at `position`: those of the transaction, whether a graph is there or not."""
        build = self._builds.get(owner)
        if build is not None:
            if build.is_alive():
                return self._scan(connection, owner, count)
            del self._builds[owner]
            if build.is_ready:
                self._owners[owner] = build.index
        index = self._owners.get(owner)
        if index is None:
            index = self._owners[owner] = OwnerIndex(
                owner, self.folder, self._exact_limit, position, self.table, self._sealer
            )
        at_once = self.read_at_once if self._read is not None else count
        try:
            is_current = index.catch_up(connection, position, count, at_once)
        except BaseException:
            del self._owners[owner]  # only partly caught up: it is rebuilt at the next use
            raise
        if is_current:
            return OwnerVectors((owner,), index.vectors)
        assert self._read is not None
        del self._owners[owner]
        self._builds[owner] = _Build(index, self._read, self._turn, count)
        self._builds[owner].start()
        return self._scan(connection, owner, count)

    def joined(
        self, connection: sqlite3.Connection, position: StoreRevision, counts: Sequence[tuple[int, int]]
    ) -> tuple[list[OwnerVectors], list[tuple[int, int]]]:
        """The vectors of many small owners in one array, valid at `position`, and the owners that are not in it.

        Args:
            counts: owners, each with its number of rows.
        """
        small = [(owner, count) for owner, count in counts if count <= self._exact_limit]
        if len(small) < JOINED_OWNERS or sum(count for _, count in small) > JOINED_ROWS:
            return [], list(counts)
        joint, owners = FlatIndex(position.embedding.dim), []
        keys, vectors = [], []
        for owner, count in small:
            found = self.current(connection, owner, position, count).vectors
            if isinstance(found, FlatIndex):
                owners.append(owner)
                keys.append(found.contents()[0])
                vectors.append(found.contents()[1])
        if owners:
            joint.put(np.concatenate(keys), np.concatenate(vectors))
        rest = set(owners)
        return [OwnerVectors(tuple(owners), joint)], [(owner, count) for owner, count in counts if owner not in rest]

    def _scan(self, connection: sqlite3.Connection, owner: int, count: int) -> OwnerVectors:
        return OwnerVectors((owner,), DatabaseScan(connection, self.table, owner, count))

    def progress(self) -> Progress | None:
        """How far the graphs are that are being built; None where none is."""
        builds = [build for build in list(self._builds.values()) if build.is_alive()]
        if not builds:
            return None
        return Progress(sum(min(build.done, build.total) for build in builds), sum(build.total for build in builds))

    def save(self) -> None:
        """Write the graphs to disk, also those that are not complete: the next process goes on with them."""
        with self.lock:
            builds = list(self._builds.values())
            _stop(self._builds)
            indexes = [*self._owners.values(), *(build.index for build in builds if build.is_sound)]
            for index in self._without_erased(indexes):
                index.save()

    def close(self, *, keep: bool) -> None:
        """End the builds, and write the graphs to disk if they are to be kept."""
        if keep:
            self.save()
        with self.lock:
            _stop(self._builds)

    def _without_erased(self, indexes: list[OwnerIndex]) -> list[OwnerIndex]:
        """Those that hold nothing which another process has erased since they were last used."""
        if self._read is None or not any(index.is_unsaved for index in indexes):
            return indexes
        try:
            with self._read() as (connection, position):
                owners = {row[0] for row in connection.execute("SELECT id FROM owners")}
        except MemloraError as error:
            _LOG.info("indexes are not saved: %s", error)
            return []
        return [index for index in indexes if index.owner in owners and not index.has_erased(position)]

    def forget(self, owners: Iterable[int]) -> None:
        """Remove the indexes of some owners, on disk too."""
        with self.lock:
            for owner in owners:
                if (build := self._builds.pop(owner, None)) is not None:
                    _stop({owner: build})
                self._owners.pop(owner, None)
                for suffix in ("usearch", "json"):
                    (self.folder / f"{owner}.{suffix}").unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget them all, on disk too: they will be built again from the database."""
        with self.lock:
            _stop(self._builds)
            self._owners.clear()
            for path in [*self.folder.glob("*.usearch"), *self.folder.glob("*.json")]:
                path.unlink(missing_ok=True)


class _Build(threading.Thread):
    """Reads an owner's rows into a graph, each batch in a transaction of its own, and saves the graph."""

    def __init__(
        self,
        index: OwnerIndex,
        read: Callable[[], AbstractContextManager[Reading]],
        turn: threading.Lock,
        total: int,
    ) -> None:
        super().__init__(name=f"index of owner {index.owner}", daemon=True)
        self.index = index
        self.done, self.total = len(index.vectors), total
        self.is_ready = False  # complete, as of the last transaction
        self.is_sound = True  # as far as it is
        self.stopped = threading.Event()
        self._read, self._turn = read, turn

    def run(self) -> None:
        while not self._turn.acquire(timeout=0.1):
            if self.stopped.is_set():
                return
        try:
            while not (self.stopped.is_set() or self.is_ready):
                self._read_batch()
            if self.is_ready:
                self.index.save()
        except MemloraError as error:
            _LOG.info("%s is not built: %s", self.name, error)
        finally:
            self._turn.release()

    def _read_batch(self) -> None:
        self.is_sound = False
        index = self.index
        with self._read() as (connection, position):
            row = connection.execute(
                f"SELECT {index.table.count_column} FROM owners WHERE id = ?", [index.owner]
            ).fetchone()
            self.total = 0 if row is None else row[0]
            self.is_ready = index.read_batch(connection, position, self.total, _BATCH)
        self.done = len(index.vectors)
        self.is_sound = True


def _stop(builds: dict[int, _Build]) -> None:
    """End the builds after the batch that each is at, and forget them."""
    for build in builds.values():
        build.stopped.set()
    for build in builds.values():
        if build.is_alive() and build is not threading.current_thread():
            build.join()
    builds.clear()
