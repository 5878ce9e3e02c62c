"""`memlora models` prints results on stdout and notes on stderr; what fails is left to `main`."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from memlora_mlx.cli.models import app
from memlora_mlx.errors import ModelMissing
from memlora_mlx.models import downloads
from memlora_mlx.models.cards import ModelManifest
from memlora_mlx.models.folders import move_into_place
from memlora_mlx.settings import load_settings

run = CliRunner().invoke


@pytest.fixture
def qwen(isolated_home: Path, tiny_student: Path) -> Path:
    """A tiny model, in place as if `qwen2.5-0.5b` had been pulled."""
    place = isolated_home / "models" / "qwen2.5-0.5b"
    staged = shutil.copytree(tiny_student, isolated_home / "staged")
    place.parent.mkdir(parents=True)
    manifest = ModelManifest(name="qwen2.5-0.5b", repository="org/tiny", revision="0")
    move_into_place(manifest, staged, place, hashes=False)
    return place


def test_list_shows_what_there_is_and_what_is_here(qwen: Path) -> None:
    rows = {row["name"]: row for row in json.loads(run(app, ["list", "--json"]).stdout)}
    assert rows["qwen2.5-0.5b"]["state"] == "here"
    assert rows["qwen2.5-0.5b"]["is_default"]
    assert rows["qwen2.5-0.5b"]["path"] == str(qwen)
    assert rows["smollm2-135m"]["state"] == "missing"
    assert rows["gemma2-2b"]["licence"] == "Gemma Terms of Use"


def test_list_prints_a_table(qwen: Path) -> None:
    table = run(app, ["list"], env={"COLUMNS": "80"}).stdout
    [line] = [line for line in table.splitlines() if line.startswith("qwen2.5-0.5b ")]
    assert "default" in line
    assert len(line) <= 80, "the table fits a terminal of 80 columns"


def test_list_shows_the_test_bench_only_when_asked_for_or_pulled(qwen: Path) -> None:
    def names(*options: str) -> set[str]:
        return {row["name"] for row in json.loads(run(app, ["list", "--json", *options]).stdout)}

    assert "drawings" not in names()
    assert "drawings" in names("--all")
    assert run(app, ["pull", "drawings"]).exit_code == 0
    assert "drawings" in names()


def test_list_marks_half_a_model(qwen: Path) -> None:
    (qwen / "config.json").unlink()
    rows = {row["name"]: row for row in json.loads(run(app, ["list", "--json"]).stdout)}
    assert rows["qwen2.5-0.5b"]["state"] == "broken"


def test_path_prints_the_folder_only(qwen: Path) -> None:
    assert run(app, ["path", "qwen2.5-0.5b"]).stdout == f"{qwen}\n"


def test_pull_prints_the_path_of_each(qwen: Path) -> None:
    result = run(app, ["pull", "qwen2.5-0.5b", "qwen2.5-0.5b"])
    assert result.exit_code == 0
    assert result.stdout == f"{qwen}\n{qwen}\n"


def test_a_student_that_is_pulled_later_does_not_take_over_and_use_chooses_it(
    qwen: Path, tiny_student: Path, isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue has the later one first."""

    def default() -> list[str]:
        rows = json.loads(run(app, ["list", "--json"]).stdout)
        return [row["name"] for row in rows if row["is_default"]]

    def pull(name: str, models: Path, **_: object) -> Path:
        staged = shutil.copytree(tiny_student, isolated_home / "staged-later")
        move_into_place(ModelManifest(name=name, repository="org/later"), staged, models / name, hashes=False)
        return models / name

    os.utime(qwen / "memlora.json", (1_000_000_000, 1_000_000_000))
    monkeypatch.setattr(downloads, "pull", pull)
    pulled = run(app, ["pull", "qwen2.5-3b"])
    assert default() == ["qwen2.5-0.5b"]
    assert "qwen2.5-0.5b answers, with no experts" in pulled.stderr
    assert "`memlora models use NAME` chooses another" in pulled.stderr
    (isolated_home / "config.toml").write_text("limit = 7\n")
    used = run(app, ["use", "qwen2.5-3b"])
    assert used.exit_code == 0 and "qwen2.5-3b answers" in used.stderr
    assert default() == ["qwen2.5-3b"] and load_settings().limit == 7
    monkeypatch.setenv("MEMLORA_STUDENT", "qwen2.5-0.5b")
    assert "MEMLORA_STUDENT names another student" in run(app, ["use", "qwen2.5-3b"]).stderr


def test_use_takes_students_on_this_disk(qwen: Path, tiny_embedder: Path, isolated_home: Path) -> None:
    shutil.copytree(tiny_embedder, isolated_home / "models" / "all-minilm-l6-v2")
    manifest = ModelManifest(name="all-minilm-l6-v2", repository="org/tiny", revision="0")
    manifest.write(isolated_home / "models" / "all-minilm-l6-v2")
    assert "is an embedder" in str(run(app, ["use", "all-minilm-l6-v2"]).exception)
    assert "is not on this disk" in str(run(app, ["use", "qwen2.5-3b"]).exception)
    assert not (isolated_home / "config.toml").exists()


def test_remove_says_so_on_stderr(qwen: Path) -> None:
    result = run(app, ["remove", "qwen2.5-0.5b"])
    assert (result.stdout, result.stderr) == ("", "qwen2.5-0.5b removed\n")
    assert not qwen.exists()


@pytest.mark.parametrize("command", ["pull", "path", "remove"])
def test_an_unknown_name_is_left_to_main(command: str) -> None:
    result = run(app, [command, "qwen2.5-1.5"])
    assert isinstance(result.exception, ModelMissing)
    assert "did you mean qwen2.5-1.5b" in str(result.exception)
