"""Real servers for the tests of this folder: `memlora mcp` and `memlora serve` as processes of their own."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
from cli_home import start_command
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult

from memlora_mlx.serve import connection

post = functools.partial(httpx2.post, timeout=600)  # seconds; a busy machine is no fault


@contextlib.asynccontextmanager
async def stdio_client(environ: Mapping[str, str]) -> AsyncIterator[Client]:
    """The SDK's client, connected to `memlora mcp` over its standard streams."""
    server = StdioServerParameters(command=sys.executable, args=["-m", "memlora_mlx", "mcp"], env=dict(environ))
    async with Client(server, read_timeout_seconds=600) as client:
        yield client


@contextlib.contextmanager
def resident_process(environ: Mapping[str, str], *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """`memlora serve`, ready to be called; stopped at the end."""
    process = start_command(environ, "serve", *arguments)
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("memlora listens on"), first + process.stderr.read()
    drained = threading.Thread(target=process.stderr.read, daemon=True)
    drained.start()
    try:
        yield process
    finally:
        process.terminate()
        process.wait(600)


def resident_of(home: Path) -> connection.Resident:
    found = connection.find(home)
    assert found is not None
    return found


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured result of a tool that must succeed."""
    result: CallToolResult = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """The error text of a tool that must fail."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    [content] = result.content
    return str(getattr(content, "text", ""))


def wait_until(is_so: Callable[[], bool], seconds: float = 600.0) -> None:
    """Wait for what another process does; fails when it does not come."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def messages_of(home: Path, user: str) -> list[str]:
    """The words that were said to or by a user and are stored, in order."""
    connection = sqlite3.connect(home / "store" / "memories.db")
    try:
        rows = connection.execute(
            "SELECT m.text FROM messages m JOIN exchanges x ON x.id = m.exchange JOIN owners o ON o.id = x.owner"
            " WHERE o.user_id = ? ORDER BY x.id, m.position",
            (user,),
        )
        return [str(text) for (text,) in rows]
    finally:
        connection.close()
