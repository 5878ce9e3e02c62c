"""The real `mem0ai` on the same student: its own long prompts, its own store, through a local `mlx_lm.server`.

Needs the extra `mem0` (mem0ai 1.0.x, the last releases with two stages). Nothing leaves the machine: its telemetry is
turned off, and language model and embedder are two servers on the loopback.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from memlora_mlx.errors import MemloraError
from memlora_mlx.extras import require
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange

Endpoint = Callable[[dict[str, Any]], Mapping[str, Any]]  # the JSON asked, to the JSON answered

# The same BLAS as ours: a baseline that is slow for a reason we mended would flatter us.
_SERVER = "import memlora_mlx.models; from mlx_lm.server import main; main()"
_SERVER_SECONDS = 120  # to start
_ANSWER_SECONDS = 3600  # its prompts are long, and the machine may be busy: a client that gave up finds the answer kept


@contextmanager
def mem0_memory(
    workspace: Workspace, *, chat: AbstractContextManager[str] | None = None, embed: Any = None
) -> Iterator[Any]:
    """A `mem0.Memory` over the workspace's student and embedder, in a folder of its own.

    Args:
        chat: gives the address of the language model's server; by default an `mlx_lm.server` of the student.
        embed: texts to vectors; by default the engine's.

    Raises:
        ExtraMissing: mem0ai is not installed.
        MemloraError: the local language model server does not start.
    """
    require("mem0", "the comparison with mem0ai 1.0.x")
    endpoint = _embeddings(embed or workspace.engine.embed)
    with (
        tempfile.TemporaryDirectory() as folder,
        _server({"/embeddings": endpoint}) as embedder,
        chat or mlx_server(workspace) as address,
    ):
        os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": folder}  # read when it is imported
        from mem0 import Memory

        openai = {"api_key": "none", "temperature": 0.0, "max_tokens": 512}
        model = str(workspace.student_folder)
        yield Memory.from_config(
            {
                "llm": {"provider": "openai", "config": {**openai, "model": model, "openai_base_url": address}},
                "embedder": {
                    "provider": "openai",
                    "config": {
                        "model": "local",
                        "api_key": "none",
                        "openai_base_url": embedder,
                        "embedding_dims": workspace.embedding_fingerprint.dim,
                    },
                },
                "vector_store": {
                    "provider": "qdrant",
                    "config": {"path": f"{folder}/qdrant", "embedding_model_dims": workspace.embedding_fingerprint.dim},
                },
                "history_db_path": f"{folder}/history.db",
            }
        )


def add_seconds(memory: Any, exchanges: Sequence[Exchange]) -> tuple[list[float], int]:
    """Seconds of each `add`, and how many memories there are afterwards."""
    taken = []
    for exchange in exchanges:
        messages = [{"role": m.role, "content": f"{m.speaker}: {m.text}"} for m in exchange.messages]
        start = time.perf_counter()
        memory.add(messages, user_id=exchange.owner.user_id)
        taken.append(time.perf_counter() - start)
    owners = {exchange.owner.user_id for exchange in exchanges}
    return taken, sum(len(memory.get_all(user_id=owner)["results"]) for owner in owners)


@contextmanager
def mlx_server(workspace: Workspace) -> Iterator[str]:
    """The address of an `mlx_lm.server` of the student, which runs as long as the block."""
    port = _free_port()
    command = [
        sys.executable,
        "-c",
        _SERVER,
        "--model",
        str(workspace.student_folder),
        "--port",
        str(port),
        "--temp",
        "0",
    ]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_until_up(f"http://127.0.0.1:{port}/health", server)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait()


def _wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _SERVER_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise MemloraError("mlx_lm.server does not start; try `mlx_lm.server --model FOLDER` by hand")


class StudentServer:
    """An `mlx_lm.server` that starts with the first question that nobody has asked yet.

    A context manager that gives its address. `remember` and `recall` keep answers between runs.

    Args:
        recall: the answer to a request that was answered before, or None.
        remember: told each new request and its answer.
        count: told each answer: the request, input and output tokens, seconds.
        running: entered while the student works.
    """

    failure: MemloraError | None = None  # why the server did not start

    def __init__(
        self,
        workspace: Workspace,
        recall: Callable[[Mapping[str, Any]], Any],
        remember: Callable[[Mapping[str, Any], Mapping[str, Any]], None],
        count: Callable[[Mapping[str, Any], int, int, float], None],
        running: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._workspace, self._running = workspace, running
        self._recall, self._remember, self._count = recall, remember, count
        self._open = ExitStack()
        self._address: str | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> str:
        return self._open.enter_context(_server({"/chat/completions": self._answer}))

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _answer(self, asked: dict[str, Any]) -> Mapping[str, Any]:
        with self._lock:
            known = self._recall(asked)
            if known is None:
                with self._running():
                    known = self._ask(asked)
                self._remember(asked, known)
            usage = known["answer"].get("usage") or {}
            prompt, output = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
            self._count(asked, prompt, output, known["seconds"])
            return dict(known["answer"])

    def _ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        if self._address is None:
            try:
                self._address = self._open.enter_context(mlx_server(self._workspace))
            except MemloraError as error:
                self.failure = error
                raise
        start = time.perf_counter()
        body, kind = json.dumps(asked).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._address}/chat/completions", body, kind)
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:
            return {"answer": json.loads(response.read()), "seconds": time.perf_counter() - start}


def _embeddings(embed: Callable[[Sequence[str]], Any]) -> Endpoint:
    """OpenAI's embeddings endpoint over an encoder."""

    def answer(asked: dict[str, Any]) -> Mapping[str, Any]:
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        rows = embed(texts)
        data = [{"object": "embedding", "index": i, "embedding": row.tolist()} for i, row in enumerate(rows)]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return {"object": "list", "data": data, "model": "local", "usage": usage}

    return answer


@contextmanager
def _server(endpoints: Mapping[str, Endpoint]) -> Iterator[str]:
    """OpenAI's endpoints on the loopback; gives their address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                status, answer = 200, endpoints[self.path.removeprefix("/v1")](asked)
            except Exception as error:  # the client is told, and decides
                status, answer = 500, {"error": {"message": str(error)}}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
