"""Where the resident process listens and what it passes chats on to. Nothing of a server is imported to check that."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from memlora_mlx.errors import UsageError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """Where the resident process listens besides its Unix socket."""

    port: int | None = None  # None: nowhere; 0: a free one
    host: str = "127.0.0.1"
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    upstream: str | None = None  # the address of the server that chats are passed on to
    upstream_key: str | None = None


def check_options(options: ListenOptions) -> None:
    """Raises UsageError: an address beyond the loopback interface without a token, or an upstream that cannot be one."""
    if options.port is not None and options.host not in LOOPBACK and not options.token:
        raise UsageError(f"--host {options.host} opens memlora to a network; give a token with --token-file")
    if options.upstream is not None:
        upstream = urlsplit(upstream_address(options.upstream))
        if options.port and upstream.port == options.port and upstream.hostname in (*LOOPBACK, options.host):
            raise UsageError("--upstream is this server itself; give the address of the server that replies")


def upstream_address(url: str) -> str:
    """Where the upstream's API begins. Raises UsageError: the URL is not one of HTTP, or holds a user name or password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise UsageError(
            "the upstream is no web address without a password; give an address such as http://127.0.0.1:1234/v1"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"
