"""Decodes one picture of a stranger, in a process of its own: `decode_image` starts it, and this file is its program.

Decoders are large C libraries, and the bytes come from anywhere. So the process has limits on memory, time and files, and
no way to start another one; it opens the formats of an allow-list only, so that PostScript never reaches an interpreter.
It reads one line of JSON and the picture's bytes, and answers with one line of JSON and the bytes that it made. It imports
nothing of memlora, so it starts in about a tenth of a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")  # what Pillow calls MPO is opened as a JPEG
HEIF_FORMATS = ("HEIF",)  # opened where the package pillow-heif is installed
MEMORY_BYTES = 2 << 30  # of the process; 80 million pixels of four bytes, a copy of them, and the libraries
SECONDS = 60  # of its time; a picture of 80 million pixels takes a few
MAX_PIXELS = 80_000_000  # of a picture that is decoded at all; below the size from which Pillow warns
MAX_SIDE = 2048  # pixels of a kept picture: more than a vision student looks at
MAX_STORED_BYTES = 8 << 20  # a lossless picture that is larger becomes a JPEG
THUMBNAIL = (480, 360)  # pixels
_LOSSY = ("JPEG", "MPO", "WEBP", "HEIF")


class DecoderFailed(Exception):
    """The process answered nothing: it was ended by a limit or by a fault of a decoder. `str()` says which."""


def decode_image(data: bytes, task: str, **options: object) -> tuple[dict[str, Any], bytes]:
    """Let a process of its own decode a picture.

    Args:
        task: "normalise", which makes the kept picture and its thumbnail, or "check", which only decodes a kept one.
        options: `keep_location` of "normalise".

    Returns what the process says of the picture: `problem` and `detail` where it could not be read, else what `_normalise`
    or `_check` return; and the bytes that it made.

    Raises:
        DecoderFailed: the process was ended.
    """
    paths = [path for path in sys.path if os.path.isabs(path)]  # never the current folder, which may be a stranger's
    head = {"task": task, "paths": paths, "memory": MEMORY_BYTES, "seconds": SECONDS, **options}
    # Libraries may have to be found; nothing else of the environment is the decoder's business.
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", __file__],
            input=json.dumps(head).encode() + b"\n" + data,
            capture_output=True,
            timeout=SECONDS + 5,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DecoderFailed(f"it takes more than {SECONDS} seconds to decode") from None
    line, _, made = done.stdout.partition(b"\n")
    try:
        said = json.loads(line)
    except ValueError:
        raise DecoderFailed(
            f"its decoder was ended by signal {-done.returncode}"
            if done.returncode < 0
            else f"its decoder ended with {done.returncode}"
        ) from None
    return said, made


def _main() -> None:
    """The process: read a request from standard input and answer it on standard output."""
    head, _, data = sys.stdin.buffer.read().partition(b"\n")
    asked = json.loads(head)
    sys.path[:] = asked["paths"]
    _limit(asked["memory"], asked["seconds"])
    try:
        said, made = _answer(data, asked)
    except MemoryError:
        said, made = {"problem": "memory"}, b""
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n" + made)


def _limit(memory: int, seconds: int) -> None:
    """Give this process limits; a system that does not know one of them goes without it."""
    import contextlib
    import resource

    limits = {"RLIMIT_CPU": seconds, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0, "RLIMIT_NPROC": 0, "RLIMIT_AS": memory}
    for name, most in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (most, most))


def _answer(data: bytes, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    from PIL import Image, UnidentifiedImageError

    warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are refused below
    formats = ["JPEG", "PNG"] if asked["task"] == "check" else [*FORMATS, *_heif_formats()]
    try:
        with Image.open(BytesIO(data), formats=formats) as image:
            width, height = image.size
            if not width or not height:
                return {"problem": "no pixels", "width": width, "height": height}, b""
            if width * height > MAX_PIXELS:
                return {"problem": "too many pixels", "width": width, "height": height}, b""
            if asked["task"] == "check":
                return _check(image), b""
            return _normalise(image, keep_location=asked["keep_location"])
    except UnidentifiedImageError:
        return {"problem": "no picture"}, b""
    except Image.DecompressionBombError:
        return {"problem": "too many pixels"}, b""
    except MemoryError:
        raise
    except Exception as error:  # the decoders raise whatever damaged bytes lead them to
        return {"problem": "damaged", "detail": str(error)[:400]}, b""


def _heif_formats() -> tuple[str, ...]:
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found]
    except ImportError:
        return ()
    register_heif_opener()
    return HEIF_FORMATS


def _check(image: Pixels) -> dict[str, Any]:
    """Decode a picture that was kept before; says its form, size and mode."""
    image.load()
    return {"format": image.format, "side": max(image.size), "mode": image.mode}


def _normalise(image: Pixels, *, keep_location: bool) -> tuple[dict[str, Any], bytes]:
    """The kept picture and its thumbnail, one behind the other, with their sizes in bytes and what they are."""
    from PIL import Image, ImageOps

    is_lossy = image.format in _LOSSY
    exif = image.getexif() if keep_location else None
    image.seek(0)  # of several frames the first one is kept
    image.draft("RGB", (MAX_SIDE, MAX_SIDE))
    upright = ImageOps.exif_transpose(_srgb(image))
    upright.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    pixels = _plain(upright)
    small = pixels.copy()
    small.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    kept = b"" if is_lossy else _encoded(pixels, "PNG", exif)
    if is_lossy or len(kept) > MAX_STORED_BYTES:
        is_lossy, kept = True, _encoded(pixels, "JPEG", exif)
    said = {"suffix": "jpg" if is_lossy else "png", "bytes": len(kept), "width": pixels.width, "height": pixels.height}
    return said, kept + _encoded(small, "JPEG", None)


def _srgb(image: Pixels) -> Pixels:
    """Colours as sRGB has them, where the file says what its own are; still not turned upright."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or image.mode not in ("RGB", "CMYK"):
        return image
    exif = image.getexif()
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image  # a broken profile: the numbers as they are
    if made is None:
        return image
    made.info["exif"] = exif.tobytes()
    return made


def _plain(image: Pixels) -> Pixels:
    """8-bit RGB: 16 bits scaled rather than clipped, transparent parts on white, without metadata."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        if image.mode == "F":
            span = float(np.ptp(values))
            values = (values - values.min()) * (255.0 / span if span else 0.0)
        elif values.max(initial=0.0) > 255.0:
            values = values / 257.0
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        base = Image.new("RGBA", over.size, "white")
        base.alpha_composite(over)
        image = base
    made = Image.new("RGB", image.size)
    made.paste(image.convert("RGB"))
    return made


def _encoded(image: Pixels, form: str, exif: object) -> bytes:
    out = BytesIO()
    given = {"exif": _without_rotation(exif)} if exif else {}
    if form == "JPEG":
        image.save(out, "JPEG", quality=92, **given)
    else:
        image.save(out, "PNG", **given)
    return out.getvalue()


def _without_rotation(exif: object) -> bytes:
    from PIL import ExifTags, Image

    assert isinstance(exif, Image.Exif)
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag not in (ExifTags.Base.Orientation, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop):
            kept[tag] = value
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if found := exif.get_ifd(part):
            kept.get_ifd(part).update(found)
    return kept.tobytes()


if __name__ == "__main__":
    _main()
