"""An encrypted store: nothing plain of it is on the disk, it works as any other, and a kill at any moment loses nothing."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from bit_flips import SPACE, embed, make_store
from PIL import Image as Pixels
from test_migrations import as_of

from memlora_mlx.errors import StoreBroken, StoreBusy, StoreLocked, UsageError
from memlora_mlx.memory.changes import Add
from memlora_mlx.memory.encryption import plain_files
from memlora_mlx.memory.store import keys
from memlora_mlx.memory.store.backups import back_up, daily_backups, read_backups
from memlora_mlx.memory.store.converting import decrypt_store, describe, encrypt_store, rekey_store
from memlora_mlx.memory.store.encrypted_sqlite import export
from memlora_mlx.memory.store.integrity import check_store, repair_store
from memlora_mlx.memory.store.restoring import choose_backup, restore_backup, salvage_store
from memlora_mlx.memory.store.schema import MIGRATIONS
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, Image, Message, Scope
from memlora_mlx.serve.work_queue import WorkQueue

pytest.importorskip("sqlcipher3")

WORD = "Quibblefrotz"
ANN = Scope("ann")
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SAID = f"I see Dr. {WORD} on Tuesdays."


def nothing(_: str) -> None:
    """Hears what is being done."""


@pytest.fixture(autouse=True)
def cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id at its smallest, as the key file then says, and no key that another test has opened."""
    monkeypatch.setattr(keys, "_MEMORY", 32)
    monkeypatch.setattr(keys, "_PASSES", 1)
    monkeypatch.setattr("memlora_mlx.files.flush_to_disk", lambda handle: None)  # a kill loses nothing that was written
    know("secret")


def know(passphrase: str | None) -> None:
    """Be a new process that was told a passphrase."""
    keys._opened.clear()
    os.environ.pop("MEMLORA_PASSPHRASE", None)
    if passphrase is not None:
        os.environ["MEMLORA_PASSPHRASE"] = passphrase


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A data folder with a word everywhere it can be, and the bytes of its picture."""
    home = tmp_path_factory.mktemp("made")
    folder = home / "store"
    make_store(folder, exchanges=5)
    with opened(folder) as store:
        pixels = BytesIO()
        Pixels.effect_noise((40, 30), 80).save(pixels, "PNG")
        digest = store.images.add(pixels.getvalue(), "noise.png")
        image = Image(f"{WORD}.png", f"{WORD} at the door", digest)
        said = Exchange(
            "k",
            ANN,
            (Message("user", SAID, "Ann", image=image), Message("assistant", f"Hello, {WORD}!")),
            NOW,
            "talk",
            9,
        )
        vectors = embed([SAID, "Hello"])
        store.commit(ANN, [Add(SAID, embed([SAID])[0], image=image)], exchange=said, message_vectors=list(vectors))
        texts = [f"{WORD} said {number}" for number in range(8)]
        store.commit(ANN, [Add(text, vector) for text, vector in zip(texts, embed(texts), strict=True)])
        assert back_up(store.database, date(2026, 10, 31))
        store.search(embed([SAID])[0], 3, scope=ANN)
        for path in store.images.folder.rglob("*"):
            os.utime(path, (1e9, 1e9))
        picture = store.images.path(digest)
        assert picture is not None
        content = picture.read_bytes()
    restore_backup(folder, choose_backup(folder), NOW)  # one more copy, in `replaced`
    WorkQueue(home).put("add", {"messages": SAID})
    return home, content


@pytest.fixture
def home(made: tuple[Path, bytes], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "data")
    return tmp_path / "data"


def opened(folder: Path, **options: Any) -> Store:
    return Store(folder, SPACE, exact_limit=5, **options)


def contents(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows and pictures of a store."""
    with opened(folder) as store, store.snapshot() as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: sorted(map(repr, map(tuple, connection.execute(f"SELECT * FROM {name}")))) for name in names}
        pictures = [(path.name, store.images.sealer.read(path)) for path in store.images.files()]
        return {**found, "pictures": pictures}  # type: ignore[dict-item]


def traces(home: Path, picture: bytes = b"no picture" * 9) -> list[str]:
    """Where the word, its vector or the picture can be found below the data folder, in any form it is stored in."""
    vector = embed([SAID])[0]
    sought = [picture[40:80], vector.tobytes()[:32], b"SQLite format 3"]
    for text in (WORD, WORD.lower()):
        sought += [text.encode("utf-8"), text.encode("utf-16-le"), text.encode("utf-16-be"), text.encode("utf-32-le")]
        sought += [base64.b64encode((at * "x" + text).encode())[4:-4] for at in range(3)]
    found = []
    for path in sorted(home.rglob("*")):
        data = path.read_bytes() if path.is_file() else path.name.encode()
        if any(form in data for form in sought):
            found.append(str(path.relative_to(home)))
    return found


