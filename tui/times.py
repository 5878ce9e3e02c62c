"""Times as people read them."""

from __future__ import annotations

from datetime import datetime


def format_time(moment: datetime | None) -> str:
    """A date, with the time if it is known: "8 May 2023, 13:56". Times with a zone are shown in the local zone."""
    if moment is None:
        return "undated"
    if moment.tzinfo is not None:
        moment = moment.astimezone()
    day = f"{moment.day} {moment:%b %Y}"
    return day if (moment.hour, moment.minute) == (0, 0) else f"{day}, {moment:%H:%M}"
