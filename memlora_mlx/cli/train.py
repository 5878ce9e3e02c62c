"""`memlora train`: teacher data in, an expert out."""

from __future__ import annotations

import shlex
import socket
import sys
import threading
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from memlora_mlx.cli.ingest import interrupt_event
from memlora_mlx.cli.options import JsonOption, StudentOption, open_workspace
from memlora_mlx.cli.training_progress import TrainingProgress, print_training_result

if TYPE_CHECKING:
    from memlora_mlx.distill.recipes import Recipe
    from memlora_mlx.distill.training_runs import TrainingConfig
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.records import Stage

NEWEST = "newest"
CONTINUE_LEARNING_RATE_FACTOR = (
    1 / 15
)  # of the recipe's learning rate, where a run goes on from the expert in use: what it knows is to stay


class TrainCommand(TyperCommand):
    """`--resume` takes a run or nothing, which Typer has no option for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.obj = shlex.join(["memlora", "train", *args])
        given = list(args)
        for i, word in enumerate(args):
            if word == "--resume" and (i + 1 == len(args) or args[i + 1].startswith("-")):
                given[i] = f"--resume={NEWEST}"
        return super().parse_args(ctx, given)


def train_command(
    ctx: typer.Context,
    stage: Annotated[
        str | None, typer.Option(help="extraction, update, generation or vqa.", show_default=False)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:N]",
            help="Rows of a teacher, or N of them, or a benchmark's folder; may be given several times. By default all in"
            " the data folder.",
        ),
    ] = None,
    student: StudentOption = None,
    recipe: Annotated[Path | None, typer.Option(help="A YAML file; by default the stage's own.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER|none",
            help="An expert's folder to go on from, or none: the base. By default, and without --recipe, the expert in use.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Train on so many rows.")] = None,
    epochs: Annotated[float | None, typer.Option(help="At most so many passes over them.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows in a step, over all processes.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At its highest.")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Of the low-rank matrices.")] = None,
    layers: Annotated[str | None, typer.Option(metavar="qv|all", help="Which linear layers are adapted.")] = None,
    max_seq_length: Annotated[int | None, typer.Option(min=16, help="Tokens; longer rows are left out.")] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="Stop after so many validations without a gain.")] = None,
    validations: Annotated[int | None, typer.Option(min=1, help="In an epoch.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the start, the order and the dropout.")] = None,
    grad_checkpoint: Annotated[bool, typer.Option("--grad-checkpoint", help="Less memory, a third more time.")] = False,
    out: Annotated[Path | None, typer.Option(help="The run's folder.", show_default=False)] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="[RUN]", help="Go on with a run; by default the newest unfinished one.", show_default=False
        ),
    ] = None,
    search: Annotated[
        bool,
        typer.Option("--search", help="Search learning rates and batch sizes (Algorithm B1) by the full pipeline."),
    ] = False,
    learning_rates: Annotated[str | None, typer.Option(help="With --search: such as 5e-4,1e-3,2e-3.")] = None,
    batch_sizes: Annotated[str | None, typer.Option(help="With --search: such as 4,8.")] = None,
    metric: Annotated[str | None, typer.Option(help="With --search: what ranks, f1 by default.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="With --search: candidates of each stage to combine.")] = None,
    locomo: Annotated[Path | None, typer.Option(help="With --search: LoCoMo's file.", show_default=False)] = None,
    questions: Annotated[int | None, typer.Option(min=1, help="With --search: only so many.")] = None,
    exchanges: Annotated[int | None, typer.Option(min=1, help="With --search: only the first so many.")] = None,
    no_test: Annotated[bool, typer.Option("--no-test", help="With --search: leave the final test run out.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Make synthetic data without asking if there is none.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the expert of a stage.

    Stop it any time: `memlora train --resume` goes on to the same result. Under `mlx.launch -n N` the processes share
    each batch.
    """
    from memlora_mlx.distill import distributed, training_runs
    from memlora_mlx.distill.recipes import check_recipe, read_recipe
    from memlora_mlx.errors import Cancelled, MemloraError, UsageError
    from memlora_mlx.extras import require

    changes = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "rank": rank,
        "max_seq_length": max_seq_length,
        "patience": patience,
        "validations": validations,
        "seed": seed,
        "grad_checkpoint": grad_checkpoint or None,
        "keys": _layers(layers),
    }

    if search:
        from memlora_mlx.cli.train_search import run_search

        if stage == "vqa":
            raise UsageError(
                "a search ranks by the memory's pipeline, which has no part for vqa; train without --search and compare by"
                " `memlora bench --vqa`"
            )
        if resume is not None and any(
            v is not None for v in (*changes.values(), data, student, recipe, rows, out, locomo)
        ):
            raise UsageError("a search goes on as it was begun; with --resume change only its grid, --metric or --keep")
        run_search(
            [stage] if stage else [],
            learning_rates=learning_rates or (str(learning_rate) if learning_rate else None),
            batch_sizes=batch_sizes or (str(batch_size) if batch_size else None),
            metric=metric,
            keep=keep,
            data=data or (),
            rows=rows,
            recipe=recipe,
            changes=changes,
            student=student,
            locomo=locomo,
            questions=questions,
            exchanges=exchanges,
            test=not no_test,
            folder=out,
            resume=resume,
            yes=yes,
            as_json=as_json,
            command=ctx.obj,
        )
        return

    require("train", "training")

    def ordered(opened: Workspace) -> tuple[TrainingConfig, Path]:
        """What is to be done and where; the first process decides."""
        wanted = None if stage is None else _stage(stage)
        if resume is not None:
            given = [*changes.values(), data, student, recipe, rows, out, start]
            if any(value is not None for value in given):
                raise UsageError("a run goes on as it was begun; with --resume give no other settings")
            return _resumed(resume, wanted, opened.settings.home)
        if wanted is None:
            raise UsageError("which stage? give --stage extraction, update, generation or vqa")
        home, name = opened.settings.home, absolute_student(opened.student_name, opened.settings.home)
        chosen = read_recipe(wanted, recipe, student=name).changed(**changes)
        check_recipe(chosen)
        begun = _start_expert_folder(start, opened, chosen) if start or recipe is None else None
        if begun is not None and start is None and learning_rate is None:
            chosen = chosen.changed(learning_rate=chosen.learning_rate * CONTINUE_LEARNING_RATE_FACTOR)
        files = [absolute_data(given) for given in data] if data else data_or_offer_synthetic(wanted, home, yes)
        folder = out.expanduser().resolve() if out else training_runs.new_run_folder(home, wanted, date.today())
        if training_runs.is_run(folder):
            raise UsageError(f"{folder} holds a run already; --resume {folder} goes on with it")
        return training_runs.TrainingConfig(wanted, name, tuple(files), chosen, rows, start=begun), folder

    try:
        with open_workspace(embedder=False, student=student) as opened:
            first = distributed.rank() == 0
            order, folder = _broadcast_config(ordered(opened) if first else None)  # it may ask: Ctrl-C leaves
            with interrupt_event() as cancelled:
                expert = _train(opened, order, folder, ctx.obj, cancelled)
        if first:
            print_training_result(order, folder, expert, as_json)
    except MemloraError as error:
        if distributed.rank() == 0:
            raise
        if isinstance(error, Cancelled):  # the first process says so
            raise typer.Exit(error.exit_code) from None
        raise type(error)(f"process {distributed.rank()} on {socket.gethostname()}: {error}") from None


