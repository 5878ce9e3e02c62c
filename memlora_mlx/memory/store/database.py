"""The SQLite file: connections, transactions, migrations, and the translation of its errors into StoreError."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from memlora_mlx.errors import StoreBroken, StoreBusy, StoreError, StoreFull, StoreReadOnly, StoreTooNew
from memlora_mlx.files import new_private_file, private_folder
from memlora_mlx.memory.store import checksums, encrypted_sqlite
from memlora_mlx.memory.store.keys import StoreKeys, database_keys
from memlora_mlx.memory.store.schema import MIGRATIONS, WITH_CHECKSUMS

# Errors that say nothing against the file.
PASSING = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CANTOPEN,
)
BUSY_SECONDS = 60.0
CLOSE_SECONDS = 10.0
CHECKED_BYTES = 64_000_000  # of a database: checking the rows of a larger copy takes more than a second


class Database:
    """One SQLite file, used from any number of threads: each gets a connection of its own.

    Args:
        key_folder: where the file with the key is; the database's own folder by default.

    Raises:
        StoreError: the file is not there and `create` is False.
        StoreLocked: it is encrypted, and the key cannot be had.
        StoreTooNew: a newer memlora wrote it.
        StoreReadOnly, StoreFull, StoreBusy, StoreBroken: as named.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = True,
        busy_seconds: float = BUSY_SECONDS,
        key_folder: Path | None = None,
    ) -> None:
        self.path = path
        self.keys: StoreKeys | None = None
        self._key_folder = key_folder or path.parent
        self.read_only = False
        self._busy_seconds = busy_seconds
        self._immutable = False
        self._lock = threading.Lock()
        self._block_ended = threading.Condition(self._lock)
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._blocks: Counter[threading.Thread] = Counter()  # that are open now
        self._closed = False
        with translated_errors(path):
            if not path.is_file():
                if not create:
                    require_database(path)
                private_folder(path.parent)  # memories are nobody else's business
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives its other files the same mode
            while not self._open():
                self.close()
                self._closed = False

    def _open(self) -> bool:
        """Open the file and bring it up to date. False: an encryption has put another file in its place meanwhile."""
        path, opened = self.path, _identity(self.path)
        try:
            self.keys = database_keys(self._key_folder)
            self._prepare_or_close()
        except sqlite3.OperationalError as error:
            if _identity(path) != opened:
                return False
            # A WAL database in a folder that cannot be written can still be read, as a file that does not change.
            if _primary(error) not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or not path.is_file():
                raise
            if (wal := path.with_name(path.name + "-wal")).is_file() and wal.stat().st_size:
                raise
            self._closed, self._immutable, self.read_only = False, True, True
            self._prepare_or_close()
        except sqlite3.DatabaseError:
            if _identity(path) == opened:
                raise
        return _identity(path) == opened  # while it is open here, nothing is put in its place

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, opened on first use."""
        thread = threading.current_thread()
        connection = self._connections.get(thread)
        if connection is None:
            connection = self._connect()
            with self._lock:
                if self._closed:
                    connection.close()
                    raise StoreError("the memory store is closed; open it again")
                for gone in [other for other in self._connections if not other.is_alive()]:
                    self._connections.pop(gone).close()
                self._connections[thread] = connection
        return connection

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A block that sees one unchanging state of the store, whatever others write meanwhile."""
        with translated_errors(self.path), self._in_use() as connection, _transaction(connection, "BEGIN"):
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A block that is kept whole or not at all. Waits for other writers, at most `busy_seconds`."""
        with translated_errors(self.path), self._in_use() as connection:
            if not checksums.is_watched(connection) and not self.read_only:
                checksums.watch(connection)
            with _transaction(connection, "BEGIN IMMEDIATE"):
                yield connection

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Like `read`, on a connection of its own, so that it may last while this thread does other things."""
        with translated_errors(self.path):
            connection = self._connect()
            try:
                with _transaction(connection, "BEGIN"):
                    connection.execute("SELECT 1 FROM meta").fetchone()  # the first read fixes the state
                    yield connection
            finally:
                connection.close()

    def copy_to(self, path: Path) -> None:
        """Copy the database to a file of its own that nobody else reads, while others may write to this one.

        Raises:
            StoreBroken: it is damaged; the copy is then to be thrown away. Of a large file only the copying is done.
        """
        with translated_errors(self.path), contextlib.closing(self._connect()) as source:
            is_checked = self.path.stat().st_size <= CHECKED_BYTES
            copy_database(source, path, self.keys)
            if is_checked:
                with contextlib.closing(open_unchanging(path, self.keys)) as copied:
                    if (found := copied.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                        raise StoreBroken(f"{self.path} is damaged ({found}); run `memlora doctor`")
                    if checksums.all_damaged_rows(copied):
                        raise StoreBroken(f"{self.path} has damaged rows; run `memlora doctor`")

    def compact(self) -> None:
        """Give back the space of deleted rows and leave no trace of them in the file and its journal.

        Raises:
            StoreBusy: another process has been reading for `busy_seconds`, so that the journal cannot be emptied.
        """
        with translated_errors(self.path), self._in_use() as connection:
            connection.execute("VACUUM")
            if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StoreBusy(
                    f"another process is reading {self.path}, so traces of what was deleted are still in its journal;"
                    " close the other process, then run the same command again"
                )

    def close(self) -> None:
        """Close every connection. A block that another thread has open ends first, and nothing begins after it.

        A block that lasts longer than `CLOSE_SECONDS` is not waited for: its thread closes the connection when it ends.
        """
        with self._lock:
            self._closed = True
            here = threading.current_thread()
            self._block_ended.wait_for(lambda: not (self._blocks.keys() - {here}), CLOSE_SECONDS)
            for thread in self._connections.keys() - self._blocks.keys():
                self._connections.pop(thread).close()

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection, which nobody closes before the block ends."""
        connection, thread = self.connection(), threading.current_thread()
        with self._lock:
            if self._closed and not self._blocks[thread]:
                raise StoreError("the memory store is closed; open it again")
            self._blocks[thread] += 1
        try:
            yield connection
        finally:
            with self._lock:
                self._blocks[thread] -= 1
                if not self._blocks[thread]:
                    del self._blocks[thread]
                    if self._closed:
                        self._connections.pop(thread).close()
                    self._block_ended.notify_all()

    def _connect(self) -> sqlite3.Connection:
        mode = "mode=ro&immutable=1" if self._immutable else "mode=rwc"
        # Transactions are begun by hand: Python's own begin too late for us. `close` closes them all from one thread.
        connection = encrypted_sqlite.connect(self.path, self.keys, mode=mode, timeout=self._busy_seconds)
        prepare_connection(connection)
        connection.execute("PRAGMA foreign_keys = ON")
        # What is deleted is gone from the file, however SQLite was built.
        connection.execute("PRAGMA secure_delete = ON")
        # macOS only flushes to the disk's own buffer otherwise, which a loss of power empties. No other system knows these.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        return connection

    def _prepare_or_close(self) -> None:
        """Make the file ready for use. If that fails, no connection stays open: SQLite keeps its journal while one is."""
        try:
            self._prepare(self.connection())
        except BaseException:
            self.close()
            raise

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = _version(connection)
        if version > len(MIGRATIONS):
            raise StoreTooNew(
                f"{self.path} was written by a newer memlora (store version {version}, this one knows"
                f" {len(MIGRATIONS)}); upgrade memlora"
            )
        if self._immutable:
            if version < len(MIGRATIONS):
                raise _read_only(self.path)
            return
        self._use_wal(connection)
        if version == len(MIGRATIONS):
            connection.execute("SELECT count(*) FROM meta").fetchone()  # a damaged first page shows here
            return
        with _transaction(connection, "BEGIN IMMEDIATE"):
            version = _version(connection)  # again: another process may have just migrated
            if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreBroken(f"{self.path} is a database, but no memory store; choose another folder")
            unsound = checksums.all_damaged_rows(connection) if version >= WITH_CHECKSUMS else []
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    connection.execute(statement)
            checksums.compute_all(connection, unsound)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself while another process turns the journal on.
                if _primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def require_database(path: Path) -> None:
    """Raises StoreError: there is no such file."""
    if not path.is_file():
        raise StoreError(f"no memory store at {path.parent}; make one with `memlora ingest FILE`")


def open_unchanging(path: Path, keys: StoreKeys | None) -> sqlite3.Connection:
    """A connection that reads a database which nobody writes, and leaves no file beside it.

    Args:
        keys: of the store that it is a copy of.
    """
    keys = None if encrypted_sqlite.is_plain(path) else keys  # from before the encryption
    connection = encrypted_sqlite.connect(path, keys, mode="mode=ro&immutable=1")
    prepare_connection(connection)
    return connection


def copy_database(source: sqlite3.Connection, path: Path, keys: StoreKeys | None) -> None:
    """Copy a database page by page to a new file that only its user may read, as one state without SQLite's other files.

    Args:
        keys: of the store; the copy is encrypted where it has some.
    """
    new_private_file(path)
    if keys is not None and isinstance(source, sqlite3.Connection):  # a plain copy, from before the encryption
        file = Path(source.execute("PRAGMA database_list").fetchone()[2])
        encrypted_sqlite.export(file, None, path, keys.database_keys[0])
        return
    with contextlib.closing(encrypted_sqlite.connect(path, keys)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")


def prepare_connection(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that the store's SQL uses."""
    connection.row_factory = encrypted_sqlite.row_class(connection)
    connection.create_function("casefold", 1, _casefold, deterministic=True)
    connection.create_function("row_checksum", -1, checksums.row_checksum, deterministic=True)


@contextlib.contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the file system into a StoreError that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        match code & 0xFF:
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                raise _read_only(path) from error
            case sqlite3.SQLITE_FULL:
                raise _full(path) from error
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                raise StoreBusy(f"another process is writing to {path}; wait for it to end, then try again") from error
            case sqlite3.SQLITE_IOERR if code == sqlite3.SQLITE_IOERR_WRITE:
                raise _full(path) from error
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_IOERR:
                raise StoreBroken(
                    f"{path} is damaged ({error}); run `memlora doctor`, or restore a backup of it"
                ) from error
        if str(error).startswith("Could not decode to UTF-8"):
            raise StoreBroken(f"{path} is damaged (a text is not UTF-8); run `memlora doctor --repair`") from error
        raise
    except UnicodeDecodeError as error:  # SQLite's message quotes what is damaged
        raise StoreBroken(f"{path} is damaged (its tables are not readable); run `memlora restore`") from error
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise _read_only(path) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _full(path) from error
        raise StoreError(f"cannot use {path} ({error.strerror}); choose another folder") from error


def _read_only(path: Path) -> StoreReadOnly:
    return StoreReadOnly(f"{path} cannot be written; check the permissions of {path.parent}, or choose another folder")


def _full(path: Path) -> StoreFull:
    return StoreFull(f"no room to write {path}; free some disk space and try again: what was stored before is whole")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    connection.execute(begin)
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has already rolled back
            connection.execute("ROLLBACK")
        raise


def _identity(path: Path) -> tuple[int, int] | None:
    """Tells a file from another one that takes its name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _primary(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _casefold(text: str | None) -> str | None:
    return text.casefold() if isinstance(text, str) else None
