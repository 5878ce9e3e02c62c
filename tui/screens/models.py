"""The Models screen: list, download, choose and delete models, and show their experts."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.content import Content
from textual.widget import Widget
from textual.widgets import DataTable, ProgressBar, Static

from memlora_mlx.config_file import is_overridden, save_preferences
from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.text import format_bytes, printable_line
from memlora_mlx.tui.first_models import memory_of_machine, recommended_students
from memlora_mlx.tui.jobs import Job
from memlora_mlx.tui.screens.base import MainScreen
from memlora_mlx.tui.screens.dialogs import ConfirmDialog
from memlora_mlx.tui.screens.forms import TextDialog
from memlora_mlx.tui.widgets.actions import ScreenActions
from memlora_mlx.tui.widgets.row_table import RowTable

if TYPE_CHECKING:
    from memlora_mlx.models.adapter_registry import RegisteredExpert
    from memlora_mlx.models.downloads import Installed

INTERVAL = 0.3  # seconds between two looks at a download
MODES = {"swap": "swap (least memory)", "fused": "fused (fastest; unquantised models only)"}


class ModelsScreen(MainScreen):
    NAME = "Models"
    CSS_PATH = "pages.tcss"
    COMMANDS: ClassVar[set[type[Provider] | object]] = {ScreenActions}  # type: ignore[assignment]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "choose", "Choose", tooltip="Use this student", id="models.choose"),
        Binding("p", "pull", "Pull", tooltip="Download the selected model", id="models.pull"),
        Binding("escape", "cancel", "Stop", show=False, tooltip="Stop the download; p resumes it", id="page.back"),
        Binding("m", "mode", "Mode", tooltip="Switch the expert mode: swap or fused", id="models.mode"),
        Binding("d,delete", "remove", "Delete", tooltip="Delete the model from the disk", id="models.delete"),
        Binding(
            "ctrl+r", "refresh_list", "Refresh", show=False, tooltip="Read the folder of models again", id="page.run"
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._installed: dict[str, Installed] = {}
        self._experts: dict[str, RegisteredExpert] = {}
        self._recommended: list[str] = []  # students that are good and fit this machine's memory
        self._job: Job | None = None
        self._download = ""

    def compose_body(self) -> Iterable[Widget]:
        yield Static("", classes="says", markup=False, id="says")
        yield RowTable((("model", 0), ("kind", 8), ("size", 8), ("licence", 12), ("state", 12)), id="models")
        yield ProgressBar(total=None, show_eta=False, id="progress")
        yield Static("", classes="head", markup=False, id="experts-head")
        yield RowTable((("stage", 11), ("student", 0), ("validation", 16), ("origin", 10)), id="experts")

    def on_mount(self) -> None:
        self.call_after_refresh(self._begin)  # nested widgets are mounted by then

    def _begin(self) -> None:
        self.query_one("#progress").display = False
        self.set_interval(INTERVAL, self._watch)
        self.table.focus()

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self.action_refresh_list)

    def on_unmount(self) -> None:
        if self._job is not None:
            self._job.stop()

    @property
    def table(self) -> RowTable:
        return self.query_one("#models", RowTable)

    @property
    def folder(self) -> Path:
        return self.backend.settings.models_folder

    # ------------------------------------------------------------------ the lists

    @work(group="look", exclusive=True, exit_on_error=False)
    async def action_refresh_list(self) -> None:
        from memlora_mlx.models.adapter_registry import list_experts
        from memlora_mlx.models.catalog import entries
        from memlora_mlx.models.downloads import installed

        self._installed = {model.name: model for model in await asyncio.to_thread(installed, self.folder)}
        rows = []
        known = entries(self.backend.settings.home)
        self._recommended = recommended_students(known.values(), memory_of_machine())
        for name in [*known, *sorted(self._installed.keys() - known.keys())]:
            entry = known.get(name)
            if (
                entry is None or not entry.is_shipped or name in self._installed
            ):  # as `memlora models list` without --all
                rows.append((name, self._cells(name)))
        # What is here stands on top, and then what is recommended for this machine.
        rows.sort(key=lambda row: (row[0] not in self._installed, row[0] not in self._recommended))
        student = self.backend.settings.student or self.backend.status.student
        if student and student not in dict(rows):
            rows.insert(0, (student, (Path(student).name, "student", "", "a folder", "▶ in use")))
        self.table.set_rows(rows)
        self._show_details()
        found = await asyncio.to_thread(list_experts, self.backend.settings.home)
        self._experts = {str(place.folder): place for place in found}
        shown = await asyncio.to_thread(lambda: [(str(place.folder), _expert_cells(place)) for place in found])
        self.query_one("#experts", RowTable).set_rows(shown)
        head = "Experts" if shown else "Experts: none yet. Train one with F5."
        self.query_one("#experts-head", Static).update(head)

    def _cells(self, name: str) -> tuple[str, ...]:
        from memlora_mlx.models.catalog import entries

        entry, model = entries(self.backend.settings.home).get(name), self._installed.get(name)
        taken = model.size_bytes if model else entry.download_bytes if entry else None
        size = "?" if taken is None else format_bytes(taken)
        in_use = {self.backend.settings.student or self.backend.status.student, self.backend.settings.embedder}
        state = "… pulling" if name == self._download else _state(model, in_use=name in in_use)
        if not state and name in self._recommended:
            state = "recommended"
        precision = entry.precision if entry else None
        label = f"{name} ({precision})" if precision and precision not in name else name
        return label, entry.kind if entry else "", size, (entry.licence or "") if entry else "", state

    def _show_details(self) -> None:
        settings = self.backend.settings
        student = settings.student or self.backend.status.student or "none"
        free = [f"student {printable_line(Path(student).name, 40)}", f"experts {MODES[settings.expert_mode]}"]
        model = self.table.key_at_cursor or ""
        from memlora_mlx.models.catalog import entries

        if (entry := entries(self.backend.settings.home).get(model)) is not None:
            words = [f"{entry.parameters / 1e6:,.0f} M parameters"] if entry.parameters else []
            words += [f"context {entry.context:,}"] if entry.context else []
            words += [entry.licence] if entry.licence else []
            words += [entry.note] if entry.note else []
            words += ["needs the extra vision"] if entry.needs_vision else []
            words += ["needs experts to follow the prompts"] if not entry.zero_shot else []
            free.append(f"\n{model}: {', '.join(words)}")
        self.query_one("#says", Static).update(Content(" · ".join(free).replace(" · \n", "\n")))

    @on(DataTable.RowHighlighted, "#models")
    def cursor_moved(self) -> None:
        self._show_details()

    @on(DataTable.RowSelected, "#models")
    def row_opened(self) -> None:
        """Enter downloads a model that is not installed, and chooses one that is."""
        model = self._installed.get(self.table.key_at_cursor or "")
        self.action_choose() if model and model.is_complete else self.action_pull()

    @on(DataTable.RowSelected, "#experts")
    @work(group="card", exit_on_error=False)
    async def open_card(self, event: DataTable.RowSelected) -> None:
        from memlora_mlx.models.adapter_registry import read_card

        folder = Path(str(event.row_key.value))
        card = await asyncio.to_thread(read_card, folder)
        text = (
            json.dumps(card.as_json(), indent=1, ensure_ascii=False)
            if not card.is_empty
            else "This expert has no card."
        )
        await self.memlora.push_screen(TextDialog(f"{folder.parent.name}, {folder.name}", text))

    # ------------------------------------------------------------------ choosing

    @work(group="choose", exclusive=True, exit_on_error=False)
    async def action_choose(self) -> None:
        from memlora_mlx.models.catalog import entries

        name = self._row_at_cursor()
        entry, model = entries(self.backend.settings.home).get(name), self._installed.get(name)
        if entry is not None and entry.kind == "embedder":
            raise UsageError(
                "To change the embedder, set it in config.toml and run `memlora doctor --repair`, which recomputes all"
                " embeddings."
            )
        if model is not None and not model.is_complete or model is None and entry is not None:
            raise UsageError(f"{name} is not installed. Press p to download it.")
        await self._change("student", name, f"{printable_line(Path(name).name, 40)} is now the student")

    @work(group="choose", exclusive=True, exit_on_error=False)
    async def action_mode(self) -> None:
        other = "fused" if self.backend.settings.expert_mode == "swap" else "swap"
        await self._change("expert_mode", other, f"Expert mode: {MODES[other]}")

    async def _change(self, setting: str, value: str, message: str) -> None:
        """Load the models again with a changed setting, and save the setting if that works."""
        if self.backend.engine is not None and self.backend.engine.activity().doing:
            question = "The student is busy. Switch anyway?"
            if not await self.memlora.push_screen_wait(ConfirmDialog(question, "This cancels its current work.")):
                return
        before = getattr(self.backend.settings, setting)
        try:
            await self.backend.reopen(**{setting: value})
        except MemloraError:
            await self.backend.reopen(**{setting: before})
            raise
        finally:
            self.action_refresh_list()
        await asyncio.to_thread(partial(save_preferences, self.backend.settings.home, **{setting: value}))
        if is_overridden(setting):
            message += f"; at the next start MEMLORA_{setting.upper()} in the environment takes precedence"
        self.notify(message, markup=False)

    # ------------------------------------------------------------------ downloading and deleting

    @work(group="pull", exit_on_error=False)
    async def action_pull(self) -> None:
        if self._job is not None:
            raise UsageError(f"{self._download} is being downloaded. Wait until it is done, or press Esc to stop it.")
        name = self._row_at_cursor()
        if (model := self._installed.get(name)) is not None and model.is_complete:
            raise UsageError(f"{name} is already installed.")
        log = Path(tempfile.gettempdir()) / f"memlora-pull-{name.replace('/', '--')}.log"
        self._job = Job(["memlora_mlx.tui.download_process", name, str(self.folder)], self.backend.settings, log)
        self._download, self.backend.has_network_activity = name, f"downloading {printable_line(name, 30)}"
        bar = self.query_one("#progress", ProgressBar)
        bar.update(total=None, progress=0)
        bar.display = True
        self.action_refresh_list()

    def _watch(self) -> None:
        """Show the progress of the download, and its result when it has ended."""
        if (job := self._job) is None:
            return
        if (fields := job.progress_fields()) is not None:
            phase, done, total = fields
            self.query_one("#progress", ProgressBar).update(total=total or None, progress=done)
            share = f" {100 * done // total} %" if total else ""
            self.backend.has_network_activity = f"downloading {printable_line(self._download, 30)}{share}"
            self.query_one("#says", Static).update(Content(_download_line(self._download, phase, done, total)))
        if (code := job.poll()) is None:
            return
        name, self._job, self._download, self.backend.has_network_activity = self._download, None, "", "offline"
        self.query_one("#progress").display = False
        if code == 0:
            self.notify(f"{printable_line(name, 60)} is installed. Press c to use it.", markup=False)
            if self.backend.status.phase == "failed":
                self.memlora.load_models()
        elif job.is_stopped:
            self.notify(f"Download stopped. Press p to resume {printable_line(name, 60)}.", markup=False)
        else:
            self.memlora.report_error(
                MemloraError(job.failure_reason()), f"Could not download {printable_line(name, 60)}"
            )
        self.action_refresh_list()

    def action_cancel(self) -> None:
        if self._job is not None:
            self._job.stop()
        else:
            self.table.focus()

    @work(group="remove", exit_on_error=False)
    async def action_remove(self) -> None:
        from memlora_mlx.models.downloads import remove

        name = self._row_at_cursor()
        if name not in self._installed:
            raise UsageError(f"{name} is not installed.")
        if name in (self.backend.status.student, self.backend.settings.embedder):
            raise UsageError(f"{name} is in use. Choose another model first.")
        question = f"Delete {printable_line(name, 60)} from the disk?"
        if await self.memlora.push_screen_wait(ConfirmDialog(question, format_bytes(self._installed[name].size_bytes))):
            await asyncio.to_thread(remove, name, self.folder)
            self.action_refresh_list()

    def _row_at_cursor(self) -> str:
        name = self.table.key_at_cursor
        if name is None:
            raise UsageError("No model is selected.")
        return name


def _download_line(name: str, phase: str, done: int, total: int) -> str:
    """How far a download is; `done` and `total` are bytes, and `total` is 0 where it is not known."""
    of = f"{format_bytes(done)} of {format_bytes(total)}" if total else ""
    return f"{name}: {phase} {of} · press Esc to stop"


def _state(model: Installed | None, *, in_use: bool) -> str:
    """What the table says of a model on the disk; nothing of one that is not installed."""
    if model is None:
        return ""
    if not model.is_complete:
        return "✗ incomplete"
    return "▶ in use" if in_use else "✓ installed"


def _expert_cells(place: RegisteredExpert) -> tuple[str, str, str, str]:
    from memlora_mlx.models.adapter_registry import read_card

    try:
        metrics = read_card(place.folder).metrics
    except MemloraError:
        metrics = None
    told = "unknown"
    if metrics is not None and metrics.first_loss is not None and "expert" in metrics.validation_loss:
        told = f"{metrics.first_loss:.3f} → {metrics.validation_loss['expert']:.3f}"
    return place.stage, place.student, told, place.origin if place.is_active else f"({place.origin})"
