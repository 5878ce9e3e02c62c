"""A store of every released schema opens, keeps what it held, and gets its checksums."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from bit_flips import SPACE, embed, make_store

from memlora_mlx.memory.retrieval.lexical import TOKENIZER
from memlora_mlx.memory.store.checksums import all_damaged_rows
from memlora_mlx.memory.store.conversations import list_conversations, read_turns, save_question
from memlora_mlx.memory.store.erase_plan import Selection
from memlora_mlx.memory.store.erasure import erase_rows
from memlora_mlx.memory.store.history import memory_history, undo_change
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.schema import MIGRATIONS
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.upkeep import embed_messages
from memlora_mlx.records import Scope

RELEASED = range(1, len(MIGRATIONS))
WITH_WORDS = 3  # the first version with a full-text table


@pytest.fixture(scope="module")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("migrations") / "store"
    make_store(folder)
    return folder


def as_of(version: int, made_store: Path, folder: Path) -> None:
    """The rows of a store in the tables of an earlier version."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / "memories.db", isolation_level=None)) as old:
        for statement in (statement for statements in MIGRATIONS[:version] for statement in statements):
            old.execute(statement)
        old.execute("ATTACH ? AS made", [str(made_store / "memories.db")])
        tables = [row[0] for row in old.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        # The triggers count memories in the rows of owners, so those come last.
        for table in sorted(tables, key=lambda name: name == "owners"):
            if not table.startswith("sqlite_"):
                columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
                old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM made.{table}")
        if version >= WITH_WORDS:
            columns = "text, before, facts, after"
            old.execute(f"CREATE VIRTUAL TABLE message_words USING fts5({columns}, tokenize = '{TOKENIZER}')")
            old.execute(f"INSERT INTO message_words (rowid, {columns}) SELECT rowid, {columns} FROM made.message_words")
        else:
            old.execute("DELETE FROM meta WHERE key = 'words'")
        old.execute(f"PRAGMA user_version = {version}")


@pytest.mark.parametrize("version", RELEASED)
def test_a_store_of_every_released_schema_opens(version: int, made_store: Path, tmp_path: Path) -> None:
    as_of(version, made_store, tmp_path / "store")
    with Store(made_store, SPACE) as now, Store(tmp_path / "store", SPACE) as store:
        with store.snapshot() as connection:
            assert all_damaged_rows(connection) == []
            assert connection.execute("SELECT count(*) FROM checksums").fetchone()[0] > 500
            assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
        embed_messages(store, embed)
        assert check_store(store) == []
        expected, found = now.list(order="stored"), store.list(order="stored")
        assert [(m.id, m.text, m.owner, m.metadata) for m in found] == [
            (m.id, m.text, m.owner, m.metadata) for m in expected
        ]
        assert all(memory_history(store, m.id) == memory_history(now, m.id) for m in expected)
        keys = [f"exchange {number}" for number in range(60)]
        assert [store.exchange(key) for key in keys] == [now.exchange(key) for key in keys]
        undo_change(store, embed)
        talk = save_question(store, Scope("ann"), "We met in Oslo. I like tea.", key="new", said_at=store.clock())
        assert list_conversations(store, words="oslo")[0].id == talk
        erase_rows(store, Selection(containing="oslo"))
        assert [turn.text for turn in read_turns(store, talk)] == ["I like tea."]
        assert check_store(store) == []


_MIGRATE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from bit_flips import SPACE, Store
print("begin", flush=True)
Store(Path(sys.argv[1]), SPACE).close()
print("done", flush=True)
"""


def test_kill_9_during_a_migration_loses_nothing(made_store: Path, tmp_path: Path) -> None:
    as_of(1, made_store, tmp_path / "old")
    moments = random.Random(3)
    command = [sys.executable, "-c", _MIGRATE]
    killed = 0
    for _ in range(6):
        folder = tmp_path / "store"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "old", folder)
        process = subprocess.Popen([*command, str(folder), str(Path(__file__).parent)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"begin\n"
        time.sleep(moments.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        killed += b"done" not in process.communicate()[0]
        with Store(made_store, SPACE) as now, Store(folder, SPACE) as store:
            assert [m.text for m in store.list(order="stored")] == [m.text for m in now.list(order="stored")]
            embed_messages(store, embed)
            assert check_store(store) == []
    assert killed > 0
