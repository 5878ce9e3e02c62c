"""The engine: one thread, priorities, cancelling, streaming, and a clear end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tiny_models import relative_error

from memlora_mlx.errors import Cancelled, EngineClosed, ModelBroken, ModelMissing, VisionMissing
from memlora_mlx.models.engine import Engine
from memlora_mlx.records import Priority, Request

import mlx.core as mx  # isort: skip

ASK = Request("generation", (("user", "Where did Ann go?"),), max_tokens=20)


def test_a_stream_is_the_answer_in_pieces(engine: Engine) -> None:
    whole = engine.complete(ASK)
    assert "".join(engine.stream(ASK)) == whole.text
    assert whole.output_tokens <= 20 and whole.prompt_tokens == engine.count_tokens(ASK.chat)


def test_each_stage_answers_with_its_expert_whatever_ran_between(
    tiny_student: Path, tiny_embedder: Path, tiny_experts: Path
) -> None:
    requests = [Request(stage, ASK.chat, max_tokens=25) for stage in ("extraction", "update", "generation", "vqa")]
    with Engine(tiny_student, tiny_embedder, experts=tiny_experts) as engine:
        alone = [engine.complete(request).text for request in requests]
        assert len(set(alone)) >= 3, "experts that agree prove nothing"
        answers = [engine.submit(request, priority=Priority.BACKGROUND) for request in requests * 3]
        assert [answer.result().text for answer in answers] == alone * 3


def test_somebody_waiting_overtakes_background_work_within_one_step(engine: Engine) -> None:
    assert engine.student  # loaded
    order: list[str] = []
    running, asked = threading.Event(), threading.Event()

    def on_text(_: str) -> None:
        order.append("background")
        running.set()
        asked.wait(5)

    slow = engine.submit(Request("update", ASK.chat, max_tokens=30), priority=Priority.BACKGROUND, on_text=on_text)
    assert running.wait(10)
    quick = engine.submit(ASK, on_text=lambda _: order.append("interactive"))
    asked.set()
    expected = engine_alone_text(engine, slow, quick)
    first, last = order.index("interactive"), len(order) - 1 - order[::-1].index("interactive")
    assert first <= 2 and "background" not in order[first:last], order
    assert expected


def engine_alone_text(engine: Engine, slow: object, quick: object) -> bool:
    """Interleaved requests say what they say alone."""
    alone = engine.complete(Request("update", ASK.chat, max_tokens=30)).text
    return slow.result().text == alone and quick.result().text == engine.complete(ASK).text  # type: ignore[attr-defined]


def test_cancelling_ends_a_request_and_frees_the_engine(engine: Engine) -> None:
    assert engine.student  # loaded
    cancelled = threading.Event()
    long = Request("generation", ASK.chat, max_tokens=3000)
    answer = engine.submit(long, on_text=lambda _: cancelled.set(), cancelled=cancelled)
    with pytest.raises(Cancelled):
        answer.result(20)
    assert engine.complete(ASK).text


def test_leaving_a_stream_stops_it(engine: Engine) -> None:
    for _ in engine.stream(Request("generation", ASK.chat, max_tokens=3000)):
        break
    assert engine.complete(ASK).text


def test_closing_ends_what_waits(tiny_student: Path, tiny_embedder: Path) -> None:
    engine = Engine(tiny_student, tiny_embedder)
    answers = [engine.submit(Request("generation", ASK.chat, max_tokens=3000)) for _ in range(3)]
    engine.close()
    engine.close()
    for answer in answers:
        with pytest.raises((EngineClosed, Cancelled)):
            answer.result(20)
    with pytest.raises(EngineClosed):
        engine.complete(ASK)


def test_an_error_reaches_its_caller_and_no_other(tiny_embedder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with Engine(tmp_path / "empty", tiny_embedder) as engine:
        with pytest.raises(ModelBroken):
            engine.complete(ASK)
        assert engine.embed(["Ann"]).shape == (1, 32)
    with Engine(None, None) as engine:
        with pytest.raises(ModelMissing, match="memlora models pull"):
            engine.complete(ASK)
        with pytest.raises(ModelMissing, match="memlora models pull"):
            engine.embed(["Ann"])


def test_an_image_for_a_text_student_is_refused_plainly(engine: Engine) -> None:
    with pytest.raises(VisionMissing, match="reads text only; `memlora models pull internvl3-1b`"):
        engine.complete(Request("vqa", ASK.chat, image=Path("photo.jpg")))


def test_a_caller_whose_own_code_fails_hears_it_and_the_engine_goes_on(engine: Engine) -> None:
    def broken(_: str) -> None:
        raise ZeroDivisionError("the caller's own")

    with pytest.raises(ZeroDivisionError):
        engine.complete(ASK, on_text=broken)
    assert engine.complete(ASK).text


def test_many_threads_may_ask_at_once(engine: Engine) -> None:
    expected = engine.complete(ASK).text
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(engine.complete(ASK).text)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [expected] * 6


def test_relative_error_is_sharp() -> None:
    assert relative_error(mx.array([1.0]), mx.array([1.1])) > 0.05
