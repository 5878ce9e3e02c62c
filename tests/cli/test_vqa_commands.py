"""The whole circle of questions about images by the commands: build, ask, train, ask again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memlora_mlx.memory import stages

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def short_outputs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stages, "VISUAL_ANSWER_TOKENS", 16)  # random weights rarely end an output
        yield


def test_a_benchmark_is_built_asked_trained_on_and_asked_again(
    run_memlora: Command, tiny_home: Path, tiny_vision_student: Path, tmp_path: Path
) -> None:
    student = ("--student", tiny_vision_student)
    code, out, _ = run_memlora("vqa", "build", "--drawings", "--count", 5)
    assert code == 0 and "5 drawings with 15 questions" in out

    code, out, _ = run_memlora("bench", "--vqa", *student, "--out", tmp_path / "before")
    assert code == 0 and out.startswith("Images (drawings, 3 questions), V: base ") and "blind" in out
    assert "`memlora train --stage vqa` makes one" in (tmp_path / "before" / "results.json").read_text()

    steps = ("--epochs", 1, "--batch-size", 9, "--learning-rate", 0.01, "--validations", 1)
    code, out, err = run_memlora("train", "--stage", "vqa", *student, *steps, "--out", tmp_path / "run")
    assert code == 0 and "9 examples to train on, 3 to validate with, by drawings" in err
    assert "memlora ask QUESTION --image FILE" in out
    card = json.loads((tmp_path / "run" / "expert" / "adapter_config.json").read_text())["memlora"]
    assert card["data"]["files"] == ["vqa/drawings/rows.jsonl"]
    assert card["recipe"]["keys"] and card["metrics"]["steps"] == 1
    assert run_memlora("adapters", "verify", tmp_path / "run" / "expert", *student)[0] == 0
    assert run_memlora("adapters", "install", tmp_path / "run" / "expert", *student)[0] == 0

    code, out, _ = run_memlora("bench", "--vqa", *student, "--out", tmp_path / "after")
    assert code == 0 and "V: memlora " in out and "The expert against the base: p " in out
    before, after = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("before", "after"))
    systems = after["extra"]["vqa"]["systems"]
    assert list(systems) == ["memlora", "base", "captions", "memlora captions", "blind"]
    assert before["extra"]["vqa"]["systems"]["base"]["overall"] == systems["base"]["overall"]
    assert after["origin"]["command"].startswith("memlora bench --vqa")


def test_a_student_that_cannot_see_learns_nothing_about_images(run_memlora: Command, tiny_home: Path) -> None:
    code, _, err = run_memlora("train", "--stage", "vqa")
    assert code == 1 and "`memlora vqa build --drawings` creates a small one" in err
    code, _, err = run_memlora("train", "--stage", "vqa", "--yes")
    assert code != 0 and err.splitlines()[-1].startswith("memlora: ") and "reads text only" in err
    assert (tiny_home / "vqa" / "drawings" / "manifest.json").is_file(), "--yes drew it"
    assert not list((tiny_home / "runs").glob("*/expert"))
    code, _, err = run_memlora("train", "--stage", "vqa", "--search")
    assert code == 2 and "`memlora bench --vqa`" in err
