"""The search for experts (Algorithm B1): a grid of trainings for each stage, ranked by what the pipeline makes of them.

Within a training, validation loss decides when to stop and which weights are kept. Between trainings it decides nothing:
every expert is put into the pipeline, alone, and measured on the validation conversation. Combinations of each stage's
best are measured next, and the best of these once on the test conversations. All of it is written down after every step,
so that a search that was killed goes on where it stood.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from memlora_mlx.distill.search_state import (
    Candidate,
    Combination,
    Grid,
    MetricValues,
    SearchConfig,
    SearchState,
    combination_name,
    read_state,
)
from memlora_mlx.distill.training_runs import TrainingData, config_to_json, create_run, train
from memlora_mlx.errors import BadTrainingData, Cancelled, TrainingFailed, UsageError
from memlora_mlx.records import Stage

if TYPE_CHECKING:
    from memlora_mlx.distill.training_metrics import MetricsPoint
    from memlora_mlx.models.student import Student

__all__ = ["Candidate", "Grid", "LeaderboardEntry", "Search", "SearchConfig", "SearchEvent", "leaderboard"]

MeasuredSplit = Literal["validation", "test"]
MeasurePipeline = Callable[[Mapping[Stage, Path], MeasuredSplit], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class SearchEvent:
    """Something a search begins or has done."""

    kind: Literal["training", "step", "trained", "failed", "measuring", "measured"]
    what: str
    done: int  # candidates that are measured or failed
    total: int  # candidates
    point: MetricsPoint | None = None  # of a step
    scores: MetricValues | None = None  # measured
    reason: str | None = None  # failed


@dataclass(frozen=True, slots=True)
class LeaderboardEntry:
    """A line of the leaderboard."""

    part: Stage | Literal["combination", "test"]
    rank: int | None  # within its part, from 1; None where there is nothing to rank by
    experts: Combination
    scores: MetricValues | None
    status: Literal["waiting", "trained", "failed", "measured", "kept", "best"]


class Search:
    """A search in a folder of its own: search.json, a run's folder for each candidate, and at the end `best/`.

    Args:
        load: gives a fresh student; a run adapts its own in place.
        measure: scores the pipeline with these experts, every other stage on the base.
        test: whether there is a test set. It is measured once, when all is chosen, and never again in this folder.
        conditions: what the measurements depend on (files, limits), in plain JSON; a search goes on only under the same.
        on_event: told of every step, on this thread.
        cancelled: looked at between steps and while training.
        command: for the experts' cards.

    Raises:
        UsageError: the plan cannot be run, or the folder holds another search.
    """

    def __init__(
        self,
        folder: Path,
        plan: SearchConfig,
        load: Callable[[], Student],
        measure: MeasurePipeline,
        *,
        test: bool = False,
        conditions: Mapping[str, Any] | None = None,
        on_event: Callable[[SearchEvent], None] = lambda event: None,
        cancelled: threading.Event | None = None,
        command: str = "",
    ) -> None:
        self.folder, self.plan = folder, plan.check()
        self._load, self._measure, self._test, self._command = load, measure, test, command
        self._on_event, self._cancelled = on_event, cancelled or threading.Event()
        self._state = SearchState(self.plan, dict(conditions or {}))
        if (folder / "search.json").is_file():
            self._restore()
        self._grids = {grid.order.stage: grid for grid in self.plan.grids}
        self.candidates: dict[Stage, list[Candidate]] = {}  # by stage, in the order they are trained
        for stage, grid in self._grids.items():
            made = [Candidate(stage, *pair) for pair in itertools.product(grid.learning_rates, grid.batch_sizes)]
            unique = {candidate.name: candidate for candidate in made}
            self.candidates[stage] = [self._state.candidates.setdefault(name, one) for name, one in unique.items()]

    def run(self) -> dict[Stage, Path]:
        """Search to the end. Returns the experts that are best together, by stage.

        Raises:
            Cancelled: `cancelled` was set; what was done is kept.
            TrainingFailed: every candidate of a stage failed, or nothing can be written.
            BadTrainingData: there is nothing to train on, or it has changed since the search began.
        """
        _search_lock()
        self._state.write(self.folder)
        for stage, candidates in self.candidates.items():
            for candidate in candidates:
                if candidate.failure is None and candidate.validation_loss is None:
                    self._train(candidate)
                if candidate.failure is None:
                    self._validate((candidate,))
            if not self.finalists(stage):
                reasons = "; ".join(f"{one}: {one.failure or f'no {self.plan.metric}'}" for one in candidates)
                raise TrainingFailed(f"no candidate for {stage} is left to choose from ({reasons})")
        for combination in self.combinations():
            self._validate(combination)
        best = self.best()
        if best is None:
            raise TrainingFailed(f"no combination's {self.plan.metric} is a number, so there is none to choose")
        if self._test and self.test_result is None:
            self._score(best, "test")
        return self._export(best)

    # ------------------------------------------------------------------ what stands

    @property
    def test_result(self) -> tuple[Combination, MetricValues] | None:
        """The combination that met the test set, and what it scored there."""
        return self._state.tested

    def scores(self, combination: Combination) -> MetricValues | None:
        """Of the pipeline with these experts, on the validation conversation; None: not measured."""
        return self._state.scores.get(combination_name(combination))

    def rank(self, combinations: Sequence[Combination]) -> list[Combination]:
        """Those that were measured, the best first; between equals the lower validation loss decides."""

        def value(one: Combination) -> float:
            return (self.scores(one) or {}).get(self.plan.metric, math.nan)

        def key(one: Combination) -> tuple[float, float]:
            return -value(one), sum(candidate.validation_loss or 0.0 for candidate in one)

        return sorted((one for one in combinations if math.isfinite(value(one))), key=key)

    def finalists(self, stage: Stage) -> list[Candidate]:
        """The stage's best candidates, so far."""
        ranked = self.rank([(candidate,) for candidate in self.candidates[stage]])
        return [candidate for (candidate,) in ranked[: self.plan.keep]]

    def combinations(self) -> list[Combination]:
        """Each kept candidate of a stage with each of the others'; none until all candidates are measured."""
        if not all(map(self._is_done, self._every())):
            return []
        return list(itertools.product(*(self.finalists(stage) for stage in self.candidates)))

    def best(self) -> Combination | None:
        """The best combination; None until all of them are measured."""
        found = self.combinations()
        ranked = self.rank(found)
        return ranked[0] if ranked and all(self.scores(combination) for combination in found) else None

    def _every(self) -> list[Candidate]:
        return [candidate for candidates in self.candidates.values() for candidate in candidates]

    def _is_done(self, candidate: Candidate) -> bool:
        return candidate.failure is not None or self.scores((candidate,)) is not None

    # ------------------------------------------------------------------ steps

    def _train(self, candidate: Candidate) -> None:
        """Train a candidate, or go on with it, and write down what came of it."""
        self._emit("training", str(candidate))
        described = self._expert(candidate) / "adapter_config.json"
        if not described.is_file():  # else it was killed before this was written down
            candidate.failure = self._train_candidate(candidate)
            _unload_students()
        if candidate.failure is None:
            metrics = json.loads(described.read_text(encoding="utf-8"))["memlora"]["metrics"]
            candidate.validation_loss, candidate.ended = float(metrics["validation_loss"]["expert"]), metrics["ended"]
            if metrics["step"] == 0:  # of the weights it kept: those it began with, which are the base's
                candidate.failure = f"no validation was better than the base's ({candidate.ended})"
        self._state.write(self.folder)
        self._emit("failed" if candidate.failure else "trained", str(candidate), reason=candidate.failure)

    def _train_candidate(self, candidate: Candidate) -> str | None:
        """Train a candidate to its end. Returns why it failed, if it did."""
        order = self._grids[candidate.stage].of(candidate.learning_rate, candidate.batch_size)
        folder = self.folder / candidate.name
        create_run(order, folder, self._command)

        def same_data(data: TrainingData, left_out: int) -> None:
            found = f"{data.hash}-{data.validation_hash}"
            if candidate.stage not in self._state.data:
                self._state.data[candidate.stage] = found
                self._state.write(self.folder)
            if self._state.data[candidate.stage] != found:
                raise BadTrainingData(
                    f"the rows for {candidate.stage} have changed since this search began, so its candidates cannot be"
                    " compared; search in another folder"
                )

        try:
            train(
                self._load(),
                order,
                folder,
                on_start=same_data,
                on_point=lambda point: self._emit("step", str(candidate), point=point),
                cancelled=self._cancelled,
                command=self._command,
            )
        except (TrainingFailed, MemoryError, RuntimeError) as error:
            if not _is_of_the_candidate(error):
                raise
            return str(error).strip().partition("\n")[0] or "memory ran out"
        return None

    def _validate(self, combination: Combination) -> None:
        if self.scores(combination) is None:
            self._score(combination, "validation")
        if self.plan.metric not in (scores := self._state.scores[combination_name(combination)]):
            known = ", ".join(sorted(scores))
            raise UsageError(f"there is no metric {self.plan.metric!r} to rank by; measured are {known}")

    def _score(self, combination: Combination, part: MeasuredSplit) -> None:
        what = f"{'; '.join(map(str, combination))} ({part})"
        self._emit("measuring", what)
        found = self._measure({candidate.stage: self._expert(candidate) for candidate in combination}, part)
        scores = {name: float(value) for name, value in found.items()}
        _unload_students()
        if part == "test":
            self._state.tested = combination, scores
        else:
            self._state.scores[combination_name(combination)] = scores
        self._state.write(self.folder)
        self._emit("measured", what, scores=scores)

    def _export(self, best: Combination) -> dict[Stage, Path]:
        """The winners in one folder, as --experts takes it."""
        chosen = {candidate.stage: self.folder / "best" / candidate.stage for candidate in best}
        try:
            shutil.rmtree(self.folder / "best", ignore_errors=True)
            for candidate in best:
                shutil.copytree(self._expert(candidate), chosen[candidate.stage])
        except OSError as error:  # of copytree it may be a list of many
            raise TrainingFailed(f"cannot write the experts to {self.folder / 'best'} ({error}); make room") from error
        return chosen

    def _expert(self, candidate: Candidate) -> Path:
        return self.folder / candidate.name / "expert"

    def _emit(self, kind: Any, what: str, **details: Any) -> None:
        every = self._every()
        self._on_event(SearchEvent(kind, what, sum(map(self._is_done, every)), len(every), **details))
        if self._cancelled.is_set() and kind != "step":  # a run stops itself, and writes its state
            raise Cancelled(f"stopped; what was searched is kept in {self.folder}, and `--resume` goes on from there")

    def _restore(self) -> None:
        """Go on from the written state. Grids, metric and how many are kept may be others, until the test was run."""
        state = read_state(self.folder)
        before, asked = (
            {grid.order.stage: config_to_json(grid.order) for grid in plan.grids} for plan in (state.plan, self.plan)
        )
        if before | asked != asked | before or state.conditions != self._state.conditions:
            raise UsageError(f"{self.folder} holds a search with other settings; choose another folder for this one")
        if state.tested and state.plan.as_json() != self.plan.as_json():
            raise UsageError(f"the search in {self.folder} has seen the test set and is closed; choose another folder")
        self._state = state
        self._state.plan = self.plan