def _train(opened: Workspace, config: TrainingConfig, folder: Path, command: str, cancelled: threading.Event) -> Path:
    from memlora_mlx.distill import distributed, training_runs
    from memlora_mlx.distill.training_metrics import read_points
    from memlora_mlx.errors import Cancelled
    from memlora_mlx.models.downloads import resolve
    from memlora_mlx.models.loading import load_student

    name = None if Path(config.student).is_absolute() else config.student
    folder_of_student = resolve(config.student, opened.models_folder)
    student = load_student(folder_of_student, name, image_tiles=opened.settings.image_tiles)
    first = distributed.rank() == 0
    with TrainingProgress(config, read_points(folder), quiet=not first) as progress:
        try:
            if first and not training_runs.is_run(folder):
                training_runs.create_run(config, folder, command)
            return training_runs.train(
                student,
                config,
                folder,
                on_start=progress.start,
                on_point=progress.show,
                cancelled=cancelled,
                command=training_runs.starting_command(folder) or command,
            )
        except Cancelled as error:
            progress.close()
            done, best = str(error).partition(";")[0], folder / training_runs.BEST_SO_FAR
            also = f"; the best so far can be tried: --experts {best}" if best.is_dir() else ""
            raise Cancelled(f"{done}; all of it is kept, and `memlora train --resume {folder}` goes on{also}") from None
        finally:
            if first:
                training_runs.discard_empty_run(folder)


# ------------------------------------------------------------------------------------------------ what is asked for


