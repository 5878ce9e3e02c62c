"""The endpoints of OpenAI's API: chat completions, models and embeddings.

They answer with memlora's own models, or pass requests on to an upstream server with memories put in. What was said is
queued when the reply has been given, and remembered by the queue's worker.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from memlora_mlx.errors import MemloraError, ModelMissing, UsageError
from memlora_mlx.memory.api import Memory
from memlora_mlx.serve import replies
from memlora_mlx.serve.backends import LocalBackend
from memlora_mlx.serve.chat_requests import ChatRequest, json_object, read_chat_request
from memlora_mlx.serve.recall import MEMORIES_HEADER, Recalled, recall, with_memories
from memlora_mlx.serve.upstream import ReplyText, Upstream, UpstreamFailed, pieces_of
from memlora_mlx.serve.work_queue import WorkQueue

log = logging.getLogger(__name__)
PROBLEM_HEADER = "X-Memlora-Problem"  # why no memories were given
MAX_TEXTS = 256  # of one request for embeddings
MAX_EMBEDDED = 400_000  # characters of all of them
OWN_NAME = "memlora"  # a model of this name is the student that the settings name


class OpenAIApi:
    """The endpoints over a backend.

    Args:
        queue: takes what is to be remembered.
        upstream: answers instead of the student.
    """

    def __init__(self, backend: LocalBackend, queue: WorkQueue, upstream: Upstream | None = None) -> None:
        self._backend, self._queue, self._upstream = backend, queue, upstream

    def routes(self) -> list[Route]:
        """What the resident process's application serves below /v1."""
        return [
            Route("/v1/models", _answered(self.models)),
            Route("/v1/models/{name:path}", _answered(self.models)),
            Route("/v1/chat/completions", _answered(self.chat_completions), methods=["POST"]),
            Route("/v1/embeddings", _answered(self.embeddings), methods=["POST"]),
        ]

    # ------------------------------------------------------------------ endpoints

    async def models(self, request: Request) -> Response:
        if self._upstream is not None:
            return await self._passed_on(request, request.url.path.removeprefix("/v1"))
        names = await self._call(_model_names)
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "memlora"} for name in names]
        if (wanted := request.path_params.get("name")) is None:
            return JSONResponse({"object": "list", "data": listed})
        found = next((model for model in listed if model["id"] == wanted), None)
        return JSONResponse(found) if found else _error(404, _unknown_model(wanted), "model_not_found")

    async def chat_completions(self, request: Request) -> Response:
        asked = read_chat_request(await request.body(), request.headers, self._backend.settings.user)
        if self._upstream is not None:
            return await self._upstream_reply(request, asked, self._upstream)
        replies.check_supported(asked)
        names = await self._call(_model_names)
        if asked.model not in names[:2]:
            return _error(404, _unknown_model(asked.model), "model_not_found")
        return await self._own_reply(request, asked)

    async def embeddings(self, request: Request) -> Response:
        if self._upstream is not None:
            return await self._passed_on(request, "/embeddings", await request.body())
        body = json_object(await request.body())
        texts = _texts_to_embed(body)
        name = self._backend.settings.embedder
        if body.get("model") not in (name, OWN_NAME):
            return _error(404, _unknown_model(body.get("model")), "model_not_found")
        vectors = await self._call(lambda memory: memory.workspace.memory_engine.embed(texts))
        if body.get("dimensions") not in (None, vectors.shape[1]):
            raise UsageError(f"dimensions must be {vectors.shape[1]}, as many as {name} has")
        is_base64 = body.get("encoding_format") == "base64"
        rows = [
            {
                "object": "embedding",
                "index": at,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if is_base64 else row.tolist(),
            }
            for at, row in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 0, "total_tokens": 0}  # not counted
        return JSONResponse({"object": "list", "data": rows, "model": name, "usage": usage})

    # ------------------------------------------------------------------ the student's replies

    async def _own_reply(self, request: Request, asked: ChatRequest) -> Response:
        events = replies.on_a_thread(self._backend, lambda memory, stop: replies.reply_events(memory, asked, stop))
        if asked.is_stream:
            started = await anext(events)  # an error before the first piece is an answer with its own status
            assert isinstance(started, replies.Started)
            return StreamingResponse(
                self._own_stream(asked, events), media_type="text/event-stream", headers=_memories_header(started.ids)
            )
        try:
            whole = await _while_connected(request, _collected(events))
        finally:
            await events.aclose()
        if whole is None:  # the client is gone
            self._learn(asked, "")
            return Response(status_code=499)
        started, text, ended = whole
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": ended.finish}
        answer = {**_head(asked.model, "chat.completion"), "choices": [choice], "usage": _usage(ended)}
        self._learn(asked, text)
        return JSONResponse(answer, headers=_memories_header(started.ids))

    async def _own_stream(self, asked: ChatRequest, events: AsyncGenerator[replies.Event]) -> AsyncIterator[str]:
        head = _head(asked.model, "chat.completion.chunk")
        pieces: list[str] = []
        learned = False

        def chunk(delta: Mapping[str, str], finish: str | None = None) -> str:
            return _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        try:
            yield chunk({"role": "assistant", "content": ""})
            async for event in events:
                if isinstance(event, str):
                    pieces.append(event)
                    yield chunk({"content": event})
                elif isinstance(event, replies.Ended):
                    learned = self._learn(asked, "".join(pieces))
                    yield chunk({}, event.finish)
                    if asked.wants_usage:
                        yield _event({**head, "choices": [], "usage": _usage(event)})
            yield "data: [DONE]\n\n"
        except Exception as error:
            yield _event({"error": _error_body(*_told(error))})
        finally:
            if not learned:
                self._learn(asked, "".join(pieces))
            await events.aclose()

    # ------------------------------------------------------------------ the upstream's replies

    async def _upstream_reply(self, request: Request, asked: ChatRequest, upstream: Upstream) -> Response:
        recalled, headers = Recalled(), {}
        if asked.recalls:
            limit = self._backend.settings.limit
            try:
                recalled = await self._call(lambda memory: recall(memory, asked.said, asked.user, limit))
                headers = _memories_header(recalled.ids)
            except MemloraError as error:  # a chat without memories is better than none
                log.warning("no memories were given: %s", error)
                headers = {PROBLEM_HEADER: _header_text(str(error))}
        response = await upstream.send("POST", "/chat/completions", request.headers, with_memories(asked, recalled))
        reply = ReplyText()
        kind = response.headers.get("content-type", "application/json")
        if asked.is_stream and response.is_success and "event-stream" in kind:
            stream = self._upstream_stream(asked, pieces_of(response), reply)
            return StreamingResponse(stream, response.status_code, headers, "text/event-stream")
        data = await _while_connected(request, _joined(pieces_of(response)))
        if data is None:  # the client is gone
            self._learn(asked, "")
            return Response(status_code=499)
        if not response.is_success:
            return Response(data, response.status_code, headers, kind)
        reply.read_whole(data)
        self._learn_reply(asked, reply)
        return Response(data, response.status_code, headers, kind)

    async def _upstream_stream(
        self, asked: ChatRequest, pieces: AsyncGenerator[bytes], reply: ReplyText
    ) -> AsyncIterator[bytes]:
        learned = False
        try:
            async for piece in pieces:
                reply.read_stream(piece)
                if reply.is_finished and not learned:
                    learned = self._learn_reply(asked, reply)
                yield piece
        except UpstreamFailed as error:
            yield _event({"error": _error_body(*_told(error))}).encode()
        finally:
            if not learned:
                self._learn_reply(asked, reply)
            await pieces.aclose()

    async def _passed_on(self, request: Request, path: str, body: bytes | None = None) -> Response:
        assert self._upstream is not None
        response = await self._upstream.send(request.method, path, request.headers, body)
        data = await _joined(pieces_of(response))
        return Response(data, response.status_code, media_type=response.headers.get("content-type"))

    # ------------------------------------------------------------------ both

    def _learn_reply(self, asked: ChatRequest, reply: ReplyText) -> bool:
        # After a call of a tool the model works on, and the turn is learned from with its last reply.
        return reply.has_tool_calls or self._learn(asked, reply.text)

    def _learn(self, asked: ChatRequest, reply: str) -> bool:
        """Queue what was said: one small file, written before the end of the reply, so that a kill loses nothing.

        What a user said counts also where the reply was stopped.
        """
        keep_secrets = self._backend.settings.keep_secrets
        if (arguments := asked.learned(reply, keep_secrets=keep_secrets)) is not None:
            try:
                self._queue.put("add", arguments)
            except MemloraError as error:
                log.error("what was said is not remembered: %s", error)
        return True

    async def _call(self, function: Callable[[Memory], Any]) -> Any:
        """What a function gives on a thread of the backend."""

        def work() -> Any:
            with self._backend.opened() as memory:
                return function(memory)

        return await asyncio.wrap_future(self._backend.pool.submit(work))


