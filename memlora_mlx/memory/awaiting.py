"""Wait on an event loop for work that runs on a thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def finished(work: Future[T], stop: threading.Event) -> T:
    """The result of the work. If the task that waits is cancelled, `stop` is set, and how the work then ends is nobody's concern."""
    waiting = asyncio.wrap_future(work)
    waiting.add_done_callback(_retrieve)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        stop.set()
        raise


def _retrieve(done: asyncio.Future[T]) -> None:
    """Look at an error, so that the loop does not report one that a cancelled call has caused."""
    if not done.cancelled():
        done.exception()
