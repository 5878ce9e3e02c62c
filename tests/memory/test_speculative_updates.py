"""Working ahead of the store changes nothing in it: the same memories, ids, times and history as one after the other."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memlora_mlx.conversations import conversation_exchanges, read_conversations
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.store.history import memory_history
from memlora_mlx.memory.store.store import Store
from memlora_mlx.models.adapter_registry import expert_folders
from memlora_mlx.models.embedding_fingerprint import read_embedding_fingerprint
from memlora_mlx.models.engine import Engine
from memlora_mlx.records import Completion, Exchange, Message, Priority, Request, Scope

MONDAY = datetime(2024, 3, 4, 9, 0)
NOUNS = ("tea", "Rome", "Oslo", "a cat", "apples", "the market", "a red bicycle", "the doctor", "Bob", "green apples")
VERBS = ("likes", "bought", "sold", "moved to", "went to", "no longer likes", "said no to")


def said(seed: int, count: int, owners: int) -> list[Exchange]:
    """Exchanges of several owners in a random order, about few enough things that they concern each other."""
    dice = random.Random(seed)
    made = []
    for i in range(count):
        owner = f"ann{dice.randrange(owners)}"
        words = f"{owner} {dice.choice(VERBS)} {dice.choice(NOUNS)}. I {dice.choice(VERBS)} {dice.choice(NOUNS)} today."
        messages = (Message("user", words, owner), Message("assistant", "Really?", "Bob"))
        made.append(Exchange(f"key-{i}", Scope(owner), messages, MONDAY + timedelta(hours=i), "chat", i))
    return made


def remembered(
    engine: Engine,
    space: EmbeddingFingerprint,
    folder: Path,
    read: list[Exchange],
    rules: PipelineOptions,
    **options: int,
) -> list[object]:
    """All that the store holds afterwards, wall clocks aside."""
    with Store(folder, space, clock=lambda: datetime(2024, 5, 1, tzinfo=UTC)) as store:
        pipeline = Pipeline(engine, store, rules)
        done = list(pipeline.remember_all(read, priority=Priority.BACKGROUND, **options))
        assert [result.exchange for result in done] == read
        memories = store.list(order="stored")
        history = [
            memory_history(store, row.memory_id) for result in done for row in result.applied if not row.rejected
        ]
        return [memories, history, [(result.facts, result.duplicates, result.rejected) for result in done]]


@pytest.fixture
def ahead_engine(tiny_student: Path, tiny_embedder: Path, tiny_experts: Path) -> Iterator[Engine]:
    with Engine(tiny_student, tiny_embedder, experts=tiny_experts) as running:
        yield running


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "rules",
    [
        PipelineOptions(protocol="paper"),
        PipelineOptions(verbatim_only=frozenset({"extraction"})),
        PipelineOptions(verbatim_only=frozenset({"extraction", "update"})),
        PipelineOptions(verbatim_only=frozenset({"extraction"}), copy_constrained=True, per_fact=True),
    ],
    ids=["free", "grounded facts", "grounded", "one fact an update"],
)
def test_random_interleavings_give_the_store_of_one_after_the_other(
    ahead_engine: Engine, tiny_embedder: Path, tmp_path: Path, seed: int, rules: PipelineOptions
) -> None:
    space = EmbeddingFingerprint(*read_embedding_fingerprint(tiny_embedder))
    read = said(seed, 9, owners=1 + seed % 3)
    expected = remembered(ahead_engine, space, tmp_path / "one", read, rules, max_in_flight=1)
    assert expected[0], "an empty store proves nothing"
    for ahead, guesses in ((8, 2), (5, 4)):
        folder = tmp_path / f"{ahead}-{guesses}"
        assert (
            remembered(ahead_engine, space, folder, read, rules, max_in_flight=ahead, speculative_updates=guesses)
            == expected
        )


def test_a_caller_who_leaves_early_keeps_what_was_yielded(
    ahead_engine: Engine, tiny_embedder: Path, tmp_path: Path
) -> None:
    read = said(7, 10, owners=2)
    with Store(tmp_path, EmbeddingFingerprint(*read_embedding_fingerprint(tiny_embedder))) as store:
        pipeline = Pipeline(ahead_engine, store, PipelineOptions())
        for number, _ in enumerate(pipeline.remember_all(read), start=1):
            if number == 3:
                break
        assert store.stored_exchanges(exchange.key for exchange in read) == {"key-0", "key-1", "key-2"}
        rest = [exchange for exchange in read if exchange.key not in store.stored_exchanges(e.key for e in read)]
        assert len(list(pipeline.remember_all(rest))) == 7


def test_a_guess_that_a_commit_has_overtaken_is_stopped(
    ahead_engine: Engine, tiny_embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops: list[threading.Event] = []
    submit = ahead_engine.submit

    def noting(request: Request, **options: Any) -> Future[Completion]:
        if request.stage == "update":
            stops.append(options["cancelled"])
        return submit(request, **options)

    monkeypatch.setattr(ahead_engine, "submit", noting)
    for seed in range(20):  # until one is wrong: which are, depends on how fast the student reads
        stops.clear()
        rules = PipelineOptions(verbatim_only=frozenset({"extraction"}))
        with Store(tmp_path / str(seed), EmbeddingFingerprint(*read_embedding_fingerprint(tiny_embedder))) as store:
            done = list(
                Pipeline(ahead_engine, store, rules).remember_all(said(seed, 12, owners=1), speculative_updates=4)
            )
        used = sum(cost.stage == "update" for result in done for cost in result.costs)
        assert sum(stop.is_set() for stop in stops) == len(stops) - used, "those that count, and only those, go on"
        if len(stops) > used:
            return
    pytest.fail("no guess was wrong, so this proves nothing")


@pytest.mark.starter
@pytest.mark.parametrize(
    ("shipped", "rules"),
    [
        # Grounded facts and free updates: the facts are real sentences, and the student decides what they change.
        (False, PipelineOptions(verbatim_only=frozenset({"extraction"}))),
        (True, PipelineOptions(copy_constrained=True, per_fact=True)),
    ],
    ids=["base", "shipped experts"],
)
def test_locomo_text_on_the_starter_gives_the_same_store(
    starter_models: Path, tmp_path: Path, shipped: bool, rules: PipelineOptions
) -> None:
    locomo = Path(__file__).parents[2] / "../shared/data/locomo-dev.json"
    if not locomo.is_file():
        pytest.skip("LoCoMo is not beside the project")
    conversation = next(c for c in read_conversations(locomo) if c.name == "conv-26")
    read = conversation_exchanges(conversation, user="me")[:6]
    space = EmbeddingFingerprint(*read_embedding_fingerprint(starter_models / "all-minilm-l6-v2"))
    experts = expert_folders("smollm2-135m", tmp_path) if shipped else None
    with Engine(starter_models / "smollm2-135m", starter_models / "all-minilm-l6-v2", experts=experts) as engine:
        expected = remembered(engine, space, tmp_path / "one", read, rules, max_in_flight=1)
        assert remembered(engine, space, tmp_path / "many", read, rules) == expected
