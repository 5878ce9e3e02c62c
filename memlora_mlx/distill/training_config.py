"""What a training run is asked to do, as a dataclass and as the JSON of run.json, search.json and cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from memlora_mlx.conversations.splits import SPLITS
from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.models.typed_json import from_json
from memlora_mlx.records import Stage

VALIDATION_ROWS = 128  # of each run: a validation must not cost more than the training between two validations


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """The settings of a run. They are written into its folder, so that --resume needs nothing else.

    The names of the fields are keys of run.json.
    """

    stage: Stage
    student: str
    data: tuple[str, ...]  # files of examples; "FILE:300" takes 300 training examples, drawn with the recipe's seed
    recipe: Recipe
    rows: int | None = None  # take this many training examples in all, drawn with the recipe's seed
    splits: str = "paper"
    validation_rows: int = VALIDATION_ROWS  # take at most this many validation examples
    start: str | None = None  # the folder of an expert to continue from


def config_to_json(config: TrainingConfig) -> dict[str, Any]:
    return {**asdict(config), "recipe": config.recipe.as_dict()}


def config_from_json(value: Any) -> TrainingConfig:
    """The settings in a JSON object. Other keys beside them, as run.json has, are ignored.

    Raises:
        ValueError: it does not hold the settings of a run.
    """
    if isinstance(value, Mapping):
        names = {field.name for field in fields(TrainingConfig)}
        value = {name: part for name, part in value.items() if name in names}
    config = from_json(TrainingConfig, value)
    check_splits(config)
    return config


def check_splits(config: TrainingConfig) -> None:
    """Raises ValueError if the splits of the settings have no known name."""
    if config.splits not in SPLITS:
        raise ValueError(f"the splits {config.splits!r} are unknown")


def without_version(value: Any, newest: int) -> Any:
    """The fields of a file without its `version`, which is 1 in the files of early versions.

    Raises:
        ValueError: a newer memlora wrote the file.
    """
    if not isinstance(value, Mapping):
        return value
    found = value.get("version", 1)
    if type(found) is not int or found > newest:
        raise ValueError(f"its version is {found} and this memlora reads up to {newest}; update memlora")
    return {name: part for name, part in value.items() if name != "version"}


def parse_file_and_count(argument: str) -> tuple[str, int | None]:
    """The parts of FILE:N, or FILE and None. A file whose name ends in a colon and digits is taken as a file."""
    name, colon, count = argument.rpartition(":")
    return (name, int(count)) if colon and count.isdigit() and not Path(argument).exists() else (argument, None)
