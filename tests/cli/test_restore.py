"""`memlora restore` and what `memlora doctor` says of damage."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from memlora_mlx import Memory

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def backed_up(tiny_home: Path) -> Path:
    """Two memories, a backup of them, and one memory more."""
    for texts in (["Ann likes tea", "Ann lives in Rome"], ["Ann has a boat"]):
        with Memory() as memory:
            for text in texts:
                memory.add(text, user_id="ann", infer=False)
    return tiny_home / "store"


def texts(run_memlora: Command) -> list[str]:
    return sorted(row["memory"] for row in json.loads(run_memlora("memory", "list", "--json")[1]))


def damage(store: Path, sql: str) -> None:
    with closing(sqlite3.connect(store / "memories.db")) as connection, connection:
        assert connection.execute(sql).rowcount == 1


def test_a_day_is_restored_after_a_question(backed_up: Path, run_memlora: Command) -> None:
    today = datetime.now().astimezone().date()
    code, out, _ = run_memlora("restore", "--list")
    assert code == 0 and out.startswith(f"{today}        2 memories") and out.count("\n") == 1
    code, _, err = run_memlora("restore")
    assert code == 2 and "Nothing was changed. Use --yes" in err and len(texts(run_memlora)) == 3
    code, out, _ = run_memlora("restore", "--from", str(today), "--yes")
    assert code == 0 and f"the backup of {today} (2 memories" in out and str(backed_up / "backups" / "replaced") in out
    assert texts(run_memlora) == ["Ann likes tea", "Ann lives in Rome"]
    [kept] = (backed_up / "backups" / "replaced").iterdir()
    with closing(sqlite3.connect(kept / "memories.db")) as connection:
        assert connection.execute("SELECT count(*) FROM memories").fetchone() == (3,)
    assert run_memlora("doctor")[0] == 0


def test_what_cannot_be_restored_is_said(backed_up: Path, run_memlora: Command) -> None:
    for arguments, said in {
        ("--from", "2020-01-01"): "there is no backup of 2020-01-01; `memlora restore --list`",
        ("--from", "yesterday"): "'yesterday' is not a date. Write it as 2026-11-29.",
        ("--from", "2020-01-01", "--salvage"): "Use either --from or --salvage.",
    }.items():
        code, _, err = run_memlora("restore", *arguments)
        assert code in (1, 2) and said in err and err.count("\n") == 1


def test_damage_is_named_mended_and_else_restored(backed_up: Path, run_memlora: Command) -> None:
    damage(backed_up, "UPDATE memories SET text = 'Ann likes gin' WHERE text = 'Ann likes tea'")
    code, _, err = run_memlora("memory", "list")
    assert code == 1 and "is damaged" in err and "memlora doctor --repair" in err
    code, out, _ = run_memlora("doctor")
    assert code == 1 and "PROBLEM  store: 1 memories are damaged or missing" in out
    code, out, _ = run_memlora("doctor", "--repair")
    assert code == 0 and "took 1 damaged rows from a backup" in out
    assert "Ann likes tea" in texts(run_memlora)
    damage(backed_up, "UPDATE memories SET text = 'Ann has a goat' WHERE text = 'Ann has a boat'")  # in no backup
    code, out, _ = run_memlora("doctor", "--repair")
    assert code == 1 and "No backup has it. See `memlora restore --help`." in out
    code, out, _ = run_memlora("restore", "--salvage", "--yes")
    assert code == 0 and "2 memories are whole, 1 are lost" in out
    assert texts(run_memlora) == ["Ann likes tea", "Ann lives in Rome"]
    assert run_memlora("doctor")[0] == 0


def test_the_doctor_outlives_any_file(backed_up: Path, run_memlora: Command) -> None:
    path = backed_up / "memories.db"
    whole = path.read_bytes()
    for content in (b"", b"no database" * 1000, whole[:5000], whole[:100] + bytes(4000) + whole[4100:]):
        for name in ("memories.db-wal", "memories.db-shm"):
            (backed_up / name).unlink(missing_ok=True)
        path.write_bytes(content)
        code, out, err = run_memlora("doctor")
        assert code == (0 if not content else 1) and err == "" and "backups: " in out, (content[:20], out)
    code, out, _ = run_memlora("restore", "--yes")
    assert code == 0 and texts(run_memlora) == ["Ann likes tea", "Ann lives in Rome"]
