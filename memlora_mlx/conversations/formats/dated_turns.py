"""What the formats have in common whose turns each have a time and lines of text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from memlora_mlx.conversations.model import Conversation, Reading, Turn, daily_sessions, people_of, turn_text


def conversation_of_dated_turns(
    format_name: str,
    turns: Iterable[tuple[str, datetime, Sequence[str]]],
    reading: Reading,
    *,
    placeholder: re.Pattern[str],
    left_out: str,
) -> Conversation:
    """The conversation of the turns, cut where a day ends.

    Args:
        turns: speaker, time and lines of each.
        placeholder: matches a text that stands for a picture or another file; such turns are left out.
        left_out: what the report calls them.
    """
    made = []
    for speaker, said_at, lines in turns:
        said = turn_text("\n".join(lines))
        if placeholder.match(said):
            reading.leave_out(left_out)
        else:
            made.append(Turn(speaker, said, None, said_at))
    sessions = daily_sessions(made)
    return Conversation("", "", format_name, sessions, people_of(sessions))
