"""The catalogue: memlora's models and the user's own, read when they are needed and checked field by field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memlora_mlx.errors import ModelMissing, UsageError
from memlora_mlx.models.catalog import entries, shipped_entries
from memlora_mlx.models.downloads import default_student, resolve
from memlora_mlx.settings import load_settings

OWN = """
student = "qwen2.5-0.5b"
[models.my-student]
repository = "someone/my-student"
family = "qwen3"
licence = "MIT"
context = 4096
[models."other.1"]
repository = "someone/other"
family = "bert"
kind = "embedder"
"""


def home_with(folder: Path, config: str) -> Path:
    (folder / "config.toml").write_text(config, encoding="utf-8")
    return folder


def test_a_users_models_follow_memloras_and_settings_know_them(tmp_path: Path) -> None:
    assert entries(tmp_path) == shipped_entries()
    home = home_with(tmp_path, OWN)
    found = entries(home)
    assert list(found) == [*shipped_entries(), "my-student", "other.1"]
    assert (found["my-student"].family, found["my-student"].context, found["my-student"].kind) == (
        "qwen3",
        4096,
        "student",
    )
    assert found["other.1"].kind == "embedder" and found["other.1"].parameters is None
    assert load_settings({"home": home}, {}).student == "qwen2.5-0.5b"
    with pytest.raises(ModelMissing, match="`memlora models pull my-student`"):
        resolve("my-student", home / "models")
    with pytest.raises(ModelMissing, match="did you mean my-student"):
        resolve("my-studend", home / "models")
    home_with(tmp_path, OWN.replace("my-student", "our-own-student"))
    assert "our-own-student" in entries(home) and "my-student" not in entries(home)


def test_a_users_entry_goes_before_memloras_of_the_same_name(tmp_path: Path) -> None:
    home = home_with(tmp_path, '[models."qwen2.5-0.5b"]\nrepository = "mirror/qwen"\nfamily = "qwen2"\n')
    assert entries(home)["qwen2.5-0.5b"].repository == "mirror/qwen"
    assert shipped_entries()["qwen2.5-0.5b"].repository == "Qwen/Qwen2.5-0.5B-Instruct"
    assert default_student(home / "models") is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('models = "mine"', "models must be tables"),
        ("[models]\nmine = 3", "models.mine is no table"),
        ('[models.mine]\nfamily = "llama"', "models.mine.repository is missing"),
        ('[models.mine]\nrepository = "a/b"', "mine.family is missing"),
        ('[models.mine]\nrepository = "a/b"\nfamily = "gpt"', "mine.family is 'gpt'; it takes llama, qwen2"),
        ('[models.mine]\nrepository = "a b"\nfamily = "llama"', "models.mine.repository is 'a b'; it takes a hub id"),
        ('[models.mine]\nrepository = "a/b"\nfamily = "llama"\ncontext = "4k"', "mine.context is '4k', not a whole"),
        ('[models.mine]\nrepository = "a/b"\nfamily = "llama"\ncontext = 0', "mine.context is 0; it takes a whole"),
        ('[models.mine]\nrepository = "a/b"\nfamily = "llama"\nlicense = "MIT"', "mine.license is not a known field"),
        ('[models.mine]\nrepository = "a/b"\nfamily = "llama"\nneeds_vision = 1', "mine.needs_vision is 1, not true"),
        ('[models.mine]\nrepository = "a/b"\nfamily = "llama"\nis_shipped = ".."', "is_shipped is not a field of your"),
        ('[models."a--b"]\nrepository = "a/b"\nfamily = "llama"', "models.a--b: a name has letters"),
        ('[models."../x"]\nrepository = "a/b"\nfamily = "llama"', "models.../x: a name has letters"),
    ],
)
def test_a_wrong_entry_is_one_line_that_names_entry_and_field(tmp_path: Path, config: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        entries(home_with(tmp_path, config))
    assert words in str(caught.value) and "config.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_models_list_shows_them(tiny_home: Path, run_memlora) -> None:  # type: ignore[no-untyped-def]
    tiny_home.mkdir(parents=True, exist_ok=True)
    home_with(tiny_home, OWN)
    code, out, _ = run_memlora("models", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and rows["my-student"]["licence"] == "MIT" and rows["my-student"]["state"] == "missing"
    assert run_memlora("models", "list")[0] == 0
