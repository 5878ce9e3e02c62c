"""`memlora bench`: measure how good the memory is on this machine."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memlora_mlx.cli.bench_options import LocomoOptions, MemoryOptions, SystemOptions, VqaFolderOption
from memlora_mlx.cli.console import interrupt_event, open_workspace, print_json, require_files, stderr_console
from memlora_mlx.cli.help import DefaultCommandGroup, command, command_line, examples
from memlora_mlx.cli.options import JsonOption
from memlora_mlx.cli.printing import clean_console
from memlora_mlx.cli.progress import ProgressLine
from memlora_mlx.text import format_duration

if TYPE_CHECKING:
    from memlora_mlx.eval.results import BenchRun
    from memlora_mlx.memory.workspace import Workspace


class BenchGroup(DefaultCommandGroup):
    """`memlora bench FILE` and `memlora bench --vqa` run benchmarks without the name of a command."""

    default = "run"


app = typer.Typer(
    cls=BenchGroup,
    subcommand_metavar="[COMMAND] [OPTIONS]",
    help="Measure the memory on benchmarks.\n\nWithout the name of a command, `run` is meant: see `memlora bench run --help`"
    " for its options. Benchmark stores are separate, so your own memories are not touched.",
    epilog=examples(
        "memlora bench locomo10.json --split val",
        "memlora bench locomo10.json --ablation --scales --efficiency",
        "memlora bench --mine",
        "memlora bench --conflict",
        "memlora bench --vqa",
        "memlora bench report RUN",
    ),
)

FILE_HELP = "LoCoMo's JSON file, or another file in the same format."


@command(
    app,
    "run",
    "memlora bench locomo10.json --split val",
    "memlora bench locomo10.json --conflict",
    "memlora bench --vqa",
)
def run_command(
    ctx: typer.Context,
    *,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help=FILE_HELP, show_default=False)] = None,
    mine: Annotated[
        bool,
        typer.Option("--mine", help="Ask questions made from your own conversations. No data leaves this machine."),
    ] = False,
    conflict: Annotated[
        bool, typer.Option("--conflict", help="Also run the conflict benchmark. Without FILE, run only that.")
    ] = False,
    vqa: Annotated[
        bool,
        typer.Option(
            "--vqa",
            help="Also ask questions about images, from a data set of `memlora vqa build`. Without FILE, run only that.",
        ),
    ] = False,
    vqa_from: VqaFolderOption = None,
    locomo: LocomoOptions,
    questions: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Ask at most N questions per conversation, spread evenly; with --conflict, N dialogues per class; with --vqa,"
            " N questions per kind (default: all).",
        ),
    ] = None,
    memory: MemoryOptions,
    systems: SystemOptions,
) -> None:
    """Run one or several benchmarks and write one report.

    Each system reads the conversations and answers the questions; the answers are scored and written to a report. You
    can stop at any time; the same command resumes. `memlora bench report RUN` writes the report of an earlier run again.
    """
    from memlora_mlx.errors import UsageError

    if file is None and not (mine or conflict or vqa or vqa_from):
        raise UsageError("Nothing to measure. Give the path of LoCoMo's file, or use --mine, --conflict or --vqa.")
    if file is not None and mine:
        raise UsageError("--mine uses your own conversations. Remove FILE.")
    _run(
        ctx,
        systems,
        **memory.config(),
        **locomo.config(),
        file=require_files([file])[0] if file else None,
        questions=questions,
        mine=mine,
        conflict=conflict,
        vqa=_vqa_folder(vqa_from) if vqa or vqa_from else None,
    )


@command(app, "locomo", "memlora bench locomo locomo10.json --split test --judge mlx:qwen2.5-3b")
def locomo_command(
    ctx: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=FILE_HELP)],
    locomo: LocomoOptions,
    questions: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Ask at most N questions per conversation, spread evenly (default: all)."
        ),
    ] = None,
    memory: MemoryOptions,
    systems: SystemOptions,
) -> None:
    """Run LoCoMo: read long conversations and answer questions about them."""
    _run(ctx, systems, **memory.config(), **locomo.config(), file=require_files([file])[0], questions=questions)


@command(app, "mine", "memlora bench mine --systems memlora,base")
def mine_command(
    ctx: typer.Context,
    *,
    questions: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Ask at most N questions (default: 50).")
    ] = None,
    memory: MemoryOptions,
    systems: SystemOptions,
) -> None:
    """Ask questions made from your own conversations. No data leaves this machine."""
    _run(ctx, systems, **memory.config(), questions=questions, mine=True)


@command(app, "conflict", "memlora bench conflict --systems memlora,base")
def conflict_command(
    ctx: typer.Context,
    *,
    questions: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use at most N dialogues per class (default: all).")
    ] = None,
    systems: SystemOptions,
) -> None:
    """Run the conflict benchmark: facts that change, repeat and mislead."""
    _run(ctx, systems, questions=questions, conflict=True)


@command(app, "vqa", "memlora bench vqa --split test --student internvl3-1b")
def vqa_command(
    ctx: typer.Context,
    *,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="Folder of the VQA data set (default: the one in <home>/vqa).", show_default=False
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="SPLIT", help="Images to use: val, test, train or all (default: val).", show_default=False
        ),
    ] = "val",
    questions: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Ask at most N questions per kind (default: all).")
    ] = None,
    systems: SystemOptions,
) -> None:
    """Ask one-word questions about images, from a data set of `memlora vqa build`."""
    _run(ctx, systems, split=split, questions=questions, vqa=_vqa_folder(folder))


@command(app, "report", "memlora bench report ~/runs/locomo --out ~/reports/locomo")
def report_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its results.json.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for the report (default: the folder of the run).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report of an earlier run again."""
    from memlora_mlx.eval.results import read_run

    read = read_run(run)
    _write_and_print(read, out or (run if run.is_dir() else run.parent), as_json, keep=out is not None)


def _vqa_folder(folder: Path | None) -> Path:
    from memlora_mlx.distill.vqa_dataset import find_dataset
    from memlora_mlx.settings import load_settings

    return find_dataset(load_settings().home, folder)


def _run(ctx: typer.Context, options: SystemOptions, **chosen: Any) -> None:
    """Run what `chosen`, as fields of `BenchConfig`, describes; write and print the report."""
    from memlora_mlx.errors import Cancelled
    from memlora_mlx.eval.bench import run
    from memlora_mlx.eval.bench_config import BenchConfig

    config = BenchConfig(**options.config(), **chosen, command=command_line(ctx))
    with (
        open_workspace(embedder=config.embeds, student=options.student, experts=options.experts) as opened,
        interrupt_event() as cancelled,
        BenchProgress() as display,
    ):
        try:
            result = run(config, opened, on_progress=display.show, cancelled=cancelled)
        except Cancelled:
            display.close()
            if config.mine:
                raise Cancelled("Stopped. With --mine nothing is saved.") from None
            raise Cancelled("Stopped. The measurements so far are saved. Run the same command to continue.") from None
        folder = options.out or _new_folder(opened)
    _write_and_print(result, folder, options.as_json)


def _write_and_print(run: BenchRun, folder: Path, as_json: bool, *, keep: bool = True) -> None:
    """Write the reports, and results.json if `keep` is set; print the summary."""
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
    clean_console(soft_wrap=not sys.stdout.isatty()).print(reports.summary(run))
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
