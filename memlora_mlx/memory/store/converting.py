"""Encrypt a store, decrypt it, or give it another key.

The database decides what a store is: it is copied aside under the new key, checked, and then takes the old one's name in
one step. Before that step `key.json` says what is being done and names both keys; after it the other files follow one by
one, each whole. So a kill leaves a store that opens before or after the step, and whoever opens it next takes back what was
begun, or does what is left. The saved vector indexes are a cache and are made anew.

While the database is copied no other process can open the store; SQLite's own lock sees to that.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from memlora_mlx.errors import StoreBroken, StoreBusy, StoreError, UsageError
from memlora_mlx.extras import require
from memlora_mlx.files import is_scratch, new_private_file, replace_file
from memlora_mlx.memory.store import checksums, encrypted_sqlite
from memlora_mlx.memory.store.backups import backup_files
from memlora_mlx.memory.store.database import PASSING, Database, prepare_connection, require_database, translated_errors
from memlora_mlx.memory.store.keys import (
    DATABASE,
    KeyFile,
    State,
    StoreKeys,
    forget_slot,
    key_lock,
    linked,
    new_slot,
    read_key_file,
    remember,
    replacing,
    unlock,
    write_key_file,
)
from memlora_mlx.sealed_files import PLAIN, Sealer
from memlora_mlx.settings import KEY_FILE, WORK_QUEUE

_SCRATCH = ".saving-convert-"
_WAIT_SECONDS = 5.0  # for commands that end soon
OnStep = Callable[[str], None]


def encrypt_store(folder: Path, passphrase: str | None, on_step: OnStep) -> None:
    """Encrypt the store in `folder`, or finish that.

    Args:
        passphrase: wraps the key; None puts the key into the system's keyring.
        on_step: is told what is being done.

    Raises:
        UsageError: it is encrypted already.
        StoreBusy: another process uses the store.
        StoreBroken, StoreFull, StoreReadOnly: nothing has changed.
    """
    require("encryption", "`memlora encrypt`")
    with _whole(folder):
        _finish_first(folder)
        if read_key_file(folder) is not None:
            raise UsageError(f"the store in {folder} is encrypted already; `memlora rekey` gives it another key")
        master = secrets.token_bytes(32)
        _convert(
            folder,
            None,
            lambda: KeyFile("encrypting", (new_slot(master, passphrase),)),
            StoreKeys((master,)),
            on_step,
        )


def decrypt_store(folder: Path, on_step: OnStep) -> None:
    """Decrypt the store in `folder`, or finish that. The key is forgotten. Raises as `encrypt_store`, and StoreLocked."""
    with _whole(folder):
        _finish_first(folder)
        file, keys = _require_encrypted(folder)
        plain = replace(keys, seals=False)
        _convert(folder, keys.database_keys[0], lambda: replace(file, state="decrypting"), plain, on_step)


def rekey_store(folder: Path, passphrase: str | None, on_step: OnStep) -> None:
    """Encrypt everything in the store anew with another key. Args and errors are those of `encrypt_store`."""
    with _whole(folder):
        _finish_first(folder)
        file, keys = _require_encrypted(folder)
        master = secrets.token_bytes(32)
        both = StoreKeys((master, *keys.masters))

        def changed() -> KeyFile:
            return linked(KeyFile("rekeying", (new_slot(master, passphrase), *file.slots)), both.masters)

        _convert(folder, keys.database_keys[0], changed, both, on_step)


def finish_conversion(database: Database) -> Sealer:
    """Do what an interrupted encryption, decryption or change of the key has left, and return what opens the store's files.

    Raises:
        StoreLocked: the key is needed for that and cannot be had.
        StoreBroken: the key file or a picture is damaged.
    """
    folder = database.path.parent
    file = read_key_file(folder)
    if file is None:
        return PLAIN
    if file.state != "encrypted" and not database.read_only:
        _finish(folder, is_plain=database.keys is None)
    keys = unlock(folder)
    if database.keys is not None:
        database.keys = keys  # another one where a change of the key was finished or taken back
    return PLAIN if keys is None else keys.sealer


def plain_leftovers(folder: Path) -> list[Path]:
    """Files of an encrypted store that are not encrypted: copies of its database that could not be converted, and scraps."""
    found = [path for path in backup_files(folder) if not encrypted_sqlite.is_encrypted(path)]
    journal = folder / f"{DATABASE}-journal"
    return [*found, journal] if journal.is_file() and journal.stat().st_size else found


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[None]:
    require_database(path := folder / DATABASE)
    if path.is_symlink():
        raise StoreError(
            f"{path} is a link to {path.resolve()}, which would stay as it is; move the file to {folder}, then run the"
            " same command again"
        )
    with translated_errors(path), replacing(folder):
        yield


def _require_encrypted(folder: Path) -> tuple[KeyFile, StoreKeys]:
    file, keys = read_key_file(folder), unlock(folder)
    if file is None or keys is None:
        raise UsageError(f"the store in {folder} is not encrypted; `memlora encrypt` encrypts it")
    return file, keys


def _finish_first(folder: Path) -> None:
    """Open the store once: it is brought up to date, and what was interrupted is finished."""
    database = Database(folder / DATABASE, create=False)
    try:
        if database.read_only:
            raise StoreError(f"the store in {folder} cannot be written; check its permissions")
        finish_conversion(database)
    finally:
        database.close()


def _convert(
    folder: Path, key: bytes | None, make_file: Callable[[], KeyFile], keys: StoreKeys, on_step: OnStep
) -> None:
    """Replace the database by one under other keys, and then the other files.

    Args:
        key: of the database now.
        make_file: makes the new key file, once nobody else can open the store.
    """
    path = folder / DATABASE
    with translated_errors(path):
        with _alone(path, key) as connection:
            on_step("Checking the database.")
            _check(connection, path)
            write_key_file(folder, make_file())
            remember(folder, keys)
            try:
                on_step("Copying the database under the new key." if keys.seals else "Copying the database.")
                _replace(connection, path, keys.database_keys[0] if keys.seals else None)
            except BaseException:
                _finish(folder, is_plain=encrypted_sqlite.is_plain(path))  # mostly takes it back
                raise
        on_step("Going through pictures and backups.")
        _finish_first(folder)


@contextlib.contextmanager
def _alone(path: Path, key: bytes | None) -> Iterator[sqlite3.Connection]:
    """A connection while which no other process can open the database."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        connection = encrypted_sqlite.open_with(path, key, mode="mode=rw", timeout=1.0)
        try:
            prepare_connection(connection)
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            break
        except BaseException as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > deadline:
                raise StoreBusy(
                    f"another process uses {path}; close the app, chats and `memlora serve`, then run the same command again"
                ) from error
            time.sleep(0.1)
    with contextlib.closing(connection):
        yield connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok" or checksums.all_damaged_rows(connection):
        raise StoreBroken(f"{path} is damaged, so it was left as it is; run `memlora doctor --repair` first")


