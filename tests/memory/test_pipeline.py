"""One exchange from words to store, step by step, on a real engine and store.

A student of random weights decides blindly, so decisions are given where a test is about what follows from them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memlora_mlx.errors import Cancelled
from memlora_mlx.memory import stages
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint
from memlora_mlx.memory.evidence import owner_name
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.results import UpdateInput
from memlora_mlx.memory.stages import UpdateAnswer, UpdateOperation
from memlora_mlx.memory.store.history import memory_history
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.engine import Engine
from memlora_mlx.records import ChatMessages, Completion, Event, Exchange, Hit, Image, Message, Request, Scope
from memlora_mlx.settings import Settings

ANN, BOB = Scope("Ann_1"), Scope("Bob_1")
MAY, JUNE = datetime(2023, 5, 8, 13, 56), datetime(2023, 6, 1)


def exchange(text: str, *, key: str = "key", said_at: datetime | None = MAY, image: Image | None = None) -> Exchange:
    said = Message("user", text, "Ann", said_at, image, ref="D1:1")
    heard = Message("assistant", "I see, thank you for telling.", "Bob", said_at, ref="D1:2")
    return Exchange(key, ANN, (said, heard), said_at, "conv-1", 0)


@pytest.fixture
def store(tmp_path: Path, engine: Engine) -> Iterator[Store]:
    with Store(tmp_path, EmbeddingFingerprint("tiny", engine.embed(["x"]).shape[1])) as opened:
        yield opened


@pytest.fixture
def build(engine: Engine, store: Store) -> Callable[..., Pipeline]:
    return lambda **rules: Pipeline(engine, store, PipelineOptions(**rules))


@pytest.fixture
def grounded(build: Callable[..., Pipeline]) -> Pipeline:
    """Every fact that is found is added as it is, so that what is stored is known beforehand."""
    return build(verbatim_only={"extraction", "update"})


def keep(pipeline: Pipeline, *texts: str, owner: Scope = ANN, said_at: datetime = MAY) -> list[str]:
    """Memories as they stand in the store. Returns their ids."""
    adds = [Add(text, vector, said_at) for text, vector in zip(texts, pipeline.engine.embed(texts), strict=True)]
    return [done.memory_id for done in pipeline.store.commit(owner, adds) or []]


def answering(pipeline: Pipeline, answers: Mapping[str, object]) -> None:
    """From now on the student answers these stages so, whatever it is told."""
    submit = pipeline.engine.submit

    def answer(request: Request, **how: Any) -> Future[Completion]:
        asked = submit(request, **how)
        if request.stage not in answers:
            return asked
        given: Future[Completion] = Future()

        def end(done: Future[Completion]) -> None:
            if (error := done.exception()) is not None:
                given.set_exception(error)
            else:
                given.set_result(replace(done.result(), text=json.dumps(answers[str(request.stage)])))

        asked.add_done_callback(end)
        return given

    pipeline.engine.submit = answer  # type: ignore[method-assign]


def extracting(pipeline: Pipeline, *facts: str) -> None:
    answering(pipeline, {"extraction": {"facts": facts}})


def decide(pipeline: Pipeline, said: Exchange, related: UpdateInput, *decisions: UpdateOperation) -> None:
    pipeline.store.commit(
        said.owner, pipeline.decide_changes(said, [(related, UpdateAnswer(decisions))]), exchange=said
    )


# From exchange to store


def test_an_exchange_becomes_memories_that_know_where_they_came_from(grounded: Pipeline) -> None:
    extracting(grounded, "Ann: I moved to Rome.", "Ann: My cat is called Moss.")
    result = grounded.remember(exchange("I moved to Rome. My cat is called Moss."))
    assert [change.text for change in result.applied] == ["Ann: I moved to Rome.", "Ann: My cat is called Moss."]
    assert [cost.stage for cost in result.costs] == ["extraction", "update"]
    assert all(cost.prompt_tokens > 0 and cost.output_tokens > 0 and cost.truncated == 0 for cost in result.costs)
    [first, _] = grounded.store.list(order="stored")
    assert (first.said_at, first.source, first.refs, first.owner) == (MAY, "conv-1", ("D1:1", "D1:2"), ANN)
    assert grounded.store.exchange("key").messages[0].text.startswith("I moved to Rome.")


def test_facts_asked_about_apart_are_each_offered_their_own_memories(build: Callable[..., Pipeline]) -> None:
    pipeline = build(per_fact=True, copy_constrained=True, related=1)
    keep(pipeline, "Ann lives in Oslo", "Ann has a cat called Moss")
    facts = ["Ann moved from Oslo to Rome", "Ann's cat Moss is ill"]
    asked = pipeline.find_related(ANN, facts)
    parts = pipeline.split_by_fact(asked)
    assert [part.facts for part in parts] == [(fact,) for fact in facts]
    nearest = [pipeline.store.search(vector, 1, scope=ANN)[0].memory for vector in pipeline.engine.embed(facts)]
    assert [part.memories for part in parts] == [(memory,) for memory in nearest]
    extracting(pipeline, *facts)
    result = pipeline.remember(exchange("I moved to Rome, and Moss is ill."))
    assert [cost.stage for cost in result.costs] == ["extraction", "update", "update"]
    [together] = build(related=1).split_by_fact(asked)
    assert together.facts == tuple(facts) and {m.id for m in together.memories} == {m.id for m in nearest}


def test_a_memory_is_changed_once_in_an_exchange_and_no_fact_is_lost(build: Callable[..., Pipeline]) -> None:
    pipeline = build(per_fact=True)
    keep(pipeline, "Ann works for a bank")
    facts = ["Ann left the bank", "Ann works for a bakery now", "Ann bakes bread at work"]
    parts = pipeline.split_by_fact(pipeline.find_related(ANN, facts))
    decided = [
        UpdateOperation("DELETE", "", 0),
        UpdateOperation("UPDATE", facts[1], 0),
        UpdateOperation("UPDATE", facts[2], 0),
    ]
    answered = [(part, UpdateAnswer((decision,))) for part, decision in zip(parts, decided, strict=True)]
    changes = pipeline.decide_changes(exchange("x"), answered)
    pipeline.store.commit(ANN, changes, exchange=exchange("x"))
    assert {memory.text for memory in pipeline.store.list()} == set(facts[1:])


def test_without_facts_the_update_is_never_asked_and_the_exchange_is_done(grounded: Pipeline) -> None:
    """Mem0 stored its own prompt when both inputs were empty (mem0 2736)."""
    result = grounded.remember(exchange("Hm? Really?"))
    assert [cost.stage for cost in result.costs] == ["extraction"]
    assert grounded.store.count() == 0 and grounded.store.stored_exchanges(["key"]) == {"key"}


def test_an_exchange_is_remembered_once(grounded: Pipeline) -> None:
    extracting(grounded, "Ann: I moved to Rome.")
    assert not grounded.remember(exchange("I moved to Rome.")).was_already_stored
    again = grounded.remember(exchange("I moved to Rome."))
    assert again.was_already_stored and again.applied == ()
    assert grounded.store.count() == 1


def test_what_the_assistant_says_is_no_fact_about_the_user(grounded: Pipeline) -> None:
    """Mem0 stores assistant text as the user's (mem0 5642)."""
    reply = Message("assistant", "I adore Naples, where I was born.", "Bob", MAY)
    for place in ("Rome", "Oslo", "Bern"):
        said = exchange(f"I moved to {place}.", key=place)
        result = grounded.remember(replace(said, messages=(said.messages[0], reply)))
        assert set(result.facts) <= {f"Ann: I moved to {place}."}


