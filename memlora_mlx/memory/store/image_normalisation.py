"""What a picture must be to be kept: read as hostile data, upright, sRGB, bounded, without what else its file tells.

A process of its own does the decoding (see `image_decoder`). The kept file is JPEG where the picture came as one, PNG
where it came without loss; it has one frame and no transparency. EXIF, XMP, comments and maker notes are left out, and
with them where it was taken; `keep_location` keeps the EXIF block.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlora_mlx.errors import UsageError
from memlora_mlx.memory.store.image_decoder import (
    MAX_PIXELS,
    MAX_SIDE,
    MAX_STORED_BYTES,
    DecoderFailed,
    decode_image,
)
from memlora_mlx.text import printable_line

MAX_FILE_BYTES = 64 << 20  # of a file that is read at all
_READ = "PNG, JPEG, WebP and GIF are read; export it as one of them"
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


@dataclass(frozen=True, slots=True)
class NormalisedImage:
    """A picture as it is kept."""

    data: bytes
    suffix: str  # "jpg" or "png"
    thumbnail: bytes  # JPEG, within 480 x 360 pixels
    width: int  # pixels
    height: int


def read_image_file(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        UsageError: it is a web address, a folder, no plain file, too large, or cannot be read.
    """
    name = printable_source(path)
    if str(path).startswith(("http:/", "https:/")):
        raise UsageError(f"{name} is a web address; nothing is fetched: save the picture and give its path")
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISDIR(found.st_mode):
                raise UsageError(f"{name} is a folder; name a picture in it")
            if not stat.S_ISREG(found.st_mode):
                raise UsageError(f"{name} is not a regular file; give the path of an image file")
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"there is no picture {name}; check the path") from None
    except IsADirectoryError:
        raise UsageError(f"{name} is a folder; name a picture in it") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UsageError(f"cannot read {name} ({getattr(error, 'strerror', None) or error})") from error
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{name} is larger than {MAX_FILE_BYTES >> 20} MB; make it smaller first")
    return data


def normalise_image(data: bytes, name: str, *, keep_location: bool = False) -> NormalisedImage:
    """The picture in a file's bytes, as it is kept. The same bytes give the same picture.

    Args:
        name: of the picture, in messages.

    Raises:
        UsageError: it is no picture, damaged, empty, or too large.
    """
    said, made = _decoded(data, name, "normalise", keep_location=keep_location)
    size = said["bytes"]
    return NormalisedImage(made[:size], said["suffix"], made[size:], said["width"], said["height"])


def check_normalised(data: bytes, name: str) -> str:
    """The suffix of a picture that was kept before, here or elsewhere. Raises UsageError: it cannot be one of ours."""
    if len(data) > 2 * MAX_STORED_BYTES:
        raise UsageError(f"{name} is larger than a kept picture can be")
    said, _ = _decoded(data, name, "check")
    if said["side"] > MAX_SIDE or said["mode"] != "RGB":
        raise UsageError(f"{name} is not in the form that pictures are kept in")
    return "jpg" if said["format"] == "JPEG" else "png"


def _decoded(data: bytes, name: str, task: str, **options: bool) -> tuple[dict[str, Any], bytes]:
    """What a process of its own makes of a picture: see `decode_image`. Raises UsageError."""
    if not data:
        raise UsageError(f"{name} is empty; is this the right file?")
    try:
        said, made = decode_image(data, task, **options)
    except DecoderFailed as error:
        raise UsageError(f"{name} cannot be decoded: {error}; export it as PNG or JPEG first") from error
    limit = f"the limit is {MAX_PIXELS // 1_000_000} million"
    match said.get("problem"):
        case None:
            return said, made
        case "no pixels":
            raise UsageError(f"{name} has no pixels ({said['width']} x {said['height']})")
        case "too many pixels":
            size = f"{said['width']} x {said['height']}, " if "width" in said else ""
            raise UsageError(f"{name} has too many pixels ({size}{limit}); make it smaller")
        case "no picture" if _has_no_pixels(data):
            raise UsageError(f"{name} has no pixels (0 x 0)")
        case "no picture" if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
            raise UsageError(
                f"{name} is a HEIC image, which is read where the package pillow-heif is installed; export it as JPEG"
            )
        case "no picture":
            raise UsageError(f"{name} is not a picture; {_READ}")
        case "memory":
            raise UsageError(f"{name} needs more memory than a picture may take; make it smaller first")
        case _:
            raise UsageError(f"{name} is damaged or cut off ({printable_line(said.get('detail'), 120)})")


def printable_source(value: object) -> str:
    """A path or an address as a message can show it: one line, without control characters, not endless."""
    return printable_line(value, 120, tail=30)


def _has_no_pixels(data: bytes) -> bool:
    """Whether the header is a PNG's or a GIF's with a side of 0, which Pillow does not open."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"\0\0\0\0" in (data[16:20], data[20:24])
    return data.startswith((b"GIF87a", b"GIF89a")) and b"\0\0" in (data[6:8], data[8:10])
