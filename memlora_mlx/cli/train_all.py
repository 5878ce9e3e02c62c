"""`memlora train`: what a training session needs from the other rooms, and what is shown of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memlora_mlx.cli.console import interrupt_event, open_workspace, print_json, require_files
from memlora_mlx.cli.progress import ProgressLine
from memlora_mlx.cli.training_inputs import absolute_student
from memlora_mlx.text import format_duration

if TYPE_CHECKING:
    from memlora_mlx.distill.session_state import SessionOptions, SessionState
    from memlora_mlx.distill.training_config import TrainingConfig
    from memlora_mlx.distill.training_session import SessionEvent
    from memlora_mlx.eval.experts.generated_lives import PipelineMeasure
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.models.student import Student
    from memlora_mlx.records import Stage

# Dialogues to make for each minute of a budget, on a CPU and on a GPU: no more than can be trained on in that time.
DIALOGUES_PER_MINUTE = (0.5, 5.0)
FEWEST_DIALOGUES = 6
VALIDATION_SHARE = 3  # a dialogue for validation beside so many for training


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What the user asked for."""

    budget: str | None
    locomo: Path | None
    validation: Path | None
    install: bool
    new: bool
    plan_only: bool


def run_session(request: SessionRequest, *, student: str | None, command: str, as_json: bool) -> None:
    """Begin a session or continue one, and print its report."""
    from memlora_mlx.distill import distributed
    from memlora_mlx.distill.training_session import TrainingSession
    from memlora_mlx.errors import UsageError
    from memlora_mlx.extras import require

    require("train", "training")
    if distributed.world_size() > 1:
        raise UsageError(
            "A session runs in one process. Under mlx.launch, train one stage: memlora train --stage STAGE."
        )
    with open_workspace(student=student) as opened, interrupt_event() as cancelled:
        folder, state = _session(request, opened, command)
        with SessionProgress() as display:
            parts = _Parts(opened, state.options, _measure(opened, folder, cancelled), cancelled)
            session = TrainingSession(
                folder,
                state,
                parts,
                opened.expert_folders,
                home=opened.settings.home,
                on_event=display.show,
                cancelled=cancelled,
            )
            is_known = any(stage.config for stage in state.stages)
            display.print(f"session{', continued with the settings it began with' if is_known else ''}: {folder}")
            session.plan()
            for line in plan_lines(state):
                display.print(line, style=None)
            if request.plan_only:
                return
            session.run()
    _finish(folder, state, as_json)


def plan_lines(state: SessionState) -> list[str]:
    """The plan: sizes, memory and time of each stage, all from what was measured on this machine."""
    lines = []
    for stage in state.stages:
        if stage.outcome in ("too long", "failed"):
            lines.append(f"{stage.stage}: {stage.reason}")
        elif stage.config is not None:
            rows = min(int(stage.config["rows"] or stage.available), stage.available)
            lines.append(
                f"{stage.stage}: {rows} of {stage.available} examples, at most {stage.steps} steps, {stage.memory / 1e9:.1f} GB, "
                f"{stage.tokens_per_second or 0:.0f} tokens a second, about {format_duration(stage.planned_seconds)}"
            )
    whole = sum(stage.planned_seconds for stage in state.stages) + state.seconds
    whole += state.measure_seconds * sum(stage.outcome not in ("too long", "failed") for stage in state.stages)
    lines.append(
        f"in all: about {format_duration(whole)}, of which {format_duration(state.seconds)} were spent on data and measuring"
    )
    return lines


class SessionProgress(ProgressLine):
    """The live line of a session on a terminal; elsewhere a line for each thing that begins, and one every 30 seconds."""

    def __init__(self) -> None:
        super().__init__("training", "", bar_width=8, every=30.0)
        self._begun = time.monotonic()

    def show(self, event: SessionEvent) -> None:
        if event.text:
            self.print(event.text)
        if event.doing:
            self.update(description=event.doing, details="", completed=0, total=None)
            if not self.is_live:
                self.print(event.doing)
        if (point := event.point) is None:
            return
        place = f"{event.stage}: step {point.step} of at most {point.steps}"
        if point.validation_loss is not None:
            self.print(f"{place}: loss on held-out rows {point.validation_loss:.4f}")
            return
        says = f"loss {point.train_loss or 0:.3f}, {point.tokens_per_second or 0:.0f} tokens/s"
        self.update(completed=point.step, total=point.steps, details=says)
        self.log_every(time.monotonic() - self._begun, f"{place}: {says}")

    def print(self, line: str, style: str | None = "dim") -> None:
        super().print(line, style)


def _session(request: SessionRequest, opened: Workspace, command: str) -> tuple[Path, SessionState]:
    """The session to continue, or a new one."""
    from memlora_mlx.distill.session_state import (
        SessionState,
        StageState,
        new_session_folder,
        read_session,
        unfinished_session,
    )
    from memlora_mlx.models.device import describe_device
    from memlora_mlx.records import STAGES

    home = opened.settings.home
    name = absolute_student(opened.student_name, home)
    if not request.new and (folder := unfinished_session(home, name)) is not None:
        return folder, read_session(folder)
    stages = tuple(StageState(stage) for stage in STAGES if stage != "vqa" or opened.has_vision)
    options = _options(request, name)
    return new_session_folder(home, date.today()), SessionState(options, command, describe_device(), stages=stages)


