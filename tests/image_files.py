"""Files that are given as pictures: bad ones, each with what its one line says, and odd ones that are read."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = BytesIO()
    image.save(out, form, **options)  # type: ignore[arg-type]
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large, with hardly any bytes behind it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def rotated() -> Image.Exif:
    """What a camera writes that was held on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    return exif


BAD: list[tuple[bytes, str]] = [
    (b"", "is empty"),
    (b"Dear diary,\nnot a picture", "is not a picture"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
    (encoded(Image.effect_noise((64, 64), 80))[:1500], "damaged or cut off"),
    (encoded(Image.effect_noise((64, 64), 80), "JPEG")[:700], "damaged or cut off"),
    (png_header(0, 0), "no pixels"),
    (b"GIF89a" + bytes(7) + b"\x3b", "no pixels"),
    (png_header(20_000, 20_000), "too many pixels"),
    (png_header(9_000, 9_500), "too many pixels"),
    (png_header(2**31 - 1, 2**31 - 1), "too many pixels"),
    (encoded(Image.new("RGB", (8, 8)), "TIFF"), "is not a picture"),
    (encoded(Image.new("RGB", (8, 8)), "BMP"), "is not a picture"),
    (encoded(Image.new("RGB", (8, 8)), "EPS"), "is not a picture"),
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC"),
]

_FRAMES = [Image.new("RGB", (16, 16), colour) for colour in ("lime", "red", "blue")]
ODD: dict[str, bytes] = {
    "animated.gif": encoded(_FRAMES[0], "GIF", save_all=True, append_images=_FRAMES[1:]),
    "cmyk.jpg": encoded(Image.new("RGB", (32, 32), "red").convert("CMYK"), "JPEG"),
    "sixteen-bits.png": encoded(Image.fromarray(np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16))),
    "transparent.png": encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0))),
    "turned.jpg": encoded(Image.new("RGB", (80, 40), "red"), "JPEG", exif=rotated()),
}
