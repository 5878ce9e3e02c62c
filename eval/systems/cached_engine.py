"""The student's calls of a benchmark: each paid for once, timed, and answered with or without an expert.

`CachedEngine` stands where a `Pipeline` expects an engine. Which student answers a stage, and whether with its expert, is
chosen here; so all rows of an ablation run through the same pipeline.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.errors import Cancelled
from memlora_mlx.eval.systems.cache import Cache, content_key
from memlora_mlx.memory.scheduling import MAX_IN_FLIGHT
from memlora_mlx.records import Completion, Priority, Request, Stage

if TYPE_CHECKING:
    import numpy as np

    from memlora_mlx.models.engine import Engine


class ModelClock:
    """Seconds in which at least one model call ran, and what share of them each call had.

    `kept`: the seconds of calls that were made before, and not again.
    """

    def __init__(self) -> None:
        self.kept = 0.0
        self._lock = threading.Lock()
        self._running: dict[object, float] = {}
        self._last = 0.0
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        with self._lock:
            self._advance()
            return self._seconds

    def begin(self) -> object:
        with self._lock:
            self._advance()
            call = object()
            self._running[call] = 0.0
            return call

    def end(self, call: object) -> float:
        """The call's share of the seconds since it began; those that ran beside it had theirs."""
        with self._lock:
            self._advance()
            return self._running.pop(call)

    def add_cached(self, seconds: float) -> None:
        with self._lock:
            self.kept += seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        call = self.begin()
        try:
            yield
        finally:
            self.end(call)

    def _advance(self) -> None:
        now = time.perf_counter()
        if self._running:
            passed = now - self._last
            self._seconds += passed
            for call in self._running:
                self._running[call] += passed / len(self._running)
        self._last = now


@dataclass(frozen=True, slots=True)
class ModelBinding:
    """Who answers a stage."""

    engine: Engine
    label: str  # "smollm2-135m", "smollm2-135m + expert"
    identity: str  # of the student's weights and the expert's
    has_expert: bool


@dataclass(frozen=True, slots=True)
class StudentLimits:
    """What a pipeline asks of the student itself."""

    context: int  # tokens


class CachedEngine:
    """An engine to a pipeline: the student of each stage, behind the cache.

    Args:
        answerers: of each stage.
        embedder: the engine that embeds.
    """

    def __init__(
        self, bindings: Mapping[Stage, ModelBinding], embedder: Engine, cache: Cache, clock: ModelClock
    ) -> None:
        self.bindings, self.cache, self.clock = bindings, cache, clock
        self._embedder = embedder
        self._is_loaded = False

    def identity(self, *stages: Stage) -> list[str]:
        return [self.bindings[stage].identity for stage in stages]

    @property
    def student(self) -> StudentLimits:
        return StudentLimits(min(engine.student.context for engine in self._engines()))

    def count_tokens(self, chat: Sequence[tuple[str, str]], image: Path | None = None) -> int:
        return max(engine.count_tokens(chat, image) for engine in self._engines())

    def embed(self, texts: Sequence[str], *, query: bool = False) -> np.ndarray:
        with self.clock.running():
            return self._embedder.embed(texts, query=query)

    def submit(
        self,
        request: Request,
        *,
        priority: Priority | None = None,
        on_text: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Future[Completion]:
        """As `Engine.submit`; a call that was paid for is answered at once, with the seconds it took then."""
        assert request.stage is not None
        answerer = self.bindings[request.stage]
        grammar = request.grammar.text if request.grammar else None
        # the file of a picture is named by what it holds
        seen = [request.image.name] if request.image else []
        seen += ["stop repetition"] if request.stop_repetition else []
        if request.grammar and (handicap := request.grammar.handicap):
            seen += [handicap.start, str(handicap.nats)]
        key = content_key(["call", answerer.identity, request.chat, grammar, request.max_tokens, *seen])
        answered: Future[Completion] = Future()
        if (known := self.cache.get(key)) is not None:
            answered.set_result(Completion(**known))
            self.clock.add_cached(known["seconds"])
            return answered
        chosen = request if answerer.has_expert else replace(request, stage=None)
        running = self.clock.begin()
        asked = answerer.engine.submit(
            chosen, priority=Priority.BACKGROUND if priority is None else priority, on_text=on_text, cancelled=cancelled
        )

        def keep(done: Future[Completion]) -> None:
            try:
                seconds = self.clock.end(running)
                completion = replace(done.result(), seconds=seconds)
                self.cache.put(key, asdict(completion))
            except BaseException as error:  # whoever waits must hear of it, whatever it is
                answered.set_exception(error)
            else:
                answered.set_result(completion)

        asked.add_done_callback(keep)
        return answered

    def complete(self, request: Request, *, on_text: Callable[[str], None] | None = None) -> Completion:
        return self.submit(request, on_text=on_text).result()

    def stream(self, request: Request, *, cancelled: threading.Event | None = None) -> Generator[str, None, Completion]:
        """The whole answer as one piece: an answer from the cache has no pieces."""
        answer = self.submit(request, cancelled=cancelled).result()
        yield answer.text
        return answer

    def complete_all(
        self,
        requests: Sequence[Request],
        *,
        ahead: int = MAX_IN_FLIGHT,
        on_done: Callable[[int], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Completion]:
        """The answers in order; `ahead` of them are worked on at once.

        Raises:
            Cancelled: `cancelled` was set; what was answered is in the cache.
        """
        stop = threading.Event()
        answers: list[Future[Completion]] = []
        waiting: deque[Future[Completion]] = deque()
        try:
            while len(answers) < len(requests) or waiting:
                if cancelled is not None and cancelled.is_set():
                    raise Cancelled("stopped")
                while len(waiting) < ahead and len(answers) < len(requests):
                    answers.append(self.submit(requests[len(answers)], cancelled=stop))
                    waiting.append(answers[-1])
                wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                waiting = deque(answer for answer in waiting if not answer.done())
                if on_done:
                    on_done(len(answers) - len(waiting))
            return [answer.result() for answer in answers]
        finally:
            stop.set()

    def _engines(self) -> list[Engine]:
        """The students' engines, loaded."""
        engines = list({id(answerer.engine): answerer.engine for answerer in self.bindings.values()}.values())
        if not self._is_loaded:
            with self.clock.running():
                for engine in engines:
                    engine.student  # noqa: B018 - it loads when it is first named
            self._is_loaded = True
        return engines
