"""HTTPS for the package index: certificates, proxy, credentials, redirects and retries as its settings say."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import netrc
import os
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import httpx2

from memlora_mlx.errors import DownloadFailed
from memlora_mlx.models.index_settings import IndexSettings
from memlora_mlx.text import printable_line

MAX_REDIRECTS = 10
MAX_PAGE_BYTES = 32_000_000  # of an index page
CHUNK = 1 << 18
_CONNECT_SECONDS = 15.0  # whatever the timeout is: a machine without a network should say so soon
_PORTS = {"http": 80, "https": 443}
T = TypeVar("T")


class Unreachable(Exception):
    """No answer, or not a whole one, however often it was tried; `str` says why and what to do."""


class Refused(Exception):
    """The server answered, but not with the file; `str` says what it did and what to do."""


class _TryAgain(Exception):
    """A server that is busy or broken for the moment."""


def shown(url: str) -> str:
    """The URL for a person to read: no credentials, no query."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that is no URL"
    return f"{parts.scheme}://{host}{parts.path}"


class Web:
    """Reads pages and saves files; a context manager that holds the connections."""

    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._clients: dict[bool, httpx2.Client] = {}  # by whether certificates are checked
        given = [parts for url in (*settings.indexes, *settings.links) if (parts := _split(url)) is not None]
        self._plain = {_origin(parts) for parts in given if parts.scheme == "http"}
        self._credentials = {_origin(parts): _userinfo(parts) for parts in given if parts.username}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()

    def page(self, url: str, accept: str) -> tuple[str, str, bytes] | None:
        """Its address after redirects, its content type and its bytes; None where there is none.

        Raises:
            Unreachable, Refused
        """

        def once() -> tuple[str, str, bytes] | None:
            with self._answer(url, {"Accept": accept}) as (found, response):
                if response.status_code in (404, 410):
                    return None
                _check_status(found, response)
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > MAX_PAGE_BYTES:
                        raise Refused(f"{shown(found)} is longer than any index page; check the index's address")
                return found, response.headers.get("Content-Type", ""), bytes(content)

        return self._tried(url, once)

    def save(self, url: str, target: Path, most_bytes: int, report: Callable[[int, int], None]) -> str:
        """Write the file at `url` to `target` and return its SHA-256.

        Args:
            most_bytes: a longer file is refused.
            report: told bytes done and bytes in all (0: not known).

        Raises:
            Unreachable, Refused
            OSError: it cannot be written.
        """

        def once() -> str:
            digest, done = hashlib.sha256(), 0
            with self._answer(url, {"Accept-Encoding": "identity"}) as (found, response), target.open("wb") as file:
                _check_status(found, response)
                length = response.headers.get("Content-Length", "")
                total = int(length) if length.isascii() and length.isdecimal() else 0
                _check_size(found, total, most_bytes)
                for chunk in response.iter_bytes(CHUNK):
                    done += len(chunk)
                    _check_size(found, done, most_bytes)
                    digest.update(chunk)
                    file.write(chunk)
                    report(done, total)
            return digest.hexdigest()

        return self._tried(url, once)

    @contextlib.contextmanager
    def _answer(self, url: str, headers: dict[str, str]) -> Iterator[tuple[str, httpx2.Response]]:
        """The answer that is no redirect, and its address; each step on the way is checked."""
        for _ in range(MAX_REDIRECTS):
            parts = self._allowed(url)
            bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
            client = self._client(is_checked=not self._is_trusted(parts))
            try:
                request = client.build_request("GET", bare, headers=headers)
            except httpx2.InvalidURL:
                raise Refused(f"{shown(url)} is no address to fetch from; check the index's address") from None
            response = client.send(request, auth=self._login(parts), stream=True)
            try:
                if not response.has_redirect_location:
                    yield bare, response
                    return
                url = _joined(bare, response.headers["Location"])
            finally:
                response.close()
        raise Refused(f"{shown(url)} redirects without end; check the index's address")

    def _allowed(self, url: str) -> SplitResult:
        """Raises Refused, but for https, and for http to this machine or to an index that was set up so."""
        parts = _split(url)
        if parts is not None and (
            parts.scheme == "https"
            or (
                parts.scheme == "http"
                and (_is_loopback(parts) or _origin(parts) in self._plain or self._is_trusted(parts))
            )
        ):
            return parts
        raise Refused(f"{shown(url)} is not https; give pip the index's https address")

    def _is_trusted(self, parts: SplitResult) -> bool:
        host, port = _origin(parts)[1:]
        return bool({host, f"{host}:{port}"} & self._settings.trusted_hosts)

    def _login(self, parts: SplitResult) -> tuple[str, str] | None:
        """User and password: the URL's own, those of an index on the same server, or those of the netrc file."""
        if parts.username:
            return _userinfo(parts)
        if _origin(parts) in self._credentials:
            return self._credentials[_origin(parts)]
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if found := netrc.netrc(os.environ.get("NETRC")).authenticators(str(parts.hostname)):
                return found[0] or "", found[2] or ""
        return None

    def _client(self, *, is_checked: bool) -> httpx2.Client:
        if is_checked not in self._clients:
            settings = self._settings
            timeout = httpx2.Timeout(settings.timeout_seconds, connect=min(settings.timeout_seconds, _CONNECT_SECONDS))
            verify = _tls(settings) if is_checked else False
            try:
                self._clients[is_checked] = httpx2.Client(verify=verify, proxy=settings.proxy, timeout=timeout)
            except (ValueError, ImportError, httpx2.InvalidURL):  # whose words have the proxy's password
                line = "the proxy cannot be used; look at HTTPS_PROXY, ALL_PROXY and the `proxy` of `pip config list`"
                raise DownloadFailed(line) from None
        return self._clients[is_checked]

    def _tried(self, url: str, once: Callable[[], T]) -> T:
        """What `once` returns, after a few more tries where the network fails. Raises Unreachable."""
        for attempt in range(self._settings.retries + 1):
            try:
                return once()
            except (httpx2.RequestError, _TryAgain) as error:
                if attempt == self._settings.retries:
                    raise Unreachable(_reason(url, error)) from None
            time.sleep(min(0.5 * 2**attempt, 8.0))
        raise AssertionError("the last try returns or raises")


