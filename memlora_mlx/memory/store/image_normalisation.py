"""What a picture must be to be kept: read as hostile data, upright, sRGB, bounded, without what else its file tells.

Pillow does the decoding, and is loaded when the first picture comes. The kept file is JPEG where the picture came as one,
PNG where it came without loss; it has one frame and no transparency. EXIF, XMP, comments and maker notes are left out, and
with them where it was taken; `keep_location` keeps the EXIF block.
"""

from __future__ import annotations

import os
import stat
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.errors import UsageError
from memlora_mlx.text import printable_line

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels

MAX_FILE_BYTES = 64 << 20  # of a file that is read at all
MAX_PIXELS = 80_000_000  # of a picture that is decoded at all; below the size from which Pillow warns
MAX_SIDE = 2048  # pixels of a kept picture: more than a vision student looks at
MAX_STORED_BYTES = 8 << 20  # a lossless picture that is larger becomes a JPEG
THUMBNAIL = (480, 360)  # pixels
_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "JPEG2000")
_READ = "PNG, JPEG, WebP, AVIF, GIF, BMP and TIFF are read"
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
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise UsageError(f"{name} is empty; is this the right file?")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        raise UsageError(f"{name} is a HEIC image, which is not supported; export it as JPEG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are refused below
            with Image.open(BytesIO(data)) as image:
                width, height = image.size
                if not width or not height:
                    raise UsageError(f"{name} has no pixels ({width} x {height})")
                if width * height > MAX_PIXELS:
                    raise UsageError(
                        f"{name} has too many pixels ({width} x {height}, the limit is {MAX_PIXELS // 1_000_000} million); make it smaller"
                    )
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
                return NormalisedImage(kept, "jpg" if is_lossy else "png", _encoded(small, "JPEG", None), *pixels.size)
    except UnidentifiedImageError as error:
        if _has_no_pixels(data):
            raise UsageError(f"{name} has no pixels (0 x 0)") from error
        raise UsageError(f"{name} is not a picture; {_READ}") from error
    except Image.DecompressionBombError as error:
        raise UsageError(
            f"{name} has too many pixels (the limit is {MAX_PIXELS // 1_000_000} million); make it smaller"
        ) from error
    except MemoryError as error:
        raise UsageError(f"{name} needs more memory than there is; make it smaller first") from error
    except UsageError:
        raise
    except Exception as error:  # the decoders raise whatever damaged bytes lead them to
        raise UsageError(f"{name} is damaged or cut off ({printable_line(error, 120)})") from error


def check_normalised(data: bytes, name: str) -> str:
    """The suffix of a picture that was kept before, here or elsewhere. Raises UsageError: it cannot be one of ours."""
    from PIL import Image

    if len(data) > 2 * MAX_STORED_BYTES:
        raise UsageError(f"{name} is larger than a kept picture can be")
    try:
        with Image.open(BytesIO(data), formats=["JPEG", "PNG"]) as image:
            if max(image.size) > MAX_SIDE or image.mode != "RGB":
                raise UsageError(f"{name} is not in the form that pictures are kept in")
            image.load()
            return "jpg" if image.format == "JPEG" else "png"
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{name} is damaged or cut off ({printable_line(error, 120)})") from error


def printable_source(value: object) -> str:
    """A path or an address as a message can show it: one line, without control characters, not endless."""
    return printable_line(value, 120, tail=30)


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


def _has_no_pixels(data: bytes) -> bool:
    """Whether the header is a PNG's or a GIF's with a side of 0, which Pillow does not open."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"\0\0\0\0" in (data[16:20], data[20:24])
    return data.startswith((b"GIF87a", b"GIF89a")) and b"\0\0" in (data[6:8], data[8:10])
