"""Text that a stage reads or writes: cleaned to one line, and dates as people write them."""

from __future__ import annotations

import unicodedata
from datetime import datetime

from memlora_mlx import text as house_text

MAX_TEXT = 240  # characters of one fact or memory that the student writes
_BEGINNINGS = frozenset("¿¡([#@%&*'-\"")  # beside letters, numbers and symbols; see `grammars.TEXT_RULE`


def format_day(moment: datetime | None) -> str:
    """A date as people write it: "8 May 2023". Of a time with a zone it is the day on this machine's clock."""
    if moment is not None and moment.tzinfo is not None:
        moment = moment.astimezone()
    return f"{moment.day} {moment:%B %Y}" if moment else "undated"


def answer_text(text: str) -> str:
    """The text as the student may write it: one line, from the first character that the grammars let a text begin with."""
    text = clean_line(text)
    begin = next((i for i, c in enumerate(text) if unicodedata.category(c)[0] in "LNS" or c in _BEGINNINGS), len(text))
    return text[begin:]


def clean_line(text: str, limit: int | None = MAX_TEXT) -> str:
    """One line of a prompt, fact or memory, by default of no more characters than a fact may have."""
    return house_text.clean_line(text, limit)
