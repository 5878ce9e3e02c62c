"""Copies text to the clipboard of the terminal, and to a file where the terminal does not take it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.errors import UsageError
from memlora_mlx.files import atomic_write
from memlora_mlx.private_files import private_umask

if TYPE_CHECKING:
    from textual.app import App

COPY_FILE = "copied.txt"  # in the data folder
MAX_OSC52_BYTES = 74_000  # of a text; several terminals cut a longer OSC 52 sequence off


def refusal(text: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Why the terminal will not take the text by OSC 52, or None if it may. No terminal answers whether it did."""
    if environ.get("TERM_PROGRAM") == "Apple_Terminal":
        return "Terminal.app has no OSC 52"
    if environ.get("VTE_VERSION"):
        return "this terminal has no OSC 52"
    if environ.get("TERM", "").split("-")[0] in ("linux", "dumb"):
        return "this console has no clipboard"
    if len(text.encode()) > MAX_OSC52_BYTES:
        return "the text is too long for OSC 52"
    return None


def copy(app: App[None], text: str, home: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Copy the text and return what was done, in words for the user.

    On this Mac itself `pbcopy` is asked first. Where the terminal does not take it, the text goes to a file of the data
    folder that only its user may read.

    Raises:
        UsageError: the file cannot be written.
    """
    program = shutil.which("pbcopy")
    if program is not None and not environ.get("SSH_CONNECTION"):
        try:
            subprocess.run([program], input=text.encode(), check=True, timeout=5)
        except (OSError, subprocess.SubprocessError):
            pass  # the terminal may still take it
        else:
            return f"{_amount(text)} copied"
    why = refusal(text, environ)
    if why is None:
        app.copy_to_clipboard(text)
        return f"{_amount(text)} copied"
    file = home / COPY_FILE
    try:
        with private_umask():
            home.mkdir(parents=True, exist_ok=True)
            atomic_write(file, text)
    except OSError as error:
        raise UsageError(f"Cannot write {file}: {error.strerror}. Nothing was copied; free some space.") from error
    return f"{_amount(text)} in {file}, because {why}"


def _amount(text: str) -> str:
    return f"{len(text):,} {'character' if len(text) == 1 else 'characters'}"
