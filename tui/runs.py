"""Training runs as the Train screen lists them: configuration, metrics and state."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from memlora_mlx.errors import MemloraError

if TYPE_CHECKING:
    from memlora_mlx.distill.training_metrics import MetricsPoint
    from memlora_mlx.distill.training_runs import TrainingConfig

RunState = Literal["training", "stopped", "done", "damaged"]


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A training run, read from its folder."""

    folder: Path
    config: TrainingConfig | None  # None if run.json cannot be read
    points: tuple[MetricsPoint, ...]
    state: RunState
    ended: str | None = None  # "early stop", "all epochs", or an error
    problem: str | None = None

    @property
    def expert(self) -> Path | None:
        """The folder of its expert; of a stopped run, the best expert so far."""
        from memlora_mlx.distill.training_runs import BEST_SO_FAR

        for name in ("expert", BEST_SO_FAR):
            if (self.folder / name / "adapter_config.json").is_file():
                return self.folder / name
        return None

    @property
    def best(self) -> MetricsPoint | None:
        """The point with the lowest validation loss."""
        found = [point for point in self.points if point.validation_loss is not None]
        return min(found, key=lambda point: point.validation_loss or 0.0) if found else None


def runs(home: Path) -> list[Path]:
    """The folders of all runs, newest first."""
    found = []
    for written in (home / "runs").glob("*/run.json"):
        with contextlib.suppress(OSError):  # a run that fails removes its folder
            found.append((written.stat().st_mtime, written.parent))
    return [folder for _, folder in sorted(found, reverse=True)]


def read(folder: Path) -> TrainingRun:
    """Read a run's folder. A damaged one has the state "damaged"; nothing is raised."""
    from memlora_mlx.distill.training_metrics import read_points
    from memlora_mlx.distill.training_runs import read_run_config
    from memlora_mlx.models.adapter_registry import read_card

    config = None
    try:
        config = read_run_config(folder)
        points = tuple(read_points(folder))
        if is_training(folder):
            return TrainingRun(folder, config, points, "training")
        if not (folder / "expert" / "adapter_config.json").is_file():
            return TrainingRun(folder, config, points, "stopped")
        metrics = read_card(folder / "expert").metrics
        ended = metrics.ended if metrics else None
        return TrainingRun(folder, config, points, "done", ended)
    except (MemloraError, OSError, ValueError, TypeError) as error:
        return TrainingRun(folder, config, (), "damaged", problem=str(error))


def is_training(folder: Path) -> bool:
    """Whether any process trains in this folder."""
    import filelock

    from memlora_mlx.distill.training_runs import LOCK

    if not (folder / LOCK).exists():
        return False
    try:
        filelock.FileLock(folder / LOCK).acquire(timeout=0).lock.release()
    except filelock.Timeout:
        return True
    except OSError:
        return False
    return False
