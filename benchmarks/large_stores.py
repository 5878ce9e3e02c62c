"""Stores of any size for measuring: texts of made-up words, which are as frequent as English words are, and random vectors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.memory.changes import Add
from memlora_mlx.memory.store.exchanges import insert_if_new
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, Message, Scope

WORDS_OF_A_MESSAGE = 14
_VOCABULARY = 30_000
_SYLLABLES = [
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
]
_BATCH = 1_000  # exchanges, or memories, of one transaction
_CLUSTERS = 200
_BEGAN, _MINUTE = datetime(2020, 1, 1), timedelta(minutes=1)


class Texts:
    """Made-up texts: the word of rank n is n times as rare as the first (Zipf's law), and frequent words are short.

    Args:
        rarer_than: leave out so many of the most frequent words, as questions do whose stop words are not searched for.
    """

    def __init__(self, seed: int = 0, rarer_than: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        ranks = 1 / np.arange(1, _VOCABULARY + 1)
        ranks[:rarer_than] = 0
        self._shares = np.cumsum(ranks / ranks.sum())
        self._words = _words()

    def take(self, count: int, words: int) -> list[str]:
        """`count` texts of so many words each."""
        drawn = np.searchsorted(self._shares, self._random.random((count, words))).clip(max=_VOCABULARY - 1)
        return [" ".join(self._words[rank] for rank in row) for row in drawn.tolist()]


class Vectors:
    """Random unit vectors in clusters, as those of sentences are, made when they are asked for."""

    def __init__(self, dim: int, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        centres = np.random.default_rng(0).standard_normal((_CLUSTERS, dim)).astype(np.float32)
        self._centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)

    def take(self, count: int) -> NDArray[np.float32]:
        """Shape (count, dim)."""
        rows = self._centres[self._random.integers(0, _CLUSTERS, count)]
        dim = rows.shape[1]
        rows = rows + 1.05 / np.sqrt(dim, dtype=np.float32) * self._random.standard_normal((count, dim), np.float32)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def fill_with_talk(
    store: Store, owner: Scope, exchanges: int, *, search_words: bool = True, seed: int = 0
) -> Iterator[int]:
    """Store exchanges of two messages, each with one memory of its first message. Yields how many are stored.

    Args:
        search_words: give the messages vectors, too.
    """
    texts, vectors = Texts(seed), Vectors(store.embedding.dim, seed)
    for first in range(0, exchanges, _BATCH):
        count = min(_BATCH, exchanges - first)
        said, known = texts.take(2 * count, WORDS_OF_A_MESSAGE), vectors.take(3 * count)
        with store.transaction() as transaction:
            for at in range(count):
                said_at = _BEGAN + (first + at) * _MINUTE
                user, reply = said[2 * at : 2 * at + 2]
                messages = (
                    Message("user", user, "User", said_at),
                    Message("assistant", reply, "Assistant", said_at),
                )
                key = f"{owner.user_id} exchange {first + at}"
                exchange = Exchange(key, owner, messages, said_at, "chat", first + at)
                of_messages = list(known[3 * at : 3 * at + 2]) if search_words else None
                insert_if_new(transaction, exchange, of_messages)
                fact = Add(" ".join(user.split()[:8]), known[3 * at + 2], said_at)
                transaction.apply(owner, fact, "0", exchange, "model")
        yield first + count


def fill_with_memories(store: Store, owner: Scope, count: int, *, seed: int = 0) -> Iterator[int]:
    """Store memories that came from no message. Yields how many are stored."""
    texts, vectors = Texts(seed), Vectors(store.embedding.dim, seed)
    for first in range(0, count, _BATCH):
        wanted = min(_BATCH, count - first)
        said, known = texts.take(wanted, 8), vectors.take(wanted)
        store.commit(
            owner,
            [
                Add(text, vector, _BEGAN + (first + at) * _MINUTE)
                for at, (text, vector) in enumerate(zip(said, known, strict=True))
            ],
        )
        yield first + wanted


@cache
def _words() -> list[str]:
    return [_word(rank) for rank in range(_VOCABULARY)]


def _word(rank: int) -> str:
    """The word of a rank, always the same; frequent ones are short."""
    syllables: list[str] = []
    while rank or not syllables:
        rank, at = divmod(rank, len(_SYLLABLES))
        syllables.append(_SYLLABLES[at])
    return "".join(syllables)
