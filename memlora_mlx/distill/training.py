"""One training run: LoRA on a student, by mlx-lm's own trainer.

mlx-lm's layers, step and gradient averaging are used as they are. Injected are the loss (of the answer's tokens only, the
head computed only there), the batches (every example once an epoch, sorted by length) and the end: validation decides when
to stop, and the weights that were best then are the ones kept. The run is cut into stretches between validations; after
each, and when it is interrupted, all of its state is written, and a resumed run continues to the same weights: what a step
drops out depends on nothing but the seed and the step's number.

Under `mlx.launch` the processes share each batch. The first one alone writes; the others need no run folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memlora_mlx.distill import distributed
from memlora_mlx.distill.datasets import TokenizedExample, training_batches
from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.distill.training_step import (
    Dropout,
    DropoutKeys,
    batch_arrays,
    gradient_checkpointing,
    learning_rate_schedule,
    masked_loss,
    validation_loss,
)
from memlora_mlx.errors import AdapterMismatch, Cancelled, TrainingFailed, UsageError
from memlora_mlx.files import atomic_paths, atomic_write
from memlora_mlx.json_lines import JsonLines, json_line, read_json_lines
from memlora_mlx.models import cpu_kernels
from memlora_mlx.models.experts import Matrices, adapted_layers, read_expert
from memlora_mlx.models.safetensors_files import load_arrays_and_words

import mlx.core as mx  # isort: skip  (memlora_mlx.models prepares it)
import mlx.optimizers as optim  # isort: skip
from mlx.utils import tree_flatten, tree_unflatten  # isort: skip

if TYPE_CHECKING:
    from memlora_mlx.models.student import Student

_BETTER = 1e-4  # by how much a validation loss must be below the best to count
NAN_LOSS = "the loss became no number"


@dataclass(frozen=True, slots=True)
class MetricsPoint:
    """One line of metrics.jsonl: where the run stands."""

    step: int
    steps: int  # at most
    epoch: float
    train_loss: float | None = None  # of this step's batch
    validation_loss: float | None = None  # of the whole validation set
    learning_rate: float | None = None
    tokens_per_second: float | None = None  # prompt and answer, over all processes
    memory_bytes: int | None = None  # at its peak
    seconds: float = 0.0  # since the run began, over all its parts


@dataclass(slots=True)
class TrainerState:
    """What a run must know to go on; written with the weights."""

    step: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    worse: int = 0  # validations since the best
    first_loss: float | None = None  # of the untrained expert, which is the base
    validated: int = -1  # the step of the last validation
    ended: str | None = None  # "all epochs", "early stop", or NO_NUMBER


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The trained expert and how it came about."""

    lora_weights: Matrices  # the best ones
    progress: TrainerState
    points: list[MetricsPoint] = field(default_factory=list)


