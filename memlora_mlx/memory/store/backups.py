"""Backups of a store: a copy of its database for each of the last days on which it was used.

They lie in `<folder>/backups/` as `2026-11-29.db`, next to the databases that a restore has put aside in
`<folder>/backups/replaced/`. Each is a database of its own, and holds all words that the store held when it was made.
Images are not in them: a memory that is restored has its image as long as the store's folder has it.
"""

from __future__ import annotations

import logging
import re
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from memlora_mlx.errors import StoreError
from memlora_mlx.files import atomic_paths, private_folder
from memlora_mlx.memory.store.damage import find_damage
from memlora_mlx.memory.store.database import Database, open_unchanging, translated_errors
from memlora_mlx.memory.store.keys import StoreKeys, database_keys

KEPT = 7  # backups, each of another day
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})\.db")
_SCRAP_SECONDS = 3600  # a backup that is being made is younger than this
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup and what is in it.

    Attributes:
        problem: why it cannot be restored; None where it can.
    """

    day: date
    path: Path
    size: int  # bytes
    memories: int = 0
    exchanges: int = 0
    problem: str | None = None


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


def copies_with_conversation(folder: Path, conversation: str) -> list[Path]:
    """The copies of the store's database that hold a conversation of the chat; one that cannot be read may hold it, too."""
    found, keys = [], database_keys(folder)
    for path in backup_files(folder):
        if path.suffix != ".db":
            continue
        try:
            with closing(open_unchanging(path, keys)) as connection:
                query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'conversations'"
                if connection.execute(query).fetchone() is None:  # of a version that kept no conversations
                    continue
                query = "SELECT 1 FROM conversations WHERE public_id = ?"
                if connection.execute(query, [conversation]).fetchone() is None:
                    continue
        except (sqlite3.Error, UnicodeDecodeError):
            pass
        found.append(path)
    return found


def forget_backups(folder: Path) -> bool:
    """Delete every copy of the store's database, because words that are in them were erased. Returns whether any was there.

    Raises:
        StoreReadOnly: one of them cannot be deleted.
    """
    had_any = False
    with translated_errors(backup_folder(folder)):
        while found := backup_files(folder):  # again: another process may just give its new backup its name
            had_any = True
            for path in found:
                path.unlink(missing_ok=True)
        for path in (backup_folder(folder) / "replaced", *backup_folder(folder).glob(".saving-*")):
            shutil.rmtree(path, ignore_errors=True)
    return had_any


def back_up(database: Database, today: date) -> Path | None:
    """Make the backup of a day, unless it is there or the store is empty. The oldest beyond `KEPT` go.

    A damaged store is not backed up, so that its copies never push out those from before the damage.

    Raises:
        StoreBroken: the store is damaged.
        StoreFull, StoreReadOnly: the backup cannot be written.
    """
    folder = database.path.parent
    target = backup_folder(folder) / f"{today.isoformat()}.db"
    if target.exists() or database.read_only or _is_empty(database):
        return None
    with translated_errors(target):
        private_folder(target.parent)
        _remove_scraps(target.parent)
        with atomic_paths(target) as (scratch,):
            database.copy_to(scratch)
        for old in daily_backups(folder)[KEPT:]:
            old.unlink(missing_ok=True)
    return target


def back_up_or_warn(database: Database, today: date) -> None:
    """`back_up`, for whoever goes on without a backup."""
    try:
        back_up(database, today)
    except StoreError as error:
        _LOG.warning("no backup was made today: %s", error)


class DailyBackups:
    """Makes the backup of each day on which a store is used, once.

    Args:
        is_on: without it none is made.
    """

    def __init__(self, database: Database, *, is_on: bool) -> None:
        self._database, self._is_on = database, is_on
        self._made: date | None = None  # the last day on which this was done here

    def make_if_due(self, now: datetime) -> None:
        if self._is_on and (today := now.astimezone().date()) != self._made:
            self._made = today
            back_up_or_warn(self._database, today)


def read_backups(folder: Path) -> list[Backup]:
    """The backups of the store in `folder`, the newest first, each checked for damage."""
    keys = database_keys(folder)
    return [read_backup(path, keys) for path in daily_backups(folder)]


def read_backup(path: Path, keys: StoreKeys | None = None) -> Backup:
    """A backup of the store that the keys are of, if it has some, checked for damage."""
    match = _DAY.fullmatch(path.name)
    day, size = date.fromisoformat(match[1] if match else "1970-01-01"), path.stat().st_size
    try:
        with closing(open_unchanging(path, keys)) as connection:
            if problems := find_damage(connection):
                return Backup(day, path, size, problem=problems[0])
            [memories] = connection.execute("SELECT count(*) FROM memories").fetchone()
            [exchanges] = connection.execute("SELECT count(*) FROM exchanges").fetchone()
            return Backup(day, path, size, memories, exchanges)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return Backup(day, path, size, problem=str(error))


def _is_empty(database: Database) -> bool:
    with database.read() as connection:
        found = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM exchanges UNION ALL SELECT 1 FROM history UNION ALL SELECT 1 FROM turns)"
        )
        return not found.fetchone()[0]


def _remove_scraps(folder: Path) -> None:
    """What kills have left, but for what another process may be writing."""
    for path in folder.glob(".saving-*"):
        if time.time() - path.lstat().st_mtime > _SCRAP_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
