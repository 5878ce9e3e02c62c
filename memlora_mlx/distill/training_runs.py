"""`memlora train` as library calls: teacher data in, an expert with its card out. Other rooms import training from here.

A run has a folder of its own in `<home>/runs`: run.json (its settings and environment), metrics.jsonl (one line for each
step), the state that it can be resumed from, and at the end the expert.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlora_mlx.distill.training_cards import describe_environment, make_card
from memlora_mlx.distill.training_config import (
    VALIDATION_ROWS,
    TrainingConfig,
    config_from_json,
    config_to_json,
    parse_file_and_count,
    without_version,
)
from memlora_mlx.distill.training_data import TrainingData, default_data, local_data_offer, read_data
from memlora_mlx.errors import Cancelled, TrainingFailed, UsageError, VisionMissing
from memlora_mlx.files import atomic_write
from memlora_mlx.models.model_config import text_only_message
from memlora_mlx.records import Stage

if TYPE_CHECKING:
    from memlora_mlx.distill.datasets import TokenizedExample
    from memlora_mlx.distill.training import Trainer, TrainingResult
    from memlora_mlx.distill.training_metrics import MetricsPoint
    from memlora_mlx.models.student import Student

__all__ = [
    "BEST_SO_FAR",
    "LOCK",
    "VALIDATION_ROWS",
    "TrainingConfig",
    "TrainingData",
    "config_from_json",
    "config_to_json",
    "create_run",
    "default_data",
    "describe_environment",
    "discard_empty_run",
    "is_run",
    "local_data_offer",
    "new_run_folder",
    "newest_unfinished",
    "parse_file_and_count",
    "read_data",
    "read_run_config",
    "run_lock",
    "starting_command",
    "train",
]

MANIFEST = "run.json"
MANIFEST_VERSION = 1  # of run.json; a file without a version has this one
BEST_SO_FAR = "best-so-far"  # in a run's folder: the expert that a run had learnt when it was stopped
LOCK = ".lock"  # in a run's folder while a process trains there


def train(
    student: Student,
    config: TrainingConfig,
    folder: Path,
    *,
    on_start: Callable[[TrainingData, int], None] = lambda data, left_out: None,
    on_point: Callable[[MetricsPoint], None] = lambda point: None,
    on_note: Callable[[str], None] = lambda line: None,
    cancelled: threading.Event | None = None,
    command: str = "",
) -> Path:
    """Train in the run's folder, or resume what is there. Returns the expert's folder.

    Under `mlx.launch` every process calls it, each with a student of its own; only the first one writes.

    Args:
        on_start: called with the data and the number of training examples that are too long.
        on_point, cancelled: see `Trainer`.
        on_note: called with a line for the user, where a step had to be changed to fit into the memory.
        command: for the card.

    Raises:
        BadTrainingData, TrainingFailed, Cancelled: see `read_data` and `Trainer`; all that was done is kept.
        UsageError: another process trains in the folder.
        VisionMissing: a vqa expert for a student without vision.
    """
    from memlora_mlx.distill import distributed
    from memlora_mlx.distill.datasets import tokenize_examples
    from memlora_mlx.distill.training import Trainer

    if config.stage == "vqa" and not student.has_vision:
        raise VisionMissing(text_only_message(student.name))
    recipe = config.recipe
    data = read_data(config)
    longest = min(recipe.max_seq_length, student.context)
    options: dict[str, Any] = {
        "longest": longest,
        "decision_weight": recipe.decision_weight,
        "images": data.images,
    }
    training, left_out = tokenize_examples(student, data.training, **options)
    validation, _ = tokenize_examples(student, data.validation, **options, purpose="validate with")
    on_start(data, left_out)
    config = _fitted_to_memory(student, config, training, on_note)
    with run_lock(folder) if distributed.rank() == 0 else contextlib.nullcontext():
        start = Path(config.start) if config.start else None
        trainer = Trainer(
            student, config.recipe, training, validation, folder, start=start, on_point=on_point, cancelled=cancelled
        )

        def write(expert: Path, result: TrainingResult) -> Path:
            return _write_expert(expert, student, config, data, result, command)

        return _train_and_write(trainer, folder, write)


def _fitted_to_memory(
    student: Student,
    config: TrainingConfig,
    training: Sequence[TokenizedExample],
    on_note: Callable[[str], None],
) -> TrainingConfig:
    """The settings with which a step fits into this machine's memory. Raises TrainingFailed: there are none."""
    from memlora_mlx.distill.training_step import estimate_memory, fit_to_memory
    from memlora_mlx.models.device import usable_memory

    usable = usable_memory()
    recipe = fit_to_memory(student, config.recipe, training, usable)
    if (needed := estimate_memory(student, recipe, training)) > usable:
        raise TrainingFailed(
            f"A training step needs about {_gibibytes(needed)} of memory and {_gibibytes(usable)} is available, even with "
            "one example at a time and activations computed again. Use a smaller --max-seq-length or a quantised student."
        )
    if recipe != config.recipe:
        before = estimate_memory(student, config.recipe, training)
        parts = f", and each batch is computed in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
        on_note(
            f"A step would need about {_gibibytes(before)} of memory and {_gibibytes(usable)} is available: activations "
            f"are computed again instead of kept{parts}. It then needs about {_gibibytes(needed)}."
        )
    return replace(config, recipe=recipe)


