"""Erasing for good: no byte of the words is left below the data folder, and nothing else is lost."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encoded
from PIL import Image as Picture

from memlora_mlx.errors import MemoryNotFound, StoreError, UsageError
from memlora_mlx.json_lines import JsonLines, read_json_lines
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.changes import Add
from memlora_mlx.memory.erasing import Selection, erase
from memlora_mlx.memory.retrieval.indexes import OwnerIndexes
from memlora_mlx.memory.retrieval.tables import MESSAGES
from memlora_mlx.memory.store import backups
from memlora_mlx.memory.store.backups import back_up, backup_files, read_backups
from memlora_mlx.memory.store.conversations import list_conversations, read_turns, save_question, save_reply
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.restoring import choose_backup, restore_backup
from memlora_mlx.memory.store.upkeep import embed_messages
from memlora_mlx.records import Exchange, Image, Message, Scope
from memlora_mlx.serve.work_queue import WorkQueue

ANN, BOB = Scope(user_id="ann"), Scope(user_id="bob")
NOON = datetime(2023, 5, 8, 12, tzinfo=UTC)
LATER = datetime(2024, 5, 8, 12, tzinfo=UTC)
SECRET = 'My therapist "Dr. Quibblefrotz" sees me in the Grünspan-Straße\u2019s old house.'
FACT = 'Ann sees the therapist "Dr. Quibblefrotz" in the Grünspan-Straße.'
REPLY = "I hope that Dr. Quibblefrotz helps you on Tuesdays."
# Parts that are found however the words were escaped, folded, stemmed or shortened.
MARKS = ("bblefrotz", "nspan")
KEPT = "My cat is called Moss."


@pytest.fixture
def memory(tiny_home: Path) -> Iterator[Memory]:
    with Memory() as opened:
        store = opened.workspace.store
        # The graph is for many memories; here it is there from the first on, so that it is on the disk, too.
        store.indexes = OwnerIndexes(store.folder / "indexes", 0)
        store.message_indexes = OwnerIndexes(store.folder / "indexes", 0, MESSAGES)
        yield opened


def exchange(memory: Memory, key: str, owner: Scope, said: list[tuple[str, str]], **values: Any) -> Exchange:
    own = owner.user_id or ""
    images = values.get("images", {})
    messages = tuple(
        Message("user" if who.lower() == own else "assistant", text, who, image=images.get(text)) for who, text in said
    )
    return Exchange(
        key, owner, messages, values.get("at", NOON), values.get("source", "talk"), values.get("position", 0)
    )


def stored(memory: Memory, of: Exchange, *facts: str, image: Image | None = None) -> list[str]:
    vectors = memory.workspace.engine.embed([*facts]) if facts else []
    changes = [Add(fact, vector, image=image) for fact, vector in zip(facts, vectors, strict=True)]
    done = memory.workspace.store.commit(of.owner, changes, exchange=of) or []
    embed_messages(memory.workspace.store, memory.workspace.engine.embed)
    return [one.memory_id for one in done]


@pytest.fixture
def secret(memory: Memory) -> str:
    """The id of a memory whose words are everywhere they can be."""
    store = memory.workspace.store
    turns = [("Ann", SECRET), ("Bob", REPLY)]
    picture = store.images.store_image(
        Image(
            f"data:image/png;base64,{base64.b64encode(encoded(Picture.new('RGB', (9, 9), 'red'))).decode()}",
            "Dr. Quibblefrotz at the door",
        ),
        None,
    )
    said = exchange(memory, "k1", ANN, turns, images={SECRET: picture})
    [first] = stored(memory, said, FACT, image=picture)
    stored(memory, exchange(memory, "k2", BOB, turns))
    stored(
        memory,
        exchange(memory, "k3", ANN, [("Ann", KEPT), ("Bob", "What a nice name for a cat!")], position=1, at=LATER),
        KEPT,
    )
    talk = save_question(store, ANN, SECRET, key="k1", said_at=NOON)
    save_reply(store, "k1", REPLY, question=SECRET, said_at=NOON)
    save_question(store, ANN, KEPT, key="k3", said_at=LATER, conversation=talk)
    memory.update(first, FACT + " It helps.")
    memory.undo(user_id="ann")
    memory.update(first, "Ann sees Dr. Quibblefrotz on Tuesdays.")
    assert (memory.workspace.settings.home / "teacher/extraction/corrections.jsonl").is_file()
    scatter(memory.workspace.settings.home)
    assert back_up(store.database, date(2026, 1, 2))
    hits = memory.search("therapist", user_id="ann")["results"]
    store.indexes.save()
    store.message_indexes.save()
    assert (
        hits and list(store.folder.glob("indexes/*.usearch")) and list(store.folder.glob("indexes/messages/*.usearch"))
    )
    return first


def scatter(home: Path) -> None:
    """What other commands leave below the data folder: chats, examples, trainings, benchmarks and a killed save."""
    kept = {"text": "Nothing of that", "messages": [{"content": KEPT}]}
    lines = [
        {
            "messages": [{"role": "user", "content": f"Ann: {SECRET}\nBob: {REPLY}"}],
            "answer": json.dumps({"facts": [FACT]}),
        },
        kept,
    ]
    for name, ascii_only in (
        ("teacher/update/gpt.jsonl", True),
        ("runs/extraction-1/predictions.jsonl", False),
        ("vqa/own/rows.jsonl", True),
    ):
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(line, ensure_ascii=ascii_only) + "\n" for line in lines), encoding="utf-8")
    (home / "chat-history.jsonl").write_text(json.dumps(SECRET) + "\n" + json.dumps(KEPT) + "\n")
    (home / "chat-history").write_text("_HiStOrY_V2_\n" + SECRET.replace(" ", "\\040") + "\nhello\n", encoding="utf-8")
    run = home / "bench/runs/2026-01-01"
    run.mkdir(parents=True)
    (run / "results.json").write_text(json.dumps({"asked": [{"answer": FACT}]}, indent=1))
    (run / "report.html").write_text(f"<p>{html.escape(FACT)}</p>", encoding="utf-8")
    other = home / "bench/runs/2026-01-02"
    other.mkdir()
    (other / "results.json").write_text(json.dumps({"asked": [{"answer": KEPT}]}))
    cache = home / "bench/cache/v1"
    (cache / "extraction").mkdir(parents=True)
    (cache / "extraction/1.json").write_text(json.dumps({"value": {"text": json.dumps({"facts": [FACT]})}}))
    with closing(sqlite3.connect(cache / "entries.db")) as entries:
        entries.execute("PRAGMA journal_mode = WAL")
        entries.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        rows = [("1", json.dumps({"text": json.dumps({"facts": [FACT]})})), ("2", json.dumps(kept))]
        entries.executemany("INSERT INTO entries VALUES (?, ?)", rows)
        entries.commit()
    said = [{"role": "user", "content": SECRET}, {"role": "assistant", "content": REPLY}]
    for content in (said, [{"role": "user", "content": KEPT}]):
        WorkQueue(home).put("add", {"messages": content, "user_id": "bob", "timestamp": NOON.isoformat()})
    (home / "bench/.0123456789abcdef.part").write_text(FACT)
    (home / "store/.saving-x").mkdir(parents=True)
    (home / "store/.saving-x/1.usearch").write_text(FACT)


def traces(home: Path, marks: tuple[str, ...] = MARKS, vectors: tuple[Any, ...] = ()) -> list[str]:
    """Files below the data folder with a mark in their bytes, in any encoding, or with a vector."""
    found = []
    for path in sorted(home.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        forms = [
            data.lower(),
            data.decode("utf-16-le", "ignore").lower().encode(),
            data[1:].decode("utf-16-le", "ignore").lower().encode(),
        ]
        forms += [zlib.decompress(data)] if data[:1] == b"\x78" else []
        found += [f"{path.relative_to(home)}: {mark}" for mark in marks if any(mark.encode() in form for form in forms)]
        found += [
            f"{path.relative_to(home)}: a vector" for vector in vectors if vector.astype("<f4").tobytes()[:64] in data
        ]
    return found


def everywhere(home: Path) -> set[str]:
    return {line.partition(":")[0].split("/")[0] for line in traces(home)}


def waiting(home: Path) -> int:
    """Calls in the queue."""
    return WorkQueue(home).count()


def what_stays(memory: Memory) -> list[str]:
    return [item["memory"] for item in memory.get_all(user_id="ann")["results"]]


def is_whole(memory: Memory) -> bool:
    """The store is sound, and what was not erased is found."""
    found = memory.search("Moss the cat", user_id="ann")["results"]
    return check_store(memory.workspace.store) == [] and found[0]["memory"] == KEPT


SELECTIONS: dict[str, Callable[[str], Selection]] = {
    "by its id": lambda memory_id: Selection(ids=(memory_id,)),
    "by words": lambda _: Selection(containing="quibblefrotz"),
    "by day": lambda _: Selection(before=datetime(2023, 6, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize("how", SELECTIONS)
def test_no_byte_is_left_and_nothing_else_is_lost(memory: Memory, secret: str, how: str) -> None:
    home, store = memory.workspace.settings.home, memory.workspace.store
    vectors = tuple(memory.workspace.engine.embed([FACT, f"Ann: {SECRET}", "Ann sees Dr. Quibblefrotz on Tuesdays."]))
    before = everywhere(home)
    assert {"store", "teacher", "runs", "bench", "vqa", "queue", "chat-history", "chat-history.jsonl"} <= before
    assert (home / "store/backups/2026-01-02.db").is_file() and waiting(home) == 2
    done = erase(store, home, SELECTIONS[how](secret))
    marks = MARKS if how != "by words" else MARKS[:1]
    assert traces(home, marks, vectors if how != "by words" else vectors[2:]) == []
    assert done.memory_count == 1 and what_stays(memory) == [KEPT] and is_whole(memory)
    [talk] = list_conversations(store, ANN)
    said = [turn.text for turn in read_turns(store, talk.id)]
    assert said[-1] == KEPT and talk.name == said[0] and (how == "by words" or len(said) == 1)
    assert not list((home / "store/images").rglob("*.jpg")) and not list((home / "store/images").rglob("*.png"))
    assert KEPT.encode() in (home / "teacher/update/gpt.jsonl").read_bytes()
    assert waiting(home) == {"by its id": 1, "by words": 2, "by day": 0}[how]
    assert (home / "bench/runs/2026-01-02/results.json").is_file()
    with closing(sqlite3.connect(home / "bench/cache/v1/entries.db")) as entries:
        assert [row[0] for row in entries.execute("SELECT key FROM entries")] == ["2"]
    with pytest.raises(StoreError):
        memory.undo(user_id="bob")


def test_a_person_is_erased_with_what_they_said_to_others(memory: Memory, secret: str) -> None:
    home, store = memory.workspace.settings.home, memory.workspace.store
    stored(
        memory,
        exchange(
            memory, "k4", BOB, [("Bob", "I like tea, seven cups a day."), ("Ann", "So do I!")], position=1, at=LATER
        ),
        "Bob likes tea.",
    )
    memory.erase(user_id="ann")
    assert [line for line in traces(home, ("nspan", "moss", '"ann"')) if "chat-history" not in line] == []
    with store.snapshot() as connection:
        assert [row[0] for row in connection.execute("SELECT text FROM messages ORDER BY 1")] == [
            "I hope that Dr. Quibblefrotz helps you on Tuesdays.",
            "I like tea, seven cups a day.",
        ]
    assert [item["memory"] for item in memory.get_all(user_id="bob")["results"]] == ["Bob likes tea."]
    assert check_store(store) == []
    with pytest.raises(StoreError, match="nobody called 'ann'"):
        memory.erase(user_id="ann")


def test_everything_goes_but_models_experts_and_settings(memory: Memory, secret: str) -> None:
    home = memory.workspace.settings.home
    (home / "config.toml").write_text('user = "ann"\n')
    (home / "adapters/x/update").mkdir(parents=True)
    memory.erase(everything=True)
    assert traces(home, (*MARKS, "moss", "nothing of that")) == []
    assert sorted(path.name for path in home.iterdir()) == ["adapters", "config.toml", "store"]
    memory.add("Ann plays chess on Fridays.", user_id="ann", infer=False)
    assert what_stays(memory) == ["Ann plays chess on Fridays."] and check_store(memory.workspace.store) == []


def test_reset_reaches_benchmarks_examples_runs_and_scraps(memory: Memory, secret: str) -> None:
    memory.reset()
    assert traces(memory.workspace.settings.home, (*MARKS, "moss")) == []


def test_backups_and_replaced_stores_lose_the_words_too(memory: Memory, secret: str) -> None:
    store = memory.workspace.store
    for day in (date(2026, 11, 1), date(2026, 11, 2)):
        assert back_up(store.database, day)
    restore_backup(store.folder, choose_backup(store.folder), store.clock())
    days = {f"2026-{day}.db" for day in ("01-02", "11-01", "11-02")}
    assert {path.name for path in backup_files(store.folder)} == {*days, "memories.db"}
    memory.erase(secret)
    assert traces(memory.workspace.settings.home) == []
    [backup] = read_backups(store.folder)  # of what is left
    assert backup.problem is None and backup.memories == store.count()


def test_a_message_loses_only_the_sentence(memory: Memory) -> None:
    said = "I like tea. My code word is Quibblefrotz! We met in Oslo."
    stored(memory, exchange(memory, "k1", ANN, [("Ann", said)]), "Ann likes tea.")
    done = memory.erase(containing="quibblefrotz")
    kept = memory.workspace.store.exchange("k1").messages
    assert (done["shortened"], done["messages"], done["memories"]) == (1, 0, 0)
    assert [message.text for message in kept] == ["I like tea. We met in Oslo."]
    assert traces(memory.workspace.settings.home) == [] and check_store(memory.workspace.store) == []
    embed_messages(memory.workspace.store, memory.workspace.engine.embed)
    assert "Oslo" in memory.search("Oslo", user_id="ann")["results"][0]["message"]["text"]


def test_a_dry_run_tells_what_would_go_and_changes_nothing(memory: Memory, secret: str) -> None:
    home = memory.workspace.settings.home
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.suffix == ".jsonl"}
    would = memory.erase(secret, dry_run=True)
    assert everywhere(home) >= {"store", "teacher", "bench"} and all(
        path.read_bytes() == data for path, data in before.items()
    )
    done = memory.erase(secret)
    assert {**would, "erased": True} == done and done["history"] == 4 and done["messages"] == 4


def test_a_deleted_memory_can_be_erased(memory: Memory, secret: str) -> None:
    memory.delete(secret)
    assert everywhere(memory.workspace.settings.home) >= {"store"}
    memory.erase(secret)
    assert traces(memory.workspace.settings.home) == [] and is_whole(memory)


def test_what_is_erased_is_not_read_again(memory: Memory, secret: str) -> None:
    store = memory.workspace.store
    memory.erase(secret)
    again = exchange(memory, "k1", ANN, [("Ann", SECRET), ("Bob", REPLY)])
    assert store.stored_exchanges(["k1", "k3", "new"]) == {"k1", "k3"}
    assert store.commit(ANN, [], exchange=again) is None and traces(memory.workspace.settings.home) == []


def test_memories_of_the_same_words_stay_and_are_named(memory: Memory) -> None:
    said = exchange(memory, "k1", ANN, [("Ann", "I like tea and I see Dr. Quibblefrotz.")])
    tea, doctor = stored(memory, said, "Ann likes tea.", "Ann sees Dr. Quibblefrotz.")
    done = memory.erase(doctor)
    assert [one["id"] for one in done["staying"]] == [tea] and what_stays(memory) == ["Ann likes tea."]
    assert traces(memory.workspace.settings.home) == [] and check_store(memory.workspace.store) == []


def test_exports_and_files_of_the_user_are_named_and_not_touched(
    memory: Memory, secret: str, tmp_path: Path, run_memlora: Callable[..., tuple[int, str, str]]
) -> None:
    home, export = memory.workspace.settings.home, tmp_path / "out.jsonl"
    (home / "own notes.jsonl").write_text(json.dumps(FACT) + "\n")
    assert run_memlora("memory", "export", export)[0] == 0
    held = export.read_bytes()
    done = memory.erase(secret)
    assert done["exports"] == [str(export)] and export.read_bytes() == held
    assert done["left"] == [str(home / "own notes.jsonl")] and "frotz" in (home / "own notes.jsonl").read_text()


def test_an_expert_that_was_trained_on_it_is_named(memory: Memory, secret: str) -> None:
    home = memory.workspace.settings.home
    card = home / "adapters/tiny/extraction/adapter_config.json"
    card.parent.mkdir(parents=True)
    card.write_text(json.dumps({"memlora": {"data": {"files": ["teacher/update/gpt.jsonl:300"]}}}))
    assert memory.erase(secret)["trained"] == [str(card.parent)]


@pytest.mark.parametrize("stop", ["sweep", "rows", "compact", "finished"])
def test_a_kill_anywhere_is_finished_by_the_same_call(
    memory: Memory, secret: str, stop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memlora_mlx.memory import erasing
    from memlora_mlx.memory.store import erasure, meta
    from memlora_mlx.memory.store.database import Database

    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    places: dict[str, tuple[Any, str]] = {
        "sweep": (erasing, "erase_rows"),
        "rows": (erasure, "finish_erasing"),
        "compact": (Database, "compact"),
        "finished": (meta, "note_erasing_finished"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*places[stop], kill)
        with pytest.raises(Killed):
            memory.erase(secret)
    assert [text for text in what_stays(memory) if text == KEPT] == [KEPT]
    memory.erase(secret)
    assert traces(memory.workspace.settings.home) == [] and is_whole(memory)
    with pytest.raises(MemoryNotFound):
        memory.erase(secret)


def test_another_reader_delays_the_end_and_is_named(memory: Memory, secret: str) -> None:
    store = memory.workspace.store
    with store.database.snapshot():  # as another process that reads
        store.database.connection().execute("PRAGMA busy_timeout = 10")
        with pytest.raises(StoreError, match="another process is reading"):
            memory.erase(secret)
    memory.erase(secret)
    assert traces(memory.workspace.settings.home) == []


def test_a_reader_of_a_cache_delays_the_end_and_is_named(
    memory: Memory, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = memory.workspace.settings.home
    monkeypatch.setattr("memlora_mlx.memory.traces.BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(home / "bench/cache/v1/entries.db")) as reader:  # as a benchmark that runs
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entries").fetchone()
        for _ in range(2):  # also when only the journal has the words
            with pytest.raises(StoreError, match=r"another process is reading .*entries\.db"):
                memory.erase(secret)
        assert FACT in what_stays(memory) or len(what_stays(memory)) == 2  # the store still knows what was meant
        reader.rollback()
        memory.erase(secret)
        assert traces(home) == [] and is_whole(memory)


def test_who_adds_lines_during_an_erasing_loses_none(memory: Memory, secret: str) -> None:
    examples = memory.workspace.settings.home / "teacher/update/gpt.jsonl"
    whole = memory.workspace.settings.home / "teacher/update/other.jsonl"
    with JsonLines(examples) as teacher, JsonLines(whole) as other:  # as `memlora teach` that runs
        other.append({"text": FACT})
        memory.erase(secret)
        teacher.append({"text": "an answer that was paid for"})
        other.append({"text": "another one"})
    assert [line.get("text") for line in read_json_lines(examples)] == [
        "Nothing of that",
        "an answer that was paid for",
    ]
    assert list(read_json_lines(whole)) == [{"text": "another one"}]
    assert traces(memory.workspace.settings.home) == []


def test_folders_on_another_disk_lose_the_words_too(memory: Memory, secret: str, tmp_path: Path) -> None:
    home, disk = memory.workspace.settings.home, tmp_path / "disk"
    disk.mkdir()
    for name in ("bench", "teacher"):
        (home / name).rename(disk / name)
        (home / name).symlink_to(disk / name)
    memory.erase(secret)
    assert traces(home) == [] and traces(disk) == [] and (home / "bench").is_symlink()
    assert (disk / "bench/runs/2026-01-02/results.json").is_file()
    done = erase(memory.workspace.store, home, Selection(everything=True))
    assert done.traces.left == {disk / "bench", disk / "teacher"}, "the user is told of what only the link was ours of"


def test_a_backup_that_gets_its_name_meanwhile_goes_too(
    memory: Memory, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, listed = memory.workspace.store.folder, backups.backup_files
    (folder / "backups/.saving-y").mkdir()
    shutil.copyfile(folder / "backups/2026-01-02.db", folder / "backups/.saving-y/2026-01-03.db")

    def list_and_rename(of: Path) -> list[Path]:  # another process ends its backup right after the files were listed
        found = listed(of)
        with contextlib.suppress(FileNotFoundError):
            (folder / "backups/.saving-y/2026-01-03.db").rename(folder / "backups/2026-01-03.db")
        return found

    monkeypatch.setattr(backups, "backup_files", list_and_rename)
    memory.erase(secret)
    assert traces(memory.workspace.settings.home) == []


def test_a_selection_is_one_thing(memory: Memory) -> None:
    for wrong in ({}, {"ids": ("a",), "containing": "word"}, {"containing": "ab"}, {"everything": False}):
        with pytest.raises(UsageError):
            memory.erase(**wrong)  # type: ignore[arg-type]


def test_the_index_of_another_process_forgets_too(memory: Memory, secret: str) -> None:
    """A graph only marks vectors as removed; the next process that has one builds it anew."""
    with Memory() as other:
        store = other.workspace.store
        store.indexes = OwnerIndexes(store.folder / "indexes", 0)
        other.search("therapist", user_id="ann")
        [vector] = other.workspace.engine.embed(["Ann sees Dr. Quibblefrotz on Tuesdays."])
        old = next(iter(store.indexes._owners.values())).vectors
        memory.erase(secret)
        other.search("cat", user_id="ann")
        assert next(iter(store.indexes._owners.values())).vectors is not old
        store.indexes.save()
    assert np.linalg.norm(vector) > 0 and traces(memory.workspace.settings.home) == []


def test_the_command_asks_first_and_tells_what_went(
    tiny_home: Path, run_memlora: Callable[..., tuple[int, str, str]]
) -> None:
    with Memory() as memory:
        memory.add(SECRET, user_id="ann", infer=False)
        memory.add(KEPT, user_id="ann", infer=False)
    code, out, err = run_memlora("memory", "erase", "--containing", "Quibblefrotz")
    assert code == 2 and "--yes" in err and "Quibblefrotz" in err and everywhere(tiny_home) == {"store"}
    code, out, err = run_memlora("memory", "erase", "--containing", "Quibblefrotz", "--dry-run")
    assert code == 0 and "To be erased: 1 memories" in out and everywhere(tiny_home) == {"store"}
    code, out, err = run_memlora("memory", "erase", "--containing", "Quibblefrotz", "--yes")
    assert code == 0 and "Erased: 1 memories, 1 messages" in out and traces(tiny_home, MARKS[:1]) == []
    assert json.loads(run_memlora("memory", "erase", "--all", "--yes", "--json")[1])["memories"] == 1
    assert run_memlora("memory", "erase", "--before", "2020-01-01")[1] == "There is nothing to erase.\n"
    assert run_memlora("memory", "erase", "nothing", "--yes")[0] == 1
