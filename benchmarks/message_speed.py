"""Searching messages and memories together in a large store, and what their index costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.measurements import Measurement, measurement_of
from benchmarks.workloads import clustered_vectors
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint
from memlora_mlx.memory.search.hits import find_hits
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange, Message, Scope

SIZE = 100_000  # messages; every second one gave a memory
TARGET = 10.0  # milliseconds that a search may take
_VOCABULARY = 30_000
_SYLLABLES = (
    "ba",
    "de",
    "fi",
    "go",
    "hu",
    "ka",
    "le",
    "mi",
    "no",
    "pu",
    "ra",
    "se",
    "ti",
    "vo",
    "zu",
    "lan",
    "mer",
    "tor",
)


def searching_messages(workspace: Workspace) -> Iterator[Measurement]:
    """`find_hits` over messages of made-up words, which are as frequent as those of English are (Zipf's law).

    Nine tenths are of one owner. Questions have six words; as stop words are not searched for, none of them is among the
    150 most frequent ones.
    """
    from benchmarks.model_timings import Timing

    dim = workspace.embedding_fingerprint.dim
    random = np.random.default_rng(0)
    vectors = clustered_vectors(SIZE + SIZE // 2 + 200, dim)
    ann = Scope(user_id="ann")
    began, minute = datetime(2020, 1, 1), timedelta(minutes=1)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), EmbeddingFingerprint("bench", dim)) as store:
        start = time.perf_counter()
        for at in range(0, SIZE, 2):
            owner = ann if at % 20 else Scope(user_id="ben")
            texts = [_text(random, 14), _text(random, 14)]
            said_at = began + at * minute
            messages = (
                Message("user", texts[0], "User", said_at),
                Message("assistant", texts[1], "Assistant", said_at),
            )
            fact = Add(" ".join(texts[0].split()[:8]), vectors[SIZE + at // 2], said_at)
            exchange = Exchange(f"exchange {at}", owner, messages, said_at, "chat", at // 2)
            store.commit(owner, [fact], exchange=exchange, message_vectors=list(vectors[at : at + 2]))
        stored = time.perf_counter()
        questions = [_text(random, 6, rarer_than=150) for _ in range(200)]
        queries = vectors[-200:]
        find_hits(store, questions[0], queries[0], 10)
        built = time.perf_counter()
        for kind, scope in (("one owner", ann), ("all owners", Scope()), ("an owner of 10,000", Scope(user_id="ben"))):
            asked = iter(list(zip(questions, queries, strict=True)) * 3)

            def search(scope: Scope = scope, asked: Iterator[tuple[str, np.ndarray]] = asked) -> object:
                question, query = next(asked)
                return find_hits(store, question, query, 10, scopes=[scope])

            timing = Timing.of(search, runs=300, warm_up=20)
            yield measurement_of("search", f"10 hits among {SIZE:,} messages, {kind}", timing, "ms", target=TARGET)
        yield Measurement("search", "exchanges of two messages and a memory stored", SIZE / 2 / (stored - start), "/s")
        yield Measurement("search", "messages indexed before the first search", SIZE / (built - stored), "/s")
        size = (Path(folder) / "memories.db").stat().st_size
        yield Measurement("search", "size of a store, for each message", size / SIZE, "bytes")


def _text(random: np.random.Generator, words: int, rarer_than: int = 0) -> str:
    ranks = 1 / np.arange(1, _VOCABULARY + 1)
    ranks[:rarer_than] = 0
    chosen = random.choice(_VOCABULARY, words, p=ranks / ranks.sum())
    return " ".join(_word(int(rank)) for rank in chosen)


def _word(rank: int) -> str:
    """The word of a rank, always the same; frequent ones are short."""
    syllables: list[str] = []
    while rank or not syllables:
        rank, at = divmod(rank, len(_SYLLABLES))
        syllables.append(_SYLLABLES[at])
    return "".join(syllables)
