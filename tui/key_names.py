"""Keys as people write them: "Ctrl+O" for Textual's "ctrl+o"."""

from __future__ import annotations

_NAMES = {"escape": "Esc", "enter": "Enter", "pageup": "PgUp", "pagedown": "PgDn", "delete": "Del", "slash": "/"}


def key_name(key: str) -> str:
    """One key, as the help and the texts of the app name it."""
    return "+".join(
        _NAMES.get(part, part.capitalize() if "+" in key or len(part) > 1 else part) for part in key.split("+")
    )
