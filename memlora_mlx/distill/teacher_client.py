"""A teacher: a large model behind one or more OpenAI-compatible servers, and a run of questions to it.

Many questions are in flight at once. Each goes to the least loaded server that is not resting; a server that fails
rests, longer from time to time, and the question goes to another. An answer is on the disk before it is counted, so a
run can be stopped or killed anywhere, and the next one asks only what is missing.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlsplit

from memlora_mlx.distill.answer_cleaning import CleanedAnswer, RejectedAnswer, RejectionReason, clean_answer
from memlora_mlx.distill.answer_files import RESUME_HINT, AnswerFiles
from memlora_mlx.distill.examples import ChatMessages, TrainingExample, to_openai_messages
from memlora_mlx.errors import Cancelled, TeacherFailed, UsageError
from memlora_mlx.extras import require
from memlora_mlx.text import printable_line

CONCURRENCY = 16  # requests in flight at each server
MAX_TOKENS = 4096  # of one answer, reasoning included
TIMEOUT_SECONDS = 600.0  # a large teacher with a full queue takes minutes
INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 60.0  # seconds; doubled from failure to failure
MAX_FAILURES = 7  # failures in a row, over about a minute, that end a run where no other server is left
MAX_FIRST_FAILURES = 3  # the same where nobody ever answered: a slip in the address should be seen at once
ATTEMPTS = 4  # errors, of a server in a row or on one question, before it is asked something easy

_TRANSIENT = (408, 409, 425, 429)  # and all from 500 on
_NO_SYSTEM = re.compile(r"system role|role.{0,20}system", re.IGNORECASE)
_NO_FORMAT = re.compile(r"response.?format|json.?schema|guided|grammar|structured", re.IGNORECASE)
_TOO_LONG = re.compile(r"context.?(?:length|window|size)|too long|too many tokens|max_model_len", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """What a teacher is asked, and the row that the answer will make."""

    row: TrainingExample  # still without an answer
    chat: ChatMessages  # the row's chat, with more to guide a teacher that is not trained for it
    old_memories: tuple[str, ...] = ()  # of an update, for cleaning
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TeacherResponse:
    """A server's answer and what it cost."""

    text: str
    is_complete: bool  # False: cut off at the limit of tokens
    prompt_tokens: int
    output_tokens: int


class RejectedRequest(Exception):
    """A server cannot answer this one question; `str()` is what it said."""

    def __init__(self, reason: RejectionReason, message: str) -> None:
        super().__init__(message)
        self.reason: RejectionReason = reason


# ------------------------------------------------------------------------------------------------ servers