def test_a_random_student_still_gives_valid_operations_and_hurts_no_other_owner(build: Callable[..., Pipeline]) -> None:
    pipeline = build()
    [bobs] = keep(pipeline, "Bob likes tea", owner=BOB)
    for number in range(4):
        result = pipeline.remember(exchange(f"I saw {number} green apples.", key=str(number)))
        assert result.rejected == 0
        assert all(len(fact) <= stages.MAX_TEXT for fact in result.facts)
    assert [line.event for line in memory_history(pipeline.store, bobs)] == ["ADD"]
    assert check_store(pipeline.store) == []


# Related memories


def test_related_memories_are_merged_in_the_order_of_the_facts_without_doubles(build: Callable[..., Pipeline]) -> None:
    pipeline = build(related=2)
    keep(pipeline, *(f"Ann bought {thing}" for thing in ("a bicycle", "tea", "apples", "a cat", "the market")))
    keep(pipeline, "Bob bought tea", owner=BOB)
    facts = ["Ann sold the bicycle", "Ann drinks tea", "Ann bought some tea"]
    related = pipeline.find_related(ANN, facts)

    expected: list[str] = []
    for vector in pipeline.engine.embed(facts):
        expected += [hit.memory.text for hit in pipeline.store.search(vector, 2, scope=ANN)]
    assert [memory.text for memory in related.memories] == list(dict.fromkeys(expected))
    assert len(expected) > len(related.memories), "facts that share no memory prove nothing"
    assert all(memory.owner == ANN for memory in related.memories)
    assert related.facts == tuple(facts) and related.vectors.shape[0] == 3


