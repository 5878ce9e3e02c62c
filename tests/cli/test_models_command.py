"""`memlora models` prints results on stdout and notes on stderr; what fails is left to `main`."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from memlora_mlx.cli.models import app
from memlora_mlx.errors import ModelMissing
from memlora_mlx.models.cards import ModelManifest
from memlora_mlx.models.folders import move_into_place

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


def test_remove_says_so_on_stderr(qwen: Path) -> None:
    result = run(app, ["remove", "qwen2.5-0.5b"])
    assert (result.stdout, result.stderr) == ("", "qwen2.5-0.5b removed\n")
    assert not qwen.exists()


@pytest.mark.parametrize("command", ["pull", "path", "remove"])
def test_an_unknown_name_is_left_to_main(command: str) -> None:
    result = run(app, [command, "qwen2.5-1.5"])
    assert isinstance(result.exception, ModelMissing)
    assert "did you mean qwen2.5-1.5b" in str(result.exception)