def test_no_byte_of_it_is_plain_and_decrypting_gives_all_back(home: Path, made: tuple[Path, bytes]) -> None:
    folder, picture = home / "store", made[1]
    before = contents(folder)
    for place in ("store/images", "store/backups/.saving-x", "queue"):  # of saves that were killed
        (home / place).mkdir(exist_ok=True)
        (home / place / ".0123456789abcdef.part").write_text(SAID)
    assert len(traces(home, picture)) >= 8  # database, two copies, picture, queue, scraps
    encrypt_store(folder, "secret", nothing)
    assert traces(home, picture) == []
    assert plain_files(home) == ([], [])
    know("secret")
    assert contents(folder) == before
    with opened(folder, clock=lambda: NOW + timedelta(days=9), daily_backups=True) as store:
        assert check_store(store) == []
        [image] = {memory.image.sha256 for memory in store.list(scope=ANN) if memory.image and memory.image.sha256}
        shown, small = store.images.path(image), store.images.thumbnail(image)
        assert shown and small and shown.read_bytes() == picture and small.read_bytes().startswith(b"\xff\xd8")
        text = f"{WORD} moved"
        store.commit(ANN, [Add(text, embed([text])[0])])
        assert store.search(embed([text])[0], 1, scope=ANN)[0].memory.text == text
        assert traces(home, picture) == []  # while its journal is there
    WorkQueue(home).put("add", {"messages": SAID})
    assert list((folder / "indexes").rglob("*.usearch")) and len(daily_backups(folder)) == 2
    assert traces(home, picture) == []
    decrypt_store(folder, nothing)
    know(None)
    after = contents(folder)
    assert after["pictures"] == before["pictures"] and set(before["memories"]) < set(after["memories"])
    assert keys.read_key_file(folder) is None and all(each.problem is None for each in read_backups(folder))
    queue = WorkQueue(home)
    for _ in range(2):
        call = queue.next()
        assert call is not None and call.arguments == {"messages": SAID}
        queue.done(call)
    assert queue.count() + queue.count_failed() == 0


def test_a_wrong_or_missing_key_is_one_line(home: Path) -> None:
    folder = home / "store"
    encrypt_store(folder, "secret", nothing)
    know("wrong")
    with pytest.raises(StoreLocked, match="MEMLORA_PASSPHRASE is not the passphrase"):
        opened(folder)
    know(None)
    for use in (lambda: opened(folder), lambda: read_backups(folder), lambda: WorkQueue(home).next()):
        with pytest.raises(StoreLocked, match="set MEMLORA_PASSPHRASE"):
            use()  # type: ignore[no-untyped-call]
    key_file = folder / "key.json"
    key_file.write_text("{")
    with pytest.raises(StoreBroken, match=r"key\.json is damaged"):
        opened(folder)
    key_file.unlink()
    with pytest.raises(StoreBroken, match=r"memories\.db is damaged"):
        opened(folder)


def test_another_key_opens_everything_and_the_old_one_nothing(home: Path) -> None:
    folder = home / "store"
    before = contents(folder)
    encrypt_store(folder, "secret", nothing)
    old = (folder / "memories.db").read_bytes()
    rekey_store(folder, "other", nothing)
    know("secret")
    with pytest.raises(StoreLocked):
        opened(folder)
    know("other")
    assert contents(folder) == before and (folder / "memories.db").read_bytes()[:64] != old[:64]
    assert all(each.problem is None for each in read_backups(folder))
    assert WorkQueue(home).next() is not None
    assert "under a passphrase" in describe(folder)


def test_backups_restores_salvages_and_repairs_stay_encrypted(home: Path) -> None:
    folder = home / "store"
    encrypt_store(folder, "secret", nothing)
    before = contents(folder)
    with opened(folder) as store:
        back_up(store.database, date(2026, 11, 2))
        [row] = [memory for memory in store.list(scope=ANN) if memory.text == SAID]
        with store.database.write() as connection:
            connection.execute("UPDATE checksums SET sum = sum + 1 WHERE tbl = 'memories' AND key = 1")
        assert check_store(store)
        repair_store(store, embed)
        assert check_store(store) == []
    restore_backup(folder, choose_backup(folder, date(2026, 11, 2)), NOW + timedelta(days=1))
    assert [r for r in contents(folder)["memories"] if row.id in r] == [r for r in before["memories"] if row.id in r]
    report, kept = salvage_store(folder, NOW + timedelta(days=2))
    assert report.lost["memories"] == 0 and kept is not None
    assert contents(folder)["memories"] == before["memories"]
    assert traces(home) == []


def test_a_changed_byte_of_a_picture_or_an_index_is_noticed(home: Path) -> None:
    folder = home / "store"
    encrypt_store(folder, "secret", nothing)
    with opened(folder) as store:
        best = store.search(embed([SAID])[0], 1, scope=ANN)[0].memory.text
    for path in (*(folder / "images").glob("??/*.png"), *(folder / "indexes").rglob("*.usearch")):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with opened(folder) as store:
        assert store.images.find_damaged()
        assert store.search(embed([SAID])[0], 1, scope=ANN)[0].memory.text == best


