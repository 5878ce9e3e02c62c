"""The state of a training run on disk: state.safetensors, from which a run resumes, and state.json for people.

The numbers of the run lie in the header of state.safetensors, in the same file as the weights, so that both always belong
together.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from memlora_mlx.distill.datasets import TokenizedExample
from memlora_mlx.distill.training_config import without_version
from memlora_mlx.distill.training_metrics import NAN_LOSS
from memlora_mlx.files import atomic_paths
from memlora_mlx.models.safetensors_files import load_arrays_and_words
from memlora_mlx.models.typed_json import from_json

import mlx.core as mx  # isort: skip  (memlora_mlx.models prepares it)

STATE = "state.safetensors"
VERSION = 1  # of the format; a file without a version has this one
_OLD_ENDED = {"the loss became no number": NAN_LOSS}  # what early versions wrote
_PARTS = ("weights", "best", "optimizer", "random")  # "random" is in files of early versions and is not used


@dataclass(slots=True)
class TrainerState:
    """The numbers of a run. The names of the fields are keys of state.json and of the header of state.safetensors."""

    step: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    worse: int = 0  # validations since the best one
    first_loss: float | None = None  # of the weights that the run began with
    validated: int = -1  # the step of the last validation
    ended: str | None = None  # why the run ended: "all epochs", "early stop" or NAN_LOSS; None while it can continue


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a run needs to continue with the same results as if it had not been interrupted."""

    progress: TrainerState
    weights: Mapping[str, mx.array]  # of the adapted layers, by name
    best: Mapping[str, mx.array]  # the same at the best validation
    optimizer: Mapping[str, mx.array]
    examples: str | None  # `examples_hash` of the run's data; None in files of early versions


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the state as a whole: a crash leaves the one before.

    Raises:
        OSError, RuntimeError: it cannot be written. MLX raises the latter when the disk is full.
    """
    progress = asdict(checkpoint.progress)
    arrays = {
        f"{part}.{name}": array
        for part in ("weights", "best", "optimizer")
        for name, array in getattr(checkpoint, part).items()
    }
    header = {"progress": json.dumps(progress), "examples": str(checkpoint.examples), "version": str(VERSION)}
    with atomic_paths(folder / STATE) as (scratch,):
        mx.save_safetensors(str(scratch), arrays, metadata=header)
    (folder / "state.json").write_text(json.dumps(progress, indent=1), encoding="utf-8")


def read_checkpoint(file: Path) -> Checkpoint:
    """The state in a file.

    Raises:
        OSError, RuntimeError: the file cannot be read.
        ValueError: it is not the state of a run, or a newer memlora wrote it.
    """
    arrays, header = load_arrays_and_words(file)
    without_version({"version": int(header.get("version", 1))}, VERSION)
    if "progress" not in header:
        raise ValueError("it is not the state of a run")
    parts: dict[str, dict[str, mx.array]] = {part: {} for part in _PARTS}
    for full_name, array in arrays.items():
        part, _, name = full_name.partition(".")
        if part not in parts:
            raise ValueError(f"it has an unknown array, {full_name}")
        parts[part][name] = array
    numbers = json.loads(header["progress"])
    # Before a valid validation the best loss is infinite, which is the default of the field.
    progress = from_json(TrainerState, {name: value for name, value in numbers.items() if value != math.inf})
    progress.ended = _OLD_ENDED.get(progress.ended or "", progress.ended)
    return Checkpoint(progress, parts["weights"], parts["best"], parts["optimizer"], header.get("examples"))


def examples_hash(*data: Sequence[TokenizedExample]) -> str:
    """Sixteen hexadecimal digits that identify the tokens and weights of all examples, in their order."""
    digest = hashlib.sha256()
    for examples in data:
        digest.update(len(examples).to_bytes(8))
        for example in examples:
            digest.update(example.prompt.to_bytes(8) + example.tokens.tobytes() + example.weights.tobytes())
    return digest.hexdigest()[:16]
