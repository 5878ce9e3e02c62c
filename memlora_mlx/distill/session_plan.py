"""The plan of a training session: how fast this machine trains each stage, and how much of it fits into the time.

The speed is measured with two real training steps of each stage, not computed.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
from memlora_mlx.records import Stage
from memlora_mlx.settings import CORRECTIONS

if TYPE_CHECKING:
    from memlora_mlx.distill.datasets import TokenizedExample
    from memlora_mlx.models.student import Student

MEASURED_STEPS = 2
MEASURED_ROWS = 2  # of a step that is measured
VALIDATIONS = 3  # of a run whose length is chosen, beside the one before its first step
VALIDATION_SHARE = 0.3  # of a run's time, at most
LEAST_VALIDATION_ROWS = 8
LEAST_STEPS = 24  # a shorter run teaches nothing: Adam's first steps only find out how large its steps should be
LEAST_BATCH = 2
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
    loss: float  # on some held-out rows before the first step
    memory: int  # bytes of a step, estimated
    recipe: Recipe  # fitted to the memory

    @property
    def row_seconds(self) -> float:
        return self.training * self.row_tokens

    @property
    def validation_seconds(self) -> float:
        return self.validating * self.validation_tokens

    @property
    def least_seconds(self) -> float:
        """What the shortest run takes that is worth its time."""
        trained = LEAST_STEPS * min(LEAST_BATCH, self.recipe.batch_size) * self.row_seconds
        return trained + (VALIDATIONS + 1) * LEAST_VALIDATION_ROWS * self.validation_seconds


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
        batch_size=size, epochs=MEASURED_STEPS * size / len(sample), validations=1, patience=99
    ).changed(accumulate=min(recipe.accumulate, size))
    held_out = _middle(validation, LEAST_VALIDATION_ROWS)
    with tempfile.TemporaryDirectory(prefix="memlora-pace-") as folder:
        start = Path(config.start) if config.start else None
        points = Trainer(student, short, sample, held_out, Path(folder), start=start).train().points
    speeds = [point.tokens_per_second for point in points if point.tokens_per_second]
    validated = [
        point.seconds - before.seconds
        for before, point in itertools.pairwise(points)
        if point.validation_loss is not None
    ]
    read = sum(len(example.tokens) for example in held_out)
    training_pace = 1 / max(speeds, default=1.0)
    return StagePace(
        training_pace,
        min(validated, default=0.0) / read or training_pace / 3,
        _mean_length(training),
        _mean_length(validation),
        len(training),
        next((point.validation_loss for point in points if point.validation_loss is not None), 0.0),
        memory,
        recipe,
    )


def plan_stages(
    stages: Sequence[StageState], paces: Mapping[Stage, StagePace], seconds_for: Callable[[int], float | None]
) -> None:
    """Divide the time among the stages, and fill in the plan of each.

    If it is not enough for a run of each that teaches something, fewer stages are trained: those whose loss on held-out
    rows is highest, since they have most to gain.

    Args:
        seconds_for: the time to train so many stages, each of which must be judged afterwards; None: there is no limit.
    """
    chosen = sorted(stages, key=lambda stage: paces[stage.stage].loss, reverse=True)
    while len(chosen) > 1:
        left = seconds_for(len(chosen))
        if left is None or left >= sum(paces[stage.stage].least_seconds for stage in chosen):
            break
        chosen.pop()
    left = seconds_for(len(chosen))
    least = {stage.stage: paces[stage.stage].least_seconds for stage in chosen}
    for stage in (one for one in stages if one in chosen):
        del least[stage.stage]
        if left is None:
            plan_stage(stage, paces[stage.stage], None)
            continue
        share = max(min(left / (len(least) + 1), left - sum(least.values())), paces[stage.stage].least_seconds)
        plan_stage(stage, paces[stage.stage], share if least else left)
        left -= stage.planned_seconds  # what a stage cannot use is left to the next ones
    for stage in (one for one in stages if one not in chosen):
        _describe(stage, paces[stage.stage])
        stage.outcome = "too long"
        stage.reason = (
            f"the time is enough for {len(chosen)} of {len(stages)} stages, and this one has least to gain"
            f" (loss {paces[stage.stage].loss:.3f} on held-out rows)"
        )


def plan_stage(state: StageState, pace: StagePace, seconds: float | None) -> None:
    """Fill in the plan of a stage: its run, and how long that takes.

    Args:
        state: with the settings of the run if it may take as long as its recipe says.
        seconds: for the run; None: as long as the recipe takes.
    """
    config = config_from_json(state.config)
    _describe(state, pace)
    if seconds is not None:
        fitted = _fit_to_time(config, pace, seconds)
        if fitted is None:
            state.outcome = "too long"
            needed = pace.least_seconds
            state.reason = f"{LEAST_STEPS} steps take {needed:.0f} s, and fewer teach nothing; {seconds:.0f} s are left"
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


def _describe(state: StageState, pace: StagePace) -> None:
    state.tokens_per_second, state.memory, state.available = 1 / pace.training, pace.memory, pace.rows


def _fit_to_time(config: TrainingConfig, pace: StagePace, seconds: float) -> TrainingConfig | None:
    """The settings of a run that takes about so many seconds. None: too few for a run.

    It sees as many rows as fit, once; only where there is time left for more passes, it passes again, at most as often as
    the recipe says. A learning rate falls along the whole of the run, so a run that is planned short is better than one
    that is cut.
    """
    recipe = config.recipe
    spare = seconds - LEAST_STEPS * min(LEAST_BATCH, recipe.batch_size) * pace.row_seconds
    per_validation = min(VALIDATION_SHARE * seconds, spare) / (VALIDATIONS + 1)
    held_out = int(per_validation / pace.validation_seconds) if pace.validation_seconds else VALIDATION_ROWS
    held_out = min(VALIDATION_ROWS, config.validation_rows, max(LEAST_VALIDATION_ROWS, held_out))
    left = seconds - (VALIDATIONS + 1) * held_out * pace.validation_seconds
    rows = int(left / pace.row_seconds + 1e-6)
    size = recipe.batch_size
    while size > LEAST_BATCH and rows < LEAST_STEPS * size:
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
