"""What people and machines get wrong: one line that says what and what to do, the right exit code, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_home import TALK, environment, exchanges_done, run_command, start_command, store_contents
from tiny_models import expert_folder, model

from memlora_mlx import Memory
from memlora_mlx.models.cards import ModelManifest
from memlora_mlx.models.folders import move_into_place

Command = Callable[..., tuple[int, str, str]]
CHAT = [{"role": "user", "content": "I moved to Rome."}, {"role": "assistant", "content": "Nice."}]


def check_line(result: tuple[int, str, str], code: int, *words: str) -> None:
    """One line on standard error that begins with the command's name, and nothing on standard output."""
    assert result[:2] == (code, ""), result
    assert result[2].startswith("memlora: ") and result[2].endswith("\n") and result[2].count("\n") == 1, result[2]
    for word in words:
        assert word in result[2], result[2]


@pytest.fixture
def stored(tiny_home: Path) -> dict[str, object]:
    """A store with something in it, and what that is."""
    with Memory() as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
    return dict(store_contents(tiny_home))


# Files


def locomo(**changes: object) -> str:
    turn = {"speaker": "Ann", "dia_id": "D1:1", "text": "Hi"}
    said = {
        "speaker_a": "Ann",
        "speaker_b": "Bob",
        "session_1": [turn],
        "session_1_date_time": "1:56 pm on 8 May, 2023",
    }
    return json.dumps([{"sample_id": "conv-1", "qa": [], "conversation": {**said, **changes}}])


