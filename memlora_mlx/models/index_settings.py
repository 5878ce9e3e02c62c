"""Where this machine gets Python packages from, as pip and uv are set up here.

pip's environment variables and configuration files are read as pip reads them (without pip): `index-url`,
`extra-index-url`, `find-links`, `no-index`, `cert`, `client-cert`, `proxy`, `trusted-host`, `timeout` and `retries` of
the sections global, install and download. uv's environment variables are read too.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PYPI = "https://pypi.org/simple"
TIMEOUT_SECONDS = 15.0
RETRIES, MAX_RETRIES = 3, 5
_SECTIONS = ("global", "install", "download")
_TRUE = ("1", "y", "yes", "t", "true", "on")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Places that may have a wheel, in the order to look, and how to reach them. URLs may hold credentials."""

    links: tuple[str, ...] = ()  # URLs of folders and pages that link to wheels
    indexes: tuple[str, ...] = (PYPI,)  # URLs of package indexes, without a slash at the end
    certificates: str | None = None  # a file or folder of trusted certificates; None: the system's
    client_certificate: str | None = None
    proxy: str | None = None  # None: as the environment says
    trusted_hosts: frozenset[str] = frozenset()  # "host" or "host:port": no check of certificates, and http is allowed
    timeout_seconds: float = TIMEOUT_SECONDS
    retries: int = RETRIES


def read_index_settings(environ: Mapping[str, str] | None = None) -> IndexSettings:
    """The settings of pip and uv for this process and user."""
    environ = os.environ if environ is None else environ
    pip = _pip_options(environ)
    no_index = _is_true(pip.get("no-index")) or _is_true(environ.get("UV_NO_INDEX"))
    own = pip.get("index-url") or environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    more = [pip.get("extra-index-url"), environ.get("UV_INDEX"), environ.get("UV_EXTRA_INDEX_URL")]
    indexes = [own or PYPI, *(word for words in more for word in (words or "").split())]
    links = f"{pip.get('find-links', '')} {environ.get('UV_FIND_LINKS', '').replace(',', ' ')}".split()
    certificates = pip.get("cert")
    if not certificates and not environ.get("SSL_CERT_FILE"):  # which the HTTP library knows itself
        certificates = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
    return IndexSettings(
        links=_unique(_url(word) for word in links),
        indexes=() if no_index else _unique(_url(_unnamed(word)).rstrip("/") for word in indexes),
        certificates=certificates or None,
        client_certificate=pip.get("client-cert"),
        proxy=pip.get("proxy"),
        trusted_hosts=frozenset(pip.get("trusted-host", "").lower().split()),
        timeout_seconds=_number(pip.get("timeout") or pip.get("default-timeout"), TIMEOUT_SECONDS),
        retries=min(int(_number(pip.get("retries"), RETRIES)), MAX_RETRIES),
    )


def _pip_options(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's options, each from the last place that sets it: the files, then the environment."""
    found: dict[str, str] = {}
    for file in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself says what is wrong with it
        for section in _SECTIONS:
            found |= {_name(key): value for key, value in (parser.items(section) if section in parser else ()) if value}
    variables = {key.removeprefix("PIP_"): value for key, value in environ.items() if key.startswith("PIP_")}
    return found | {_name(key): value for key, value in variables.items() if value}


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """The configuration files that pip reads, the weakest first; those that are not there too."""
    own = environ.get("PIP_CONFIG_FILE")
    if own == os.devnull:  # pip's way to read none
        return
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    if sys.platform == "darwin":
        library = Path("Library/Application Support")
        yield "/" / library / "pip/pip.conf"
        user = home / library if (home / library / "pip").is_dir() else home / ".config"
    else:
        for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
            yield Path(folder, "pip/pip.conf")
        yield Path("/etc/pip.conf")
    yield home / ".pip/pip.conf"
    yield user / "pip/pip.conf"
    yield Path(sys.prefix, "pip.conf")
    if own:
        yield Path(own)


def _name(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() in _TRUE


def _number(value: str | None, default: float) -> float:
    try:
        return max(float(value), 0.0) if value else default
    except ValueError:
        return default


def _unnamed(word: str) -> str:
    """uv writes an index as `name=url` too."""
    name, equals, url = word.partition("=")
    return url if equals and name.replace("-", "").replace("_", "").replace(".", "").isalnum() else word


def _url(word: str) -> str:
    return word if "://" in word or word.startswith("file:") else Path(word).expanduser().absolute().as_uri()


def _unique(words: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))
