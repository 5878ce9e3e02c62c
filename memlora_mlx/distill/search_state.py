"""What a search is asked and what it has found so far, as its search.json holds it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from memlora_mlx.distill.recipes import check_recipe
from memlora_mlx.distill.training_runs import TrainingConfig, config_from_json, config_to_json
from memlora_mlx.errors import TrainingFailed, UsageError
from memlora_mlx.files import atomic_write
from memlora_mlx.records import STAGES, Stage

MetricValues = Mapping[str, float]  # by metric; higher is better


@dataclass(frozen=True, slots=True)
class Grid:
    """The trainings of one stage: an order, run with every learning rate and every batch size."""

    order: TrainingConfig
    learning_rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3)
    batch_sizes: tuple[int, ...] = (4, 8)

    def of(self, learning_rate: float, batch_size: int) -> TrainingConfig:
        return replace(self.order, recipe=self.order.recipe.changed(learning_rate=learning_rate, batch_size=batch_size))


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """What is searched, and how it is judged."""

    grids: tuple[Grid, ...]
    keep: int = 2  # candidates of each stage that are combined with the other stages'
    metric: str = "f1"  # one of those that are measured; the others stand beside it

    def check(self) -> SearchConfig:
        """The same, its grids in the order of the pipeline.

        Raises:
            UsageError: it cannot be run.
        """
        grids = sorted(self.grids, key=lambda grid: STAGES.index(grid.order.stage))
        if not grids or len({grid.order.stage for grid in grids}) < len(grids) or self.keep < 1:
            raise UsageError("a search takes one grid for each of its stages, and keeps one candidate or more")
        for grid in grids:
            pairs = list(itertools.product(grid.learning_rates, grid.batch_sizes))
            if not pairs:
                raise UsageError(f"the grid for {grid.order.stage} is empty; give a learning rate and a batch size")
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
    """One training of a grid and what became of it."""

    stage: Stage
    learning_rate: float
    batch_size: int
    validation_loss: float | None = None  # of the weights it kept; None: not trained to its end
    ended: str | None = None  # why its training did
    failure: str | None = None  # why it is not measured

    @property
    def name(self) -> str:
        """Its run's folder, below the search's."""
        return f"{self.stage}/lr-{self.learning_rate}-batch-{self.batch_size}"

    def __str__(self) -> str:
        return f"{self.stage}, learning rate {self.learning_rate:g}, batch {self.batch_size}"


Combination = tuple[Candidate, ...]  # of different stages; a stage without one is the base's


def combination_name(combination: Combination) -> tuple[str, ...]:
    return tuple(candidate.name for candidate in combination)


@dataclass(slots=True)
class SearchState:
    """All that a search knows."""

    plan: SearchConfig
    conditions: dict[str, Any]  # what the measurements depend on, in plain JSON
    data: dict[Stage, str] = field(default_factory=dict)  # the hash of each stage's rows
    candidates: dict[str, Candidate] = field(default_factory=dict)  # by name; those of an earlier grid too
    scores: dict[tuple[str, ...], MetricValues] = field(
        default_factory=dict
    )  # on the validation set, by candidates' names
    tested: tuple[Combination, MetricValues] | None = None

    def write(self, folder: Path) -> None:
        """Write it whole; a crash leaves the one before.

        Raises:
            TrainingFailed: the folder cannot be written.
        """
        text = {
            "plan": self.plan.as_json(),
            "conditions": self.conditions,
            "data": self.data,
            "candidates": [asdict(candidate) for candidate in self.candidates.values()],
            "measured": [{"experts": experts, "scores": scores} for experts, scores in self.scores.items()],
            "test": self.tested and {"experts": combination_name(self.tested[0]), "scores": self.tested[1]},
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / "search.json", json.dumps(text, indent=1, ensure_ascii=False), private=False)
        except OSError as error:
            raise TrainingFailed(
                f"cannot write to {folder} ({error.strerror}); the last state written there is whole: make room and"
                " `--resume`"
            ) from error


def read_state(folder: Path) -> SearchState:
    """The state of the search in a folder.

    Raises:
        UsageError: it holds none.
    """
    try:
        text = json.loads((folder / "search.json").read_text(encoding="utf-8"))
        candidates = {one.name: one for one in (Candidate(**found) for found in text["candidates"])}
        scores = {tuple(found["experts"]): found["scores"] for found in text["measured"]}
        test = text["test"] and (tuple(candidates[name] for name in text["test"]["experts"]), text["test"]["scores"])
        return SearchState(_plan(text["plan"]), text["conditions"], text["data"], candidates, scores, test)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} holds no search to resume ({error}); leave --resume away to begin one") from error


def _plan(text: Mapping[str, Any]) -> SearchConfig:
    grids = [
        Grid(config_from_json(grid["order"]), tuple(grid["learning_rates"]), tuple(grid["batch_sizes"]))
        for grid in text["grids"]
    ]
    return SearchConfig(tuple(grids), text["keep"], text["metric"])
