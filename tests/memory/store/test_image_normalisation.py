"""What a picture must be to be kept, and the one line for each that is not."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import BAD, encoded, rotated
from PIL import Image

from memlora_mlx.errors import UsageError
from memlora_mlx.memory.store import image_decoder
from memlora_mlx.memory.store.image_decoder import MAX_SIDE, THUMBNAIL
from memlora_mlx.memory.store.image_normalisation import (
    check_normalised,
    normalise_image,
    read_image_file,
)


def located() -> Image.Exif:
    exif = rotated()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8825).update({1: "N", 2: (41.0, 53.0, 24.0), 3: "E", 4: (12.0, 29.0, 32.0)})
    return exif


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


def half_and_half() -> Image.Image:
    image = Image.new("RGB", (80, 40), "red")
    image.paste("blue", (0, 0, 40, 40))
    return image


def test_lossless_pictures_stay_lossless_and_the_same_bytes_give_the_same_picture() -> None:
    data = encoded(half_and_half())
    kept = normalise_image(data, "half.png")
    assert kept.suffix == "png" and (kept.width, kept.height) == (80, 40)
    assert np.array_equal(np.asarray(opened(kept.data)), np.asarray(half_and_half()))
    assert normalise_image(data, "other.png") == kept
    assert check_normalised(kept.data, "it") == "png" and check_normalised(kept.thumbnail, "it") == "jpg"


def test_a_rotated_picture_is_turned_upright_and_does_not_say_where_it_was_taken() -> None:
    data = encoded(half_and_half(), "JPEG", exif=located())
    kept = normalise_image(data, "photo.jpg")
    image = opened(kept.data)
    assert kept.suffix == "jpg" and image.size == (40, 80)
    red, _, blue = image.getpixel((20, 10))  # type: ignore[misc]
    assert blue > 200 and red < 60, "orientation 6: the left side comes to the top"
    assert dict(image.getexif()) == {} and b"Camera" not in kept.data


def test_the_place_stays_where_it_is_asked_for_and_the_picture_is_not_turned_twice() -> None:
    kept = normalise_image(encoded(half_and_half(), "JPEG", exif=located()), "photo.jpg", keep_location=True)
    exif = opened(kept.data).getexif()
    assert exif.get_ifd(0x8825)[2] == (41.0, 53.0, 24.0) and exif[0x010F] == "Camera"
    assert 0x0112 not in exif and opened(kept.data).size == (40, 80)
    assert b"Camera" not in kept.thumbnail


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    form = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    image = Image.new("RGB", (8, 8), "white").convert(mode)
    assert opened(normalise_image(encoded(image, form), "a").data).getpixel((4, 4)) == (255, 255, 255)


def test_a_cmyk_photograph_keeps_its_colours() -> None:
    kept = normalise_image(encoded(Image.new("RGB", (32, 32), "red").convert("CMYK"), "JPEG"), "print.jpg")
    red, green, blue = opened(kept.data).getpixel((9, 9))  # type: ignore[misc]
    assert red > 200 and green < 60 and blue < 60


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[None, :].repeat(4, axis=0)
    made = np.asarray(opened(normalise_image(encoded(Image.fromarray(ramp)), "scan.png").data))
    assert np.array_equal(made[0, :, 0], np.arange(256))


def test_transparent_parts_are_white() -> None:
    kept = normalise_image(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0))), "logo.png")
    assert opened(kept.data).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_kept(form: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("lime", "red", "blue")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    image = opened(normalise_image(data, "moving").data)
    assert getattr(image, "n_frames", 1) == 1
    red, green, blue = image.getpixel((8, 8))  # type: ignore[misc]
    assert green > 240 and red < 16 and blue < 16


def test_large_pictures_are_made_smaller_in_their_shape() -> None:
    kept = normalise_image(encoded(Image.new("L", (6000, 1500), 7)), "wide.png")
    assert (kept.width, kept.height) == (MAX_SIDE, MAX_SIDE // 4)
    small = opened(kept.thumbnail)
    assert small.width == THUMBNAIL[0] and small.height <= THUMBNAIL[1]


@pytest.mark.parametrize(("data", "says"), BAD)
def test_bad_pictures_are_one_clear_line(data: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        normalise_image(data, "bad.png")
    assert str(raised.value).startswith("bad.png") and "\n" not in str(raised.value)


def test_paths_that_are_no_pictures_are_one_clear_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.png", "there is no picture"),
        (tmp_path / "pipe", "not a regular file"),
        (Path("https://example.org/cat.jpg"), "web address; nothing is fetched"),
        (tmp_path / "a\0b", "cannot read"),
    ):
        with pytest.raises(UsageError, match=says) as raised:
            read_image_file(path)
        assert "\n" not in str(raised.value) and "\0" not in str(raised.value)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 300), st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]))
def test_damaged_bytes_give_a_picture_or_a_line(noise: bytes, at: int, form: str) -> None:
    data = encoded(Image.linear_gradient("L").resize((16, 16)), form)
    try:
        kept = normalise_image(data[:at] + noise + data[at + len(noise) :], "fuzz")
    except UsageError:
        return
    assert check_normalised(kept.data, "fuzz") == kept.suffix


def test_postscript_never_reaches_an_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EPS, also one that calls itself a PNG, is refused; a Ghostscript on the path is not started."""
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(UsageError, match="is not a picture"):
        normalise_image(program, "photo.png")
    assert not started.exists()


def test_a_decoder_has_only_so_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("RGB", (6000, 6000)))
    monkeypatch.setattr(image_decoder, "MEMORY_BYTES", 160 << 20)
    with pytest.raises(UsageError, match="needs more memory than a picture may take|cannot be decoded"):
        normalise_image(data, "large.png")
    monkeypatch.undo()
    assert normalise_image(data, "large.png").width == MAX_SIDE


def test_a_decoder_has_only_so_much_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The limit is of processor time, so a decoder that goes in circles ends also where nobody waits for it."""
    endless = tmp_path / "PIL"
    endless.mkdir()
    (endless / "__init__.py").write_text("while True:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(image_decoder, "SECONDS", 1)
    with pytest.raises(UsageError, match="cannot be decoded"):
        normalise_image(b"anything", "slow.png")


def test_a_decoder_starts_no_process_and_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a decoder is led to do is held by the system, not by Pillow."""
    spy = tmp_path / "PIL"
    spy.mkdir()
    target = tmp_path / "written"
    (spy / "__init__.py").write_text(f"open({str(target)!r}, 'w').write('x' * 10)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="cannot be decoded"):
        normalise_image(b"anything", "spy.png")
    assert not target.exists() or target.stat().st_size == 0