def _replace(connection: sqlite3.Connection, path: Path, key: bytes | None) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_SCRATCH) as scratch:
        new_private_file(made := Path(scratch, DATABASE))
        encrypted_sqlite.export_from(connection, made, key)
        with contextlib.closing(encrypted_sqlite.open_with(made, key)) as copied:
            prepare_connection(copied)
            _check(copied, made)
            if _counts(copied) != _counts(connection):
                raise StoreBroken(f"the copy of {path} does not have all its rows; run `memlora doctor`")
            # No process that opens it writes a journal of another kind, which would lie where ours is deleted.
            copied.execute("PRAGMA journal_mode = WAL")
        replace_file(made, path)


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows each table has, SQLite's own left out."""
    named = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    names = [row[0] for row in connection.execute(named)]
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}


def _finish(folder: Path, *, is_plain: bool) -> None:
    """Go on from whatever the key file and the database say, one process at a time.

    Args:
        is_plain: whether the database is.
    """
    with key_lock(folder):
        file = read_key_file(folder)
        if file is None or file.state == "encrypted":
            return
        _remove_scraps(folder)
        if file.state == "encrypting" and is_plain:  # it was not replaced
            write_key_file(folder, None)
            forget_slot(file.slots[0])
        elif file.state == "decrypting" and not is_plain:
            write_key_file(folder, replace(file, state="encrypted"))
        elif file.state == "decrypting":
            _convert_files(folder, _unlocked(folder))
            write_key_file(folder, None)
            forget_slot(file.slots[0])
        else:
            _finish_with_key(folder, file, _unlocked(folder))


