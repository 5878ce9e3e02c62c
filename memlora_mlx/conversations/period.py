"""Which exchanges of a conversation lie within a period."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from memlora_mlx.records import Exchange


@dataclass(frozen=True, slots=True)
class Period:
    """From a day on, and before another; None: without an end on that side.

    It chooses whole exchanges, after a conversation was cut into them: an exchange is then the same as without a
    period, and is not read twice.
    """

    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it holds everything."""
        return self.since is None and self.until is None

    def holds(self, exchange: Exchange) -> bool:
        """Whether the exchange was said within the period; one without a date is in none."""
        if self.is_open:
            return True
        if exchange.said_at is None:
            return False
        said_at = exchange.said_at.replace(tzinfo=None)
        return (self.since is None or self.since <= said_at) and (self.until is None or said_at < self.until)
