"""Long exchanges are read in parts to their end, and stored as one exchange."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from memlora_mlx.conversations import conversation_exchanges, read_conversations
from memlora_mlx.memory import stages
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.engine import Engine
from memlora_mlx.records import Completion, Exchange, Image, Message, Request, Scope
from memlora_mlx.settings import Settings

MAY = datetime(2023, 5, 8, 13, 56)
RAIN = "It rained and nothing else happened that day. "
CASE = Path(__file__).parents[2] / "../shared/cases/imports/long_message.json"


def exchange(text: str, reply: str = "I see.", *, other: str | None = "Bob", image: Image | None = None) -> Exchange:
    messages = (Message("user", text, "Ann", MAY, image, ref="1"), Message("assistant", reply, other, MAY, ref="2"))
    return Exchange("key", Scope("Ann_1"), messages, MAY, "conv-1", 0)


@pytest.fixture
def pipeline(tmp_path: Path, engine: Engine) -> Iterator[Pipeline]:
    with Store(tmp_path, EmbeddingFingerprint("tiny", engine.embed(["x"]).shape[1])) as store:
        yield Pipeline(engine, store, PipelineOptions())


def prompts(pipeline: Pipeline, said: Exchange) -> list[str]:
    return [part.request.chat[0][1].partition("Input:\n")[2] for part in pipeline.extraction_requests(said)]


@pytest.mark.parametrize(
    "text",
    [
        RAIN * 200 + "I am allergic to penicillin.",
        "\n".join(f"- item {number}" for number in range(900)),
        "no end of words " * 700,
        "x" * 9000,
        "那天下雨了，什么都没发生。" * 800,
    ],
    ids=["sentences", "lines", "no ends", "one word", "no blanks"],
)
def test_nothing_of_a_long_message_is_left_out(text: str) -> None:
    parts = stages.split_exchange(exchange(text), 1600)
    assert len(parts) > 3
    messages = [message for part in parts for message in part.messages]
    assert [message.speaker for message in messages] == ["Ann"] * (len(messages) - 1) + ["Bob"]
    assert "".join("".join(message.text.split()) for message in messages[:-1]) == "".join(text.split())
    assert messages[-1].text == "I see."
    assert all(sum(len(message.text) for message in part.messages) <= 1600 for part in parts)


def test_parts_end_where_a_sentence_does() -> None:
    parts = stages.split_exchange(exchange(RAIN * 100 + "I am allergic to penicillin."), 1000)
    assert all(part.messages[0].text.endswith(("happened that day.", "penicillin.")) for part in parts)


def test_a_sentence_that_a_long_message_repeats_is_read_once(pipeline: Pipeline) -> None:
    [prompt] = prompts(pipeline, exchange("My cat is called Moss. " + RAIN * 100 + "I am allergic to penicillin."))
    assert prompt.count(RAIN.strip()) == 1
    assert "My cat is called Moss." in prompt and "I am allergic to penicillin." in prompt


def test_the_image_comes_with_the_first_part_alone() -> None:
    kitten = Image("1.jpg", "a kitten")
    parts = stages.split_exchange(exchange(RAIN * 100, image=kitten), 1000)
    assert [part.messages[0].image for part in parts] == [kitten] + [None] * (len(parts) - 1)


def test_what_an_assistant_alone_says_at_length_is_not_read() -> None:
    reply = "Here is a recipe. " * 400
    assert len(stages.split_exchange(exchange("Thanks, I love soup.", reply, other=None), 1000)) == 1
    assert len(stages.split_exchange(exchange("Thanks, I love soup.", reply, other="Bob"), 1000)) > 5


def test_a_short_exchange_is_read_at_once_and_as_it_is(pipeline: Pipeline) -> None:
    said = exchange("  I moved to Rome.\n")
    [part] = pipeline.extraction_requests(said)
    assert (part.request, part.truncated) == pipeline.extraction_request(said) and part.exchange is said


@pytest.mark.parametrize("text", [RAIN * 200, "那天下雨了，什么都没发生。" * 300])
def test_every_part_fits_the_students_context(pipeline: Pipeline, text: str) -> None:
    pipeline.options = replace(pipeline.options, max_context=800)
    parts = pipeline.extraction_requests(exchange(text + "I am allergic to penicillin."))
    for part in parts:
        assert part.truncated == 0
        assert pipeline.engine.count_tokens(part.request.chat) <= 800 - stages.EXTRACTION_TOKENS
    assert any("penicillin" in part.request.chat[0][1] for part in parts)


def test_the_papers_protocol_cuts_as_before(pipeline: Pipeline) -> None:
    pipeline.options = replace(pipeline.options, max_context=800, protocol="paper")
    [part] = pipeline.extraction_requests(exchange(RAIN * 200))
    assert part.truncated > 0


def test_the_facts_of_all_parts_are_stored_as_one_exchange(pipeline: Pipeline) -> None:
    """The facts of a part are checked against that part, and the exchange is committed once."""
    days = "".join(f"On day {day} it rained and nothing else happened. " for day in range(100))
    text = f"My cat is called Moss. {days}I am allergic to penicillin."
    submit, number = pipeline.engine.submit, iter(range(100))

    def answer(request: Request, **options: Any) -> Future[Completion]:
        asked = submit(request, **options).result()
        facts: list[str] = []
        if request.stage == "extraction":
            facts = ["Ann's cat is called Moss", "Ann is allergic to penicillin", f"Ann invented thing {next(number)}"]
        entries = (
            [
                {"id": str(at), "text": fact, "event": "ADD"}
                for at, fact in enumerate(stages.parse_update_chat(request.chat)[1])  # type: ignore[index]
            ]
            if request.stage == "update"
            else []
        )
        given: Future[Completion] = Future()
        given.set_result(replace(asked, text=json.dumps({"facts": facts} if facts else {"memory": entries})))
        return given

    pipeline.engine.submit = answer  # type: ignore[method-assign]
    said = exchange(text)
    parts = len(pipeline.extraction_requests(said))
    result = pipeline.remember(said)
    assert parts > 2
    assert result.facts == ("Ann's cat is called Moss", "Ann is allergic to penicillin")
    assert result.dropped == {"not said": 3 * parts - 2}
    assert [cost.stage for cost in result.costs] == ["extraction"] * parts + ["update"]
    assert {memory.text for memory in pipeline.store.list()} == set(result.facts)
    assert pipeline.remember(said).was_already_stored


def test_many_facts_are_decided_on_in_groups(pipeline: Pipeline) -> None:
    facts = [f"Ann bought {number} apples" for number in range(2 * stages.MAX_FACTS + 1)]
    groups = pipeline.split_by_fact(pipeline.find_related(Scope("Ann_1"), facts))
    assert [len(group.facts) for group in groups] == [stages.MAX_FACTS, stages.MAX_FACTS, 1]
    assert [fact for group in groups for fact in group.facts] == facts
    assert all(group.vectors.shape[0] == len(group.facts) for group in groups)


@pytest.mark.starter
def test_the_allergy_at_the_end_of_a_long_diary_is_remembered(starter_models: Path, tmp_path: Path) -> None:
    if not CASE.is_file():
        pytest.skip("the cases are not beside the project")
    [said] = conversation_exchanges(read_conversations(CASE)[0], user="me")
    with Workspace(Settings(home=tmp_path), models_folder=starter_models) as workspace:
        result = workspace.pipeline.remember(said)
        assert all(cost.truncated == 0 for cost in result.costs)
        texts = [memory.text for memory in workspace.store.list()]
        assert any("allerg" in text and "penicillin" in text for text in texts), texts
