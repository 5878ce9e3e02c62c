"""Which server of a teacher or judge is given which API key: a key goes to the host that it was set for, and to no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from memlora_mlx.errors import UsageError

NO_KEY = "none"  # what a server without a key is sent; the client does not work without one
_OPENAI = "https://api.openai.com/v1"


def server_keys(urls: Sequence[str], given: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The key of each server, by its base URL.

    Args:
        given: by the user for these servers: a key, or HOST=KEY where the servers have several hosts.
        environ: OPENAI_API_KEY in it is for the host of OPENAI_BASE_URL, which by default is OpenAI's own.

    Raises:
        UsageError: the servers have several hosts, and it is not said which one the key is for.
    """
    hosts = {url: _host(url) for url in urls}
    if given is None:
        key = environ.get("OPENAI_API_KEY") or NO_KEY
        owner = _host(environ.get("OPENAI_BASE_URL") or _OPENAI)
        return {url: key if host == owner else NO_KEY for url, host in hosts.items()}
    named, equals, key = given.partition("=")
    if equals and named.lower() in hosts.values():
        return {url: key if host == named.lower() else NO_KEY for url, host in hosts.items()}
    if len(set(hosts.values())) > 1:
        raise UsageError(
            f"The servers have several hosts, and a key goes to one of them only. Give --api-key {hosts[urls[0]]}=KEY."
        )
    return dict.fromkeys(urls, given)


def _host(url: str) -> str:
    """The host and port of a base URL, in small letters; of an invalid one, whatever there is of it."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()
