"""The engine: one thread that owns every MLX call, with plain Python values going in and coming out.

An unevaluated array belongs to the thread that made it, so all of them are made by one. Work waits in a queue by
priority and is done in steps (one forward pass each); between two steps a more urgent request goes first and a
cancelled one ends. The student and the embedder load when they are first needed.
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from memlora_mlx.errors import EngineClosed, ModelMissing
from memlora_mlx.models.lanes import InFlightRequest, Lane, Lanes
from memlora_mlx.models.mlx_memory import MemoryUse, MlxMemory
from memlora_mlx.records import Activity, Completion, Priority, Request, Stage
from memlora_mlx.settings import IMAGE_TILES, ExpertMode
from memlora_mlx.streaming import streamed

if TYPE_CHECKING:
    import numpy as np

    from memlora_mlx.models.embedding import Embedder
    from memlora_mlx.models.experts import ExpertTable
    from memlora_mlx.models.student import Student

T = TypeVar("T")


@dataclass(order=True)
class _ThreadCall:
    """A function that waits to be run on the engine's thread."""

    priority: Priority
    number: int
    function: Callable[[], Any] = field(compare=False)
    result: Future[Any] = field(compare=False)
    completes_result: bool = field(default=True, compare=False)  # False: it only begins what will give the result


class Engine:
    """The resident models and the thread that runs them.

    Args:
        student: a model folder; None where only embedding is needed.
        embedder: a sentence-encoder folder, or why there is none; None where nothing is embedded.
        experts: the folder of each stage's, or one folder with a sub-folder a stage; None for the base alone.
        expert_mode: see `ExpertTable`.
        name: the student's name in reports; its folder's by default.
        image_tiles, cache_limit, wired_limit: see `Settings`.
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
        cache_limit: int | None = None,
        wired_limit: int | None = None,
    ) -> None:
        self._student_folder, self._embedder_folder = student, embedder
        self._expert_folders, self._expert_mode = experts or {}, expert_mode
        self._query_prompt, self._name, self._image_tiles = query_prompt, name, image_tiles
        self._student: Student | None = None
        self._experts: ExpertTable | None = None
        self._embedder: Embedder | None = None
        self._memory = MlxMemory(cache_limit, wired_limit)
        self._sequence = itertools.count()
        self._condition = threading.Condition()
        self._calls: list[_ThreadCall] = []
        self._lanes = Lanes()
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
        in_flight = InFlightRequest(request, Future(), on_text, cancelled or threading.Event())
        begin = _ThreadCall(
            priority,
            next(self._sequence),
            lambda: self._begin(in_flight, priority),
            in_flight.result,
            completes_result=False,
        )
        self._enqueue(begin)
        return in_flight.result

    def stream(self, request: Request, *, cancelled: threading.Event | None = None) -> Generator[str, None, Completion]:
        """The answer in pieces; its return value is the completion. Leaving the loop stops the student, and so does setting `cancelled` (see `complete`)."""
        return streamed(lambda give, stop: self.submit(request, on_text=give, cancelled=stop), cancelled)

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
        stages = self._lanes.stages()
        doing = {
            "chat" if stage is None else f"{stage} {'expert' if stage in with_expert else '(base)'}" for stage in stages
        }
        held = self._memory.use().total if "mlx.core" in sys.modules else 0
        return Activity(tuple(sorted(doing)), self._lanes.tokens(), self._lanes.reading(), held)

    def memory_use(self) -> MemoryUse:
        """What MLX takes, and its limits; from any thread."""
        return self._memory.use()

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
                self._lanes.step(work)
                self._memory.after_step(is_idle=not self._lanes.busy())
        closed = EngineClosed("the engine was closed")
        for call in self._calls:
            call.result.set_exception(closed)
        self._calls.clear()
        self._lanes.close(closed)
        self._student = self._experts = self._embedder = None
        if "mlx.core" in sys.modules:
            # A thread that ends with MLX streams of its own aborts the process at exit (mlx 0.32).
            sys.modules["mlx.core"].clear_streams()

    def _next(self) -> _ThreadCall | Lane | None:
        """The most urgent piece of work, waited for; None when the engine is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._calls or self._closed or self._lanes.busy())
            if self._closed:
                return None
            busy = self._lanes.busy()
            # Calls are short, or begin requests: those of background work fill the batch before its next step.
            if self._calls and not (busy and busy[0] < Lane(self._calls[0].priority)):
                return heapq.heappop(self._calls)
            return busy[0]

    def _begin(self, in_flight: InFlightRequest, priority: Priority) -> None:
        student = self._language_model()
        assert self._experts is not None
        self._lanes.begin(in_flight, priority, student, self._experts)

    def _language_model(self) -> Student:
        if self._student is None:
            from memlora_mlx.models.experts import ExpertTable, read_experts
            from memlora_mlx.models.loading import load_student

            self._memory.set_limits()
            if self._student_folder is None:
                raise ModelMissing("no student is chosen; `memlora models pull smollm2-135m` fetches a small one")
            student = load_student(self._student_folder, self._name, image_tiles=self._image_tiles)
            found = read_experts(self._expert_folders, student.fingerprint)
            self._experts = ExpertTable(student.model, found, self._expert_mode)
            self._student = student
        return self._student

    def _embedding_model(self) -> Embedder:
        if self._embedder is None:
            self._memory.set_limits()
            from memlora_mlx.models.embedding import Embedder

            if isinstance(self._embedder_folder, ModelMissing):
                raise ModelMissing(str(self._embedder_folder))
            if self._embedder_folder is None:
                raise ModelMissing("no embedder is chosen; `memlora models pull all-minilm-l6-v2` fetches a small one")
            self._embedder = Embedder(self._embedder_folder, query_prompt=self._query_prompt)
        return self._embedder