def test_nothing_is_done_while_another_has_the_store_open(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / "store"
    monkeypatch.setattr("memlora_mlx.memory.store.converting._WAIT_SECONDS", 0.2)
    ready, end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with opened(folder):
            os.write(ready[1], b"x")
            os.read(end[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    with pytest.raises(StoreBusy, match="close the app"):
        encrypt_store(folder, "secret", nothing)
    os.write(end[1], b"x")
    os.waitpid(child, 0)
    assert keys.read_key_file(folder) is None
    encrypt_store(folder, "secret", nothing)
    with pytest.raises(UsageError, match="encrypted already"):
        encrypt_store(folder, "secret", nothing)


def test_a_damaged_store_is_left_as_it_is(home: Path) -> None:
    folder = home / "store"
    with opened(folder) as store, store.database.write() as connection:
        connection.execute("UPDATE checksums SET sum = sum + 1 WHERE tbl = 'memories' AND key = 1")
    with pytest.raises(StoreBroken, match="left as it is"):
        encrypt_store(folder, "secret", nothing)
    assert keys.read_key_file(folder) is None


def test_an_older_encrypted_store_is_migrated(made: tuple[Path, bytes], tmp_path: Path) -> None:
    as_of(len(MIGRATIONS) - 2, made[0] / "store", tmp_path / "old")
    folder = tmp_path / "store"
    folder.mkdir()
    master = bytes(range(32))
    keys.write_key_file(folder, keys.KeyFile("encrypted", (keys.new_slot(master, "secret"),)))
    (folder / "memories.db").touch()
    export(tmp_path / "old" / "memories.db", None, folder / "memories.db", keys.StoreKeys((master,)).database_keys[0])
    with opened(made[0] / "store") as now, opened(folder) as store:
        assert [memory.text for memory in store.list(scope=ANN)] == [memory.text for memory in now.list(scope=ANN)]
    assert traces(folder) == []


# What each command does, the passphrases before and after, and whether the store is encrypted before and after.
COMMANDS: dict[str, tuple[Callable[[Path], None], str | None, str | None]] = {
    "encrypt": (lambda folder: encrypt_store(folder, "secret", nothing), None, "secret"),
    "rekey": (lambda folder: rekey_store(folder, "other", nothing), "secret", "other"),
    "decrypt": (lambda folder: decrypt_store(folder, nothing), "secret", None),
}
KILLS = 6  # for each command
_COUNTED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.utime"}


def run_killed(action: Callable[[], None], folder: Path, at: int) -> int:
    """Run it in a process that kills itself at its n-th use of a file below the folder. Returns how many it made."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        seen = 0

        def look(event: str, values: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in _COUNTED and str(values[0]).startswith(str(folder.parent)):
                seen += 1
                if seen == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(look)
        try:
            action()
        finally:
            os.write(write, str(seen).encode())
            os._exit(0)
    os.close(write)
    with open(read, "rb") as said:
        uses = int(said.read() or at)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]) == (at > 0)
    return uses


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_anywhere_loses_nothing_and_the_next_start_goes_on(name: str, home: Path, tmp_path: Path) -> None:
    action, first, last = COMMANDS[name]
    folder = home / "store"
    before = contents(folder)
    if first is not None:
        encrypt_store(folder, first, nothing)
    survived = 0
    for at in kill_points(lambda folder: action(folder), home, tmp_path):
        here = tmp_path / "try"
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(home, here)
        know(first)
        run_killed(lambda: action(here / "store"), here / "store", at)  # noqa: B023 - it is used up here
        found = after_kill(here / "store", (first, last))
        assert found == before, at
        scraps = [path.name for path in here.rglob(".saving-convert-*")]
        assert not scraps, at
        file = keys.read_key_file(here / "store")
        assert file is None or file.state == "encrypted"
        if file is not None:
            assert traces(here) == [], at
        survived += (file is None) == (first is None)
        if (file is None, name) in ((True, "encrypt"), (False, "decrypt")):  # it was taken back: do it again
            action(here / "store")
            know(last)
            assert contents(here / "store") == before
    assert survived > 0  # some came before the step


def kill_points(action: Callable[[Path], None], home: Path, tmp_path: Path) -> list[int]:
    """Moments spread over the run of a command."""
    here = tmp_path / "count"
    shutil.copytree(home, here)
    uses = run_killed(lambda: action(here / "store"), here / "store", 0)
    return sorted({1 + at * (uses - 1) // (KILLS - 1) for at in range(KILLS)})


def after_kill(folder: Path, passphrases: tuple[str | None, ...]) -> dict[str, list[tuple[Any, ...]]]:
    """What the store holds for somebody who knows the passphrases."""
    for passphrase in passphrases:
        know(passphrase)
        try:
            return contents(folder)
        except StoreLocked:
            continue
    raise AssertionError("no passphrase opens the store")
