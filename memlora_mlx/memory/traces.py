"""Traces of erased words in the files beside the database: training examples, runs, caches, copies and what was typed.

Nothing keeps a list of who wrote what where. All files below the data folder are read instead, so that a place which is new
or forgotten is found too. Lines and rows that hold erased words go; what is not made of lines goes as a whole where it can
be made again, and is named where it cannot.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memlora_mlx.errors import StoreBusy, StoreError
from memlora_mlx.files import atomic_write, is_scratch
from memlora_mlx.json_lines import JsonLines, held, read_json_lines
from memlora_mlx.memory.queue_traces import goes_as_a_whole, is_call, sweep_call
from memlora_mlx.memory.store.backups import backup_folder
from memlora_mlx.memory.store.database import open_unchanging
from memlora_mlx.memory.store.erase_plan import Selection
from memlora_mlx.memory.store.erased_texts import ErasedTexts
from memlora_mlx.memory.store.keys import StoreKeys, database_keys, sealer_of
from memlora_mlx.settings import APP_HISTORY, CHAT_HISTORY, EXPORTS, UNSAVED, WORK_QUEUE

# Below the data folder: made from what was told, so that erasing everything takes them away.
DERIVED = ("bench", "teacher", "runs", "vqa", UNSAVED, WORK_QUEUE)
_SKIPPED = ("models",)  # what everybody can download
_WEIGHTS = frozenset((".safetensors", ".npz", ".npy", ".gguf", ".usearch", ".jpg", ".png", ".lock", ".pid"))
_SQLITE = b"SQLite format 3\0"
_WITH_WORDS = ("memories", "messages", "history", "turns", "conversations", "images")  # tables of a copy of a store
BUSY_SECONDS = 60.0  # how long another process's reading of a cache is waited for
_MOST = 256_000_000  # bytes of a file that is read whole


@dataclass(slots=True)
class Traces:
    """What was found in files, and what was done with it."""

    lines: dict[Path, int] = field(default_factory=dict)  # files -> how many lines or rows of theirs go
    files: set[Path] = field(default_factory=set)  # files and folders that go as a whole
    left: set[Path] = field(default_factory=set)  # that hold the words and are the user's to remove
    trained: set[Path] = field(default_factory=set)  # experts that were trained on a file with such lines

    @property
    def count(self) -> int:
        return sum(self.lines.values()) + len(self.files)


def known_exports(home: Path) -> list[Path]:
    """The exports that memlora wrote and that are still there."""
    found = {
        Path(line["path"]) for line in read_json_lines(home / EXPORTS) if isinstance(line, dict) and "path" in line
    }
    return sorted(path for path in found if path.is_file())


def note_export(home: Path, path: Path) -> None:
    """Remember where an export was written to. The export is whole also where that fails."""
    whole = str(path.absolute())
    if path.is_file() and whole not in map(str, known_exports(home)):  # not a pipe or a device
        with contextlib.suppress(OSError), JsonLines(home / EXPORTS) as file:
            file.append({"path": whole})


def sweep(
    home: Path, texts: ErasedTexts, selection: Selection, *, with_backups: bool = True, dry_run: bool = False
) -> Traces:
    """Remove the traces of texts from the files below the data folder, except the store's own.

    Args:
        selection: what is erased; queued calls of a person or from before a day go whatever is said in them.
        with_backups: look into the copies of the store's database, too.
        dry_run: find them and change nothing.

    Raises:
        StoreError: a file cannot be read or written; run again to continue.
    """
    found = Traces()
    is_meant, backups = goes_as_a_whole(selection), backup_folder(home / "store")
    sealer = sealer_of(home / "store")
    for path in _files(home):
        try:
            if is_call(home, path):
                _note_call(path, sweep_call(path, texts, is_meant, sealer, dry_run=dry_run), found)
            elif texts and (with_backups or not path.is_relative_to(backups)):
                _sweep_file(home, path, texts, found, dry_run=dry_run)
        except FileNotFoundError:  # removed together with its folder, or by another process
            continue
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise StoreError(
                f"cannot look for erased words in {path} ({reason}); check it, then run the same command again"
            ) from error
    found.trained = _trained_on(home, set(found.lines))
    return found


def remove_derived(home: Path, *, dry_run: bool = False) -> Traces:
    """Remove all that was made from memories and conversations, and what was typed."""
    found = Traces()
    paths = [home / name for name in (*DERIVED, CHAT_HISTORY, APP_HISTORY)]
    for path in (*paths, *remove_scraps(home, dry_run=True)):
        if path.is_symlink() and path.is_dir():  # only the link is ours for certain
            found.left.add(path.resolve())
        if path.is_symlink() or path.exists():
            found.files.add(path)
            if not dry_run:
                _remove(path)
    return found


def remove_scraps(home: Path, *, older_than: float = 0.0, dry_run: bool = False) -> list[Path]:
    """Remove what killed saves have left, models excepted. Returns the paths.

    Args:
        older_than: a time as of `Path.stat`; what was written after it may still be written to.
    """
    scraps = [path for path in _walk(home) if is_scratch(path)]
    if older_than:
        scraps = [path for path in scraps if path.lstat().st_mtime < older_than]
    if not dry_run:
        for path in scraps:
            _remove(path)
    return scraps


def _walk(home: Path) -> Iterator[Path]:
    """All files, and folders of unfinished saves, which are not entered.

    Links are not followed, but for our own folders: somebody may have put `bench` onto a larger disk.
    """
    for top in (home, *(home / name for name in DERIVED if (home / name).is_symlink())):
        for folder, folders, files in os.walk(top):
            here = Path(folder)
            if here == home:
                folders[:] = [name for name in folders if name not in _SKIPPED]
            yield from (Path(folder, name) for name in folders if is_scratch(Path(name)))
            folders[:] = [name for name in folders if not is_scratch(Path(name)) and not (here / name).is_symlink()]
            yield from (here / name for name in files)


def _files(home: Path) -> Iterator[Path]:
    """The files to look into. Those of the store's own database are cleaned by SQLite."""
    own = home / "store"
    for path in sorted(_walk(home)):
        is_own = path.parent == own and path.name.startswith("memories.db")
        if not (is_own or path.is_symlink() or path.suffix in _WEIGHTS):
            yield path


