"""One training run: LoRA on a student, with mlx-lm's own trainer.

mlx-lm's layers, step and gradient averaging are used unchanged. This module supplies the loss (of the answer's tokens only;
the output head is computed only there), the batches (every example once an epoch, sorted by length) and the stopping rule:
validation decides when to stop, and the weights of the best validation are kept. The run is divided into stretches between
validations. After each stretch, and when the run is interrupted, its whole state is written. A resumed run ends with the same
weights as one that was never interrupted: the dropout of a step depends on the seed and the step's number alone.

Under `mlx.launch` the processes share each batch. Only the first one writes; the others need no run folder.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memlora_mlx.distill import distributed
from memlora_mlx.distill.checkpoints import (
    STATE,
    Checkpoint,
    TrainerState,
    examples_hash,
    read_checkpoint,
    write_checkpoint,
)
from memlora_mlx.distill.datasets import TokenizedExample, training_batches
from memlora_mlx.distill.lora_layers import (
    add_lora_layers,
    as_matrices,
    have_same_shapes,
    load_start_expert,
    trainable_weights,
)
from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.distill.training_metrics import NAN_LOSS, MetricsPoint, append_point, read_points, write_points
from memlora_mlx.distill.training_step import (
    DropoutKeys,
    batch_arrays,
    gradient_checkpointing,
    learning_rate_schedule,
    masked_loss,
    validation_loss,
)
from memlora_mlx.errors import Cancelled, TrainingFailed
from memlora_mlx.models import cpu_kernels
from memlora_mlx.models.experts import Matrices

import mlx.core as mx  # isort: skip  (memlora_mlx.models prepares it)
import mlx.optimizers as optim  # isort: skip
from mlx.utils import tree_flatten, tree_unflatten  # isort: skip

if TYPE_CHECKING:
    from memlora_mlx.models.student import Student

_BETTER = 1e-4  # a validation loss counts as better if it is lower than the best by more than this


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The trained weights and how the training went."""

    lora_weights: Matrices  # of the best validation
    progress: TrainerState
    points: list[MetricsPoint] = field(default_factory=list)


