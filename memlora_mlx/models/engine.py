"""The engine: one thread that owns every MLX call, with plain Python values going in and coming out.

An unevaluated array belongs to the thread that made it, so all of them are made by one. Work waits in a queue by
priority and is done in steps (one forward pass each); between two steps a more urgent request goes first and a
cancelled one ends. The student and the embedder load when they are first needed.
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memlora_mlx.errors import Cancelled, EngineClosed, ModelMissing, VisionMissing
from memlora_mlx.records import Completion, Request
from memlora_mlx.settings import ExpertMode

if TYPE_CHECKING:
    import numpy as np

    from memlora_mlx.models.embedding import Embedder
    from memlora_mlx.models.experts import ExpertTable
    from memlora_mlx.models.students import Student

T = TypeVar("T")
Steps = Generator[None, None, T]  # what a job is: it stops after each step and returns its result


class Priority(IntEnum):
    INTERACTIVE = 0  # somebody waits for it
    BACKGROUND = 1  # memory work; gives way within one step


@dataclass(order=True)
class _Job(Generic[T]):
    priority: Priority
    number: int
    steps: Steps[T] = field(compare=False)
    result: Future[T] = field(compare=False)
    cancelled: threading.Event = field(compare=False)


class Engine:
    """The resident models and the thread that runs them.

    Args:
        student: a model folder; None where only embedding is needed.
        embedder: a sentence-encoder folder.
        experts: a folder with a sub-folder for each stage; None for the base alone.
        expert_mode: see `ExpertTable`.
        name: the student's name in reports; its folder's by default.
    """

    def __init__(
        self,
        student: Path | None,
        embedder: Path | None,
        *,
        experts: Path | None = None,
        expert_mode: ExpertMode = "swap",
        query_prompt: bool = True,
        name: str | None = None,
    ) -> None:
        self._student_folder, self._embedder_folder = student, embedder
        self._experts_folder, self._expert_mode = experts, expert_mode
        self._query_prompt, self._name = query_prompt, name
        self._student: Student | None = None
        self._experts: ExpertTable | None = None
        self._embedder: Embedder | None = None
        self._numbers = itertools.count()
        self._wake = threading.Condition()
        self._jobs: list[_Job[Any]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="memlora-engine", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    # ------------------------------------------------------------------ requests, from any thread

    def complete(
        self,
        request: Request,
        *,
        priority: Priority = Priority.INTERACTIVE,
        on_text: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Completion:
        """Answer one request and wait for it.

        Args:
            on_text: called on the engine's thread with each new piece of the answer.
            cancelled: set it to stop the request before its next step.

        Raises:
            Cancelled: `cancelled` was set.
            MemloraError: the student or its experts cannot be loaded.
        """
        return self.submit(request, priority=priority, on_text=on_text, cancelled=cancelled).result()

    def submit(
        self,
        request: Request,
        *,
        priority: Priority = Priority.INTERACTIVE,
        on_text: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Future[Completion]:
        """As `complete`, without waiting."""
        return self._enqueue(self._complete(request, on_text), priority, cancelled)

    def stream(self, request: Request) -> Iterator[str]:
        """The answer in pieces. Leaving the loop stops the student."""
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        cancelled = threading.Event()
        answer = self.submit(request, on_text=pieces.put, cancelled=cancelled)
        answer.add_done_callback(lambda _: pieces.put(None))
        try:
            while (piece := pieces.get()) is not None:
                yield piece
            answer.result()
        finally:
            cancelled.set()

    def embed(self, texts: Sequence[str], *, query: bool = False) -> np.ndarray:
        """Unit vectors: float32, (len(texts), dim)."""
        return self.call(lambda: self._embedding_model().embed(texts, query=query))

    def count_tokens(self, chat: Sequence[tuple[str, str]]) -> int:
        """Tokens of a chat under the student's template."""
        return len(self.student.encode(chat))

    def call(self, function: Callable[[], T], priority: Priority = Priority.INTERACTIVE) -> T:
        """Run a function on the engine's thread, as one step, and wait for its value."""

        def steps() -> Steps[T]:
            return function()
            yield  # a generator of one step

        return self._enqueue(steps(), priority, None).result()

    @property
    def student(self) -> Student:
        """The resident student, loaded by now. Only its tokenizer and figures may be used off the engine's thread."""
        return self._student if self._student is not None else self.call(self._language_model)

    @property
    def experts(self) -> ExpertTable:
        self.student  # noqa: B018 - loads both
        assert self._experts is not None
        return self._experts

    @property
    def embedder(self) -> Embedder:
        return self._embedder if self._embedder is not None else self.call(self._embedding_model)

    def close(self) -> None:
        """Stop the thread; waiting requests end with `EngineClosed`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        atexit.unregister(self.close)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the engine's thread

    def _enqueue(self, steps: Steps[T], priority: Priority, cancelled: threading.Event | None) -> Future[T]:
        job: _Job[T] = _Job(priority, next(self._numbers), steps, Future(), cancelled or threading.Event())
        with self._wake:
            if self._closed:
                raise EngineClosed("the engine is closed")
            heapq.heappush(self._jobs, job)
            self._wake.notify()
        return job.result

    def _run(self) -> None:
        self._serve()
        for job in self._jobs:
            job.result.set_exception(EngineClosed("the engine was closed"))
        self._jobs.clear()
        self._student = self._experts = self._embedder = None
        if "mlx.core" in sys.modules:
            # A thread that ends with MLX streams of its own aborts the process at exit (mlx 0.32).
            sys.modules["mlx.core"].clear_streams()

    def _serve(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                job = self._jobs[0]  # stays queued while it runs; a newcomer may overtake it
            try:
                if job.cancelled.is_set():
                    job.steps.close()
                    raise Cancelled("stopped")
                next(job.steps)
            except StopIteration as end:
                self._forget(job)
                job.result.set_result(end.value)
            except BaseException as error:
                self._forget(job)
                job.result.set_exception(error)

    def _forget(self, job: _Job[Any]) -> None:
        with self._wake:
            self._jobs.remove(job)
            heapq.heapify(self._jobs)

    def _complete(self, request: Request, on_text: Callable[[str], None] | None) -> Steps[Completion]:
        from memlora_mlx.models.decoding import Decode, Guide, decode

        student = self._language_model()
        if request.image is not None:
            raise VisionMissing(f"the student {student.name} cannot see; choose a vision student such as internvl3-1b")
        assert self._experts is not None
        started = time.perf_counter()
        prompt = student.encode(request.chat)
        guide = Guide(student, request.grammar) if request.grammar else None
        result = Decode()
        steps = decode(student, prompt, result, guide=guide, max_tokens=request.max_tokens)
        shown = 0
        while True:
            self._experts.use(request.stage)  # another request may have run since the last step
            try:
                next(steps)
            except StopIteration:
                break
            if on_text and (text := student.decode(result.tokens).rstrip("\ufffd"))[shown:]:
                on_text(text[shown:])
                shown = len(text)
            yield
        text = student.decode(result.tokens)
        if on_text and text[shown:]:
            on_text(text[shown:])
        assert result.finish is not None
        seconds = time.perf_counter() - started
        return Completion(
            text, result.finish, len(prompt), len(result.tokens), result.counters.steps, seconds
        )

    def _language_model(self) -> Student:
        if self._student is None:
            from memlora_mlx.models.experts import ExpertTable, read_experts
            from memlora_mlx.models.students import Student

            if self._student_folder is None:
                raise ModelMissing("no student is chosen; `memlora models pull smollm2-135m` fetches a small one")
            student = Student.load(self._student_folder, self._name)
            found = read_experts(self._experts_folder, student.fingerprint) if self._experts_folder else {}
            self._experts = ExpertTable(student.model, found, self._expert_mode)
            self._student = student
        return self._student

    def _embedding_model(self) -> Embedder:
        if self._embedder is None:
            from memlora_mlx.models.embedding import Embedder

            if self._embedder_folder is None:
                raise ModelMissing("no embedder is chosen; `memlora models pull all-minilm-l6-v2` fetches a small one")
            self._embedder = Embedder(self._embedder_folder, query_prompt=self._query_prompt)
        return self._embedder
