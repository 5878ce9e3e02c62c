"""How much one ingest may change of what was remembered before it: beyond a share, the user is asked first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from memlora_mlx.errors import TooManyChanges
from memlora_mlx.memory.changes import Add, Change, Update
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import PROVENANCES, Exchange

SHARE = 0.1  # of the memories that were there before
LEAST = 5  # as many changes are always allowed


class ChangeLimit:
    """Counts the updates and deletions of memories that are older than an ingest and come from elsewhere.

    Args:
        resumed: names of conversations of which a part was read before; they may change their own memories.
    """

    def __init__(self, store: Store, resumed: Collection[str]) -> None:
        self._store, self._resumed = store, resumed
        self._began: datetime = store.clock()
        self.before = store.count(show_expired=True)
        self.most = max(LEAST, int(SHARE * self.before))
        self.changed: set[str] = set()  # ids

    def approve(self, exchange: Exchange, changes: Sequence[Change]) -> None:
        """Count what an exchange is about to change. Raises TooManyChanges: it is more than is allowed."""
        concerned = set(self.changed)
        waiting: list[tuple[str, str | None]] = []
        for change in changes:
            if isinstance(change, Add):
                continue
            memory = self._store.get(change.memory_id)
            if memory is None or memory.stored_at >= self._began:
                continue
            is_own = memory.source == exchange.source and exchange.source in self._resumed
            if not is_own and PROVENANCES.index(change.provenance) <= PROVENANCES.index(memory.provenance):
                concerned.add(memory.id)
                waiting.append((memory.text, change.text if isinstance(change, Update) else None))
        if len(concerned) > self.most:
            raise TooManyChanges(
                f"Stopped at exchange {exchange.position + 1} of {exchange.source}: it would bring the older memories that"
                f" this ingest changes or deletes to {len(concerned)} of {self.before}. What was read before it is stored."
                " Look at the changes, then continue with --yes, or take them back with `memlora memory undo`.",
                waiting,
            )
        self.changed = concerned
