"""One bit of a store's file turned over: what it changes, and what the check of the store says of it."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import StoreError
from memlora_mlx.memory.changes import Add, Delete, EmbeddingFingerprint, Update
from memlora_mlx.memory.store.conversations import save_question, save_reply
from memlora_mlx.memory.store.history import undo_change
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.people import record_person
from memlora_mlx.memory.store.sources import mark_source
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, Image, Message, Scope

SPACE = EmbeddingFingerprint("flips", 32)
_WORDS = [
    "Ann",
    "Ben",
    "tea",
    "Rome",
    "harbour",
    "violin",
    "Tuesday",
    "sister",
    "moved",
    "bought",
    "quiet",
    "garden",
    "seven",
    "letters",
    "Lisbon",
    "train",
]


def vector(seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal(SPACE.dim)
    return (values / np.linalg.norm(values)).astype(np.float32)


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([vector(sum(text.encode())) for text in texts])


def make_store(folder: Path, exchanges: int = 60) -> None:
    """A store with everything that a store can hold, from two people's conversations."""
    words = random.Random(5)

    def say() -> str:
        return " ".join(words.choice(_WORDS) for _ in range(words.randint(4, 14)))

    with Store(folder, SPACE) as store:
        known: list[tuple[Scope, str]] = []
        for number in range(exchanges):
            owner = Scope("ann") if number % 3 else Scope("ben", "helper")
            image = Image(f"http://example.org/{number}.png", say()) if number % 5 == 0 else None
            said = (Message("user", say(), "Ann", image=image), Message("assistant", say(), ref=f"D1:{number}"))
            exchange = Exchange(f"exchange {number}", owner, said, store.clock(), "talk", number)
            text = say()
            changes: list[Add | Update | Delete] = [Add(text, embed([text])[0], metadata={"n": number})]
            own = [memory for scope, memory in known if scope == owner]
            if number % 7 == 6:
                changes.append(Update(words.choice(own), new := say(), embed([new])[0]))
            if number % 11 == 10:
                changes.append(Delete(gone := words.choice(own)))
                known.remove((owner, gone))
            done = store.commit(owner, changes, exchange=exchange, message_vectors=list(embed([say(), say()])))
            known.append((owner, done[0].memory_id))  # type: ignore[index]
        talk: dict[Scope, str] = {}
        for number in range(0, exchanges, 4):  # some of them were chats
            owner, key = Scope("ann") if number % 3 else Scope("ben", "helper"), f"exchange {number}"
            talk[owner] = save_question(
                store, owner, say(), key=key, said_at=store.clock(), conversation=talk.get(owner)
            )
            save_reply(store, key, say(), question="", said_at=store.clock())
        undo_change(store, embed)
        mark_source(store, "talk", "transcript", exchanges, finished=True)
        record_person(store, "talk", "Ann", "ann")
        assert check_store(store) == []
    with closing(sqlite3.connect(folder / "memories.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def contents(path: Path) -> list[tuple[object, ...]] | None:
    """All that the tables hold, the full-text tables' words too; None where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
            connection.text_factory = bytes
            names = [
                row[0].decode()
                for row in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'message\\_words\\_%' ESCAPE '\\'"
                    " AND name NOT LIKE 'turn\\_words\\_%' ESCAPE '\\'"
                )
            ]
            tables = (name for name in names if name != "sqlite_sequence")
            rows = [(name, *row) for name in tables for row in connection.execute(f"SELECT * FROM [{name}]")]
            return rows + [("counter", *row) for row in _counters(connection)]
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def _counters(connection: sqlite3.Connection) -> list[tuple[object, object]]:
    """What each counter is good for: never to give out a number again. One that is too high does no harm."""
    found = connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
    lasts = {
        name: connection.execute(f"SELECT ifnull(max(id), 0) FROM [{name.decode()}]").fetchone()[0] for name, _ in found
    }
    return [(name, "enough" if isinstance(seq, int) and seq >= lasts[name] else seq) for name, seq in found]


@dataclass
class Outcome:
    """Of bit flips: how many changed what the store holds, and which of those nobody noticed."""

    flips: int = 0
    changing: int = 0
    noticed: int = 0
    unnoticed: list[tuple[int, int]] = field(default_factory=list)  # byte and bit


def turn_bits(store: Path, scratch: Path, count: int, seed: int, places: Callable[[], int] | None = None) -> Outcome:
    """Turn single bits of a store's file until `count` of them changed its content.

    The check must end without any error but a StoreError, whatever the bit was.
    """
    moments = random.Random(seed)
    whole = (store / "memories.db").read_bytes()
    before = contents(store / "memories.db")
    outcome = Outcome()
    while outcome.changing < count:
        place, bit = (places() if places else moments.randrange(len(whole))), moments.randrange(8)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        (scratch / "memories.db").write_bytes(damaged)
        outcome.flips += 1
        if contents(scratch / "memories.db") == before:
            continue
        outcome.changing += 1
        if problems_of(scratch):
            outcome.noticed += 1
        else:
            outcome.unnoticed.append((place, bit))
    return outcome


def problems_of(folder: Path) -> list[str]:
    """What the doctor says of a store."""
    try:
        with Store(folder, SPACE, create=False, any_embedding=True) as store:
            return check_store(store)
    except StoreError as error:
        return [str(error)]