class Trainer:
    """A training run in a folder of its own: state.safetensors, state.json and metrics.jsonl.

    Args:
        student: held by this run alone; its layers are adapted in place.
        folder: of the run, made by the caller; one with a state in it is resumed.
        start: an expert's folder to go on from; without one, A is random and B zero.
        on_point: told of every step and validation, on this thread, in the first process only.
        cancelled: looked at after every step and between the batches of a validation.

    Raises:
        UsageError: the recipe adapts no layer of this student.
        AdapterMismatch: the expert to start from adapts other layers, or in another rank.
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
        self._adapt()
        if start is not None:
            self._load_start_expert(start)
        self._optimizer = optim.AdamW(
            learning_rate=learning_rate_schedule(recipe, self.steps),
            betas=list(recipe.betas),
            weight_decay=recipe.weight_decay,
            bias_correction=True,
        )
        self._optimizer.init(student.model.trainable_parameters())
        self._best = self._weights()

    def train(self) -> TrainingResult:
        """Train until validation stops improving, or all epochs are done.

        Raises:
            Cancelled: `cancelled` was set, in any process; the state is written.
            TrainingFailed: the state cannot be read or written, or no validation ever gave a number.
        """
        self._same_everywhere()
        self._restore()
        mx.reset_peak_memory()
        with gradient_checkpointing(self.student.model, self.recipe.grad_checkpoint), cpu_kernels.with_gradients():
            while self.progress.ended is None:
                at_border = self.progress.step % self._stretch == 0 or self.progress.step == self.steps
                if at_border and self.progress.validated != self.progress.step:
                    self._validate()
                    self._save()
                else:
                    self._train_stretch()
        if math.isinf(self.progress.best_loss):
            raise TrainingFailed(
                "the student's loss on the validation rows is no number before any training; the model is damaged, or its"
                " precision too low"
            )
        return self.result()

    def result(self) -> TrainingResult:
        """The best weights so far, and how they came about."""
        matrices = {
            name.removesuffix(".lora_a"): (array, self._best[name.removesuffix("a") + "b"])
            for name, array in self._best.items()
            if name.endswith(".lora_a")
        }
        return TrainingResult(matrices, self.progress, self.points)

    # ------------------------------------------------------------------ inside

    def _adapt(self) -> None:
        from mlx_lm.tuner.utils import linear_to_lora_layers

        model, recipe = self.student.model, self.recipe
        mx.random.seed(recipe.seed)
        model.freeze()
        chosen = {id(module) for block in model.layers[-max(recipe.num_layers, 0) :] for module in block.modules()}
        modules = dict(model.named_modules())
        keys = [name for name in adapted_layers(model, recipe.keys) if id(modules[name]) in chosen]
        if not keys:
            raise UsageError(
                f"the student has no linear layer called {' or '.join(recipe.keys)}; choose others to adapt"
            )
        config = {"rank": recipe.rank, "scale": recipe.scale, "dropout": recipe.dropout, "keys": keys}
        linear_to_lora_layers(model, -1, config)
        adapted = dict(model.named_modules())
        for number, name in enumerate(keys):
            adapted[name].dropout = Dropout(recipe.dropout, self._keys, number)
        mx.eval(model.parameters())

    def _load_start_expert(self, start: Path) -> None:
        expert = read_expert(start, self.recipe.stage, self.student.fingerprint)
        arrays: dict[str, mx.array] = {}
        for name, (a, b) in expert.matrices.items():
            arrays[f"{name}.lora_a"] = a.astype(mx.float32)
            arrays[f"{name}.lora_b"] = b.astype(mx.float32) / self.recipe.scale  # an expert's own scale is in it
        if {n: a.shape for n, a in arrays.items()} != {n: a.shape for n, a in self._weights().items()}:
            raise AdapterMismatch(f"the expert in {start} adapts other layers than this recipe, or in another rank")
        self.student.model.load_weights(list(arrays.items()), strict=False)
        mx.eval(self.student.model.parameters())

    def _train_stretch(self) -> None:
        """From where the run stands to the next validation."""
        from mlx_lm.tuner.callbacks import TrainingCallback
        from mlx_lm.tuner.trainer import TrainingArgs, train

        run, started, begun = self, time.perf_counter(), self.progress.step
        before = self.progress.seconds
        count = min(self._stretch - begun % self._stretch, self.steps - begun)

        class Report(TrainingCallback):
            def on_train_loss_report(self, info: dict[str, Any]) -> None:
                run.progress.step = begun + info["iteration"]
                run.progress.seconds = before + time.perf_counter() - started
                run._after_step(info)
                if info["iteration"] == count:
                    raise _StretchDone  # else it would write the weights once more

        args = TrainingArgs(
            batch_size=self.recipe.batch_size,
            iters=count,
            steps_per_report=1,
            steps_per_save=count + 1,
        )
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # its own display; ours is fed by the callback
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
                tokens_per_second=self._tokens * info["iterations_per_second"],
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
                f"stopped after step {self.progress.step} of at most {self.steps}; `--resume` goes on from there"
            )

    def _validate(self) -> None:
        started, progress = time.perf_counter(), self.progress
        loss = validation_loss(self.student, self.validation, self.recipe.batch_size, before_batch=self._stop_if_asked)
        self._stop_if_asked()  # nor is a sum without a process that has ended a loss
        progress.seconds += time.perf_counter() - started
        progress.validated = progress.step
        if progress.first_loss is None and math.isfinite(loss):
            progress.first_loss = loss
        if not math.isfinite(loss):
            progress.ended = NAN_LOSS
        elif loss < progress.best_loss - _BETTER:
            progress.best_loss, progress.best_step, progress.worse = loss, progress.step, 0
            self._best = self._weights()
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
        """The batches from where the run stands."""
        recipe, step = self.recipe, self.progress.step
        while True:
            epoch, skip = divmod(step, self._per_epoch)
            seed = 1_000_003 * recipe.seed + epoch
            passing = training_batches(self.training, recipe.batch_size, seed=seed, rank=self._rank, world=self._world)
            for batch in itertools.islice(passing, skip, None):
                self._tokens = batch.read
                yield *batch_arrays(self.student, batch), _key(recipe.seed, step, self._rank)
                step += 1

    def _write_point(self, point: MetricsPoint) -> None:
        self.points.append(point)
        if self._rank == 0:
            try:
                with JsonLines(self.folder / "metrics.jsonl") as file:
                    file.append(_known(point))
            except OSError as error:
                raise _write_error(self.folder, error) from error
            self._on_point(point)

    # ------------------------------------------------------------------ state

    def _weights(self) -> dict[str, mx.array]:
        return dict(tree_flatten(self.student.model.trainable_parameters()))

    def _save(self) -> None:
        """Write the whole state; a crash leaves the one before."""
        if self._rank != 0:
            return
        arrays = {f"weights.{name}": array for name, array in self._weights().items()}
        arrays |= {f"best.{name}": array for name, array in self._best.items()}
        arrays |= {f"optimizer.{name}": array for name, array in tree_flatten(self._optimizer.state)}
        words = {"progress": json.dumps(asdict(self.progress)), "examples": self._examples}
        try:
            with atomic_paths(self.folder / "state.safetensors") as (state,):
                mx.save_safetensors(str(state), arrays, metadata=words)
            (self.folder / "state.json").write_text(json.dumps(asdict(self.progress), indent=1), encoding="utf-8")
        except (OSError, RuntimeError) as error:
            raise _write_error(self.folder, error) from error

    def _same_everywhere(self) -> None:
        """All processes must have the same rows: each takes its share of a batch by its own count."""
        self._examples = _digest(self.training, self.validation)
        if distributed.broadcast(self._examples.encode()) != self._examples.encode():
            raise TrainingFailed(
                "this machine has other training rows than the first one; copy the teacher data to all of them"
            )

    def _restore(self) -> None:
        """Go on from the first process's written state, if there is one."""
        state = self.folder / "state.safetensors"
        try:
            written = distributed.broadcast(state.read_bytes() if self._rank == 0 and state.is_file() else b"")
            if not written:
                return
            with tempfile.TemporaryDirectory() as scratch:
                if self._rank != 0:
                    state = Path(scratch, state.name)
                    state.write_bytes(written)
                self._read_state(state)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise TrainingFailed(
                f"the run in {self.folder} cannot be resumed ({error}); start anew without --resume"
            ) from error
        if self._rank == 0:
            self._drop_later_points()

    def _read_state(self, state: Path) -> None:
        # The numbers are read from the file with the weights, so that they belong together.
        arrays, words = load_arrays_and_words(state)
        progress = TrainerState(**json.loads(words["progress"]))
        parts: dict[str, dict[str, mx.array]] = {"weights": {}, "best": {}, "optimizer": {}, "random": {}}
        for name, array in arrays.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = array
        if {n: a.shape for n, a in parts["weights"].items()} != {n: a.shape for n, a in self._weights().items()}:
            raise ValueError("it is of another recipe or student")
        if words.get("examples", self._examples) != self._examples:
            raise ValueError("its rows have changed since")
        self.student.model.load_weights(list(parts["weights"].items()), strict=False)
        self._best = parts["best"]
        self._optimizer.state = tree_unflatten(list(parts["optimizer"].items()))
        mx.eval(self.student.model.parameters(), self._optimizer.state, self._best)
        self.progress = progress

    def _drop_later_points(self) -> None:
        """Drop the lines of metrics.jsonl after the state: what they tell of is done again."""
        self.points = [point for point in read_points(self.folder) if point.step <= self.progress.step]
        try:
            lines = b"".join(json_line(_known(point)) for point in self.points)
            atomic_write(self.folder / "metrics.jsonl", lines, private=False)
        except OSError as error:
            raise _write_error(self.folder, error) from error


