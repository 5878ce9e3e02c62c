"""The metrics of a training run: one line of metrics.jsonl for each step and each validation. Needs no MLX."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from memlora_mlx.files import atomic_write
from memlora_mlx.json_lines import JsonLines, json_line, read_json_lines
from memlora_mlx.models.typed_json import from_json

METRICS = "metrics.jsonl"
NAN_LOSS = "the loss is NaN"  # why a run ended; a value in state.json and in cards


@dataclass(frozen=True, slots=True)
class MetricsPoint:
    """One line of metrics.jsonl: a training step or a validation."""

    step: int
    steps: int  # the most that the run can take
    epoch: float
    train_loss: float | None = None  # of this step's batch; None if it is NaN
    validation_loss: float | None = None  # of the whole validation set
    learning_rate: float | None = None
    tokens_per_second: float | None = None  # prompt and answer, over all processes
    memory_bytes: int | None = None  # peak
    seconds: float = 0.0  # of training so far, over all parts of a resumed run


def read_points(folder: Path) -> list[MetricsPoint]:
    """The points of a run's metrics.jsonl. A line that is torn or is not a point is left out."""
    return list(_points(folder / METRICS))


def append_point(folder: Path, point: MetricsPoint) -> None:
    """Add a line to metrics.jsonl. Raises OSError."""
    with JsonLines(folder / METRICS) as file:
        file.append(_finite_fields(point))


def write_points(folder: Path, points: list[MetricsPoint]) -> None:
    """Rewrite the whole of metrics.jsonl. Raises OSError."""
    lines = b"".join(json_line(_finite_fields(point)) for point in points)
    atomic_write(folder / METRICS, lines, private=False)


def _points(file: Path) -> Iterator[MetricsPoint]:
    for value in read_json_lines(file):
        try:
            point = from_json(MetricsPoint, value)
        except ValueError:
            continue
        yield point


def _finite_fields(point: MetricsPoint) -> dict[str, float]:
    """The fields of a point that have a value. JSON cannot express NaN."""
    return {name: value for name, value in asdict(point).items() if value is not None and math.isfinite(value)}