def _options(request: SessionRequest, student: str) -> SessionOptions:
    from memlora_mlx.distill.session_state import SessionOptions
    from memlora_mlx.errors import UsageError
    from memlora_mlx.text import parse_duration

    try:
        budget = parse_duration(request.budget) if request.budget is not None else None
    except ValueError as error:
        raise UsageError(f"--budget takes a time such as 20m, 2h or 1h30m, not {request.budget!r}.") from error
    given = [path for path in (request.locomo, request.validation) if path is not None]
    require_files(given)
    return SessionOptions(
        student=student,
        budget=budget,
        locomo=str(request.locomo.resolve()) if request.locomo else None,
        validation=str(request.validation.resolve()) if request.validation else None,
        install=request.install,
    )


class _Parts:
    """What a session needs from the rooms above `distill`: see `SessionParts`."""

    def __init__(
        self, opened: Workspace, options: SessionOptions, measure: PipelineMeasure, cancelled: threading.Event
    ) -> None:
        self._opened, self._options, self._measure, self._cancelled = opened, options, measure, cancelled
        self._home = opened.settings.home

    def load(self) -> Student:
        from memlora_mlx.models.loading import load_student

        name = None if Path(self._options.student).is_absolute() else self._options.student
        return load_student(self._opened.student_folder, name, image_tiles=self._opened.settings.image_tiles)

    def data(self, stage: Stage) -> Sequence[str]:
        from memlora_mlx.cli.teach import generate_examples
        from memlora_mlx.distill.local_teachers import UNUSED_SEED, VALIDATION_DIALOGUES
        from memlora_mlx.distill.training_runs import default_data
        from memlora_mlx.errors import BadTrainingData
        from memlora_mlx.settings import CORRECTIONS

        try:
            files = default_data(stage, self._home)
        except BadTrainingData:
            files = []
        if stage == "vqa":
            if not files:
                from memlora_mlx.eval.vqa.drawings import build

                build(self._home / "vqa" / "drawings")
            return list(map(str, default_data(stage, self._home)))
        if self._options.locomo and not any(file.name == "observations.jsonl" for file in files):
            locomo = [Path(self._options.locomo)]
            generate_examples("observations", stage, files=locomo, before_each=self._stop_if_asked)
        elif all(file.name == CORRECTIONS for file in files):
            count = self._dialogues()
            validation = min(VALIDATION_DIALOGUES, max(2, count // VALIDATION_SHARE))
            counts = {"count": count, "validation": validation, "seed": UNUSED_SEED}
            generate_examples("synthetic", stage, **counts, before_each=self._stop_if_asked)
        return list(map(str, default_data(stage, self._home)))

    def config(self, stage: Stage, files: Sequence[str]) -> TrainingConfig:
        from memlora_mlx.distill.recipes import CONTINUE_LEARNING_RATE_FACTOR, continues, read_recipe
        from memlora_mlx.distill.training_config import TrainingConfig
        from memlora_mlx.models.adapter_registry import read_card

        recipe = read_recipe(stage, student=self._options.student)
        used = self._opened.expert_folders.get(stage)
        start = used if used is not None and continues(read_card(used).recipe, recipe) else None
        if start is not None:
            recipe = recipe.changed(learning_rate=recipe.learning_rate * CONTINUE_LEARNING_RATE_FACTOR)
        begun = str(start.resolve()) if start else None
        return TrainingConfig(stage, self._options.student, tuple(files), recipe, start=begun)

    def measure(self, experts: Mapping[Stage, Path], lives: int) -> Sequence[float]:
        from memlora_mlx.eval.experts.generated_lives import cases_of_file, generated_cases

        if self._options.validation is None:
            return self._measure(experts, generated_cases(lives))
        cases = cases_of_file(Path(self._options.validation), short=self._options.budget is not None)
        return self._measure(experts, cases[:lives])

    def install(self, stage: Stage, expert: Path, chosen_by: str) -> None:
        from memlora_mlx.distill.adapter_operations import install_expert, note_choice

        if chosen_by:
            note_choice(expert, chosen_by)
        install_expert(expert, self.load(), self._options.student, self._home, stage=stage)

    def _stop_if_asked(self) -> None:
        from memlora_mlx.errors import Cancelled

        if self._cancelled.is_set():
            raise Cancelled("Stopped while making examples. The same command continues.")

    def _dialogues(self) -> int:
        """How many synthetic dialogues to make: no more than can be trained on."""
        from memlora_mlx.distill.local_teachers import CPU_DIALOGUES, DEFAULT_DIALOGUES
        from memlora_mlx.models import device

        most, pace = (CPU_DIALOGUES, 0) if device.on_cpu() else (DEFAULT_DIALOGUES, 1)
        if self._options.budget is None:
            return most
        return min(most, max(FEWEST_DIALOGUES, int(DIALOGUES_PER_MINUTE[pace] * self._options.budget / 60)))


def _measure(opened: Workspace, folder: Path, cancelled: threading.Event) -> PipelineMeasure:
    from memlora_mlx.eval.experts.generated_lives import PipelineMeasure

    return PipelineMeasure(opened, folder / "measured", cancelled)


def _finish(folder: Path, state: SessionState, as_json: bool) -> None:
    """Write the report and print it."""
    from memlora_mlx.distill.session_state import REPORT
    from memlora_mlx.errors import TrainingFailed
    from memlora_mlx.eval.experts.session_report import as_markdown, summary
    from memlora_mlx.files import atomic_write
    from memlora_mlx.models.typed_json import to_json

    try:
        atomic_write(folder / REPORT, as_markdown(state), private=False)
    except OSError as error:
        raise TrainingFailed(f"Cannot write to {folder} ({error.strerror}). The experts are installed.") from error
    if as_json:
        print_json({"folder": str(folder), "report": str(folder / REPORT), **to_json(state)})
        return
    for line in summary(state):
        typer.echo(line)
    typer.echo(f"Report: {folder / REPORT}")
