"""What `memlora train` prints: the progress of a run, and its result."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memlora_mlx.cli.console import print_json, stderr_console
from memlora_mlx.cli.progress import ProgressLine
from memlora_mlx.text import format_duration

if TYPE_CHECKING:
    from memlora_mlx.distill.training_metrics import MetricsPoint
    from memlora_mlx.distill.training_runs import TrainingConfig, TrainingData


class TrainingProgress(ProgressLine):
    """The progress of a run: a live line on a terminal, a line every 30 seconds elsewhere.

    Args:
        before: the measurements of a run that is resumed.
    """

    def __init__(self, config: TrainingConfig, before: Sequence[MetricsPoint], *, quiet: bool) -> None:
        width = stderr_console().width
        super().__init__(
            config.stage, "reading the examples", bar_width=6 if width < 110 else 16, every=30.0, quiet=quiet
        )
        self._is_narrow = self.is_live and width < 110
        self._stage = config.stage
        self._beginning = _beginning(config)
        self._started: tuple[int, float] | None = None  # steps and seconds at this process's first step
        validated = [point.validation_loss for point in before if point.validation_loss is not None]
        self._best: float | None = min(validated, default=None)
        self._last: float | None = validated[-1] if validated else None

    def start(self, data: TrainingData, left_out: int) -> None:
        count = len(data.training) - left_out
        teachers = ", ".join(data.origin["teachers"])
        self.print(
            f"{self._stage}: {count} examples to train on, {len(data.validation)} to validate with, by {teachers}"
        )
        self.update(details=f"measuring {self._beginning}")
        if blind := data.origin.get("rows_without_image"):
            self.print(f"{blind} examples skipped: their images are missing or have changed.")
        if left_out:
            self.print(f"{left_out} examples are longer than --max-seq-length and were skipped.")

    def show(self, point: MetricsPoint) -> None:
        place = f"{self._stage}: step {point.step} of at most {point.steps}"
        if point.validation_loss is not None:
            best = self._best is None or point.validation_loss < self._best
            self._best, self._last = (
                min(point.validation_loss, self._best or point.validation_loss),
                point.validation_loss,
            )
            mark = f", {self._beginning}" if point.step == 0 else ", the best so far" if best else ""
            self.print(f"{place}: validation loss {point.validation_loss:.4f}{mark}")
            return
        if self._started is None:
            self._started = point.step, point.seconds
        says = self._details(point)
        self.update(completed=point.step, total=point.steps, details=says)
        self.log_every(point.seconds, f"{place}: {says}")

    def _details(self, point: MetricsPoint) -> str:
        narrow = self._is_narrow
        parts = ["loss NaN" if point.train_loss is None else f"loss {point.train_loss:.3f}"]
        if self._best is not None:
            both = f"validation {self._last:.3f} (best {self._best:.3f})"
            parts.append(f"best {self._best:.2f}" if narrow else both)
        pace = f"{point.tokens_per_second or 0:.0f} {'tok/s' if narrow else 'tokens/s'}"
        parts += [pace, f"{(point.memory_bytes or 0) / 1e9:.1f} GB"]
        step, seconds = self._started or (point.step, point.seconds)
        if point.step > step:
            left = (point.steps - point.step) * (point.seconds - seconds) / (point.step - step)
            parts.append(f"{format_duration(left)} left")
        return ", ".join(parts)

    def print(self, line: str, style: str | None = "dim") -> None:
        super().print(line, style)


def _beginning(config: TrainingConfig) -> str:
    """What a run's first validation measures."""
    return "the expert it began with" if config.start else "the base"


def print_training_result(config: TrainingConfig, folder: Path, expert: Path, as_json: bool) -> None:
    """Print the result and the next command to standard output, the loss curve to standard error.

    Raises:
        TrainingFailed: the loss became NaN.
    """
    from memlora_mlx.distill.training_metrics import NAN_LOSS
    from memlora_mlx.errors import TrainingFailed
    from memlora_mlx.models.adapter_registry import read_card
    from memlora_mlx.models.cards import TrainingMetrics
    from memlora_mlx.models.typed_json import to_json

    card = read_card(expert)
    metrics, student = card.metrics or TrainingMetrics(), card.base.name if card.base else config.student
    loss, ended, is_better = metrics.validation_loss, metrics.ended, bool(metrics.step)
    first = math.nan if metrics.first_loss is None else metrics.first_loss
    beginning = _beginning(config)
    _draw_curve(config, folder, curve=not as_json)
    if ended == NAN_LOSS:
        saved = f"The best weights, from step {metrics.step}, are in {expert}."
        nothing = f"No validation was better than {beginning}, so no expert was written."
        raise TrainingFailed(
            f"Training stopped: the loss is NaN at step {metrics.steps}. Lower --learning-rate (now"
            f" {config.recipe.learning_rate:g}). {saved if is_better else nothing}"
        )
    if as_json:
        print_json(
            {
                "stage": config.stage,
                "student": student,
                "run": str(folder),
                "expert": str(expert),
                "is_better": is_better,
                **to_json(metrics),
            }
        )
        return
    typer.echo(
        f"{config.stage} expert for {student}: validation loss {first:.4f} ({beginning}) -> {loss['expert']:.4f}, "
        f"best at step {metrics.step} of {metrics.steps} ({ended}, {format_duration(metrics.seconds or 0)})"
    )
    if is_better:
        typer.echo(f"{expert}\nTo use it from now on: memlora adapters install {shlex.quote(str(expert))}")
        shown = " --image FILE" if config.stage == "vqa" else ""
        typer.echo(f"To use it once: memlora ask QUESTION{shown} --experts {shlex.quote(str(expert))}")
    else:
        typer.echo(
            f"The expert is no better than {beginning}, so do not install it. Try more examples or another --learning-rate."
        )


def _draw_curve(config: TrainingConfig, folder: Path, *, curve: bool) -> None:
    from memlora_mlx.distill.loss_curves import terminal_loss_curve, write_loss_png
    from memlora_mlx.distill.training_metrics import read_points

    console, points = stderr_console(), read_points(folder)
    if curve:
        typer.echo(terminal_loss_curve(points, colours=console.is_terminal, width=min(console.width, 100)), err=True)
    try:
        write_loss_png(points, folder / "loss.png", f"{config.stage}, {config.student}")
    except OSError as error:
        console.print(
            f"Cannot write {folder / 'loss.png'}: {error.strerror}. All other files are written.", markup=False
        )
