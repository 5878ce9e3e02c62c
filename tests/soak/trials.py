"""What the soak does again and again, each time with other random numbers. A trial that finds a fault raises.

Each returns how many cases it tried. The tests of the same promises are in the folders of their rooms.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import bit_flips
import killing
import test_power_loss
import test_store_failures as failures
from bit_flips import SPACE, embed, make_store
from cli_home import TALK, environment, run_command, store_contents, varied_student_folder
from test_gguf import build, write_gguf
from tiny_models import embedder_folder

from memlora_mlx.conversations.files import read_conversations
from memlora_mlx.errors import MemloraError, StoreError
from memlora_mlx.memory.retrieval.indexes import OwnerIndexes
from memlora_mlx.memory.store.backups import back_up, backup_files, daily_backups, read_backup, read_backups
from memlora_mlx.memory.store.export_import import export_lines, import_lines
from memlora_mlx.memory.store.integrity import check_store, repair_store
from memlora_mlx.memory.store.restoring import choose_backup, restore_backup, salvage_store
from memlora_mlx.memory.store.store import Store, utc_now
from memlora_mlx.models.gguf import convert

TESTS = Path(__file__).parent.parent


def flip_bits(folder: Path, seed: int) -> int:
    """Every bit that changes what a store holds is noticed."""
    make_store(folder / "store", 30)
    outcome = bit_flips.turn_bits(folder / "store", folder / "scratch", 25, seed)
    assert outcome.unnoticed == [], outcome
    return outcome.changing


def kill_three_writers(folder: Path, seed: int) -> int:
    """Three processes write at once and are killed; what each had stored is there, once, and whole."""
    moments = random.Random(seed)
    writers = [failures.writer(folder, start, 100_000, 3) for start in range(3)]
    for process in writers:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
    time.sleep(moments.uniform(0, 0.5))
    for process in writers:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with Store(folder, failures.SPACE) as store:
        assert check_store(store) == []
        with store.snapshot() as connection:
            exchanges, messages, memories = (
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("exchanges", "messages", "memories")
            )
        assert messages == 2 * exchanges and memories == 3 * exchanges
    return len(writers)


_RESTORE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from bit_flips import *
from memlora_mlx.memory.store.restoring import choose_backup, restore_backup, salvage_store
folder = Path(sys.argv[1])
print("begin", flush=True)
for turn in range(1000):
    if turn % 2:
        salvage_store(folder, datetime.now(UTC))
    else:
        restore_backup(folder, choose_backup(folder), datetime.now(UTC))
"""


def kill_restores(folder: Path, seed: int) -> int:
    """A restore or a salvage that is killed leaves the old store or the new, and never a damaged backup."""
    moments = random.Random(seed)
    make_store(folder, 30)
    with Store(folder, SPACE) as store:
        back_up(store.database, store.clock().date())
        before = [memory.text for memory in store.list(order="stored")]
    command = [sys.executable, "-c", _RESTORE, str(folder), str(TESTS / "memory" / "store")]
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None and process.stdout.readline() == b"begin\n"
        time.sleep(moments.uniform(0, 1.5))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert [read_backup(path).problem for path in daily_backups(folder)] == [None]
        with Store(folder, SPACE) as store:
            repair_store(store, embed)
            assert check_store(store) == []
            assert [memory.text for memory in store.list(order="stored")] == before
    return 3


_CONVERT = """
import sys
from pathlib import Path
from memlora_mlx.memory.store import keys
from memlora_mlx.memory.store.converting import decrypt_store, encrypt_store, rekey_store
keys._MEMORY = 32
folder = Path(sys.argv[1])
print("begin", flush=True)
while True:
    if keys.read_key_file(folder) is None:
        encrypt_store(folder, "words", lambda step: None)
    rekey_store(folder, "words", lambda step: None)
    decrypt_store(folder, lambda step: None)
"""


