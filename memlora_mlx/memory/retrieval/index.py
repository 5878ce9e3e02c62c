"""The nearest-neighbour index of one owner's memories or messages: a cache of the database, always in step with it.

Every write in the database carries a `revision`, a number that only grows; a removed memory leaves a tombstone with one.
An index knows the revision it stands at and reads what came after. That one way serves a saved file that is older than the
database, a crash, a second process that wrote, and a build from nothing (revision 0), in one go or in parts.

Up to `EXACT_LIMIT` memories an owner's vectors lie in one array and every search looks at all of them (384 dimensions:
0.3 ms for 5,000); beyond it usearch's HNSW graph over bytes does (2 ms for 900,000), which is saved to disk because it
takes seconds to build. Both only propose: `search.nearest` measures what they propose against the database.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from memlora_mlx.errors import StoreBroken
from memlora_mlx.files import atomic_paths, private_folder
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.retrieval.sidecar import Sidecar, file_sha256
from memlora_mlx.memory.retrieval.tables import MEMORIES, VectorTable, vectors_from
from memlora_mlx.memory.retrieval.vectors import FlatIndex, HnswIndex, VectorIndex
from memlora_mlx.sealed_files import PLAIN, Sealer

EXACT_LIMIT = 5_000
_FORMAT = 2  # of the sidecar file
_BATCH = 8192  # rows per read while catching up
_LAST_KEY = 2**63 - 1
_LOG = logging.getLogger(__name__)


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
        self.revision = 0  # all that was written up to it is in
        self.vectors: VectorIndex = FlatIndex(position.embedding.dim)
        self._position = position
        self._folder = folder
        self._exact_limit = exact_limit
        self._read_to = (0, _LAST_KEY)  # revision and key of the last row that was read
        self._removed_to = 0  # the revision up to which removals are applied
        self._began = 0  # the revision at which it was empty
        self._is_complete = False  # it has been at a revision with all of its rows
        self._unusable = 0  # rows whose stored vector is missing or of a wrong size
        self._unsaved = 0
        self._fresh = True

    @property
    def path(self) -> Path:
        return self._folder / f"{self.owner}.usearch"

    def catch_up(self, connection: sqlite3.Connection, position: StoreRevision, count: int, read_at_once: int) -> bool:
        """Bring it to `position`, where the owner has `count` rows; from scratch if the counts then differ.

        Returns False where more than `read_at_once` vectors must go into a graph, which takes long: `read_batch` does it in
        parts.
        """
        if self._fresh:
            self._fresh = False
            self._position = position
            if count <= self._exact_limit or not self._load():
                self.rebuild(count)
        self._forget_erased(position, count)
        if self._is_far_behind(connection, count, read_at_once):
            return False
        self._read_all(connection, count)
        if len(self.vectors) + self._unusable != count:
            _LOG.warning(
                "index of owner %d has %d %s, not %d: rebuilt",
                self.owner,
                len(self.vectors),
                self.table.count_column,
                count,
            )
            self.rebuild(count)
            if self._is_far_behind(connection, count, read_at_once):
                return False
            self._read_all(connection, count)
        if isinstance(self.vectors, FlatIndex) and count > self._exact_limit:
            graph = HnswIndex(position.embedding.dim)
            graph.put(*self.vectors.contents())
            self.vectors, self._unsaved = graph, count
        elif isinstance(self.vectors, HnswIndex) and count < self._exact_limit // 2:
            self.rebuild(count)
            self._read_all(connection, count)
        if self._unsaved > max(1000, count // 10):
            self.save()
        return True

    def rebuild(self, count: int) -> None:
        """Forget all vectors, and be ready to read those of `count` rows."""
        dim = self._position.embedding.dim
        self.vectors = HnswIndex(dim) if count > self._exact_limit else FlatIndex(dim)
        self.revision, self._read_to, self._is_complete = 0, (0, _LAST_KEY), False
        self._began = self._removed_to = self._position.revision

    def read_batch(self, connection: sqlite3.Connection, position: StoreRevision, count: int, size: int) -> bool:
        """Read the next `size` rows in the order of their revisions. Returns whether it is at `position` then.

        Each call can be in a transaction of its own: what others write meanwhile has a later revision.
        """
        self._forget_erased(position, count)
        if isinstance(self.vectors, FlatIndex) and count > self._exact_limit:
            self.rebuild(count)
        gone = connection.execute(self.table.removed, [self.owner, self._removed_to]).fetchall()
        if gone:
            self.vectors.remove(np.array([row[0] for row in gone], dtype=np.int64))
            self._unsaved += len(gone)
        self._removed_to = position.revision
        rows = self._next_rows(connection, size)
        if rows:
            sound, vectors = vectors_from([(row[2], row[3]) for row in rows], position.embedding.dim)
            self.vectors.put(np.array([rows[at][0] for at in sound], dtype=np.int64), vectors)
            self._unsaved += len(sound)
        if len(rows) == size:
            self._read_to = (rows[-1][1], rows[-1][0])
            self.revision = max(self.revision, rows[-1][1] - 1)
            return False
        self.revision, self._read_to = position.revision, (position.revision, _LAST_KEY)
        if not self._is_complete:
            self._is_complete = True
            self._unusable = count - len(self.vectors)
        return True

    @property
    def is_unsaved(self) -> bool:
        return isinstance(self.vectors, HnswIndex) and self._unsaved > 0

    def has_erased(self, position: StoreRevision) -> bool:
        """Whether it may have vectors that are erased at `position`."""
        return max(self.revision, self._began) < position.erased.get(self.owner, 0)

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
                    None if self._is_complete else self._read_to,
                )
                described.write_text(json.dumps(asdict(sidecar)), encoding="utf-8")
            self._unsaved = 0
        except (OSError, RuntimeError, OverflowError) as error:
            _LOG.info("index of owner %d stays in memory: %s", self.owner, error)

    def _load(self) -> bool:
        """Take the saved graph if it is whole and of this store and space. Returns whether it is."""
        position = self._position
        try:
            sidecar = Sidecar(**json.loads(self.path.with_suffix(".json").read_text(encoding="utf-8")))
            if (sidecar.format, sidecar.store, sidecar.space) != (_FORMAT, position.store, asdict(position.embedding)):
                raise ValueError("it belongs to another store or embedding space")
            read_to = (sidecar.revision, _LAST_KEY) if sidecar.read_to is None else _pair(sidecar.read_to)
            if not (0 <= sidecar.revision <= position.revision and sidecar.revision <= read_to[0] <= position.revision):
                raise ValueError("it is newer than the database")
            if sidecar.sha256 != file_sha256(self.path):
                raise ValueError("its checksum is wrong")
            graph = HnswIndex.load(self.path, position.embedding.dim, sidecar.reach, self._sealer)
            if len(graph) != sidecar.count:
                raise ValueError("its count is wrong")
        except FileNotFoundError:
            return False
        except (OSError, ValueError, TypeError, RuntimeError, StoreBroken) as error:
            _LOG.info("saved index of owner %d is not used: %s", self.owner, error)
            return False
        self.vectors, self.revision, self._read_to = graph, sidecar.revision, read_to
        self._began, self._removed_to, self._is_complete = 0, sidecar.revision, sidecar.read_to is None
        return True

    def _forget_erased(self, position: StoreRevision, count: int) -> None:
        """Start again where the database is older, or where an erased vector may be in it: a graph only marks removed ones."""
        self._position = position
        if self.has_erased(position) or max(self._read_to[0], self._removed_to) > position.revision:
            self.rebuild(count)

    def _is_far_behind(self, connection: sqlite3.Connection, count: int, read_at_once: int) -> bool:
        if count <= max(read_at_once, self._exact_limit) or self.revision == self._position.revision:
            return False
        if isinstance(self.vectors, FlatIndex):
            return True
        revision, key = self._read_to
        [unread] = connection.execute(
            f"SELECT count(*) FROM (SELECT 1 {self.table.source} WHERE m.owner = ?1"
            " AND (m.revision > ?2 OR (m.revision = ?2 AND m.id > ?3)) LIMIT ?4)",
            [self.owner, revision, key, read_at_once + 1],
        ).fetchone()
        return bool(unread > read_at_once)

    def _read_all(self, connection: sqlite3.Connection, count: int) -> None:
        while self.revision < self._position.revision and not self.read_batch(
            connection, self._position, count, _BATCH
        ):
            pass

    def _next_rows(self, connection: sqlite3.Connection, size: int) -> list[sqlite3.Row]:
        """The first rows after the last one that was read: key, revision, vector, second vector."""
        revision, key = self._read_to
        select = f"SELECT m.id, m.revision, e.vector, {self.table.second} {self.table.source} WHERE m.owner = ?"
        rows: list[sqlite3.Row] = []
        if key < _LAST_KEY:
            rest = f"{select} AND m.revision = ? AND m.id > ? ORDER BY m.id LIMIT ?"
            rows = connection.execute(rest, [self.owner, revision, key, size]).fetchall()
        if len(rows) < size:
            later = f"{select} AND m.revision > ? ORDER BY m.revision, m.id LIMIT ?"
            rows += connection.execute(later, [self.owner, revision, size - len(rows)]).fetchall()
        return rows


def _pair(value: object) -> tuple[int, int]:
    """Raises ValueError: these are not two whole numbers."""
    match value:
        case [int(revision), int(key)]:
            return revision, key
    raise ValueError("its position is not readable")
