"""Images in the terminal, by textual-image: Sixel or Kitty's protocol where the terminal says so, half-blocks elsewhere.

textual-image asks the terminal what it can when it is imported, which works only before the app reads the keyboard. So
`ask_terminal` imports it first where the environment names a terminal that can show pictures; anywhere else it is
imported when the first image comes, without asking.
"""

from __future__ import annotations

import os
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.errors import UsageError

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
MAX_PIXELS = 100_000_000  # of an image that is opened at all
_asked = False  # whether the terminal has told what it can
THUMBNAIL = (960, 720)  # pixels, more than a terminal's cells can show


def detect_graphics() -> None:
    """Find out whether this terminal shows pictures; call it before the app runs. It takes no time where none can."""
    names = ("TERM", "TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "KONSOLE_VERSION", "WT_SESSION")
    told = " ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name)).lower()
    able = any(name in told for name in _has_graphics) and not os.environ.get("TMUX")  # tmux passes no pictures on
    if able and sys.__stdin__ is not None and sys.__stdin__.isatty():
        import textual_image.widget  # noqa: F401

        global _asked
        _asked = True


def thumbnail(path: Path) -> Image:
    """The image, small enough to be drawn at once.

    Raises:
        UsageError: it is no image, or too large to be opened.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UsageError(f"{path.name} has {image.width} x {image.height} pixels; make it smaller first")
            image.draft("RGB", THUMBNAIL)
            image.thumbnail(THUMBNAIL)
            return image.convert("RGB")
    except UnidentifiedImageError as error:
        raise UsageError(f"{path.name} is not an image; PNG, JPEG, WebP and GIF are read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path.name} cannot be read as an image ({error})") from error


def image_widget(image: Image) -> Widget:
    """A widget that shows it as well as this terminal can."""
    if _asked:
        from textual_image.widget import Image as Best

        return Best(image)
    real = sys.__stdout__
    try:
        sys.__stdout__ = StringIO()  # type: ignore[misc,assignment] # no terminal: nothing is asked while the app reads
        from textual_image.widget import HalfcellImage
    finally:
        sys.__stdout__ = real  # type: ignore[misc]
    return HalfcellImage(image)
