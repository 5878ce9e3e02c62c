"""What commands write is for its user alone, from the first file on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_home import TALK

from memlora_mlx import Memory
from memlora_mlx.private_files import find_open_paths

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def generous_umask() -> object:
    before = os.umask(0o000)  # everybody may do everything, unless somebody takes care
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}


def test_every_file_of_a_new_home_is_private(tiny_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    (tmp_path / "talk.txt").write_text(TALK)
    out = tmp_path / "out"
    out.mkdir(mode=0o777)
    assert run_memlora("ingest", tmp_path / "talk.txt")[0] == 0
    assert run_memlora("memory", "search", "Rome")[0] == 0
    assert run_memlora("memory", "export", out / "all.jsonl")[0] == 0
    assert run_memlora("teach", "--stage", "update", "--teacher", "synthetic", "--lives", "2")[0] == 0
    found = modes(tiny_home)
    assert len(found) > 5 and {name for name, mode in found.items() if mode & 0o077} == set()
    assert found["."] == 0o700 and found["store/memories.db"] == 0o600
    assert modes(out)["all.jsonl"] == 0o600
    assert os.umask(0o000) == 0o000, "a command gives the process its own umask back"


def test_the_library_makes_a_private_store_without_touching_the_umask(tiny_home: Path) -> None:
    with Memory() as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
        database = tiny_home / "store" / "memories.db"
        files = [path for path in database.parent.iterdir() if path.is_file()]
        assert len(files) >= 2 and all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert os.umask(0o000) == 0o000


def test_doctor_shows_and_repairs_modes(tiny_home: Path, run_memlora: Command) -> None:
    with Memory() as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
    (tiny_home / "teacher").mkdir(mode=0o755)
    (tiny_home / "teacher" / "x.jsonl").write_text("{}")
    (tiny_home / "models" / "m").mkdir(parents=True)
    (tiny_home / "link").symlink_to("/etc")
    code, out, _ = run_memlora("doctor")
    assert code == 1 and "Other users of this machine may read" in out
    code, out, _ = run_memlora("doctor", "--repair")
    assert code == 0 and "Only you can read" in out and find_open_paths(tiny_home) == []
    assert (tiny_home / "models").stat().st_mode & 0o077, "models are no secret"
    assert (tiny_home / "teacher").stat().st_mode & 0o777 == 0o700
