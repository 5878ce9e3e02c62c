"""Replies of memlora's own student to requests of OpenAI's chat API."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from memlora_mlx.errors import EngineClosed, UsageError
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.chat import REPLY_TOKENS, Chat
from memlora_mlx.records import Role
from memlora_mlx.serve.backends import LocalBackend
from memlora_mlx.serve.chat_requests import TEXT_PARTS, ChatRequest, text_of
from memlora_mlx.serve.recall import ids_of

T = TypeVar("T")
MAX_REPLY_TOKENS = 2048
_NO_TOOLS = "the student calls no tools; a server behind --upstream may"
# Fields that would make a reply another one, and the values of them that would not.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "logprobs": (False,),
    "modalities": (["text"], []),
    "audio": (),
    "web_search_options": (),
}
MAX_STOPS, MAX_STOP = 4, 200  # stop sequences of a request, and characters of each


@dataclass(frozen=True, slots=True)
class Started:
    """The memories that the reply sees; it comes before the first piece."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """Why the reply ended, and its tokens."""

    finish: Literal["stop", "length"]
    prompt_tokens: int
    output_tokens: int


Event = Started | str | Ended  # a text is a piece of the reply


def check_supported(request: ChatRequest) -> None:
    """Raises UsageError: the request asks for what the student cannot do, and leaving it out would give a wrong reply."""
    body = request.body
    if body.get("n") not in (None, 1):
        raise UsageError("n must be 1: the student gives one reply")
    kind = body.get("response_format")
    if isinstance(kind, Mapping) and kind.get("type") not in (None, "text"):
        raise UsageError("response_format must be text: the student's replies are not constrained")
    if body.get("tool_choice") not in (None, "none", "auto"):
        raise UsageError(f"tool_choice must be none: {_NO_TOOLS}")
    if body.get("tool_choice") != "none" and (body.get("tools") or body.get("functions")):
        raise UsageError(f"tools must be left out, or tool_choice be none: {_NO_TOOLS}")
    for field, harmless in _HARMLESS.items():
        if body.get(field) not in (None, *harmless):
            raise UsageError(f"{field} must be left out: the student's replies are text alone")
    _check_messages(request)
    if not request.said.strip():
        raise UsageError("the last message has no text")
    _stops(body), _reply_tokens(body)


def _check_messages(request: ChatRequest) -> None:
    """Raises UsageError: a message has something besides text, or is of a tool, or the last one is not the user's."""
    for message in request.messages:
        if message["role"] in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
            raise UsageError(f"messages must have no calls of tools and no results of them: {_NO_TOOLS}")
        content = message.get("content")
        for part in content if isinstance(content, list) else []:
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            if kind not in TEXT_PARTS:
                what = "pictures are not read here" if "image" in str(kind) else f"{str(kind)[:40]!r} is not read here"
                raise UsageError(f"messages can have text alone: {what}; leave it out, or serve with --upstream")
    if request.last_user is None or request.last_user != len(request.messages) - 1:
        raise UsageError("the last message must be the user's")


def reply_events(memory: Memory, request: ChatRequest, cancelled: threading.Event) -> Iterator[Event]:
    """The reply as it is generated. Setting `cancelled` stops it before the next token."""
    system = "\n\n".join(text_of(m) for m in request.messages if m["role"] in ("system", "developer"))
    limit = memory.workspace.settings.limit if request.recalls else 0
    tokens, stops = _reply_tokens(request.body), _stops(request.body)
    chat = Chat(memory.workspace.pipeline, request.user, limit=limit, instructions=system, reply_tokens=tokens)
    chat.turns = _turns(request)
    stream = chat.reply(request.said, cancelled=cancelled)
    pieces = _until_stop(stream, stops)
    first = next(pieces, "")
    yield Started(ids_of(chat.hits))
    yield first
    yield from pieces
    stream.close()
    done = chat.completion
    yield Ended(done.finish, done.prompt_tokens, done.output_tokens) if done else Ended("stop", 0, 0)


async def on_a_thread(
    backend: LocalBackend, produce: Callable[[Memory, threading.Event], Iterator[T]]
) -> AsyncGenerator[T]:
    """What a generator yields on a thread of the backend. Closing this one sets the event that the other is given."""
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[T] | None] = asyncio.Queue()
    cancelled = threading.Event()

    def work() -> None:
        with backend.opened() as memory:
            for item in produce(memory, cancelled):
                loop.call_soon_threadsafe(items.put_nowait, (item,))

    def end(_: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(items.put_nowait, None)

    try:
        running = backend.pool.submit(work)
    except RuntimeError as error:  # the pool was shut down
        raise EngineClosed("memlora is shutting down; try again when it runs") from error
    running.add_done_callback(end)
    try:
        while (item := await items.get()) is not None:
            yield item[0]
        try:
            running.result()
        except CancelledError as error:
            raise EngineClosed("memlora is shutting down; try again when it runs") from error
    finally:
        cancelled.set()


def _turns(request: ChatRequest) -> list[tuple[Role, str]]:
    """What was said before the last turn, from a user's turn on, with the roles in turn as chat templates need it."""
    turns: list[tuple[Role, str]] = []
    for message in request.messages[:-1]:
        role, text = message["role"], text_of(message)
        if role not in ("user", "assistant") or not text.strip():
            continue
        if turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{text}")
        elif turns or role == "user":
            turns.append((role, text))
    return turns if not turns or turns[-1][0] == "assistant" else turns[:-1]


def _until_stop(pieces: Iterator[str], stops: tuple[str, ...]) -> Iterator[str]:
    """The pieces up to the first stop sequence. The end of a text is held back while it may become one."""
    if not stops:
        yield from pieces
        return
    held, kept = "", max(map(len, stops)) - 1
    for piece in pieces:
        held += piece
        places = [at for stop in stops if (at := held.find(stop)) >= 0]
        if places:
            yield held[: min(places)]
            return
        if len(held) > kept:
            yield held[: len(held) - kept]
            held = held[len(held) - kept :]
    yield held


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    given = body.get("stop")
    stops = [given] if isinstance(given, str) else given or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) and 0 < len(stop) <= MAX_STOP for stop in stops):
        raise UsageError(f"stop must be a text or a list of texts of at most {MAX_STOP} characters")
    if len(stops) > MAX_STOPS:
        raise UsageError(f"stop can have at most {MAX_STOPS} texts")
    return tuple(stops)


def _reply_tokens(body: Mapping[str, Any]) -> int:
    given = body.get("max_completion_tokens")
    given = body.get("max_tokens") if given is None else given
    if given is None:
        return REPLY_TOKENS
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise UsageError("max_tokens must be a whole number above 0")
    return min(given, MAX_REPLY_TOKENS)
