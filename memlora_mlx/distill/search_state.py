"""The settings and the state of a hyperparameter search, and the file search.json that holds both.

The names of the dataclasses' fields are keys of search.json.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from memlora_mlx.distill.recipes import check_recipe
from memlora_mlx.distill.training_config import TrainingConfig, check_splits, config_to_json, without_version
from memlora_mlx.errors import TrainingFailed, UsageError
from memlora_mlx.files import atomic_write
from memlora_mlx.models.typed_json import from_json
from memlora_mlx.records import STAGES, Stage

MetricValues = Mapping[str, float]  # by metric; higher is better

VERSION = 1  # of search.json; a file without a version has this one


@dataclass(frozen=True, slots=True)
class Grid:
    """The training runs of one stage: one configuration, with every learning rate and every batch size."""

    order: TrainingConfig
    learning_rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3)
    batch_sizes: tuple[int, ...] = (4, 8)

    def of(self, learning_rate: float, batch_size: int) -> TrainingConfig:
        return replace(self.order, recipe=self.order.recipe.changed(learning_rate=learning_rate, batch_size=batch_size))


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """The grids of a search, and how its candidates are ranked."""

    grids: tuple[Grid, ...]
    keep: int = 2  # combine this many of the best candidates of each stage with those of the other stages
    metric: str = "f1"  # ranks the candidates; one of the metrics that are measured

    def check(self) -> SearchConfig:
        """The same settings, with the grids in the order of the pipeline.

        Raises:
            UsageError: the search cannot be run.
        """
        grids = sorted(self.grids, key=lambda grid: STAGES.index(grid.order.stage))
        if not grids or len({grid.order.stage for grid in grids}) < len(grids) or self.keep < 1:
            raise UsageError(
                "A search needs one grid for each of its stages, and must keep at least one candidate. Check --stage and --keep."
            )
        for grid in grids:
            pairs = list(itertools.product(grid.learning_rates, grid.batch_sizes))
            if not pairs:
                raise UsageError(f"The grid for {grid.order.stage} is empty. Give a learning rate and a batch size.")
            for pair in pairs:
                check_recipe(grid.of(*pair).recipe)
        return replace(self, grids=tuple(grids))

    def as_json(self) -> dict[str, Any]:
        grids = [
            {
                "order": config_to_json(grid.order),
                "learning_rates": list(grid.learning_rates),
                "batch_sizes": list(grid.batch_sizes),
            }
            for grid in self.grids
        ]
        return {"grids": grids, "keep": self.keep, "metric": self.metric}


@dataclass(slots=True)
class Candidate:
    """One training run of a grid, and its result."""

    stage: Stage
    learning_rate: float
    batch_size: int
    validation_loss: float | None = None  # of the weights it kept; None: training has not finished
    ended: str | None = None  # why its training ended
    failure: str | None = None  # why it cannot be measured

    @property
    def name(self) -> str:
        """Its run's folder, relative to the search's folder."""
        return f"{self.stage}/lr-{self.learning_rate}-batch-{self.batch_size}"

    def __str__(self) -> str:
        return f"{self.stage}, learning rate {self.learning_rate:g}, batch {self.batch_size}"


Combination = tuple[Candidate, ...]  # of different stages; the other stages use the base model


def combination_name(combination: Combination) -> tuple[str, ...]:
    """The names of the candidates, which identify the combination in search.json."""
    return tuple(candidate.name for candidate in combination)


@dataclass(slots=True)
class SearchState:
    """The settings of a search and all its results so far."""

    plan: SearchConfig
    conditions: dict[str, Any]  # what the measurements depend on, as JSON
    data: dict[Stage, str] = field(default_factory=dict)  # the hash of each stage's examples
    candidates: dict[str, Candidate] = field(default_factory=dict)  # by name, including those of an earlier grid
    scores: dict[tuple[str, ...], MetricValues] = field(
        default_factory=dict
    )  # on the validation set, by candidates' names
    tested: tuple[Combination, MetricValues] | None = None

    def write(self, folder: Path) -> None:
        """Write search.json as a whole: a crash leaves the file as it was.

        Raises:
            TrainingFailed: the folder cannot be written.
        """
        value = {
            "version": VERSION,
            "plan": self.plan.as_json(),
            "conditions": self.conditions,
            "data": self.data,
            "candidates": [asdict(candidate) for candidate in self.candidates.values()],
            "measured": [{"experts": experts, "scores": scores} for experts, scores in self.scores.items()],
            "test": self.tested and {"experts": combination_name(self.tested[0]), "scores": self.tested[1]},
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / "search.json", json.dumps(value, indent=1, ensure_ascii=False), private=False)
        except OSError as error:
            raise TrainingFailed(
                f"Cannot write to {folder} ({error.strerror}). The last state written there is intact: "
                "free disk space and use --resume."
            ) from error


def read_state(folder: Path) -> SearchState:
    """The state of the search in a folder.

    Raises:
        UsageError: the folder holds no search, or search.json cannot be read.
    """
    try:
        value = without_version(json.loads((folder / "search.json").read_text(encoding="utf-8")), VERSION)
        return _state(from_json(_SearchFile, value))
    except (OSError, ValueError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{folder} contains no search to resume ({reason}). Remove --resume to start a new one."
        ) from error


@dataclass(frozen=True, slots=True)
class _Measured:
    """The scores of a combination, in search.json."""

    experts: tuple[str, ...]  # names of candidates
    scores: Mapping[str, Any]  # numbers; a metric can be NaN


@dataclass(frozen=True, slots=True)
class _SearchFile:
    """The fields of search.json."""

    plan: SearchConfig
    conditions: Mapping[str, Any]
    data: Mapping[str, str]
    candidates: tuple[Candidate, ...]
    measured: tuple[_Measured, ...]
    test: _Measured | None


def _state(file: _SearchFile) -> SearchState:
    for grid in file.plan.grids:
        check_splits(grid.order)
    candidates = {candidate.name: candidate for candidate in file.candidates}
    scores: dict[tuple[str, ...], MetricValues] = {entry.experts: entry.scores for entry in file.measured}
    tested = (tuple(candidates[name] for name in file.test.experts), file.test.scores) if file.test else None
    data = {stage: file.data[stage] for stage in STAGES if stage in file.data}
    return SearchState(file.plan, dict(file.conditions), data, candidates, scores, tested)
