"""How the resident process answers a call of memlora's own programs: lines of JSON, of which the last is the result or an error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from memlora_mlx.serve.backends import error_json

Send = Callable[[dict[str, Any]], None]


async def answer_lines(work: Callable[[Send], Awaitable[dict[str, Any]]]) -> AsyncIterator[str]:
    """What the work sends, and then its result or its error. Closing it cancels the work.

    Args:
        work: is given what to send a line with, from any thread.
    """
    loop = asyncio.get_running_loop()
    sent: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def send(line: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(sent.put_nowait, line)

    task = asyncio.ensure_future(work(send))
    task.add_done_callback(lambda _: sent.put_nowait(None))
    try:
        while (line := await sent.get()) is not None:
            yield json.dumps(line) + "\n"
        try:
            yield json.dumps({"result": task.result()}, default=str) + "\n"
        except Exception as error:
            yield json.dumps({"error": error_json(error)}) + "\n"
    finally:
        task.cancel()
