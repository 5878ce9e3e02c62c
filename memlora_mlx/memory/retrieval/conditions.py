"""Conditions that searches of memories and of messages share."""

from __future__ import annotations

from datetime import datetime

from memlora_mlx.memory.retrieval.filters import Condition, all_of, from_filters, not_expired, said_between


def ranges(source: str | None, said_after: datetime | None, said_before: datetime | None) -> Condition:
    """From one conversation, and said from the first time on and before the second."""
    conditions = [] if source is None else [from_filters({"source": {"eq": source}})]
    if said_after is not None or said_before is not None:
        conditions.append(said_between(said_after, said_before))
    return all_of(*conditions)


def expiry(now: datetime, show_expired: bool) -> Condition:
    return all_of() if show_expired else not_expired(now)