def leaderboard(search: Search) -> list[LeaderboardEntry]:
    """Each stage's candidates, the best first; the combinations, if there are several stages; the one test."""
    parts: dict[Any, list[Combination]] = {
        stage: [(one,) for one in found] for stage, found in search.candidates.items()
    }
    if len(parts) > 1:
        parts["combination"] = search.combinations()
    places = []
    for part, every in parts.items():
        ranked = search.rank(every)
        for one in ranked + [one for one in every if one not in ranked]:
            rank = ranked.index(one) + 1 if one in ranked else None
            places.append(LeaderboardEntry(part, rank, one, search.scores(one), _status(search, one)))
    return places + ([LeaderboardEntry("test", None, *search.test_result, "best")] if search.test_result else [])


def _status(search: Search, one: Combination) -> Any:
    if any(candidate.failure for candidate in one):
        return "failed"
    if search.scores(one) is None:
        return "trained" if all(candidate.validation_loss is not None for candidate in one) else "waiting"
    if all(candidate in (search.best() or ()) for candidate in one):
        return "best"
    return "kept" if len(one) == 1 and one[0] in search.finalists(one[0].stage) else "measured"


def _is_of_the_candidate(error: Exception) -> bool:
    """Whether another candidate may do better: not where the disk is at fault, nor where the code is."""
    if isinstance(error, TrainingFailed):
        return not isinstance(error.__cause__, OSError | RuntimeError)
    return isinstance(error, MemoryError) or re.search("alloc|memory", str(error), re.IGNORECASE) is not None


def _search_lock() -> None:
    """Raises UsageError where `mlx.launch` has started several processes."""
    from memlora_mlx.distill import distributed

    if distributed.world_size() > 1:
        raise UsageError("a search runs in one process; start it without mlx.launch")


def _unload_students() -> None:
    """Give back the memory of a student that is done with, before the next one is loaded."""
    import mlx.core as mx

    gc.collect()
    mx.clear_cache()
