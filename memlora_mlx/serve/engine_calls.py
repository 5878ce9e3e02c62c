"""The resident process's engine for commands of the same user: they keep the store open themselves, and ask for answers.

An answer is lines of JSON: `{"text": PIECE}` as they come, then `{"result": ...}` or `{"error": ...}`. Whoever closes the
connection cancels the request.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from memlora_mlx.errors import UsageError
from memlora_mlx.memory.awaiting import finished
from memlora_mlx.memory.engine_identity import engine_identity
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Priority
from memlora_mlx.serve import engine_wire
from memlora_mlx.serve.answer_lines import Send, answer_lines
from memlora_mlx.serve.backends import LocalBackend, error_json
from memlora_mlx.serve.connection import OtherModels

if TYPE_CHECKING:
    from memlora_mlx.memory.engine import MemoryEngine


def engine_routes(backend: LocalBackend) -> list[Route]:
    """`/engine/NAME`, which only the Unix socket has: it reads pictures from the disk."""

    async def answer(request: HttpRequest) -> Response:
        name, is_unix_socket = request.path_params["name"], request.scope["server"][1] is None
        if not is_unix_socket or name not in _CALLS:
            return JSONResponse({"error": error_json(UsageError("there is nothing here"))}, 404)
        try:
            body = json.loads(await request.body())
            identity = dict(body["identity"])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": error_json(UsageError("this is no call of an engine"))}, 400)

        async def work(send: Send) -> dict[str, Any]:
            await asyncio.to_thread(_follow_the_disk, backend, identity)
            async with backend.held() as memory:
                _check(backend.identity or {}, identity)
                return await _CALLS[name](memory.workspace.engine, body, send)

        return StreamingResponse(answer_lines(work), media_type="application/x-ndjson")

    return [Route("/engine/{name}", answer, methods=["POST"])]


async def _complete(engine: MemoryEngine, body: Mapping[str, Any], send: Send) -> dict[str, Any]:
    request, cancelled = engine_wire.request_from_json(body["request"]), threading.Event()
    on_text = (lambda piece: send({"text": piece})) if body.get("pieces") else None
    work = engine.submit(request, priority=Priority(body["priority"]), on_text=on_text, cancelled=cancelled)
    return engine_wire.completion_to_json(await finished(work, cancelled))


async def _embed(engine: MemoryEngine, body: Mapping[str, Any], send: Send) -> dict[str, Any]:
    return engine_wire.vectors_to_json(await asyncio.to_thread(engine.embed, body["texts"], query=body["query"]))


async def _count_tokens(engine: MemoryEngine, body: Mapping[str, Any], send: Send) -> dict[str, Any]:
    image = Path(body["image"]) if body["image"] is not None else None
    chat = [(role, text) for role, text in body["chat"]]
    return {"tokens": await asyncio.to_thread(engine.count_tokens, chat, image)}


async def _student(engine: MemoryEngine, body: Mapping[str, Any], send: Send) -> dict[str, Any]:
    return {"context": (await asyncio.to_thread(lambda: engine.student)).context}


_CALLS: dict[str, Callable[[MemoryEngine, Mapping[str, Any], Send], Awaitable[dict[str, Any]]]] = {
    "complete": _complete,
    "embed": _embed,
    "count_tokens": _count_tokens,
    "student": _student,
}


def _follow_the_disk(backend: LocalBackend, identity: Mapping[str, str]) -> None:
    """Where the caller found other models than those that are open because they changed on the disk, open them anew."""
    if backend.identity not in (None, identity) and engine_identity(Workspace(backend.settings)) == identity:
        backend.reopen()


def _check(own: Mapping[str, str], identity: Mapping[str, str]) -> None:
    """Raises OtherModels: the caller would answer with other models, or by other settings."""
    others = [name for name in own if own[name] != identity.get(name)]
    if others:
        raise OtherModels(f"it has other models or settings ({', '.join(others)}); restart it with the same ones")
