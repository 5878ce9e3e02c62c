"""The pictures of a store: files named by the SHA-256 of their bytes, and how a message's image becomes one.

`<store>/images/ab/abcd....jpg` (or `.png`), and its thumbnail `.thumb.jpg` beside it. A picture is written before the
transaction that names it, so a crash leaves at most a file that nobody uses; `memlora doctor` collects those. It
lives as long as a memory uses it: when the last one is deleted it is erased at once, not only hidden, and an undo then
brings back the words and the caption alone. Where the student, not the user, deleted that memory, the picture stays for
`UNDO_DAYS`, so that the undo of a wrong decision loses nothing; `delete_all` erases it at once all the same.

While a picture is on its way into the store its file is young. The commit makes it older, and no file younger than
`GRACE_SECONDS` is ever taken for an orphan: another process may be about to name it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

from memlora_mlx.conversations.archives import read_picture
from memlora_mlx.conversations.model import FormatError
from memlora_mlx.errors import StoreBroken, UsageError
from memlora_mlx.files import private_folder
from memlora_mlx.memory import inputs
from memlora_mlx.memory.store.database import Database, translated_errors
from memlora_mlx.memory.store.image_normalisation import (
    MAX_FILE_BYTES,
    check_normalised,
    normalise_image,
    printable_source,
    read_image_file,
)
from memlora_mlx.records import Exchange, Image
from memlora_mlx.sealed_files import PLAIN, Sealer, sealed_path

UNDO_DAYS = 30
GRACE_SECONDS = 3600.0
_NAME = re.compile(r"([0-9a-f]{64})\.(jpg|png)")
_DIGEST = re.compile(r"[0-9a-f]{64}")

# By a memory, or by one that the student deleted not long ago from a conversation that is still here.
_IN_USE = """
    SELECT i.sha256 FROM memories m JOIN images i ON i.id = m.image WHERE i.sha256 IS NOT NULL
    UNION
    SELECT json_extract(h.before, '$.image.sha256') FROM history h
    WHERE h.event = 'DELETE' AND h.actor = 'model' AND h.undone_by IS NULL AND h.at > ?
        AND EXISTS (SELECT 1 FROM exchanges x WHERE x.key = json_extract(h.before, '$.exchange_key'))
