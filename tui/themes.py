"""A dark and a light theme, each also for terminals with 256 colours. Each colour has the same meaning in all of them.

Muted text has a contrast of at least 4.5 to 1, and the sign of the focus one of 3 to 1, on every background
(tests/tui/test_themes.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from textual.theme import Theme

ThemeName = Literal["dark", "light"]


def _theme(name: str, *, dark: bool, muted: str, colours: Mapping[str, str]) -> Theme:
    """A theme with these colours; `muted` is for text that is less important, on all backgrounds."""
    variables = {
        "text-muted": muted,
        "foreground-muted": muted,
        "footer-key-foreground": colours["accent"],
        "input-selection-background": f"{colours['primary']} {35 if dark else 25}%",
    }
    return Theme(name=name, dark=dark, variables=variables, **colours)  # type: ignore[arg-type]


DARK = _theme(
    "memlora-dark",
    dark=True,
    muted="#9ba3b1",
    colours={
        "primary": "#8aadf4",
        "secondary": "#a5b6cf",
        "accent": "#f5a97f",
        "success": "#8bd5a0",
        "warning": "#eed49f",
        "error": "#ed8796",
        "foreground": "#d7dce5",
        "background": "#14171d",
        "surface": "#1a1e26",
        "panel": "#232934",
    },
)
LIGHT = _theme(
    "memlora-light",
    dark=False,
    muted="#585f6b",
    colours={
        "primary": "#2f5fb3",
        "secondary": "#56657d",
        "accent": "#b4500f",
        "success": "#23733f",
        "warning": "#8a5a00",
        "error": "#b3261e",
        "foreground": "#20242c",
        "background": "#fbfaf8",
        "surface": "#f3f1ed",
        "panel": "#e7e4de",
    },
)
# With 256 colours a terminal shows the nearest one that it has; colours that are near each other become the same there.
# These stay apart there.
DARK_256 = _theme(
    "memlora-dark-256",
    dark=True,
    muted="#a8a8a8",
    colours={
        "primary": "#87afff",
        "secondary": "#afafd7",
        "accent": "#ffaf87",
        "success": "#87d787",
        "warning": "#ffd787",
        "error": "#ff8787",
        "foreground": "#d0d0d0",
        "background": "#121212",
        "surface": "#1c1c1c",
        "panel": "#303030",
    },
)
LIGHT_256 = _theme(
    "memlora-light-256",
    dark=False,
    muted="#585858",
    colours={
        "primary": "#005faf",
        "secondary": "#5f5f87",
        "accent": "#af5f00",
        "success": "#005f00",
        "warning": "#875f00",
        "error": "#af0000",
        "foreground": "#262626",
        "background": "#ffffff",
        "surface": "#eeeeee",
        "panel": "#dadada",
    },
)
THEMES: Final[Mapping[ThemeName, Theme]] = {"dark": DARK, "light": LIGHT}  # by the values of the setting `theme`
THEMES_256: Final[Mapping[ThemeName, Theme]] = {"dark": DARK_256, "light": LIGHT_256}
ALL_THEMES: Final = (DARK, LIGHT, DARK_256, LIGHT_256)


def theme_name(name: ThemeName, color_system: str | None) -> str:
    """The theme of this setting for a terminal.

    Args:
        color_system: what Rich found that the terminal can do: "truecolor", "256", "standard", or None.
    """
    return (THEMES_256 if color_system in ("256", "standard", "windows") else THEMES)[name].name