class Trainer:
    """A training run in a folder of its own: state.safetensors, state.json and metrics.jsonl.

    Args:
        student: used by this run alone; LoRA layers are added to it in place.
        folder: of the run, which must exist. A run whose state is in it is resumed.
        start: the folder of an expert to continue from. Without one, A is random and B zero.
        on_point: called after every step and validation, on this thread, in the first process only.
        cancelled: checked after every step and between the batches of a validation.

    Raises:
        UsageError: the recipe adapts no layer of this student.
        AdapterMismatch: the expert to start from does not fit the student or the recipe.
    """

    def __init__(
        self,
        student: Student,
        recipe: Recipe,
        training: Sequence[TokenizedExample],
        validation: Sequence[TokenizedExample],
        folder: Path,
        *,
        start: Path | None = None,
        on_point: Callable[[MetricsPoint], None] = lambda point: None,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.student, self.recipe, self.folder = student, recipe, folder
        self.training, self.validation = training, validation
        self.progress = TrainerState()
        self.points: list[MetricsPoint] = []
        self._on_point, self._cancelled = on_point, cancelled
        self._rank, self._world = distributed.rank(), distributed.world_size()
        self._per_epoch = -(-len(training) // recipe.batch_size)
        self.steps = max(1, round(self._per_epoch * recipe.epochs))
        self._stretch = max(1, self._per_epoch // recipe.validations)
        self._keys = DropoutKeys()
        add_lora_layers(student, recipe, self._keys)
        if start is not None:
            load_start_expert(student, recipe, start)
        self._optimizer = optim.AdamW(
            learning_rate=learning_rate_schedule(recipe, self.steps),
            betas=list(recipe.betas),
            weight_decay=recipe.weight_decay,
            bias_correction=True,
        )
        self._optimizer.init(student.model.trainable_parameters())
        self._best = trainable_weights(student)

    def train(self) -> TrainingResult:
        """Train until validation stops improving, or all epochs are done.

        Raises:
            Cancelled: `cancelled` was set, in any process; the state is written.
            TrainingFailed: the state cannot be read or written, or the first validation loss is NaN.
        """
        self._examples = _common_examples_hash(self.training, self.validation)
        self._restore()
        mx.reset_peak_memory()
        with gradient_checkpointing(self.student.model, self.recipe.grad_checkpoint), cpu_kernels.with_gradients():
            while self.progress.ended is None:
                is_due = self.progress.step % self._stretch == 0 or self.progress.step == self.steps
                if is_due and self.progress.validated != self.progress.step:
                    self._validate()
                    self._save()
                else:
                    self._train_stretch()
        if math.isinf(self.progress.best_loss):
            raise TrainingFailed(
                "The validation loss is NaN before training. The model is damaged, or its precision is too low; "
                "download it again or use a float32 one."
            )
        return self.result()

    def result(self) -> TrainingResult:
        """The best weights so far, and how the training went."""
        return TrainingResult(as_matrices(self._best), self.progress, self.points)

    # ------------------------------------------------------------------ steps

    def _train_stretch(self) -> None:
        """Train from the current step to the next validation."""
        from mlx_lm.tuner.callbacks import TrainingCallback
        from mlx_lm.tuner.trainer import TrainingArgs, train

        run, started, begun = self, time.perf_counter(), self.progress.step
        before = self.progress.seconds
        count = min(self._stretch - begun % self._stretch, self.steps - begun)
        parts = self.recipe.accumulate

        class Report(TrainingCallback):
            def on_train_loss_report(self, info: dict[str, Any]) -> None:
                run.progress.step = begun + info["iteration"] // parts
                run.progress.seconds = before + time.perf_counter() - started
                run._after_step(info)
                if info["iteration"] == count * parts:
                    raise _StretchDone  # else mlx-lm would write the weights as well

        args = TrainingArgs(
            batch_size=self.recipe.batch_size,
            iters=count * parts,
            steps_per_report=parts,
            steps_per_save=count * parts + 1,
            grad_accumulation_steps=parts,
        )
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # hides mlx-lm's own display; ours follows the callback
                train(
                    self.student.model,
                    self._optimizer,
                    self.training,
                    None,
                    args=args,
                    loss=masked_loss(self.student, self._keys),
                    iterate_batches=self._next_batches,
                    training_callback=Report(),
                )
        except _StretchDone:
            pass
        finally:
            self.student.model.eval()

    def _after_step(self, info: dict[str, Any]) -> None:
        loss = float(info["train_loss"])
        self._write_point(
            MetricsPoint(
                self.progress.step,
                self.steps,
                self.progress.step / self._per_epoch,
                train_loss=loss,
                learning_rate=float(info["learning_rate"]),
                tokens_per_second=self._tokens * info["iterations_per_second"] / self.recipe.accumulate,
                memory_bytes=int(info["peak_memory"] * 1e9),
                seconds=self.progress.seconds,
            )
        )
        if not math.isfinite(loss):
            self.progress.ended = NAN_LOSS
            self._save()
            raise _StretchDone
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if distributed.any_process(self._cancelled is not None and self._cancelled.is_set()):
            self._save()
            raise Cancelled(
                f"Stopped after step {self.progress.step} of at most {self.steps}; use --resume to continue."
            )

    def _validate(self) -> None:
        started, progress = time.perf_counter(), self.progress
        loss = validation_loss(self.student, self.validation, self.recipe.batch_size, before_batch=self._stop_if_asked)
        self._stop_if_asked()  # also notices a process that has ended, without which the sum is not the loss
        progress.seconds += time.perf_counter() - started
        progress.validated = progress.step
        if progress.first_loss is None and math.isfinite(loss):
            progress.first_loss = loss
        if not math.isfinite(loss):
            progress.ended = NAN_LOSS
        elif loss < progress.best_loss - _BETTER:
            progress.best_loss, progress.best_step, progress.worse = loss, progress.step, 0
            self._best = trainable_weights(self.student)
        else:
            progress.worse += 1
        if progress.ended is None and progress.worse >= self.recipe.patience:
            progress.ended = "early stop"
        elif progress.ended is None and progress.step >= self.steps:
            progress.ended = "all epochs"
        self._write_point(
            MetricsPoint(
                progress.step,
                self.steps,
                progress.step / self._per_epoch,
                validation_loss=loss,
                seconds=progress.seconds,
            )
        )

    def _next_batches(self, **_: Any) -> Iterator[tuple[mx.array | None, ...]]:
        """The batches from the current step on, without end."""
        recipe, step, parts = self.recipe, self.progress.step, self.recipe.accumulate
        while True:
            epoch, skip = divmod(step, self._per_epoch)
            seed = 1_000_003 * recipe.seed + epoch
            shares = {"rank": self._rank, "world": self._world, "parts": parts}
            batches = training_batches(self.training, recipe.batch_size, seed=seed, **shares)
            for number, batch in enumerate(itertools.islice(batches, skip * parts, None)):
                self._tokens = batch.read
                part = number % parts
                yield *batch_arrays(self.student, batch), _key(recipe.seed, step, self._rank + self._world * part)
                step += part == parts - 1

    def _write_point(self, point: MetricsPoint) -> None:
        self.points.append(point)
        if self._rank == 0:
            try:
                append_point(self.folder, point)
            except OSError as error:
                raise _write_error(self.folder, error) from error
            self._on_point(point)

    # ------------------------------------------------------------------ state

    def _save(self) -> None:
        if self._rank != 0:
            return
        optimizer = dict(tree_flatten(self._optimizer.state))
        weights = trainable_weights(self.student)
        try:
            write_checkpoint(self.folder, Checkpoint(self.progress, weights, self._best, optimizer, self._examples))
        except (OSError, RuntimeError) as error:
            raise _write_error(self.folder, error) from error

    def _restore(self) -> None:
        """Continue from the state that the first process has written, if there is one."""
        state = self.folder / STATE
        try:
            written = distributed.broadcast(state.read_bytes() if self._rank == 0 and state.is_file() else b"")
            if not written:
                return
            with tempfile.TemporaryDirectory() as scratch:
                if self._rank != 0:
                    state = Path(scratch, state.name)
                    state.write_bytes(written)
                self._use(read_checkpoint(state))
        except (OSError, ValueError, RuntimeError) as error:
            raise TrainingFailed(
                f"Cannot resume the run in {self.folder} ({error}). Start a new run without --resume."
            ) from error
        if self._rank == 0:
            self._drop_later_points()

    def _use(self, checkpoint: Checkpoint) -> None:
        if not have_same_shapes(dict(checkpoint.weights), trainable_weights(self.student)):
            raise ValueError("it has another recipe or student")
        if checkpoint.examples not in (None, self._examples):
            raise ValueError("its training data has changed")
        self.student.model.load_weights(list(checkpoint.weights.items()), strict=False)
        self._best = dict(checkpoint.best)
        self._optimizer.state = tree_unflatten(list(checkpoint.optimizer.items()))
        mx.eval(self.student.model.parameters(), self._optimizer.state, self._best)
        self.progress = checkpoint.progress

    def _drop_later_points(self) -> None:
        """Remove the lines of metrics.jsonl after the state: their steps are done again."""
        self.points = [point for point in read_points(self.folder) if point.step <= self.progress.step]
        try:
            write_points(self.folder, self.points)
        except OSError as error:
            raise _write_error(self.folder, error) from error


class _StretchDone(Exception):
    """Raised to leave mlx-lm's trainer after a stretch of steps."""


def _common_examples_hash(*data: Sequence[TokenizedExample]) -> str:
    """The hash of the examples, which must be the same in all processes: each takes its share of a batch by its own count.

    Raises:
        TrainingFailed: this process has other examples than the first one.
    """
    own = examples_hash(*data)
    if distributed.broadcast(own.encode()) != own.encode():
        raise TrainingFailed(
            "This machine has different training data than the first one. Copy the same files to all machines."
        )
    return own


def _key(seed: int, step: int, rank: int) -> mx.array:
    words = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    key: mx.array = mx.random.key(int(words[0]))
    return key


def _write_error(folder: Path, error: Exception) -> TrainingFailed:
    return TrainingFailed(
        f"Cannot write to {folder} ({error}). The last state written there is intact: free disk space and use --resume."
    )