"""


class ImageStore:
    """The picture files of one store.

    Args:
        keep_location: leave in a kept picture what its file tells of where and when it was taken.
        sealer: encrypts the files where the store is encrypted.
    """

    def __init__(self, folder: Path, *, keep_location: bool = False, sealer: Sealer = PLAIN) -> None:
        self.folder = folder
        self.sealer = sealer
        self.keep_location = keep_location

    # In

    def add(self, data: bytes, name: str) -> str:
        """Write a picture, if it is not there; returns its SHA-256.

        Raises:
            UsageError: see `normalise_image`.
            StoreError: the folder cannot be written.
        """
        picture = normalise_image(data, name, keep_location=self.keep_location)
        digest = hashlib.sha256(picture.data).hexdigest()
        self._put(digest, picture.suffix, picture.data, picture.thumbnail)
        return digest

    def restore(self, digest: str, data: bytes) -> bool:
        """Take back a picture that was kept before, byte for byte. Returns whether it was missing.

        Raises:
            UsageError: it is another one, or in no form that pictures are kept in.
        """
        if hashlib.sha256(data).hexdigest() != digest:
            raise UsageError(f"the picture {digest[:12]} does not have the SHA-256 it is named by")
        is_new = self.path(digest) is None
        self._put(
            digest, check_normalised(data, f"the picture {digest[:12]}"), data, normalise_image(data, digest).thumbnail
        )
        return is_new

    def store_image(self, image: Image, folder: Path | None, *, trusted: bool = False) -> Image:
        """A message's image with its picture in the store, if it is one that is here; a web address stays as it is.

        Args:
            folder: of the conversation's file, or the ZIP archive that it is in. A path is looked for in it and below,
                and nowhere else.
            trusted: the path comes from the user, not from a conversation, and may lie anywhere.

        Raises:
            UsageError: the picture cannot be read, or lies outside.
        """
        source = image.source
        if image.sha256 is not None or source[:8].lower().startswith(("http://", "https://")):
            return image
        if source[:5].lower() == "data:":
            digest = self.add(_data_url(source), "the picture in a message")
            return replace(image, source=f"data:{digest[:16]}", sha256=digest)
        if folder is None and not trusted:
            return image  # a path without a place it could be relative to is a reference
        if folder is not None and not trusted and folder.is_file():
            return replace(image, sha256=self.add(_in_archive(source, folder), printable_source(source)))
        path = _inside(source, folder) if folder is not None and not trusted else Path(source).expanduser()
        return replace(image, sha256=self.add(read_image_file(path), printable_source(source)))

    def store_exchange_images(
        self, exchange: Exchange, folder: Path | None, on_problem: Callable[[str], None], *, trusted: bool = False
    ) -> Exchange:
        """The exchange with its pictures in the store. One that cannot be kept stays a reference and is reported."""
        messages = []
        for message in exchange.messages:
            image = message.image
            if image is not None:
                try:
                    image = self.store_image(image, folder, trusted=trusted)
                except UsageError as error:
                    on_problem(str(error))
                    if image.source[:5].lower() == "data:":  # its bytes are no address
                        image = replace(image, source="data:")
            messages.append(message if image is message.image else replace(message, image=image))
        return replace(exchange, messages=tuple(messages))

    def confirm(self, digests: Iterable[str]) -> None:
        """Say that the store names these pictures now."""
        then = time.time() - GRACE_SECONDS
        for digest in digests:
            for path in self._files(digest):
                with contextlib.suppress(OSError):
                    os.utime(path, (then, then))

    # Out

    def path(self, digest: str | None) -> Path | None:
        """The file of a picture; None where it is not here. A link is never followed.

        Read it by `read_bytes`, which decrypts it where the store is encrypted.
        """
        if digest is None or not _DIGEST.fullmatch(digest):
            return None
        found = next((path for path in self._files(digest) if not path.name.endswith(".thumb.jpg")), None)
        return None if found is None else sealed_path(found, self.sealer)

    def thumbnail(self, digest: str | None) -> Path | None:
        """A small JPEG of a picture; the picture itself where the thumbnail is gone."""
        path = self.path(digest)
        small = Path(path).with_name(f"{digest}.thumb.jpg") if path else None
        return sealed_path(small, self.sealer) if small is not None and _is_plain(small) else path

    def erase(self, digests: Iterable[str]) -> int:
        """Remove the files of these pictures, except those that somebody is just keeping. Returns how many went."""
        gone = 0
        for digest in digests:
            files = self._files(digest)
            if any(_age(path) < GRACE_SECONDS - 1 for path in files):
                continue
            gone += bool(files)
            for path in files:
                with contextlib.suppress(OSError):
                    path.unlink()
            if files:
                with contextlib.suppress(OSError):
                    files[0].parent.rmdir()  # only when it is empty
        return gone

    def clear(self) -> None:
        """Remove all pictures."""
        if self.folder.is_symlink():
            self.folder.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_partial_files(self) -> None:
        """Remove what a kill has left half written."""
        for scrap in self.folder.glob("??/*.part"):
            if _is_plain(scrap) and _age(scrap) >= GRACE_SECONDS:
                scrap.unlink(missing_ok=True)

    def files(self) -> Iterator[Path]:
        """The pictures' files, links and thumbnails left out."""
        with contextlib.suppress(OSError):
            for part in sorted(self.folder.iterdir()):
                if part.is_dir() and not part.is_symlink():
                    yield from (path for path in sorted(part.iterdir()) if _NAME.fullmatch(path.name))

    def find_damaged(self) -> list[str]:
        """SHA-256 of the pictures whose bytes have changed since."""
        return [path.stem for path in self.files() if not _is_plain(path) or self._digest(path) != path.stem]

    def _digest(self, path: Path) -> str | None:
        """The SHA-256 of a picture; None where its file is damaged."""
        try:
            return hashlib.sha256(self.sealer.read(path)).hexdigest()
        except StoreBroken:
            return None

    def _put(self, digest: str, suffix: str, data: bytes, thumbnail: bytes) -> None:
        place = self.folder / digest[:2]
        with translated_errors(self.folder):
            if self.folder.is_symlink() or place.is_symlink():
                raise UsageError(f"{place} is a symbolic link that leads outside the store; remove it")
            private_folder(place)
            self._write(place / f"{digest}.thumb.jpg", thumbnail)
            self._write(place / f"{digest}.{suffix}", data)  # last: without it there is no picture

    def _write(self, path: Path, data: bytes) -> None:
        """Whole or not at all; a file that is there gets young again."""
        with contextlib.suppress(StoreBroken):
            if _is_plain(path) and self.sealer.is_current(path) and self.sealer.read(path) == data:
                os.utime(path)
                return
        self.sealer.write(path, data)

    def _files(self, digest: str) -> list[Path]:
        place = self.folder / digest[:2]
        if self.folder.is_symlink() or place.is_symlink():
            return []
        names = (f"{digest}.jpg", f"{digest}.png", f"{digest}.thumb.jpg")
        return [path for name in names if _is_plain(path := place / name)]


