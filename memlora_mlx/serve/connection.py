"""The way to the resident process: where its socket is, and how it is called.

This module loads nothing slow, because hooks and MCP clients start with it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import json
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlora_mlx import errors
from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.files import atomic_write

if TYPE_CHECKING:
    from memlora_mlx.settings import Settings

STATE_FILE = "serve.json"
SOCKET_NAME = "serve.sock"
MAX_SOCKET_PATH = 100  # bytes: macOS takes 104 with the NUL at the end, Linux 108


class NotRunning(MemloraError):
    """No resident process answers."""


class ConnectionLost(MemloraError):
    """The resident process ended, or closed the connection, before it answered."""


class OtherModels(MemloraError):
    """The resident process has other models than the caller; the message says which."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A resident process as its state file describes it."""

    socket_path: str
    pid: int
    url: str | None = None  # of its TCP port
    version: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)  # by which its operations go, see `shared_settings`

    def misfit(self, settings: Settings | None = None) -> str | None:
        """Why this process must not be used by a program of this version; None if it may.

        Args:
            settings: also those by which its operations must go.
        """
        if self.version != (own := _own_version()):
            return f"it is of version {self.version} and this is {own}; restart `memlora serve`"
        wanted = shared_settings(settings) if settings is not None else {}
        others = [name for name, value in wanted.items() if self.settings.get(name) != value]
        if others:
            return f"it has other settings ({', '.join(others)}); restart `memlora serve` with the same ones"
        return None

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
                    if (result := result_in(message)) is not None:
                        return result
                    if "progress" in message:
                        progress(message["progress"], message["what"])
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


@functools.cache
def _own_version() -> str:
    """Looked up once, because that takes longer than many a call."""
    from memlora_mlx import __version__

    return __version__


def find(home: Path) -> Resident | None:
    """The resident process of this data folder, if its state file is there; it may have been killed since.

    The file of a folder that was copied names the process of the other folder, and does not count.
    """
    try:
        state = json.loads((home / STATE_FILE).read_text(encoding="utf-8"))
        if os.path.realpath(state["home"]) != os.path.realpath(home):
            return None
        named = str(state["version"]), dict(state["settings"])
        return Resident(str(state["socket"]), int(state["pid"]), state.get("url"), *named)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_state(home: Path, resident: Resident) -> None:
    state = {"home": str(home.absolute()), "version": resident.version, "settings": dict(resident.settings)}
    place = {"socket": resident.socket_path, "pid": resident.pid, "url": resident.url}
    atomic_write(home / STATE_FILE, json.dumps({**place, **state}))


def shared_settings(settings: Settings) -> dict[str, str]:
    """The settings that say whose memories are meant and what may be stored of them."""
    return {name: str(getattr(settings, name)) for name in ("user", "keep_secrets", "keep_location", "protocol")}


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


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the resident process's socket.

    Args:
        timeout: seconds that each step may take; None waits.
    """

    def __init__(self, path: str, timeout: float | None = None) -> None:
        super().__init__("memlora")
        self._path, self._seconds = path, timeout

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        self.sock.connect(self._path)

    def cut(self) -> None:
        """End the connection, from any thread; whoever reads from it sees its end."""
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def read_answer(lines: Iterable[bytes], on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The result in the lines of an answer.

    Args:
        on_message: gets each line before the result.

    Raises:
        ConnectionLost: the lines ended before the result.
        MemloraError: what was raised there.
        ValueError, KeyError: it is no such answer.
    """
    for line in lines:
        message = json.loads(line)
        if (result := result_in(message)) is not None:
            return result
        on_message(message)
    raise ConnectionLost("the resident process ended during the call")


def result_in(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result, if this line of an answer is the last one. Raises the MemloraError that it holds instead."""
    if "error" in message:
        raise raised_there(message["error"])
    return dict(message["result"]) if "result" in message else None


def raised_there(given: Mapping[str, Any]) -> MemloraError:
    """The error that `backends.error_json` wrote, as one of the same kind."""
    name, line = str(given["type"]), str(given["message"])
    kind = OtherModels if name == OtherModels.__name__ else getattr(errors, name, MemloraError)
    return kind(line) if isinstance(kind, type) and issubclass(kind, MemloraError) else MemloraError(line)
