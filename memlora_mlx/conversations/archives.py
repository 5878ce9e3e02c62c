"""ZIP archives, read where they are: nothing is unpacked onto the disk, and what they hold is bounded."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from memlora_mlx.conversations.model import FormatError
from memlora_mlx.text import clean_name

MAX_MEMBERS = 200_000
MAX_TEXT_BYTES = 2 << 30  # of all text members together, unpacked
MAX_MEMBER_BYTES = 512 << 20
MAX_RATIO = 200  # unpacked to packed; text of chats packs 3 to 20 times
MIN_CHECKED_BYTES = 1 << 20  # of smaller members the ratio does not matter
TEXT_SUFFIXES = (".json", ".jsonl", ".txt", ".md", ".vtt", ".srt", ".html")
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive that may hold conversations."""

    path: PurePosixPath
    info: zipfile.ZipInfo


def is_archive(head: bytes) -> bool:
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")


@contextmanager
def open_archive(stream: BinaryIO | Path) -> Iterator[zipfile.ZipFile]:
    """An archive whose members are few enough. Raises FormatError: it is damaged or not a usual one."""
    try:
        archive = zipfile.ZipFile(stream)
    except _FAULTS as error:
        raise FormatError(f"is a damaged ZIP archive ({error}); get a complete copy") from error
    with archive:
        if len(archive.infolist()) > MAX_MEMBERS:
            raise FormatError(f"has more than {MAX_MEMBERS} files in it; extract what you need and read that")
        yield archive


def text_members(archive: zipfile.ZipFile) -> list[Member]:
    """The members that may hold conversations, in the order of their paths. Raises FormatError: they are too large."""
    found = []
    size = 0
    for info in archive.infolist():
        path = PurePosixPath(info.filename)
        hidden = any(part == "__MACOSX" or part.startswith(".") and part != ".." for part in path.parts)
        if info.is_dir() or hidden or path.suffix.lower() not in TEXT_SUFFIXES:
            continue
        _check(info)
        size += info.file_size
        if size > MAX_TEXT_BYTES:
            raise FormatError(f"holds more than {MAX_TEXT_BYTES >> 30} GB of text; extract what you need and read that")
        found.append(Member(path, info))
    return sorted(found, key=lambda member: str(member.path))


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int = MAX_MEMBER_BYTES) -> bytes:
    """A member's bytes, never more than the limit, whatever the archive says of its size.

    Raises:
        FormatError: it is too large, packed too well to be what it seems, damaged, or encrypted.
    """
    _check(info)
    name = clean_name(info.filename)
    try:
        with archive.open(info) as stream:
            data = stream.read(limit + 1)
    except _FAULTS as error:
        raise FormatError(f"{name} in the archive cannot be read ({error}); get a complete copy") from error
    if len(data) > limit:
        raise FormatError(f"{name} in the archive is larger than {limit >> 20} MB; extract and split it")
    return data


def _check(info: zipfile.ZipInfo) -> None:
    name = clean_name(info.filename)
    if info.flag_bits & 1:
        raise FormatError(f"{name} in the archive is encrypted; extract it first")
    if info.file_size > MIN_CHECKED_BYTES and info.file_size > MAX_RATIO * max(1, info.compress_size):
        raise FormatError(
            f"{name} in the archive unpacks to over {MAX_RATIO} times its size; extract it yourself if you trust it"
        )
    if info.file_size > MAX_MEMBER_BYTES:
        raise FormatError(f"{name} in the archive is larger than {MAX_MEMBER_BYTES >> 20} MB; extract and split it")


def find_member(names: list[str], wanted: str, *, beside: str) -> str | None:
    """The name of the member that a conversation calls `wanted`: a path, a file's name, or how its name begins.

    Args:
        beside: the member of the conversation, in whose folder is looked first.
    """
    wanted = wanted.removeprefix("./")
    if not wanted or wanted.endswith("/"):
        return None
    folder = str(PurePosixPath(beside).parent)
    for path in (f"{folder}/{wanted}".removeprefix("./"), wanted):
        if path in names:
            return path
    base = PurePosixPath(wanted).name
    endings = [name for name in names if name.endswith(f"/{wanted}") or PurePosixPath(name).name == base]
    if not endings and "." not in base and len(base) > 8:  # an id, before the name that the user gave
        endings = [name for name in names if PurePosixPath(name).name.startswith(base)]
    return endings[0] if len(endings) == 1 else None


def read_picture(archive: Path, name: str, limit: int) -> bytes:
    """The bytes of a picture in an archive. Raises FormatError: it is not there, or as `read_member` says."""
    with open_archive(archive) as opened:
        try:
            info = opened.getinfo(name)
        except KeyError:
            raise FormatError(f"there is no picture {clean_name(name)} in {clean_name(archive.name)}") from None
        return read_member(opened, info, limit)
