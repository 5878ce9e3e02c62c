"""The real `mem0ai` on the same student: its own long prompts, its own store, through a local `mlx_lm.server`.

Needs the extra `bench` (mem0ai 1.0.x, the last releases with two stages). Nothing leaves the machine: its telemetry is
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

from memlora_mlx.errors import MemloraError
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange

# The same BLAS as ours: a baseline that is slow for a reason we mended would flatter us.
_SERVER = "import memlora_mlx.models; from mlx_lm.server import main; main()"
_SERVER_SECONDS = 120


def is_installed() -> bool:
    return find_spec("mem0") is not None


@contextmanager
def mem0_memory(workspace: Workspace) -> Iterator[Any]:
    """A `mem0.Memory` over the workspace's student and embedder, in a folder of its own.

    Raises:
        MemloraError: the local language model server does not start.
    """
    if not is_installed():
        raise MemloraError("the mem0 baseline needs mem0ai 1.0.x; pip install 'memlora-mlx[bench]'")
    with (
        tempfile.TemporaryDirectory() as folder,
        _embedding_server(workspace) as embedder,
        _chat_server(workspace) as chat,
    ):
        os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": folder}  # read when it is imported
        from mem0 import Memory

        openai = {"api_key": "none", "temperature": 0.0, "max_tokens": 512}
        model = str(workspace.student_folder)
        yield Memory.from_config(
            {
                "llm": {"provider": "openai", "config": {**openai, "model": model, "openai_base_url": chat}},
                "embedder": {
                    "provider": "openai",
                    "config": {
                        "model": "local",
                        "api_key": "none",
                        "openai_base_url": embedder,
                        "embedding_dims": workspace.space.dim,
                    },
                },
                "vector_store": {
                    "provider": "qdrant",
                    "config": {"path": f"{folder}/qdrant", "embedding_model_dims": workspace.space.dim},
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
def _chat_server(workspace: Workspace) -> Iterator[str]:
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


@contextmanager
def _embedding_server(workspace: Workspace) -> Iterator[str]:
    """OpenAI's embeddings endpoint over the engine's encoder."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            rows = workspace.engine.embed(texts)
            data = [{"object": "embedding", "index": i, "embedding": row.tolist()} for i, row in enumerate(rows)]
            usage = {"prompt_tokens": 0, "total_tokens": 0}
            body = json.dumps({"object": "list", "data": data, "model": "local", "usage": usage}).encode()
            self.send_response(200)
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