def _answered(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint with errors in the shape of OpenAI's API."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:
            return _error(*_told(error))

    return answer


def _told(error: Exception) -> tuple[int, str, str]:
    """Status, words and type of an error. Words of errors that are no answer stay in the log."""
    if isinstance(error, UpstreamFailed):
        return 502, str(error), "upstream_error"
    if isinstance(error, UsageError):
        return 400, str(error), "invalid_request_error"
    if isinstance(error, ModelMissing):
        return 503, str(error), "model_missing"
    if isinstance(error, MemloraError):
        return 500, str(error), "memlora_error"
    log.exception("a request of the OpenAI API failed")
    return 500, f"internal error: {type(error).__name__}", "internal_error"


def _error_body(status: int, message: str, kind: str) -> dict[str, Any]:
    return {"message": message, "type": kind, "param": None, "code": kind if status == 404 else None}


def _error(status: int, message: str, kind: str) -> Response:
    return JSONResponse({"error": _error_body(status, message, kind)}, status)


def _model_names(memory: Memory) -> list[str]:
    """memlora's own name, the student, and the embedder."""
    workspace = memory.workspace
    return [OWN_NAME, workspace.student_name, workspace.settings.embedder]


def _unknown_model(name: Any) -> str:
    return (
        f"the model {str(name)[:80]!r} is not served; GET /v1/models lists those that are, and 'memlora' is the student"
    )


def _texts_to_embed(body: Mapping[str, Any]) -> list[str]:
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise UsageError("input must be a text or a list of texts, none of them empty; tokens are not taken")
    if len(texts) > MAX_TEXTS or sum(map(len, texts)) > MAX_EMBEDDED:
        raise UsageError(f"input can have at most {MAX_TEXTS} texts and {MAX_EMBEDDED:,} characters")
    return texts


async def _collected(events: AsyncIterator[replies.Event]) -> tuple[replies.Started, str, replies.Ended]:
    found = [event async for event in events]
    started, ended = found[0], found[-1]
    assert isinstance(started, replies.Started) and isinstance(ended, replies.Ended)
    return started, "".join(event for event in found if isinstance(event, str)), ended


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def _while_connected(request: Request, work: Awaitable[Any]) -> Any:
    """What the work gives; None where the client left before, and the work was then cancelled."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait([task], timeout=0.5)
        if not task.done() and await request.is_disconnected():
            task.cancel()
            await asyncio.wait([task])
            return None
    return task.result()


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _usage(ended: replies.Ended) -> dict[str, int]:
    total = ended.prompt_tokens + ended.output_tokens
    return {"prompt_tokens": ended.prompt_tokens, "completion_tokens": ended.output_tokens, "total_tokens": total}


def _memories_header(ids: tuple[str, ...]) -> dict[str, str]:
    return {MEMORIES_HEADER: ",".join(ids)}


def _header_text(text: str) -> str:
    return text.encode("ascii", "replace").decode()[:300].replace("\n", " ")


def _event(content: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
