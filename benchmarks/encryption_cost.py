"""What encryption costs: the same store plain and encrypted, timed in turn in one run.

python -m benchmarks.encryption_cost --memories 20000 --rounds 60
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memlora_mlx import __version__
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint, Vector
from memlora_mlx.memory.store import keys
from memlora_mlx.memory.store.converting import decrypt_store, encrypt_store, rekey_store
from memlora_mlx.memory.store.encrypted_sqlite import cipher_version
from memlora_mlx.memory.store.passphrases import PASSPHRASE
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Scope

DIM = 384
SPACE = EmbeddingFingerprint("bench", DIM)
ANN = Scope("ann")
Times = dict[str, list[float]]  # milliseconds, of the plain store and of the encrypted one


def vectors(count: int, seed: int) -> NDArray[np.float32]:
    made = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


def fill(folder: Path, count: int) -> None:
    with Store(folder, SPACE) as store:
        for start in range(0, count, 1000):
            made = vectors(min(1000, count - start), start)
            store.commit(ANN, [Add(f"Note {start + n} about the garden.", vector) for n, vector in enumerate(made)])


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


def opening(folder: Path) -> None:
    with Store(folder, SPACE, create=False) as store:
        store.count()


def adding(store: Store, number: int) -> None:
    vector: Vector = vectors(1, 10**6 + number)[0]
    store.commit(ANN, [Add(f"One more note, number {number}.", vector)])


def measure(folders: Mapping[str, Path], rounds: int) -> dict[str, Times]:
    """Each store in turn, so that what else the machine does meets both."""
    found: dict[str, Times] = {name: {kind: [] for kind in folders} for name in ("open", "add", "search", "list")}
    for _ in range(rounds):
        for kind, folder in folders.items():
            found["open"][kind].append(timed(lambda: opening(folder)))  # noqa: B023 - called at once
    with ExitStack() as stack:
        stores = {kind: stack.enter_context(Store(folder, SPACE)) for kind, folder in folders.items()}
        for store in stores.values():
            store.search(vectors(1, 1)[0], 10, scope=ANN)
        for number in range(rounds):
            query = vectors(1, 7 * 10**6 + number)[0]
            for kind, store in stores.items():
                found["add"][kind].append(timed(lambda: adding(store, number)))  # noqa: B023
                found["search"][kind].append(timed(lambda: store.search(query, 10, scope=ANN)))  # noqa: B023
                found["list"][kind].append(timed(lambda: store.list(scope=ANN, limit=100)))  # noqa: B023
    return found


@contextmanager
def told(name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{name}: {time.perf_counter() - started:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memories", type=int, default=4000, help="Memories in the store (default: 4000).")
    parser.add_argument("--rounds", type=int, default=60, help="How often each is timed (default: 60).")
    options = parser.parse_args()
    os.environ[PASSPHRASE] = "a passphrase of six words"
    with tempfile.TemporaryDirectory() as home:
        folders = {"plain": Path(home, "plain"), "encrypted": Path(home, "encrypted")}
        fill(folders["plain"], options.memories)
        shutil.copytree(folders["plain"], folders["encrypted"])
        with told("encrypt"):
            encrypt_store(folders["encrypted"], os.environ[PASSPHRASE], lambda step: None)
        with told("rekey"):
            rekey_store(folders["encrypted"], os.environ[PASSPHRASE], lambda step: None)
        keys._opened.clear()
        with told("passphrase to key, once in a process"):
            keys.unlock(folders["encrypted"])
        sizes = {kind: (folder / "memories.db").stat().st_size for kind, folder in folders.items()}
        print(f"database: {sizes['plain'] / 1e6:.1f} MB plain, {sizes['encrypted'] / 1e6:.1f} MB encrypted")
        print(f"{'':8} {'plain p50':>10} {'p95':>8} {'encrypted p50':>14} {'p95':>8} {'ratio':>6}  (ms)")
        for name, times in measure(folders, options.rounds).items():
            (a, b), (c, d) = (np.percentile(times[kind], [50, 95]) for kind in folders)
            print(f"{name:8} {a:>10.2f} {b:>8.2f} {c:>14.2f} {d:>8.2f} {c / a:>6.2f}")
        with told("decrypt"):
            decrypt_store(folders["encrypted"], lambda step: None)
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps({"memlora": __version__, "sqlcipher": cipher_version(), "memories": options.memories, **machine}))


if __name__ == "__main__":
    main()
