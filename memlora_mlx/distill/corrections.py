"""Training pairs from the user's own corrections of what was remembered."""

from __future__ import annotations

from pathlib import Path

from memlora_mlx.memory.store import Store


def count_corrections(home: Path) -> int:
    """How many training pairs the user's corrections have given so far."""
    return 0


def record_corrections(store: Store, home: Path, memory_id: str) -> int:
    """Bring the training pairs of the exchanges that made this memory up to date. Returns how many there are."""
    return 0
