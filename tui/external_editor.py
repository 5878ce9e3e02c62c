"""Edits a text in the user's own editor, which gets the terminal meanwhile."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported

from memlora_mlx.errors import UsageError
from memlora_mlx.text import printable

if TYPE_CHECKING:
    from textual.app import App

_FALLBACKS = ("nano", "vim", "vi")


def editor_command(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The editor as a command: $VISUAL, $EDITOR, or the first one found of nano, vim and vi.

    Raises:
        UsageError: there is none, or its program is not there.
    """
    said = environ.get("VISUAL") or environ.get("EDITOR") or ""
    try:
        command = shlex.split(said)
    except ValueError:
        command = []
    if command:
        if shutil.which(command[0]) is None:
            raise UsageError(
                f"The editor {command[0]!r} of $EDITOR is not there. Set EDITOR to one that is, such as nano."
            )
        return command
    found = next((name for name in _FALLBACKS if shutil.which(name)), None)
    if found is None:
        raise UsageError("There is no editor. Set EDITOR to one, such as nano, and start memlora again.")
    return [found]


def edit_text(app: App[None], text: str) -> str | None:
    """The text as the user saved it; None if the editor failed and nothing changes.

    Raises:
        UsageError: there is no editor, or the terminal cannot be lent to one.
    """
    command = editor_command()
    with tempfile.TemporaryDirectory(prefix="memlora-") as folder:  # only its user can read it
        file = Path(folder) / "message.md"
        file.write_text(text, encoding="utf-8")
        try:
            with app.suspend():
                done = subprocess.run([*command, str(file)], check=False)
        except SuspendNotSupported as error:
            raise UsageError("This terminal cannot be lent to an editor. Write in the prompt instead.") from error
        if done.returncode:
            return None
        return printable(file.read_text(encoding="utf-8", errors="replace")).rstrip("\n")
