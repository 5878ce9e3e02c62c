"""The pieces of an answer as a generator, from whatever calls back with them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def streamed(
    submit: Callable[[Callable[[str], None], threading.Event], Future[T]], cancelled: threading.Event | None
) -> Generator[str, None, T]:
    """The answer in pieces; its return value is the result. Leaving the loop sets `cancelled`.

    Args:
        submit: begins the work. It is given what to call with each piece, from any thread, and what stops the work.
        cancelled: set it to stop the work, too.
    """
    pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    stop = cancelled or threading.Event()
    answer = submit(pieces.put, stop)
    answer.add_done_callback(lambda _: pieces.put(None))
    try:
        while (piece := pieces.get()) is not None:
            yield piece
        return answer.result()
    finally:
        stop.set()
