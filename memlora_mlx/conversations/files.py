"""A file's bytes -> its conversations."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from memlora_mlx.conversations.archives import find_member, is_archive, open_archive, read_member, text_members
from memlora_mlx.conversations.formats import format_named, parse_conversations
from memlora_mlx.conversations.formats.format import RowFormat
from memlora_mlx.conversations.formats.unread import BYTES
from memlora_mlx.conversations.model import (
    OWN_NAMES,
    Conversation,
    FormatError,
    Reading,
    ReadOptions,
    ReadReport,
    turn_text,
)
from memlora_mlx.errors import BadConversation, UsageError
from memlora_mlx.text import clean_name

MAX_FILE_BYTES = 512 << 20
MAX_ARCHIVE_BYTES = 8 << 30  # an archive stays on the disk, with its pictures and videos
_UTF16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks
MAX_LINE_BYTES = 32 << 20  # not for one JSON document, which exporters write as a single long line


def read_conversations(
    source: Path | BinaryIO, options: ReadOptions | None = None, report: ReadReport | None = None
) -> list[Conversation]:
    """All conversations of one file that hold at least one turn, in file order.

    Args:
        source: a file, `Path("-")` for standard input, or a binary stream. UTF-8, or UTF-16 with its byte order mark;
            or a ZIP archive, whose members are read in place.
        options: what the file cannot say by itself.
        report: is told what is left out, and of conversations that cannot be read while others can. Without one,
            such a conversation raises.

    Raises:
        UsageError: there is no such file, it is a folder, or it may not be read.
        BadConversation: it is empty, cut off, wrongly encoded, too large, of no known form, or nothing in it can be
            read.
    """
    name, stem, folder = "standard input", "stdin", None
    if isinstance(source, Path) and str(source) != "-":
        name, stem, folder = clean_name(str(source)), clean_name(source.stem), source.parent
    own = ReadReport()
    reading = Reading(options or ReadOptions(), own, name=name)
    try:
        found = [conversation for conversation in _read(source, reading) if conversation.sessions]
        if not found and not own.problems:
            left = own.notes()
            raise FormatError("holds no messages; is this the right file?" + (f" It has {left[0]}." if left else ""))
    except FormatError as fault:
        raise BadConversation(f"{name}: {fault}") from fault
    except IsADirectoryError:
        raise UsageError(f"{name} is a folder; name the conversation files in it") from None
    except FileNotFoundError:
        raise UsageError(f"there is no file {name}; check the path") from None
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror or error}") from error
    if own.problems and (report is None or not found):
        more = f" (and {len(own.problems) - 1} more like it)" if len(own.problems) > 1 else ""
        raise BadConversation(f"{own.problems[0]}{more}")
    if report is not None:
        report.problems += own.problems
        report.left_out.update(own.left_out)
        report.places = own.places | report.places
    names = [c.name or (stem if len(found) == 1 else f"{stem}#{c.position + 1}") for c in found]
    return [
        replace(_owned(c, reading.options), name=name, folder=c.folder or folder)
        for c, name in zip(found, names, strict=True)
    ]


def _owned(conversation: Conversation, options: ReadOptions) -> Conversation:
    """The conversation with those of its speakers marked who are the user.

    Among people, to be called "Me" is not enough: whoever wrote or exported the file calls himself so.
    """
    if conversation.format == "locomo":
        return conversation
    told = {name.casefold() for name in options.own_names}
    if any(turn.role == "assistant" for session in conversation.sessions for turn in session.turns):
        told |= OWN_NAMES | {""}
    own = frozenset(name for name in conversation.speakers if name.casefold() in told)
    return replace(conversation, own_speakers=own)


def _read(source: Path | BinaryIO, reading: Reading) -> Iterable[Conversation]:
    if isinstance(source, Path) and str(source) != "-":
        try:
            stream: BinaryIO = source.open("rb")
        except ValueError:  # a NUL in the path
            raise FileNotFoundError from None
        with stream:
            if is_archive(stream.read(4)):
                return _read_archive(source, source, reading)
            stream.seek(0)
            data = _read_bounded(stream)
        reading.find_picture = _beside(source.parent)
    else:
        data = _read_bounded(sys.stdin.buffer if isinstance(source, Path) else source)
        if is_archive(data):
            return _read_archive(io.BytesIO(data), None, reading)
    return list(parse_conversations(_text(data), reading))


def _text(data: bytes) -> str:
    text = _decode(data)
    return text if text.lstrip()[:1] in ("{", "[") else turn_text(text)


def _beside(folder: Path) -> Callable[[str], str | None]:
    """Looks for pictures beside a file or below its folder; a path never leaves it."""

    def find(name: str) -> str | None:
        try:
            path = (folder / name).resolve()
            return name if name and path.is_relative_to(folder.resolve()) and path.is_file() else None
        except (OSError, ValueError, RuntimeError):
            return None

    return find


# Archives


def _read_archive(stream: BinaryIO | Path, path: Path | None, reading: Reading) -> list[Conversation]:
    """The conversations of an archive's members. Members that are no conversations are left out by name."""
    if path is not None and path.stat().st_size > MAX_ARCHIVE_BYTES:
        raise FormatError(f"is larger than {MAX_ARCHIVE_BYTES >> 30} GB; extract what you need and read that")
    found: list[Conversation] = []
    faults: list[str] = []
    with open_archive(stream) as archive:
        members = text_members(archive)
        names = archive.namelist()
        if not members:
            raise FormatError("is a ZIP archive without JSON or text files; is this the right file?")
        for member in members:
            inner = Reading(reading.options, reading.report, name=f"{reading.name}, {clean_name(str(member.path))}")
            if path is not None:
                inner.find_picture = partial(find_member, names, beside=str(member.path))
            try:
                text = _text(read_member(archive, member.info))
                made = [c for c in parse_conversations(text, inner) if c.sessions]
            except FormatError as fault:
                faults.append(f"{clean_name(str(member.path))}: {fault}")
                continue
            found += [_of_member(c, member.path, len(made), path) for c in made]
    if not found and not reading.report.problems:
        raise FormatError(faults[0] if faults else "holds no messages; is this the right file?")
    for line in faults:
        reading.leave_out("files of the archive that are no conversations", line[:160])
    return _joined(found)


