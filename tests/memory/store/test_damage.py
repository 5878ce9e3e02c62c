"""A store whose disk changed what was written: every change is noticed, named, and never used."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from bit_flips import SPACE, embed, make_store, problems_of, turn_bits

from memlora_mlx.errors import StoreBroken
from memlora_mlx.memory.changes import Add
from memlora_mlx.memory.store import database as database_module
from memlora_mlx.memory.store.checksums import all_damaged_rows, checked_tables
from memlora_mlx.memory.store.integrity import check_store, repair_store
from memlora_mlx.memory.store.schema import MIGRATIONS
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Scope


@pytest.fixture(scope="module")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "store"
    make_store(folder)
    return folder


@pytest.fixture
def folder(made_store: Path, tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "memories.db").write_bytes((made_store / "memories.db").read_bytes())
    return tmp_path / "store"


def damage(folder: Path, sql: str, *values: object) -> None:
    """Change a row behind memlora's back, as a disk would."""
    with closing(sqlite3.connect(folder / "memories.db")) as connection, connection:
        assert connection.execute(sql, values).rowcount == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_changed_bit_is_noticed(made_store: Path, tmp_path: Path, seed: int) -> None:
    outcome = turn_bits(made_store, tmp_path / "scratch", 15, seed)
    assert outcome.unnoticed == []


def test_every_bit_of_a_short_text_is_guarded(made_store: Path, tmp_path: Path) -> None:
    """The place where the store says which embedder it has, and one name: to miss one of their bits is to miss them all."""
    whole = (made_store / "memories.db").read_bytes()
    for said in (b'"dim": 32', b"transcript"):
        place = whole.index(said)
        for byte in range(place, place + len(said)):
            for bit in range(8):
                (tmp_path / "memories.db").write_bytes(
                    whole[:byte] + bytes([whole[byte] ^ 1 << bit]) + whole[byte + 1 :]
                )
                assert problems_of(tmp_path), (said, byte - place, bit)


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPDATE memories SET metadata = '{\"n\": 7777}' WHERE id = 5", "1 memories are damaged or missing: "),
        ("UPDATE messages SET text = 'I hate tea' WHERE exchange = 3 AND position = 0", "messages are damaged or missing: 3/0"),
        ("UPDATE history SET new_text = 'other' WHERE id = 4", "1 changes in the history are damaged or missing: 4"),
        ("UPDATE people SET user_id = 'eve'", "1 people are damaged or missing: talk/Ann"),
        ("DELETE FROM sources", "1 conversations are damaged or missing: talk"),
        ("UPDATE embeddings SET vector = (SELECT vector FROM embeddings WHERE memory = 6) WHERE memory = 5", "1 embeddings of memories"),
        ("UPDATE memories SET provenance = 'other' WHERE id = 5", "1 memories are damaged or missing: "),
        ("UPDATE sqlite_sequence SET name = 'hiStory' WHERE name = 'history'", "history has rows beyond its counter"),
        ("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'memories'", "memories has rows beyond its counter"),
        ("UPDATE memories SET text = CAST(text AS BLOB) WHERE id = 5", "1 memories are damaged or missing: "),
        ("UPDATE memories SET text = CAST(x'C328' AS TEXT) WHERE id = 5", "1 memories are damaged or missing: "),
    ],
)  # fmt: skip
def test_the_check_names_what_is_damaged(folder: Path, sql: str, named: str) -> None:
    damage(folder, sql)
    assert named in "\n".join(problems_of(folder))


@pytest.mark.parametrize("sql", ["DELETE FROM sqlite_sequence", "UPDATE sqlite_sequence SET seq = 'x'"])
def test_counters_are_set_anew_and_no_number_is_given_out_twice(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / "memories.db")) as connection, connection:
        connection.execute(sql)
        [last] = connection.execute("SELECT max(id) FROM history").fetchone()
    assert any("beyond its counter" in problem for problem in problems_of(folder))
    with Store(folder, SPACE) as store:
        assert "counters of the database anew" in "\n".join(repair_store(store, embed))
        assert check_store(store) == []
        store.commit(Scope("ann"), [Add("Ann likes figs", embed(["Ann likes figs"])[0])])
        with store.snapshot() as after:
            assert after.execute("SELECT max(id) FROM history").fetchone()[0] == last + 1


def test_a_damaged_memory_or_message_is_never_used(folder: Path) -> None:
    with Store(folder, SPACE) as store:
        memory = store.list(order="stored")[4]
        assert memory.exchange_key
        damage(folder, "UPDATE memories SET text = 'Ann is married to Tom' WHERE public_id = ?", memory.id)
        with pytest.raises(StoreBroken, match=f"memory {memory.id} is damaged.*memlora doctor --repair"):
            store.get(memory.id)
        with pytest.raises(StoreBroken):
            store.search(embed([memory.text])[0], 3)
        damage(folder, "UPDATE messages SET text = 'no' WHERE exchange = 2 AND position = 1")
        with pytest.raises(StoreBroken, match="a message is damaged"):
            store.exchange("exchange 1")
        damage(folder, "UPDATE memories SET text = CAST(x'C328' AS TEXT) WHERE id = 7")
        with pytest.raises(StoreBroken, match="not UTF-8"):
            store.list()


def test_everything_that_is_written_has_its_checksum(folder: Path) -> None:
    """Every table of the schema is watched, whatever wrote to it."""
    with Store(folder, SPACE) as store:
        store.delete_all(Scope("ben"))
        with store.snapshot() as connection:
            tables = {table.name for table in checked_tables(connection)}
            assert tables >= {"memories", "messages", "history", "embeddings", "message_vectors", "people", "owners"}
            assert tables >= {"conversations", "turns", "erased_exchanges"}
            everything = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            unwatched = ("message_words", "turn_words", "sqlite_")  # full-text tables have a check of their own
            left = {name for name in everything - tables if not name.startswith(unwatched)}
            assert left == {"checksums"}
            assert all_damaged_rows(connection) == []
        assert check_store(store) == []


def test_a_later_migration_keeps_what_was_damaged_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(folder, "UPDATE memories SET text = 'Ann is married to Tom' WHERE id = 5")
    damage(folder, "DELETE FROM history WHERE id = 3")
    later = (
        *MIGRATIONS,
        ("ALTER TABLE memories ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'", "UPDATE owners SET name = 'x'"),
    )
    monkeypatch.setattr(database_module, "MIGRATIONS", later)
    with Store(folder, SPACE) as store:
        with store.snapshot() as connection:
            found = {(row.table, row.key, row.is_gone) for row in all_damaged_rows(connection)}
        assert found == {("memories", 5, False), ("history", 3, True)}
        with store.transaction() as transaction:
            transaction.connection.execute("UPDATE memories SET mood = 'glad' WHERE id = 6")
            assert len(all_damaged_rows(transaction.connection)) == 2


def test_adding_beside_damage_goes_on(folder: Path) -> None:
    damage(folder, "UPDATE history SET new_text = 'other' WHERE id = 4")
    with Store(folder, SPACE) as store:
        added = store.commit(Scope("ann"), [Add("Ann has a boat", embed(["boat"])[0])])
        assert added and store.get(added[0].memory_id)
        assert "history are damaged or missing: 4" in "\n".join(check_store(store))
