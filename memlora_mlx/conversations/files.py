"""A file's bytes -> its conversations."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from memlora_mlx.conversations.json_formats import parse_json_conversations
from memlora_mlx.conversations.model import Conversation, FormatError, turn_text
from memlora_mlx.conversations.transcripts import parse_transcript, split_timestamp
from memlora_mlx.errors import BadConversation, UsageError
from memlora_mlx.text import clean_name

MAX_FILE_BYTES = 512 << 20
MAX_LINE_BYTES = 32 << 20  # not for one JSON array, which exporters write as a single long line


def read_conversations(source: Path | BinaryIO) -> list[Conversation]:
    """All conversations of one file that hold at least one turn, in file order.

    Args:
        source: a file, `Path("-")` for standard input, or a binary stream. UTF-8, or UTF-16 with its byte order mark.

    Raises:
        UsageError: there is no such file, it is a folder, or it may not be read.
        BadConversation: it is empty, cut off, wrongly encoded, too large, of no known form, or a part of it is wrong.
    """
    name, stem, folder = "standard input", "stdin", None
    if isinstance(source, Path) and str(source) != "-":
        name, stem, folder = clean_name(str(source)), clean_name(source.stem), source.parent
    try:
        text = _decode(_read(source))
        found = [conversation for conversation in _conversations(text) if conversation.sessions]
        if not found:
            raise FormatError("holds no messages; is this the right file?")
    except FormatError as fault:
        raise BadConversation(f"{name}: {fault}") from fault
    except IsADirectoryError:
        raise UsageError(f"{name} is a folder; name the conversation files in it") from None
    except FileNotFoundError:
        raise UsageError(f"there is no file {name}; check the path") from None
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror or error}") from error
    names = [c.name or (stem if len(found) == 1 else f"{stem}#{c.position + 1}") for c in found]
    return [replace(c, name=name, folder=folder) for c, name in zip(found, names, strict=True)]


def _read(source: Path | BinaryIO) -> bytes:
    if not isinstance(source, Path):
        return _read_bounded(source)
    if str(source) == "-":
        return _read_bounded(sys.stdin.buffer)
    try:
        stream = source.open("rb")
    except ValueError:  # a NUL in the path
        raise FileNotFoundError from None
    with stream:
        return _read_bounded(stream)


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
        if line_bytes > MAX_LINE_BYTES and first != b"[":
            raise FormatError(f"line {line} is longer than {MAX_LINE_BYTES >> 20} MB; is this a conversation?")
        if size > MAX_FILE_BYTES:
            raise FormatError(f"is larger than {MAX_FILE_BYTES >> 20} MB; split it into several files")
    return b"".join(chunks)


def _decode(data: bytes) -> str:
    if not data.strip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"):
        raise FormatError("is empty; is this the right file?")
    hint = "save it as UTF-8"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") and data[2:4] != b"\0\0":
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


def _conversations(text: str) -> list[Conversation]:
    start = len(text) - len(text.lstrip(" \t\n\r"))
    first_line = text[start : start + 200].partition("\n")[0]
    # "[2023-05-08 13:56] Ann: hello" opens with a bracket as well
    if text[start : start + 1] not in ("{", "[") or split_timestamp(first_line)[0]:
        return [parse_transcript(turn_text(text))]
    return parse_json_conversations(text)
