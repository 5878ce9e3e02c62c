"""A package index on loopback, in both forms of the Simple API, that can misbehave in the usual ways."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Index:
    """What the server has and does; a test changes it as it likes."""

    project: str  # normalised name
    filename: str
    content: bytes
    form: str = "json"  # or "html"
    names_checksum: bool = True
    checksum: str = ""  # another one than the file's
    login: str = ""  # "user:password" that it asks for
    broken: int = 0  # so many answers are 503
    cut_short: int = 0  # so many downloads break off in the middle
    claims: int = 0  # bytes that the file is said to have
    redirects: dict[str, str] = field(default_factory=dict)  # path to where it has gone
    moved: dict[str, str] = field(default_factory=dict)  # path to the path whose content it has
    asked: list[str] = field(default_factory=list)
    address: str = ""

    @property
    def page(self) -> str:
        return f"/simple/{self.project}/"

    def simple(self) -> tuple[str, bytes]:
        checksum = self.checksum or hashlib.sha256(self.content).hexdigest()
        link = f"../../files/{self.filename}"
        if self.form == "json":
            hashes = {"sha256": checksum} if self.names_checksum else {}
            other = {"filename": "not-a-wheel.tar.gz", "url": "x", "hashes": {}}
            page = {"meta": {"api-version": "1.1"}, "name": self.project}
            page |= {"files": [other, {"filename": self.filename, "url": link, "hashes": hashes}]}
            return "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()
        fragment = f"#sha256={checksum}" if self.names_checksum else ""
        body = (
            f'<!DOCTYPE html><html><body><a href="x.tar.gz">x</a><a href="{link}{fragment}">the file</a></body></html>'
        )
        return "text/html; charset=utf-8", body.encode()


@contextlib.contextmanager
def serving(index: Index, tls: Path | None = None) -> Iterator[Index]:
    """Serve it, by HTTPS with the cert.pem and key.pem of a folder where one is given."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            path = self.path if self.path.startswith("/") else "/" + self.path.split("/", 3)[3]  # asked as a proxy
            login = "Basic " + base64.b64encode(index.login.encode()).decode()
            if index.login and self.headers.get("Authorization") != login:
                return self.answer(401, {}, b"")
            if index.broken:
                index.broken -= 1
                return self.answer(503, {}, b"")
            if path in index.redirects:
                return self.answer(302, {"Location": index.redirects[path]}, b"")
            path = index.moved.get(path, path)
            if path == index.page:
                kind, body = index.simple()
                return self.answer(200, {"Content-Type": kind}, body)
            if path == f"/files/{index.filename}":
                if index.cut_short:
                    index.cut_short -= 1
                    headers = {"Content-Length": str(len(index.content))}
                    return self.answer(200, headers, index.content[: len(index.content) // 2])
                return self.answer(200, {"Content-Length": str(index.claims or len(index.content))}, index.content)
            return self.answer(404, {}, b"")

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    index.address = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{server.server_port}"
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