class _TransientError(Exception):
    """A failure that may pass."""

    def __init__(self, reason: str, *, status: int | None = None, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.status, self.wait = status, wait


@dataclass(eq=False, slots=True)
class _Server:
    """One base URL, and how it has been doing."""

    url: str
    client: Any  # an openai.AsyncOpenAI
    in_flight: int = 0
    failures: int = 0  # in a row
    backoff: int = 0  # ever; of requests begun in the same period only the first failure counts
    backoff_until: float = 0.0
    has_answered: bool = False  # with an error, if nothing better
    fault: str = ""

    @property
    def has_failed(self) -> bool:
        """No run waits for it alone any longer; beside others it is still tried now and then."""
        return self.failures >= (MAX_FAILURES if self.has_answered else MAX_FIRST_FAILURES)


class Teacher:
    """A model behind several servers. Use it in an `async with` statement.

    Args:
        urls: base URLs, as the `openai` client takes them; they mostly end in /v1.
        concurrency: requests in flight at each.
        response_format: what an answer must look like; dropped where the server refuses to be told.
        called: in messages to the user.
        sleep, clock, jitter: for tests.

    Raises:
        UsageError: no URL, a URL that is none, or the `openai` client is not installed.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        *,
        api_key: str = "none",
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
            raise UsageError(f"a {called} needs a server; give --base-url, such as http://127.0.0.1:8000/v1")
        for url in urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise UsageError(f"{url!r} is no base URL; give one such as http://127.0.0.1:8000/v1")
        if not api_key.isascii():
            raise UsageError("the API key has characters that no key has; copy it again")
        self.model = model
        self.retries = 0
        self.response_format = response_format
        self._called = called
        self._concurrency, self._max_tokens = concurrency, max_tokens
        self._sleep, self._clock, self._jitter = sleep, clock, jitter
        self._merges_system_prompt = False  # its chat template knows no system role (Gemma 2)
        self._servers = [
            _Server(
                url,
                openai.AsyncOpenAI(
                    base_url=url,
                    api_key=api_key,
                    max_retries=0,  # ours know of the other servers
                    timeout=openai.Timeout(timeout_seconds, connect=min(10.0, timeout_seconds)),
                ),
            )
            for url in dict.fromkeys(url.rstrip("/") for url in urls)
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            await server.client.close()

    @property
    def capacity(self) -> int:
        """Questions that can be in flight at once."""
        return self._concurrency * len(self._servers)

    async def ask(self, chat: ChatMessages, image: str | None = None) -> TeacherResponse:
        """The answer to a chat, whatever servers it takes. `image`: see `to_openai_messages`.

        Raises:
            TeacherFailed: a server does not speak the protocol or refuses us, or none answers any longer.
            Unanswerable: this chat alone cannot be answered.
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
        """Do jobs that ask, as many at once as there are places, and close the connections. Once only.

        Args:
            cancelled: set it to stop; questions in flight are then not waited for.

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
            raise Cancelled("stopped")

        async with self, asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            workers = [group.create_task(work()) for _ in range(self.capacity)]
            for worker in workers:
                await worker
            watching.cancel()

    async def _free_server(self) -> _Server:
        """The least loaded server that is not resting, with one more request in flight."""
        while True:
            if all(server.has_failed for server in self._servers):
                said = "; ".join(f"{server.url}: {server.fault}" for server in self._servers)
                raise TeacherFailed(f"the {self._called} no longer answers ({said}); {RESUME_HINT}")
            now = self._clock()
            free = [
                server
                for server in self._servers
                # one that failed is tried with a single request first
                if server.backoff_until <= now and server.in_flight < (1 if server.failures else self._concurrency)
            ]
            if free:
                server = min(free, key=lambda server: server.in_flight)
                server.in_flight += 1
                return server
            soonest = min(server.backoff_until for server in self._servers) - now
            await self._sleep(min(max(soonest, 0.1), 0.5))  # sooner, a place may have become free

    def _back_off(self, server: _Server, fault: _TransientError, period: int) -> None:
        """Leave a server alone for a while."""
        server.fault = str(fault)
        server.has_answered |= fault.status is not None
        if server.backoff != period:  # one of many that failed together
            return
        pause = min(INITIAL_BACKOFF * 2.0**server.failures, MAX_BACKOFF) * (0.5 + self._jitter())
        server.failures += 1
        server.backoff += 1
        server.backoff_until = self._clock() + max(pause, fault.wait)

    async def _answers(self, server: _Server) -> bool:
        """Whether a server that fails answers something easy: then the question is to blame, and it need not rest."""
        try:
            await self._send(server, (("user", "Say yes."),), 16)
        except _TransientError:
            return False
        server.failures, server.has_answered, server.backoff_until = 0, True, 0.0
        return True

    async def _send(
        self, server: _Server, chat: ChatMessages, max_tokens: int, image: str | None = None
    ) -> TeacherResponse:
        """One request. Raises _Fault, Unanswerable, TeacherFailed."""
        import openai

        if self._merges_system_prompt and chat[0][0] == "system":
            (_, instruction), (role, text), *rest = chat
            chat = ((role, f"{instruction}\n\n{text}"), *rest)
        given: dict[str, Any] = {"response_format": self.response_format} if self.response_format else {}
        try:
            reply = await server.client.chat.completions.create(
                model=self.model,
                messages=to_openai_messages(chat, image),
                temperature=0,
                max_tokens=max_tokens,
                **given,
            )
        except openai.APITimeoutError as error:
            raise _TransientError("no answer in time") from error
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
            if given and error.status_code in (400, 422) and _NO_FORMAT.search(message):
                self.response_format = None
                return await self._send(server, chat, max_tokens, image)
            if _is_markup(error.body):
                raise _protocol_error(server, f"it sent {error.status_code} and a web page") from error
            if error.status_code in (400, 413, 422) and _TOO_LONG.search(message):
                raise RejectedRequest("too long", message) from error
            raise TeacherFailed(f"{server.url} answered {error.status_code}: {message}; {RESUME_HINT}") from error
        except (openai.APIError, ValueError) as error:  # a body that is not JSON, or not of the schema
            raise _protocol_error(server, printable_line(error, 300)) from error
        try:
            choice, usage = reply.choices[0], reply.usage
            text = choice.message.content or ""  # None: all of it was reasoning, which the server took out
            finish = choice.finish_reason
        except (AttributeError, IndexError, TypeError):
            said = "a web page" if _is_markup(reply) else "something else"
            raise _protocol_error(server, f"it sent {said} where a chat completion was expected") from None
        if not isinstance(text, str):
            raise _protocol_error(server, "the content of its message is no text")
        counts = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        return TeacherResponse(text, finish != "length", *(count if isinstance(count, int) else 0 for count in counts))


def _message(error: Any) -> str:
    """What the server says of itself in an error, in one line."""
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
    hint = "" if urlsplit(server.url).path.strip("/") else "; base URLs mostly end in /v1"
    return TeacherFailed(f"{server.url} does not answer as an OpenAI-compatible server: {reason}{hint}; {RESUME_HINT}")


# ------------------------------------------------------------------------------------------------ a run


@dataclass(slots=True)
class AnnotationStats:
    """How far a run has come."""

    total: int = 0  # questions, as far as they are known
    before: int = 0  # of them, answered in an earlier run, or the same as another
    written: int = 0  # rows of this run
    refused: Counter[str] = field(default_factory=Counter)  # answers of this run that could not be cleaned, by reason
    waiting: int = 0  # exchanges that no update is asked about yet, as facts before them are missing
    retries: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    @property
    def asked(self) -> int:
        return self.written + self.refused.total()

    @property
    def done(self) -> int:
        return self.before + self.asked

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far; None before there is one."""
        return self.seconds / self.asked * (self.total - self.done) if self.asked else None


class AnnotationJob:
    """Questions to a teacher, answered from its files where they can be."""

    def __init__(
        self,
        teacher: Teacher,
        answers: AnswerFiles,
        *,
        total: int = 0,
        on_progress: Callable[[AnnotationStats], None] | None = None,
    ) -> None:
        self.teacher, self.answers = teacher, answers
        self.stats = AnnotationStats(total)
        self._on_progress = on_progress
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._started = time.perf_counter()

    async def answer(self, question: TeacherRequest) -> CleanedAnswer | RejectedAnswer:
        """The cleaned answer; the same question is never asked twice."""
        key = question.row.prompt_hash
        async with self._locks[key]:
            if (known := self.answers.get(key)) is not None:
                self.stats.before += 1
                self._show()
                return known
            try:
                reply = await self.teacher.ask(question.chat)
            except RejectedRequest as error:
                result: CleanedAnswer | RejectedAnswer = RejectedAnswer(error.reason)
                reply = TeacherResponse(str(error), True, 0, 0)
            else:
                result = clean_answer(question.row.stage, reply.text, old=question.old_memories, facts=question.facts)
                if not reply.is_complete:
                    result = RejectedAnswer("cut off")
            answer = result.text if isinstance(result, CleanedAnswer) else ""
            raw = reply.text if reply.text != answer else None
            self.answers.add(replace(question.row, answer=answer, teacher_answer=raw), result)
            if isinstance(result, CleanedAnswer):
                self.stats.written += 1
            else:
                self.stats.refused[result.reason] += 1
            self.stats.prompt_tokens += reply.prompt_tokens
            self.stats.output_tokens += reply.output_tokens
            self._show()
            return result

    def run(
        self, jobs: Iterable[Callable[[], Awaitable[object]]], *, cancelled: threading.Event | None = None
    ) -> AnnotationStats:
        """Do the jobs, each of which asks one question by `answer`, or several one after the other.

        Raises:
            Cancelled, TeacherFailed: see `Teacher.work` and `AnswerFiles`.
        """
        self._started = time.perf_counter()
        self.teacher.run_jobs(jobs, cancelled=cancelled)
        return self.stats

    def _show(self) -> None:
        self.stats.retries = self.teacher.retries
        self.stats.seconds = time.perf_counter() - self._started
        if self._on_progress:
            self._on_progress(self.stats)
