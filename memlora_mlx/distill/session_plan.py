"""The plan of a training session: how fast this machine trains each stage, and how much of it fits into the time.

The speed is measured with two real training steps of each stage, not computed.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.distill.session_state import StageState
from memlora_mlx.distill.training_config import (
    VALIDATION_ROWS,
    TrainingConfig,
    config_from_json,
    config_to_json,
    parse_file_and_count,
)
from memlora_mlx.settings import CORRECTIONS

if TYPE_CHECKING:
    from memlora_mlx.distill.datasets import TokenizedExample
    from memlora_mlx.models.student import Student

MEASURED_STEPS = 2
MEASURED_ROWS = 2  # of a step that is measured
VALIDATIONS = 3  # of a run whose length is chosen, beside the one before its first step
VALIDATION_SHARE = 0.3  # of a run's time, at most
LEAST_VALIDATION_ROWS = 8
LEAST_STEPS = 4  # a shorter run teaches nothing
MEASURE_SHARE = 0.25  # of a session's time that may go into measuring the pipeline
MOST_LIVES = 6  # generated lives that the pipeline is measured on


@dataclass(frozen=True, slots=True)
class StagePace:
    """What this machine was measured to take for a stage."""

    training: float  # seconds a token
    validating: float  # seconds a token
    row_tokens: float  # the mean of the training examples
    validation_tokens: float  # the mean of the validation examples
    rows: int  # training examples that are not too long
    memory: int  # bytes of a step, estimated
    recipe: Recipe  # fitted to the memory

    @property
    def row_seconds(self) -> float:
        return self.training * self.row_tokens

    @property
    def validation_seconds(self) -> float:
        return self.validating * self.validation_tokens


def measure_pace(load: Callable[[], Student], config: TrainingConfig) -> StagePace:
    """Train two steps of a stage in a temporary folder, and say what they took.

    Args:
        load: returns a new student.

    Raises:
        BadTrainingData, TrainingFailed, AdapterMismatch: see `training_runs.train`.
    """
    from memlora_mlx.distill.datasets import tokenize_examples
    from memlora_mlx.distill.training import Trainer
    from memlora_mlx.distill.training_data import read_data
    from memlora_mlx.distill.training_step import estimate_memory, fit_to_memory
    from memlora_mlx.models.device import usable_memory

    student = load()
    data = read_data(config)
    longest = min(config.recipe.max_seq_length, student.context)
    training, validation = (
        tokenize_examples(
            student, rows, longest=longest, decision_weight=config.recipe.decision_weight, images=data.images
        )[0]
        for rows in (data.training, data.validation)
    )
    recipe = fit_to_memory(student, config.recipe, training, usable_memory())
    memory = estimate_memory(student, recipe, training)
    size = min(MEASURED_ROWS, recipe.batch_size, len(training))
    sample = _middle(training, MEASURED_STEPS * size)
    short = recipe.changed(
        batch_size=size, epochs=MEASURED_STEPS * size / len(sample), validations=MEASURED_STEPS, patience=99
    ).changed(accumulate=min(recipe.accumulate, size))
    with tempfile.TemporaryDirectory(prefix="memlora-pace-") as folder:
        start = Path(config.start) if config.start else None
        points = Trainer(student, short, sample, _middle(validation, size), Path(folder), start=start).train().points
    speeds = [point.tokens_per_second for point in points if point.tokens_per_second]
    validated = [
        point.seconds - before.seconds
        for before, point in itertools.pairwise(points)
        if point.validation_loss is not None
    ]
    read = sum(len(example.tokens) for example in _middle(validation, size))
    training_pace = 1 / max(speeds, default=1.0)
    return StagePace(
        training_pace,
        min(validated, default=0.0) / read or training_pace / 3,
        _mean_length(training),
        _mean_length(validation),
        len(training),
        memory,
        recipe,
    )


def plan_stage(state: StageState, pace: StagePace, seconds: float | None) -> None:
    """Fill in the plan of a stage: its run, and how long that takes.

    Args:
        state: with the settings of the run if it may take as long as its recipe says.
        seconds: for the run; None: as long as the recipe takes.
    """
    config = config_from_json(state.config)
    state.tokens_per_second, state.memory, state.available = 1 / pace.training, pace.memory, pace.rows
    if seconds is not None:
        fitted = _fit_to_time(config, pace, seconds)
        if fitted is None:
            state.outcome = "too long"
            step = pace.row_seconds * config.recipe.batch_size
            state.reason = f"a step takes {step:.0f} s, so {LEAST_STEPS} steps do not fit into {seconds:.0f} s"
            return
        config = fitted
    recipe = config.recipe
    rows = min(config.rows or pace.rows, pace.rows)
    per_epoch = -(-rows // recipe.batch_size)
    state.steps = max(1, round(per_epoch * recipe.epochs))
    validations = 1 + state.steps // max(1, per_epoch // recipe.validations)
    trained = state.steps * min(recipe.batch_size, rows) * pace.row_seconds
    state.planned_seconds = trained + validations * config.validation_rows * pace.validation_seconds
    state.config = config_to_json(config)


def _fit_to_time(config: TrainingConfig, pace: StagePace, seconds: float) -> TrainingConfig | None:
    """The settings of a run that takes about so many seconds. None: too few for a run.

    It sees as many rows as fit, once; only where there is time left for more passes, it passes again, at most as often as
    the recipe says. A learning rate falls along the whole of the run, so a run that is planned short is better than one
    that is cut.
    """
    recipe = config.recipe
    per_validation = VALIDATION_SHARE * seconds / (VALIDATIONS + 1)
    held_out = int(per_validation / pace.validation_seconds) if pace.validation_seconds else VALIDATION_ROWS
    held_out = min(VALIDATION_ROWS, config.validation_rows, max(LEAST_VALIDATION_ROWS, held_out))
    left = seconds - (VALIDATIONS + 1) * held_out * pace.validation_seconds
    rows = int(left / pace.row_seconds)
    size = recipe.batch_size
    while size > 1 and rows < LEAST_STEPS * size:
        size //= 2
    if rows < LEAST_STEPS * size:
        return None
    passes = min(recipe.epochs, max(1.0, rows / pace.rows))
    rows = min(rows, pace.rows)
    changed = recipe.changed(
        batch_size=size,
        accumulate=min(recipe.accumulate, size),
        epochs=passes,
        validations=max(1, round(VALIDATIONS / passes)),
    )
    data = config.data if rows == pace.rows else share_of_rows(config.data, rows)
    asked = rows if data == config.data else None  # else the files say how many
    return replace(config, data=data, recipe=changed, validation_rows=held_out, rows=asked)


def share_of_rows(files: Sequence[str], rows: int) -> tuple[str, ...]:
    """The same files, of which the user's own corrections are taken first and the others have to share what is left.

    A count behind a file is of its training examples; validation examples are all taken.
    """
    own = [file for file in files if Path(parse_file_and_count(file)[0]).name == CORRECTIONS]
    others = [file for file in files if file not in own]
    if not own or not others:
        return tuple(files)
    with open(own[0], encoding="utf-8") as lines:
        left = max(0, rows - sum(1 for line in lines if line.strip()))
    return (*own, *(f"{file}:{left // len(others)}" for file in others))


def _middle(examples: Sequence[TokenizedExample], count: int) -> list[TokenizedExample]:
    """So many examples of middle length."""
    ordered = sorted(examples, key=lambda example: len(example.tokens))
    first = max(0, (len(ordered) - count) // 2)
    return ordered[first : first + count]


def _mean_length(examples: Sequence[TokenizedExample]) -> float:
    return sum(len(example.tokens) for example in examples) / len(examples)
