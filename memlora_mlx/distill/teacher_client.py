"""A teacher: a large model behind one or more OpenAI-compatible servers.

Many questions are in flight at once. Each goes to the least loaded available server. A server that fails is skipped for a
while, longer from failure to failure, and its question goes to another one.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from memlora_mlx.distill.answer_cleaning import RejectionReason
from memlora_mlx.distill.answer_files import RESUME_HINT
from memlora_mlx.distill.examples import ChatMessages, to_openai_messages
from memlora_mlx.distill.server_keys import NO_KEY
from memlora_mlx.errors import Cancelled, TeacherFailed, UsageError
from memlora_mlx.extras import require
from memlora_mlx.text import printable_line

CONCURRENCY = 16  # requests in flight at each server
MAX_TOKENS = 4096  # of one answer, including reasoning
TIMEOUT_SECONDS = 600.0  # a large teacher with a full queue takes minutes
INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 60.0  # seconds that a failed server is skipped; doubled with each failure
MAX_FAILURES = 7  # failures in a row, over about a minute, after which no run waits for the server any longer
MAX_FIRST_FAILURES = 3  # the same for a server that never answered: a wrong address should be noticed early
ATTEMPTS = 4  # errors of a server in a row, or on one question, before the server is tested with an easy question

_TRANSIENT = (408, 409, 425, 429)  # and every status from 500 on
_NO_SYSTEM = re.compile(r"system role|role.{0,20}system", re.IGNORECASE)
_NO_FORMAT = re.compile(r"response.?format|json.?schema|guided|grammar|structured", re.IGNORECASE)
_TOO_LONG = re.compile(r"context.?(?:length|window|size)|too long|too many tokens|max_model_len", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TeacherResponse:
    """A server's answer and its tokens."""

    text: str
    is_complete: bool  # False: it ended at the token limit
    prompt_tokens: int
    output_tokens: int


class RejectedRequest(Exception):
    """A server cannot answer this one question. `str()` is the server's message."""

    def __init__(self, reason: RejectionReason, message: str) -> None:
        super().__init__(message)
        self.reason: RejectionReason = reason


# ------------------------------------------------------------------------------------------------ servers


