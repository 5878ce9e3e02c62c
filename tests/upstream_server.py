"""A real server of OpenAI's chat API on a port of this machine, which keeps the requests it got."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class UpstreamServer:
    """What it answers, and what it was asked."""

    url: str = ""
    pieces: tuple[str, ...] = ("Hello", " from", " upstream")
    status: int = 200
    tool_calls: bool = False
    breaks_off: bool = False  # in the middle of a stream
    redirect: str | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)  # a stream waits for it before its last piece

    @property
    def last_text(self) -> str:
        content = self.bodies[-1]["messages"][-1]["content"]
        return content if isinstance(content, str) else json.dumps(content)


@contextlib.contextmanager
def upstream_server(**options: Any) -> Iterator[UpstreamServer]:
    state = UpstreamServer(**options)
    if "gate" not in options:
        state.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            state.headers.append(dict(self.headers))
            self._json(200, {"object": "list", "data": [{"id": "upstream-model", "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.bodies.append(body)
            state.headers.append(dict(self.headers))
            if state.redirect:
                self.send_response(307)
                self.send_header("location", state.redirect)
                self.end_headers()
            elif state.status != 200:
                self._json(state.status, {"error": {"message": "no such model", "type": "x"}})
            elif self.path.endswith("/embeddings"):
                self._json(200, {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}]})
            elif body.get("stream"):
                self._stream()
            else:
                message: dict[str, Any] = {"role": "assistant", "content": "".join(state.pieces)}
                if state.tool_calls:
                    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                    message = {"role": "assistant", "content": None, "tool_calls": [call]}
                self._json(200, {"id": "1", "object": "chat.completion", "created": 1, "model": "upstream-model",
                                 "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})  # fmt: skip

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for number, piece in enumerate(state.pieces):
                if number == len(state.pieces) - 1:
                    if state.breaks_off:
                        return
                    state.gate.wait(600)
                chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "upstream-model",
                         "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}  # fmt: skip
                self._write(f"data: {json.dumps(chunk)}\n\n")
            self._write("data: [DONE]\n\n")

        def _write(self, text: str) -> None:
            with contextlib.suppress(OSError):  # the client may be gone
                self.wfile.write(text.encode())
                self.wfile.flush()

        def _json(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        state.gate.set()
        server.shutdown()
        server.server_close()