def kill_conversions(folder: Path, seed: int) -> int:
    """An encryption, a decryption or a change of the key that is killed loses nothing, and the next start goes on."""
    moments = random.Random(seed)
    make_store(folder, 30)
    with Store(folder, SPACE) as store:
        back_up(store.database, store.clock().date())
        before = [memory.text for memory in store.list(order="stored")]
    command = [sys.executable, "-c", _CONVERT, str(folder)]
    os.environ["MEMLORA_PASSPHRASE"] = "words"
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None and process.stdout.readline() == b"begin\n"
        time.sleep(moments.uniform(0, 2))
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with Store(folder, SPACE) as store:
            assert check_store(store) == []
            assert [memory.text for memory in store.list(order="stored")] == before
            is_encrypted = store.database.keys is not None
        assert [each.problem for each in read_backups(folder)] == [None]
        assert not list(folder.rglob(".saving-convert-*"))
        for path in (folder / "memories.db", *daily_backups(folder)):
            assert path.read_bytes().startswith(b"SQLite format 3") != is_encrypted, path
    return 5


def damage_pages(folder: Path, seed: int) -> int:
    """Whatever pages are overwritten, the backup comes back exactly, and a salvage gives a sound store or says why not."""
    chance = random.Random(seed)
    make_store(folder, 40)
    with Store(folder, SPACE) as store:
        back_up(store.database, store.clock().date())
        before = [memory.text for memory in store.list(order="stored")]
    for _ in range(5):
        path = folder / "memories.db"
        content = bytearray(path.read_bytes())
        for _ in range(chance.randint(1, 6)):
            page = chance.randrange(len(content) // 4096)
            content[page * 4096 : (page + 1) * 4096] = chance.randbytes(4096)
        path.write_bytes(content)
        assert bit_flips.problems_of(folder)
        try:
            salvage_store(folder, utc_now())
            with Store(folder, SPACE, any_embedding=True) as store:
                repair_store(store, embed)
                assert check_store(store) == []
        except StoreError:
            pass
        restore_backup(folder, choose_backup(folder), utc_now())
        with Store(folder, SPACE) as store:
            assert check_store(store) == [] and [memory.text for memory in store.list(order="stored")] == before
        for each in backup_files(folder):
            if "replaced" in each.parts:
                each.unlink()
    return 5


def lose_power(folder: Path, seed: int) -> int:
    """Power that fails during an ingest, edits, a backup, a migration or an encryption loses nothing acknowledged."""
    if not sys.platform.startswith("linux") or shutil.which("strace") is None:
        return 0
    os.environ["MEMLORA_PASSPHRASE"] = "words"  # of the stores that are encrypted
    work = list(test_power_loss.WORK)[seed % len(test_power_loss.WORK)]
    return test_power_loss.lose_power(work, folder, 6, seed)[0]


def damage_indexes(folder: Path, seed: int) -> int:
    """A saved index of any content gives the results of a new one."""
    chance = random.Random(seed)
    make_store(folder, 40)
    query = embed(["Ann tea"])[0]
    with Store(folder, SPACE, exact_limit=5) as store:
        expected = [hit.memory.id for hit in store.search(query, 5)]
    files = [path for path in (folder / "indexes").iterdir() if path.is_file()]
    assert files
    for path in files:
        content = bytearray(path.read_bytes())
        for _ in range(chance.randint(1, 20)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content if chance.random() < 0.8 else content[: chance.randrange(len(content))])
    with Store(folder, SPACE) as store:
        store.indexes = OwnerIndexes(folder / "indexes", 5)
        assert [hit.memory.id for hit in store.search(query, 5)] == expected
    return len(files)


def mutate_conversations(folder: Path, seed: int) -> int:
    """A conversation file of any content is read, or refused in one line."""
    chance = random.Random(seed)
    cases = [path for path in sorted((TESTS / "conversations" / "cases").rglob("*")) if path.is_file()]
    for _ in range(60):
        content = bytearray(chance.choice(cases).read_bytes()[:200_000])
        for _ in range(chance.randint(1, 30)):
            place = chance.randrange(len(content) + 1)
            match chance.randrange(3):
                case 0:
                    content[place : place + chance.randint(1, 40)] = b""
                case 1:
                    content[place:place] = content[place : place + chance.randint(1, 200)]
                case 2:
                    content[place : place + 1] = chance.randbytes(1)
        try:
            read_conversations(io.BytesIO(content))
        except MemloraError as error:
            assert "\n" not in str(error)
    return 60


def mutate_imports(folder: Path, seed: int) -> int:
    """An export of any content is imported whole, or refused in one line with nothing imported."""
    chance = random.Random(seed)
    make_store(folder / "from", 12)
    with Store(folder / "from", SPACE) as store:
        lines = [json.dumps(line) for line in export_lines(store)]
    with Store(folder / "to", SPACE) as store:
        for _ in range(40):
            mutated = list(lines)
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(mutated))
                line, place = mutated[at], chance.randrange(len(mutated[at]))
                mutated[at] = (
                    line[:place] + chance.choice(['"', "}", "[", "9", "null", "\\u0000", "é"]) + line[place + 1 :]
                )
            count = store.count()
            try:
                import_lines(store, mutated, embed)
            except MemloraError as error:
                assert "\n" not in str(error) and store.count() == count
        assert check_store(store) == []
    return 40


