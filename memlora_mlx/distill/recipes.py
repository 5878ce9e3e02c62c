"""How an expert is trained: one YAML file a stage, in mlx-lm's own names, so that `mlx_lm.lora -c` takes it too.

What mlx-lm has no name for stands below `memlora:`, which it ignores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from memlora_mlx.errors import UsageError
from memlora_mlx.records import Stage


@dataclass(frozen=True, slots=True)
class Recipe:
    """The paper's section "Implementation" and what each stage changes of it."""

    stage: Stage
    keys: tuple[str, ...]  # the linear layers that are adapted, named within a block
    rank: int = 8
    scale: float = 2.0  # alpha / r: 16 / 8
    dropout: float = 0.1
    num_layers: int = -1  # blocks, counted from the last; -1: all
    learning_rate: float = 1e-3
    warmup: float = 0.05  # of all steps; then a cosine to a tenth
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    batch_size: int = 8
    epochs: float = 50  # at most
    patience: int = 3  # validations in a row that may bring nothing better
    validations: int = 4  # in an epoch
    max_seq_length: int = 1024  # tokens of prompt and answer; longer rows are left out and counted
    decision_weight: float = 1.0  # of the tokens that decide (ids, events, going on or ending) beside copied text
    seed: int = 0
    grad_checkpoint: bool = False
    origin: Mapping[str, Any] = field(default_factory=dict)  # the file as read

    def changed(self, **changes: Any) -> Recipe:
        """This recipe with other values; a None counts as not given."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def as_dict(self) -> dict[str, Any]:
        """What a card and a run folder say of it."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "origin"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}


def read_recipe(stage: Stage, path: Path | None = None, *, student: str | None = None) -> Recipe:
    """A recipe from a file; else the one this student's shipped expert was trained by; else the paper's for the stage.

    Raises:
        UsageError: it cannot be read, or a value is missing or of the wrong kind.
    """
    import yaml

    if path is None:
        shipped = Path(str(files("memlora_mlx"))) / "adapters"
        path = shipped / f"{stage}.yaml"
        if student is not None and os.path.isfile(shipped / student / f"{stage}.yaml"):
            path = shipped / student / f"{stage}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path}: {error.strerror}; check the path") from error
    try:
        config = yaml.safe_load(text)
        lora, adamw, ours = config["lora_parameters"], config["optimizer_config"]["adamw"], config.get("memlora") or {}
        if config.get("fine_tune_type", "lora") != "lora":
            raise ValueError("fine_tune_type must be lora")
        recipe = Recipe(
            stage,
            keys=tuple(str(key) for key in lora["keys"]),
            rank=int(lora["rank"]),
            scale=float(lora["scale"]),
            dropout=float(lora["dropout"]),
            num_layers=int(config.get("num_layers", -1)),
            learning_rate=float(config["learning_rate"]),
            betas=(float(adamw["betas"][0]), float(adamw["betas"][1])),
            weight_decay=float(adamw["weight_decay"]),
            batch_size=int(config["batch_size"]),
            max_seq_length=int(config["max_seq_length"]),
            seed=int(config.get("seed", 0)),
            grad_checkpoint=bool(config.get("grad_checkpoint", False)),
            origin=config,
            **{name: kind(ours[name]) for name, kind in _OWN_KEYS.items() if name in ours},
        )
        if unknown := set(ours) - set(_OWN_KEYS):
            raise ValueError(f"unknown names below memlora: {', '.join(sorted(unknown))}")
    except (yaml.YAMLError, KeyError, TypeError, ValueError, IndexError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise UsageError(f"the recipe {path} cannot be used ({reason}); compare it with memlora's own") from error
    check_recipe(recipe)
    return recipe


_OWN_KEYS: Mapping[str, type] = {
    "warmup": float,
    "epochs": float,
    "patience": int,
    "validations": int,
    "decision_weight": float,
}


def check_recipe(recipe: Recipe) -> None:
    """Raises UsageError for values no run can use."""
    positive = ("rank", "scale", "learning_rate", "batch_size", "epochs", "patience", "validations", "max_seq_length")
    for name in positive:
        if not getattr(recipe, name) > 0:
            raise UsageError(f"the recipe's {name} is {getattr(recipe, name)}; it must be above 0")
    if not 0 <= recipe.dropout < 1:
        raise UsageError(f"the recipe's dropout is {recipe.dropout}; it must be at least 0 and below 1")
