"""Files below the data folder that stay plain when the store is encrypted."""

from __future__ import annotations

from pathlib import Path

from memlora_mlx.memory.store.converting import plain_leftovers
from memlora_mlx.memory.traces import DERIVED, known_exports
from memlora_mlx.settings import APP_HISTORY, CHAT_HISTORY, CORRECTIONS, WORK_QUEUE


def plain_files(home: Path) -> tuple[list[Path], list[Path]]:
    """What holds words and is not encrypted: what memlora can do without, and what is the user's to keep or remove.

    The first are copies of the database that could not be converted, lines that were typed, and training examples made
    from corrections, which an encrypted store does not keep. The others are exports and the folders of training,
    benchmarks and runs.
    """
    leftovers = plain_leftovers(home / "store")
    leftovers += [home / name for name in (CHAT_HISTORY, APP_HISTORY) if (home / name).is_file()]
    leftovers += sorted(home.glob(f"teacher/*/{CORRECTIONS}"))
    folders = [home / name for name in DERIVED if name != WORK_QUEUE]
    others = [path for path in folders if any(each.is_file() and each not in leftovers for each in path.rglob("*"))]
    return leftovers, [*known_exports(home), *others]
