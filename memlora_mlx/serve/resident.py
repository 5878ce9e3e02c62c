"""The resident process: one process that owns models and store, and answers on a Unix socket and maybe a TCP port."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from filelock import FileLock, Timeout
from mcp.server.transport_security import RequestBodyLimitMiddleware, TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from memlora_mlx import __version__
from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.serve import connection
from memlora_mlx.serve.answer_lines import Send, answer_lines
from memlora_mlx.serve.backends import LocalBackend, error_json
from memlora_mlx.serve.engine_calls import engine_routes
from memlora_mlx.serve.guard import Guard
from memlora_mlx.serve.listening import LOOPBACK, ListenOptions, check_options
from memlora_mlx.serve.mcp_server import memory_server
from memlora_mlx.serve.openai_api import OpenAIApi
from memlora_mlx.serve.queue_worker import QueueWorker, run_queued
from memlora_mlx.serve.upstream import Upstream
from memlora_mlx.serve.work_queue import WorkQueue
from memlora_mlx.settings import Settings

LOCK_FILE = "serve.lock"
MAX_BODY = 8 << 20  # bytes of one request


def application(backend: LocalBackend, queue: WorkQueue, upstream: Upstream | None = None) -> Starlette:
    """`/health`, `/call/NAME` and `/engine/NAME` for memlora's own programs, `/mcp` for clients of MCP, `/v1` for those of OpenAI's API."""
    server = memory_server(backend)
    # Requests were checked by `Guard`, which also knows the Unix socket.
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(streamable_http_path="/mcp", transport_security=unchecked)

    async def health(request: Request) -> Response:
        state = {"status": "ok", "version": __version__, "pid": os.getpid(), "doing": backend.doing()}
        return JSONResponse(state)

    async def call(request: Request) -> Response:
        try:
            arguments = json.loads(await request.body())
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            error = error_json(UsageError("the body must be a JSON object of arguments"))
            return JSONResponse({"error": error}, 400)

        def work(send: Send) -> Awaitable[dict[str, Any]]:
            return backend.call(
                request.path_params["name"], arguments, lambda done, what: send({"progress": done, "what": what})
            )

        return StreamingResponse(answer_lines(work), media_type="application/x-ndjson")

    app.router.routes += [Route("/health", health), Route("/call/{name}", call, methods=["POST"])]
    app.router.routes += [*engine_routes(backend), *OpenAIApi(backend, queue, upstream).routes()]
    return app


def serve(settings: Settings, options: ListenOptions, on_ready: Callable[[connection.Resident], None]) -> None:
    """Run until SIGINT or SIGTERM.

    Raises:
        UsageError: see `listening.check_options`.
        MemloraError: it runs already, or the address is taken.
    """
    check_options(options)
    upstream = Upstream(options.upstream, options.upstream_key) if options.upstream else None
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(settings.home / LOCK_FILE).acquire(timeout=0)
    except Timeout:
        running = connection.find(settings.home)
        number = f" as process {running.pid}" if running else ""
        raise MemloraError(f"memlora serve runs already{number} for {settings.home}; stop it first") from None
    with held, contextlib.ExitStack() as at_the_end:
        sockets = [_unix_socket(connection.socket_place(settings.home))]
        at_the_end.callback(Path(sockets[0].getsockname()).unlink, missing_ok=True)
        if options.port is not None:
            sockets.append(_tcp_socket(options.host, options.port))
        backend = LocalBackend(settings)
        at_the_end.callback(backend.close)
        worker = QueueWorker(WorkQueue(settings.home), partial(run_queued, backend))
        app = RequestBodyLimitMiddleware(application(backend, worker.queue, upstream), MAX_BODY)
        is_open = options.host not in LOOPBACK
        hosts = (*options.allowed_hosts, *((options.host, socket.gethostname()) if is_open else ()))
        guarded = Guard(app, token=options.token, hosts=hosts, any_address=is_open)
        config = uvicorn.Config(guarded, access_log=False, log_level="warning", timeout_graceful_shutdown=5)
        url = None
        if options.port is not None:
            shown = f"[{options.host}]" if ":" in options.host else options.host
            url = f"http://{shown}:{sockets[1].getsockname()[1]}"
        own = __version__, connection.shared_settings(settings)
        resident = connection.Resident(str(sockets[0].getsockname()), os.getpid(), url, *own)
        connection.write_state(settings.home, resident)
        at_the_end.callback((settings.home / connection.STATE_FILE).unlink, missing_ok=True)
        server = uvicorn.Server(config)

        def stop(number: int, frame: object) -> None:
            server.should_exit = True

        # For signals before uvicorn handles them, and because it raises the one that stopped it once more at its end.
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, stop)
        at_the_end.callback(worker.stop)
        worker.start()
        on_ready(resident)
        server.run(sockets)


def _unix_socket(place: Path) -> socket.socket:
    """A listening socket that only the user can connect to. One that a killed process left is replaced."""
    place.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # it is never open to others, not even between `bind` and `chmod`
    try:
        made.bind(str(place))
    finally:
        os.umask(before)
    made.listen(128)
    return made


def _tcp_socket(host: str, port: int) -> socket.socket:
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        raise MemloraError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
        ) from error
    made.listen(128)
    return made