def _remove_scraps(folder: Path) -> None:
    """What killed saves have left in the store's folder and in the queue: it may be plain. Nobody else writes there now."""
    for path in [
        each for room in (folder, folder.parent / WORK_QUEUE) for each in room.rglob(".*") if is_scratch(each)
    ]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _finish_with_key(folder: Path, file: KeyFile, keys: StoreKeys) -> None:
    """Of an encrypted database: keep the key that opens it, and write the other files with it."""
    now = next((at for at, key in enumerate(keys.database_keys) if _opens(folder / DATABASE, key)), None)
    if now is None:
        raise StoreBroken(f"{folder / DATABASE} is damaged; run `memlora restore`")
    kept = replace(file, state="encrypted", slots=(file.slots[now],), links=())
    if now == 0:  # the new one; where the database has the old one, nothing else was written with the new one
        _convert_files(folder, keys)
    write_key_file(folder, kept)
    remember(folder, StoreKeys((keys.masters[now],)))
    for at, slot in enumerate(file.slots):
        if at != now:
            forget_slot(slot)


def _unlocked(folder: Path) -> StoreKeys:
    keys = unlock(folder)
    assert keys is not None
    return keys


def _opens(path: Path, key: bytes) -> bool:
    with contextlib.closing(encrypted_sqlite.open_with(path, key, timeout=60.0)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError:
            return False
    return True


def _convert_files(folder: Path, keys: StoreKeys) -> None:
    """Write anew, as the keys say, all but the database. Each file is whole at any moment.

    What is damaged already stays as it is.

    Raises:
        StoreError: a file that is not damaged could not be written; the next start goes on.
    """
    (folder / f"{DATABASE}-journal").unlink(missing_ok=True)  # of the old database; the new one has another kind
    shutil.rmtree(folder / "indexes", ignore_errors=True)
    for path in sorted((folder / "images").glob("??/*")):
        if path.is_file() and not path.is_symlink():
            with translated_errors(path), contextlib.suppress(StoreBroken):  # `doctor` names it
                keys.sealer.reseal(path)
    for path in sorted((folder.parent / WORK_QUEUE).rglob("*.json")):
        with translated_errors(path), contextlib.suppress(StoreBroken, FileNotFoundError):  # it may just be done
            keys.sealer.reseal(path)
    for path in backup_files(folder):
        if path.suffix == ".db":
            with translated_errors(path):
                try:
                    _convert_copy(path, keys)
                except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                    # The old key is forgotten afterwards: no copy that is whole may be left with it.
                    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                    if code in PASSING:
                        raise
                    if code == sqlite3.SQLITE_IOERR and _is_readable(path):  # so it was the new one that failed
                        raise StoreError(
                            f"{path} cannot be written anew ({error}); make room on the disk or check it, then run the"
                            " same command again"
                        ) from error


def _is_readable(path: Path) -> bool:
    """Whether the disk gives all of a file."""
    try:
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError:
        return False
    return True


def _convert_copy(path: Path, keys: StoreKeys) -> None:
    """Write a copy of the database anew, whole or not at all."""
    wanted = keys.database_keys[0] if keys.seals else None
    known = (None,) if encrypted_sqlite.is_plain(path) else keys.database_keys
    present = next((key for key in known if key is None or _opens(path, key)), None)
    if present == wanted:
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_SCRATCH) as scratch:
        new_private_file(made := Path(scratch, path.name))
        encrypted_sqlite.export(path, present, made, wanted)
        replace_file(made, path)


def describe(folder: Path) -> str:
    """One sentence about whether the store is encrypted, with what, and where the key is."""
    file = read_key_file(folder)
    if file is None:
        return "The store is not encrypted. `memlora encrypt` encrypts it."
    doing: dict[State, str] = {
        "encrypted": "is encrypted",
        "encrypting": "is being encrypted",
        "rekeying": "is getting another key",
        "decrypting": "is being decrypted",
    }
    where = "in the system's keyring" if file.kind == "keyring" else f"in {folder / KEY_FILE}, under a passphrase"
    return (
        f"The store {doing[file.state]} with SQLCipher {encrypted_sqlite.cipher_version()} and, for pictures and indexes,"
        f" AES-256-GCM. Its key is {where}."
    )
