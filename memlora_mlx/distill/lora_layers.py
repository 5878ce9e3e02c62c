"""The LoRA layers of a training run: added to a student by mlx-lm, or filled from an expert to continue from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.distill.training_step import Dropout, DropoutKeys
from memlora_mlx.errors import AdapterMismatch, UsageError
from memlora_mlx.models.experts import Matrices, adapted_layers, read_expert

import mlx.core as mx  # isort: skip  (memlora_mlx.models prepares it)
from mlx.utils import tree_flatten  # isort: skip

if TYPE_CHECKING:
    from memlora_mlx.models.student import Student


def add_lora_layers(student: Student, recipe: Recipe, keys: DropoutKeys) -> None:
    """Freeze the student and put LoRA layers around the linear layers that the recipe names. A is random and B zero.

    Raises:
        UsageError: the student has none of these layers.
    """
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model = student.model
    mx.random.seed(recipe.seed)
    model.freeze()
    chosen = {id(module) for block in model.layers[-max(recipe.num_layers, 0) :] for module in block.modules()}
    modules = dict(model.named_modules())
    names = [name for name in adapted_layers(model, recipe.keys) if id(modules[name]) in chosen]
    if not names:
        raise UsageError(
            f"The student has no linear layers named {' or '.join(recipe.keys)}. Change `keys` in the recipe."
        )
    config = {"rank": recipe.rank, "scale": recipe.scale, "dropout": recipe.dropout, "keys": names}
    linear_to_lora_layers(model, -1, config)
    adapted = dict(model.named_modules())
    for number, name in enumerate(names):
        adapted[name].dropout = Dropout(recipe.dropout, keys, number)
    mx.eval(model.parameters())


def load_start_expert(student: Student, recipe: Recipe, folder: Path) -> None:
    """Fill the student's LoRA layers with the weights of an expert.

    Raises:
        AdapterMismatch: the expert is for another student, adapts other layers, or has another rank.
    """
    expert = read_expert(folder, recipe.stage, student.fingerprint)
    arrays: dict[str, mx.array] = {}
    for name, (a, b) in expert.matrices.items():
        arrays[f"{name}.lora_a"] = a.astype(mx.float32)
        arrays[f"{name}.lora_b"] = b.astype(mx.float32) / recipe.scale  # the expert's own scale is already in B
    if not have_same_shapes(arrays, trainable_weights(student)):
        raise AdapterMismatch(
            f"The expert in {folder} adapts other layers than this recipe, or has another rank. "
            "Use the recipe that is in its card, or start from the base model with `--from none`."
        )
    student.model.load_weights(list(arrays.items()), strict=False)
    mx.eval(student.model.parameters())


def trainable_weights(student: Student) -> dict[str, mx.array]:
    """The weights of the LoRA layers, by name."""
    return dict(tree_flatten(student.model.trainable_parameters()))


def as_matrices(weights: dict[str, mx.array]) -> Matrices:
    """The weights as pairs of A and B, by the name of the adapted layer."""
    return {
        name.removesuffix(".lora_a"): (array, weights[name.removesuffix("a") + "b"])
        for name, array in weights.items()
        if name.endswith(".lora_a")
    }


def have_same_shapes(first: dict[str, mx.array], second: dict[str, mx.array]) -> bool:
    """Whether both have arrays of the same names and shapes."""
    return {name: array.shape for name, array in first.items()} == {name: array.shape for name, array in second.items()}
