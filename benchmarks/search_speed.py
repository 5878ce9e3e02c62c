"""Searching the store, and filling it."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measurements import Measurement, measurement_of
from benchmarks.workloads import clustered_vectors
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.upkeep import build_indexes
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Scope

# Memories, and the milliseconds that a search may take.
SIZES: dict[int, float | None] = {1_000: None, 10_000: None, 100_000: 5.0}


def searching(workspace: Workspace) -> Iterator[Measurement]:
    """Store.search with SQL and records, over clustered vectors, one said a minute; and how fast memories go in.

    Of a million, the last 100,000 belong to ten other owners.
    """
    from benchmarks.model_timings import Timing

    dim = workspace.embedding_fingerprint.dim
    ann = Scope(user_id="ann")
    began, minute = datetime(2020, 1, 1), timedelta(minutes=1)
    for size, target in SIZES.items():
        others = 100_000 if size >= 1_000_000 else 0
        kinds: dict[str, dict[str, Any]] = {"": {"scope": ann}}
        if others:
            percent = {
                "said_after": began + 30 * size // 100 * minute,
                "said_before": began + 31 * size // 100 * minute,
            }
            kinds = {
                ", all owners": {},
                f", the owner of {size - others:,}": {"scope": ann},
                ", an owner of 10,000": {"scope": Scope(user_id="other 3")},
                ", all owners, half of the time": {"said_after": began + size // 2 * minute},
                ", all owners, 1 % of the time": percent,
            }
        vectors = clustered_vectors(size + 200, dim)
        memories, queries = vectors[:size], vectors[size:]
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder), EmbeddingFingerprint("bench", dim)) as store:
            start = time.perf_counter()
            for first in range(0, size, 1000):
                owner = ann if first < size - others else Scope(user_id=f"other {(size - 1 - first) // 10_000}")
                rows = range(first, first + 1000)
                store.commit(owner, [Add(f"memory {row}", memories[row], began + row * minute) for row in rows])
            stored = time.perf_counter()
            build_indexes(store)
            built = time.perf_counter()
            for kind, asked in kinds.items():
                searches = map(partial(store.search, limit=10, **asked), itertools.cycle(queries))
                timing = Timing.of(searches.__next__, runs=300, warm_up=20)
                yield measurement_of("search", f"top 10 of {size:,}{kind}", timing, "ms", target=target)
            if others:
                hits = 0
                for query in queries:
                    nearest = np.argpartition(memories @ -query, 10)[:10].tolist()
                    found = [hit.memory.text for hit in store.search(query, 10)]
                    hits += len({f"memory {row}" for row in nearest}.intersection(found))
                recall = hits / 10 / len(queries)
                yield Measurement("search", f"recall@10 of {size:,}", recall, "", target=">= 0.97", met=recall >= 0.97)
        yield Measurement("search", f"stored, {size:,}", size / (stored - start), "/s")
        yield Measurement("search", f"index built before the first search, {size:,}", size / (built - stored), "/s")
