"""The engine of the resident process, as a command uses it instead of loading models of its own.

A request to an engine changes nothing, so one that the resident process did not finish is made again by an engine of this
process. What is stored is written by this process either way, so commands do the same with and without a resident process.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from memlora_mlx.errors import Cancelled, EngineClosed, MemloraError
from memlora_mlx.records import Activity, Completion, Priority, Request
from memlora_mlx.serve import connection
from memlora_mlx.serve.connection import ConnectionLost, NotRunning
from memlora_mlx.streaming import streamed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memlora_mlx.memory.engine import MemoryEngine, StudentLimits
    from memlora_mlx.memory.workspace import Workspace

T = TypeVar("T")

CHECK_SECONDS = 0.05  # between two looks at whether a request was cancelled
MAX_TEXTS = 1_000_000  # characters of one call, each up to six bytes of JSON; the resident process takes bodies of 8 MB


@dataclass(frozen=True, slots=True)
class _Limits:
    context: int


def resident_engine(workspace: Workspace, tell: Callable[[str], object]) -> ResidentEngine | None:
    """The engine of the resident process of this workspace's data folder; None where none runs that fits.

    Args:
        tell: is told in one line why a resident process that runs is not used.
    """
    resident = connection.find(workspace.settings.home)
    if resident is None:
        return None
    if (reason := resident.misfit()) is not None:
        if resident.is_alive():
            tell(f"The resident process is not used because {reason}.")
        return None
    from memlora_mlx.memory.engine_identity import engine_identity

    return ResidentEngine(resident, engine_identity(workspace), lambda: workspace.engine, tell)


class ResidentEngine:
    """Asks the resident process, and from the first call that it does not answer on, an engine of this process.

    Args:
        identity: of the models that must answer, see `engine_identity`.
        own_engine: the engine of this process; called when it is needed.
        tell: is told in one line why the resident process is not used any more.
    """

    def __init__(
        self,
        resident: connection.Resident,
        identity: Mapping[str, str],
        own_engine: Callable[[], MemoryEngine],
        tell: Callable[[str], object],
    ) -> None:
        self._resident, self._identity, self._tell = resident, identity, tell
        self._own_engine = own_engine
        self._lock = threading.Lock()
        self._is_alone = self._was_reached = False
        self._limits: _Limits | None = None
        self._closed = threading.Event()
        self._ways: set[connection.UnixConnection] = set()
        self._stages: Counter[str] = Counter()  # of the requests that wait for an answer
        self._pieces = 0

    # ------------------------------------------------------------------ what the memory asks

    @property
    def student(self) -> StudentLimits:
        if self._limits is None:
            found = self._ask(lambda: int(self._call("student", {})["context"]), lambda engine: engine.student.context)
            self._limits = _Limits(found)
        return self._limits

    def submit(
        self,
        request: Request,
        *,
        priority: Priority = Priority.INTERACTIVE,
        on_text: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Future[Completion]:
        """A thread of its own waits for each answer; it does not keep the process alive."""
        answer: Future[Completion] = Future()

        def wait() -> None:
            self._count(request, 1)
            try:
                answer.set_result(self._complete(request, priority, on_text, cancelled or threading.Event()))
            except BaseException as error:
                answer.set_exception(error)
            finally:
                self._count(request, -1)

        threading.Thread(target=wait, name="memlora-request", daemon=True).start()
        return answer

    def complete(self, request: Request, *, on_text: Callable[[str], None] | None = None) -> Completion:
        return self.submit(request, on_text=on_text).result()

    def stream(self, request: Request, *, cancelled: threading.Event | None = None) -> Generator[str, None, Completion]:
        return streamed(lambda give, stop: self.submit(request, on_text=give, cancelled=stop), cancelled)

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        texts = list(texts)
        if not texts or sum(map(len, texts)) > MAX_TEXTS:
            return self._own_engine().embed(texts, query=query)

        def ask() -> NDArray[np.float32]:
            from memlora_mlx.serve.engine_wire import vectors_from_json

            return vectors_from_json(self._call("embed", {"texts": texts, "query": query}))

        return self._ask(ask, lambda engine: engine.embed(texts, query=query))

    def count_tokens(self, chat: Sequence[tuple[str, str]], image: Path | None = None) -> int:
        body = {"chat": list(chat), "image": str(image.absolute()) if image is not None else None}
        return self._ask(
            lambda: int(self._call("count_tokens", body)["tokens"]), lambda engine: engine.count_tokens(chat, image)
        )

    def activity(self) -> Activity:
        """What is asked for here; the tokens are the pieces of text that came."""
        with self._lock:
            doing = tuple(sorted(stage for stage, count in self._stages.items() if count))
        return Activity(doing, self._pieces, (0, 0), 0)

    def close(self) -> None:
        """Cancel what still runs."""
        self._closed.set()
        with self._lock:
            for way in self._ways:
                way.cut()

    # ------------------------------------------------------------------ how it is asked

    def _count(self, request: Request, change: int) -> None:
        with self._lock:
            self._stages[request.stage or "chat"] += change

    def _complete(
        self,
        request: Request,
        priority: Priority,
        on_text: Callable[[str], None] | None,
        cancelled: threading.Event,
    ) -> Completion:
        from memlora_mlx.serve.engine_wire import completion_from_json, request_to_json

        given = _GivenText(on_text)
        body = {"request": request_to_json(request), "priority": int(priority), "pieces": on_text is not None}

        def again(engine: MemoryEngine) -> Completion:
            on_rest = given.again if on_text is not None else None
            return engine.submit(request, priority=priority, on_text=on_rest, cancelled=cancelled).result()

        return self._ask(lambda: completion_from_json(self._call("complete", body, given.first, cancelled)), again)

    def _ask(self, ask: Callable[[], T], alone: Callable[[MemoryEngine], T]) -> T:
        """What the resident process answers, or an engine of this process where it does not."""
        if not self._is_alone:
            try:
                return ask()
            except (NotRunning, ConnectionLost, EngineClosed, connection.OtherModels) as error:
                if self._closed.is_set():
                    raise EngineClosed("the engine was closed") from error
                self._go_alone(error)
        return alone(self._own_engine())

    def _go_alone(self, error: MemloraError) -> None:
        with self._lock:
            if self._is_alone:
                return
            self._is_alone = True
        if isinstance(error, connection.OtherModels):
            self._tell(f"The resident process is not used because {error}.")
        elif self._was_reached:
            self._tell("The resident process has ended; this command goes on with models of its own.")

    def _call(
        self,
        name: str,
        body: Mapping[str, Any],
        on_text: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> dict[str, Any]:
        """One call over a connection of its own. To close the connection cancels the call."""
        content = json.dumps({**body, "identity": dict(self._identity)})
        with contextlib.closing(connection.UnixConnection(self._resident.socket_path)) as way:
            try:
                way.connect()
            except OSError as error:
                raise NotRunning("the resident process does not answer") from error
            self._was_reached = True
            with self._watched(way, cancelled):
                try:
                    way.request("POST", f"/engine/{name}", content)
                    return connection.read_answer(way.getresponse(), lambda message: self._give(message, on_text))
                except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                    if cancelled is not None and cancelled.is_set():
                        raise Cancelled("the request was cancelled") from error
                    raise ConnectionLost("the resident process ended during the call") from error

    def _give(self, message: Mapping[str, Any], on_text: Callable[[str], None] | None) -> None:
        if on_text is not None and "text" in message:
            self._pieces += 1
            on_text(message["text"])

    @contextlib.contextmanager
    def _watched(self, way: connection.UnixConnection, cancelled: threading.Event | None) -> Iterator[None]:
        """A block during which the connection is cut when the request is cancelled or this engine is closed."""
        done = threading.Event()

        def watch(cancelled: threading.Event) -> None:
            while not done.wait(CHECK_SECONDS):
                if cancelled.is_set():
                    way.cut()
                    return

        with self._lock:
            self._ways.add(way)
        if self._closed.is_set():
            way.cut()
        if cancelled is not None:
            threading.Thread(target=watch, args=(cancelled,), name="memlora-cancel", daemon=True).start()
        try:
            yield
        finally:
            done.set()
            with self._lock:
                self._ways.discard(way)


class _GivenText:
    """Passes the pieces of an answer on, and when the answer is made again, only what was not passed on before."""

    def __init__(self, on_text: Callable[[str], None] | None) -> None:
        self._on_text = on_text or (lambda piece: None)
        self._given = self._made = ""

    def first(self, piece: str) -> None:
        self._given += piece
        self._on_text(piece)

    def again(self, piece: str) -> None:
        """Raises ConnectionLost: the second answer is another one than the first."""
        before, self._made = self._made, self._made + piece
        common = min(len(self._given), len(self._made))
        if self._made[:common] != self._given[:common]:
            raise ConnectionLost("the resident process ended in the middle of an answer; ask again")
        if rest := self._made[max(len(before), len(self._given)) :]:
            self._on_text(rest)
