"""Snapshots of screens as text that can be read in a diff: the words, then the styles as letters, then what they mean.

`UPDATE_SNAPSHOTS=1 pytest tests/tui` writes them anew.
"""

from __future__ import annotations

import asyncio
import os
import string
from pathlib import Path

import pytest
from rich.style import Style

from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.widgets.status import StatusBar

FOLDER = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (120, 40))
THEMES = ("memlora-dark", "memlora-light")
_LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits + "!#$%&()*+,-./:;<=>?@[]^_{|}~"


def freeze_status(app: MemloraApp, *parts: str) -> None:
    """Give the status bar words that do not depend on the machine."""
    told = parts or ("tiny-llama", "idle", "41 tok/s", "706 MB", "9 memories", "offline")
    for bar in app.screen.query(StatusBar):
        bar.parts = lambda: [(part, 0) for part in told]  # type: ignore[method-assign]
        bar.refresh_status()


async def check_themes(app: MemloraApp, name: str) -> None:
    """Compare a screen that no dialog lies over with its snapshots in both themes. (Behind one, the old theme stays.)"""
    for theme in THEMES:
        app.theme = theme
        await check(app, name)


async def check(app: MemloraApp, name: str) -> None:
    """Compare the screen, once it has come to rest, with its snapshot of this name, size and theme."""
    width, height = app.size
    path = FOLDER / f"{name}-{width}x{height}-{app.theme.removeprefix('memlora-')}.txt"
    now = await _wait_until_idle(app, path)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(now, encoding="utf-8")
        return
    if not path.is_file():
        pytest.fail(f"there is no snapshot {path.name}; UPDATE_SNAPSHOTS=1 writes it")
    before = path.read_text(encoding="utf-8")
    assert now.splitlines() == before.splitlines(), f"{path.name} looks different; look at it, then update it"


async def _wait_until_idle(app: MemloraApp, path: Path) -> str:
    """The screen once it is as expected, or as it still is after a while."""
    expected = path.read_text(encoding="utf-8") if path.is_file() and not os.environ.get("UPDATE_SNAPSHOTS") else None
    for _ in range(80 if expected is not None else 30):
        now = render_text(app)
        if now == expected:
            break
        app.screen.refresh()  # what lies behind a dialog is drawn with it, and may have come later
        await asyncio.sleep(0.1)
    return now


def render_text(app: MemloraApp) -> str:
    """The screen: its words, a letter for the style of each cell, and the letters' meaning."""
    letters: dict[str, str] = {}
    words, styles = [], []
    for strip in app.screen._compositor.render_strips():
        words.append(strip.text.rstrip())
        line = ""
        for segment in strip:
            if segment.control:
                continue
            style = _style(segment.style)
            letter = letters.setdefault(style, _LETTERS[len(letters)] if len(letters) < len(_LETTERS) else "~")
            line += letter * segment.cell_length
        styles.append(_short(line))
    legend = [f"{letter} {style}" for style, letter in letters.items()]
    return "\n".join([*words, "-- styles", *styles, "-- legend", *legend]) + "\n"


def _style(style: Style | None) -> str:
    if style is None:
        return "plain"
    flags = [name for name in ("bold", "dim", "italic", "underline", "strike", "reverse") if getattr(style, name)]
    colours = [colour.get_truecolor().hex if colour else "-" for colour in (style.color, style.bgcolor)]
    return " ".join([f"{colours[0]} on {colours[1]}", *flags])


def _short(line: str) -> str:
    """Runs of letters with their lengths: "aaabb" is "a3 b2"."""
    runs: list[list[str]] = []
    for letter in line:
        if runs and runs[-1][0] == letter:
            runs[-1].append(letter)
        else:
            runs.append([letter])
    return " ".join(f"{run[0]}{len(run)}" for run in runs)
