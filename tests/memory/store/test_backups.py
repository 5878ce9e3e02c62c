"""A backup for each day of use, and what a restore and a salvage bring back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from bit_flips import SPACE, embed, make_store
from test_damage import damage

from memlora_mlx.memory.changes import Add
from memlora_mlx.memory.store.backups import KEPT, back_up, backup_files, daily_backups, read_backups
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Scope

ANN = Scope("ann")
DAY = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = DAY

    def __call__(self) -> datetime:
        return self.now


def add(store: Store, text: str) -> None:
    store.commit(ANN, [Add(text, embed([text])[0])])


def days(folder: Path) -> list[str]:
    return [path.stem for path in daily_backups(folder)]


def test_every_day_of_use_has_a_backup_and_seven_are_kept(tmp_path: Path) -> None:
    clock = Clock()
    with Store(tmp_path, SPACE, clock=clock, daily_backups=True) as store:
        add(store, "first")
        assert days(tmp_path) == []  # there was nothing to back up
    with Store(tmp_path, SPACE, clock=clock, daily_backups=True) as store:
        assert days(tmp_path) == ["2026-11-01"]
        add(store, "second")
        clock.now += timedelta(days=1)  # a process that runs for days
        add(store, "third")
        assert days(tmp_path) == ["2026-11-02", "2026-11-01"]
        for _ in range(9):
            clock.now += timedelta(days=2)
            add(store, f"on {clock.now.day}")
    assert len(days(tmp_path)) == KEPT and days(tmp_path)[0] == "2026-11-20"
    newest = read_backups(tmp_path)[0]
    assert (newest.day, newest.memories, newest.problem) == (date(2026, 11, 20), 11, None)
    assert backup_files(tmp_path) == sorted(daily_backups(tmp_path))
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in backup_files(tmp_path))
    assert (tmp_path / "backups").stat().st_mode & 0o777 == 0o700


def test_a_damaged_store_pushes_no_good_backup_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_store(tmp_path, 8)
    with Store(tmp_path, SPACE) as store:
        back_up(store.database, DAY.date())
    damage(tmp_path, "UPDATE memories SET text = 'Ann is married to Tom' WHERE id = 2")
    clock = Clock()
    with Store(tmp_path, SPACE, clock=clock, daily_backups=True) as store:
        for _ in range(10):
            clock.now += timedelta(days=1)
            add(store, f"on {clock.now.day}")
    assert days(tmp_path) == ["2026-11-01"]
    assert "no backup was made today" in caplog.text and "damaged rows" in caplog.text
    assert [path.name for path in backup_files(tmp_path)] == ["2026-11-01.db"]
