"""What a benchmark has paid for once: model calls, whole phases and stores, each under the hash of all it depends on.

It lies below `<home>/bench/cache`. A key holds everything that can change the value, so nothing here is ever out of date;
it is only ever missing. It can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from memlora_mlx.files import atomic_folder, atomic_write

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

FORMAT = 1  # of what lies in it; a cache of another one is left alone
_BLOCKS, _BLOCK_BYTES = 16, 1 << 16  # of a weights file, spread over it, that stand for it


def bench_folder(workspace: Workspace) -> Path:
    return workspace.settings.home / "bench"


def content_key(value: object) -> str:
    """Thirty-two hex digits of a JSON-able value."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@once
def folder_digest(folder: Path) -> str:
    """Thirty-two hex digits of a model's or an expert's folder: its JSON files whole, samples of its weights."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors")):
        if path.name == "memlora.json":  # where it came from, not what it is
            continue
        size = path.stat().st_size
        found.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if path.suffix == ".json" or size <= _BLOCKS * _BLOCK_BYTES:
                found.update(file.read())
                continue
            for block in range(_BLOCKS):
                file.seek((size - _BLOCK_BYTES) * block // (_BLOCKS - 1))
                found.update(file.read(_BLOCK_BYTES))
    return found.hexdigest()[:32]


class Cache:
    """The cache below one folder. May be used from several threads, and by several processes.

    `notes` says what of it could not be used. Nothing that is wrong with it is fatal: what cannot be read is done again.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / f"v{FORMAT}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.warnings = [
            f"the cache in {other} is of another version of memlora and was not used; it can be deleted"
            for other in sorted(root.iterdir())
            if other != self.folder and other.is_dir()
        ]
        self._lock = threading.Lock()
        self._database = self._opened(self.folder / "entries.db")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._database.commit()
            self._database.close()

    # Single values: a call of the student, the scores of an answer, a judge's verdict

    def get(self, key: str) -> Any:
        """What is kept under a key, or None."""
        with self._lock:
            found = self._database.execute("SELECT value FROM entries WHERE key = ?", [key]).fetchone()
        try:
            return None if found is None else json.loads(found[0])
        except ValueError:
            return None

    def put(self, key: str, value: object) -> None:
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", [key, json.dumps(value)])
            self._database.commit()

    # Phases: a file each

    def get_phase(self, name: str, key: str) -> dict[str, Any] | None:
        """What a finished phase left, or None."""
        path = self._phase_file(name, key)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            value = None
        if isinstance(value, dict) and value.get("format") == FORMAT and isinstance(value.get("value"), dict):
            return value["value"]  # type: ignore[no-any-return]
        self.warnings.append(f"{path} is damaged or of another version; that phase is done again")
        return None

    def put_phase(self, name: str, key: str, value: Mapping[str, Any]) -> None:
        path = self._phase_file(name, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps({"format": FORMAT, "value": value}))

    # Stores

    def store_folder(self, key: str) -> Path:
        """Where the store of a finished ingest lies, or would."""
        return self.folder / "stores" / key

    def put_store(self, key: str, made: Path) -> None:
        """Take over a finished store's folder."""
        place = self.store_folder(key)
        with atomic_folder(place) as scratch:
            shutil.copytree(made, scratch, dirs_exist_ok=True)

    # Inside

    def _phase_file(self, name: str, key: str) -> Path:
        return self.folder / name / f"{key}.json"

    def _opened(self, path: Path) -> sqlite3.Connection:
        try:
            return _connection(path)
        except sqlite3.DatabaseError:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            self.warnings.append(
                f"the cache of model calls was damaged; it lies in {aside} now, and a new one is begun"
            )
            return _connection(path)


class CacheNamespace(MutableMapping[str, Any]):
    """The entries of a cache under one name, as a mapping."""

    def __init__(self, cache: Cache, name: str) -> None:
        self._cache, self._name = cache, name

    def __getitem__(self, key: str) -> Any:
        if (value := self._cache.get(f"{self._name} {key}")) is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._cache.put(f"{self._name} {key}", value)

    def __delitem__(self, key: str) -> None:
        raise TypeError("nothing is taken out of the cache")

    def __iter__(self) -> Iterator[str]:
        raise TypeError("the cache cannot be listed")

    def __len__(self) -> int:
        raise TypeError("the cache cannot be counted")


def _connection(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")  # a lost entry is only made again
        connection.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection
