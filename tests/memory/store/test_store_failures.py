"""What the world does to a store: kill -9, two processes, full disks, read-only folders, damaged files, newer versions."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memlora_mlx.errors import StoreBroken, StoreBusy, StoreError, StoreFull, StoreReadOnly, StoreTooNew
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint
from memlora_mlx.memory.store.integrity import check_store, repair_store
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, Message, Scope

SPACE = EmbeddingFingerprint("failures", 16)
ANNA = Scope("anna")


def vector(seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal(SPACE.dim)
    return (values / np.linalg.norm(values)).astype(np.float32)


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([vector(len(text)) for text in texts])


def commit(store: Store, number: int) -> None:
    """Exchange `number`, with two messages and three memories."""
    messages = (Message("user", f"user {number}"), Message("assistant", f"assistant {number}"))
    exchange = Exchange(f"exchange {number}", ANNA, messages, None, "source", number)
    store.commit(ANNA, [Add(f"{number}: {n}", vector(10 * number + n)) for n in range(3)], exchange=exchange)


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_store_failures import SPACE, Store, commit, vector
    first, last, step = map(int, sys.argv[2:])
    with Store(Path(sys.argv[1]), SPACE, exact_limit=30) as store:
        print("open", flush=True)
        for number in range(first, last, step):
            commit(store, number)
            if number == first:
                print("wrote", flush=True)
            store.search(vector(number), 3)
    """
).format(tests=str(Path(__file__).parent))


def writer(folder: Path, first: int, last: int, step: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(last), str(step)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kill_9_at_any_moment_leaves_a_whole_store_that_can_go_on(tmp_path: Path) -> None:
    moments = random.Random(1)
    for turn in range(5):
        process = writer(tmp_path, 0, 100_000)
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        assert not turn or process.stdout.readline() == "wrote\n"  # the first may be killed before it wrote
        time.sleep(moments.uniform(0.02, 0.25))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Store(tmp_path, SPACE, exact_limit=30) as store:
            done = len(store.stored_exchanges(f"exchange {number}" for number in range(5000)))
            assert check_store(store) == []
            assert store.count() == 3 * done
            for number in range(done):
                assert len(store.exchange(f"exchange {number}").messages) == 2
            if done:
                assert store.search(vector(10 * (done - 1)), 1)[0].distance == 0.0
    assert done > 0


def test_a_killed_and_repeated_ingest_gives_the_same_store(tmp_path: Path) -> None:
    process = writer(tmp_path / "killed", 0, 100_000)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    assert process.stdout.readline() == "wrote\n"
    time.sleep(0.15)
    process.kill()
    process.wait()
    process.stdout.close()
    with Store(tmp_path / "killed", SPACE) as killed, Store(tmp_path / "whole", SPACE) as whole:
        last = max(30, 2 * killed.count() // 3)
        for number in range(last):
            commit(killed, number)
            commit(whole, number)
        one, other = ([(m.id, m.text) for m in store.list(order="stored")] for store in (killed, whole))
        assert one == other


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    """Both also create the store at the same time, and share some of the work."""
    processes = [writer(tmp_path, 0, 60, 1), writer(tmp_path, 0, 120, 2)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    with Store(tmp_path, SPACE) as store:
        assert store.count() == 3 * (60 + 30)
        assert check_store(store) == []


def test_a_reader_sees_a_whole_state_while_another_writes(tmp_path: Path) -> None:
    with Store(tmp_path, SPACE) as store:
        process = writer(tmp_path, 0, 100)
        seen = []
        while process.poll() is None:
            seen.append((store.count(), len(store.search(vector(1), 1000))))
        process.communicate()
        assert process.returncode == 0
        assert all(count % 3 == 0 and found % 3 == 0 for count, found in seen)
        assert len(set(seen)) > 1
        assert store.count() == len(store.search(vector(1), 1000)) == 300


def test_a_store_that_stays_locked_is_busy(tmp_path: Path) -> None:
    with Store(tmp_path, SPACE, busy_seconds=0.1) as store:
        other = sqlite3.connect(tmp_path / "memories.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="another process"):
            commit(store, 1)
        assert store.count() == 0  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        commit(store, 1)


def test_a_waiting_writer_gets_its_turn(tmp_path: Path) -> None:
    with Store(tmp_path, SPACE) as store:
        other = sqlite3.connect(tmp_path / "memories.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.2, other.execute, ["ROLLBACK"])
        timer.start()
        commit(store, 1)
        timer.join()
        other.close()
        assert store.count() == 3


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    Store(tmp_path, SPACE).close()
    with sqlite3.connect(tmp_path / "memories.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(StoreTooNew, match="upgrade memlora"):
        Store(tmp_path, SPACE)


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no memory store at .*memlora ingest"):
        Store(tmp_path / "nowhere", SPACE, create=False)
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "memories.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(StoreBroken, match="damaged"):
        Store(tmp_path, SPACE)
    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other" / "memories.db") as connection:
        connection.execute("CREATE TABLE somebody_elses (data)")
    connection.close()
    with pytest.raises(StoreBroken, match="no memory store"):
        Store(tmp_path / "other", SPACE)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot use"):
        Store(tmp_path / "file" / "store", SPACE)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a place that even root cannot write")
def test_a_place_that_cannot_be_written() -> None:
    with pytest.raises(StoreError) as caught:
        Store(Path("/proc/memlora"), SPACE)
    assert "\n" not in str(caught.value)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder whose parents any user can enter, unlike those of tmp_path."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """File permissions do not bind root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize("folder_mode", [0o755, 0o555])
def test_a_read_only_store_can_be_read(shared_folder: Path, folder_mode: int, request: pytest.FixtureRequest) -> None:
    with Store(shared_folder, SPACE, exact_limit=5) as store:
        for number in range(4):
            commit(store, number)
    (shared_folder / "memories.db").chmod(0o444)
    shared_folder.chmod(folder_mode)
    request.getfixturevalue("ordinary_user")
    with Store(shared_folder, SPACE, exact_limit=5) as store:
        assert store.search(vector(10), 1)[0].memory.text == "1: 0"
        assert store.count() == 12
        with pytest.raises(StoreReadOnly, match="cannot be written; check the permissions"):
            commit(store, 9)
        assert store.count() == 12


def test_writing_through_a_read_only_connection(tmp_path: Path) -> None:
    with Store(tmp_path, SPACE) as store:
        store.database.connection().execute("PRAGMA query_only = ON")
        with pytest.raises(StoreReadOnly):
            commit(store, 1)


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    with Store(tmp_path, SPACE) as store:
        commit(store, 0)
        connection = store.database.connection()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(StoreFull, match="free some disk space"):
            for number in range(1, 1000):
                commit(store, number)
        kept = number
        assert store.count() == 3 * kept
        connection.execute("PRAGMA max_page_count = 1000000")
        commit(store, kept)
        assert store.count() == 3 * (kept + 1)
        assert check_store(store) == []


def test_a_write_that_the_system_refuses_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a disk that fills up."""
    program = WRITER.replace(
        "with Store(",
        "import resource, signal\n"
        "from memlora_mlx.errors import StoreFull\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "with Store(",
        1,
    )
    program = program.replace(
        "commit(store, number)", "try:\n            commit(store, number)\n        except StoreFull: break", 1
    )
    program += "    else:\n        sys.exit('it was never full')\n"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), "0", "5000", "1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Store(tmp_path, SPACE) as store:
        count = len(store.stored_exchanges(f"exchange {number}" for number in range(5000)))
        assert count > 10
        assert store.count() == 3 * count
        assert check_store(store) == []


def test_a_damaged_database_is_named_as_such(tmp_path: Path) -> None:
    with Store(tmp_path, SPACE) as store:
        for number in range(200):
            commit(store, number)
    content = bytearray((tmp_path / "memories.db").read_bytes())
    for place in range(len(content) // 2, len(content), 7):
        content[place] = 0xA5
    (tmp_path / "memories.db").write_bytes(content)
    with Store(tmp_path, SPACE) as store:
        assert any("damaged" in problem for problem in check_store(store))
        with pytest.raises(StoreBroken, match="memlora doctor"):
            store.list()


def test_the_doctor_finds_and_mends(tmp_path: Path) -> None:
    with Store(tmp_path, SPACE) as store:
        for number in range(4):
            commit(store, number)
        assert check_store(store) == []
        execute = store.database.connection().execute
        execute("UPDATE embeddings SET vector = x'00' WHERE memory = 1")
        execute("DELETE FROM embeddings WHERE memory = 2")
        execute("UPDATE embeddings SET vector = zeroblob(64) WHERE memory = 3")
        execute("UPDATE memories SET text = 'altered' WHERE id = 4")
        execute("UPDATE owners SET memories = 7")

        problems = "; ".join(check_store(store))
        assert "3 memories have no sound embedding" in problems
        assert "1 memories have another text" in problems
        assert "said to have 7 memories, but has 12" in problems
        assert len(store.search(vector(1), 100)) >= 9  # a damaged store still answers

        assert any("embedded 4 memories again" in line for line in repair_store(store, embed))
        assert check_store(store) == []
        assert len(store.search(vector(1), 100)) == 12


def test_moving_to_another_embedding_space(tmp_path: Path) -> None:
    wider = EmbeddingFingerprint("wider", 24)

    def embed_wider(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.stack([np.random.default_rng(len(text)).standard_normal(24) for text in texts])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)

    with Store(tmp_path, SPACE, exact_limit=5) as store:
        for number in range(4):
            commit(store, number)
        store.search(vector(1), 1)
        before = store.list()
    with Store(tmp_path, wider, any_embedding=True, exact_limit=5) as store, Store(tmp_path, SPACE) as left_behind:
        assert "its vectors are of failures (16 dimensions), not of wider (24 dimensions)" in check_store(store)
        repair_store(store, embed_wider)
        assert (store.embedding, check_store(store), store.list()) == (wider, [], before)
        assert len(store.search(embed_wider(["?"])[0], 100)) == 12
        for use in (lambda: left_behind.search(vector(1), 1), lambda: commit(left_behind, 9)):
            with pytest.raises(StoreError, match="now holds vectors of wider"):
                use()
    with Store(tmp_path, wider) as store:
        assert store.list() == before
