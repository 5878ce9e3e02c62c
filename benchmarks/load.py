"""Large stores and large files: seconds, highest memory and disk of each, in one table.

    python -m benchmarks.load                 # a million memories, 10,000 owners, a million messages, files of 50 MB
    python -m benchmarks.load --share 0.05    # a twentieth of each, but for the files

Vectors are random and no model runs. Each step is a process of its own, so that its memory is its own; what it writes is
deleted before the next one begins. Processor time is given beside the seconds, since other work on the machine does not
change it as much.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.large_stores import Texts, Vectors, fill_with_memories, fill_with_talk
from memlora_mlx.conversations import conversation_exchanges, read_conversations
from memlora_mlx.errors import MemloraError
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.search.hits import find_hits
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.upkeep import build_indexes
from memlora_mlx.records import Scope

DIM = 384
MEMORIES, OWNERS, MESSAGES = 1_000_000, 10_000, 1_000_000
FILE_BYTES = 50_000_000
EXCHANGES_OF_AN_OWNER = 2
SEARCHES = 200
ANN = Scope(user_id="ann")


@dataclass(frozen=True, slots=True)
class Row:
    """What one part of a step took. Times are in seconds."""

    what: str
    seconds: float
    processor: float
    note: str = ""


def one_owner(folder: Path, share: float) -> Iterator[Row]:
    count = int(MEMORIES * share)
    with _store(folder) as store:
        yield _timed(f"{count:,} memories of one owner stored", lambda: _drain(fill_with_memories(store, ANN, count)))
        yield from _searches(store, {"": ANN})


def many_owners(folder: Path, share: float) -> Iterator[Row]:
    count = int(OWNERS * share)

    def fill() -> None:
        for owner in range(count):
            _drain(fill_with_talk(store, Scope(user_id=f"owner {owner}"), EXCHANGES_OF_AN_OWNER, seed=owner))

    with _store(folder) as store:
        yield _timed(f"{count:,} owners, each with {EXCHANGES_OF_AN_OWNER} memories and their messages, stored", fill)
        yield from _searches(store, {"all owners": Scope(), "one owner": Scope(user_id="owner 7")})


def many_messages(folder: Path, share: float) -> Iterator[Row]:
    count = int(MESSAGES * share) // 2
    with _store(folder) as store:
        what = f"{2 * count:,} messages of one owner, with {count:,} memories, stored"
        yield _timed(what, lambda: _drain(fill_with_talk(store, ANN, count)))
        yield from _searches(store, {"": ANN})


def files(folder: Path, share: float) -> Iterator[Row]:
    """Read as `memlora ingest --dry-run` reads them."""
    for name, write in (
        ("text, many lines", _write_lines),
        ("JSON, one line", _write_json_line),
        ("text, one line", _write_one_line),
    ):
        path = folder / f"talk.{'json' if 'JSON' in name else 'txt'}"
        write(path)
        note = ""

        def read(path: Path = path) -> None:
            nonlocal note
            try:
                found = [conversation_exchanges(talk, user="Ann") for talk in read_conversations(path)]
                note = f"{sum(map(len, found)):,} exchanges"
            except MemloraError as error:
                note = f"refused: {error}".replace(str(folder), "...")

        row = _timed(f"a file of {path.stat().st_size / 1e6:.0f} MB, {name}, read", read)
        yield Row(row.what, row.seconds, row.processor, note)
        path.unlink()


STEPS: dict[str, Callable[[Path, float], Iterator[Row]]] = {
    "memories": one_owner,
    "owners": many_owners,
    "messages": many_messages,
    "files": files,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the memories, owners and messages (default: 1)")
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS), help="default: all of them")
    parser.add_argument("--folder", type=Path, help="where the stores are made: 8 GB (default: the temporary folder)")
    options = parser.parse_args()
    print("| what | seconds | processor seconds | memory at most | disk | |")
    print("|---|---:|---:|---:|---:|---|", flush=True)
    for step in options.steps:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            child = multiprocessing.get_context("spawn").Process(target=_run, args=(step, Path(folder), options.share))
            child.start()
            child.join()
            if child.exitcode:
                print(f"| {step} | | | | | ended with {child.exitcode} |", flush=True)


def _run(step: str, folder: Path, share: float) -> None:
    for row in STEPS[step](folder, share):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        cells = [row.what, f"{row.seconds:,.3g}", f"{row.processor:,.3g}", f"{peak >> 20:,} MB", f"{disk >> 20:,} MB"]
        print(f"| {' | '.join([*cells, row.note])} |", flush=True)


def _searches(store: Store, scopes: dict[str, Scope]) -> Iterator[Row]:
    """The first search, the searches until the graphs are there, the graphs, and the searches then."""
    questions = Texts(99, rarer_than=150).take(SEARCHES, 6)
    queries = Vectors(DIM, 99).take(SEARCHES)
    asked = iter(list(zip(questions, queries, strict=True)) * 10)

    def search(scope: Scope) -> None:
        question, query = next(asked)
        find_hits(store, question, query, 10, scopes=[scope])

    any_scope = next(iter(scopes.values()))
    yield _timed("the first search", lambda: search(any_scope))
    if store.indexes.progress() or store.message_indexes.progress():
        yield _timed("a search while the graphs are built", lambda: search(any_scope))
        yield _timed("the graphs built in the background", lambda: build_indexes(store))
    for name, scope in scopes.items():
        taken = []
        for _ in range(SEARCHES):
            began = time.perf_counter(), time.thread_time()
            search(scope)
            taken.append((1e3 * (time.perf_counter() - began[0]), 1e3 * (time.thread_time() - began[1])))
        (p50, cpu50), (p95, cpu95) = np.percentile(taken, 50, axis=0), np.percentile(taken, 95, axis=0)
        note = f"milliseconds: p50 {p50:.1f}, p95 {p95:.1f}; of processor time: p50 {cpu50:.1f}, p95 {cpu95:.1f}"
        yield Row(f"a search{name and f', {name}'}", p50 / 1e3, cpu50 / 1e3, note)


def _timed(what: str, work: Callable[[], object]) -> Row:
    began = time.perf_counter(), time.process_time()
    work()
    return Row(what, time.perf_counter() - began[0], time.process_time() - began[1])


def _drain(steps: Iterator[int]) -> None:
    for _ in steps:
        pass


def _store(folder: Path) -> Store:
    return Store(folder / "store", EmbeddingFingerprint("random", DIM))


def _write_lines(path: Path) -> None:
    texts, written = Texts(), 0
    with path.open("w", encoding="utf-8") as file:
        while written < FILE_BYTES:
            for at, text in enumerate(texts.take(10_000, 14)):
                written += file.write(f"{'Bob' if at % 2 else 'Ann'}: {text}\n")


def _write_json_line(path: Path) -> None:
    texts, written, turns = Texts(), 0, []
    while written < FILE_BYTES:
        for at, text in enumerate(texts.take(10_000, 14)):
            turns.append({"role": "assistant" if at % 2 else "user", "content": text})
            written += len(text) + 36
    path.write_text(json.dumps({"messages": turns}), encoding="utf-8")


def _write_one_line(path: Path) -> None:
    texts, words = Texts(), ["Ann:"]
    while sum(map(len, words)) < FILE_BYTES:
        words += texts.take(50_000, 14)
    path.write_text(" ".join(words) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if shutil.disk_usage(tempfile.gettempdir()).free < 10 << 30:
        print("The temporary folder has less than 10 GB; the full run may need them.", file=sys.stderr)
    main()
