"""Backups of a store: a copy of its database for each of the last days on which it was used.

They lie in `<folder>/backups/` as `2026-11-29.db`, next to the databases that a restore has put aside in
`<folder>/backups/replaced/`. Each is a database of its own, and holds all words that the store held when it was made.
"""

from __future__ import annotations

import re
from pathlib import Path

KEPT = 7  # days
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\.db")


def backup_folder(folder: Path) -> Path:
    """Where the backups of the store in `folder` are."""
    return folder / "backups"


def daily_backups(folder: Path) -> list[Path]:
    """The backups of the store in `folder`, the newest first."""
    found = backup_folder(folder)
    return sorted((path for path in found.glob("*.db") if _DAY.fullmatch(path.name)), reverse=True)


def backup_files(folder: Path) -> list[Path]:
    """Every file below the store's folder that holds a copy of its database: whoever erases words must reach them all.

    These are the backups, the databases that a restore has put aside (with SQLite's files beside them), and what a kill
    has left of either. Any of them can be deleted at any time.
    """
    found = backup_folder(folder)
    return sorted(path for path in found.rglob("*") if path.is_file() and not path.is_symlink())
