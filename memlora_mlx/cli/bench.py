"""`memlora bench`: how good the memory is, measured on this machine."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from memlora_mlx.cli.ingest import interrupt_event
from memlora_mlx.cli.options import (
    ExpertsOption,
    JsonOption,
    StudentOption,
    open_workspace,
    print_json,
    require_files,
    stderr_console,
)
from memlora_mlx.cli.progress import ProgressLine
from memlora_mlx.text import format_duration

if TYPE_CHECKING:
    from memlora_mlx.eval.results import BenchRun
    from memlora_mlx.memory.workspace import Workspace

_RUN = "run"


class BenchGroup(TyperGroup):
    """`memlora bench FILE` is `memlora bench run FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        ctx.obj = shlex.join(["memlora", "bench", *args])
        return super().parse_args(ctx, args if first in self.commands else [_RUN, *args])


app = typer.Typer(cls=BenchGroup, help="Measure the memory: LoCoMo, or your own conversations.")

OutOption = Annotated[
    Path | None,
    typer.Option(help="Folder of results.json, report.md and report.html; by default one below <home>/bench/runs."),
]


@app.command(_RUN)
def bench(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="LoCoMo's file, or one of its form.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="val, test, train (whole conversations, as the paper's) or all.")] = "val",
    conversations: Annotated[
        list[str] | None, typer.Option(help="Only this conversation; may be given several times.")
    ] = None,
    student: StudentOption = None,
    experts: ExpertsOption = None,
    systems: Annotated[
        str | None,
        typer.Option(help="Comma-separated: memlora, base, mem0, full-context, rag, oracle; by default all."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many exchanges of each.")] = None,
    questions: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Only so many questions of each, spread evenly over them; with --conflict, dialogues of each class; with "
            "--vqa, of each kind.",
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Memories of each owner that an answer is given.")
    ] = None,
    ablation: Annotated[bool, typer.Option("--ablation", help="Each stage with and without its expert.")] = False,
    ablation_with: Annotated[
        str | None, typer.Option(help="A second student for the ablation, as the paper's large one.")
    ] = None,
    scales: Annotated[bool, typer.Option("--scales", help="Every student on this disk, with and without.")] = False,
    efficiency: Annotated[
        bool, typer.Option("--efficiency", help="One call at a time, as in the paper: for seconds of a call.")
    ] = False,
    conflict: Annotated[
        bool, typer.Option("--conflict", help="Also the benchmark of memory operations; alone it needs no FILE.")
    ] = False,
    vqa: Annotated[
        bool, typer.Option("--vqa", help="Also questions about images (`memlora vqa build`); alone it needs no FILE.")
    ] = False,
    vqa_from: Annotated[
        Path | None,
        typer.Option(help="The folder of another VQA benchmark than the data folder's.", show_default=False),
    ] = None,
    judge: Annotated[str | None, typer.Option(help="openai:URL,MODEL or mlx:MODEL; none by default.")] = None,
    gold_corrections: Annotated[
        Path | None, typer.Option(help="Corrected gold answers by question; both scores are shown.")
    ] = None,
    predictions: Annotated[
        list[Path] | None, typer.Option(help="Another system's answers by question; may be given several times.")
    ] = None,
    mine: Annotated[
        bool, typer.Option("--mine", help="Ask about your own conversations; nothing leaves them.")
    ] = False,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let systems read conversations and answer questions about them; score, compare, report.

    It has stores of its own: your memories are not touched. Stop it any time and run it again: it goes on where it
    stopped. `memlora bench report RUN` writes a report anew.
    """
    from memlora_mlx.distill.vqa_dataset import find_dataset
    from memlora_mlx.errors import Cancelled, UsageError
    from memlora_mlx.eval.bench import run
    from memlora_mlx.eval.bench_config import SYSTEMS, BenchConfig
    from memlora_mlx.eval.locomo.questions import read_corrections
    from memlora_mlx.settings import load_settings

    images = vqa or vqa_from is not None
    if file is None and not mine and not conflict and not images:
        raise UsageError("name LoCoMo's file, or --mine for your own conversations, or --conflict, or --vqa")
    if file is not None and mine:
        raise UsageError("--mine asks about your own conversations; leave FILE out")
    chosen = tuple(part.strip() for part in systems.split(",") if part.strip()) if systems else SYSTEMS
    plan = BenchConfig(
        file=require_files([file])[0] if file else None,
        split=split,
        conversations=tuple(conversations or ()),
        systems=chosen,
        limit=limit,
        questions=questions,
        top_k=top_k,
        ablation=ablation,
        ablation_with=ablation_with,
        scales=scales,
        efficiency=efficiency,
        conflict=conflict,
        vqa=find_dataset(load_settings().home, vqa_from) if images else None,
        mine=mine,
        judge=judge,
        predictions=tuple(require_files(predictions or [])),
        corrections=read_corrections(require_files([gold_corrections])[0]) if gold_corrections else {},
        command=str(ctx.parent.obj) if ctx.parent else "",
    )
    with (
        open_workspace(embedder=plan.embeds, student=student, experts=experts) as opened,
        interrupt_event() as cancelled,
        BenchProgress() as display,
    ):
        try:
            made = run(plan, opened, on_progress=display.show, cancelled=cancelled)
        except Cancelled:
            display.close()
            if plan.mine:
                raise Cancelled("stopped; with --mine nothing is kept") from None
            raise Cancelled("stopped; what was measured is kept, and the same command goes on") from None
        folder = out or _new_folder(opened)
    _write_and_print(made, folder, as_json)


@app.command("report")
def report_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder or results.json.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report; by default the run's own.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a run anew."""
    from memlora_mlx.eval.results import read_run

    read = read_run(run)
    _write_and_print(read, out or (run if run.is_dir() else run.parent), as_json, keep=out is not None)


def _write_and_print(run: BenchRun, folder: Path, as_json: bool, *, keep: bool = True) -> None:
    """Write results.json and the reports, and show the summary."""
    from memlora_mlx.eval.results import write_run

    console = stderr_console()
    if keep:
        write_run(run, folder)
    for failure in run.failures:
        console.print(failure, style="yellow", markup=False)
    from memlora_mlx.eval import report as reports

    reports.write_report(run, folder)
    if as_json:
        print_json(run.as_json())
        return
    from rich.console import Console

    Console(highlight=False, soft_wrap=not sys.stdout.isatty()).print(reports.summary(run))
    typer.echo(f"{folder}")


def _new_folder(opened: Workspace) -> Path:
    from memlora_mlx.eval.systems.cache import bench_folder

    return bench_folder(opened) / "runs" / f"{datetime.now():%Y-%m-%d-%H%M%S}"


class BenchProgress(ProgressLine):
    """The live line of a run on a terminal; a line now and then elsewhere."""

    def __init__(self) -> None:
        import time

        self._clock = time.monotonic
        super().__init__("loading the student", "", every=15.0)
        self._phase: tuple[str, str, str] = ("", "", "")
        self._started, self._first, self._start = 0.0, 0, self._clock()

    def show(self, system: str, conversation: str, phase: str, done: int, total: int) -> None:
        now = self._clock()
        if (system, conversation, phase) != self._phase:
            self._phase, self._started, self._first = (system, conversation, phase), now, done
        made = done - self._first
        left = f"{format_duration((now - self._started) / made * (total - done))} left" if made > 0 else ""
        name = " ".join(filter(None, (system, conversation, phase)))
        self.update(description=name, completed=done, total=total, details=left)
        self.log_every(now - self._start, f"{name}: {done}/{total} {left}".rstrip())
