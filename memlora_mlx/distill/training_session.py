"""A training session: all experts of a student, stage after stage, each judged before it is used.

1. Data: what is in the data folder; for a stage that has none, examples are made.
2. Plan: two steps of each stage are measured, and the runs are made as long as the time allows. Where it is not enough for
   all stages, those that have least to gain are left out.
3. The pipeline answers questions about held-out lives with the experts in use.
4. Each stage is trained. An expert that is no better on held-out rows than what it began with is left.
5. The pipeline is measured with each new expert in turn; an expert with which it is worse is left.
6. What is left over is installed, and a report says all of it.

Every step is written to `session.json` before the next begins, so a session that was killed continues where it was.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from memlora_mlx.distill import session_plan, training_runs
from memlora_mlx.distill.session_state import SessionState, StageState
from memlora_mlx.distill.training_config import config_from_json
from memlora_mlx.errors import BadTrainingData, Cancelled, MemloraError, TrainingFailed
from memlora_mlx.records import Stage

if TYPE_CHECKING:
    from memlora_mlx.distill.training_metrics import MetricsPoint
    from memlora_mlx.models.student import Student

RESERVE = 1.1  # times what a measurement of the pipeline took, for the next one
OVERTIME = 1.25  # times a run's planned time, and `SLACK` seconds: then it is stopped and its best weights are taken
SLACK = 20.0
JUDGED_IN_PIPELINE: Sequence[Stage] = ("extraction", "update", "generation")


class SessionParts(Protocol):
    """What a session needs from the rooms above this one."""

    def load(self) -> Student:
        """A new student; a run adds its LoRA layers to it in place."""

    def data(self, stage: Stage) -> Sequence[str]:
        """The training data of a stage, made if there is none. Raises BadTrainingData."""

    def config(self, stage: Stage, files: Sequence[str]) -> training_runs.TrainingConfig:
        """The settings of a run that may take as long as its recipe says."""

    def measure(self, experts: Mapping[Stage, Path], lives: int) -> Sequence[float]:
        """Token F1 (0 to 1) of each question, after the pipeline has read so many lives with these experts."""

    def install(self, stage: Stage, expert: Path, chosen_by: str) -> None:
        """Use this expert from now on. `chosen_by`: what decided for it beside its loss, for its card."""


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """A step of a session that begins or has ended, for the display."""

    text: str = ""  # a line to keep on the screen
    doing: str = ""  # what is being done now
    point: MetricsPoint | None = None  # of a training step of `stage`
    stage: Stage | None = None


class TrainingSession:
    """A session in a folder of its own.

    Args:
        state: a new one, or the one that is in the folder.
        in_use: the experts that are in use at the beginning, by stage.
        on_event: called on this thread.
        cancelled: checked between steps and while training.
    """

    def __init__(
        self,
        folder: Path,
        state: SessionState,
        parts: SessionParts,
        in_use: Mapping[Stage, Path],
        *,
        home: Path,
        on_event: Callable[[SessionEvent], None] = lambda event: None,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.folder, self.state, self.parts, self.home = folder, state, parts, home
        self.in_use = dict(in_use)
        self._on_event, self._cancelled = on_event, cancelled or threading.Event()
        self._since = time.monotonic()

    def run(self) -> SessionState:
        """Do what is not done yet.

        Raises:
            Cancelled: `cancelled` was set; all that was done is kept.
            TrainingFailed: the state cannot be written, or no stage can be trained.
        """
        self._since = time.monotonic()
        self.plan()
        for stage in self.state.stages:
            if stage.outcome == "planned":
                self._train(stage)
        for stage in self.state.stages:
            if stage.outcome == "trained":
                self._judge(stage)
        for stage in self.state.stages:
            if stage.outcome == "kept" and self.state.options.install:
                self.parts.install(stage.stage, self._expert(stage), self._chosen_by(stage))
                stage.outcome = "installed"
                self._save()
        self.state.is_finished = True
        self._save()
        return self.state

    def plan(self) -> None:
        """Find or make the data, measure this machine, and divide the time among the stages."""
        if self.state.is_planned:
            return
        for stage in self.state.stages:
            self._say(doing=f"{stage.stage}: training data")
            self._find_data(stage)
        self._measure_before()
        stages = [stage for stage in self.state.stages if stage.outcome == "planned"]
        paces: dict[Stage, session_plan.StagePace] = {}
        for stage in stages:
            self._say(doing=f"{stage.stage}: measuring two training steps")
            try:
                paces[stage.stage] = session_plan.measure_pace(self.parts.load, config_from_json(stage.config))
            except (BadTrainingData, TrainingFailed) as error:
                stage.outcome, stage.reason = "failed", str(error)
            gc.collect()
            self._save()
        if not paces:
            raise TrainingFailed("; ".join(stage.reason for stage in self.state.stages) or "There is nothing to train.")
        session_plan.plan_stages([one for one in stages if one.stage in paces], paces, self._seconds_for)
        self.state.is_planned = True
        self._save()

    # ------------------------------------------------------------------ steps

    def _find_data(self, stage: StageState) -> None:
        if stage.config is not None or stage.outcome != "planned":
            return
        try:
            stage.files = tuple(self.parts.data(stage.stage))
            stage.config = training_runs.config_to_json(self.parts.config(stage.stage, stage.files))
        except BadTrainingData as error:
            stage.outcome, stage.reason = "failed", str(error)
        self._save()

    def _measure_before(self) -> None:
        """Measure the pipeline with the experts in use: on one life first, whose time says how many there can be."""
        state = self.state
        if state.before is not None:
            return
        if not state.lives:
            self._say(doing="reading a held-out life with the experts in use")
            started = time.monotonic()
            first = tuple(self.parts.measure(self.in_use, 1))
            state.lives = self._affordable_lives(time.monotonic() - started)
            if state.lives == 1:
                state.before = first
            self._save()
        if state.before is not None:
            return
        self._say(doing="asking about held-out lives with the experts in use")
        started = time.monotonic()
        state.before = tuple(self.parts.measure(self.in_use, state.lives))
        state.measure_seconds = time.monotonic() - started
        self._save()

    def _affordable_lives(self, one: float) -> int:
        """How many lives the pipeline can be measured on, if one of them took so many seconds."""
        self.state.measure_seconds = one
        if self.state.options.budget is None:
            return session_plan.MOST_LIVES
        measurements = 1 + len(self.state.stages)
        share = session_plan.MEASURE_SHARE * self.state.options.budget
        return max(1, min(session_plan.MOST_LIVES, int(share / (measurements * max(one, 0.01)))))

    def _seconds_for(self, stages: int) -> float | None:
        """What is left of the budget to train so many stages if the pipeline is measured with each new expert."""
        if self.state.options.budget is None:
            return None
        reserved = RESERVE * self.state.measure_seconds * stages
        return max(0.0, self.state.options.budget - self._spent() - reserved)

    def _train(self, stage: StageState) -> None:
        """Train a stage, or continue its run, and say whether its expert is better on held-out rows."""
        config = config_from_json(stage.config)
        if stage.run is None:
            from datetime import date

            stage.run = str(training_runs.new_run_folder(self.home, stage.stage, date.today()))
            self._save()
        if not training_runs.is_run(Path(stage.run)):
            training_runs.create_run(config, Path(stage.run), self.state.command)
        try:
            self._run(stage, config, Path(stage.run))
        except (BadTrainingData, TrainingFailed) as error:
            stage.outcome, stage.reason = "failed", str(error)
            self._save()
            return
        finally:
            gc.collect()
        self._compare(stage, config)
        self._save()

    def _run(self, stage: StageState, config: training_runs.TrainingConfig, folder: Path) -> None:
        if (folder / "expert" / "adapter_config.json").is_file():  # it was killed before it wrote what came of it
            return
        stopped, limit = threading.Event(), OVERTIME * stage.planned_seconds + SLACK
        before = stage.seconds

        def on_point(point: MetricsPoint) -> None:
            stage.seconds = max(before, point.seconds)
            if point.validation_loss is not None:
                self._save()
            self._say(point=point, stage=stage.stage)
            if self._cancelled.is_set() or (self.state.options.budget and point.seconds > limit):
                stopped.set()

        self._say(doing=f"{stage.stage}: training", stage=stage.stage)
        try:
            training_runs.train(
                self.parts.load(),
                config,
                folder,
                on_point=on_point,
                on_note=lambda line: self._say(f"{stage.stage}: {line}"),
                cancelled=stopped,
                command=self.state.command,
            )
        except Cancelled:
            if self._cancelled.is_set():
                self._save()
                raise Cancelled(
                    f"Stopped; all that was done is saved in {self.folder}. The same command continues."
                ) from None
            stage.reason = (
                f"stopped after {stage.seconds:.0f} s, which is longer than planned; the best weights were taken"
            )

    def _compare(self, stage: StageState, config: training_runs.TrainingConfig) -> None:
        """Compare the loss on held-out rows with that of what the run began with, or of the expert in use."""
        from memlora_mlx.distill.training_metrics import read_points

        folder = Path(stage.run or "")
        losses = [p.validation_loss for p in read_points(folder) if p.validation_loss is not None]
        stage.loss_before, stage.loss_after = (losses[0], min(losses)) if losses else (None, None)
        used = self.in_use.get(stage.stage)
        if used is not None and config.start is None:  # the run began with the base, but the expert is what is in use
            stage.loss_before = held_out_loss(self.parts.load(), config, used) or stage.loss_before
        is_better = stage.loss_before is not None and min(losses) < stage.loss_before
        stage.outcome = "trained" if is_better and self._has_expert(stage) else "no better"

    def _judge(self, stage: StageState) -> None:
        """Measure the pipeline with the new expert beside those kept before it, and keep it if it is not worse."""
        if stage.stage not in JUDGED_IN_PIPELINE:
            stage.outcome = "kept"
            self._save()
            return
        self._say(doing=f"{stage.stage}: asking about held-out lives with the new expert")
        experts = self.kept() | {stage.stage: self._expert(stage)}
        scores = tuple(self.parts.measure(experts, self.state.lives))
        best = next((one.scores for one in reversed(self.state.stages) if one.outcome == "kept" and one.scores), None)
        stage.scores = scores
        stage.outcome = "kept" if mean(scores) >= mean(best or self.state.before or ()) else "rejected"
        self._save()

    def _chosen_by(self, stage: StageState) -> str:
        """What decided for an expert beside its loss, as its card says it."""
        if stage.scores is None or self.state.before is None:
            return ""
        judged = "the file given with --val" if self.state.options.validation else "generated lives"
        return (
            f"token F1 of {len(stage.scores)} questions about {judged}: {100 * mean(stage.scores):.1f} with it, "
            f"{100 * mean(self.state.before):.1f} with the experts in use before"
        )

    def kept(self) -> dict[Stage, Path]:
        """The experts in use, and in their places those of this session that were kept."""
        new = {one.stage: self._expert(one) for one in self.state.stages if one.outcome in ("kept", "installed")}
        return self.in_use | new

    # ------------------------------------------------------------------ inside

    def _has_expert(self, stage: StageState) -> bool:
        return (self._expert(stage) / "adapter_config.json").is_file()

    def _expert(self, stage: StageState) -> Path:
        """The expert of a run; of one that was stopped, the best so far."""
        whole = Path(stage.run or "", "expert")
        return whole if whole.is_dir() else whole.with_name(training_runs.BEST_SO_FAR)

    def _spent(self) -> float:
        """Seconds since the session began, without those in which no process worked on it."""
        now = time.monotonic()
        self.state.seconds += now - self._since
        self._since = now
        return self.state.seconds

    def _save(self) -> None:
        self._spent()
        self.state.write(self.folder)

    def _say(self, text: str = "", **details: Any) -> None:
        self._on_event(SessionEvent(text, **details))
        if self._cancelled.is_set() and "point" not in details:
            self._save()
            raise Cancelled(f"Stopped; all that was done is saved in {self.folder}. The same command continues.")


def held_out_loss(student: Student, config: training_runs.TrainingConfig, expert: Path) -> float | None:
    """The loss of an expert on the validation rows of a run; None if it does not fit the student."""
    from memlora_mlx.distill.datasets import tokenize_examples
    from memlora_mlx.distill.training_step import validation_loss
    from memlora_mlx.models.experts import ExpertTable, read_expert

    data, recipe = training_runs.read_data(config), config.recipe
    rows, _ = tokenize_examples(
        student,
        data.validation,
        longest=min(recipe.max_seq_length, student.context),
        decision_weight=recipe.decision_weight,
        images=data.images,
    )
    try:
        table = ExpertTable(student.model, {config.stage: read_expert(expert, config.stage, student.fingerprint)})
    except MemloraError:
        return None
    table.use(config.stage)
    return validation_loss(student, rows, recipe.batch_size)


def mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores) if scores else 0.0