def test_a_fact_known_word_for_word_is_dropped_only_beyond_the_paper(build: Callable[..., Pipeline]) -> None:
    """The same words said again pile up in Mem0 (mem0 5850), or delete what was there (mem0 1674)."""
    keep(build(), "Ann likes tea")
    facts = ["ann  likes tea.", "Ann moved to Rome"]

    product = build(protocol="product").find_related(ANN, facts)
    assert (product.facts, product.duplicates, len(product.vectors)) == (("Ann moved to Rome",), 1, 1)

    paper = build(protocol="paper").find_related(ANN, facts)
    assert (paper.facts, paper.duplicates) == (tuple(facts), 0)


def test_saying_it_again_changes_nothing(grounded: Pipeline) -> None:
    extracting(grounded, "Ann: I moved to Rome.", "Ann: My cat is called Moss.")
    for key in ("first", "second", "third"):
        result = grounded.remember(exchange("I moved to Rome. My cat is called Moss.", key=key))
    assert (result.duplicates, result.applied) == (2, ())
    assert grounded.store.count() == 2


def test_another_owners_words_are_no_duplicate(grounded: Pipeline) -> None:
    keep(grounded, "Ann: I moved to Rome.", owner=BOB)
    extracting(grounded, "Ann: I moved to Rome.")
    assert grounded.remember(exchange("I moved to Rome.")).duplicates == 0


# Decisions


def test_an_update_keeps_when_it_was_first_said_and_where_it_came_from(grounded: Pipeline) -> None:
    """Mem0's updates move a memory to the session of the last one; here the day it was said stays."""
    extracting(grounded, "Ann: I live in Rome.")
    grounded.remember(exchange("I live in Rome.", key="may", said_at=MAY))
    [before] = grounded.store.list()
    june = exchange("I moved from Rome to Oslo.", key="june", said_at=JUNE)
    related = grounded.find_related(ANN, ["Ann moved from Rome to Oslo"])
    decide(grounded, june, related, UpdateOperation("UPDATE", "Ann lives in Oslo, no longer in Rome", 0))

    [after] = grounded.store.list()
    assert after.text == "Ann lives in Oslo, no longer in Rome"
    assert (after.id, after.said_at, after.revised_at) == (before.id, MAY, JUNE)
    assert (after.exchange_key, after.stored_at) == ("may", before.stored_at)
    events = [(line.event, line.exchange_key) for line in memory_history(grounded.store, after.id)]
    assert events == [("ADD", "may"), ("UPDATE", "june")]
    [vector] = grounded.engine.embed([after.text])
    assert grounded.store.search(vector, 1)[0].distance < 1e-3, "found by its new words"


def test_a_contradiction_keeps_the_new_fact_and_loses_only_the_old(grounded: Pipeline) -> None:
    """A DELETE took the new fact with it in Mem0 (mem0 4536)."""
    [old] = keep(grounded, "Ann drinks coffee")
    said = exchange("I drink tea now, no coffee.")
    related = grounded.find_related(ANN, ["Ann drinks tea now"])
    decide(
        grounded,
        said,
        related,
        UpdateOperation("DELETE", "Ann drinks coffee", 0),
        UpdateOperation("ADD", "Ann drinks tea now"),
    )
    assert [memory.text for memory in grounded.store.list()] == ["Ann drinks tea now"]
    assert [line.event for line in memory_history(grounded.store, old)] == ["ADD", "DELETE"]