def images_in_use(connection: sqlite3.Connection, now: datetime) -> set[str]:
    """SHA-256 of the pictures that must stay."""
    return {row[0] for row in connection.execute(_IN_USE, [inputs.encode_time(now - timedelta(days=UNDO_DAYS))])} - {
        None
    }


def erase_released_images(
    images: ImageStore, database: Database, now: datetime, referenced: set[str], released: set[str]
) -> None:
    """After a transaction: confirm the images that rows now name, and erase those that nothing uses any more."""
    if not (referenced or released):
        return
    images.confirm(referenced)
    with database.read() as connection:
        images.erase(referenced.union(released) - images_in_use(connection, now))


def _inside(source: str, folder: Path) -> Path:
    """The path that a conversation names. Raises UsageError: it leads out of the folder, by links or otherwise."""
    if "://" in source[:64] and not source.startswith("file:///"):
        raise UsageError(f"{printable_source(source)} is not a supported image address; use a file path or a data: URL")
    try:
        if source.startswith("file:///"):
            source = unquote(source.removeprefix("file://"))
        base = folder.resolve()
        path = (base / source).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a loop of links, a name too long
        raise UsageError(f"{printable_source(source)} is no path ({error})") from error
    if not path.is_relative_to(base):
        raise UsageError(f"{printable_source(source)} lies outside the conversation's folder; copy the picture into it")
    return path


def _in_archive(source: str, archive: Path) -> bytes:
    """A picture in the archive of its conversation. Raises UsageError: it is not there, too large or damaged."""
    try:
        return read_picture(archive, source, MAX_FILE_BYTES)
    except (FormatError, OSError) as error:
        raise UsageError(f"the picture {printable_source(source)} cannot be read: {error}") from error


def _data_url(source: str) -> bytes:
    """Raises UsageError: the address has no picture in it."""
    head, comma, body = source.partition(",")
    if not comma or len(body) > MAX_FILE_BYTES * 4 // 3 + 4:
        raise UsageError(
            "the picture in a message is cut off or too large; a data: address is data:image/png;base64,..."
        )
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote(body), validate=True)
    except (binascii.Error, ValueError):
        raise UsageError("the picture in a message is not base64; its address is damaged or cut off") from None


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _age(path: Path) -> float:
    """Seconds since it was last on its way into the store."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