def read_points(folder: Path) -> list[MetricsPoint]:
    """The lines of a run's metrics.jsonl; one that a kill has torn is left out."""
    return [MetricsPoint(**point) for point in read_json_lines(folder / "metrics.jsonl")]


# ------------------------------------------------------------------------------------------------ small parts


class _StretchDone(Exception):
    """A stretch is done."""


def _key(seed: int, step: int, rank: int) -> mx.array:
    words = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    key: mx.array = mx.random.key(int(words[0]))
    return key


def _digest(*data: Sequence[TokenizedExample]) -> str:
    digest = hashlib.sha256()
    for examples in data:
        digest.update(len(examples).to_bytes(8))
        for example in examples:
            digest.update(example.prompt.to_bytes(8) + example.tokens.tobytes() + example.weights.tobytes())
    return digest.hexdigest()[:16]


def _known(point: MetricsPoint) -> dict[str, float]:
    """A line of metrics.jsonl. A loss that is no number is left out: JSON has no word for it."""
    return {name: value for name, value in asdict(point).items() if value is not None and math.isfinite(value)}


def _write_error(folder: Path, error: Exception) -> TrainingFailed:
    return TrainingFailed(
        f"cannot write to {folder} ({error}); the last state written there is whole: make room and `--resume`"
    )