class _TransientError(Exception):
    """A failure that may not happen again."""

    def __init__(self, reason: str, *, status: int | None = None, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.status, self.wait = status, wait


@dataclass(eq=False, slots=True)
class _Server:
    """One base URL and the state of its server."""

    url: str
    client: Any  # an openai.AsyncOpenAI
    in_flight: int = 0
    failures: int = 0  # in a row
    backoff: int = 0  # how often it was skipped; of requests that began in one period only the first failure counts
    backoff_until: float = 0.0
    has_answered: bool = False  # an error counts as well
    fault: str = ""  # the last failure

    @property
    def has_failed(self) -> bool:
        """Whether no run waits for it any longer. While other servers work, it is still tried from time to time."""
        return self.failures >= (MAX_FAILURES if self.has_answered else MAX_FIRST_FAILURES)


class Teacher:
    """A model behind several servers. Use it in an `async with` statement.

    Args:
        urls: base URLs, as the `openai` client takes them; most end in /v1.
        api_key: of all servers, or of each by its base URL (see `server_keys`).
        concurrency: requests in flight at each server.
        max_tokens: of one answer, including reasoning.
        timeout_seconds: for one answer.
        response_format: the form of an answer, as in OpenAI's API; not used if the server rejects it.
        called: the teacher's name in messages to the user.
        sleep, clock, jitter: for tests.

    Raises:
        UsageError: there is no URL, a URL is not valid, or the API key is not valid.
        ExtraMissing: the `openai` client is not installed.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        *,
        api_key: str | Mapping[str, str] = NO_KEY,
        concurrency: int = CONCURRENCY,
        max_tokens: int = MAX_TOKENS,
        timeout_seconds: float = TIMEOUT_SECONDS,
        response_format: Mapping[str, Any] | None = None,
        called: str = "teacher",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        require("teach", f"a {called}")
        import openai

        if not urls:
            raise UsageError(
                f"A {called} needs a server. Give its base URL, such as --base-url http://127.0.0.1:8000/v1."
            )
        for url in urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise UsageError(f"{url!r} is not a base URL. Give one such as http://127.0.0.1:8000/v1.")
        keys = dict.fromkeys(urls, api_key) if isinstance(api_key, str) else api_key
        if not all(key.isascii() for key in keys.values()):
            raise UsageError("The API key contains invalid characters. Copy it again.")
        self.model = model
        self.retries = 0
        self.response_format = response_format
        self._called = called
        self._concurrency, self._max_tokens = concurrency, max_tokens
        self._sleep, self._clock, self._jitter = sleep, clock, jitter
        self._merges_system_prompt = False  # its chat template has no system role (Gemma 2)
        self._servers = [
            _Server(
                url,
                openai.AsyncOpenAI(
                    base_url=url,
                    api_key=key,
                    max_retries=0,  # `ask` retries, on any server
                    timeout=openai.Timeout(timeout_seconds, connect=min(10.0, timeout_seconds)),
                ),
            )
            for url, key in {url.rstrip("/"): keys.get(url, NO_KEY) for url in urls}.items()
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            await server.client.close()

    @property
    def capacity(self) -> int:
        """How many questions can be in flight at once."""
        return self._concurrency * len(self._servers)

    async def ask(self, chat: ChatMessages, image: str | None = None) -> TeacherResponse:
        """The answer to a chat, from any of the servers.

        Args:
            image: see `to_openai_messages`.

        Raises:
            TeacherFailed: a server does not speak the protocol or rejects the request, or no server answers any longer.
            RejectedRequest: this chat cannot be answered, but others can.
        """
        errors = 0
        while True:
            server = await self._free_server()
            period = server.backoff
            try:
                reply = await self._send(server, chat, self._max_tokens, image)
            except _TransientError as fault:
                self.retries += 1
                is_error = (fault.status or 0) >= 500
                errors += is_error
                self._back_off(server, fault, period)
                is_doubtful = is_error and max(errors, server.failures) >= ATTEMPTS
                if is_doubtful and await self._answers(server) and errors >= ATTEMPTS:
                    raise RejectedRequest("no answer", str(fault)) from fault
            else:
                server.failures, server.has_answered = 0, True
                return reply
            finally:
                server.in_flight -= 1

    def run_jobs(
        self, jobs: Iterable[Callable[[], Awaitable[object]]], *, cancelled: threading.Event | None = None
    ) -> None:
        """Run jobs that call `ask`, as many at once as `capacity`, and close the connections. Call it once.

        Args:
            cancelled: set it to stop without waiting for the questions in flight.

        Raises:
            Cancelled: `cancelled` was set.
            TeacherFailed: see `ask`.
        """
        try:
            asyncio.run(self._run_jobs(iter(jobs), cancelled))
        except BaseExceptionGroup as group:
            first: BaseException = group
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from first.__cause__

    async def _run_jobs(
        self, jobs: Iterator[Callable[[], Awaitable[object]]], cancelled: threading.Event | None
    ) -> None:
        async def work() -> None:
            for job in jobs:
                await job()

        async def watch() -> None:
            while cancelled is None or not cancelled.is_set():
                await asyncio.sleep(0.1)
            raise Cancelled("Stopped.")

        async with self, asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            workers = [group.create_task(work()) for _ in range(self.capacity)]
            for worker in workers:
                await worker
            watching.cancel()

    async def _free_server(self) -> _Server:
        """The least loaded available server. Its count of requests in flight is increased."""
        while True:
            if all(server.has_failed for server in self._servers):
                faults = "; ".join(f"{server.url}: {server.fault}" for server in self._servers)
                raise TeacherFailed(f"The {self._called} no longer answers ({faults}). {RESUME_HINT}")
            now = self._clock()
            free = [
                server
                for server in self._servers
                # a server that failed is tried with a single request first
                if server.backoff_until <= now and server.in_flight < (1 if server.failures else self._concurrency)
            ]
            if free:
                server = min(free, key=lambda server: server.in_flight)
                server.in_flight += 1
                return server
            soonest = min(server.backoff_until for server in self._servers) - now
            await self._sleep(min(max(soonest, 0.1), 0.5))  # a running request may end earlier

    def _back_off(self, server: _Server, fault: _TransientError, period: int) -> None:
        """Skip a server for a while."""
        server.fault = str(fault)
        server.has_answered |= fault.status is not None
        if server.backoff != period:  # another request of the same period has failed before
            return
        pause = min(INITIAL_BACKOFF * 2.0**server.failures, MAX_BACKOFF) * (0.5 + self._jitter())
        server.failures += 1
        server.backoff += 1
        server.backoff_until = self._clock() + max(pause, fault.wait)

    async def _answers(self, server: _Server) -> bool:
        """Whether a failing server answers an easy question. Then the other question is the cause, and it is not skipped."""
        try:
            await self._send(server, (("user", "Say yes."),), 16)
        except _TransientError:
            return False
        server.failures, server.has_answered, server.backoff_until = 0, True, 0.0
        return True

    async def _send(
        self, server: _Server, chat: ChatMessages, max_tokens: int, image: str | None = None
    ) -> TeacherResponse:
        """Send one request. Raises _TransientError, RejectedRequest, TeacherFailed."""
        import openai

        if self._merges_system_prompt and chat[0][0] == "system":
            (_, instruction), (role, text), *rest = chat
            chat = ((role, f"{instruction}\n\n{text}"), *rest)
        options: dict[str, Any] = {"response_format": self.response_format} if self.response_format else {}
        try:
            reply = await server.client.chat.completions.create(
                model=self.model,
                messages=to_openai_messages(chat, image),
                temperature=0,
                max_tokens=max_tokens,
                **options,
            )
        except openai.APITimeoutError as error:
            raise _TransientError("no answer within the time limit") from error
        except openai.APIConnectionError as error:
            raise _TransientError(printable_line(error.__cause__ or error, 300) or "no connection") from error
        except openai.APIStatusError as error:
            message = _message(error)
            if error.status_code in _TRANSIENT or error.status_code >= 500:
                wait = _seconds(error.response.headers.get("retry-after"))
                raise _TransientError(f"{error.status_code} {message}", status=error.status_code, wait=wait) from error
            if chat[0][0] == "system" and _NO_SYSTEM.search(message):
                self._merges_system_prompt = True
                return await self._send(server, chat, max_tokens, image)
            if options and error.status_code in (400, 422) and _NO_FORMAT.search(message):
                self.response_format = None
                return await self._send(server, chat, max_tokens, image)
            if _is_markup(error.body):
                raise _protocol_error(server, f"it sent status {error.status_code} and a web page") from error
            if error.status_code in (400, 413, 422) and _TOO_LONG.search(message):
                raise RejectedRequest("too long", message) from error
            hint = f"Give its key with --api-key. {RESUME_HINT}" if error.status_code == 401 else RESUME_HINT
            raise TeacherFailed(f"{server.url} answered {error.status_code}: {message}. {hint}") from error
        except (openai.APIError, ValueError) as error:  # the body is not JSON, or has another schema
            raise _protocol_error(server, printable_line(error, 300)) from error
        try:
            choice, usage = reply.choices[0], reply.usage
            text = choice.message.content or ""  # None: it was all reasoning, which the server removed
            finish = choice.finish_reason
        except (AttributeError, IndexError, TypeError):
            received = "a web page" if _is_markup(reply) else "something else"
            raise _protocol_error(server, f"it sent {received} instead of a chat completion") from None
        if not isinstance(text, str):
            raise _protocol_error(server, "it sent a message without text")
        counts = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        return TeacherResponse(text, finish != "length", *(count if isinstance(count, int) else 0 for count in counts))


def _message(error: Any) -> str:
    """The server's error message, in one line."""
    body = error.body
    if isinstance(body, dict):
        body = next((body[key] for key in ("message", "detail", "error") if body.get(key)), body)
    return printable_line(body or error, 300) if not _is_markup(body) else "(a web page)"


def _is_markup(body: object) -> bool:
    return isinstance(body, str) and body.lstrip().startswith("<")


def _seconds(header: str | None) -> float:
    try:
        return min(max(float(header or 0), 0.0), MAX_BACKOFF)
    except ValueError:  # a date
        return 0.0


def _protocol_error(server: _Server, reason: str) -> TeacherFailed:
    hint = "" if urlsplit(server.url).path.strip("/") else " Most base URLs end in /v1."
    return TeacherFailed(
        f"{server.url} does not answer like an OpenAI-compatible server: {reason}.{hint} {RESUME_HINT}"
    )
