"""Words from models, files and memories, made fit for a terminal: no escapes, no markup, no giant lines."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")


def clean_text(text: str) -> str:
    """Without what could drive a terminal or turn the reading direction; line ends and tabs stay."""
    return _CONTROL.sub("", text)


def clean_line(text: str, limit: int = 400) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(clean_text(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def format_bytes(count: float) -> str:
    """Bytes as people say them: "412 MB", "1.2 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
