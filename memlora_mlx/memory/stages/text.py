"""Text that a stage reads or writes: cleaned to one line, and dates as people write them."""

from __future__ import annotations

import unicodedata
from datetime import datetime

MAX_TEXT = 240  # characters of one fact or memory


def format_day(moment: datetime | None) -> str:
    """A date as people write it: "8 May 2023". Of a time with a zone it is the day on this machine's clock."""
    if moment is not None and moment.tzinfo is not None:
        moment = moment.astimezone()
    return f"{moment.day} {moment:%B %Y}" if moment else "undated"


def clean_line(text: str, limit: int | None = MAX_TEXT) -> str:
    """One line of text, at most `limit` characters, without what could drive a terminal or break Unicode.

    Control characters become spaces and bidirectional overrides go; joiners, which emoji and many scripts need, stay.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    kept = (" " if unicodedata.category(c) == "Cc" else c for c in text if c not in _BIDI)
    return " ".join("".join(kept).split())[:limit].rstrip()


_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
