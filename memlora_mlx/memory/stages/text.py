"""Text that a stage reads or writes: cleaned to one line, and dates as people write them."""

from __future__ import annotations

from datetime import datetime

from memlora_mlx import text as house_text

MAX_TEXT = 240  # characters of one fact or memory


def format_day(moment: datetime | None) -> str:
    """A date as people write it: "8 May 2023". Of a time with a zone it is the day on this machine's clock."""
    if moment is not None and moment.tzinfo is not None:
        moment = moment.astimezone()
    return f"{moment.day} {moment:%B %Y}" if moment else "undated"


def clean_line(text: str, limit: int | None = MAX_TEXT) -> str:
    """One line of a prompt, fact or memory, by default of no more characters than a fact may have."""
    return house_text.clean_line(text, limit)
