"""Who may call the resident process over HTTP.

The Unix socket is protected by its file mode. On a TCP port, requests that a web page of another origin could have sent
are refused (DNS rebinding, cross-site requests), and the token is checked where there is one.
"""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from memlora_mlx.serve.listening import LOOPBACK


class Guard:
    """ASGI middleware in front of the resident process's application.

    Args:
        token: what a client must send as `Authorization: Bearer TOKEN`; None asks for nothing.
        hosts: names that the `Host` header may have besides those of the loopback interface.
        any_address: also allow a `Host` that is an IP address, which cannot be rebound; for ports open to a network.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None = None, hosts: tuple[str, ...] = (), any_address: bool = False
    ) -> None:
        self._app, self._token, self._any_address = app, token, any_address
        self._hosts = {*LOOPBACK, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = scope.get("server")
        is_unix_socket = server is not None and server[1] is None
        if scope["type"] != "http" or is_unix_socket:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if (problem := self._problem(headers)) is not None:
            code, line = problem
            error = {"message": line, "type": "invalid_request_error", "code": None, "param": None}
            await JSONResponse({"error": error}, code)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _problem(self, headers: Headers) -> tuple[int, str] | None:
        host, origin = _host_of("//" + headers.get("host", "")), headers.get("origin")
        if not self._is_allowed(host):
            return 421, "this Host is not served; use the address that memlora serve printed"
        if origin is not None and not self._is_allowed(_host_of(origin)):
            return 403, "requests of other origins are refused"
        if headers.get("sec-fetch-site") == "cross-site":
            return 403, "requests of other sites are refused"
        if self._token is not None:
            kind, _, given = headers.get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(given.strip().encode(), self._token.encode())
            if kind.lower() != "bearer" or not is_right:
                return 401, "the token is missing or wrong; send it as Authorization: Bearer TOKEN"
        return None

    def _is_allowed(self, host: str) -> bool:
        return host in self._hosts or (self._any_address and _is_address(host))


def _host_of(url: str) -> str:
    """The host name in a URL; "" where there is none, which is never allowed."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
