"""The hyperparameter search (the paper's Algorithm B1): a grid of training runs for each stage, ranked by the pipeline.

Within a run, the validation loss decides when to stop and which weights to keep. It does not rank the runs: every expert is
used in the pipeline, alone, and measured on the validation conversation. Then combinations of each stage's best experts are
measured, and the best combination is measured once on the test conversations. The state is written after every step, so a
search that was stopped can be resumed.
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
    """A step of a search that begins or has ended."""

    kind: Literal["training", "step", "trained", "failed", "measuring", "measured"]
    what: str  # the candidate or the combination
    done: int  # candidates that were measured or have failed
    total: int  # candidates
    point: MetricsPoint | None = None  # of a step
    scores: MetricValues | None = None  # measured
    reason: str | None = None  # failed


@dataclass(frozen=True, slots=True)
class LeaderboardEntry:
    """A row of the leaderboard."""

    part: Stage | Literal["combination", "test"]
    rank: int | None  # within its part, from 1; None if it has no score
    experts: Combination
    scores: MetricValues | None
    status: Literal["waiting", "trained", "failed", "measured", "kept", "best"]


class Search:
    """A search in a folder of its own: search.json, the folder of a run for each candidate, and at the end `best/`.

    Args:
        load: returns a new student; a run adds its LoRA layers to it in place.
        measure: returns the scores of the pipeline with these experts; the other stages use the base model.
        test: whether there is a test set. It is measured once, at the end, and never again in this folder.
        conditions: what the measurements depend on (files, limits), as JSON. They must be the same to resume.
        on_event: called at every step, on this thread.
        cancelled: checked between steps and while training.
        command: for the experts' cards.

    Raises:
        UsageError: the search cannot be run, or the folder holds another search.
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
            pairs = itertools.product(grid.learning_rates, grid.batch_sizes)
            unique = {candidate.name: candidate for candidate in (Candidate(stage, *pair) for pair in pairs)}
            self.candidates[stage] = [self._state.candidates.setdefault(name, new) for name, new in unique.items()]

    def run(self) -> dict[Stage, Path]:
        """Search to the end. Returns the experts of the best combination, by stage.

        Raises:
            Cancelled: `cancelled` was set; what was done is kept.
            TrainingFailed: every candidate of a stage failed, or nothing can be written.
            BadTrainingData: there is no data to train on, or it has changed since the search began.
        """
        _check_one_process()
        self._state.write(self.folder)
        for stage, candidates in self.candidates.items():
            for candidate in candidates:
                if candidate.failure is None and candidate.validation_loss is None:
                    self._train(candidate)
                if candidate.failure is None:
                    self._validate((candidate,))
            if not self.finalists(stage):
                reasons = "; ".join(f"{one}: {one.failure or f'no {self.plan.metric}'}" for one in candidates)
                raise TrainingFailed(
                    f"Every candidate for {stage} has failed ({reasons}). Try other learning rates or batch sizes."
                )
        for combination in self.combinations():
            self._validate(combination)
        best = self.best()
        if best is None:
            raise TrainingFailed(
                f"No combination has a valid {self.plan.metric} score, so none can be chosen. Try another --metric."
            )
        if self._test and self.test_result is None:
            self._score(best, "test")
        return self._export(best)

    # ------------------------------------------------------------------ results

    @property
    def test_result(self) -> tuple[Combination, MetricValues] | None:
        """The combination that was measured on the test set, and its scores there."""
        return self._state.tested

    def scores(self, combination: Combination) -> MetricValues | None:
        """The pipeline's scores with these experts on the validation conversation; None: not measured."""
        return self._state.scores.get(combination_name(combination))

    def rank(self, combinations: Sequence[Combination]) -> list[Combination]:
        """The combinations that were measured, best first. If scores are equal, the lower validation loss decides."""

        def value(combination: Combination) -> float:
            return (self.scores(combination) or {}).get(self.plan.metric, math.nan)

        def key(combination: Combination) -> tuple[float, float]:
            return -value(combination), sum(candidate.validation_loss or 0.0 for candidate in combination)

        measured = [combination for combination in combinations if math.isfinite(value(combination))]
        return sorted(measured, key=key)

    def finalists(self, stage: Stage) -> list[Candidate]:
        """The stage's best candidates so far."""
        ranked = self.rank([(candidate,) for candidate in self.candidates[stage]])
        return [candidate for (candidate,) in ranked[: self.plan.keep]]

    def combinations(self) -> list[Combination]:
        """All combinations of the stages' finalists; none until all candidates are measured."""
        if not all(map(self._is_done, self._every())):
            return []
        return list(itertools.product(*(self.finalists(stage) for stage in self.candidates)))

    def best(self) -> Combination | None:
        """The best combination; None until all of them are measured."""
        combinations = self.combinations()
        ranked = self.rank(combinations)
        return ranked[0] if ranked and all(self.scores(combination) for combination in combinations) else None

    def _every(self) -> list[Candidate]:
        return [candidate for candidates in self.candidates.values() for candidate in candidates]

    def _is_done(self, candidate: Candidate) -> bool:
        return candidate.failure is not None or self.scores((candidate,)) is not None

    # ------------------------------------------------------------------ steps

    def _train(self, candidate: Candidate) -> None:
        """Train a candidate, or resume its training, and write its result."""
        self._emit("training", str(candidate))
        described = self._expert(candidate) / "adapter_config.json"
        if not described.is_file():  # if it is there, the process was killed before it wrote the result
            candidate.failure = self._train_candidate(candidate)
            _unload_students()
        if candidate.failure is None:
            metrics = json.loads(described.read_text(encoding="utf-8"))["memlora"]["metrics"]
            candidate.validation_loss, candidate.ended = float(metrics["validation_loss"]["expert"]), metrics["ended"]
            if metrics["step"] == 0:  # it kept the weights of the start, which are those of the base model
                candidate.failure = f"no validation was better than the base model's ({candidate.ended})"
        self._state.write(self.folder)
        self._emit("failed" if candidate.failure else "trained", str(candidate), reason=candidate.failure)

    def _train_candidate(self, candidate: Candidate) -> str | None:
        """Train a candidate. Returns the reason if it failed."""
        order = self._grids[candidate.stage].of(candidate.learning_rate, candidate.batch_size)
        folder = self.folder / candidate.name
        create_run(order, folder, self._command)

        def same_data(data: TrainingData, left_out: int) -> None:
            data_hash = f"{data.hash}-{data.validation_hash}"
            if candidate.stage not in self._state.data:
                self._state.data[candidate.stage] = data_hash
                self._state.write(self.folder)
            if self._state.data[candidate.stage] != data_hash:
                raise BadTrainingData(
                    f"The training data for {candidate.stage} has changed since this search began, so its candidates"
                    " cannot be compared. Start a new search in another folder."
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
            if not _is_candidate_failure(error):
                raise
            return str(error).strip().partition("\n")[0] or "out of memory"
        return None

    def _validate(self, combination: Combination) -> None:
        if self.scores(combination) is None:
            self._score(combination, "validation")
        if self.plan.metric not in (scores := self._state.scores[combination_name(combination)]):
            known = ", ".join(sorted(scores))
            raise UsageError(f"There is no metric {self.plan.metric!r}. Use --metric with one of: {known}.")

    def _score(self, combination: Combination, part: MeasuredSplit) -> None:
        subject = f"{'; '.join(map(str, combination))} ({part})"
        self._emit("measuring", subject)
        values = self._measure({candidate.stage: self._expert(candidate) for candidate in combination}, part)
        scores = {name: float(value) for name, value in values.items()}
        _unload_students()
        if part == "test":
            self._state.tested = combination, scores
        else:
            self._state.scores[combination_name(combination)] = scores
        self._state.write(self.folder)
        self._emit("measured", subject, scores=scores)

    def _export(self, best: Combination) -> dict[Stage, Path]:
        """Copy the best experts into one folder, which --experts accepts."""
        chosen = {candidate.stage: self.folder / "best" / candidate.stage for candidate in best}
        try:
            shutil.rmtree(self.folder / "best", ignore_errors=True)
            for candidate in best:
                shutil.copytree(self._expert(candidate), chosen[candidate.stage])
        except OSError as error:  # copytree's error may list many files
            raise TrainingFailed(
                f"Cannot write the experts to {self.folder / 'best'} ({error}). Free disk space and use --resume."
            ) from error
        return chosen

    def _expert(self, candidate: Candidate) -> Path:
        return self.folder / candidate.name / "expert"

    def _emit(self, kind: Any, subject: str, **details: Any) -> None:
        every = self._every()
        self._on_event(SearchEvent(kind, subject, sum(map(self._is_done, every)), len(every), **details))
        if self._cancelled.is_set() and kind != "step":  # a run stops by itself, and writes its state
            raise Cancelled(f"Stopped; the results so far are saved in {self.folder}. Use --resume to continue.")

    def _restore(self) -> None:
        """Continue from the written state. Grids, metric and `keep` may have changed, until the test set was measured."""
        state = read_state(self.folder)
        before, asked = (
            {grid.order.stage: config_to_json(grid.order) for grid in plan.grids} for plan in (state.plan, self.plan)
        )
        if before | asked != asked | before or state.conditions != self._state.conditions:
            raise UsageError(f"{self.folder} contains a search with other settings. Choose another folder with --out.")
        if state.tested and state.plan.as_json() != self.plan.as_json():
            raise UsageError(
                f"The search in {self.folder} already used the test set and cannot continue. Use another folder with --out."
            )
        self._state = state
        self._state.plan = self.plan


def leaderboard(search: Search) -> list[LeaderboardEntry]:
    """The rows of the leaderboard: each stage's candidates, best first; the combinations, if there are several stages; and the
    result on the test set."""
    parts: dict[Any, list[Combination]] = {
        stage: [(candidate,) for candidate in candidates] for stage, candidates in search.candidates.items()
    }
    if len(parts) > 1:
        parts["combination"] = search.combinations()
    entries = []
    for part, combinations in parts.items():
        ranked = search.rank(combinations)
        for experts in ranked + [experts for experts in combinations if experts not in ranked]:
            rank = ranked.index(experts) + 1 if experts in ranked else None
            entries.append(LeaderboardEntry(part, rank, experts, search.scores(experts), _status(search, experts)))
    return entries + ([LeaderboardEntry("test", None, *search.test_result, "best")] if search.test_result else [])


def _status(search: Search, experts: Combination) -> Any:
    if any(candidate.failure for candidate in experts):
        return "failed"
    if search.scores(experts) is None:
        return "trained" if all(candidate.validation_loss is not None for candidate in experts) else "waiting"
    if all(candidate in (search.best() or ()) for candidate in experts):
        return "best"
    return "kept" if len(experts) == 1 and experts[0] in search.finalists(experts[0].stage) else "measured"


def _is_candidate_failure(error: Exception) -> bool:
    """Whether the candidate is the cause, so that another one may succeed. A full disk or a bug is not the candidate's."""
    if isinstance(error, TrainingFailed):
        return not isinstance(error.__cause__, OSError | RuntimeError)
    return isinstance(error, MemoryError) or re.search("alloc|memory", str(error), re.IGNORECASE) is not None


def _check_one_process() -> None:
    """Raises UsageError if `mlx.launch` has started several processes."""
    from memlora_mlx.distill import distributed

    if distributed.world_size() > 1:
        raise UsageError("A search runs in one process. Start it without mlx.launch.")


def _unload_students() -> None:
    """Free the memory of the last student before the next one is loaded."""
    import mlx.core as mx

    gc.collect()
    mx.clear_cache()