def test_a_facts_own_vector_is_used_again(grounded: Pipeline) -> None:
    related = grounded.find_related(ANN, ["Ann moved to Rome"])
    decisions = UpdateAnswer((UpdateOperation("ADD", "Ann moved to Rome"), UpdateOperation("ADD", "other words")))
    [same, other] = grounded.decide_changes(exchange("x"), [(related, decisions)])
    assert isinstance(same, Add) and same.vector is not None
    assert np.array_equal(same.vector, related.vectors[0])
    assert isinstance(other, Add) and not np.array_equal(other.vector, related.vectors[0])


def test_a_decision_about_what_was_not_offered_is_counted_and_the_rest_is_kept(build: Callable[..., Pipeline]) -> None:
    """Mem0 drops operations, or all of them, on an id that the student made up (mem0 3931, 3945)."""
    pipeline = build()
    [tea] = keep(pipeline, "Ann likes tea")
    entries = [
        {"id": "12", "text": "ghost", "event": "UPDATE"},
        {"id": "7", "text": "ghost", "event": "DELETE"},
        {"id": "1", "text": "Ann moved to Rome", "event": "ADD"},
    ]
    answering(pipeline, {"extraction": {"facts": ["Ann moved to Rome"]}, "update": {"memory": entries}})
    result = pipeline.remember(exchange("I moved to Rome."))
    assert result.rejected == 2
    assert [memory.text for memory in pipeline.store.list(order="stored")] == ["Ann likes tea", "Ann moved to Rome"]
    assert [line.event for line in memory_history(pipeline.store, tea)] == ["ADD"]


