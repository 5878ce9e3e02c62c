"""A server that speaks OpenAI's protocol as a test wants it to, on the loopback."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = str | tuple[int, dict[str, str], bytes] | None  # a completion's text; status, headers and body; None: hang up


class LocalServer:
    """What a server was asked, and how it answers."""

    def __init__(self, answer: Callable[[str], Answer], *, seconds: float = 0.0) -> None:
        self.answer, self.seconds = answer, seconds
        self.asked: list[dict[str, Any]] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.url = ""
        self.stop: Callable[[], None] = lambda: None

    @property
    def prompts(self) -> list[str]:
        """The words of the last message of each request."""
        return [str(body["messages"][-1]["content"]) for body in self.asked]

    @property
    def most_often(self) -> int:
        """How often the same prompt was asked at most."""
        return max(Counter(self.prompts).values(), default=0)


@contextmanager
def local_server(answer: Callable[[str], Answer], *, seconds: float = 0.0, port: int = 0) -> Iterator[LocalServer]:
    """A running server.

    Args:
        answer: called with the words of the last message, by as many threads as there are requests.
        seconds: what each answer takes.
    """
    served = LocalServer(answer, seconds=seconds)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with served.lock:
                served.asked.append({**body, "path": self.path, "key": self.headers["Authorization"]})
                served.in_flight += 1
                served.most_in_flight = max(served.most_in_flight, served.in_flight)
            try:
                time.sleep(served.seconds)
                answer = served.answer(body["messages"][-1]["content"])
            finally:
                with served.lock:
                    served.in_flight -= 1
            if answer is None:
                self.close_connection = True
                self.connection.close()
                return
            status, headers, data = completion(answer) if isinstance(answer, str) else answer
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError, ValueError):  # the client was killed, or we hung up
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"

    def stop() -> None:
        server.shutdown()
        server.server_close()

    served.stop = stop
    try:
        yield served
    finally:
        stop()


def completion(text: str, finish: str = "stop") -> tuple[int, dict[str, str], bytes]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "big", "choices": [choice], "usage": usage}
    return 200, {}, json.dumps(body).encode()


def error_response(status: int, message: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, headers, json.dumps({"error": {"message": message, "type": "error", "code": status}}).encode()


def html_response(status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "text/html"}, b"<!doctype html><html><body>Welcome!</body></html>"
