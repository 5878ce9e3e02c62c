"""A backup for each day of use, and what a restore and a salvage bring back."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from bit_flips import SPACE, embed, make_store
from test_damage import damage

from memlora_mlx.errors import StoreBroken, StoreError
from memlora_mlx.memory.changes import Add
from memlora_mlx.memory.store.backups import KEPT, back_up, backup_files, daily_backups, read_backups
from memlora_mlx.memory.store.integrity import check_store, repair_store
from memlora_mlx.memory.store.restoring import choose_backup, restore_backup, salvage_store
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


def contents_of(folder: Path) -> list[tuple[object, ...]]:
    """All that a store says, but for what its indexes go by."""
    with Store(folder, SPACE, any_embedding=True) as store:
        memories = [(m.id, m.text, m.owner, dict(m.metadata)) for m in store.list(order="stored")]
        with store.snapshot() as connection:
            said = [tuple(row) for row in connection.execute("SELECT exchange, position, text FROM messages")]
            changes = [tuple(row) for row in connection.execute("SELECT id, event, old_text, new_text FROM history")]
            people = [tuple(row) for row in connection.execute("SELECT * FROM people")]
            owners = [tuple(row) for row in connection.execute("SELECT id, user_id, agent_id, memories FROM owners")]
    return [*memories, *said, *changes, *people, *owners]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE memories SET text = 'Ann is married to Tom' WHERE id = 5",
        "UPDATE memories SET text = CAST(x'C328' AS TEXT) WHERE id = 5",
        "UPDATE messages SET text = 'I hate tea' WHERE exchange = 3 AND position = 0",
        "DELETE FROM history WHERE id = 3",
        "DELETE FROM people",
        "UPDATE owners SET user_id = 'eve' WHERE id = 1",
        "UPDATE embeddings SET vector = (SELECT vector FROM embeddings WHERE memory = 6) WHERE memory = 5",
        "UPDATE checksums SET sum = sum + 1 WHERE tbl = 'history' AND key = 3",
        "UPDATE meta SET value = '3' WHERE key = 'revision'",
        "UPDATE meta SET value = 'x' WHERE key = 'store'",
    ],
)
def test_the_repair_takes_damaged_rows_from_a_backup(tmp_path: Path, sql: str) -> None:
    make_store(tmp_path, 20)
    with Store(tmp_path, SPACE) as store:
        back_up(store.database, DAY.date())
        add(store, "Ann has a boat")  # changes the row of its owner, too
    before = contents_of(tmp_path)
    damage(tmp_path, sql)
    with Store(tmp_path, SPACE) as store:
        assert check_store(store) != []
        repair_store(store, embed)
        assert check_store(store) == []
        assert store.search(embed(["Ann has a boat"])[0], 1)[0].memory.text == "Ann has a boat"
    assert contents_of(tmp_path) == before


def test_the_repair_invents_nothing_where_no_backup_helps(tmp_path: Path) -> None:
    make_store(tmp_path, 8)
    damage(tmp_path, "UPDATE memories SET text = 'Ann is married to Tom' WHERE id = 2")
    with Store(tmp_path, SPACE) as store:
        repair_store(store, embed)
        assert "1 memories are damaged" in "\n".join(check_store(store))
        with pytest.raises(StoreBroken):
            store.list()


def test_a_restore_brings_the_backup_back_and_keeps_the_present(tmp_path: Path) -> None:
    make_store(tmp_path, 20)
    before = contents_of(tmp_path)
    with Store(tmp_path, SPACE, exact_limit=3) as store:
        back_up(store.database, DAY.date())
        add(store, "Ann has a boat")
        boat = embed(["Ann has a boat"])[0]
        assert store.search(boat, 1)[0].memory.text == "Ann has a boat"
        kept = restore_backup(tmp_path, choose_backup(tmp_path), DAY)  # while another has it open
        assert kept is not None and store.search(boat, 1)[0].memory.text != "Ann has a boat"
    assert contents_of(tmp_path) == before
    with Store(tmp_path, SPACE) as store:
        assert check_store(store) == []
    assert "Ann has a boat" in str(contents_of(kept))
    assert kept / "memories.db" in backup_files(tmp_path)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in backup_files(tmp_path))


@pytest.mark.parametrize("place", ["header", "schema", "nothing", "middle"])
def test_a_restore_over_a_file_that_is_damaged_or_gone(tmp_path: Path, place: str) -> None:
    make_store(tmp_path, 20)
    before = contents_of(tmp_path)
    with Store(tmp_path, SPACE) as store:
        back_up(store.database, DAY.date())
    path = tmp_path / "memories.db"
    content = bytearray(path.read_bytes())
    first, last = {"header": (0, 100), "schema": (100, 4096), "nothing": (0, 0), "middle": (8192, 90_000)}[place]
    content[first:last] = b"\xa5" * (last - first)
    path.unlink() if place == "nothing" else path.write_bytes(content)
    kept = restore_backup(tmp_path, choose_backup(tmp_path), DAY)
    assert contents_of(tmp_path) == before
    assert (kept is None) == (place == "nothing")
    if kept is not None and place != "nothing":
        assert (kept / "memories.db").read_bytes()[200:4000] == bytes(content)[200:4000]


def test_a_damaged_backup_is_passed_over(tmp_path: Path) -> None:
    make_store(tmp_path, 8)
    with Store(tmp_path, SPACE) as store:
        old, new = (back_up(store.database, DAY.date() + timedelta(days=days)) for days in (0, 1))
    assert old is not None and new is not None
    new.write_bytes(new.read_bytes()[:20_000])
    assert choose_backup(tmp_path).path == old
    with pytest.raises(StoreError, match="the backup of 2026-11-02 is damaged"):
        choose_backup(tmp_path, date(2026, 11, 2))
    with pytest.raises(StoreError, match="there is no backup of 2026-01-01; `memlora restore --list`"):
        choose_backup(tmp_path, date(2026, 1, 1))


def test_a_salvage_keeps_all_that_is_whole(tmp_path: Path) -> None:
    make_store(tmp_path, 60)
    before = contents_of(tmp_path)
    damage(tmp_path, "UPDATE memories SET text = 'Ann is married to Tom' WHERE id = 5")
    damage(tmp_path, "UPDATE messages SET text = 'I hate tea' WHERE exchange = 3 AND position = 0")
    damage(tmp_path, "UPDATE owners SET name = 'Eve' WHERE id = 1")
    damage(tmp_path, "UPDATE memories SET metadata = '{}' WHERE id = 9")  # its words are whole
    report, kept = salvage_store(tmp_path, DAY)
    assert (report.lost["memories"], report.lost["messages"], report.lost["history"]) == (1, 1, 0)
    assert kept is not None
    with Store(tmp_path, SPACE) as store:
        repair_store(store, embed)
        assert check_store(store) == []
    assert len([line for line in before if line not in contents_of(tmp_path)]) <= 4


@pytest.mark.parametrize("seed", range(4))
def test_a_salvage_goes_past_pages_that_cannot_be_read(tmp_path: Path, seed: int) -> None:
    make_store(tmp_path, 60)
    before = contents_of(tmp_path)
    path = tmp_path / "memories.db"
    content = bytearray(path.read_bytes())
    page = random.Random(seed).randrange(1 + 20, len(content) // 4096)  # the first ones hold the tables' names
    content[page * 4096 : (page + 1) * 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    salvage_store(tmp_path, DAY)
    with Store(tmp_path, SPACE) as store:
        repair_store(store, embed)
        assert check_store(store) == []
        texts = {memory.text for memory in store.list()}
    there = contents_of(tmp_path)
    assert len([line for line in before if line in there]) > 0.6 * len(before), (len(texts), page)
