"""Encrypting beside another command that replaces the database, and on a disk that is full."""

from __future__ import annotations

import os
import resource
import shutil
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from bit_flips import SPACE, make_store

from memlora_mlx.errors import StoreBusy, StoreError, StoreLocked, UsageError
from memlora_mlx.memory.encryption import plain_files
from memlora_mlx.memory.store import keys
from memlora_mlx.memory.store.backups import back_up, read_backups
from memlora_mlx.memory.store.converting import encrypt_store, rekey_store
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.restoring import choose_backup, restore_backup
from memlora_mlx.memory.store.store import Store
from memlora_mlx.serve import work_queue
from memlora_mlx.serve.work_queue import WorkQueue
from memlora_mlx.settings import has_key_file

pytest.importorskip("sqlcipher3")
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store with a backup."""
    monkeypatch.setattr(keys, "_MEMORY", 32)
    monkeypatch.setenv("MEMLORA_PASSPHRASE", "secret")
    keys._opened.clear()
    make_store(tmp_path / "store", 6)
    with Store(tmp_path / "store", SPACE) as store:
        back_up(store.database, date(2026, 11, 1))
    yield tmp_path / "store"
    keys._opened.clear()


def texts(folder: Path) -> list[str]:
    with Store(folder, SPACE) as store:
        assert check_store(store) == []
        return [memory.text for memory in store.list(order="stored")]


def in_another_process(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


RIVALS: dict[str, Callable[[Path], object]] = {
    "another passphrase": lambda folder: encrypt_store(folder, "other", lambda step: None),
    "a restore": lambda folder: restore_backup(folder, choose_backup(folder), NOW),
}


@pytest.mark.parametrize("rival", RIVALS)
def test_what_begins_during_an_encryption_undoes_nothing_of_it(folder: Path, rival: str) -> None:
    before = texts(folder)
    begun, goes_on = os.pipe(), os.pipe()

    def wait(step: str) -> None:
        if "Copying" in step:
            os.write(begun[1], b"x")
            os.read(goes_on[0], 1)

    child = in_another_process(lambda: encrypt_store(folder, "secret", wait))
    os.read(begun[0], 1)
    timer = threading.Timer(0.5, os.write, (goes_on[1], b"x"))  # by then the rival waits
    timer.start()
    try:
        RIVALS[rival](folder)
    except (UsageError, StoreBusy) as error:  # it is encrypted already, or takes its time
        assert "encrypted already" in str(error) or "another process" in str(error)
    timer.join()
    assert os.waitpid(child, 0)[1] == 0
    keys._opened.clear()
    assert texts(folder) == before
    assert [each.problem for each in read_backups(folder)] == [None] and plain_files(folder.parent)[0] == []


def test_what_is_queued_at_the_moment_of_an_encryption_is_not_left_plain(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypt_store(folder, "secret", lambda step: None)
    answers = [False]  # to the first look: then the key file comes
    monkeypatch.setattr(work_queue, "has_key_file", lambda of: answers.pop() if answers else has_key_file(of))
    queue = WorkQueue(folder.parent)
    path = queue.put("add", {"messages": "Quibblefrotz"})
    assert b"Quibblefrotz" not in path.read_bytes()
    call = queue.next()
    assert call is not None and call.arguments == {"messages": "Quibblefrotz"}
    keys._opened.clear()
    monkeypatch.setenv("MEMLORA_PASSPHRASE", "wrong")
    answers.append(False)
    with pytest.raises(StoreLocked):
        queue.put("add", {"messages": "Zanzibar"})
    assert not [each for each in queue.folder.rglob("*") if each.is_file() and b"Zanzibar" in each.read_bytes()]


@pytest.mark.parametrize("command", ["encrypt", "rekey"])
def test_a_full_disk_costs_no_backup(folder: Path, command: str) -> None:
    """The backup is larger than the store here, so that the store can be written and the backup cannot."""
    if command == "rekey":
        encrypt_store(folder, "secret", lambda step: None)
    with Store(folder, SPACE) as store:
        with store.database.write() as connection:
            connection.execute("INSERT INTO meta VALUES ('padding', ?)", ["x" * 2_000_000])
        back_up(store.database, date(2026, 11, 2))
        with store.database.write() as connection:
            connection.execute("DELETE FROM meta WHERE key = 'padding'")
        store.database.compact()
    before, held = texts(folder), [(each.day, each.memories, each.problem) for each in read_backups(folder)]
    sizes = [(path).stat().st_size for path in (folder / "memories.db", folder / "backups/2026-11-02.db")]
    assert 2 * sizes[0] < sizes[1]
    change = encrypt_store if command == "encrypt" else rekey_store

    def on_a_small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[0] + (sizes[1] - sizes[0]) // 2,) * 2)
        with pytest.raises(StoreError, match=r"2026-11-02\.db cannot be written anew"):
            change(folder, "secret", lambda step: None)

    assert os.waitpid(in_another_process(on_a_small_disk), 0)[1] == 0
    keys._opened.clear()  # there is room again
    assert texts(folder) == before
    assert [(each.day, each.memories, each.problem) for each in read_backups(folder)] == held
    assert plain_files(folder.parent)[0] == []
    file = keys.read_key_file(folder)
    assert file is not None and file.state == "encrypted"


def test_a_link_to_a_store_and_no_store_are_not_encrypted(folder: Path) -> None:
    database = folder / "memories.db"
    database.rename(folder.parent / "elsewhere.db")
    database.symlink_to(folder.parent / "elsewhere.db")
    with pytest.raises(StoreError, match=r"is a link to .*elsewhere\.db"):  # the plain file would stay there
        encrypt_store(folder, "secret", lambda step: None)
    assert keys.read_key_file(folder) is None and database.is_symlink()
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match="no memory store at"):
        encrypt_store(folder, "secret", lambda step: None)
    assert not folder.exists()
