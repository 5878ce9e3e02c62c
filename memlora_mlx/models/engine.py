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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from memlora_mlx.errors import Cancelled, EngineClosed, ModelMissing
from memlora_mlx.records import Completion, Priority, Request, Stage
from memlora_mlx.settings import IMAGE_TILES, ExpertMode

if TYPE_CHECKING:
    import numpy as np

    from memlora_mlx.models.batching import DecodingBatch, PrefixCache
    from memlora_mlx.models.decoding import DecodingSequence
    from memlora_mlx.models.embedding import Embedder
    from memlora_mlx.models.experts import ExpertTable
    from memlora_mlx.models.student import Student

T = TypeVar("T")

LONG_TOKENS = 1024  # of prompt and output; longer background requests are answered one by one


@dataclass(order=True)
class _ThreadCall:
    """A function that waits to be run on the engine's thread."""

    priority: Priority
    number: int
    function: Callable[[], Any] = field(compare=False)
    result: Future[Any] = field(compare=False)
    completes_result: bool = field(default=True, compare=False)  # False: it only begins what will give the result


@dataclass(eq=False)
class _InFlightRequest:
    """A request that waits for its answer, or is being answered."""

    request: Request
    result: Future[Completion]
    on_text: Callable[[str], None] | None
    cancelled: threading.Event
    started: float = 0.0
    shown: int = 0  # characters given to `on_text`


@dataclass(frozen=True, slots=True)
class Activity:
    """What the engine is doing, for a status line."""

    doing: tuple[str, ...]  # "chat", "extraction expert", "update (base)"; empty while idle
    tokens: int  # written since the engine began
    bytes: int  # that MLX's arrays take


class Lane(IntEnum):
    """The batches of the engine, the most urgent first."""

    INTERACTIVE = 0
    BACKGROUND = 1
    LONG = 2  # background requests too long to share a batch: every row's buffer is as long as the longest's


BATCH_SIZES = {Lane.INTERACTIVE: 4, Lane.BACKGROUND: 8, Lane.LONG: 1}  # places in each batch


