"""Training recipes: one YAML file for each stage, with mlx-lm's names, so that `mlx_lm.lora -c` accepts it as well.

Settings that mlx-lm does not have are below `memlora:`, which it ignores.
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

# Times the recipe's learning rate, where a run continues from the expert in use: it must not forget what it knows.
CONTINUE_LEARNING_RATE_FACTOR = 1 / 15


@dataclass(frozen=True, slots=True)
class Recipe:
    """The training settings of one stage. The defaults are those of the paper's section "Implementation".

    The names of the fields are keys of cards, run.json and search.json.
    """

    stage: Stage
    keys: tuple[str, ...]  # the linear layers to adapt, by their names within a block
    rank: int = 8
    scale: float = 2.0  # alpha / r: 16 / 8
    dropout: float = 0.1
    num_layers: int = -1  # adapt this many blocks, counted from the last; -1: all
    learning_rate: float = 1e-3  # peak
    warmup: float = 0.05  # share of all steps; then a cosine decay to a tenth
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    batch_size: int = 8
    epochs: float = 50  # the most; validation may stop the run earlier
    patience: int = 3  # stop after this many validations in a row without improvement
    validations: int = 4  # per epoch
    max_seq_length: int = 1024  # tokens of prompt and answer; longer examples are left out and counted
    decision_weight: float = (
        1.0  # of tokens that decide (ids, events, whether another entry follows); copied text has 1
    )
    seed: int = 0
    grad_checkpoint: bool = False
    accumulate: int = 1  # a batch is computed in so many parts, one after the other; this needs less memory
    origin: Mapping[str, Any] = field(default_factory=dict)  # the file as read

    def changed(self, **changes: Any) -> Recipe:
        """This recipe with other values. A value of None changes nothing."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def as_dict(self) -> dict[str, Any]:
        """The recipe as a card and run.json hold it."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "origin"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}


def read_recipe(stage: Stage, path: Path | None = None, *, student: str | None = None) -> Recipe:
    """The recipe in `path`; by default that of the student's shipped expert, or else the paper's recipe for the stage.

    Raises:
        UsageError: the file cannot be read, or a value is missing or of the wrong type.
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
        raise UsageError(f"Cannot read the recipe {path}: {error.strerror}. Check the path.") from error
    try:
        config = yaml.safe_load(text)
        lora, adamw, ours = config["lora_parameters"], config["optimizer_config"]["adamw"], config.get("memlora") or {}
        if config.get("fine_tune_type", "lora") != "lora":
            raise ValueError("fine_tune_type must be `lora`")
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
            raise ValueError(f"unknown keys below `memlora`: {', '.join(sorted(unknown))}")
    except (yaml.YAMLError, KeyError, TypeError, ValueError, IndexError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise UsageError(
            f"The recipe {path} cannot be used ({reason}). Compare it with a recipe in memlora's folder `adapters`."
        ) from error
    check_recipe(recipe)
    return recipe


_OWN_KEYS: Mapping[str, type] = {
    "warmup": float,
    "epochs": float,
    "patience": int,
    "validations": int,
    "decision_weight": float,
    "accumulate": int,
}


def continues(trained_by: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether a run with this recipe can continue from an expert with that one: both adapt the same layers."""
    expected = recipe.as_dict()
    return all(trained_by.get(key) == expected[key] for key in ("keys", "rank", "num_layers"))


def check_recipe(recipe: Recipe) -> None:
    """Raises UsageError for values that no run can use."""
    positive = ("rank", "scale", "learning_rate", "batch_size", "epochs", "patience", "validations", "max_seq_length")
    for name in (*positive, "accumulate"):
        if not getattr(recipe, name) > 0:
            raise UsageError(f"The recipe's {name} is {getattr(recipe, name)}. It must be above 0.")
    if not 0 <= recipe.dropout < 1:
        raise UsageError(f"The recipe's dropout is {recipe.dropout}. It must be at least 0 and below 1.")
