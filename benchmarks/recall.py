"""How much of the evidence a search finds: LoCoMo's questions over a store with its turns and with its observations as memories.

    python -m benchmarks.recall FILE [CONVERSATION ...]

No student is asked: the observations that LoCoMo's authors wrote down stand for the memories an expert would extract. For
every question the turns that its answer needs are known; recall is the share of them among the first hits, in percent.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.conversations import conversation_exchanges, read_conversations
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint
from memlora_mlx.memory.search.hits import find_hits
from memlora_mlx.memory.store.messages import exchange_texts
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, Hit, Scope

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
CUTS = (5, 10, 20)
_TURN = re.compile(r"D\d+:\d+")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its category, and the turns that its answer needs."""

    text: str
    category: int
    evidence: frozenset[str]


def questions(sample: dict[str, Any]) -> list[Asked]:
    """The questions of a LoCoMo sample that have an answer, with evidence that is there."""
    turns = {turn["dia_id"] for turns in sample["conversation"].values() if isinstance(turns, list) for turn in turns}
    found = []
    for each in sample["qa"]:
        evidence = frozenset(ref for text in each.get("evidence", ()) for ref in _TURN.findall(str(text))) & turns
        if each["category"] != 5 and evidence:
            found.append(Asked(each["question"], each["category"], evidence))
    return found


def observations(sample: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Speaker, text and first turn of each observation."""
    for session in sample["observation"].values():
        for speaker, notes in session.items():
            for text, refs in notes:
                if found := _TURN.findall(str(refs)):
                    yield speaker, " ".join(text.split()).rstrip("."), found[0]


def fill(store: Store, sample: dict[str, Any], exchanges: Sequence[Exchange], embed: Embed) -> None:
    """Store the exchanges, with the observations of each as its owner's memories."""
    notes = list(observations(sample))
    for exchange in exchanges:
        refs = {message.ref for message in exchange.messages}
        mine = {message.speaker for message in exchange.messages if message.role == "user"}
        facts = [text for speaker, text, ref in notes if ref in refs and speaker in mine]
        vectors = embed([*exchange_texts(exchange), *facts])
        said = len(exchange.messages)
        changes = [Add(text, vector, exchange.said_at) for text, vector in zip(facts, vectors[said:], strict=True)]
        store.commit(exchange.owner, changes, exchange=exchange, message_vectors=list(vectors[:said]))


def measure(store: Store, asked: Sequence[Asked], owners: Sequence[Scope], embed: Embed) -> list[list[Hit]]:
    """The hits of each question."""
    vectors = embed([each.text for each in asked])
    return [
        find_hits(store, each.text, vector, max(CUTS), scopes=owners, owner_exact=True)
        for each, vector in zip(asked, vectors, strict=True)
    ]


def recalls(asked: Sequence[Asked], hits: Sequence[Sequence[Hit]], cut: int) -> NDArray[np.float64]:
    """The share of its evidence among the first hits of each question."""
    found = [{hit.message.ref for hit in each[:cut] if hit.message is not None} for each in hits]
    return np.array([len(each.evidence & refs) / len(each.evidence) for each, refs in zip(asked, found, strict=True)])


def run(path: Path, names: Sequence[str], embed: Embed, space: EmbeddingFingerprint) -> None:
    samples = {sample["sample_id"]: sample for sample in json.loads(path.read_text(encoding="utf-8"))}
    conversations = {each.name: each for each in read_conversations(path)}
    for name in names or list(samples):
        exchanges = conversation_exchanges(conversations[name], user="me")
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder), space) as store:
            started = time.perf_counter()
            fill(store, samples[name], exchanges, embed)
            filled = time.perf_counter()
            asked = questions(samples[name])
            owners = list(dict.fromkeys(exchange.owner for exchange in exchanges))
            hits = measure(store, asked, owners, embed)
            done = time.perf_counter()
        overall = [100 * recalls(asked, hits, cut).mean() for cut in CUTS]
        by_category = [
            f"{category}: "
            + " ".join(
                f"{100 * value[np.array([each.category == category for each in asked])].mean():.1f}"
                for value in (recalls(asked, hits, cut) for cut in CUTS)
            )
            for category in sorted({each.category for each in asked})
        ]
        first = 100 * np.mean(
            [
                bool(row) and row[0].message is not None and row[0].message.ref in each.evidence
                for each, row in zip(asked, hits, strict=True)
            ]
        )
        print(
            f"{name}  {len(asked)} questions  @5/@10/@20 {' '.join(f'{value:.1f}' for value in overall)}  first"
            f" {first:.1f}  by category {', '.join(by_category)}  filled in {filled - started:.1f} s,"
            f" asked in {1000 * (done - filled) / len(asked):.1f} ms each",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="LoCoMo's file")
    parser.add_argument("conversations", nargs="*", help="names of its conversations; all by default")
    options = parser.parse_args()
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.settings import load_settings

    with Workspace(load_settings()) as workspace:
        known: dict[str, NDArray[np.float32]] = {}  # a turn is read once for each of its owners

        def embed(texts: Sequence[str]) -> NDArray[np.float32]:
            if missing := [text for text in dict.fromkeys(texts) if text not in known]:
                known.update(zip(missing, workspace.engine.embed(missing), strict=True))
            return np.stack([known[text] for text in texts])

        run(options.file, options.conversations, embed, workspace.embedding_fingerprint)


if __name__ == "__main__":
    main()
