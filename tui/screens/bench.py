"""The Bench screen: reports of benchmark runs as tables and bars, and new runs."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import DataTable, OptionList, Static

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.text import printable_line
from memlora_mlx.tui.jobs import Job
from memlora_mlx.tui.screens.base import MainScreen
from memlora_mlx.tui.screens.forms import FormDialog, FormField
from memlora_mlx.tui.widgets.actions import ScreenActions
from memlora_mlx.tui.widgets.plots import BarPlot
from memlora_mlx.tui.widgets.row_table import RowTable

if TYPE_CHECKING:
    from memlora_mlx.eval.report.document import Chart, Document, Section, Table

INTERVAL = 0.5  # seconds between two looks at a run's output
CELL = 48  # maximum width of a column in cells; a table scrolls sideways


class BenchScreen(MainScreen):
    NAME = "Bench"
    CSS_PATH = "pages.tcss"
    COMMANDS: ClassVar[set[type[Provider] | object]] = {ScreenActions}  # type: ignore[assignment]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "run_bench", "Run", tooltip="Run a benchmark", id="page.run"),
        Binding("o", "pick", "Pick a report", tooltip="Choose a results.json file", id="page.pick"),
        Binding("slash", "path", "Type a path", tooltip="Open a report by its path", id="page.find"),
        Binding("escape", "stop", "Stop", show=False, tooltip="Stop the run. It can be resumed.", id="page.back"),
        Binding("n", "section(1)", "Next", tooltip="Next section of the report", id="bench.next"),
        Binding("b", "section(-1)", "Back", tooltip="Previous section of the report", id="bench.before"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._document: Document | None = None
        self._files: list[Path] = []
        self._job: Job | None = None
        self._out = Path()  # the folder of the running benchmark
        self._answers: dict[str, str] = {}  # the last answers of the form

    def compose_body(self) -> Iterable[Widget]:
        yield RowTable((("report", 0), ("student", 18), ("questions", 9)), id="reports")
        yield Static("", classes="says", markup=False, id="says")
        with Container(id="bench-body"):
            yield OptionList(id="sections", markup=False)
            yield VerticalScroll(id="section")

    def on_mount(self) -> None:
        self.call_after_refresh(self._begin)  # nested widgets are mounted by then

    def _begin(self) -> None:
        self._show_message("Press Ctrl+R to run a benchmark, or o to open the report of a run.")
        self.query_one("#bench-body").display = False
        self.set_interval(INTERVAL, self._watch)
        self.table.focus()

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self.refresh_list)

    @property
    def table(self) -> RowTable:
        return self.query_one("#reports", RowTable)

    # ------------------------------------------------------------------ reports

    @work(group="look", exclusive=True, exit_on_error=False)
    async def refresh_list(self) -> None:
        """List the reports that were opened, then those of the runs in the data folder, newest first."""
        folder = self.backend.settings.home / "bench" / "runs"
        found = await asyncio.to_thread(lambda: sorted(folder.glob("*/results.json"), reverse=True))
        self._files = [*(file for file in self._files if file not in found), *found]
        self.table.set_rows([(str(file), await asyncio.to_thread(_cells, file)) for file in self._files])

    @on(DataTable.RowSelected, "#reports")
    def report_highlighted(self, event: DataTable.RowSelected) -> None:
        self.open_report(Path(str(event.row_key.value)))

    @work(group="pick", exclusive=True, exit_on_error=False)
    async def action_pick(self) -> None:
        from textual_fspicker import FileOpen, Filters

        filters = Filters(("Reports", lambda path: path.suffix == ".json"), ("All files", lambda path: True))
        folder = self.backend.settings.home / "bench" / "runs"
        dialog = FileOpen(str(folder) if folder.is_dir() else ".", "A report's results.json", filters=filters)
        path = await self.memlora.push_screen_wait(dialog)
        if path is not None:
            self.open_report(path)

    @work(group="pick", exclusive=True, exit_on_error=False)
    async def action_path(self) -> None:
        form = FormDialog("Open a report", [FormField("path", "Path of a results.json file, or of its folder")])
        answers = await self.memlora.push_screen_wait(form)
        if answers and answers["path"].strip():
            self.open_report(Path(answers["path"].strip()).expanduser())

    @work(group="open", exclusive=True, exit_on_error=False)
    async def open_report(self, path: Path) -> None:
        """Show the report of a run. If it is damaged, an error is shown and the report before stays."""
        from memlora_mlx.eval.report import build
        from memlora_mlx.eval.results import read_run

        if self._job is None:
            self._show_message("Reading the report …")
        try:
            document = await asyncio.to_thread(lambda: build(read_run(path)))
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            self._show_message("")
            raise UsageError(f"Cannot show {path}: its figures are incomplete or damaged ({error!r}).") from error
        except MemloraError:
            self._show_message("")
            raise
        file = path / "results.json" if path.is_dir() else path
        if file not in self._files:
            self._files.insert(0, file)
            self.refresh_list()
        self._document = document
        if self._job is None:
            self._show_message(document.subtitle)
        self.query_one("#bench-body").display = True
        sections = self.query_one("#sections", OptionList)
        sections.clear_options()
        sections.add_options([Text(printable_line(section.title, 40)) for section in document.sections])
        sections.highlighted = 0
        sections.focus()

    @on(OptionList.OptionHighlighted, "#sections")
    def section_chosen(self, event: OptionList.OptionHighlighted) -> None:
        if self._document is not None:
            self.show_section(self._document.sections[event.option_index])

    @work(group="section", exclusive=True, exit_on_error=False)
    async def show_section(self, section: Section) -> None:
        view = self.query_one("#section", VerticalScroll)
        widgets: list[Widget] = [Static(Content(words), markup=False) for words in section.paragraphs]
        widgets += [Static(Content(f"• {words}"), markup=False) for words in section.bullet_points]
        plots: list[tuple[BarPlot, list[tuple[str, float]], float]] = []
        for chart in section.charts:
            bars, maximum = _bars(chart)
            widgets.append(Static(Content(chart.title), classes="table-title", markup=False))
            if bars:
                plot = BarPlot()
                plots.append((plot, bars, maximum))
                widgets.append(plot)
        for number, table in enumerate(section.tables):
            widgets.append(Static(Content(table.title), classes="table-title", markup=False))
            widgets.append(_grid(table, number))
            widgets += [Static(Content(note), classes="note", markup=False) for note in table.notes]
        async with view.batch():
            await view.remove_children()
            await view.mount_all(widgets)
        for plot, bars, maximum in plots:
            plot.show(bars, maximum)
        view.scroll_home(animate=False)

    def action_section(self, step: int) -> None:
        sections = self.query_one("#sections", OptionList)
        if sections.option_count:
            sections.highlighted = ((sections.highlighted or 0) + step) % sections.option_count

    # ------------------------------------------------------------------ runs

    @work(group="run", exclusive=True, exit_on_error=False)
    async def action_run_bench(self) -> None:
        from memlora_mlx.eval.bench_config import SYSTEMS

        if self._job is not None:
            raise UsageError("A benchmark is running. Wait until it is done, or press Esc to stop it.")
        kept = self._answers
        form = FormDialog(
            "Run a benchmark",
            [
                FormField("what", "Benchmark", kept.get("what", WHAT[0]), options=WHAT),
                FormField("file", "LoCoMo file", kept.get("file", ""), "locomo10.json; only for LoCoMo"),
                FormField("split", "Split", kept.get("split", "val"), options=("val", "train", "test", "all")),
                FormField("systems", "Systems", kept.get("systems", ",".join(SYSTEMS))),
                FormField("questions", "Questions per conversation", kept.get("questions", ""), "empty: all"),
            ],
        )
        answers = await self.memlora.push_screen_wait(form)
        if answers is None:
            return
        self._answers = answers
        arguments = _arguments(answers)
        runs = self.backend.settings.home / "bench" / "runs"
        folder = runs / f"{datetime.now():%Y-%m-%d-%H%M%S}"
        student = self.backend.settings.student or self.backend.status.student
        arguments += ["--student", student] if student else []
        log = runs / f"{folder.name}.log"
        self._job = Job(["memlora_mlx", "bench", *arguments, "--out", str(folder)], self.backend.settings, log)
        self._out = folder
        self._show_message("▶ Loading the student … Press Esc to stop.")

    def _watch(self) -> None:
        """Show the progress of the run, and its report when it has ended."""
        job = self._job
        if job is None:
            return
        if (code := job.poll()) is None:
            self.memlora.background_work["bench"] = "▶"
            if not job.is_stopped and job.last_line:
                self._show_message(f"▶ {printable_line(job.last_line, 200)} · press Esc to stop")
            return
        self._job = None
        self.memlora.background_work.pop("bench", None)
        if code == 0:
            self.notify("The report is open.", title="Benchmark finished", markup=False)
            self.refresh_list()
            self.open_report(self._out)
        elif job.is_stopped:
            self._show_message(f"‖ {printable_line(job.failure_reason(), 200)}")
        else:
            self._show_message(f"✗ {printable_line(job.failure_reason(), 300)}")
            self.memlora.report_error(MemloraError(job.failure_reason()), "Benchmark failed")

    def on_unmount(self) -> None:
        if self._job is not None:
            self._job.stop()

    def action_stop(self) -> None:
        if self._job is not None:
            self._job.stop()
            self._show_message("‖ Stopping …")
        else:
            self.table.focus()

    def _show_message(self, words: str) -> None:
        self.query_one("#says", Static).update(Content(words))


WHAT = ("LoCoMo", "my own conversations", "memory conflicts")


def _arguments(answers: dict[str, str]) -> list[str]:
    """The arguments of `memlora bench`. Raises UsageError: an answer is missing or wrong."""
    what, file, count = answers["what"], answers["file"].strip(), answers["questions"].strip()
    arguments = ["run"]
    if what == WHAT[0]:
        if not file:
            raise UsageError("Give the path of LoCoMo's file, or choose your own conversations.")
        arguments += [str(Path(shlex.split(file)[0] if file[0] in "'\"" else file).expanduser())]
        arguments += ["--split", answers["split"]]
    else:
        arguments.append("--mine" if what == WHAT[1] else "--conflict")
    if answers["systems"].strip():
        arguments += ["--systems", answers["systems"].strip()]
    if count:
        if not count.isdigit() or count == "0":
            raise UsageError(
                f"{printable_line(count, 40)!r} is not a number of questions. Leave the field empty for all."
            )
        arguments += ["--questions", count]
    return arguments


def _cells(file: Path) -> tuple[str, str, str]:
    """The cells of a report in the list. A damaged one is marked."""
    from memlora_mlx.eval.results import read_run

    try:
        run = read_run(file)
    except MemloraError:
        return file.parent.name, "✗ damaged", ""
    questions = len({one.question_id for one in run.asked})
    return file.parent.name, str(run.origin.get("student", "not named")), f"{questions:,}"


def _bars(chart: Chart) -> tuple[list[tuple[str, float]], float]:
    """The bars of a chart with their figures in the labels, and the end of the scale."""
    from memlora_mlx.eval.report.document import BarChart

    if isinstance(chart, BarChart):
        bars = [
            (printable_line(f"{group} {bar.label}".strip(), 28) + f"  {printable_line(bar.text, 24)}", bar.value)
            for group, found in chart.groups
            for bar in found
        ]
        return bars, chart.maximum
    bars = [
        (f"{printable_line(name, 18)}, {printable_line(part, 22)}  {count}", float(count))
        for name, counts in chart.rows
        for part, count in zip(chart.parts, counts, strict=True)
        if count
    ]
    return bars, max((value for _, value in bars), default=1.0)


def _grid(table: Table, number: int) -> RowTable:
    """A table as wide as its text. It scrolls sideways if it is wider than the screen."""
    cells = [[column.head for column in table.columns], *table.rows]
    widths = [
        min(CELL, max(len(printable_line(row[i])) for row in cells if i < len(row))) for i in range(len(table.columns))
    ]
    heads = [printable_line(column.head) for column in table.columns]
    grid = RowTable([(head, max(1, width)) for head, width in zip(heads, widths, strict=True)], id=f"table-{number}")
    grid.extend([(str(i), row) for i, row in enumerate(table.rows)])
    return grid