def _reason(url: str, error: Exception) -> str:
    says = printable_line(error) or type(error).__name__
    if isinstance(error, _TryAgain):
        return f"{shown(url)} {says}; try again later"
    if "CERTIFICATE_VERIFY_FAILED" in says:
        return f"the certificate of {shown(url)} is not trusted here ({says}); set pip's `cert`, or SSL_CERT_FILE"
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return f"there is no network, or {shown(url)} is down ({says}); try again later"
    return f"{shown(url)} did not send the whole answer ({says}); try again later"


def _check_size(url: str, size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise Refused(f"{shown(url)} sends more than {most_bytes} bytes; check the index's address")


def _check_status(url: str, response: httpx2.Response) -> None:
    status = response.status_code
    if status == 429 or status >= 500:
        raise _TryAgain(f"answered {status} each time")
    if status in (401, 403):
        raise Refused(f"{shown(url)} answered {status}: give its user and password in the index's URL or in ~/.netrc")
    if status != 200:
        raise Refused(f"{shown(url)} answered {status}; check the index's address")


def _tls(settings: IndexSettings) -> ssl.SSLContext | bool:
    if settings.certificates is None and settings.client_certificate is None:
        return True
    try:
        context = ssl.create_default_context()
        if settings.certificates is not None:
            path = Path(settings.certificates).expanduser()
            folder = path.is_dir()
            context = ssl.create_default_context(
                cafile=None if folder else str(path), capath=str(path) if folder else None
            )
        if settings.client_certificate is not None:
            context.load_cert_chain(Path(settings.client_certificate).expanduser())
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or type(error).__name__
        raise DownloadFailed(
            f"the certificates of pip's `cert` or `client-cert` cannot be read ({reason}); see `pip config list`"
        ) from None
    return context


def _split(url: str) -> SplitResult | None:
    """The URL's parts; None where it is none."""
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and (parts.port is None or parts.port) else None
    except ValueError:
        return None


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise Refused(f"{shown(url)} redirects to what is no URL; check the index's address") from None


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)


def _userinfo(parts: SplitResult) -> tuple[str, str]:
    return unquote(parts.username or ""), unquote(parts.password or "")


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
