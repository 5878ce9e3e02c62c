"""Pages of a package index, in the two forms of the Simple API: HTML (PEP 503) and JSON (PEP 691)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import PurePosixPath
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"


@dataclass(frozen=True, slots=True)
class Link:
    """A file that a page links to."""

    filename: str
    url: str
    sha256: str | None  # None: the page does not say

    def is_wheel_of(self, distribution: str, version: str) -> bool:
        """Whether its name says that it is a wheel of that version, for any platform."""
        try:
            name, found, _, _ = parse_wheel_filename(self.filename)
        except InvalidWheelFilename:
            return False
        return name == canonicalize_name(distribution) and found == Version(version)


def read_links(url: str, content_type: str, content: bytes) -> list[Link]:
    """The links of the page that was found at `url`. Raises ValueError: it is no such page."""
    text = content.decode("utf-8", "replace")
    try:
        return list(_json_links(url, text) if "json" in content_type.lower() else _html_links(url, text))
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it is no page of a package index") from error


def _json_links(url: str, text: str) -> Iterator[Link]:
    for file in json.loads(text)["files"]:
        checksum = file["hashes"].get("sha256")
        yield Link(str(file["filename"]), urljoin(url, file["url"]), str(checksum).lower() if checksum else None)


def _html_links(url: str, text: str) -> Iterator[Link]:
    page = _Page(url)
    page.feed(text)
    page.close()
    for href in page.hrefs:
        target, fragment = urldefrag(urljoin(page.base, href))
        algorithm, _, checksum = fragment.partition("=")
        name = unquote(PurePosixPath(urlsplit(target).path).name)
        yield Link(name, target, checksum.lower() if algorithm == "sha256" and checksum else None)


class _Page(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.base, self.hrefs = url, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if href and tag == "base":
            self.base = urljoin(self.base, href)
        elif href and tag == "a":
            self.hrefs.append(href)
