"""Images in the terminal, by textual-image: Sixel or Kitty's protocol if the terminal supports it, else half-blocks.

textual-image queries the terminal when it is imported, which works only before the app reads the keyboard. So
`detect_graphics` imports it first if the environment names a terminal that can show images. Otherwise it is imported
without a query when the first image is shown.
"""

from __future__ import annotations

import os
import sys
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from textual.widget import Widget

_has_graphics = (
    "kitty",
    "ghostty",
    "wezterm",
    "iterm",
    "foot",
    "konsole",
    "mlterm",
    "contour",
    "rio",
    "vscode",
    "windows",
)
_asked = False  # whether textual-image has queried the terminal
THUMBNAIL = (960, 720)  # pixels; more than the cells of a terminal can show


def detect_graphics() -> None:
    """Find out whether this terminal can show images. Call it before the app runs. It is fast if the terminal cannot."""
    names = ("TERM", "TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "KONSOLE_VERSION", "WT_SESSION")
    told = " ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name)).lower()
    able = any(name in told for name in _has_graphics) and not os.environ.get("TMUX")  # tmux does not pass images on
    if able and sys.__stdin__ is not None and sys.__stdin__.isatty():
        import textual_image.widget  # noqa: F401

        global _asked
        _asked = True


def thumbnail(path: Path) -> Image:
    """The image, scaled down so that it is drawn fast.

    Raises:
        UsageError: the file is not an image, or it is too large.
    """
    from PIL import Image

    from memlora_mlx.memory.store.image_normalisation import normalise_image, read_image_file

    # The user chose the file, but somebody else may have made it: it is decoded in a process of its own.
    plain = normalise_image(read_image_file(path), path.name)
    with Image.open(BytesIO(plain.data), formats=["PNG", "JPEG"]) as image:
        image.draft("RGB", THUMBNAIL)
        image.thumbnail(THUMBNAIL)
        return image.convert("RGB")


def image_widget(image: Image) -> Widget:
    """A widget that shows the image in the best way that this terminal supports."""
    if _asked:
        from textual_image.widget import Image as Best

        return Best(image)
    real = sys.__stdout__
    try:
        sys.__stdout__ = StringIO()  # type: ignore[misc,assignment] # no terminal, so that it is not queried while the app reads the keyboard
        from textual_image.widget import HalfcellImage
    finally:
        sys.__stdout__ = real  # type: ignore[misc]
    return HalfcellImage(image)