class Engine:
    """The resident models and the thread that runs them.

    Args:
        student: a model folder; None where only embedding is needed.
        embedder: a sentence-encoder folder, or why there is none; None where nothing is embedded.
        experts: the folder of each stage's, or one folder with a sub-folder a stage; None for the base alone.
        expert_mode: see `ExpertTable`.
        name: the student's name in reports; its folder's by default.
        image_tiles: see `Settings`.
    """

    def __init__(
        self,
        student: Path | None,
        embedder: Path | ModelMissing | None,
        *,
        experts: Path | Mapping[Stage, Path] | None = None,
        expert_mode: ExpertMode = "swap",
        query_prompt: bool = True,
        name: str | None = None,
        image_tiles: int = IMAGE_TILES,
    ) -> None:
        self._student_folder, self._embedder_folder = student, embedder
        self._expert_folders, self._expert_mode = experts or {}, expert_mode
        self._query_prompt, self._name, self._image_tiles = query_prompt, name, image_tiles
        self._student: Student | None = None
        self._experts: ExpertTable | None = None
        self._embedder: Embedder | None = None
        self._sequence = itertools.count()
        self._condition = threading.Condition()
        self._calls: list[_ThreadCall] = []
        self._batches: dict[Lane, DecodingBatch] = {}
        self._in_flight: dict[Lane, dict[DecodingSequence, _InFlightRequest]] = {}
        self._prefixes: PrefixCache = {}
        self._finished_tokens = 0  # tokens of the answers that are done
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
        in_flight = _InFlightRequest(request, Future(), on_text, cancelled or threading.Event())
        begin = _ThreadCall(
            priority,
            next(self._sequence),
            lambda: self._begin(in_flight, priority),
            in_flight.result,
            completes_result=False,
        )
        self._enqueue(begin)
        return in_flight.result

    def stream(self, request: Request, *, cancelled: threading.Event | None = None) -> Iterator[str]:
        """The answer in pieces. Leaving the loop stops the student, and so does setting `cancelled` (see `complete`)."""
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        cancelled = cancelled or threading.Event()
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

    def token_states(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The embedder's last hidden states: for each text float32, (tokens, dim), [CLS] and [SEP] among them."""
        return self.call(lambda: self._embedding_model().token_states(texts))

    def count_tokens(self, chat: Sequence[tuple[str, str]], image: Path | None = None) -> int:
        """Tokens of a chat, with a picture or without, under the student's template."""
        if image is None:
            return len(self.student.encode(chat))
        return self.call(
            lambda: len(self._language_model().encode(chat, image))
        )  # some families need MLX to measure it

    def call(self, function: Callable[[], T], priority: Priority = Priority.INTERACTIVE) -> T:
        """Run a function on the engine's thread between two forward passes, and wait for its value."""
        call = _ThreadCall(priority, next(self._sequence), function, Future())
        self._enqueue(call)
        return cast(T, call.result.result())

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

    def activity(self) -> Activity:
        """What is being worked on; from any thread, without waiting."""
        with_expert = self._experts.experts if self._experts is not None else ()
        rows = [row for lane in list(self._in_flight.values()) for row in list(lane)]
        doing = {
            "chat" if row.stage is None else f"{row.stage} {'expert' if row.stage in with_expert else '(base)'}"
            for row in rows
        }
        mlx = sys.modules.get("mlx.core")
        held = int(mlx.get_active_memory()) if mlx is not None else 0
        return Activity(tuple(sorted(doing)), self._finished_tokens + sum(len(row.tokens) for row in rows), held)

    def close(self) -> None:
        """Stop the thread; waiting requests end with `EngineClosed`."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        atexit.unregister(self.close)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the engine's thread

    def _enqueue(self, call: _ThreadCall) -> None:
        with self._condition:
            if self._closed:
                raise EngineClosed("the engine is closed")
            heapq.heappush(self._calls, call)
            self._condition.notify()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            if isinstance(work, _ThreadCall):
                try:
                    value = work.function()
                    if work.completes_result:
                        work.result.set_result(value)
                except Exception as error:
                    work.result.set_exception(error)
            else:
                self._step(work)
        closed = EngineClosed("the engine was closed")
        for call in self._calls:
            call.result.set_exception(closed)
        for lane in self._in_flight.values():
            for in_flight in lane.values():
                in_flight.result.set_exception(closed)
        self._calls.clear()
        self._batches.clear()
        self._in_flight.clear()
        self._student = self._experts = self._embedder = None
        if "mlx.core" in sys.modules:
            # A thread that ends with MLX streams of its own aborts the process at exit (mlx 0.32).
            sys.modules["mlx.core"].clear_streams()

    def _next(self) -> _ThreadCall | Lane | None:
        """The most urgent piece of work, waited for; None when the engine is closed."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._calls or self._closed or any(b.is_busy for b in self._batches.values())
            )
            if self._closed:
                return None
            busy = [lane for lane, batch in sorted(self._batches.items()) if batch.is_busy]
            # Calls are short, or begin requests: those of background work fill the batch before its next step.
            if self._calls and not (busy and busy[0] < Lane(self._calls[0].priority)):
                return heapq.heappop(self._calls)
            return busy[0]

    def _begin(self, in_flight: _InFlightRequest, priority: Priority) -> None:
        """Put a request into its batch."""
        from memlora_mlx.models.batching import DecodingBatch
        from memlora_mlx.models.decoding import DecodingSequence, GrammarMatcher

        in_flight.started = time.perf_counter()
        student, request = self._language_model(), in_flight.request
        assert self._experts is not None
        prompt = student.encode(request.chat, request.image)
        student.compute_features(prompt, (row.pending for lane in self._in_flight.values() for row in lane))
        guide = GrammarMatcher(student, request.grammar) if request.grammar else None
        row = DecodingSequence(
            student,
            request.stage,
            prompt,
            guide=guide,
            max_tokens=request.max_tokens,
            stop_repetition=request.stop_repetition,
        )
        lane = Lane.INTERACTIVE if priority is Priority.INTERACTIVE else Lane.BACKGROUND
        if lane is Lane.BACKGROUND and row.max_length > LONG_TOKENS:
            lane = Lane.LONG
        if lane not in self._batches:
            self._batches[lane] = DecodingBatch(student, self._experts, BATCH_SIZES[lane], self._prefixes)
            self._in_flight[lane] = {}
        self._in_flight[lane][row] = in_flight
        self._batches[lane].add(row)

    def _step(self, lane: Lane) -> None:
        """One forward pass of a batch, and what it means for its requests."""
        batch, requests = self._batches[lane], self._in_flight[lane]
        for row, in_flight in list(requests.items()):
            if in_flight.cancelled.is_set():
                batch.cancel(row)
                requests.pop(row).result.set_exception(Cancelled("stopped"))
        try:
            ended, failed = batch.step()
        except Exception as error:  # out of memory, say: none of these rows can go on, the engine can
            batch.clear()
            for in_flight in requests.values():
                in_flight.result.set_exception(error)
            requests.clear()
            return
        for row, reason in failed:
            requests.pop(row).result.set_exception(reason)
        for row, in_flight in list(requests.items()):
            try:
                self._show(in_flight, row)
            except Exception as error:  # the caller's own code: its request ends, the engine goes on
                batch.cancel(row)
                requests.pop(row).result.set_exception(error)
        for row in ended:
            if row in requests:
                self._deliver(requests.pop(row), row)

    def _show(self, in_flight: _InFlightRequest, row: DecodingSequence) -> None:
        """Give the caller what is new of the text; half a character waits for its other half."""
        if in_flight.on_text is None:
            return
        text = self._language_model().decode(row.settled_tokens)
        text = text if row.finish else text.rstrip("\ufffd")
        if text[in_flight.shown :]:
            in_flight.on_text(text[in_flight.shown :])
            in_flight.shown = len(text)

    def _deliver(self, in_flight: _InFlightRequest, row: DecodingSequence) -> None:
        assert row.finish is not None
        self._finished_tokens += len(row.tokens)
        in_flight.result.set_result(
            Completion(
                text=self._language_model().decode(row.tokens),
                finish=row.finish,
                prompt_tokens=len(row.prompt),
                output_tokens=len(row.tokens),
                steps=row.counters.steps,
                seconds=time.perf_counter() - in_flight.started,
            )
        )

    def _language_model(self) -> Student:
        if self._student is None:
            from memlora_mlx.models.experts import ExpertTable, read_experts
            from memlora_mlx.models.student import Student

            if self._student_folder is None:
                raise ModelMissing("no student is chosen; `memlora models pull smollm2-135m` fetches a small one")
            student = Student.load(self._student_folder, self._name, image_tiles=self._image_tiles)
            found = read_experts(self._expert_folders, student.fingerprint)
            self._experts = ExpertTable(student.model, found, self._expert_mode)
            self._student = student
        return self._student

    def _embedding_model(self) -> Embedder:
        if self._embedder is None:
            from memlora_mlx.models.embedding import Embedder

            if isinstance(self._embedder_folder, ModelMissing):
                raise ModelMissing(str(self._embedder_folder))
            if self._embedder_folder is None:
                raise ModelMissing("no embedder is chosen; `memlora models pull all-minilm-l6-v2` fetches a small one")
            self._embedder = Embedder(self._embedder_folder, query_prompt=self._query_prompt)
        return self._embedder