def fill_the_disk(folder: Path, seed: int) -> int:
    """A write that the system refuses loses nothing that was stored."""
    failures.test_a_write_that_the_system_refuses_loses_nothing(folder)
    return 1


def work_without_network(folder: Path, seed: int) -> int:
    """Commands work in a namespace without network."""
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode
    ):
        return 0
    make_store(folder / "store", 12)
    environ = {**os.environ, "MEMLORA_HOME": str(folder)}
    commands = (["memory", "list"], ["people", "list"], ["restore", "--list"], ["memory", "export"], ["models", "list"])
    for command in commands:
        done = subprocess.run(
            ["unshare", "-n", sys.executable, "-m", "memlora_mlx", *command],
            env=environ,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
    return len(commands)


def kill_ingests(folder: Path, seed: int) -> int:
    """An ingest that is killed and repeated, however often, gives the store of a quiet run."""
    models, talk = _models(folder), folder / "talk.txt"
    talk.write_text(TALK)
    quiet = environment(folder / "quiet", *models)
    assert run_command(quiet, "ingest", talk)[0] == 0
    killing.kill_ingests(environment(folder / "home", *models), folder / "home", talk, 6, seed)
    assert store_contents(folder / "home") == store_contents(folder / "quiet")
    return 6


def kill_chats(folder: Path, seed: int) -> int:
    """Whatever moment a chat is killed, every line that was sent is there, and is remembered at the next start."""
    environ, home = environment(folder / "home", *_models(folder), user="zoe"), folder / "home"
    sent = killing.kill_chats(environ, home, 4, seed)
    assert killing.said_in_chats(home) == sent
    assert run_command(environ, "chat", "--conversation", killing.only_conversation(home), said="/memories\n")[0] == 0
    remembered = [row[4] for row in store_contents(home)["messages"] if row[2] == "user"]
    assert sorted(remembered) == sorted(sent)
    return 4


def mutate_models(folder: Path, seed: int) -> int:
    """A GGUF file of any content is read, or refused in one line."""
    chance = random.Random(seed)
    write_gguf(folder / "whole.gguf", build("llama"), "llama", "Q4_1")
    whole = (folder / "whole.gguf").read_bytes()
    for _ in range(20):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 20)):
            content[chance.randrange(len(content) if chance.random() < 0.3 else 2000)] = chance.randrange(256)
        path = folder / "mutated.gguf"
        path.write_bytes(content if chance.random() < 0.8 else content[: chance.randrange(len(content))])
        try:
            convert(path, folder / "converted")
        except MemloraError as error:
            assert "\n" not in str(error)
        shutil.rmtree(folder / "converted", ignore_errors=True)
    return 20


def _models(folder: Path) -> tuple[Path, Path]:
    """A tiny student and a tiny embedder."""
    return varied_student_folder(folder / "student"), embedder_folder(folder / "embedder")


TRIALS = (
    flip_bits,
    kill_three_writers,
    damage_pages,
    kill_restores,
    kill_conversions,
    lose_power,
    damage_indexes,
    mutate_conversations,
    mutate_imports,
    fill_the_disk,
    work_without_network,
    kill_ingests,
    kill_chats,
    mutate_models,
)
