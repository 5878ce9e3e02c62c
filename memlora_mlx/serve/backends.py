"""Where an operation is done: in this process, or in the resident one when it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from memlora_mlx.errors import EngineClosed, MemloraError
from memlora_mlx.memory.awaiting import finished
from memlora_mlx.memory.engine_identity import EngineIdentity, engine_identity
from memlora_mlx.serve import connection
from memlora_mlx.settings import Settings

if TYPE_CHECKING:
    from memlora_mlx.memory.api import Memory

log = logging.getLogger(__name__)

Progress = Callable[[int, str], None]
WORKERS = 16  # operations of one process at the same time; the store and the engine put them in order


class Backend(Protocol):
    """Runs operations by name (see `operations`)."""

    async def call(self, name: str, arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Raises MemloraError, or what the operation raises."""

    def close(self) -> None: ...


class LocalBackend:
    """Runs operations on threads of this process. Models load at the first call that needs them.

    Args:
        idle_seconds: without a call for so long, models and store are let go of; the next call opens them again.
    """

    def __init__(self, settings: Settings, *, idle_seconds: float | None = None) -> None:
        self.settings = settings
        self._idle_seconds = settings.unload_after * 60.0 if idle_seconds is None else idle_seconds
        self._lock = threading.Lock()
        self._memory: Memory | None = None
        self.identity: EngineIdentity | None = None  # of the models that are open
        self._running = 0
        self._last_used = time.monotonic()
        self._closed = threading.Event()
        self.pool = ThreadPoolExecutor(WORKERS, "memlora-call")
        threading.Thread(target=self._unload_when_idle, name="memlora-idle", daemon=True).start()

    @property
    def is_loaded(self) -> bool:
        return self._memory is not None

    def doing(self) -> list[str]:
        """What the student is working on, such as "chat"; empty while it is idle or not loaded."""
        memory = self._memory
        return list(memory.workspace.engine.activity().doing) if memory is not None else []

    async def call(self, name: str, arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        cancelled = threading.Event()
        work = self.pool.submit(self.run, name, arguments, progress, cancelled)
        return await finished(work, cancelled)

    def run(
        self, name: str, arguments: Mapping[str, Any], progress: Progress, cancelled: threading.Event
    ) -> dict[str, Any]:
        """Run an operation on this thread."""
        from memlora_mlx.serve.operations import Operations

        with self.opened() as memory:
            operations = Operations(memory, self.settings.user)
            return operations.call(name, arguments, progress=progress, cancelled=cancelled)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Memory]:
        """The memory, which stays open for the time of the `with` block. Raises EngineClosed after `close`."""
        memory = self._begin()
        try:
            yield memory
        finally:
            self._end()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[Memory]:
        """As `opened`, for a task of an event loop."""
        beginning = asyncio.get_running_loop().run_in_executor(None, self._begin)

        def end_late(done: asyncio.Future[Memory]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._end()

        try:
            memory = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(end_late)
            raise
        try:
            yield memory
        finally:
            self._end()

    def reopen(self) -> bool:
        """Let go of models and store if no call runs, so that the next one finds them as they are on the disk now."""
        with self._lock:
            if self._running or self._memory is None:
                return False
            self._memory.close()
            self._memory = self.identity = None
            return True

    def close(self) -> None:
        """Let go of models and store. Calls that still run end with `EngineClosed`."""
        self._closed.set()
        self.pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            if self._memory is not None:
                self._memory.close()
                self._memory = None

    def _begin(self) -> Memory:
        from memlora_mlx.memory.api import Memory

        with self._lock:
            if self._closed.is_set():
                raise EngineClosed("memlora is shutting down; try again when it runs")
            if self._memory is None:
                self._memory = Memory(self.settings)
                workspace = self._memory.workspace
                self.identity = engine_identity(workspace)
                workspace.engine, workspace.store  # noqa: B018 - opened once, under the lock
            self._running += 1
            return self._memory

    def _end(self) -> None:
        with self._lock:
            self._running -= 1
            self._last_used = time.monotonic()

    def _unload_when_idle(self) -> None:
        while not self._closed.wait(min(5.0, self._idle_seconds / 4)):
            with self._lock:
                is_idle = not self._running and time.monotonic() - self._last_used >= self._idle_seconds
                if self._memory is not None and is_idle:
                    self._memory.close()
                    self._memory = self.identity = None


class ChoosingBackend:
    """Calls the resident process when it runs, and works alone when it does not.

    The choice is made anew for each call. A call that the resident process could not finish, because it was killed, is
    made again here if that is safe: `add` carries a key, so it cannot store twice.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local: LocalBackend | None = None
        self._told: str | None = None

    async def call(self, name: str, arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        from memlora_mlx.serve.operations import REPEATABLE

        if name == "add":
            arguments = {"key": uuid.uuid4().hex, **arguments}
        if (resident := self._resident()) is not None:
            try:
                return await resident.call(name, arguments, progress)
            except connection.NotRunning:
                pass
            except connection.ConnectionLost as error:
                if name not in REPEATABLE:
                    raise MemloraError(
                        "the resident process ended during the call; look whether the change was made, then try again"
                    ) from error
        if self._local is None:
            self._local = LocalBackend(self._settings)
        return await self._local.call(name, arguments, progress)

    def _resident(self) -> connection.Resident | None:
        """The resident process, if it fits; why one does not is logged once."""
        resident = connection.find(self._settings.home)
        if resident is None or (reason := resident.misfit(self._settings)) is None:
            return resident
        if reason != self._told and resident.is_alive():
            self._told = reason
            log.warning("the resident process is not used because %s", reason)
        return None

    def close(self) -> None:
        if self._local is not None:
            self._local.close()


def error_json(error: Exception) -> dict[str, Any]:
    """An error as it goes over the wire."""
    known = isinstance(error, MemloraError)
    return {
        "type": type(error).__name__ if known else MemloraError.__name__,
        "message": str(error) if known else f"internal error: {type(error).__name__}",
    }
