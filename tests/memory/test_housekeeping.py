"""What is too old or left over goes when a store is opened, is counted, and takes nothing else with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.housekeeping import keep_house, read_counts
from memlora_mlx.memory.store.history import memory_history
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.settings import load_settings

OLD, NEW = "I saw Dr. Quibblefrotz in spring.", "My cat is called Moss."


def is_on_the_disk(home: Path) -> bool:
    files = [path for path in (home / "store").rglob("*") if path.is_file() and "backups" not in path.parts]
    return any(b"bblefrotz" in path.read_bytes().lower() for path in files)


def filled(home: Path) -> None:
    """Something said two years ago that is remembered in other words, and something said now."""
    with Memory() as memory:
        [old] = memory.add(OLD, user_id="ann", infer=False, timestamp=datetime.now(UTC) - timedelta(days=700))[
            "results"
        ]
        memory.update(old["id"], "Ann saw a doctor.")
        memory.add(NEW, user_id="ann", infer=False)


def test_messages_and_history_are_kept_for_as_long_as_is_set(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tiny_home)
    assert is_on_the_disk(tiny_home)
    monkeypatch.setenv("MEMLORA_SOURCE_DAYS", "365")
    monkeypatch.setenv("MEMLORA_HISTORY_DAYS", "30")
    (tiny_home / "store/backups").mkdir()
    (tiny_home / "store/backups/2026-01-01.db").write_bytes(b"a copy")
    with Memory() as memory:
        store = memory.workspace.store  # nothing is due within the first hour
        assert is_on_the_disk(tiny_home)
        now = store.clock()
        store.clock = lambda: now + timedelta(days=31)
        counts = keep_house(store, memory.workspace.settings)
        assert counts is not None and (counts.messages, counts.history) == (1, 3)
        assert not is_on_the_disk(tiny_home) and check_store(store) == []
        assert {item["memory"] for item in memory.get_all(user_id="ann")["results"]} == {"Ann saw a doctor.", NEW}
        assert memory.search("Moss", user_id="ann")["results"][0]["message"]["text"] == NEW
        assert all(memory_history(store, item.id) == [] for item in store.list())
        assert keep_house(store, memory.workspace.settings) is None and read_counts(store) == counts
    assert (tiny_home / "store/backups/2026-01-01.db").is_file(), "backups go by themselves"


def test_without_a_setting_everything_is_kept(tiny_home: Path) -> None:
    filled(tiny_home)
    with Memory() as memory:
        store = memory.workspace.store
        now = store.clock()
        store.clock = lambda: now + timedelta(days=9000)
        counts = keep_house(store, memory.workspace.settings)
        assert counts is not None and (counts.messages, counts.history) == (0, 0) and is_on_the_disk(tiny_home)


def test_scraps_and_indexes_of_nobody_go(tiny_home: Path) -> None:
    filled(tiny_home)
    long_ago = time.time() - 7200
    young, models = tiny_home / "store/.1111.part", tiny_home / "models/.2222.part"
    old = [tiny_home / "store/.3333.part", tiny_home / "runs/x/.saving-4", tiny_home / "store/images/ab/.5555.part"]
    strays = [tiny_home / "store/indexes/99.usearch", tiny_home / "store/indexes/messages/99.json"]
    for path in (young, models, *old, *strays):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if "saving" in path.name else path.write_text("x")
        os.utime(path, (long_ago, long_ago))
    os.utime(young)
    (tiny_home / "store/indexes/1.json").write_text("{}")
    with Memory() as memory:
        store = memory.workspace.store
        now = store.clock()
        store.clock = lambda: now + timedelta(hours=2)
        counts = keep_house(store, memory.workspace.settings)
    assert counts is not None and (counts.scraps, counts.indexes) == (3, 2)
    assert not any(path.exists() for path in (*old, *strays)) and young.exists() and models.exists()
    assert (tiny_home / "store/indexes/1.json").exists(), "the owner is there"


def test_an_interrupted_erasing_is_finished_at_the_next_start(
    tiny_home: Path, monkeypatch: pytest.MonkeyPatch, run_memlora: Callable[..., tuple[int, str, str]]
) -> None:
    from memlora_mlx.memory import erasing
    from memlora_mlx.memory.store import erasure

    filled(tiny_home)
    with Memory() as memory, monkeypatch.context() as patched:
        for place in (erasing, erasure):
            patched.setattr(place, "finish_erasing", lambda store: False)
        memory.erase(containing="quibblefrotz")
        assert is_on_the_disk(tiny_home)
    assert run_memlora("memory", "list")[0] == 0 and not is_on_the_disk(tiny_home)


def test_doctor_tells_what_has_gone(tiny_home: Path, run_memlora: Callable[..., tuple[int, str, str]]) -> None:
    filled(tiny_home)
    out = run_memlora("doctor")[1]
    assert "Kept: history for ever, messages for ever. Removed so far: 0 lines of history, 0 messages" in out


def test_the_settings_take_whole_days(tiny_home: Path) -> None:
    tiny_home.mkdir(exist_ok=True)
    (tiny_home / "config.toml").write_text("history_days = 90\n")
    assert load_settings().history_days == 90 and load_settings().source_days is None


def test_macos_is_told_to_flush_to_the_disk_itself(tiny_home: Path) -> None:
    with Memory() as memory:
        connection = memory.workspace.store.database.connection()
        names = ("fullfsync", "checkpoint_fullfsync", "secure_delete")
        assert [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names] == [1, 1, 1]