def _of_member(conversation: Conversation, path: PurePosixPath, count: int, archive: Path | None) -> Conversation:
    """The conversation with a name from its path in the archive, if it has none of its own."""
    name = conversation.name
    if not name:
        kind = format_named(conversation.format)
        by_folder = isinstance(kind, RowFormat) and kind.by_folder and path.parent.name
        is_generic = path.stem.lower().lstrip("_") in ("chat", "result", "messages", "conversations")
        stem = path.parent.name if by_folder else path.stem if not is_generic else path.parent.name
        name = clean_name(stem or (archive.stem if archive else path.stem))
        name = name if count == 1 or by_folder else f"{name}#{conversation.position + 1}"
    return replace(conversation, name=name, folder=archive)


def _joined(found: list[Conversation]) -> list[Conversation]:
    """The parts of one conversation that lie in several members, as one in the order of time."""
    groups: dict[tuple[str, str, str], list[Conversation]] = {}
    for conversation in found:
        groups.setdefault((conversation.format, conversation.id, conversation.name), []).append(conversation)
    joined = []
    for position, parts in enumerate(groups.values()):
        sessions = [session for part in parts for session in part.sessions]
        if len(parts) > 1:
            sessions.sort(key=lambda session: session.said_at.timestamp() if session.said_at else 0.0)
        speakers = tuple(dict.fromkeys(name for part in parts for name in part.speakers))
        joined.append(replace(parts[0], sessions=tuple(sessions), speakers=speakers, position=position))
    return joined


# Bytes


def _read_bounded(stream: BinaryIO) -> bytes:
    """All bytes of a stream, which is left as soon as it is too long to be a conversation."""
    chunks: list[bytes] = []
    size, line, line_bytes, first = 0, 1, 0, b""
    while chunk := stream.read(1 << 20):
        chunks.append(chunk)
        size += len(chunk)
        first = first or chunk.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")[:1]
        line += chunk.count(b"\n")
        newline = chunk.rfind(b"\n")
        line_bytes = len(chunk) - newline - 1 if newline >= 0 else line_bytes + len(chunk)
        is_document = first == b"[" or (first == b"{" and line == 1)  # else each line is an object of its own
        if is_document and b"\0" in chunk and b"\0" not in chunks[0][:4] and chunks[0][:2] not in _UTF16:
            place = size - len(chunk) + chunk.index(b"\0")
            raise FormatError(f"is damaged: from byte {place} on it has no text but zeros; get a complete copy")
        if line_bytes > MAX_LINE_BYTES and not is_document and not is_archive(chunks[0]):
            raise FormatError(f"line {line} is longer than {MAX_LINE_BYTES >> 20} MB; is this a conversation?")
        if size > MAX_FILE_BYTES:
            raise FormatError(f"is larger than {MAX_FILE_BYTES >> 20} MB; split it into several files")
    return b"".join(chunks)


def _decode(data: bytes) -> str:
    if not data.strip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"):
        raise FormatError("is empty; is this the right file?")
    for head, title, advice in BYTES:
        if data.startswith(head):
            raise FormatError(f"{title}; {advice}")
    hint = "save it as UTF-8"
    if data[:2] in _UTF16 and data[2:4] != b"\0\0":
        encoding = "utf-16"
    elif b"\0" in data[:4]:
        raise FormatError(f"is neither UTF-8 nor UTF-16 with a byte order mark (NUL byte in the first four); {hint}")
    else:
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        # the decoder counts from behind a UTF-8 byte order mark
        offset = error.start + (len(data) - len(error.object))
        form = "UTF-16" if encoding == "utf-16" else "UTF-8, nor UTF-16 with a byte order mark"
        raise FormatError(f"is not {form} (wrong from byte {offset} on); {hint}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
