"""Searching messages and memories together in a large store, and what their index costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.large_stores import Texts, Vectors, fill_with_talk
from benchmarks.measurements import Measurement, measurement_of
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.search.hits import find_hits
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.upkeep import build_indexes
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Scope

SIZE = 100_000  # messages; every second one gave a memory
TARGET = 10.0  # milliseconds that a search may take


def searching_messages(workspace: Workspace) -> Iterator[Measurement]:
    """`find_hits` over messages of made-up words, which are as frequent as those of English are (Zipf's law).

    Nine tenths are of one owner. Questions have six words; as stop words are not searched for, none of them is among the
    150 most frequent ones.
    """
    from benchmarks.model_timings import Timing

    dim = workspace.embedding_fingerprint.dim
    ann, ben = Scope(user_id="ann"), Scope(user_id="ben")
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), EmbeddingFingerprint("bench", dim)) as store:
        start = time.perf_counter()
        for owner, exchanges in ((ann, SIZE * 9 // 20), (ben, SIZE // 20)):
            for _ in fill_with_talk(store, owner, exchanges):
                pass
        stored = time.perf_counter()
        build_indexes(store)
        built = time.perf_counter()
        questions = Texts(1, rarer_than=150).take(200, 6)
        queries = Vectors(dim, 1).take(200)
        for kind, scope in (("one owner", ann), ("all owners", Scope()), ("an owner of 10,000", ben)):
            asked = iter(list(zip(questions, queries, strict=True)) * 3)

            def search(scope: Scope = scope, asked: Iterator[tuple[str, np.ndarray]] = asked) -> object:
                question, query = next(asked)
                return find_hits(store, question, query, 10, scopes=[scope])

            timing = Timing.of(search, runs=300, warm_up=20)
            yield measurement_of("search", f"10 hits among {SIZE:,} messages, {kind}", timing, "ms", target=TARGET)
        yield Measurement("search", "exchanges of two messages and a memory stored", SIZE / 2 / (stored - start), "/s")
        yield Measurement("search", "vectors of messages and memories indexed", 1.5 * SIZE / (built - stored), "/s")
        size = (Path(folder) / "memories.db").stat().st_size
        yield Measurement("search", "size of a store, for each message", size / SIZE, "bytes")
