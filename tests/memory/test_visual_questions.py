"""Memories made from pictures, and questions answered by looking again: real store, real tiny student that sees."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from cli_home import varied_student_folder
from numpy.typing import NDArray
from PIL import Image as Pixels

from memlora_mlx import Memory
from memlora_mlx.errors import UsageError, VisionMissing
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint
from memlora_mlx.memory.chat import Chat
from memlora_mlx.memory.operations import image_of_exchange
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.stages import UpdateAnswer, UpdateOperation, parse_visual_answer, visual_answer_grammar
from memlora_mlx.memory.store.store import Store
from memlora_mlx.models.embedding_fingerprint import read_embedding_fingerprint
from memlora_mlx.models.engine import Engine
from memlora_mlx.records import Exchange, Hit, Image, Message, Priority, Scope

ANN = Scope("Ann")
MAY = datetime(2023, 5, 8, 13, 56)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory, tiny_embedder: Path) -> Iterator[Engine]:
    student = varied_student_folder(tmp_path_factory.mktemp("models") / "lively-internvl", has_vision=True)
    with Engine(student, tiny_embedder) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path, tiny_embedder: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", EmbeddingFingerprint(*read_embedding_fingerprint(tiny_embedder))) as opened:
        yield opened


@pytest.fixture
def pipeline(seeing: Engine, store: Store) -> Pipeline:
    return Pipeline(seeing, store, PipelineOptions(supports_images=True))


def png(colour: str, size: tuple[int, int] = (40, 20)) -> bytes:
    out = BytesIO()
    Pixels.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def stored_image(store: Store, colour: str, caption: str | None = None) -> Image:
    return Image(f"{colour}.png", caption, store.images.add(png(colour), colour))


def exchange(mine: Image | None, theirs: Image | None = None, *, key: str = "key") -> Exchange:
    said = (Message("user", "Look at my car!", "Ann", MAY, mine), Message("assistant", "Lovely.", "Bob", MAY, theirs))
    return Exchange(key, ANN, said, MAY, "conv-1", 0)


def keep(pipeline: Pipeline, *texts: str, image: Image | None = None) -> None:
    vectors = pipeline.engine.embed(texts)
    pipeline.store.commit(ANN, [Add(text, vector, MAY, image) for text, vector in zip(texts, vectors, strict=True)])


# ------------------------------------------------------------------------------------------------ memories


def test_a_student_that_sees_is_shown_the_picture_and_its_facts_carry_it(pipeline: Pipeline, store: Store) -> None:
    image = stored_image(store, "red", "a red car")
    told = exchange(image)
    request, _ = pipeline.extraction_request(told)
    assert request.image == store.images.path(image.sha256)
    assert pipeline.engine.count_tokens(request.chat, request.image) > pipeline.engine.count_tokens(request.chat)
    related = pipeline.find_related(ANN, ["Ann has a red car"])
    [change] = pipeline.decide_changes(told, [(related, UpdateAnswer((UpdateOperation("ADD", "Ann has a red car"),)))])
    assert isinstance(change, Add) and change.image == image
    store.commit(ANN, [change], exchange=told)
    assert store.list(ANN)[0].image == image


def test_what_a_picture_shows_changes_what_is_extracted(pipeline: Pipeline, store: Store) -> None:
    said = set()
    for colour in ("red", "blue", "white", "black"):
        request, _ = pipeline.extraction_request(exchange(stored_image(store, colour)))
        said.add(pipeline.engine.complete(request).text)
    assert len(said) > 1


def test_a_text_student_reads_the_caption_as_before(engine: Engine, store: Store) -> None:
    request, _ = Pipeline(engine, store, PipelineOptions()).extraction_request(
        exchange(stored_image(store, "red", "a red car"))
    )
    assert request.image is None and "[shares an image: a red car]" in request.chat[0][1]


def test_as_the_paper_has_it_the_picture_stands_instead_of_the_caption(seeing: Engine, store: Store) -> None:
    pipeline = Pipeline(seeing, store, PipelineOptions(supports_images=True, protocol="paper"))
    request, _ = pipeline.extraction_request(exchange(stored_image(store, "red", "a red car")))
    assert request.image is not None and "a red car" not in request.chat[0][1]
    keep(pipeline, "Ann has a car", image=stored_image(store, "red"))
    hits = nearest(store, seeing.embed(["a car"], query=True)[0], 1)
    assert pipeline.answer("What colour is it?", hits).look is None


def test_of_several_pictures_the_owners_own_counts_if_it_is_there(store: Store, pipeline: Pipeline) -> None:
    mine, theirs, gone = (
        stored_image(store, "red"),
        stored_image(store, "blue"),
        Image("https://example.org/gone.jpg", "a boat"),
    )
    assert image_of_exchange(exchange(mine, theirs)) == mine
    assert image_of_exchange(exchange(gone, theirs)) == theirs
    assert image_of_exchange(exchange(gone)) == gone and image_of_exchange(exchange(None)) is None
    assert pipeline.extraction_request(exchange(gone))[0].image is None


def test_working_ahead_with_pictures_gives_the_store_of_one_after_the_other(
    seeing: Engine, tiny_embedder: Path, tmp_path: Path
) -> None:
    def remembered(folder: Path, ahead: int) -> list[object]:
        with Store(
            folder,
            EmbeddingFingerprint(*read_embedding_fingerprint(tiny_embedder)),
            clock=lambda: datetime(2024, 5, 1, tzinfo=UTC),
        ) as store:
            dice = random.Random(3)
            read = []
            for i in range(8):
                image = (
                    stored_image(store, dice.choice(["red", "blue", "green"]), "a car") if dice.random() < 0.6 else None
                )
                words = Message(
                    "user", f"I bought {dice.choice(['apples', 'tea', 'a car'])} today.", "Ann", image=image
                )
                said = (words, Message("assistant", "Really?", "Bob"))
                read.append(Exchange(f"key-{i}", ANN, said, MAY + timedelta(hours=i), "chat", i))
            pipeline = Pipeline(
                seeing, store, PipelineOptions(supports_images=True, verbatim_only=frozenset({"update"}))
            )
            done = list(
                pipeline.remember_all(read, priority=Priority.BACKGROUND, max_in_flight=ahead, speculative_updates=2)
            )
            return [store.list(order="stored"), [result.facts for result in done]]

    expected = remembered(tmp_path / "one", 1)
    assert any(memory.image for memory in expected[0]), "memories without pictures prove nothing"  # type: ignore[attr-defined]
    assert remembered(tmp_path / "eight", 8) == expected


# ------------------------------------------------------------------------------------------------ questions


def nearest(store: Store, vector: NDArray[np.float32], limit: int) -> list[Hit]:
    return [Hit(neighbour.memory, None, neighbour.score) for neighbour in store.search(vector, limit)]


def test_the_nearest_memory_with_a_picture_is_looked_at_again(pipeline: Pipeline, store: Store) -> None:
    image = stored_image(store, "red")
    keep(pipeline, "Ann likes tea", "the doctor said no")
    keep(pipeline, "Sam sent Ann his new car", image=image)
    hits = nearest(store, pipeline.engine.embed(["the new car of Sam"], query=True)[0], 3)
    answer = pipeline.answer("What colour is the new car of Sam?", hits)
    assert answer.look is not None and answer.look.hit is not None and answer.look.hit.memory is not None
    assert answer.look.hit.memory.image == image and answer.look.picture == "red.png"
    assert answer.look.answer and " " not in answer.look.answer
    request, _ = pipeline.answer_request("What colour?", hits, look=answer.look)
    assert f"Sam sent Ann his new car [its picture shows: {answer.look.answer}. " in request.chat[0][1]


def test_a_picture_that_is_far_gone_damaged_or_a_link_is_not_looked_at(
    pipeline: Pipeline, store: Store, tmp_path: Path, engine: Engine
) -> None:
    image = stored_image(store, "red")
    keep(pipeline, "Sam sent Ann his new car", image=image)
    keep(pipeline, "Ann likes tea", "Ann moved to Rome", "Ann went to the market")
    hits = nearest(store, pipeline.engine.embed(["the car"])[0], 4)
    hits.sort(key=lambda hit: hit.memory is not None and hit.memory.image is not None)
    assert pipeline.answer("What colour?", hits).look is None, "it is the fourth"
    hits = hits[::-1]
    assert pipeline.answer("What colour?", hits).look is not None
    assert Pipeline(engine, store, PipelineOptions()).answer("What colour?", hits).look is None, "a text student"

    path = store.images.path(image.sha256)
    assert path is not None
    whole = path.read_bytes()
    for change in (lambda: path.write_bytes(whole[:60]), path.unlink):
        change()
        assert pipeline.answer("What colour?", hits).look is None
    (tmp_path / "secret.png").write_bytes(whole)
    path.symlink_to(tmp_path / "secret.png")
    assert pipeline.answer("What colour?", hits).look is None, "a link out of the store"


@pytest.fixture
def seeing_home(tiny_home: Path, tiny_vision_student: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMLORA_STUDENT", str(tiny_vision_student))
    return tiny_home


def test_the_library_answers_about_a_picture_and_keeps_nothing_of_it(seeing_home: Path, tmp_path: Path) -> None:
    (tmp_path / "car.png").write_bytes(png("red", (300, 200)))
    with Memory() as memory:
        answer = memory.ask("What colour is the car?", image=tmp_path / "car.png")
        assert answer.look is not None and answer.text == answer.look.answer and answer.look.picture == "car.png"
        assert answer.look.hit is None and answer.hits == ()
        again = memory.ask("What colour is the car?", image=str(tmp_path / "car.png"))
        assert again.text == answer.text
        with pytest.raises(UsageError, match="the question is empty"):
            memory.ask(" ", image=tmp_path / "car.png")
    assert not list(seeing_home.rglob("*.png"))


def test_a_text_student_refuses_a_picture_and_names_one_that_sees(tiny_home: Path, tmp_path: Path) -> None:
    with Memory() as memory, pytest.raises(VisionMissing, match="`memlora models pull internvl3-1b`"):
        memory.ask("What is it?", image=tmp_path / "car.png")


def test_a_reply_sees_what_the_user_shows(
    tiny_vision_student: Path, tiny_embedder: Path, store: Store, tmp_path: Path, engine: Engine
) -> None:
    (tmp_path / "car.png").write_bytes(png("red"))
    shown = Image(str(tmp_path / "car.png"))
    with Engine(tiny_vision_student, tiny_embedder) as seeing:
        chat = Chat(Pipeline(seeing, store, PipelineOptions(supports_images=True)), "Ann", limit=2)
        with_picture = "".join(chat.reply("What is this?", image=shown))
        assert chat.turns[0] == ("user", "What is this?")
        chat.turns.clear()
        assert with_picture != "".join(chat.reply("What is this?")), "the picture has to matter"
        with pytest.raises(UsageError, match="there is no picture"):
            list(chat.reply("And this?", image=Image(str(tmp_path / "gone.png"))))
    blind = Chat(Pipeline(engine, store, PipelineOptions()), "Ann", limit=2)
    list(blind.reply("What is this?", image=Image("car.png", "a red car")))
    assert blind.turns[0] == ("user", "What is this?\n[shares an image: a red car]")


def test_what_is_no_look_is_read_as_empty() -> None:
    assert parse_visual_answer('{"answer": "red", "reason": "The car is."}') == ("red", "The car is.")
    for text in ("", "red", "[1]", '{"answer": 3, "reason": "x"}', '{"answer": "red"}', "null"):
        assert parse_visual_answer(text) == ("", "")
    assert visual_answer_grammar().longest_closing