FILES: dict[str, tuple[bytes, list[str]]] = {
    "not JSON": (b"{'role': 'user'}", ["is not valid JSON", "line 1"]),
    "no conversation": (b"just some words\nof nobody\n", ["neither JSON nor a transcript"]),
    "truncated": (json.dumps(CHAT).encode()[:-20], ["looks cut off", "get a complete copy"]),
    "empty": (b"", ["is empty"]),
    "blank": (b" \n\n", ["is empty"]),
    "wrong encoding": ("Ann: Grüße aus Köln".encode("latin-1"), ["UTF-8", "save it as UTF-8"]),
    "unknown speaker": (locomo(session_1=[{"speaker": "Zoe", "text": "Hi"}]).encode(), ["'Zoe'", "neither 'Ann' nor"]),
    "unknown role": (b'[{"role": "wizard", "content": "x"}]', ["unknown role 'wizard'"]),
    "bad date": (locomo(session_1_date_time="the day after").encode(), ["not a date", "write it as 2023-05-08"]),
    "a number": (b"[1, 2]", ["of no known form"]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_one_line_and_nothing_is_lost(
    stored: dict[str, object], tiny_home: Path, tmp_path: Path, run_memlora: Command, name: str
) -> None:
    content, words = FILES[name]
    (tmp_path / "bad.json").write_bytes(content)
    (tmp_path / "good.json").write_text(json.dumps(CHAT))
    check_line(
        run_memlora("ingest", tmp_path / "good.json", tmp_path / "bad.json"), 1, str(tmp_path / "bad.json"), *words
    )
    assert store_contents(tiny_home) == stored, "and of the good file nothing is half read"


@pytest.mark.parametrize(
    ("beginning", "says"),
    [
        (b"Ann: I live in Rome", "line 1 is longer than 32 MB"),
        (b'{"role": "user", "content": "a"}\n{"role": "user", "content": "', "line 2 is longer than 32 MB"),
        (b'{"role": "user", "content": "', "from byte 29 on it has no text but zeros; get a complete copy"),
        (b'[{"role": "user", "content": "', "from byte 30 on it has no text but zeros; get a complete copy"),
    ],
)
def test_a_line_of_200_megabytes_is_given_up_early(
    tiny_home: Path, tmp_path: Path, run_memlora: Command, beginning: bytes, says: str
) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.write(beginning)
        file.truncate(200 << 20)  # a hole: no disk is used
    check_line(run_memlora("ingest", tmp_path / "huge.json"), 1, says)


def test_files_that_are_not_there_or_no_files(tiny_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    check_line(run_memlora("ingest", tmp_path / "nowhere.json"), 2, "There is no file")
    check_line(run_memlora("ingest", tmp_path), 2, "is a folder")
    check_line(run_memlora("memory", "import", tmp_path / "nowhere"), 2, "There is no file")
    check_line(run_memlora("memory", "import", tmp_path), 2, "Cannot read")


def test_a_bad_import_or_export_loses_nothing(
    stored: dict[str, object], tiny_home: Path, tmp_path: Path, run_memlora: Command
) -> None:
    (tmp_path / "talk.txt").write_text(TALK)
    check_line(run_memlora("memory", "import", tmp_path / "talk.txt"), 1, "line 1 is not JSON; nothing was imported")
    assert run_memlora("memory", "export", tmp_path / "backup")[0] == 0
    lines = (tmp_path / "backup").read_text().splitlines()
    (tmp_path / "cut").write_text("\n".join([*lines[:-1], lines[-1][:-9]]))
    check_line(run_memlora("memory", "import", tmp_path / "cut"), 1, f"line {len(lines)}", "nothing was imported")
    check_line(run_memlora("memory", "export", tmp_path / "no" / "where"), 2, "Cannot write")
    (tmp_path / "folder").mkdir()
    check_line(run_memlora("memory", "export", tmp_path / "folder"), 2, "Cannot write")
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []
    assert store_contents(tiny_home) == stored


# Models and experts


def test_a_missing_model_says_what_to_type(isolated_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    (tmp_path / "talk.txt").write_text(TALK)
    pull = "`memlora models pull smollm2-135m all-minilm-l6-v2`"
    for command in (("ingest", tmp_path / "talk.txt"), ("ask", "Who?"), ("chat",), ("demo",)):
        check_line(run_memlora(*command), 1, "Not installed", pull)
    check_line(
        run_memlora("ask", "Who?", "--student", "qwen2.5-0.5"), 1, "no model is called 'qwen2.5-0.5'", "did you mean"
    )
    check_line(run_memlora("ask", "Who?", "--student", "org/tiny"), 1, "org/tiny", "`memlora models pull org/tiny`")
    check_line(run_memlora("ask", "Who?", "--student", "./nowhere"), 1, "there is no model folder ./nowhere")
    assert not (isolated_home / "store").exists()


def test_without_a_student_memories_can_be_looked_at_and_changed(
    stored: dict[str, object], run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMLORA_STUDENT")
    [memory] = json.loads(run_memlora("memory", "search", "tea", "--json")[1])
    assert run_memlora("memory", "edit", memory["id"], "Ann likes milk")[0] == 0
    assert run_memlora("memory", "undo")[0] == 0
    monkeypatch.setenv("MEMLORA_EMBEDDER", "all-minilm-l6-v2")
    assert "Ann likes tea" in run_memlora("memory", "list")[1]
    check_line(run_memlora("memory", "search", "tea"), 1, "`memlora models pull all-minilm-l6-v2`")


def test_a_half_downloaded_model_is_named(
    tiny_home: Path, tiny_student: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tiny_home / "models" / "qwen2.5-0.5b"
    staged = shutil.copytree(tiny_student, tiny_home / "staged")
    place.parent.mkdir(parents=True)
    manifest = ModelManifest(name="qwen2.5-0.5b", repository="org/tiny", revision="0")
    move_into_place(manifest, staged, place, hashes=False)
    monkeypatch.setenv("MEMLORA_STUDENT", "qwen2.5-0.5b")
    os.truncate(place / "model.safetensors", 1000)
    check_line(run_memlora("ask", "Who?"), 1, "qwen2.5-0.5b", "half-downloaded", "`memlora models pull qwen2.5-0.5b`")


def test_a_local_model_folder_that_is_cut_off_is_named(
    tiny_home: Path, tiny_student: Path, tmp_path: Path, run_memlora: Command
) -> None:
    broken = shutil.copytree(tiny_student, tmp_path / "broken")
    os.truncate(broken / "model.safetensors", 1000)
    check_line(run_memlora("ask", "Who?", "--student", broken), 1, "damaged or cut off")
    check_line(run_memlora("ask", "Who?", "--student", tmp_path), 1, "is no MLX model folder")


def test_experts_of_another_base_are_refused(
    stored: dict[str, object], tiny_home: Path, tmp_path: Path, run_memlora: Command
) -> None:
    base, _ = model()
    card = {"base": {"name": "qwen2.5-0.5b", "fingerprint": "0123456789abcdef"}}
    expert_folder(tmp_path / "other" / "generation", base, card=card)
    refused = run_memlora("ask", "Who?", "--experts", tmp_path / "other")
    check_line(refused, 1, "trained on qwen2.5-0.5b", "set experts to 'none'")

    from tiny_models import mx

    file = expert_folder(tmp_path / "wide" / "generation", base) / "adapters.safetensors"
    arrays = {name: mx.concatenate([array, array]) for name, array in mx.load(str(file)).items()}
    mx.save_safetensors(str(file), arrays)
    check_line(run_memlora("ask", "Who?", "--experts", tmp_path / "wide"), 1, "another base model")
    (tmp_path / "talk.txt").write_text(TALK)
    check_line(run_memlora("ingest", tmp_path / "talk.txt", "--experts", tmp_path / "wide"), 1, "another base model")
    assert store_contents(tiny_home)["memories"] == stored["memories"]

    check_line(run_memlora("ask", "Who?", "--experts", tmp_path), 1, "contains no experts")
    assert run_memlora("ask", "Who?", "--experts", "none")[0] == 0


# The store


def test_a_store_of_a_newer_version_is_left_alone(
    stored: dict[str, object], tiny_home: Path, run_memlora: Command
) -> None:
    with sqlite3.connect(tiny_home / "store" / "memories.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    for command in (("memory", "list"), ("ask", "Who?"), ("memory", "undo")):
        check_line(run_memlora(*command), 1, "newer memlora", "upgrade memlora")
    code, out, _ = run_memlora("doctor")
    assert code == 1 and "newer memlora" in out
    assert store_contents(tiny_home) == stored


def test_a_damaged_store_is_named_and_left_alone(tiny_home: Path, run_memlora: Command) -> None:
    (tiny_home / "store").mkdir(parents=True)
    damaged = b"not a database, but long enough to look like one" * 100
    (tiny_home / "store" / "memories.db").write_bytes(damaged)
    check_line(run_memlora("memory", "list"), 1, "is damaged")
    assert run_memlora("doctor", "--repair")[0] == 1
    assert (tiny_home / "store" / "memories.db").read_bytes() == damaged


def test_a_home_that_is_no_folder(tiny_home: Path, run_memlora: Command) -> None:
    tiny_home.write_text("")
    code, _, err = run_memlora("memory", "list")
    assert code == 1 and err.startswith("memlora: ") and err.count("\n") == 1


@pytest.fixture
def anybodys_folder() -> Iterator[Path]:
    """A folder whose parents any user can enter, unlike those of tmp_path."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
    shutil.rmtree(folder)


def test_a_read_only_store_can_be_asked_but_not_written(
    anybodys_folder: Path,
    tiny_student: Path,
    tiny_embedder: Path,
    run_memlora: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, folder in (("student", tiny_student), ("embedder", tiny_embedder)):
        shutil.copytree(folder, anybodys_folder / name)
        monkeypatch.setenv(f"MEMLORA_{name.upper()}", str(anybodys_folder / name))
    home = anybodys_folder / "home"
    monkeypatch.setenv("MEMLORA_HOME", str(home))
    (anybodys_folder / "chat.json").write_text(json.dumps(CHAT))
    with Memory() as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
    assert (
        run_memlora("ask", "What does Ann like?")[0] == 0
    )  # imports what it needs, while the installation can be read
    subprocess.run(["chmod", "-R", "a-w,a+rX", str(home)], check=True)
    is_root = os.geteuid() == 0
    if is_root:  # whom file permissions do not bind
        os.seteuid(65534)
    try:
        assert "Ann likes tea" in run_memlora("memory", "list")[1]
        assert run_memlora("ask", "What does Ann like?")[0] == 0
        check_line(run_memlora("ingest", anybodys_folder / "chat.json"), 1, "cannot be written; check the permissions")
        check_line(run_memlora("memory", "undo"), 1, "cannot be written")
        if not is_root:  # the doctor reads the installation too, which `nobody` may not be allowed
            code, out, _ = run_memlora("doctor")
            assert code == 0 and "The store is read-only" in out
    finally:
        if is_root:
            os.seteuid(0)


def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(
    tiny_home: Path, varied_student: Path, tiny_embedder: Path, tmp_path: Path
) -> None:
    """A limit on the size of files is refused by the system as a full disk is."""
    environ = environment(tiny_home, varied_student, tiny_embedder)
    (tmp_path / "talk.txt").write_text(TALK)
    assert run_command(environ, "ingest", tmp_path / "talk.txt", "--limit", 2)[0] == 0
    before = store_contents(tiny_home)
    room = (tiny_home / "store" / "memories.db").stat().st_size

    # The limit comes after the libraries, which the loader may copy into memory files.
    script = "import resource, sys, memlora_mlx.models; from memlora_mlx.cli import main\n"
    script += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
    script += "main(['ingest', sys.argv[1]])"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "talk.txt"], env=environ, capture_output=True, text=True, check=False
    )
    full = (done.returncode, done.stdout, done.stderr)
    check_line(full, 1, "no room to write", "free some disk space", "what was stored before is whole")
    after = store_contents(tiny_home)
    assert all(after[name][: len(rows)] == rows for name, rows in before.items() if name in ("exchanges", "messages"))
    assert run_command(environ, "doctor")[0] == 0
    left = exchanges_done(tiny_home)
    assert run_command(environ, "ingest", tmp_path / "talk.txt", "--limit", left + 2)[0] == 0
    assert exchanges_done(tiny_home) == left + 2


def test_one_process_writes_while_another_waits(
    stored: dict[str, object], tiny_home: Path, tiny_student: Path, tiny_embedder: Path, run_memlora: Command
) -> None:
    other = sqlite3.connect(tiny_home / "store" / "memories.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "Ann likes tea" in run_memlora("memory", "list")[1], "reading does not wait"
    with start_command(environment(tiny_home, tiny_student, tiny_embedder), "memory", "undo") as waiting:
        try:
            waiting.wait(1.5)
            raise AssertionError("it did not wait")
        except subprocess.TimeoutExpired:
            other.execute("ROLLBACK")
        out, err = waiting.communicate(timeout=30)
    other.close()
    assert (waiting.returncode, out, err) == (0, "deleted again: Ann likes tea\n", "")


# Settings and the command line


def test_settings_that_cannot_be(tiny_home: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_home.mkdir(parents=True)
    config = tiny_home / "config.toml"
    for text, words in (
        ("studnet = 'x'", ["unknown setting 'studnet'", "student"]),
        ("limit = 'many'", ["limit cannot be 'many'", "a whole number above 0"]),
        ("limit =", ["is not valid TOML"]),
        ("home = '/elsewhere'", ["--home or MEMLORA_HOME"]),
    ):
        config.write_text(text)
        check_line(run_memlora("memory", "list"), 2, str(config), *words)
    config.unlink()
    monkeypatch.setenv("MEMLORA_EXPERT_MODE", "fast")
    check_line(run_memlora("memory", "list"), 2, "the environment: expert_mode cannot be 'fast'", "swap or fused")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "--foo", "Who?"], ["No such option: --foo", "see `memlora ask --help`"]),
        (["ask"], ["Missing argument", "see `memlora ask --help`"]),
        (["aks", "Who?"], ["No such command 'aks'", "see `memlora --help`"]),
        (["ask", ""], ["The question is empty"]),
        (["ask", " \t"], ["The question is empty"]),
        (["ask", "Who?", "--limit", "0"], ["--limit", "see `memlora ask --help`"]),
        (["ask", "Who?", "-k", "0"], ["--top-k", "greater than or equal to 1", "see `memlora ask --help`"]),
        (["ask", "Who?", "--top-k", "-1"], ["--top-k", "greater than or equal to 1"]),
        (["memory", "search", "tea", "-k", "0"], ["--top-k", "greater than or equal to 1"]),
        (["chat", "-k", "0"], ["--top-k", "greater than or equal to 1"]),
        (["bench", "--mine", "-k", "0"], ["--top-k", "greater than or equal to 1"]),
        (["memory", "list", "--limit", "9" * 30], ["--limit"]),
        (["memory", "list", "--since", "someday"], ["cannot read the day 'someday'", "2023-05-08"]),
        (["memory", "search", ""], ["the query is empty"]),
        (["memory", "undo", "first"], ["memlora memory undo --help"]),
        (["ask", "Who?", "--expert-mode", "fast"], ["the command line: expert_mode cannot be 'fast'"]),
    ],
)
def test_a_wrong_command_line_is_one_line(
    stored: dict[str, object], run_memlora: Command, arguments: list[str], words: list[str]
) -> None:
    check_line(run_memlora(*arguments), 2, *words)


def test_help_and_version_go_to_standard_output(tiny_home: Path, run_memlora: Command) -> None:
    for arguments in (["--help"], ["ask", "--help"], ["--version"]):
        code, out, err = run_memlora(*arguments)
        assert (code, err) == (0, "") and "memlora" in out


def test_ctrl_c_while_it_starts_is_one_line(tiny_home: Path) -> None:
    script = "import _thread, memlora_mlx.cli as c, memlora_mlx.settings as s\n"
    script += "s.load_settings = lambda *_: _thread.interrupt_main() or [None for _ in iter(int, 1)]\n"
    script += "c.main(['memory', 'list'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "memlora: Stopped.\n")


def test_numbers_beyond_counting_and_a_folder_to_write_to_are_one_line(tiny_home: Path, run_memlora: Command) -> None:
    with Memory() as memory:
        memory.add("Ann likes tea", user_id="me", infer=False)
    for arguments, code, says in (
        (("memory", "undo", 99999999999999999999), 1, "no change has the number"),
        (("memory", "export", "."), 2, "Give the path of a file"),
    ):
        done = run_memlora(*arguments)
        assert done[0] == code and done[2].startswith("memlora: ") and says in done[2] and done[2].count("\n") == 1
    assert run_memlora("memory", "search", "caf\udce9")[0] == 0, "a shell's bytes that are no UTF-8"


def test_an_export_follows_no_link_and_a_line_without_end_is_refused(
    stored: dict[str, object], tmp_path: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export's temporary name cannot be guessed, is never opened where something is there, and nobody else may read it."""
    from memlora_mlx.memory.store import export_import

    folder, victim = tmp_path / "shared", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("mine")
    opened: list[tuple[str, int]] = []
    system_open = os.open

    def look(path: object, flags: int, mode: int = 0o777, **options: int) -> int:
        opened.append((str(path), flags))
        return system_open(path, flags, mode, **options)  # type: ignore[arg-type]

    (folder / "out.jsonl").symlink_to(victim)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", look)
        assert run_memlora("memory", "export", folder / "out.jsonl")[0] == 0
    assert victim.read_text() == "mine" and not (folder / "out.jsonl").is_symlink(), (
        "the link is replaced, not followed"
    )
    assert (folder / "out.jsonl").stat().st_mode & 0o077 == 0
    parts = [flags for path, flags in opened if path.endswith(".part")]
    assert parts and all(flags & os.O_EXCL and flags & os.O_NOFOLLOW for flags in parts)

    exported = (folder / "out.jsonl").read_text()
    memory = json.loads(exported.splitlines()[-1])
    (tmp_path / "long.jsonl").write_text(exported + "[" * 5000)
    with monkeypatch.context() as patched:
        patched.setattr(export_import, "MAX_LINE", 2000)
        check_line(run_memlora("memory", "import", tmp_path / "long.jsonl"), 2, "longer than 2,000 characters")
    for field, value in (("metadata", {"a": "b" * 2_000_000}), ("text", "x" * 2_000_000)):
        (tmp_path / "big.jsonl").write_text(exported + json.dumps({**memory, "id": "new", field: value}))
        check_line(run_memlora("memory", "import", tmp_path / "big.jsonl"), 1, f"{field} ", "nothing was imported")
