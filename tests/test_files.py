"""Files that appear whole or not at all, and the rule that the house writes them in one way."""

from __future__ import annotations

import os
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memlora_mlx.files import atomic_file, atomic_folder, atomic_paths, atomic_write, replace_file, replace_folder

ROOT = Path(__file__).parents[1]


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.one_of(st.binary(), st.text()), st.one_of(st.none(), st.binary()))
def test_a_file_holds_what_was_written(tmp_path: Path, content: bytes | str, before: bytes | None) -> None:
    path = tmp_path / "file.json"
    path.unlink(missing_ok=True)
    if before is not None:
        path.write_bytes(before)
    atomic_write(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [each.name for each in tmp_path.iterdir()] == ["file.json"]


def test_a_file_is_private_unless_it_is_to_be_shared(tmp_path: Path) -> None:
    atomic_write(tmp_path / "mine", "x")
    before = os.umask(0o022)
    try:
        atomic_write(tmp_path / "ours", "x", private=False)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("mine", "ours")] == [0o600, 0o644]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with small_disk(1000), pytest.raises(OSError):
        atomic_write(path, "x" * 2000)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_or_is_stopped_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), atomic_file(path) as file:
            file.write(b"half")
            raise error
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_errors_name_the_file_itself(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "file"
    with pytest.raises(FileNotFoundError) as raised:
        atomic_write(missing, "x")
    assert raised.value.filename == str(missing) and ".part" not in str(raised.value)
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as taken:
        atomic_write(tmp_path / "folder", "x")
    assert taken.value.filename == str(tmp_path / "folder") and ".part" not in str(taken.value)


def test_a_link_at_the_scratch_name_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memlora_mlx.files.secrets.token_hex", lambda _: "guessed")
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / ".guessed.part").symlink_to(victim)
    with pytest.raises(FileExistsError):
        atomic_write(tmp_path / "file", "x")
    assert victim.read_text() == "untouched" and not (tmp_path / "file").exists()
    assert (tmp_path / ".guessed.part").is_symlink(), "what somebody else put there is not removed"


def test_a_link_at_the_name_itself_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "file").symlink_to(victim)
    atomic_write(tmp_path / "file", "new")
    assert victim.read_text() == "untouched" and not (tmp_path / "file").is_symlink()


def test_many_writers_of_one_file_leave_one_of_their_contents(tmp_path: Path) -> None:
    contents = [str(number) * 50_000 for number in range(6)]
    threads = [threading.Thread(target=atomic_write, args=(tmp_path / "file", each)) for each in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_text() in contents and len(list(tmp_path.iterdir())) == 1


def test_files_of_a_library_are_moved_together(tmp_path: Path) -> None:
    weights, described = tmp_path / "weights.safetensors", tmp_path / "config.json"
    weights.write_text("before")
    with pytest.raises(ValueError), atomic_paths(weights, described) as (scratch, _):
        scratch.write_text("half")
        raise ValueError
    assert weights.read_text() == "before" and list(tmp_path.iterdir()) == [weights]
    with pytest.raises(FileNotFoundError), atomic_paths(weights, described) as (scratch, _):
        scratch.write_text("the library wrote only one of two")
    assert weights.read_text() == "before" and list(tmp_path.iterdir()) == [weights]
    with atomic_paths(weights, described) as scratches:
        assert [path.suffix for path in scratches] == [".safetensors", ".json"]
        for path in scratches:
            path.write_text("after")
    assert {path: path.read_text() for path in tmp_path.iterdir()} == {weights: "after", described: "after"}


def test_a_finished_file_gets_its_name(tmp_path: Path) -> None:
    (tmp_path / "wheel.part").write_text("whole")
    replace_file(tmp_path / "wheel.part", tmp_path / "a.whl")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.whl": "whole"}


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_is_replaced_whole(tmp_path: Path, is_there: bool) -> None:
    place = tmp_path / "deeper" / "model"
    if is_there:
        place.mkdir(parents=True)
        (place / "old").write_text("old")
    with pytest.raises(ValueError), atomic_folder(place) as made:
        (made / "new").write_text("half")
        raise ValueError
    assert place.exists() == is_there and not list(tmp_path.glob("deeper/.*"))
    with atomic_folder(place) as made:
        (made / "new").write_text("new")
    assert [path.name for path in place.iterdir()] == ["new"] and not list(tmp_path.glob("deeper/.*"))


def test_a_folder_that_cannot_be_replaced_is_there_again(tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    (place / "old").write_text("old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "no such folder", place)
    assert (place / "old").read_text() == "old" and list(tmp_path.iterdir()) == [place]


# What only the named files of the house may do themselves, and what all others do instead.
ONE_DEFINITION = {
    "moving a file or folder over another": (
        re.compile(
            r"\bos\.(replace|rename)\(|\bos\.fsync\(|\bmkstemp\(|\.(part|partial)\"|(partial|scratch|temporary)\.(replace|rename)\("
        ),
        {
            "memlora_mlx/files.py",
            "memlora_mlx/json_lines.py",
            "memlora_mlx/models/wheels.py",
            "memlora_mlx/memory/store/images.py",
        },
    ),
    "direction controls": (
        re.compile(r"\\u202[a-e]|\\u206[6-9]|[\u202a-\u202e\u2066-\u2069]"),
        {"memlora_mlx/text.py"},
    ),
    "control characters": (
        re.compile(r"\\x1f|\\x9f"),
        {"memlora_mlx/text.py", "memlora_mlx/memory/stages/grammars.py"},  # a grammar's own escapes are not cleaning
    ),
    "surrogates": (re.compile(r"surrogatepass|\\ud800"), {"memlora_mlx/text.py"}),
    "lines that are appended": (
        re.compile(r"\.open\(\"ab\"|json\.dumps\(.*\+ \"\\n\"\)\.encode"),
        {"memlora_mlx/json_lines.py"},
    ),
    "durations": (re.compile(r"def format_(duration|bytes)|divmod\(round\("), {"memlora_mlx/text.py"}),
}


@pytest.mark.parametrize("what", ONE_DEFINITION)
def test_the_house_has_one_definition_of(what: str) -> None:
    pattern, allowed = ONE_DEFINITION[what]
    sources = [
        path for folder in ("memlora_mlx", "tui", "eval", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 100
    found = {str(path.relative_to(ROOT)) for path in sources if pattern.search(path.read_text(encoding="utf-8"))}
    assert found <= allowed, f"{what}: use memlora_mlx.text, memlora_mlx.files or memlora_mlx.json_lines"
    assert found, "the pattern still finds the definition"
