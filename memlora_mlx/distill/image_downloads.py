"""Download the images that conversations link to: one request at a time for each host, limited in size, and resumable.

One thread processes the URLs of a host in order and waits between requests, so no host gets two requests at the same time. A
dead link is counted and not tried again. The next run tries again what failed for a temporary reason (a timeout, a 503).
"""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from memlora_mlx import __version__
from memlora_mlx.distill.journal import Journal
from memlora_mlx.errors import Cancelled, UsageError
from memlora_mlx.files import atomic_write
from memlora_mlx.memory.store.image_normalisation import normalise_image
from memlora_mlx.text import printable_line

USER_AGENT = f"memlora/{__version__} (research; builds a VQA benchmark; one request a host at a time)"
MAX_BYTES = 20 << 20  # of one image
CONCURRENCY = 8  # hosts at the same time
DELAY_SECONDS = 1.0  # between two requests to a host
TIMEOUT_SECONDS = 20.0  # for the first byte; the whole image may take three times as long
FINAL_STATUSES = ("kept", "dead", "no image", "too large")  # not tried again

DownloadStatus = Literal["kept", "dead", "no image", "too large", "failed"]


def download_images(
    urls: Iterable[str],
    folder: Path,
    journal: Journal,
    *,
    concurrency: int = CONCURRENCY,
    delay_seconds: float = DELAY_SECONDS,
    timeout_seconds: float = TIMEOUT_SECONDS,
    max_bytes: int = MAX_BYTES,
    on_progress: Callable[[Counter[str]], None] | None = None,
    cancelled: threading.Event | None = None,
) -> Counter[str]:
    """Download images into `<folder>/images`. The journal then has the status of each URL.

    Returns how many URLs have each status.

    Raises:
        Cancelled: `cancelled` was set; the downloaded images are kept.
        UsageError: the folder cannot be written.
    """
    hosts: defaultdict[str, list[str]] = defaultdict(list)
    requested = list(dict.fromkeys(urls))
    for url in requested:
        if not is_finished(journal.entries.get(url), folder):
            hosts[_host(url)].append(url)
    opener = urllib.request.OpenerDirector()  # handles neither file: nor ftp:, not even after a redirect
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    stop = cancelled or threading.Event()
    failed = threading.Event()  # for example a full disk: the other hosts stop as well

    def work(urls: list[str]) -> None:
        for number, url in enumerate(urls):
            if failed.is_set() or (stop.wait(delay_seconds) if number else stop.is_set()):
                return
            try:
                journal.add(url, **_download(opener, url, folder, timeout_seconds, max_bytes))
            except BaseException:
                failed.set()
                raise
            if on_progress:
                on_progress(count_by_status(requested, journal))

    with ThreadPoolExecutor(max_workers=max(1, concurrency)) as pool:
        for future in [pool.submit(work, urls) for urls in sorted(hosts.values(), key=len, reverse=True)]:
            future.result()
    if stop.is_set():
        raise Cancelled("Stopped. Downloaded images are saved; run the same command to continue.")
    return count_by_status(requested, journal)


def count_by_status(urls: Iterable[str], journal: Journal) -> Counter[str]:
    return Counter(entry["status"] for url in urls if (entry := journal.entries.get(url)))


def is_finished(entry: dict[str, Any] | None, folder: Path) -> bool:
    """Whether there is nothing to download: the file is there, or the URL has no usable image."""
    if entry is None or entry.get("status") not in FINAL_STATUSES:
        return False
    return entry["status"] != "kept" or (folder / str(entry.get("file"))).is_file()


def save_image(data: bytes, name: str, folder: Path) -> dict[str, Any]:
    """Write a normalised image. Returns its journal entry.

    Raises:
        UsageError: the data is not an image.
        OSError: it cannot be written.
    """
    image = normalise_image(data, name)
    digest = hashlib.sha256(image.data).hexdigest()
    file = folder / "images" / f"{digest}.{image.suffix}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, image.data, private=False)
    except OSError as error:
        raise OSError(
            f"Cannot write {file.parent} ({error.strerror or error}). Free disk space or choose another folder."
        ) from error
    return {"status": "kept", "sha256": digest, "file": f"images/{file.name}", "bytes": len(image.data)}


def _download(
    opener: urllib.request.OpenerDirector, url: str, folder: Path, timeout: float, most_bytes: int
) -> dict[str, Any]:
    status: DownloadStatus = "failed"
    try:
        data = _read(opener, url, timeout, most_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        gone = error.code < 500 and error.code not in (408, 425, 429)  # also a redirect to something other than http
        status, says = "dead" if gone else "failed", f"HTTP {error.code}"
    except urllib.error.URLError as error:
        says = f"no answer ({printable_line(error.reason, 200)})"
    except OverflowError as error:
        status, says = "too large", str(error)
    except (OSError, http.client.HTTPException) as error:
        says = f"interrupted ({printable_line(error, 200) or type(error).__name__})"
    except ValueError as error:  # not a URL
        status, says = "dead", printable_line(error, 200)
    else:
        try:
            return save_image(data, "it", folder)
        except UsageError as error:
            status, says = "no image", printable_line(error, 200)
        except OSError as error:
            raise UsageError(str(error)) from error
    return {"status": status, "says": says}


def _read(opener: urllib.request.OpenerDirector, url: str, timeout: float, most_bytes: int) -> bytes:
    if not url.lower().startswith(("http://", "https://")) or not _host(url):
        raise ValueError("not a web address")
    address = quote(url, safe="%/:=&?~#+!$,;'@()*[]")  # it may contain spaces or umlauts
    request = urllib.request.Request(address, headers={"User-Agent": USER_AGENT, "Accept": "image/*"})
    until = time.monotonic() + 3 * timeout
    chunks: list[bytes] = []
    size = 0
    with opener.open(request, timeout=timeout) as answer:
        length = answer.headers.get("Content-Length") or "0"
        if length.isdigit() and int(length) > most_bytes:
            raise OverflowError(f"larger than {most_bytes} bytes")
        while chunk := answer.read1(1 << 16):
            chunks.append(chunk)
            size += len(chunk)
            if size > most_bytes:
                raise OverflowError(f"larger than {most_bytes} bytes")
            if time.monotonic() > until:
                raise TimeoutError("too slow")
    if length.isdigit() and size < int(length):
        raise http.client.IncompleteRead(b"")
    return b"".join(chunks)


def _host(url: str) -> str:
    """The host of a URL; empty if the URL is malformed."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
