"""Connections to a database that may be encrypted. SQLCipher is imported only where one is.

SQLCipher's errors are raised as those of Python's own `sqlite3`, which the rest of the store knows.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from memlora_mlx.extras import require

PLAIN_HEADER = b"SQLite format 3\0"
# Of errors that come without a code.
_CODES = {
    "database is locked": sqlite3.SQLITE_BUSY,
    "database table is locked": sqlite3.SQLITE_LOCKED,
    "database or disk is full": sqlite3.SQLITE_FULL,
    "attempt to write a readonly database": sqlite3.SQLITE_READONLY,
    "unable to open database file": sqlite3.SQLITE_CANTOPEN,
    "access permission denied": sqlite3.SQLITE_PERM,
    "disk I/O error": sqlite3.SQLITE_IOERR,
    "database disk image is malformed": sqlite3.SQLITE_CORRUPT,
    "file is not a database": sqlite3.SQLITE_NOTADB,
}


class DatabaseKeys(Protocol):
    """What opens a database: one key, or two while it is being changed, the new one first."""

    @property
    def database_keys(self) -> Sequence[bytes]: ...


def is_plain(path: Path) -> bool:
    """Whether a file begins as an SQLite database does that is not encrypted.

    Not for a database that this process has open: closing any file of it takes away the locks that SQLite holds on it.
    """
    return _head(path) == PLAIN_HEADER


def is_encrypted(path: Path) -> bool:
    """Whether a database's file is there, holds something and does not begin as a plain one."""
    return path.is_file() and _head(path) not in (b"", PLAIN_HEADER)


def connect(
    path: Path, keys: DatabaseKeys | None, *, mode: str = "mode=rwc", timeout: float = 5.0
) -> sqlite3.Connection:
    """A connection in autocommit mode that any thread may use, whether the database is encrypted or not.

    Args:
        keys: of the database; None where it is plain.
        mode: the parameters of SQLite's URI.

    Raises:
        sqlite3.DatabaseError: the file is no database, or none of the keys opens it.
        ExtraMissing: SQLCipher is not installed.
    """
    if keys is None:
        address = f"{path.resolve().as_uri()}?{mode}"
        return sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
    for key in keys.database_keys[:-1]:  # more than one while the key is being changed
        connection = open_with(path, key, mode=mode, timeout=timeout)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_NOTADB:
                raise
        else:
            return connection
    return open_with(path, keys.database_keys[-1], mode=mode, timeout=timeout)


def open_with(path: Path, key: bytes | None, *, mode: str = "mode=rwc", timeout: float = 5.0) -> sqlite3.Connection:
    """A connection of SQLCipher; without a key it reads and writes a plain database."""
    address = f"{path.resolve().as_uri()}?{mode}"
    with translated():
        connection = _sqlcipher().connect(
            address,
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=_classes()[0],
        )
        connection.execute("PRAGMA cipher_log_level = NONE")  # it would write to standard error
        if key is not None:
            connection.execute(f'PRAGMA key = "{key_literal(key)}"')
    return cast(sqlite3.Connection, connection)


def export(source: Path, source_key: bytes | None, target: Path, target_key: bytes | None) -> None:
    """Copy a database row by row into an empty file, with another key or without one.

    Raises:
        sqlite3.DatabaseError: the source is damaged, or the key is not its own.
        sqlite3.OperationalError: the disk is full; another process is writing to the source.
    """
    with contextlib.closing(open_with(source, source_key, mode="mode=ro")) as connection:
        export_from(connection, target, target_key)


def export_from(connection: sqlite3.Connection, target: Path, target_key: bytes | None) -> None:
    """`export`, from an open connection of SQLCipher, outside a transaction."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    key = "" if target_key is None else key_literal(target_key)
    connection.execute("ATTACH ? AS made KEY ?", [str(target), key])
    connection.execute("PRAGMA made.journal_mode = OFF")  # a copy that fails is thrown away
    connection.execute("PRAGMA made.synchronous = OFF")  # it is flushed as a whole
    connection.execute("SELECT sqlcipher_export('made')")
    connection.execute(f"PRAGMA made.user_version = {version}")
    connection.execute("DETACH made")


def key_literal(key: bytes) -> str:
    """A key as SQLCipher takes it without deriving one from it."""
    return f"x'{key.hex()}'"


def row_class(connection: sqlite3.Connection) -> Any:
    """The class of rows with names that fits a connection."""
    return sqlite3.Row if isinstance(connection, sqlite3.Connection) else _sqlcipher().Row


def cipher_version() -> str:
    """SQLCipher's version."""
    with contextlib.closing(_sqlcipher().connect(":memory:")) as connection:
        return str(connection.execute("PRAGMA cipher_version").fetchone()[0])


@contextlib.contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except _sqlcipher().Error as error:
        raise _as_sqlite3(error) from None


def _as_sqlite3(error: Exception) -> sqlite3.Error:
    kind = getattr(sqlite3, type(error).__name__, sqlite3.DatabaseError)
    made = kind(*error.args)
    code = getattr(error, "sqlite_errorcode", None)
    if code in (None, sqlite3.SQLITE_ERROR):  # `sqlcipher_export` gives the message of what went wrong, and that code
        message = str(error)
        code = next((code for text, code in _CODES.items() if message.startswith(text)), code or 0)
    if code:
        made.sqlite_errorcode = code
        made.sqlite_errorname = str(getattr(error, "sqlite_errorname", ""))
    return cast(sqlite3.Error, made)


@functools.cache
def _sqlcipher() -> Any:
    require("encryption", "an encrypted store")
    from sqlcipher3 import dbapi2

    return dbapi2


@functools.cache
def _classes() -> tuple[type, type]:
    """SQLCipher's connection and cursor, which raise the errors of `sqlite3`."""
    dbapi2 = _sqlcipher()
    cursor = _translating("Cursor", dbapi2.Cursor, dbapi2.Error, _CURSOR)

    def make_cursor(self: Any, factory: type = cursor) -> Any:
        return dbapi2.Connection.cursor(self, factory)

    connection = _translating("Connection", dbapi2.Connection, dbapi2.Error, _CONNECTION)
    connection.cursor = make_cursor  # type: ignore[attr-defined]
    return connection, cursor


_CURSOR = ("execute", "executemany", "executescript", "fetchone", "fetchmany", "fetchall", "__next__")
_CONNECTION = ("execute", "executemany", "executescript", "backup", "commit", "rollback", "create_function", "close")


def _translating(name: str, base: type, error_class: type[Exception], methods: Sequence[str]) -> type:
    return type(name, (base,), {method: _wrapped(getattr(base, method), error_class) for method in methods})


def _wrapped(method: Callable[..., Any], error_class: type[Exception]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*values: Any, **named: Any) -> Any:
        try:
            return method(*values, **named)
        except error_class as error:
            raise _as_sqlite3(error) from None

    return call


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(PLAIN_HEADER))
    except OSError:
        return b""
