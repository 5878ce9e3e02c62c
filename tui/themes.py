"""A dark and a light theme. Each colour has the same meaning in both."""

from __future__ import annotations

from typing import Final

from textual.theme import Theme

DARK = Theme(
    name="memlora-dark",
    primary="#8aadf4",
    secondary="#a5b6cf",
    accent="#f5a97f",
    success="#8bd5a0",
    warning="#eed49f",
    error="#ed8796",
    foreground="#d7dce5",
    background="#14171d",
    surface="#1a1e26",
    panel="#232934",
    dark=True,
    variables={"footer-key-foreground": "#f5a97f", "input-selection-background": "#8aadf4 35%"},
)
LIGHT = Theme(
    name="memlora-light",
    primary="#2f5fb3",
    secondary="#56657d",
    accent="#b4500f",
    success="#23733f",
    warning="#8a5a00",
    error="#b3261e",
    foreground="#20242c",
    background="#fbfaf8",
    surface="#f3f1ed",
    panel="#e7e4de",
    dark=False,
    variables={"footer-key-foreground": "#b4500f", "input-selection-background": "#2f5fb3 25%"},
)
THEMES: Final = {"dark": DARK, "light": LIGHT}  # by the values of the setting `theme`
