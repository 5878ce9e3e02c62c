"""Bring back a store: from a backup, or what is whole of a damaged one. The present database is always put aside first.

The new database is finished beside the store before anything of the store is touched. SQLite then writes it into the
store's own file as one transaction, so a kill leaves the old content or the new, and other processes see a change like
any other. Only a file that SQLite cannot open is replaced as a file.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime
from pathlib import Path

from memlora_mlx.errors import StoreBroken, StoreError
from memlora_mlx.files import atomic_folder, flush_to_disk, private_folder, replace_file
from memlora_mlx.memory.store.backups import Backup, backup_folder, read_backup, read_backups
from memlora_mlx.memory.store.database import PASSING, Database, copy_database, open_unchanging, translated_errors
from memlora_mlx.memory.store.encrypted_sqlite import connect
from memlora_mlx.memory.store.keys import DATABASE, StoreKeys, database_keys, replacing
from memlora_mlx.memory.store.salvage import SalvageReport, salvage_rows

_BESIDE = ("-wal", "-shm", "-journal")  # SQLite's own files
BUSY_SECONDS = 10.0


def replaced_folder(folder: Path) -> Path:
    """Where the databases are that restores have put aside."""
    return backup_folder(folder) / "replaced"


def choose_backup(folder: Path, day: date | None = None) -> Backup:
    """The backup of a day, or the newest that is sound.

    Raises:
        StoreError: there is none, or that of the day is damaged.
    """
    if day is None:
        for backup in read_backups(folder):
            if backup.problem is None:
                return backup
        raise StoreError(
            f"there is no sound backup in {backup_folder(folder)}; `memlora restore --salvage` keeps what is whole"
        )
    path = backup_folder(folder) / f"{day.isoformat()}.db"
    if not path.is_file():
        raise StoreError(f"there is no backup of {day}; `memlora restore --list` shows those that are there")
    backup = read_backup(path, database_keys(folder))
    if backup.problem is not None:
        raise StoreError(f"the backup of {day} is damaged ({backup.problem}); choose another day")
    return backup


def restore_backup(folder: Path, backup: Backup, now: datetime) -> Path | None:
    """Put a backup in the place of the store's database. Returns where that is kept now; None if there was none.

    Raises:
        StoreBusy: another process is writing to the store.
        StoreFull, StoreReadOnly: the store's folder cannot be written; nothing has changed.
    """
    with _new_database(folder) as scratch:
        keys = database_keys(folder)
        with closing(open_unchanging(backup.path, keys)) as source:
            copy_database(source, scratch, keys)
        return _put_in_place(folder, scratch, now)


def salvage_store(folder: Path, now: datetime) -> tuple[SalvageReport, Path | None]:
    """Put all that is whole of the store's database in its place. Returns what was kept, and where the old one is.

    Raises:
        StoreBroken: not even its tables can be found.
        StoreBusy, StoreFull, StoreReadOnly: nothing has changed.
    """
    path = folder / DATABASE
    with _new_database(folder) as scratch:
        keys = database_keys(folder)
        with translated_errors(path), closing(_open_damaged(path, keys)) as source:
            report = salvage_rows(source, scratch, folder)
        return report, _put_in_place(folder, scratch, now)


@contextlib.contextmanager
def _new_database(folder: Path) -> Iterator[Path]:
    """A place for the new database, on the store's own file system; it is gone at the end."""
    with translated_errors(folder / DATABASE):
        private_folder(backup_folder(folder))
        with replacing(folder), tempfile.TemporaryDirectory(dir=backup_folder(folder), prefix=".saving-") as scratch:
            yield Path(scratch, DATABASE)


def _put_in_place(folder: Path, scratch: Path, now: datetime) -> Path | None:
    keys = database_keys(folder)
    _give_identity(scratch, folder, keys)
    path = folder / DATABASE
    kept = _put_aside(folder, now, keys) if path.is_file() else None
    with translated_errors(path):
        if kept is None or not _overwrite(path, scratch, keys):
            # SQLite cannot open the file, so its journal is of no use either; both have been put aside.
            for name in _BESIDE:
                path.with_name(path.name + name).unlink(missing_ok=True)
            replace_file(scratch, path)
    shutil.rmtree(folder / "indexes", ignore_errors=True)  # a cache, of another store now
    return kept


def _give_identity(scratch: Path, folder: Path, keys: StoreKeys | None) -> None:
    """Bring the new database to today's schema, and name it anew: no saved index may be taken for its own."""
    database = Database(scratch, key_folder=folder)
    with database.write() as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('store', ?)", [str(uuid.uuid4())])
    database.close()
    with translated_errors(scratch), closing(connect(scratch, keys)) as made:
        made.execute("PRAGMA journal_mode = DELETE")


def _overwrite(path: Path, scratch: Path, keys: StoreKeys | None) -> bool:
    """Write a database into a store's file, as one transaction of SQLite. False: SQLite cannot open that file."""
    try:
        with closing(open_unchanging(scratch, keys)) as new, closing(_connect(path, keys)) as store:
            new.backup(store)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in PASSING:
            raise
        return False
    return True


def _put_aside(folder: Path, now: datetime, keys: StoreKeys | None) -> Path:
    """Copy the present database to `replaced`, whole with SQLite's files where SQLite cannot read it. Returns the folder."""
    path = folder / DATABASE
    kept = replaced_folder(folder) / f"{now.astimezone():%Y-%m-%d-%H%M%S}"
    with translated_errors(path):
        private_folder(kept.parent)
        with atomic_folder(kept) as made:
            made.chmod(0o700)
            try:
                with closing(_connect(path, keys)) as source:
                    copy_database(source, made / DATABASE, keys)
            except (sqlite3.DatabaseError, UnicodeDecodeError):
                for each in (path, *(path.with_name(path.name + name) for name in _BESIDE)):
                    if each.is_file():
                        shutil.copyfile(each, made / each.name)
                        (made / each.name).chmod(0o600)
            for each in made.iterdir():
                with each.open("rb") as file:
                    flush_to_disk(file.fileno())
    return kept


def _connect(path: Path, keys: StoreKeys | None) -> sqlite3.Connection:
    connection = connect(path, keys, timeout=BUSY_SECONDS)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # fails here where it is no database
    except BaseException:
        connection.close()  # else SQLite keeps its journal, which would be taken for that of the next database here
        raise
    return connection


def _open_damaged(path: Path, keys: StoreKeys | None) -> sqlite3.Connection:
    """A connection to a database that may be damaged; what its journal holds counts."""
    try:
        connection = _connect(path, keys)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise StoreBroken(
            f"{path} is damaged so much that its tables cannot be found ({error}); restore a backup"
        ) from error
    return connection