@pytest.mark.parametrize("event", ["UPDATE", "DELETE"])
@pytest.mark.parametrize("does", ["deletes", "edits"])
def test_what_somebody_does_to_a_memory_meanwhile_is_not_overwritten(
    build: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch, does: str, event: Event
) -> None:
    """Between the student's decision and the commit the user, or another process, deletes or edits the memory."""
    pipeline = build()
    [tea] = keep(pipeline, "Ann likes tea")
    decided, commit = iter((True, False)), pipeline.store.commit

    def decide(_: str, old: Sequence[str]) -> UpdateAnswer:
        return UpdateAnswer(
            (
                UpdateOperation(event, "Ann likes coffee", 0)
                if next(decided)
                else UpdateOperation("ADD", "Ann likes coffee"),
            )
        )

    def meddle(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(pipeline.store, "commit", commit)
        if does == "deletes":
            pipeline.store.delete(tea)
        else:
            pipeline.store.revise(tea, "Ann cannot stand tea", pipeline.engine.embed(["Ann cannot stand tea"])[0])
        return commit(*arguments, **named)

    extracting(pipeline, "Ann likes coffee")
    monkeypatch.setattr(stages, "parse_update", decide)
    monkeypatch.setattr(pipeline.store, "commit", meddle)
    pipeline.remember(exchange("I like coffee."))
    assert {memory.text for memory in pipeline.store.list(ANN)} == {"Ann likes coffee"} | (
        {"Ann cannot stand tea"} if does == "edits" else set()
    )


# Images


def test_an_image_is_told_in_words_and_kept_as_where_a_memory_comes_from(build: Callable[..., Pipeline]) -> None:
    kitten = Image("http://photos/1.jpg", "a grey kitten")
    said = exchange("Look at her!", image=kitten)
    [(_, product)] = build(protocol="product").extraction_request(said)[0].chat
    [(_, paper)] = build(protocol="paper").extraction_request(said)[0].chat
    assert "a grey kitten" in product
    assert "kitten" not in paper and "Look at her!" in paper  # a text student in the paper is not told

    for protocol in ("product", "paper"):
        pipeline = build(protocol=protocol, verbatim_only={"extraction", "update"})
        extracting(pipeline, "Ann has a grey kitten")
        pipeline.remember(replace(said, key=protocol))
    memories = build().store.list()
    assert [memory.image for memory in memories] == [kitten, kitten]


# What does not fit


def count(pipeline: Pipeline, chat: ChatMessages) -> int:
    return pipeline.engine.count_tokens(chat)


@pytest.mark.parametrize("more", ["apples " * 3000 + "!", "苹果" * 3000 + "！"])
def test_a_long_exchange_is_cut_at_its_end_and_counted(build: Callable[..., Pipeline], more: str) -> None:
    """Ollama cuts the conversation away silently, and then nothing is remembered (OpenViking 2992)."""
    pipeline = build(max_context=600)
    said = exchange("Rome first. " + more)
    request, cut = pipeline.extraction_request(said)
    [(_, prompt)] = request.chat
    assert prompt.startswith("Extract and organize relevant details. Response Format")
    assert "user: Ann: Rome first. " + more[:40] in prompt
    assert 0 < cut < len(more)
    assert count(pipeline, request.chat) <= 600 - stages.EXTRACTION_TOKENS
    assert build(max_context=600, protocol="paper").remember(said).costs[0].truncated == cut


def test_memories_that_do_not_fit_are_not_offered_and_counted(build: Callable[..., Pipeline]) -> None:
    pipeline = build(related=40, max_context=1100)
    keep(pipeline, *(f"Ann bought {number} apples on the market" for number in range(40)))
    related = pipeline.find_related(ANN, ["Ann bought tea"])
    request, cut, offered = pipeline.update_request(related)
    assert cut > 0 and len(offered.memories) + cut == 40 == len(related.memories)
    [(_, prompt)] = request.chat
    assert prompt.count('"id": "') == len(offered.memories)
    assert prompt.endswith('only if UPDATE event>"}]}') and '"Ann bought tea"' in prompt
    assert count(pipeline, request.chat) <= 1100 - stages.UPDATE_TOKENS


def test_an_answer_is_given_the_nearest_memories_that_fit(build: Callable[..., Pipeline]) -> None:
    pipeline = build(max_context=600)
    keep(pipeline, *(f"Ann bought {number} apples on the market" for number in range(60)))
    near = pipeline.store.search(pipeline.engine.embed(["apples"])[0], 60)
    hits = [Hit(neighbour.memory, None, neighbour.score) for neighbour in near]
    answer = pipeline.answer("How many apples?", hits)
    assert answer.cost.truncated > 0
    assert answer.hits == tuple(hits[: 60 - answer.cost.truncated])
    assert answer.cost.prompt_tokens <= 600 - stages.ANSWER_TOKENS


# Stopping


@pytest.mark.parametrize("step", [1, 2])
def test_stopped_midway_nothing_is_stored_and_the_exchange_is_open(build: Callable[..., Pipeline], step: int) -> None:
    pipeline = build()
    cancelled = threading.Event()
    asked: list[str | None] = []

    def stop_at(request: Request, **how: Any) -> Future[Completion]:
        asked.append(request.stage)
        if len(asked) == step:
            cancelled.set()
        return submit(request, **how)

    extracting(pipeline, "Ann moved to Rome")
    submit = pipeline.engine.submit
    pipeline.engine.submit = stop_at  # type: ignore[method-assign]
    said = exchange("I moved to Rome.")
    with pytest.raises(Cancelled):
        pipeline.remember(said, cancelled=cancelled)
    assert asked == ["extraction", "update"][:step]
    assert pipeline.store.count() == 0 and pipeline.store.stored_exchanges([said.key]) == set()

    pipeline.engine.submit = submit  # type: ignore[method-assign]
    assert not pipeline.remember(said, cancelled=threading.Event()).was_already_stored
    assert pipeline.store.stored_exchanges([said.key]) == {said.key}


# Who is kept on a short leash


@pytest.mark.starter
def test_only_the_untrained_starter_is_grounded(
    tmp_path: Path, starter_models: Path, tiny_student: Path, tiny_experts: Path
) -> None:
    def stages_of(**settings: object) -> list[str]:
        chosen = Settings(home=tmp_path, embedder="all-minilm-l6-v2", **settings)  # type: ignore[arg-type]
        with Workspace(chosen, models_folder=starter_models) as workspace:
            return list(workspace.verbatim_stages)

    assert stages_of(student="smollm2-135m", experts="none") == ["extraction", "update"]
    assert stages_of(student="smollm2-135m") == []  # it comes with experts
    assert stages_of(student="smollm2-135m", protocol="paper") == []
    assert stages_of(student="smollm2-135m", experts=str(tiny_experts)) == []
    assert stages_of(student=str(tiny_student)) == []


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Scope("Caroline_26"), "Caroline"),
        (Scope("me"), "me"),
        (Scope("agent_smith"), "agent_smith"),
        (Scope(None, "helper"), "helper"),
        (Scope("_7"), "_7"),
        (Scope(), None),
    ],
)
def test_owners_are_named_as_people_say_it(owner: Scope, name: str | None) -> None:
    assert owner_name(owner) == name
