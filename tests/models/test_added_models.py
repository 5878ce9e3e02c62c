"""`memlora models add`: a GGUF file from another program becomes a student by its own name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from test_gguf import build, write_gguf

from memlora_mlx.errors import DownloadFailed, ModelBroken, ModelMissing, UsageError
from memlora_mlx.models.added_models import add_gguf
from memlora_mlx.models.cards import ModelManifest
from memlora_mlx.models.downloads import installed, pull, remove, resolve
from memlora_mlx.models.engine import Engine
from memlora_mlx.records import Request

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    write_gguf(tmp_path / "Tiny Chat--Q8.gguf", build("qwen3"), "qwen3", "Q8_0", licence="MIT\x1b[2J", name="Tiny Chat")
    return tmp_path / "Tiny Chat--Q8.gguf"


def test_an_added_file_is_a_student_by_its_name(gguf_file: Path, tiny_home: Path, run_memlora: Command) -> None:
    code, out, says = run_memlora("models", "add", gguf_file, "--name", "my-student")
    assert code == 0 and out.strip() == str(tiny_home / "models" / "my-student") and "--student my-student" in says
    rows = {row["name"]: row for row in json.loads(run_memlora("models", "list", "--json")[1])}
    mine = rows["my-student"]
    assert (mine["state"], mine["kind"], mine["family"], mine["precision"]) == ("here", "student", "qwen3", "Q8_0")
    assert mine["licence"].startswith("MIT") and "\x1b" not in mine["licence"]
    assert "my-student" in run_memlora("models", "list")[1]
    assert run_memlora("models", "path", "my-student")[1].strip() == out.strip()
    with Engine(resolve("my-student", tiny_home / "models"), None) as engine:
        answer = engine.complete(Request(stage=None, chat=(("user", "hello"),), max_tokens=3))
        assert engine.student.name == "my-student" and answer.output_tokens > 0
    assert run_memlora("models", "remove", "my-student")[0] == 0
    assert installed(tiny_home / "models") == []
    code, _, says = run_memlora("models", "path", "my-student")
    assert code == 1 and "no model is called" in says


def test_the_name_is_the_files_or_the_one_written_in_it(gguf_file: Path, tmp_path: Path) -> None:
    models = tmp_path / "home" / "models"
    place = add_gguf(gguf_file, models)
    assert place.name == "Tiny-Chat-Q8"
    manifest = ModelManifest.read(place)
    assert manifest.gguf == "Tiny Chat--Q8.gguf" and manifest.gguf_sha256 and manifest.files
    blob = gguf_file.rename(tmp_path / "sha256-0123")  # as Ollama keeps it
    assert add_gguf(blob, models).name == "Tiny-Chat"
    with pytest.raises(UsageError, match=r"Tiny-Chat is on this disk already.*models remove Tiny-Chat"):
        add_gguf(blob, models)
    assert [model.name for model in installed(models)] == ["Tiny-Chat", "Tiny-Chat-Q8"]
    assert not list(models.glob(".staging/*"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil", "cannot be a model's name"),
        ("a--b", "cannot be a model's name"),
        ("org/name", "cannot be a model's name"),
        (".hidden", "cannot be a model's name"),
        ("qwen2.5-0.5b", "name of a model in the catalogue"),
    ],
)
def test_a_name_that_cannot_be_is_refused(gguf_file: Path, tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        add_gguf(gguf_file, tmp_path / "home" / "models", name)
    assert not (tmp_path / "home").exists()


def test_what_cannot_be_a_student_is_one_line(tmp_path: Path) -> None:
    models = tmp_path / "home" / "models"
    with pytest.raises(ModelMissing, match="there is no file"):
        add_gguf(tmp_path / "none.gguf", models)
    (tmp_path / "text.gguf").write_text("Hello")
    with pytest.raises(ModelBroken, match="not a whole GGUF model"):
        add_gguf(tmp_path / "text.gguf", models)
    write_gguf(tmp_path / "base.gguf", build("llama"), "llama", template=None)
    with pytest.raises(ModelBroken, match="no chat template.*instruct"):
        add_gguf(tmp_path / "base.gguf", models)
    write_gguf(tmp_path / "yarn.gguf", build("llama"), "llama", scaling="yarn")
    with pytest.raises(ModelBroken, match="yarn"):
        add_gguf(tmp_path / "yarn.gguf", models)
    assert installed(models) == [] and not list(models.glob(".staging/*"))


def test_a_full_disk_leaves_nothing_behind(gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memlora_mlx.models.gguf._save", full)
    with pytest.raises(DownloadFailed, match="is full"):
        add_gguf(gguf_file, tmp_path / "models", "mine")
    assert installed(tmp_path / "models") == [] and not list((tmp_path / "models").glob(".staging/*"))


def test_a_damaged_one_says_how_it_is_added_again(gguf_file: Path, tmp_path: Path) -> None:
    models = tmp_path / "home" / "models"
    place = add_gguf(gguf_file, models, "mine")
    (place / "config.json").unlink()
    for use in (resolve, pull):
        with pytest.raises(ModelBroken, match="`memlora models add FILE --name mine` converts it again"):
            use("mine", models)
    assert add_gguf(gguf_file, models, "mine") == place and resolve("mine", models) == place
    remove("mine", models)
    with pytest.raises(ModelMissing):
        remove("mine", models)