def _sweep_file(home: Path, path: Path, texts: ErasedTexts, found: Traces, *, dry_run: bool) -> None:
    if path.is_dir() or is_scratch(path):  # of a save that was killed: nobody will ever read it
        if any(texts.found_in(_text(one)) for one in ([path] if path.is_file() else path.rglob("*")) if one.is_file()):
            _drop(path, found, dry_run=dry_run)
        return
    if path.is_relative_to(backup_folder(home / "store")):
        if _is_copy_with(path, database_keys(home / "store"), texts):
            _drop(path, found, dry_run=dry_run)
        return
    if not _is_ours(home, path):
        if path.stat().st_size <= _MOST and texts.found_in(_text(path)):
            found.left.add(path)
        return
    with path.open("rb") as file:
        is_database = file.read(len(_SQLITE)) == _SQLITE
    if is_database:
        _sweep_database(path, texts, found, dry_run=dry_run)
    elif path.name.endswith(("-wal", "-shm")):
        return  # of a database beside it
    elif path.suffix in (".jsonl", ".log") or path.name == CHAT_HISTORY:
        _sweep_lines(path, texts, found, dry_run=dry_run)
    elif path.stat().st_size <= _MOST and texts.found_in(_text(path)):
        place = _whole(home, path)
        if place is None:
            found.left.add(path)
        else:
            _drop(place, found, dry_run=dry_run)


def _note_call(path: Path, left: bytes | None, found: Traces) -> None:
    if left:
        found.lines[path] = 1
    elif left is not None:
        found.files.add(path)


def _is_ours(home: Path, path: Path) -> bool:
    """Whether memlora made a file for itself. An export, or a file that the user has put there, is the user's."""
    first = path.relative_to(home).parts[0]
    return first in (*DERIVED, CHAT_HISTORY, APP_HISTORY, EXPORTS)


