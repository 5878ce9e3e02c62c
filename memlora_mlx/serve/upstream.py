"""The server that the resident process stands before as a proxy: LM Studio, Ollama, mlx_lm.server, or any of that API."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from memlora_mlx.errors import MemloraError
from memlora_mlx.serve.listening import upstream_address

# No time limit for an answer: a large model may think for minutes before its first token.
_TIMEOUT = httpx2.Timeout(None, connect=10.0)
_MAX_EVENT = 4 << 20  # bytes of one line of a stream that are kept to be read
# Of the client's headers only these go on: its Authorization is for memlora, and its cookies and addresses for nobody.
_FORWARDED = ("content-type", "accept", "user-agent")


class UpstreamFailed(MemloraError):
    """The upstream server cannot be reached, or its answer broke off."""


@dataclass(slots=True)
class ReplyText:
    """Collects the words of a reply while its bytes pass by."""

    text: str = ""
    has_tool_calls: bool = False
    is_finished: bool = False
    _rest: bytes = field(default=b"", repr=False)

    def read_stream(self, data: bytes) -> None:
        """Take a piece of a stream of server-sent events."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:_MAX_EVENT]
        for line in lines:
            if line.startswith(b"data:"):
                self._read(line[5:].strip(), "delta")

    def read_whole(self, data: bytes) -> None:
        """Take the body of a reply that is not a stream."""
        self._read(data, "message")
        self.is_finished = True

    def _read(self, data: bytes, name: str) -> None:
        if data == b"[DONE]":
            self.is_finished = True
            return
        try:
            choice = json.loads(data)["choices"][0]
            message = choice.get(name) or {}
            self.text += message.get("content") or ""
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return  # a line that is no part of the reply: usage, an error, a comment
        self.has_tool_calls = self.has_tool_calls or bool(message.get("tool_calls"))
        self.is_finished = self.is_finished or choice.get("finish_reason") is not None


class Upstream:
    """A client of the upstream server. Redirects are not followed and proxies are not used, so the key reaches this
    server and nobody else.

    Args:
        url: where its API begins, as in http://127.0.0.1:1234/v1; without a path it is /v1.
        key: sent as `Authorization: Bearer KEY`.

    Raises:
        UsageError: see `listening.upstream_address`.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = upstream_address(url)
        self._key = key
        self._client = httpx2.AsyncClient(timeout=_TIMEOUT, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: Mapping[str, Any] | bytes | None = None
    ) -> httpx2.Response:
        """Send a request on; the caller reads the response and closes it.

        Args:
            headers: the client's; few of them go on.

        Raises:
            UpstreamFailed: the server cannot be reached.
        """
        kept = {name: headers[name] for name in _FORWARDED if name in headers} | {"accept-encoding": "identity"}
        if self._key is not None:
            kept["authorization"] = f"Bearer {self._key}"
        content = json.dumps(body).encode() if isinstance(body, Mapping) else body
        request = self._client.build_request(method, f"{self.url}{path}", headers=kept, content=content)
        try:
            return await self._client.send(request, stream=True)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            kind = type(error).__name__
            raise UpstreamFailed(f"the upstream server {self.url} does not answer ({kind}); is it running?") from error


async def pieces_of(response: httpx2.Response) -> AsyncGenerator[bytes]:
    """The body of a response as it comes; the response is closed at the end.

    Raises:
        UpstreamFailed: it broke off.
    """
    try:
        async for piece in response.aiter_bytes():
            yield piece
    except httpx2.TransportError as error:
        raise UpstreamFailed(f"the upstream server broke off its answer ({type(error).__name__}); try again") from error
    finally:
        await response.aclose()
