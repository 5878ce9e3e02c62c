"""A vqa expert: images among the tokens, the same weights after a stop, and one line where there is nothing to learn from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import ALL_LINEAR

from memlora_mlx.distill import adapter_operations, training_runs, vqa_dataset
from memlora_mlx.distill.datasets import tokenize_examples, training_batches
from memlora_mlx.distill.examples import read_examples
from memlora_mlx.distill.recipes import Recipe, read_recipe
from memlora_mlx.distill.training_step import batch_arrays, estimate_memory, masked_loss, validation_loss
from memlora_mlx.errors import BadTrainingData, Cancelled, VisionMissing
from memlora_mlx.eval.vqa import drawings
from memlora_mlx.models import cpu_kernels
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.safetensors_files import load_arrays
from memlora_mlx.models.student import Student

import mlx.core as mx  # isort: skip
import mlx.nn as nn
from mlx.utils import tree_flatten

RECIPE = Recipe(
    "vqa", ALL_LINEAR, learning_rate=5e-3, batch_size=4, epochs=2, patience=99, validations=2, max_seq_length=512
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vqa") / "drawings"
    drawings.build(folder, count=5)
    return folder


@pytest.fixture
def load(tiny_vision_student: Path) -> Callable[[], Student]:
    return lambda: load_student(tiny_vision_student, image_tiles=1)


def order_of(student: Path, drawn: Path) -> training_runs.TrainingConfig:
    return training_runs.TrainingConfig("vqa", str(student), (str(drawn / vqa_dataset.ROWS),), RECIPE)


def trained(
    folder: Path, order: training_runs.TrainingConfig, student: Student, **options: object
) -> dict[str, np.ndarray]:
    if not training_runs.is_run(folder):
        training_runs.create_run(order, folder)
    expert = training_runs.train(student, order, folder, **options)  # type: ignore[arg-type]
    return {name: np.array(array) for name, array in load_arrays(expert / "adapters.safetensors").items()}


def test_an_expert_is_learnt_verified_and_the_same_after_a_stop(
    drawn: Path, tiny_vision_student: Path, load: Callable[[], Student], tmp_path: Path, isolated_home: Path
) -> None:
    order = order_of(tiny_vision_student, drawn)
    whole = trained(tmp_path / "whole", order, load())
    card = json.loads((tmp_path / "whole" / "expert" / "adapter_config.json").read_text())["memlora"]
    loss = card["metrics"]["validation_loss"]
    assert loss["expert"] < loss["base"]
    assert card["stage"] == "vqa" and card["data"]["licence"] == "Apache-2.0 (memlora)"
    assert (card["data"]["rows"], card["data"]["validation_rows"]) == (9, 3), "what tests is not among them"
    assert all(name.startswith("language_model.") for name in whole), "the tower stays as it is"

    class Stop:
        """Set after so many looks at it."""

        def __init__(self, looks: int) -> None:
            self.left = looks

        def is_set(self) -> bool:
            self.left -= 1
            return self.left < 0

    with pytest.raises(Cancelled):
        trained(tmp_path / "parts", order, load(), cancelled=Stop(5))
    parts = trained(tmp_path / "parts", training_runs.read_run_config(tmp_path / "parts"), load())
    assert parts.keys() == whole.keys() and all(np.array_equal(parts[name], whole[name]) for name in whole)

    shutil.copytree(drawn, isolated_home / "vqa" / "drawings")
    card["data"]["files"] = ["vqa/drawings/rows.jsonl"]  # as of a benchmark in the data folder
    config = tmp_path / "parts" / "expert" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"memlora": card}))
    findings = adapter_operations.verify_expert(tmp_path / "parts" / "expert", load(), isolated_home)
    assert [finding.is_right for finding in findings] == [True] * 4, findings


def test_the_batched_loss_with_images_is_that_of_each_row_alone(drawn: Path, load: Callable[[], Student]) -> None:
    student = load()
    rows = [row for row in read_examples(drawn / vqa_dataset.ROWS) if row.split == "train"][:4]
    images = {row.image: drawn / row.image for row in rows if row.image}
    data, _ = tokenize_examples(student, rows, longest=512, decision_weight=3.0, images=images)
    assert {int((example.tokens < 0).sum()) for example in data} == {4}
    assert all((example.tokens[example.prompt :] >= 0).all() for example in data)
    for row, example in zip(rows, data, strict=True):
        heavy = student.decode(
            [int(t) for t, w in zip(example.tokens[example.prompt :], example.weights, strict=True) if w > 1]
        )
        assert heavy.strip('", ') == vqa_dataset.answer_word(row)
    [batch] = training_batches(data, 8, seed=None)

    def alone(model: nn.Module) -> mx.array:
        total = mx.array(0.0)
        for example in data:
            hidden = student.hidden(mx.array(example.tokens[:-1])[None], student.make_cache())
            logits = student.logits(hidden[0, example.prompt - 1 :])
            each = nn.losses.cross_entropy(logits, mx.array(example.tokens[example.prompt :]))
            total = total + (each * mx.array(example.weights)).sum()
        return total / sum(float(example.weights.sum()) for example in data)

    parts = batch_arrays(student, batch)
    with cpu_kernels.with_gradients():
        loss, gradient = nn.value_and_grad(student.model, lambda m: masked_loss(student)(m, *parts)[0])(student.model)
    with cpu_kernels.without_cpu_kernels():
        expected_loss, expected = nn.value_and_grad(student.model, alone)(student.model)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    for (name, a), (_, b) in zip(tree_flatten(gradient), tree_flatten(expected), strict=True):
        assert np.allclose(np.array(a), np.array(b), rtol=1e-3, atol=1e-5), name


def test_the_image_and_not_the_words_alone_is_read(drawn: Path, load: Callable[[], Student]) -> None:
    student = load()
    rows = [row for row in read_examples(drawn / vqa_dataset.ROWS) if row.split == "train"]
    names = sorted({row.image for row in rows if row.image})
    images = {name: drawn / name for name in names}
    others = {name: drawn / other for name, other in zip(names, [*names[1:], names[0]], strict=True)}
    losses = []
    for shown in (images, others):
        data, _ = tokenize_examples(student, rows, longest=512, decision_weight=1.0, images=shown)
        losses.append(validation_loss(student, data, 4))
    assert losses[0] != losses[1]


def test_the_memory_that_a_step_needs_counts_the_features(drawn: Path, load: Callable[[], Student]) -> None:
    student = load()
    rows = [row for row in read_examples(drawn / vqa_dataset.ROWS) if row.split == "train"]
    data, _ = tokenize_examples(
        student,
        rows,
        longest=512,
        decision_weight=1.0,
        images={row.image: drawn / row.image for row in rows if row.image},
    )
    words = [replace(example, tokens=np.abs(example.tokens)) for example in data]
    features = 3 * 4 * int(student.config["hidden_size"]) * 4  # images, features of each, float32
    assert estimate_memory(student, RECIPE, data) - estimate_memory(student, RECIPE, words) == features


# What cannot be done


def test_a_student_that_cannot_see_is_refused(drawn: Path, tiny_student: Path, tmp_path: Path) -> None:
    order = order_of(tiny_student, drawn)
    with pytest.raises(VisionMissing, match="reads text only"):
        training_runs.train(load_student(tiny_student), order, tmp_path / "run")


def test_rows_without_their_image_are_left_out_and_counted(
    drawn: Path, tiny_vision_student: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(drawn, mine)
    rows = [row for row in read_examples(mine / vqa_dataset.ROWS) if row.split == "train"]
    gone, changed, kept = sorted({row.image for row in rows if row.image})
    (mine / gone).unlink()
    (mine / changed).write_bytes((mine / kept).read_bytes())
    data = training_runs.read_data(order_of(tiny_vision_student, mine))
    assert len(data.training) == 3 and data.origin["rows_without_image"] == 6
    assert data.images[kept] == mine / kept and {row.image for row in data.training} == {kept}

    shutil.rmtree(mine / "images")
    vqa_dataset.image_of.cache_clear()
    with pytest.raises(BadTrainingData, match="All images of 12 examples are missing or have changed"):
        training_runs.read_data(order_of(tiny_vision_student, mine))


def test_the_benchmark_is_found_and_locomo_goes_before_drawings(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(BadTrainingData, match="`memlora vqa build --drawings` creates a small one"):
        training_runs.default_data("vqa", tmp_path)
    shutil.copytree(drawn, tmp_path / "vqa" / "drawings")
    assert training_runs.default_data("vqa", tmp_path) == [tmp_path / "vqa" / "drawings" / "rows.jsonl"]
    shutil.copytree(drawn, tmp_path / "vqa" / "locomo")
    assert vqa_dataset.find_dataset(tmp_path).name == "locomo"
    (tmp_path / "vqa" / "locomo" / "manifest.json").unlink()  # a build that was stopped
    assert vqa_dataset.find_dataset(tmp_path).name == "drawings"
    with pytest.raises(BadTrainingData, match="contains no finished VQA data set"):
        vqa_dataset.find_dataset(tmp_path, tmp_path)


def test_the_recipe_is_the_papers() -> None:
    recipe = read_recipe("vqa")
    assert (recipe.rank, recipe.scale, recipe.dropout, recipe.epochs, recipe.keys) == (8, 2.0, 0.1, 50, ALL_LINEAR)
