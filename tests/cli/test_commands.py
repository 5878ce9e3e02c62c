"""What a person types and sees: results on standard output, notes on standard error, JSON where it is asked for."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cli_home import TALK, environment, run_command, start_command, store_contents

from memlora_mlx import Memory
from memlora_mlx.memory.store.database import Database

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ids(tiny_home: Path) -> list[str]:
    """A store of four memories, of two people and on four days."""
    with Memory() as memory:
        kept = []
        for user, text, said_at in (
            ("Ann_1", "Ann moved to Rome", "2023-05-08"),
            ("Ann_1", "Ann likes tea", "2023-05-20"),
            ("Bob_1", "Bob bought a red bicycle", "2023-06-01"),
            ("Bob_1", "Bob likes apples", "2023-07-01"),
        ):
            kept += memory.add(text, user_id=user, timestamp=said_at, infer=False)["results"]
    return [item["id"] for item in kept]


def lines_of(out: str) -> list[list[str]]:
    return [line.split(maxsplit=5) for line in out.splitlines()]


# ingest


def test_ingest_reads_a_file_and_says_what_it_did(tiny_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    (tmp_path / "talk.txt").write_text(TALK)
    code, out, err = run_memlora("ingest", tmp_path / "talk.txt", "--limit", 3)
    assert (code, err) == (0, "")
    assert out.startswith("3 exchanges read in ") and "memories added" in out
    code, out, _ = run_memlora("ingest", tmp_path / "talk.txt", "--limit", 4, "--json")
    counted = json.loads(out)
    assert (code, counted["total"], counted["before"], counted["done"]) == (0, 4, 3, 1)
    assert counted["tokens"]["extraction in"] > 0 and counted["seconds"] > 0


def test_ingest_reads_standard_input_for_the_user_named(
    tiny_home: Path, tiny_student: Path, tiny_embedder: Path
) -> None:
    chat = json.dumps([{"role": "user", "content": "I moved to Rome."}, {"role": "assistant", "content": "Nice."}])
    code, out, err = run_command(
        environment(tiny_home, tiny_student, tiny_embedder), "ingest", "-", "--user", "zoe", said=chat
    )
    assert (code, err) == (0, "") and "1 exchanges read" in out
    assert [owner for _, owner, *_ in store_contents(tiny_home)["exchanges"]] == ["zoe"]


def test_ingest_of_one_conversation_among_several(tiny_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    chats = [{"id": name, "messages": [{"role": "user", "content": f"I like {name}."}]} for name in ("tea", "milk")]
    (tmp_path / "chats.json").write_text(json.dumps(chats))
    assert run_memlora("ingest", tmp_path / "chats.json", "--conversation", "milk")[0] == 0
    assert [row[2] for row in store_contents(tiny_home)["exchanges"]] == ["milk"]
    code, _, err = run_memlora("ingest", tmp_path / "chats.json", "--conversation", "beer")
    assert code == 2 and err == "memlora: There is no conversation 'beer'. Choose one of: milk, tea.\n"


def test_a_cut_prompt_is_shown(
    tiny_home: Path, tmp_path: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMLORA_MAX_CONTEXT", "800")
    monkeypatch.setenv("MEMLORA_PROTOCOL", "paper")
    (tmp_path / "long.txt").write_text("Ann: " + "apples " * 2000 + "\nBob: Oh.\n")
    code, out, _ = run_memlora("ingest", tmp_path / "long.txt")
    assert code == 0 and "prompts truncated to fit" in out


def test_what_is_dropped_is_told_at_the_end(tiny_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    """The blind student invents words that nobody said."""
    (tmp_path / "talk.txt").write_text(TALK)
    code, out, _ = run_memlora("ingest", tmp_path / "talk.txt", "--json")
    found = json.loads(out)
    assert code == 0 and found["dropped"]["not said"] > 0 and found["turned_to_add"] == {}
    (tmp_path / "talk.txt").write_text(TALK.replace("Rome", "Paris"))
    code, out, _ = run_memlora("ingest", tmp_path / "talk.txt")
    assert code == 0 and re.search(r"[1-9][0-9]* facts dropped: .*[1-9][0-9]* not said", out)


# ask


def test_ask_streams_an_answer_and_names_the_memories_with_their_days(ids: list[str], run_memlora: Command) -> None:
    code, out, err = run_memlora("ask", "Who moved where?", "-k", 2)
    assert (code, err) == (0, "")
    answer, _, memories = out.rpartition("\n\nFrom 2 memories:\n")
    assert answer
    for line in memories.splitlines():
        assert any(line.split()[0] == memory_id[:8] for memory_id in ids) and "2023" in line


def test_ask_as_json_holds_what_a_program_needs(ids: list[str], run_memlora: Command) -> None:
    code, out, err = run_memlora("ask", "who likes tea", "--json", "--free")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["question"] == "who likes tea" and isinstance(found["answer"], str)
    assert len(found["memories"]) == 4, "without --user everybody is asked"
    nearest = found["memories"][0]
    assert (nearest["memory"], nearest["said_at"], nearest["user_id"]) == (
        "Ann likes tea",
        "2023-05-20T00:00:00",
        "Ann_1",
    )
    scores = [memory["score"] for memory in found["memories"]]
    assert scores == sorted(scores, reverse=True) and nearest["score"] > 0.8
    assert nearest["kind"] == "memory" and nearest["message"]["text"] == "Ann likes tea"
    assert found["tokens"]["in"] > 0 and found["memories_cut"] == 0


def test_ask_gives_each_user_named_the_limit(ids: list[str], run_memlora: Command) -> None:
    def owners(*options: object) -> list[str]:
        return sorted(m["user_id"] for m in json.loads(run_memlora("ask", "likes?", "--json", *options)[1])["memories"])

    assert owners("--user", "Ann_1", "--user", "Bob_1", "--top-k", 1) == ["Ann_1", "Bob_1"]
    assert owners("--user", "Bob_1") == ["Bob_1", "Bob_1"]
    assert len(owners("--top-k", 3)) == 3


def test_limit_is_the_old_name_of_top_k_and_says_so(ids: list[str], run_memlora: Command) -> None:
    note = "memlora: --limit is deprecated here. Use -k or --top-k.\n"
    for command in (("ask", "likes?"), ("memory", "search", "likes?")):
        new, old = run_memlora(*command, "--json", "--top-k", 3), run_memlora(*command, "--json", "--limit", 3)
        found, before = (json.loads(done[1]) for done in (new, old))
        memories = [one["memories"] if isinstance(one, dict) else one for one in (found, before)]
        assert len(memories[0]) == 3 and memories[0] == memories[1]
        assert (new[0], new[2]) == (0, "") and (old[0], old[2]) == (0, note)
        assert run_memlora(*command, "--help")[1].count("--limit") == 0


def test_ask_without_anything_remembered(tiny_home: Path, run_memlora: Command) -> None:
    code, out, err = run_memlora("ask", "Where does Ann live?")
    assert (code, out) == (1, "")
    assert err.startswith("memlora: nothing is remembered yet in ") and "`memlora ingest FILE`" in err
    with Memory() as memory:
        memory.delete(memory.add("x", user_id="ann", infer=False)["results"][0]["id"])
    code, out, _ = run_memlora("ask", "Where does Ann live?")
    assert code == 0 and out.startswith("Not mentioned\n") and out.endswith("No memories were found.\n")
    code, out, _ = run_memlora("ask", "Where does Ann live?", "--json")
    found = json.loads(out)
    assert (code, found["answer"], found["memories"]) == (0, "Not mentioned", [])
    assert found["tokens"] == {"in": 0, "out": 0}, "the student is not asked"


def test_ask_about_an_image_needs_a_student_that_sees(ids: list[str], run_memlora: Command) -> None:
    code, out, err = run_memlora("ask", "What is on it?", "--image", "photo.jpg")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1 and "reads text only" in err


# memory


def test_list_shows_the_newest_first_and_what_is_left_out(ids: list[str], run_memlora: Command) -> None:
    code, out, err = run_memlora("memory", "list", "--limit", 3)
    assert code == 0 and err == "3 of 4 memories; --limit shows more\n"
    assert lines_of(out)[0] == [ids[3][:8], "1", "July", "2023", "Bob", "Bob likes apples"]
    assert [row[0] for row in lines_of(out)] == [memory_id[:8] for memory_id in ids[:0:-1]]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--user", "Ann_1"], [1, 0]),
        (["--since", "2023-05-20", "--until", "2023-07-01"], [2, 1]),
        (["--since", "1 June 2023"], [3, 2]),
        (["--source", "api"], [3, 2, 1, 0]),
        (["--source", "elsewhere"], []),
    ],
)
def test_list_of_a_part(ids: list[str], run_memlora: Command, options: list[str], kept: list[int]) -> None:
    code, out, _ = run_memlora("memory", "list", "--json", *options)
    assert code == 0 and [memory["id"] for memory in json.loads(out)] == [ids[number] for number in kept]


def test_search_finds_the_nearest(ids: list[str], run_memlora: Command) -> None:
    code, out, err = run_memlora("memory", "search", "ann likes tea", "-k", 2)
    first, _ = out.splitlines()
    assert (code, err) == (0, "") and first.split()[:2] == ["1.00", ids[1][:8]]
    found = json.loads(run_memlora("memory", "search", "ann likes tea", "--json", "--user", "Bob_1")[1])
    assert [memory["user_id"] for memory in found] == ["Bob_1", "Bob_1"]
    assert found[0]["score"] >= found[1]["score"]


def test_show_tells_a_memorys_whole_story(ids: list[str], run_memlora: Command) -> None:
    code, out, _ = run_memlora("memory", "show", ids[0][:8])
    assert code == 0 and out.startswith("Ann moved to Rome\n")
    for words in (ids[0], "Ann_1", "8 May 2023", "api", "user: Ann moved to Rome"):
        assert words in out
    shown = json.loads(run_memlora("memory", "show", ids[0], "--json")[1])
    assert shown["exchange"] == [{"role": "user", "speaker": None, "text": "Ann moved to Rome", "ref": None}]


def test_show_knows_messages_by_the_ids_that_programs_are_told(ids: list[str], run_memlora: Command) -> None:
    found = json.loads(run_memlora("memory", "search", "Rome", "--json")[1])[0]["message"]
    message = f"{found['exchange']}:{found['position']}"
    code, out, _ = run_memlora("memory", "show", message)
    assert code == 0 and out.startswith("Ann moved to Rome\n") and "user: Ann moved to Rome" in out and message in out
    assert json.loads(run_memlora("memory", "show", message, "--json")[1])["kind"] == "message"
    for wrong in ("none:0", f"{message}9", ":", "x:y"):
        code, _, err = run_memlora("memory", "show", wrong)
        assert code == 1 and "no message has the id" in err


def test_a_memory_says_when_it_happened(ids: list[str], run_memlora: Command) -> None:
    """The day is counted from the day the words were said, and JSON has it as a span."""
    assert run_memlora("memory", "edit", ids[0], "Ann ran a race yesterday")[0] == 0
    memory = json.loads(run_memlora("memory", "show", ids[0], "--json")[1])
    day = {"words": "yesterday", "from": "2023-05-07", "to": "2023-05-07", "granularity": "day"}
    assert memory["happens_at"] == [day]
    assert "7 May 2023 (yesterday)" in run_memlora("memory", "show", ids[0])[1]


def test_edit_history_and_undo(ids: list[str], run_memlora: Command) -> None:
    code, out, _ = run_memlora("memory", "edit", ids[1][:8], "Ann likes mint tea")
    assert code == 0 and "Ann likes mint tea" in out
    lines = json.loads(run_memlora("memory", "history", ids[1], "--json")[1])
    assert [(line["event"], line["old_memory"], line["actor_id"]) for line in lines] == [
        ("ADD", None, "user"),
        ("UPDATE", "Ann likes tea", "user"),
    ]
    assert run_memlora("memory", "undo") == (0, "changed back to: Ann likes tea\n", "")
    assert "(undone)" in run_memlora("memory", "history", ids[1])[1]

    assert "deleted" in run_memlora("memory", "delete", ids[0][:8], ids[2][:8])[1]
    assert len(json.loads(run_memlora("memory", "list", "--json")[1])) == 2
    assert run_memlora("memory", "history", ids[0][:8])[0] == 0, "also of a memory that is gone"
    assert run_memlora("memory", "undo")[1] == "restored: Bob bought a red bicycle\n"
    code, _, err = run_memlora("memory", "show", ids[0])
    assert code == 1 and "was deleted; `memlora memory undo` can bring it back" in err
    assert run_memlora("memory", "redo", "--user", "Bob_1")[1] == "deleted again: Bob bought a red bicycle\n"
    assert run_memlora("memory", "show", ids[2])[0] == 1
    code, _, err = run_memlora("memory", "undo", 999)
    assert (code, err) == (1, "memlora: no change has the number 999\n")


def test_edit_in_the_users_editor(
    ids: list[str], run_memlora: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor.py"
    editor.write_text("import pathlib, sys\nfile = pathlib.Path(sys.argv[1])\n"
                      "file.write_text(file.read_text().replace('tea', 'black tea'))\n")  # fmt: skip
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {editor}")
    code, out, _ = run_memlora("memory", "edit", ids[1])
    assert code == 0 and "Ann likes black tea" in out
    code, _, err = run_memlora("memory", "edit", ids[0])
    assert code == 2 and "Nothing was changed" in err
    monkeypatch.setenv("EDITOR", "no-such-editor")
    code, _, err = run_memlora("memory", "edit", ids[0])
    assert code == 2 and err.startswith("memlora: The editor 'no-such-editor' failed") and err.count("\n") == 1


def test_an_id_may_be_shortened_while_it_is_clear(ids: list[str], run_memlora: Command, tiny_home: Path) -> None:
    database = Database(tiny_home / "store" / "memories.db")
    with database.write() as connection:
        connection.execute("UPDATE memories SET public_id = 'abc1' WHERE public_id = ?", [ids[0]])
        connection.execute("UPDATE memories SET public_id = 'abc2' WHERE public_id = ?", [ids[1]])
    database.close()
    assert run_memlora("memory", "show", "abc1")[0] == 0
    code, _, err = run_memlora("memory", "show", "abc")
    assert code == 1 and err == "memlora: several memory ids start with 'abc'; type more characters of the id\n"
    code, _, err = run_memlora("memory", "show", "zzz")
    assert code == 1 and err == "memlora: no memory has the id 'zzz'; `memlora memory list` shows them\n"
    assert run_memlora("memory", "delete", "abc1", "zzz")[0] == 1
    assert run_memlora("memory", "show", "abc1")[0] == 0, "one wrong id, and nothing is deleted"


def test_export_and_import_move_the_memories(ids: list[str], run_memlora: Command, tmp_path: Path) -> None:
    file = tmp_path / "backup.jsonl"
    assert run_memlora("memory", "export", file) == (0, "", f"4 memories in {file}\n")
    assert run_memlora("memory", "export")[1] == file.read_text()
    before = json.loads(run_memlora("memory", "list", "--json")[1])
    assert run_memlora("memory", "import", file)[1] == "0 memories added, 4 were already stored\n"
    assert run_memlora("--home", tmp_path / "other", "memory", "import", file)[1].startswith("4 memories added")
    moved = json.loads(run_memlora("--home", tmp_path / "other", "memory", "list", "--json")[1])
    assert moved == before


def test_a_reader_that_leaves_is_no_error(
    ids: list[str], tiny_home: Path, tiny_student: Path, tiny_embedder: Path
) -> None:
    with Memory() as memory:
        memory.add([{"role": "user", "content": "x " * 120} for _ in range(300)], user_id="ann", infer=False)
    listing = subprocess.Popen(
        [sys.executable, "-m", "memlora_mlx", "memory", "list", "--limit", "1000"],
        env=environment(tiny_home, tiny_student, tiny_embedder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert listing.stdout is not None and listing.stderr is not None
    listing.stdout.read(10)
    listing.stdout.close()
    assert listing.stderr.read() == b""
    listing.wait(30)
    listing.stderr.close()


# doctor


def findings(run_memlora: Command, *options: str) -> tuple[int, dict[str, str]]:
    code, out, err = run_memlora("doctor", "--json", *options)
    assert err == ""
    found: list[dict[str, Any]] = json.loads(out)
    says: dict[str, str] = {}
    for line in found:
        says[line["what"]] = says.get(line["what"], "") + f"{line['state']}: {line['says']}\n"
    return code, says


def test_the_doctor_finds_all_well(ids: list[str], run_memlora: Command) -> None:
    code, found = findings(run_memlora)
    assert code == 0 and not any(says.startswith("problem") for says in found.values())
    assert found["store"].startswith("ok: 4 memories of 2 owners")
    assert "the base model is used for them" in found["experts"]
    if sys.platform == "linux":
        assert re.match(r"ok: OpenBLAS \d[.\d]*, kernels for \w+, \d+ threads?$", found["blas"].strip())
    code, out, _ = run_memlora("doctor")
    assert code == 0 and "PROBLEM" not in out and out.count("\n") >= len(found)


def test_the_doctor_before_anything_is_remembered(tiny_home: Path, run_memlora: Command) -> None:
    code, found = findings(run_memlora)
    assert code == 0 and found["store"].startswith("note: No memories yet in ")


def test_the_doctor_mends_embeddings(ids: list[str], run_memlora: Command, tiny_home: Path) -> None:
    with sqlite3.connect(tiny_home / "store" / "memories.db") as connection:
        connection.execute("DELETE FROM embeddings WHERE memory = 2")
    connection.close()
    code, found = findings(run_memlora)
    assert code == 1 and "1 memories have no sound embedding" in found["store"] and "doctor --repair" in found["store"]
    assert findings(run_memlora, "--repair")[0] == 0
    assert findings(run_memlora)[0] == 0
    assert run_memlora("memory", "search", "ann likes tea")[1].splitlines()[0].split()[1] == ids[1][:8]


def test_the_doctor_moves_a_store_to_another_embedder(
    ids: list[str], run_memlora: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_models import embedder_folder

    monkeypatch.setenv("MEMLORA_EMBEDDER", str(embedder_folder(tmp_path / "other", seed=9)))
    code, _, err = run_memlora("memory", "search", "tea")
    assert code == 1 and "use that embedder, or embed it again with `memlora doctor --repair`" in err
    assert findings(run_memlora)[0] == 1
    assert findings(run_memlora, "--repair")[0] == 0
    assert run_memlora("memory", "search", "ann likes tea")[1].splitlines()[0].split()[:2] == ["1.00", ids[1][:8]]


def test_the_doctor_says_what_to_pull(ids: list[str], run_memlora: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLORA_STUDENT", "qwen2.5-0.5b")
    code, found = findings(run_memlora)
    assert code == 1 and "`memlora models pull qwen2.5-0.5b`" in found["student"]
    assert found["store"].startswith("ok: 4 memories")
    monkeypatch.setenv("MEMLORA_EMBEDDER", "all-minilm-l6-v2")
    code, found = findings(run_memlora)
    assert code == 1 and "`memlora models pull all-minilm-l6-v2`" in found["embedder"]


def test_what_has_expired_is_no_illness(ids: list[str], run_memlora: Command) -> None:
    with Memory() as memory:
        memory.add("Ann is away", user_id="ann", infer=False, expiration_date=datetime(2020, 1, 1))
    assert findings(run_memlora)[0] == 0


# demo


def test_the_demo_runs_through_and_leaves_the_users_store_alone(
    ids: list[str], tiny_home: Path, varied_student: Path, tiny_embedder: Path
) -> None:
    from memlora_mlx.cli.demo import QUESTIONS

    before = store_contents(tiny_home)
    code, out, err = run_command(environment(tiny_home, varied_student, tiny_embedder), "demo")
    assert code == 0, err
    for words in ("3 March 2024", "20 May 2024", "exchanges read in", *QUESTIONS):
        assert words in out
    assert "memlora ingest" in err and "Traceback" not in err
    assert store_contents(tiny_home) == before


def test_a_reader_that_leaves_in_the_middle_of_an_answer_is_no_error(
    ids: list[str], tiny_home: Path, tiny_student: Path, tiny_embedder: Path
) -> None:
    with start_command(environment(tiny_home, tiny_student, tiny_embedder), "ask", "Where did Ann move?") as asking:
        assert asking.stdout is not None and asking.stderr is not None
        asking.stdout.close()
        assert asking.wait(60) in (0, 1)
        assert asking.stderr.read() == ""
