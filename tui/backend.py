"""The models and memories behind the screens. They are opened once, outside the event loop.

Work that may take longer than a frame goes through `Backend.run`, which runs it on a thread. Only the engine's own
thread calls the model. A screen awaits the result, so the keyboard is never blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Literal, TypeVar

from memlora_mlx.errors import MemloraError
from memlora_mlx.settings import Settings

if TYPE_CHECKING:
    from memlora_mlx.memory.engine import RemoteEngine
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.models.engine import Engine
    from memlora_mlx.records import Scope

T = TypeVar("T")

THREADS = 8  # calls at the same time; most of them wait for the engine's thread
LoadPhase = Literal["waiting", "opening", "loading", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """The state of the models, as the status bar shows it."""

    phase: LoadPhase
    student: str | None = None
    seconds: float = 0.0  # spent on opening and loading so far
    has_vision: bool = False  # the student can read images
    problem: str | None = None  # why there is no student, in one line


class Backend:
    """One workspace for all screens.

    Args:
        models_folder: where the models are, if not below the settings' home.
        tell: is told in one line, on any thread, why a resident process that runs is not used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        models_folder: Path | None = None,
        tell: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.settings, self._models_folder, self._tell = settings, models_folder, tell
        self._workspace: Workspace | None = None
        self._lock = threading.RLock()
        self._free, self._calls = threading.Condition(), 0  # number of running calls that use the workspace
        self._pool = ThreadPoolExecutor(THREADS, "memlora-tui")
        self._status = BackendStatus("waiting")
        self._began = monotonic()
        self.memories = 0  # of the user; see `refresh_counts`
        self.has_network_activity = "offline"  # shown in the status bar; a download changes it while it runs
        self.corrections = 0  # training examples made from the user's corrections

    @property
    def status(self) -> BackendStatus:
        status = self._status
        if status.phase in ("opening", "loading"):
            return replace(status, seconds=monotonic() - self._began)
        return status

    @property
    def engine(self) -> Engine | RemoteEngine | None:
        """The engine, if it runs, or that of the resident process. Use it to read figures; requests go through `run`."""
        workspace = self._workspace
        return None if workspace is None else workspace.__dict__.get("memory_engine")

    @property
    def index_percent(self) -> int | None:
        """How much of the large search indexes is built, while one is being built."""
        from memlora_mlx.memory.store.upkeep import index_progress

        store = None if self._workspace is None else self._workspace.__dict__.get("store")
        progress = None if store is None else index_progress(store)
        return None if progress is None else 100 * progress.done // max(1, progress.total)

    @property
    def models_folder(self) -> Path:
        return self._models_folder or self.settings.models_folder

    @property
    def owner(self) -> Scope:
        from memlora_mlx.records import Scope

        return Scope(user_id=self.settings.user)

    async def run(self, function: Callable[[Workspace], T]) -> T:
        """Call a function with the workspace on a thread and return its result.

        Raises:
            MemloraError: the workspace cannot be opened, or the function raises it.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._call, function)

    async def load(self) -> None:
        """Open the store and load the models, so that the first question does not wait for them.

        Raises:
            MemloraError: the store cannot be opened, or a model is missing or broken.
        """
        await self.run(self._load)

    async def refresh_counts(self) -> None:
        """Bring `memories` and `corrections` up to date."""
        from memlora_mlx.memory.corrections import count_corrections

        self.memories = await self.run(lambda workspace: workspace.store.count(self.owner))
        self.corrections = await self.run(lambda _: count_corrections(self.settings.home))

    def change_limit(self, limit: int) -> None:
        """Give replies at most so many memories from now on."""
        self.settings = replace(self.settings, limit=limit)

    async def reopen(self, **changes: object) -> None:
        """Close the models and open them with changed settings, such as another student or expert mode.

        Raises:
            MemloraError: the models cannot be opened. The settings are changed nevertheless.
        """

        def close() -> None:
            with self._lock:
                self._close()
                self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]

        await asyncio.get_running_loop().run_in_executor(self._pool, close)
        await self.load()

    def close(self) -> None:
        """Stop the engine and save the indexes. Waits for running calls."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._close()
        self._pool.shutdown(wait=True)

    def _close(self) -> None:
        """Cancel the requests to the engine, wait for running calls, and close. The lock is held."""
        workspace, self._workspace = self._workspace, None
        if workspace is None:
            return
        for name in ("memory_engine", "engine"):
            if (engine := workspace.__dict__.get(name)) is not None:
                engine.close()  # calls that wait for it raise EngineClosed
        with self._free:
            self._free.wait_for(lambda: self._calls == 0)  # do not close the store during a transaction
        workspace.close()

    # ------------------------------------------------------------------ on the pool's threads

    def _call(self, function: Callable[[Workspace], T]) -> T:
        with self._lock:
            workspace = self._open_workspace()
            with self._free:
                self._calls += 1
        try:
            return function(workspace)
        finally:
            with self._free:
                self._calls -= 1
                self._free.notify_all()

    def _open_workspace(self) -> Workspace:
        with self._lock:
            if self._workspace is None:
                from memlora_mlx.memory.workspace import Workspace
                from memlora_mlx.serve.resident_engine import resident_engine

                self._began = monotonic()
                self._status = BackendStatus("opening")
                workspace = Workspace(
                    self.settings,
                    models_folder=self._models_folder,
                    remote_engine=lambda opened: resident_engine(opened, self._tell),
                )
                try:
                    workspace.store  # noqa: B018 - build the cached properties once, under the lock
                    with contextlib.suppress(MemloraError):  # memories can be read without a model
                        workspace.memory_engine, workspace.pipeline  # noqa: B018
                except BaseException as error:
                    workspace.close()
                    self._status = BackendStatus("failed", problem=str(error))
                    raise
                self._workspace = workspace
            return self._workspace

    def _load(self, workspace: Workspace) -> None:
        try:
            name = workspace.student_name
            self._status = BackendStatus("loading", name)
            workspace.pipeline, workspace.memory_engine.student  # noqa: B018
            workspace.memory_engine.embed([name])
        except Exception as error:
            self._status = BackendStatus("failed", self._status.student, problem=str(error))
            raise
        self._status = BackendStatus("ready", name, has_vision=workspace.has_vision)
