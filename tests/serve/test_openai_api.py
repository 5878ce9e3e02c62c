"""`memlora serve` as OpenAI's own client sees it, with memlora's student."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from cli_home import environment
from memory_servers import messages_of, post, resident_of, resident_process, wait_until

from memlora_mlx.serve.work_queue import WorkQueue

SHAPES = Path(__file__).parent / "client_requests"


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, varied_student: Path, tiny_embedder: Path
) -> Iterator[tuple[Path, str]]:
    """A home and the address of its resident process."""
    home = tmp_path_factory.mktemp("served") / "home"
    with resident_process(environment(home, varied_student, tiny_embedder), "--port", "0"):
        url = resident_of(home).url
        assert url is not None
        post(
            f"{url}/call/add",
            json={"messages": "Ann likes green tea", "user_id": "ann", "infer": False},
        ).raise_for_status()
        yield home, url


@pytest.fixture
def client(served: tuple[Path, str]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served[1]}/v1", api_key="unused", max_retries=0)


ASK: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "I like tea. What else?"}]


def test_the_models_are_the_student_and_the_embedder(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == "memlora" and len(names) == 3
    assert client.models.retrieve("memlora").owned_by == "memlora"
    with pytest.raises(openai.NotFoundError, match="is not served"):
        client.models.retrieve("gpt-4o")


def test_a_reply_names_the_memories_it_was_given_and_is_remembered(
    client: openai.OpenAI, served: tuple[Path, str]
) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="memlora", messages=ASK, max_tokens=16, extra_headers={"X-Memlora-User": "ann"}
    )
    reply = raw.parse()
    assert reply.choices[0].message.role == "assistant" and reply.choices[0].finish_reason in ("stop", "length")
    assert reply.usage is not None and 0 < reply.usage.completion_tokens <= 16
    [memory] = raw.headers["x-memlora-memories"].split(",")[:1]
    shown = post(f"{served[1]}/call/get", json={"memory_id": memory})
    assert "Ann likes green tea" in shown.text
    wait_until(lambda: "I like tea. What else?" in messages_of(served[0], "ann"))


def test_a_stream_gives_the_same_words_in_pieces(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "memlora", "messages": ASK, "max_tokens": 24, "user": "streamer"}
    whole = client.chat.completions.create(**options, extra_headers={"X-Memlora-Mode": "off"})
    with client.chat.completions.with_streaming_response.create(
        **options, stream=True, stream_options={"include_usage": True}, extra_headers={"X-Memlora-Mode": "off"}
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream") and "x-memlora-memories" in raw.headers
        chunks = list(raw.parse())
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage and chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stop_sequence_ends_the_reply_before_it(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "memlora", "messages": ASK, "max_tokens": 24, "user": "stopper"}
    whole = client.chat.completions.create(**options, extra_headers={"X-Memlora-Mode": "off"})
    text = whole.choices[0].message.content or ""
    assert len(text) > 4
    stop = text[2:4]
    stream = client.chat.completions.create(
        **options, stop=[stop, "never to be said"], stream=True, extra_headers={"X-Memlora-Mode": "off"}
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert said == text[: text.index(stop)]


def test_embeddings_are_the_embedders_as_numbers_and_as_bytes(client: openai.OpenAI, tiny_embedder: Path) -> None:
    name = str(tiny_embedder)
    one = client.embeddings.create(model=name, input="tea")  # the client asks for base64
    two = client.embeddings.create(model="memlora", input=["coffee", "tea"], encoding_format="float")
    assert one.data[0].embedding == pytest.approx(two.data[1].embedding, abs=1e-6)
    assert sum(value * value for value in one.data[0].embedding) == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(openai.BadRequestError, match="dimensions must be"):
        client.embeddings.create(model="memlora", input="tea", dimensions=7)


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
PICTURE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n must be 1"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"tool_choice": "required", "tools": []}, "tool_choice"),
    ({"tools": [TOOL]}, "the student calls no tools"),
    ({"functions": [TOOL["function"]], "tool_choice": "auto"}, "the student calls no tools"),
    ({"logprobs": True}, "logprobs must be left out"),
    ({"modalities": ["text", "audio"]}, "modalities must be left out"),
    ({"messages": [{"role": "tool", "tool_call_id": "c1", "content": "4"}, *ASK]}, "no results of them"),
    ({"messages": [{"role": "user", "content": [PICTURE]}, {"role": "assistant", "content": "A cat."}, *ASK]}, "pictures"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "'input_audio' is not read"),
    ({"stop": [""]}, "stop must be"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"messages": []}, "messages must be a list"),
    ({"messages": ["x"]}, "each of messages"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "last message must be the user's"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]}, "pictures"),
    ({"messages": [{"role": "user", "content": " "}]}, "no text"),
    ({"user": "x" * 501}, "user's name"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_the_student_cannot_do_is_refused_in_openais_shape(
    client: openai.OpenAI, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/chat/completions", body={"model": "memlora", "messages": ASK, **change}, cast_to=object)
    assert words in str(refused.value) and "\n" not in refused.value.message


def test_tools_that_are_not_to_be_called_and_empty_fields_are_no_reason_to_refuse(client: openai.OpenAI) -> None:
    harmless: dict[str, Any] = {"tools": [TOOL], "tool_choice": "none", "logprobs": False, "modalities": ["text"]}
    body = {"model": "memlora", "messages": ASK, "max_tokens": 2, **harmless}
    client.post("/chat/completions", body=body, cast_to=object)


def test_other_models_are_not_there_and_a_body_that_is_no_json_is_refused(
    client: openai.OpenAI, served: tuple[Path, str]
) -> None:
    with pytest.raises(openai.NotFoundError, match="GET /v1/models"):
        client.chat.completions.create(model="gpt-4o", messages=ASK)
    for body in (b"{", b"[1]", b"[" * 100_000):
        answer = post(f"{served[1]}/v1/chat/completions", content=body)
        assert answer.status_code == 400 and answer.json()["error"]["message"] == "the body must be a JSON object"


@pytest.mark.parametrize("file", sorted(SHAPES.glob("*.json")), ids=lambda file: file.stem)
def test_recorded_requests_of_other_clients_are_answered_or_refused_by_name(
    served: tuple[Path, str], file: Path
) -> None:
    recorded = json.loads(file.read_text())
    body = {**recorded["body"], "model": "memlora"}
    answer = post(f"{served[1]}/v1/chat/completions", json=body, headers=recorded["headers"])
    if words := recorded.get("refused"):
        error = answer.json()["error"]
        assert answer.status_code == 400 and error["type"] == "invalid_request_error" and words in error["message"]
        return
    assert answer.status_code == 200, answer.text
    if body.get("stream"):
        assert answer.text.endswith("data: [DONE]\n\n")
    else:
        assert answer.json()["choices"][0]["message"]["role"] == "assistant"


def test_the_guard_holds_for_these_endpoints_too(tmp_path: Path, varied_student: Path, tiny_embedder: Path) -> None:
    token = "a token of more than sixteen"
    (tmp_path / "token").write_text(token)
    home = tmp_path / "guarded"
    with resident_process(
        environment(home, varied_student, tiny_embedder), "--port", "0", "--token-file", tmp_path / "token"
    ):
        url = f"{resident_of(home).url}/v1"
        wrong = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        right = openai.OpenAI(base_url=url, api_key=token, max_retries=0)
        assert len(list(right.models.list())) == 3
        for headers, status in (({"Origin": "https://evil.example"}, 403), ({"Host": "evil.example"}, 421)):
            with pytest.raises(openai.APIStatusError) as refused:
                right.chat.completions.create(model="memlora", messages=ASK, extra_headers=headers)
            assert refused.value.status_code == status


def test_what_was_said_survives_a_kill_before_it_was_read(
    tmp_path: Path, varied_student: Path, tiny_embedder: Path
) -> None:
    home = tmp_path / "killed"
    environ = environment(home, varied_student, tiny_embedder)
    with resident_process(environ, "--port", "0") as process:
        client = openai.OpenAI(base_url=f"{resident_of(home).url}/v1", api_key="x", max_retries=0)
        for number in range(5):
            said: list[Any] = [{"role": "user", "content": f"Note {number}: the door code is {number}{number}."}]
            client.chat.completions.create(model="memlora", messages=said, max_tokens=4, user="bob")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(600)
    with resident_process(environ):
        queue = WorkQueue(home)
        wait_until(lambda: queue.count() == 0)
    texts = messages_of(home, "bob")
    for number in range(5):
        assert texts.count(f"Note {number}: the door code is {number}{number}.") == 1


def test_a_client_that_leaves_in_the_middle_of_a_stream_stops_nobody_else(
    client: openai.OpenAI, served: tuple[Path, str]
) -> None:
    stream = client.chat.completions.create(
        model="memlora",
        messages=[{"role": "user", "content": "Say much."}],
        max_tokens=2000,
        stream=True,
        user="leaver",
    )
    next(iter(stream))
    stream.close()
    client.chat.completions.create(model="memlora", messages=ASK, max_tokens=2, user="stayer")
    wait_until(lambda: messages_of(served[0], "leaver")[:1] == ["Say much."])  # what was said counts all the same