def _stage(name: str) -> Stage:
    from memlora_mlx.errors import UsageError
    from memlora_mlx.records import STAGES

    for stage in STAGES:
        if stage == name:
            return stage
    raise UsageError(f"there is no stage {name!r}; known are {', '.join(STAGES)}")


def _start_expert_folder(given: str | None, opened: Workspace, recipe: Recipe) -> str | None:
    """The expert that a run goes on from: the one named, or the one in use if it adapts what the recipe adapts."""
    from memlora_mlx.models.adapter_registry import read_card

    if given is not None:
        return None if given == "none" else str(Path(given).expanduser().resolve())
    folder = opened.expert_folders.get(recipe.stage)
    if folder is None:
        return None
    trained_by, wanted = read_card(folder).recipe, recipe.as_dict()
    alike = all(trained_by.get(name) == wanted[name] for name in ("keys", "rank", "num_layers"))
    return str(folder.resolve()) if alike else None


def _layers(name: str | None) -> tuple[str, ...] | None:
    from memlora_mlx.errors import UsageError

    if name is None:
        return None
    from memlora_mlx.models.experts import ALL_LINEAR, Q_V

    known = {"qv": Q_V, "all": ALL_LINEAR}
    if name not in known:
        raise UsageError(f"--layers takes qv or all, not {name!r}")
    return known[name]


def absolute_student(student: str, home: Path) -> str:
    """A student's name that means the same in any folder."""
    from memlora_mlx.models.catalog import entries

    local = Path(student).expanduser()
    return str(local.resolve()) if student not in entries(home) and local.is_dir() else student


def absolute_data(data: str) -> str:
    """FILE or FILE:N with the file's whole path; of a benchmark's folder, its rows."""
    from memlora_mlx.distill.training_runs import parse_file_and_count
    from memlora_mlx.distill.vqa_dataset import ROWS
    from memlora_mlx.errors import UsageError

    name, count = parse_file_and_count(data)
    path = Path(name).expanduser()
    if (path / ROWS).is_file():
        path /= ROWS
    if not path.is_file():
        raise UsageError(f"there is no file {name}; check the path")
    return f"{path.resolve()}" + ("" if count is None else f":{count}")


def data_or_offer_synthetic(stage: Stage, home: Path, yes: bool) -> list[str]:
    from memlora_mlx.distill.training_runs import default_data, local_data_offer
    from memlora_mlx.errors import BadTrainingData

    try:
        return list(map(str, default_data(stage, home)))
    except BadTrainingData as error:
        on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
        if not yes and not (
            on_terminal
            and typer.confirm(f"No teacher data for {stage}. {local_data_offer(stage)} now?", default=True, err=True)
        ):
            raise BadTrainingData(f"{error} Use --yes to generate it without being asked.") from None
    if stage == "vqa":
        from memlora_mlx.eval.vqa.drawings import build

        build(home / "vqa" / "drawings")
        return list(map(str, default_data(stage, home)))
    from memlora_mlx.cli.teach import generate_synthetic_examples
    from memlora_mlx.distill.local_teachers import CPU_DIALOGUES, DEFAULT_DIALOGUES, UNUSED_SEED
    from memlora_mlx.models import device

    generate_synthetic_examples(stage, CPU_DIALOGUES if device.on_cpu() else DEFAULT_DIALOGUES, UNUSED_SEED)
    return list(map(str, default_data(stage, home)))


def _resumed(run: str, stage: Stage | None, home: Path) -> tuple[TrainingConfig, Path]:
    from memlora_mlx.distill import training_runs
    from memlora_mlx.errors import UsageError

    folder = Path(run).expanduser()
    if run == NEWEST:
        folder = training_runs.newest_unfinished(home, stage)
    elif not folder.exists() and (home / "runs" / run).is_dir():
        folder = home / "runs" / run
    order = training_runs.read_run_config(folder)
    if stage is not None and order.stage != stage:
        raise UsageError(f"the run in {folder} is of {order.stage}, not of {stage}; leave --stage away")
    return order, folder.resolve()


def _broadcast_config(decided: tuple[TrainingConfig, Path] | None) -> tuple[TrainingConfig, Path]:
    """What the first process decided, in all of them."""
    import json

    from memlora_mlx.distill import distributed
    from memlora_mlx.distill.training_runs import config_from_json, config_to_json

    mine = b"" if decided is None else json.dumps([config_to_json(decided[0]), str(decided[1])]).encode()
    order, folder = json.loads(distributed.broadcast(mine))
    return config_from_json(order), Path(folder)
