"""The way to the resident process: where its socket is, and how it is called.

This module loads nothing slow, because hooks and MCP clients start with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlora_mlx.errors import Cancelled, MemloraError, UsageError
from memlora_mlx.files import atomic_write

STATE_FILE = "serve.json"
SOCKET_NAME = "serve.sock"
MAX_SOCKET_PATH = 100  # bytes: macOS takes 104 with the NUL at the end, Linux 108


class NotRunning(MemloraError):
    """No resident process answers."""


class ConnectionLost(MemloraError):
    """The resident process ended, or closed the connection, before it answered."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A resident process as its state file describes it."""

    socket_path: str
    pid: int
    url: str | None = None  # of its TCP port

    async def call(
        self, name: str, arguments: Mapping[str, Any], progress: Callable[[int, str], None] = lambda done, what: None
    ) -> dict[str, Any]:
        """Run an operation there. Closing the call stops the operation.

        Raises:
            NotRunning: nobody listens on the socket.
            ConnectionLost: the process ended during the call.
            MemloraError: what the operation raised.
        """
        import httpx2

        timeout = httpx2.Timeout(None, connect=2.0)
        # Nothing is encrypted on a socket of this machine; to load certificates would take longer than most calls.
        transport = httpx2.AsyncHTTPTransport(uds=self.socket_path, verify=False)
        try:
            async with (
                httpx2.AsyncClient(transport=transport, timeout=timeout, base_url="http://memlora") as client,
                client.stream("POST", f"/call/{name}", json=dict(arguments)) as response,
            ):
                async for line in response.aiter_lines():
                    message = json.loads(line)
                    if "progress" in message:
                        progress(message["progress"], message["what"])
                    elif "result" in message:
                        return dict(message["result"])
                    elif "error" in message:
                        raise _error(message["error"])
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise NotRunning("the resident process does not answer; start it with `memlora serve`") from error
        except (httpx2.TransportError, json.JSONDecodeError) as error:
            raise ConnectionLost("the resident process ended during the call") from error
        raise ConnectionLost("the resident process ended during the call")

    def is_alive(self) -> bool:
        """Whether somebody listens on the socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            try:
                probe.connect(self.socket_path)
            except OSError:
                return False
        return True


def find(home: Path) -> Resident | None:
    """The resident process of this data folder, if its state file is there; it may have been killed since."""
    try:
        state = json.loads((home / STATE_FILE).read_text(encoding="utf-8"))
        return Resident(str(state["socket"]), int(state["pid"]), state.get("url"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_state(home: Path, resident: Resident) -> None:
    state = {"socket": resident.socket_path, "pid": resident.pid, "url": resident.url}
    atomic_write(home / STATE_FILE, json.dumps(state))


def socket_place(home: Path) -> Path:
    """The path for the socket: in the data folder, or where that path is too long for a socket, in a private folder
    of the system's temporary folder.

    Raises:
        UsageError: the private folder belongs to somebody else.
    """
    place = home.absolute() / SOCKET_NAME
    if len(os.fsencode(place)) <= MAX_SOCKET_PATH:
        return place
    name = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:12]
    for base in (tempfile.gettempdir(), "/tmp"):
        folder = Path(base, f"memlora-{os.getuid()}-{name}")
        if len(os.fsencode(folder / SOCKET_NAME)) <= MAX_SOCKET_PATH:
            break
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UsageError(f"{folder} is not a private folder of yours; remove it, or use a shorter --home")
    return folder / SOCKET_NAME


def _error(given: Mapping[str, Any]) -> MemloraError:
    error: MemloraError
    if given.get("kind") == "cancelled":
        error = Cancelled(str(given.get("message")))
    else:
        error = (
            UsageError(str(given.get("message")))
            if given.get("exit_code") == 2
            else MemloraError(str(given.get("message")))
        )
    return error