def _train_and_write(trainer: Trainer, folder: Path, write: Callable[[Path, TrainingResult], Path]) -> Path:
    try:
        result = trainer.train()
    except Cancelled:
        if trainer.progress.best_step:  # what has been learnt can be used while the run waits to be resumed
            with contextlib.suppress(OSError, RuntimeError):
                write(folder / BEST_SO_FAR, trainer.result())
        raise
    try:
        return write(folder / "expert", result)
    except (OSError, RuntimeError) as error:  # MLX raises the latter when the disk is full
        raise TrainingFailed(
            f"Cannot write the expert to {folder} ({error}). Training is complete and saved: "
            "free disk space and use --resume."
        ) from error


def _write_expert(
    expert: Path, student: Student, config: TrainingConfig, data: TrainingData, result: TrainingResult, command: str
) -> Path:
    from memlora_mlx.distill import distributed
    from memlora_mlx.models.experts import write_expert

    if distributed.rank() == 0:
        recipe, card = config.recipe, make_card(student, config, data, result, command)
        write_expert(expert, result.lora_weights, scale=recipe.scale, dropout=recipe.dropout, card=card)
    return expert


# ------------------------------------------------------------------------------------------------ run folders


@dataclass(frozen=True, slots=True)
class RunManifest:
    """What run.json says: the run's settings, the command that began it, and the environment at that time."""

    config: TrainingConfig
    command: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "version": MANIFEST_VERSION,
            **config_to_json(self.config),
            "command": self.command,
            "environment": dict(self.environment),
        }


def read_run(folder: Path) -> RunManifest:
    """The manifest of a run.

    Raises:
        UsageError: the folder holds no run, or its manifest cannot be read.
    """
    try:
        value = without_version(json.loads((folder / MANIFEST).read_text(encoding="utf-8")), MANIFEST_VERSION)
        config = config_from_json(value)
        return RunManifest(config, str(value.get("command") or ""), value.get("environment") or {})
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{folder} contains no training run to resume ({reason}). Remove --resume to start a new one."
        ) from error


def create_run(config: TrainingConfig, folder: Path, command: str = "") -> None:
    """Create the run's folder with its manifest. Raises TrainingFailed: it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        manifest = RunManifest(config, command, describe_environment())
        text = json.dumps(manifest.as_json(), indent=1, ensure_ascii=False)
        atomic_write(folder / MANIFEST, text, private=False)
    except OSError as error:
        raise TrainingFailed(
            f"Cannot write to {folder} ({error.strerror}). Choose another folder with --out."
        ) from error


def read_run_config(folder: Path) -> TrainingConfig:
    """The settings of a run that is to be resumed. Raises UsageError: see `read_run`."""
    return read_run(folder).config


def starting_command(folder: Path) -> str:
    """The command that began a run; empty if it is not known."""
    try:
        return read_run(folder).command
    except UsageError:
        return ""


def new_run_folder(home: Path, stage: Stage, day: date) -> Path:
    """A folder for a new run whose name is free, such as update-2025-05-08-1."""
    names = (home / "runs" / f"{stage}-{day.isoformat()}-{number}" for number in itertools.count(1))
    return next(folder for folder in names if not folder.exists())


def newest_unfinished(home: Path, stage: Stage | None) -> Path:
    """The run that was begun last and has no expert yet, of one stage or of any.

    Raises:
        UsageError: there is none.
    """
    runs = [
        (manifest.stat().st_mtime, manifest.parent)
        for manifest in (home / "runs").glob(f"*/{MANIFEST}")
        if not (manifest.parent / "expert" / "adapter_config.json").is_file()
        and (stage is None or _stage(manifest.parent) == stage)
    ]
    if not runs:
        which = f"{stage} " if stage else ""
        raise UsageError(
            f"There is no unfinished {which}run in {home / 'runs'} to resume. Remove --resume to start a new one."
        )
    return max(runs)[1]


def is_run(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def discard_empty_run(folder: Path) -> None:
    """Remove the folder of a run that failed before its first step, when it holds nothing but the manifest."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {MANIFEST, LOCK}:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep every other process out of a run's folder.

    Raises:
        UsageError: another process trains there.
        TrainingFailed: the folder cannot be written.
    """
    import filelock

    try:
        held = filelock.FileLock(folder / LOCK).acquire(timeout=0)
    except filelock.Timeout as error:
        raise UsageError(f"Another process is training in {folder}. Wait for it, or stop it first.") from error
    except OSError as error:
        raise TrainingFailed(f"Cannot write to {folder} ({error.strerror}). Check the folder's permissions.") from error
    with held:
        yield


def _stage(folder: Path) -> Stage | None:
    try:
        return read_run(folder).config.stage
    except UsageError:
        return None


def _gibibytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
