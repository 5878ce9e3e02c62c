"""What the Train screen does with the expert of a run: compare it with the one in use, install it, go back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from textual import work
from textual.content import Content
from textual.widgets import Select, Static

from memlora_mlx.errors import UsageError
from memlora_mlx.records import STAGES
from memlora_mlx.text import printable_line
from memlora_mlx.tui import expert_choice, runs
from memlora_mlx.tui.screens.base import MainScreen
from memlora_mlx.tui.screens.dialogs import ConfirmDialog
from memlora_mlx.tui.widgets.row_table import RowTable


class ExpertKeys(MainScreen):
    """The actions on the experts of the Train screen. A failure is reported and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._finished_runs: dict[str, runs.TrainingRun] = {}
        self._judgements: dict[str, dict[str, Any]] = {}  # by the name of the run
        self._last_message = ""

    @property
    def table(self) -> RowTable:
        return self.query_one("#runs", RowTable)

    @property
    def home(self) -> Path:
        return self.backend.settings.home

    def _row_at_cursor(self) -> runs.TrainingRun:
        run = self._finished_runs.get(self.table.key_at_cursor or "")
        if run is None:
            raise UsageError("There is no run yet. Press Ctrl+R to start one.")
        return run

    @work(group="install", exclusive=True, exit_on_error=False)
    async def action_install(self) -> None:
        """Install the expert of the selected run if it is better than the one in use, and load it if the user agrees."""
        run = self._row_at_cursor()
        expert = run.expert
        if expert is None or run.config is None:
            raise UsageError(
                f"{run.folder.name} has no expert yet. It gets one after the first validation that improves."
            )
        judgement = await self._judge(run)
        if not judgement["is_better"]:
            raise UsageError(
                f"Not installed. {judgement['text']} `memlora adapters install {expert}` installs it anyway."
            )
        question = f"Install this {run.config.stage} expert for {printable_line(Path(run.config.student).name, 40)}?"
        if not await self.memlora.push_screen_wait(ConfirmDialog(question, f"{judgement['text']} Press b to go back.")):
            return
        await expert_choice.install(
            expert, run.config.student, self.backend.settings, self.home / "runs" / "install.log"
        )
        await self._reload(f"The {run.config.stage} expert is in use. b goes back to the one before.", "Installed.")

    async def _reload(self, done: str, title: str) -> None:
        """Load the models again if the user agrees, so that another expert is used."""
        reload = ConfirmDialog(f"{title} Load it now?", "Reloading the models cancels their current work.")
        if await self.memlora.push_screen_wait(reload):
            await self.backend.reopen()
            self.notify(done, markup=False)

    async def _judge(self, run: runs.TrainingRun) -> dict[str, Any]:
        """Compare a run's expert with the one in use; once for each run."""
        if run.folder.name not in self._judgements:
            self._show_message("Comparing the new expert with the one in use …")
            self._judgements[run.folder.name] = await expert_choice.judged(run.folder, self.backend.settings)
        self._last_message = ""
        self._show_message(self._judgements[run.folder.name]["text"])
        return self._judgements[run.folder.name]

    @work(group="judge", exclusive=True, exit_on_error=False)
    async def judge(self, folder: Path) -> None:
        """Say whether the expert of a training that has just ended is better."""
        run = await asyncio.to_thread(runs.read, folder)
        if run.expert is None or run.config is None:
            return
        judgement = await self._judge(run)
        hint = " Press i to install it." if judgement["is_better"] else " It is not installed."
        self.notify(f"{judgement['text']}{hint}", title="New expert", timeout=15, markup=False)

    @work(group="install", exclusive=True, exit_on_error=False)
    async def action_previous(self) -> None:
        """Go back to the expert that was in use before the last installation."""
        from memlora_mlx.distill.expert_rollback import restore_previous

        stage = next(stage for stage in STAGES if stage == self.query_one("#stage", Select).value)
        student = self.query_one("#student", Select).value or self.backend.status.student
        if not student:
            raise UsageError("There is no student yet. Get one on the Models screen (F7).")
        told = await asyncio.to_thread(restore_previous, str(student), stage, self.home)
        self._judgements.clear()
        await self._reload(f"In use: {told}. b comes back.", f"Went back to {told}.")

    def _show_message(self, words: str) -> None:
        self.query_one("#says", Static).update(Content(words))
