"""A picture in the terminal: Sixel or Kitty's protocol where the terminal shows them, half-blocks elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from io import BytesIO
from pathlib import Path

from memlora_mlx.extras import require

ROWS = 16  # of the terminal, at most


def print_picture(path: Path) -> None:
    """Print it to standard output, which must be a terminal. A file that cannot be read prints nothing.

    Raises:
        ExtraMissing: what draws it is not installed.
    """
    from PIL import Image, UnidentifiedImageError
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_dumb_terminal or not os.get_terminal_size(sys.stdout.fileno()).columns:
        return
    require("tui", "a picture in the terminal")
    from textual_image.renderable import Image as Shown  # asks the terminal what it can, for a moment

    with (
        contextlib.suppress(OSError, UnidentifiedImageError),
        Image.open(BytesIO(path.read_bytes()), formats=["PNG", "JPEG"]) as image,
    ):
        columns = min(console.width, round(ROWS * 2 * image.width / image.height), 80)
        console.print(Shown(image.convert("RGB"), width=max(columns, 1), height="auto"))
