"""`memlora train`: train all experts or one, resume a run, or search for the best settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from memlora_mlx.cli.help import DefaultCommandGroup, command, command_line, examples
from memlora_mlx.cli.options import DataOption, JsonOption, RecipeOptions, StudentOption


class TrainGroup(DefaultCommandGroup):
    """`memlora train` trains all experts, and `memlora train --stage update` one of them.

    `--search` and `--resume` are the older spellings of those commands.
    """

    default = "all"
    flags: ClassVar[dict[str, str]] = {"--search": "search", "--resume": "resume", "--stage": "run"}


app = typer.Typer(
    cls=TrainGroup,
    subcommand_metavar="[COMMAND] [OPTIONS]",
    help="Train experts.\n\nWithout the name of a command, all experts of the student are trained: see `memlora train all"
    " --help`. With --stage, one is: see `memlora train run --help`.",
    epilog=examples(
        "memlora train --budget 2h",
        "memlora train --stage update",
        "memlora train resume",
        "memlora train search --locomo locomo10.json",
    ),
)

RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="Folder of the run, or its name in <home>/runs (default: the newest unfinished one).",
        show_default=False,
    ),
]
RowsOption = Annotated[
    int | None,
    typer.Option("--rows", metavar="N", min=1, help="Use only the first N training examples (default: all)."),
]
YesOption = Annotated[
    bool, typer.Option("--yes", help="Generate synthetic data without asking if there is no training data.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Folder to create for the run (default: a new one in <home>/runs)."),
]


@command(app, "all", "memlora train", "memlora train --budget 2h", "memlora train all --plan")
def all_command(
    ctx: typer.Context,
    *,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Make the plan fit into this time, such as 20m, 2h or 1h30m (default: as long as the recipes take).",
        ),
    ] = None,
    locomo: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="LoCoMo's JSON file, whose annotations are used as training data too."),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Judge the whole pipeline on the conversations and questions of this file, in LoCoMo's form (default:"
            " generated lives that no training uses).",
        ),
    ] = None,
    student: StudentOption = None,
    new: Annotated[
        bool, typer.Option("--new", help="Begin a new session even if there is one that has not finished.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only make the plan and print it. The same command without --plan trains.")
    ] = False,
    no_install: Annotated[
        bool, typer.Option("--no-install", help="Do not install the new experts, even if they are better.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the experts of all stages, judge each of them, and install those that are better.

    Training data is made where there is none. You can stop at any time, or kill it: the same command continues. At the end a
    report says what got better and by how much.
    """
    from memlora_mlx.cli.train_all import SessionRequest, run_session

    request = SessionRequest(budget, locomo, val, not no_install, new, plan)
    run_session(request, student=student, command=command_line(ctx), as_json=as_json)


@command(
    app, "run", "memlora train --stage update", "memlora train --stage extraction --data corrections.jsonl --epochs 1"
)
def run_command(
    ctx: typer.Context,
    *,
    stage: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Stage to train: extraction, update, generation or vqa. Required."),
    ] = None,
    data: DataOption = None,
    rows: RowsOption = None,
    student: StudentOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER|none",
            help="Continue from the expert in this folder, or give none to start from the base model (default: the expert"
            " in use, unless --recipe is given).",
        ),
    ] = None,
    recipe: RecipeOptions,
    out: OutOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the expert of one stage.

    You can stop at any time: `memlora train resume` continues and gives the same result. Under `mlx.launch -n N` the
    processes share each batch.
    """
    from memlora_mlx.cli.training_run import new_run, run_training

    run_training(
        lambda opened: new_run(opened, stage, recipe, data=data or (), rows=rows, start=start, out=out, yes=yes),
        student=student,
        command=command_line(ctx),
        as_json=as_json,
    )


@command(app, "resume", "memlora train resume", "memlora train resume update-2025-05-08-1")
def resume_command(
    ctx: typer.Context,
    run: RunArgument = None,
    stage: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Resume a run of this stage only (default: any stage).")
    ] = None,
    as_json: JsonOption = False,
    old_spelling: Annotated[bool, typer.Option("--resume", hidden=True)] = False,
) -> None:
    """Continue a training run that was stopped. It keeps the settings that it was started with."""
    from memlora_mlx.cli.training_run import resumed_run, run_training

    run_training(
        lambda opened: resumed_run(run, stage, opened.settings.home), command=command_line(ctx), as_json=as_json
    )


@dataclass(frozen=True, slots=True)
class GridOptions:
    """Which candidates are trained, and how they are ranked."""

    learning_rates: Annotated[
        str | None,
        typer.Option(
            metavar="RATE,...", help="Peak learning rates to try, separated by commas (default: 5e-4,1e-3,2e-3)."
        ),
    ] = None
    batch_sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,...", help="Batch sizes to try, in examples per step, separated by commas (default: 4,8)."
        ),
    ] = None
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Metric that ranks the candidates (default: f1).")
    ] = None
    keep: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="How many of the best candidates of each stage to combine with the other stages (default: 2).",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """What the candidates are measured on."""

    locomo: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="LoCoMo's JSON file, on which the candidates are measured. Required."),
    ] = None
    questions: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Ask at most N questions per conversation (default: all)."),
    ] = None
    exchanges: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "--exchanges",
            metavar="N",
            min=1,
            help="Read only the first N exchanges of each conversation (default: all).",
        ),
    ] = None
    no_test: Annotated[
        bool, typer.Option("--no-test", help="Skip the final measurement on the test conversations.")
    ] = False


@command(
    app,
    "search",
    "memlora train search --locomo locomo10.json",
    "memlora train search --stage update --locomo locomo10.json --learning-rates 5e-4,1e-3 --batch-sizes 4,8",
    "memlora train search --resume",
)
def search_command(
    ctx: typer.Context,
    *,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="SEARCH",
            help="With --resume: folder of the search, or its name in <home>/runs (default: the newest one).",
            show_default=False,
        ),
    ] = None,
    measured: MeasureOptions,
    grid: GridOptions,
    stage: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE", help="Search only this stage (default: extraction, update and generation, one by one)."
        ),
    ] = None,
    data: DataOption = None,
    rows: RowsOption = None,
    student: StudentOption = None,
    recipe: RecipeOptions,
    out: OutOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue a search. It keeps its settings; only the grid, --metric and --keep can change."
        ),
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    old_spelling: Annotated[bool, typer.Option("--search", hidden=True)] = False,
) -> None:
    """Search learning rates and batch sizes by the whole pipeline (the paper's Algorithm B1).

    Each candidate is trained and measured on LoCoMo's validation conversations; the best candidates of each stage are
    then combined.
    """
    from memlora_mlx.errors import UsageError

    if run is not None and not resume:
        raise UsageError(f"Unexpected argument {run}. Use --resume {run} to continue a search.")
    from memlora_mlx.cli.train_search import SearchRequest, run_search
    from memlora_mlx.cli.training_inputs import NEWEST

    run_search(
        SearchRequest(
            stages=[stage] if stage else (),
            recipe=recipe,
            learning_rates=grid.learning_rates,
            batch_sizes=grid.batch_sizes,
            metric=grid.metric,
            keep=grid.keep,
            data=data or (),
            rows=rows,
            student=student,
            locomo=measured.locomo,
            questions=measured.questions,
            exchanges=measured.exchanges,
            test=not measured.no_test,
            folder=out,
            resume=(run or NEWEST) if resume else None,
            yes=yes,
        ),
        as_json=as_json,
        command=command_line(ctx),
    )
