"""Power that fails at any moment of an ingest, edits, a backup, a migration or an encryption loses nothing acknowledged."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import pytest
from bit_flips import SPACE, make_store
from power_loss import Disk, record, replay
from test_migrations import as_of

from memlora_mlx.memory.store.backups import read_backups
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.schema import MIGRATIONS
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.upkeep import embed_messages

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("strace") is None, reason="strace records the calls"
)
_HEAD = """
import sys
from datetime import date
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from bit_flips import *
from memlora_mlx.memory.store.backups import back_up
def done(store):
    with store.snapshot() as connection:
        print(connection.execute("SELECT count(*) FROM history").fetchone()[0], flush=True)
folder = Path(sys.argv[1])
"""
# Each line that a process says is the number of changes in the history that it was promised.
WORK = {
    "ingest": """
with Store(folder, SPACE) as store:
    for number in range(40):
        said = (Message("user", f"I have {number} cats"), Message("assistant", "Oh!"))
        text = f"Ann has {number} cats"
        exchange = Exchange(f"cats {number}", Scope("ann"), said, None, "cats", number)
        store.commit(Scope("ann"), [Add(text, embed([text])[0])], exchange=exchange, message_vectors=embed(["a", "b"]))
        done(store)
""",
    "edit": """
with Store(folder, SPACE) as store:
    for number, memory in enumerate(store.list(Scope("ann"), order="stored")[:12]):
        store.revise(memory.id, f"Ann has {number} dogs", embed(["dogs"])[0])
        done(store)
        if number % 3 == 0:
            store.delete(memory.id)
            done(store)
            undo_change(store, embed)
            done(store)
""",
    "backup": """
with Store(folder, SPACE) as store:
    for day in range(1, 10):
        text = f"Ann has {day} cats"
        store.commit(Scope("ann"), [Add(text, embed([text])[0])])
        back_up(store.database, date(2026, 11, day))
        done(store)
""",
    "migration": "with Store(folder, SPACE) as store: done(store)\n",
    "encryption": """
from memlora_mlx.memory.store import keys
from memlora_mlx.memory.store.converting import decrypt_store, encrypt_store, rekey_store
keys._MEMORY = 32
with Store(folder, SPACE) as store:
    back_up(store.database, date(2026, 11, 1))
    done(store)
encrypt_store(folder, "words", lambda step: None)
rekey_store(folder, "words", lambda step: None)
decrypt_store(folder, lambda step: None)
""",
}


def lose_power(work: str, tmp_path: Path, moments: int, seed: int) -> tuple[int, int]:
    """Returns how many losses of power were tried, and at how many different moments of how many that there are."""
    start, run = tmp_path / "start", tmp_path / "run"
    if work == "migration":
        make_store(tmp_path / "now", 20)
        as_of(len(MIGRATIONS) - 1, tmp_path / "now", start)
    elif work in ("edit", "backup", "encryption"):
        make_store(start, 20)
    else:
        start.mkdir()
    shutil.copytree(start, run)
    disk = Disk.of(run)
    calls = record(run, _HEAD + WORK[work], str(run), str(Path(__file__).parent))
    chance = random.Random(seed)
    there = [number for number in replay(Disk.of(start), _moved(calls, run, start))]
    chosen = set(chance.sample(there, min(moments, len(there))))
    tried = 0
    for number in replay(disk, calls):
        if number in chosen:
            for how in ("none", "some", "all"):
                disk.crash(tmp_path / "crashed", how, chance)
                _check(tmp_path / "crashed", [int(line) for line in disk.said.split(b"\n")[:-1]], (work, number, how))
                tried += 1
    return tried, len(there)


def _moved(calls: list[tuple[str, str, int]], run: Path, start: Path) -> list[tuple[str, str, int]]:
    """The same calls in another folder."""
    old, new = ("".join(f"\\x{byte:02x}" for byte in str(path).encode()) for path in (run, start))
    return [(name, text.replace(old, new), result) for name, text, result in calls]


def _check(folder: Path, acknowledged: list[int], moment: tuple[str, int, str]) -> None:
    with Store(folder, SPACE, any_embedding=True) as store:
        with store.snapshot() as connection:
            [changes] = connection.execute("SELECT count(*) FROM history").fetchone()
            [exchanges] = connection.execute("SELECT count(*) FROM exchanges").fetchone()
            [messages] = connection.execute("SELECT count(*) FROM messages").fetchone()
        assert changes >= max(acknowledged, default=0), moment
        assert messages == 2 * exchanges, moment
        embed_messages(store, lambda texts: __import__("bit_flips").embed(texts))
        assert check_store(store) == [], moment
    assert all(each.problem is None for each in read_backups(folder)), moment


@pytest.mark.parametrize("work", list(WORK))
def test_a_loss_of_power_loses_nothing_acknowledged(work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if work == "encryption":
        pytest.importorskip("sqlcipher3")
        monkeypatch.setenv("MEMLORA_PASSPHRASE", "words")
    tried, there = lose_power(work, tmp_path, moments=12, seed=1)
    assert tried == 36 and there > 12
