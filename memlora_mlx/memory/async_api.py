"""`AsyncMemory`: the methods of `Memory` for programs with an event loop, as Mem0's class of that name has them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from memlora_mlx.errors import MemloraError
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.awaiting import finished
from memlora_mlx.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
WORKERS = 8  # calls at the same time; the engine and the store put them in order


def _on_a_thread(
    method: Callable[Concatenate[Memory, P], T],
) -> Callable[Concatenate[AsyncMemory, P], Coroutine[Any, Any, T]]:
    """The method as a coroutine. One that takes `cancelled` stops when its task is cancelled."""
    can_stop = "cancelled" in inspect.signature(method).parameters

    @functools.wraps(method)
    async def call(self: AsyncMemory, /, *args: P.args, **kwargs: P.kwargs) -> T:
        stop = threading.Event()
        if can_stop and kwargs.get("cancelled") is None:
            kwargs["cancelled"] = stop
        work = self._pool.submit(self._run, functools.partial(method, self.memory, *args, **kwargs))
        return await finished(work, stop)

    return cast("Callable[Concatenate[AsyncMemory, P], Coroutine[Any, Any, T]]", call)


class AsyncMemory:
    """A long-term memory whose methods are those of `Memory`, to be awaited; arguments, results and errors are the same.

    Calls run on threads, several at once. Cancelling a task that adds stops the student before its next step. Close it with
    `await memory.close()`, or use it in an `async with` statement.

    Args:
        settings: as for `Memory`.
    """

    def __init__(self, settings: Settings | Mapping[str, object] | None = None) -> None:
        self.memory = Memory(settings)
        self._pool = ThreadPoolExecutor(WORKERS, "memlora-memory")
        self._opening, self._is_open = threading.Lock(), False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """As `Memory.from_config`. The result can be awaited too, as some releases of Mem0 want it."""
        return cls(Memory.from_config(config).workspace.settings)

    def __await__(self) -> Generator[Any, None, Self]:
        yield from ()
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for the calls that run, and close the memory."""
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self.memory.close)

    add = _on_a_thread(Memory.add)
    search = _on_a_thread(Memory.search)
    get = _on_a_thread(Memory.get)
    get_all = _on_a_thread(Memory.get_all)
    update = _on_a_thread(Memory.update)
    delete = _on_a_thread(Memory.delete)
    delete_all = _on_a_thread(Memory.delete_all)
    history = _on_a_thread(Memory.history)
    reset = _on_a_thread(Memory.reset)
    erase = _on_a_thread(Memory.erase)
    ask = _on_a_thread(Memory.ask)
    find = _on_a_thread(Memory.find)
    undo = _on_a_thread(Memory.undo)
    redo = _on_a_thread(Memory.redo)

    def _run(self, call: Callable[[], T]) -> T:
        with self._opening:  # once, not by several threads at the same moment
            if not self._is_open:
                with contextlib.suppress(MemloraError):  # the call itself says what is missing, if it needs it
                    self.memory.workspace.store, self.memory.workspace.engine  # noqa: B018
                self._is_open = True
        return call()
