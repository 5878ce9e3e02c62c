"""Work on threads that an event loop waits for."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from memlora_mlx.errors import Cancelled
from memlora_mlx.memory.awaiting import finished


def test_work_whose_waiter_was_cancelled_is_told_to_stop_and_nobody_is_told_how_it_ended() -> None:
    reported: list[dict[str, Any]] = []
    stop = threading.Event()

    def work() -> None:
        assert stop.wait(30)
        raise Cancelled("the call was cancelled")

    async def session() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(work)
            waiting = asyncio.create_task(finished(running, stop))
            await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
        await asyncio.sleep(0)  # the loop hears that the work has ended
        del running, waiting
        gc.collect()

    asyncio.run(session())
    assert stop.is_set() and reported == []


def test_the_error_of_work_reaches_its_waiter() -> None:
    def work() -> None:
        raise ValueError("no")

    async def session() -> None:
        with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="no"):
            await finished(pool.submit(work), threading.Event())

    asyncio.run(session())
