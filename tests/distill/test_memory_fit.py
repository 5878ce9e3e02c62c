"""Training fits itself to the memory of the machine, and a batch computed in parts teaches what a whole one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_training import HELD, RECIPE, ROWS, files, losses, read, run_of, weights_of
from tiny_models import FAMILIES, student_folder

from memlora_mlx.distill import training_runs
from memlora_mlx.distill.training_metrics import read_points
from memlora_mlx.distill.training_step import estimate_memory, fit_to_memory
from memlora_mlx.errors import TrainingFailed
from memlora_mlx.models import device
from memlora_mlx.models.adapter_registry import read_card
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.student import Student

WITHOUT_DROPOUT = replace(RECIPE, dropout=0.0, epochs=2)


@pytest.fixture
def load(tiny_student: Path) -> Callable[[], Student]:
    return lambda: load_student(tiny_student)


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_a_batch_in_parts_teaches_the_same(load: Callable[[], Student], tmp_path: Path, parts: int) -> None:
    whole = run_of(load(), tmp_path / "whole", WITHOUT_DROPOUT).train()
    in_parts = run_of(load(), tmp_path / "parts", replace(WITHOUT_DROPOUT, accumulate=parts)).train()
    assert [step for step, _ in losses(in_parts.points)] == [step for step, _ in losses(whole.points)]
    assert [x for _, x in losses(in_parts.points)] == pytest.approx([x for _, x in losses(whole.points)], rel=1e-3)
    first, second = weights_of(whole), weights_of(in_parts)
    for name, array in first.items():
        assert np.allclose(array, second[name], atol=2e-3), name


def test_a_step_that_does_not_fit_is_made_smaller_instead_of_refused(
    tiny_student: Path, tmp_path: Path, load: Callable[[], Student], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = load()
    data = read(student, ROWS)
    config = training_runs.TrainingConfig(
        "extraction", str(tiny_student), (str(files(tmp_path, [*ROWS, *HELD])),), WITHOUT_DROPOUT
    )
    smallest = WITHOUT_DROPOUT.changed(grad_checkpoint=True, accumulate=2)
    usable = estimate_memory(student, smallest, data) + 1
    assert fit_to_memory(student, WITHOUT_DROPOUT, data, usable) == smallest
    monkeypatch.setattr(device, "usable_memory", lambda: usable)
    notes: list[str] = []
    training_runs.create_run(config, tmp_path / "run")
    expert = training_runs.train(load(), config, tmp_path / "run", on_note=notes.append)
    assert len(notes) == 1 and "activations are computed again" in notes[0] and "in 2 parts" in notes[0]
    assert read_card(expert).recipe["accumulate"] == 2
    validated = [point.validation_loss for point in read_points(tmp_path / "run") if point.validation_loss]
    assert min(validated) < validated[0]

    monkeypatch.setattr(device, "usable_memory", lambda: student.nbytes // 2)
    with pytest.raises(TrainingFailed, match="even with one example at a time"):
        training_runs.train(load(), config, tmp_path / "run")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_memory_of_every_family_is_estimated(family: str, tmp_path: Path) -> None:
    student = load_student(student_folder(tmp_path / family, family=family))
    data = read(student, ROWS)
    whole = estimate_memory(student, RECIPE, data)
    assert whole > student.nbytes
    assert estimate_memory(student, RECIPE.changed(accumulate=4), data) < whole
