"""A store that is closed while other threads use it: what they do stays whole, and the process lives."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from bit_flips import SPACE, make_store

from memlora_mlx.errors import StoreError
from memlora_mlx.memory.store import database as database_module
from memlora_mlx.memory.store.database import Database
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.restoring import salvage_store
from memlora_mlx.memory.store.store import Store, utc_now

CLOSE_AT_ONCE = textwrap.dedent(
    """
    import sys, threading
    from pathlib import Path
    from memlora_mlx.errors import StoreError
    from memlora_mlx.memory.store.database import Database

    errors = []

    def work(database, began):
        try:
            while True:
                with database.write() as connection:
                    connection.execute("INSERT OR REPLACE INTO meta VALUES ('number', ?)", (threading.get_ident(),))
                    connection.execute("SELECT count(*), group_concat(value) FROM meta").fetchall()
                    began.set()
                with database.read() as connection:
                    connection.execute("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 20000)"
                                       " SELECT sum(x) FROM n").fetchall()
        except StoreError as error:
            errors.append(str(error))

    for turn in range(15):
        database, began = Database(Path(sys.argv[1]) / f"{turn}.db"), threading.Event()
        threads = [threading.Thread(target=work, args=(database, began)) for _ in range(4)]
        for thread in threads:
            thread.start()
        began.wait()
        database.close()
        for thread in threads:
            thread.join()
    print(*errors, sep="\\n")
    """
)


def test_closing_under_the_hands_of_other_threads_ends_no_process(tmp_path: Path) -> None:
    """SQLite crashes the process if a connection is closed while another thread is inside it."""
    process = subprocess.run(
        [sys.executable, "-c", CLOSE_AT_ONCE, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.splitlines() == ["the memory store is closed; open it again"] * 60


class Writing(threading.Thread):
    """Holds a write block open until it may end, and keeps the error that came of it."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database, self.began, self.may_end = database, threading.Event(), threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with self.database.write() as connection:
                connection.execute("INSERT INTO meta VALUES ('first', '1')")
                self.began.set()
                self.may_end.wait(60)
                connection.execute("INSERT INTO meta VALUES ('second', '2')")
        except Exception as error:
            self.error = error


def stored(path: Path) -> set[str]:
    database = Database(path)
    with database.read() as connection:
        found = {row["key"] for row in connection.execute("SELECT key FROM meta")}
    database.close()
    return found & {"first", "second"}


def test_closing_waits_for_a_write_that_has_begun(tmp_path: Path) -> None:
    database = Database(tmp_path / "memory.db")
    writing = Writing(database)
    writing.start()
    assert writing.began.wait(60)
    closing = threading.Thread(target=database.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    writing.may_end.set()
    closing.join(60)
    writing.join(60)
    assert writing.error is None
    assert stored(database.path) == {"first", "second"}


def test_a_write_that_outlasts_the_closing_is_still_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "CLOSE_SECONDS", 0.01)
    database = Database(tmp_path / "memory.db")
    writing = Writing(database)
    writing.start()
    assert writing.began.wait(60)
    database.close()
    with pytest.raises(StoreError, match="closed"), database.read():
        pass
    writing.may_end.set()
    writing.join(60)
    assert writing.error is None
    assert stored(database.path) == {"first", "second"}


def test_a_damaged_store_that_was_not_opened_leaves_no_journal(tmp_path: Path) -> None:
    """A journal that stays would be read as that of whatever database stands there next."""
    make_store(tmp_path / "made", 40)
    whole = (tmp_path / "made" / "memories.db").read_bytes()
    errors = []  # kept, with all that their tracebacks keep
    chance = random.Random(1)
    for page in range(0, len(whole) // 4096, 3):
        folder = tmp_path / str(page)
        folder.mkdir()
        path = folder / "memories.db"
        path.write_bytes(whole[: page * 4096] + chance.randbytes(4096) + whole[(page + 1) * 4096 :])
        for work in (
            lambda folder=folder: open_and_check(folder),
            lambda folder=folder: salvage_store(folder, utc_now()),
        ):
            try:
                work()
            except StoreError as error:
                errors.append(error)
            assert not path.with_name("memories.db-wal").exists(), page
    assert errors


def open_and_check(folder: Path) -> None:
    with Store(folder, SPACE, create=False) as store:
        check_store(store)
