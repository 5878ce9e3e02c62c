"""A request to forget is carried out by rule: it is recognised, it finds its memory, and its words are not found again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from memlora_mlx.memory.changes import Add, Delete, EmbeddingFingerprint
from memlora_mlx.memory.forgetting import asks_to_forget, forget_requests, with_requested_deletions
from memlora_mlx.memory.grounding import ground_facts
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.search.hits import find_hits
from memlora_mlx.memory.store.history import memory_history
from memlora_mlx.memory.store.store import Store
from memlora_mlx.models.engine import Engine
from memlora_mlx.records import Exchange, MemoryRecord, Message, Neighbour, Scope

ME, MAY = Scope("me"), datetime(2024, 5, 3, 9)


def exchange(said: str, reply: str = "I see.", key: str = "key") -> Exchange:
    return Exchange(key, ME, (Message("user", said, None, MAY), Message("assistant", reply, None, MAY)), MAY, "chat", 0)


def neighbours(*texts: str, distance: float = 1.2) -> list[Neighbour]:
    """Memories that are not near by their vectors, so that words decide."""
    records = (MemoryRecord(str(n), text, ME, MAY, MAY, None, "key", None, None, {}) for n, text in enumerate(texts))
    return [Neighbour(record, distance) for record in records]


@pytest.mark.parametrize(
    "said",
    [
        "Forget my birthday.",
        "Please forget that I smoke.",
        "Can you delete what I said about Tom?",
        "Actually, forget I told you about the loan.",
        "Nobody should know that I snore, so delete it.",
        "I don't want you to remember my salary.",
        "Remove my address from your memory, please.",
        "It should not be kept that I snore.",
        "One more thing: erase everything about my ex.",
        "Don\u2019t remember that I failed the exam.",
    ],
)
def test_a_request_is_recognised(said: str) -> None:
    assert asks_to_forget(said)


@pytest.mark.parametrize(
    "said",
    [
        "I forget things a lot.",
        "Don't forget to buy milk.",
        "How do I remove a coffee stain?",
        "I will never forget that day.",
        "Forget about it!",
        "I don't remember his name.",
        "I don't keep cats.",
        "He told me to forget her.",
        "I had to delete all my photos.",
        'My boss wrote "forget everything you know".',
        "I relax, forget my troubles, and sleep.",
    ],
)
def test_other_sentences_with_these_words_are_no_requests(said: str) -> None:
    assert not asks_to_forget(said)


def test_only_the_owner_can_ask() -> None:
    assert forget_requests(exchange("Hello!", "Please forget that you smoke.")) == []


def test_what_is_pasted_asks_for_nothing() -> None:
    assert forget_requests(exchange("Look at this mail:\n> Please forget that you smoke.\nStrange, is it not?")) == []


def test_a_request_in_two_sentences_means_the_first() -> None:
    [request] = forget_requests(exchange("I wish I had not told you about the loan from Tom. Please forget it."))
    assert "loan" in request.words


def deleted(said: str, *memories: str) -> list[str]:
    near = neighbours(*memories)
    changes = with_requested_deletions([], exchange(said), lambda *_: near)
    ids = [change.memory_id for change in changes if isinstance(change, Delete)]
    return [hit.memory.text for hit in near if hit.memory.id in ids]


def test_the_memory_that_shares_most_words_is_meant() -> None:
    memories = ("User's brother drives a van", "User drives a red van to work", "User has a tortoise")
    assert deleted("Please forget that I drive a red van.", *memories) == ["User drives a red van to work"]


def test_a_request_for_everything_means_all_of_it() -> None:
    memories = ("User owes Tom money", "Tom lives in Leeds", "User has a tortoise")
    assert deleted("Erase everything about Tom.", *memories) == list(memories[:2])


@pytest.mark.parametrize(
    "said", ["Forget everything you know.", "Please forget that I keep bees.", "Please delete it."]
)
def test_a_request_that_names_no_memory_deletes_none(said: str) -> None:
    assert deleted(said, "User's brother drives a van", "User has a tortoise") == []


def test_what_is_asked_to_be_forgotten_is_no_new_fact() -> None:
    said = exchange("Please forget that I keep bees. I moved to Rome.")
    found = ground_facts([(said, ["User keeps bees", "User moved to Rome"])])
    assert found.kept == ("User moved to Rome",)
    assert found.dropped == {"asked to be forgotten": 1}


@pytest.fixture
def pipeline(tmp_path: Path, engine: Engine) -> Iterator[Pipeline]:
    with Store(tmp_path, EmbeddingFingerprint("tiny", engine.embed(["x"]).shape[1])) as store:
        yield Pipeline(engine, store, PipelineOptions(verbatim_only=frozenset({"extraction", "update"})))


def test_a_request_deletes_the_memory_and_its_words_for_good(pipeline: Pipeline) -> None:
    """Neither the memory nor the words it came from nor those of the request are found again; the history says why."""
    text = "User keeps bees behind the chapel"
    [vector] = pipeline.engine.embed([text])
    first = exchange("I keep bees behind the chapel.", key="first")
    [kept] = pipeline.store.commit(ME, [Add(text, vector, MAY)], exchange=first) or []
    result = pipeline.remember(exchange("Please forget that I keep bees behind the chapel.", key="second"))
    assert [change.event for change in result.applied] == ["DELETE"]
    assert pipeline.store.list(ME) == []
    assert memory_history(pipeline.store, kept.memory_id)[-1].actor == "request"
    [vector] = pipeline.engine.embed(["bees behind the chapel"], query=True)
    hits = find_hits(pipeline.store, "bees behind the chapel", vector, 5, scopes=[ME])
    assert not any("bees" in hit.message.text for hit in hits if hit.message)
