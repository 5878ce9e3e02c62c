"""The Train screen: start, watch, stop and resume a training, and install its expert.

The training is a separate process that continues when the app quits. The screen reads its progress from its folder.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.containers import Container, Horizontal
from textual.widget import Widget
from textual.widgets import DataTable, Input, Select, Static

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.records import STAGES
from memlora_mlx.text import format_duration, printable_line
from memlora_mlx.tui import expert_choice, runs
from memlora_mlx.tui.jobs import Job, stop_orphaned_job
from memlora_mlx.tui.screens.dialogs import ConfirmDialog
from memlora_mlx.tui.screens.expert_keys import ExpertKeys
from memlora_mlx.tui.widgets.actions import ScreenActions
from memlora_mlx.tui.widgets.plots import LossPlot
from memlora_mlx.tui.widgets.row_table import RowTable

INTERVAL = 1.0  # seconds between two looks at a run's folder
SIGNS = {"training": "▶ training", "stopped": "‖ stopped", "done": "✓ done", "damaged": "✗ damaged"}


class TrainScreen(ExpertKeys):
    NAME = "Train"
    CSS_PATH = "pages.tcss"
    COMMANDS: ClassVar[set[type[Provider] | object]] = {ScreenActions}  # type: ignore[assignment]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "begin", "Train", tooltip="Start training with these settings", id="page.run"),
        Binding("escape", "stop", "Stop, keep best", tooltip="Stop the run and save its best expert", id="page.back"),
        Binding("r", "resume", "Resume", tooltip="Resume the selected run", id="train.resume"),
        Binding("i", "install", "Install", tooltip="Install this run's expert", id="train.install"),
        Binding("b", "previous", "Back", tooltip="Go back to this stage's expert before the last one", id="train.back"),
        Binding("slash", "data", "Data", show=False, tooltip="Focus the data field", id="page.find"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._job: Job | None = None  # the training that this screen started
        self._own_job: Path | None = None  # its folder
        self._folder: Path | None = None  # of the run that is shown
        self._shown_runs: list[tuple[str, tuple[str, str, str]]] = []
        self._is_refreshing = False

    def compose_body(self) -> Iterable[Widget]:
        with Horizontal(classes="fields"):
            yield Select[str]([(stage, stage) for stage in STAGES], allow_blank=False, compact=True, id="stage")
            yield Select[str]([("the current student", "")], value="", allow_blank=False, compact=True, id="student")
            yield Input(placeholder="/ data: FILE or FILE:N; empty: all data", compact=True, id="data")
        yield Static("", classes="says", markup=False, id="says")
        with Container(id="train-body"):
            yield LossPlot(id="curve")
            with Container(id="side"):
                yield RowTable((("run", 0), ("best", 7), ("state", 12)), id="runs")

    def on_mount(self) -> None:
        self.call_after_refresh(self._begin)  # nested widgets are mounted by then

    def _begin(self) -> None:
        begin = "Press Ctrl+R to train the expert of a stage. The training continues when you quit the app."
        self._show_message(f"{begin} {expert_choice.CORRECTIONS_ARE}")
        self.set_interval(INTERVAL, self.refresh_list)
        self.table.focus()

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self.fill_students)

    @work(group="students", exclusive=True, exit_on_error=False)
    async def fill_students(self) -> None:
        names = await asyncio.to_thread(installed_students, self.backend.settings.models_folder)
        select = self.query_one("#student", Select)
        before = select.value
        select.set_options([("the current student", ""), *((name, name) for name in names)])
        select.value = before if before in names else ""
        self.refresh_list()

    # ------------------------------------------------------------------ what is shown

    @work(group="look", exit_on_error=False)
    async def refresh_list(self) -> None:
        """Read the folders of the runs. A run that cannot change is read once."""
        self._job_ended()
        if self._is_refreshing or not self.is_current:
            return
        self._is_refreshing = True
        try:
            await self._refresh_list()
        finally:
            self._is_refreshing = False

    async def _refresh_list(self) -> None:
        folders = await asyncio.to_thread(runs.runs, self.home)
        for folder in folders:
            known = self._finished_runs.get(folder.name)
            if known is None or known.state == "training" or folder in (self._folder, self._own_job):
                self._finished_runs[folder.name] = await asyncio.to_thread(runs.read, folder)
        names = [folder.name for folder in folders]
        self._finished_runs = {name: self._finished_runs[name] for name in names}
        rows = [(name, self._cells(self._finished_runs[name])) for name in names]
        if rows != self._shown_runs:
            self._shown_runs = rows
            self.table.set_rows(rows)
        if self._folder not in folders and self._own_job is None:
            self._folder = folders[0] if folders else None
        if self._folder is not None and self._folder.name in self._finished_runs:
            self._draw(self._finished_runs[self._folder.name])

    def _cells(self, run: runs.TrainingRun) -> tuple[str, str, str]:
        best = run.best
        return run.folder.name, f"{best.validation_loss:.3f}" if best else "", SIGNS[run.state]

    def _draw(self, run: runs.TrainingRun) -> None:
        told = f"{run.folder.name}{len(run.points)}{run.state}{self.app.theme}"
        if told == self._last_message:
            return
        self._last_message = told
        title = f"{run.config.stage}, {Path(run.config.student).name}" if run.config else run.folder.name
        self.query_one("#curve", LossPlot).show(run.points, printable_line(title, 60))
        if run.state == "damaged":
            self._show_message(f"✗ Cannot read {run.folder.name}: {printable_line(run.problem or '', 200)}")
        elif run.points:
            self._show_message(_describe(run))

    @on(DataTable.RowHighlighted, "#runs")
    def cursor_moved(self, event: DataTable.RowHighlighted) -> None:
        run = self._finished_runs.get(str(event.row_key.value))
        if run is not None and self.focused is self.table:
            self._folder = run.folder
            self._draw(run)

    # ------------------------------------------------------------------ what is done

    @work(group="begin", exclusive=True, exit_on_error=False)
    async def action_begin(self) -> None:
        """Start a run. If there is no data for it, offer to create the synthetic set."""
        from memlora_mlx.distill.training_runs import default_data, local_data_offer, new_run_folder
        from memlora_mlx.errors import BadTrainingData

        self._check_free()
        stage = next(stage for stage in STAGES if stage == self.query_one("#stage", Select).value)
        data = _data_arguments(self.query_one("#data", Input).value)
        arguments = ["--stage", stage]
        if not data:
            try:
                await asyncio.to_thread(default_data, stage, self.home)
            except BadTrainingData:
                question = f"There is no training data for {stage}. {local_data_offer(stage)} now?"
                if not await self.memlora.push_screen_wait(ConfirmDialog(question, "This needs no server.")):
                    return
                arguments.append("--yes")
        if "--yes" not in arguments:
            await asyncio.to_thread(expert_choice.check_enough_rows, stage, data, self.home)
        for given in data:
            arguments += ["--data", given]
        student = self.query_one("#student", Select).value or self.backend.status.student
        if student:
            arguments += ["--student", str(student)]
        folder = new_run_folder(self.home, stage, date.today())
        self._start(folder, [*arguments, "--out", str(folder)])

    @work(group="begin", exclusive=True, exit_on_error=False)
    async def action_resume(self) -> None:
        self._check_free()
        run = self._row_at_cursor()
        if run.state != "stopped":
            raise UsageError(f"{run.folder.name} is {run.state}. Only a stopped run can be resumed.")
        self._start(run.folder, ["--resume", str(run.folder)])

    def _start(self, folder: Path, arguments: list[str]) -> None:
        self._folder = self._own_job = folder
        log = folder.with_name(f"{folder.name}.log")
        self._job = Job(["memlora_mlx", "train", *arguments], self.backend.settings, log)
        self._last_message = ""
        self._show_message(f"▶ {folder.name}: loading the student and the data …")
        self.refresh_list()

    def _progress(self) -> str:
        """How far the training is that this screen started, for the status bar."""
        points = runs.read(self._own_job).points if self._own_job is not None else ()
        return f"{points[-1].step:,}/{points[-1].steps:,}" if points else "▶"

    def _check_free(self) -> None:
        busy = [run for run in self._finished_runs.values() if run.state == "training"]
        if self._job is not None or busy:
            name = busy[0].folder.name if busy else "a run"
            raise UsageError(f"{name} is training. Wait until it is done, or press Esc to stop it.")

    def _job_ended(self) -> None:
        """Report the result of the training that this screen started, once it has ended."""
        job = self._job
        if job is None:
            return
        if (code := job.poll()) is None:
            self.memlora.background_work["train"] = self._progress()
            known = self._finished_runs.get(self._own_job.name) if self._own_job else None
            if (known is None or not known.points) and not job.is_stopped and (line := job.last_line):
                self._show_message(f"▶ {line}")
            return
        folder = self._own_job
        self._job, self._own_job, self._last_message = None, None, ""
        self.memlora.background_work.pop("train", None)
        if code == 0:
            self.notify(job.lines()[-1] if job.lines() else "", title="Training finished", markup=False)
            if folder is not None:
                self.judge(folder)
        elif job.is_stopped:
            told = printable_line(job.failure_reason()).partition(";")[0]
            run = runs.read(folder) if folder is not None else None
            if run is not None and run.config is not None:
                told += f". Press r to resume{', or i to install its best expert' if run.expert else ''}."
            self._show_message(f"‖ {told}")
            self.notify(told, title="Stopped", markup=False)
        else:
            self._show_message(f"✗ {printable_line(job.failure_reason(), 300)}")
            self.memlora.report_error(MemloraError(job.failure_reason()), "Training failed")

    def action_stop(self) -> None:
        """Stop the running training, also one that an earlier run of the app started."""
        if self._job is not None:
            self._job.stop()
            self._show_message("‖ Stopping after the current step …")
            return
        for run in self._finished_runs.values():
            if run.state == "training" and stop_orphaned_job(run.folder.with_name(f"{run.folder.name}.log")):
                self._show_message("‖ Stopping after the current step …")
                return
        self.table.focus()

    def action_data(self) -> None:
        self.query_one("#data", Input).focus()

    @on(Input.Submitted)
    def focus_runs(self) -> None:
        self.table.focus()


def installed_students(folder: Path) -> list[str]:
    """The names of the students in the folder of models."""
    from memlora_mlx.models.catalog import entries
    from memlora_mlx.models.downloads import installed

    models = [model for model in installed(folder) if model.is_complete]
    known = entries(folder.parent)
    return [model.name for model in models if model.name not in known or known[model.name].kind == "student"]


def _data_arguments(text: str) -> list[str]:
    """The values of `--data` in the data field. Raises UsageError."""
    try:
        return shlex.split(text)
    except ValueError:
        raise UsageError("The data field has an unclosed quotation mark.") from None


def _describe(run: runs.TrainingRun) -> str:
    """The state of a run in one line."""
    last, best = run.points[-1], run.best
    parts = [f"{SIGNS[run.state]}: step {last.step:,} of at most {last.steps:,}"]
    train = next((point.train_loss for point in reversed(run.points) if point.train_loss is not None), None)
    if train is not None:
        parts.append(f"loss {train:.3f}")
    if best is not None and best.step == 0 and run.state != "training":
        parts.append("nothing learned: no validation was better than before the first step")
    elif best is not None:
        first = next(point for point in run.points if point.validation_loss is not None)
        parts.append(
            f"validation {first.validation_loss:.3f} → best {best.validation_loss:.3f} at step {best.step:,} (│)"
        )
    if run.state == "training" and last.tokens_per_second:
        parts.append(f"{last.tokens_per_second:.0f} tok/s")
        if last.step:
            parts.append(f"at most {format_duration(last.seconds / last.step * (last.steps - last.step))} left")
    if run.ended:
        parts.append(f"■ {run.ended}" if run.ended == "early stop" else run.ended)
    return " · ".join(parts)