def _sweep_lines(path: Path, texts: ErasedTexts, found: Traces, *, dry_run: bool) -> None:
    with path.open("rb") as file, held(file):  # a process that adds lines, such as `memlora teach`, loses none
        lines = file.read().splitlines(keepends=True)
        kept = [line for line in lines if not texts.found_in(line.decode("utf-8", "replace"))]
        if len(kept) == len(lines):
            return
        found.lines[path] = len(lines) - len(kept)
        if dry_run:
            return
        if kept:
            atomic_write(path, b"".join(kept))
        else:
            path.unlink()


def _sweep_database(path: Path, texts: ErasedTexts, found: Traces, *, dry_run: bool) -> None:
    """Remove rows of a cache. A copy of a memory store goes as a whole: its vectors and full-text index hold words too."""
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if "memories" in tables:
            if any(_hits(connection, table, texts) for table in _WITH_WORDS if table in tables):
                is_benchmark = path.name == "memories.db"  # of a folder that is a store
                _drop(path.parent if is_benchmark else path, found, dry_run=dry_run)
            return
        gone = {table: _hits(connection, table, texts) for table in tables if not table.startswith("sqlite_")}
        count, journal = sum(len(rows) for rows in gone.values()), path.with_name(path.name + "-wal")
        # An earlier run may have left words in the bytes of the file or its journal that no row has any more.
        is_begun = journal.is_file() and any(texts.found_in(_text(each)) for each in (path, journal))
        if not (count or is_begun):
            return
        found.lines[path] = count
        if dry_run:
            return
        for table, rows in gone.items():
            connection.executemany(f'DELETE FROM "{table}" WHERE rowid = ?', [[row] for row in rows])
        connection.commit()
        connection.execute("VACUUM")
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise StoreBusy(
                f"another process is reading {path}, so erased words are still in its file; let the benchmark or"
                " training end, then run the same command again"
            )


def _is_copy_with(path: Path, keys: StoreKeys | None, texts: ErasedTexts) -> bool:
    """Whether a copy of the store's database holds one of the texts, or cannot be read, so that it may."""
    try:
        with contextlib.closing(open_unchanging(path, keys)) as copy:
            tables = {row[0] for row in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return any(_hits(copy, table, texts) for table in _WITH_WORDS if table in tables)
    except (sqlite3.Error, UnicodeDecodeError):
        return True


def _hits(connection: sqlite3.Connection, table: str, texts: ErasedTexts) -> list[int]:
    """The rows of a table that hold one of the texts; a table without row numbers has none."""
    try:
        rows = connection.execute(f'SELECT rowid, * FROM "{table}"')
    except sqlite3.OperationalError:
        return [0] if _any_row(connection, table, texts) else []
    return [row[0] for row in rows if any(texts.found_in(value) for value in row[1:] if isinstance(value, str))]


def _any_row(connection: sqlite3.Connection, table: str, texts: ErasedTexts) -> bool:
    rows = connection.execute(f'SELECT * FROM "{table}"')
    return any(texts.found_in(value) for row in rows for value in row if isinstance(value, str))


def _whole(home: Path, path: Path) -> Path | None:
    """What to remove of a file that is not made of lines: a benchmark run whole, a file of a run or a cache alone."""
    parts = path.relative_to(home).parts
    if parts[:2] == ("bench", "runs") and len(parts) > 3:
        return home.joinpath(*parts[:3])
    return path if parts[0] in DERIVED else None


def _drop(path: Path, found: Traces, *, dry_run: bool) -> None:
    found.files.add(path)
    if not dry_run:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return
    path.unlink(missing_ok=True)
    for suffix in ("-wal", "-shm", "-journal"):  # of a database
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _trained_on(home: Path, files: set[Path]) -> set[Path]:
    """Experts whose card says that they were trained on one of the files: their weights may repeat it."""
    found = set()
    for card in (*home.glob("adapters/*/*/adapter_config.json"), *home.glob("runs/*/*/adapter_config.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            named = json.loads(card.read_text(encoding="utf-8"))["memlora"]["data"]["files"]
            if any(home / str(name).partition(":")[0] in files for name in named):
                found.add(card.parent)
    return found
