"""One training run from the command line: what to train and where, in one process or in those of `mlx.launch`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memlora_mlx.cli.console import interrupt_event, open_workspace
from memlora_mlx.cli.options import RecipeOptions, parse_stage
from memlora_mlx.cli.training_inputs import absolute_data, absolute_student, data_or_offer_synthetic
from memlora_mlx.cli.training_progress import TrainingProgress, print_training_result

if TYPE_CHECKING:
    from memlora_mlx.distill.recipes import Recipe
    from memlora_mlx.distill.training_runs import TrainingConfig
    from memlora_mlx.memory.workspace import Workspace


def run_training(
    decide: Callable[[Workspace], tuple[TrainingConfig, Path]],
    *,
    student: str | None = None,
    command: str,
    as_json: bool,
) -> None:
    """Train and print the result.

    Args:
        decide: gives the run's settings and folder; only the first process calls it. It may ask the user.
        command: the command line, for the expert's card.
    """
    from memlora_mlx.distill import distributed
    from memlora_mlx.errors import Cancelled, MemloraError
    from memlora_mlx.extras import require

    require("train", "training")
    try:
        with open_workspace(embedder=False, student=student) as opened:
            first = distributed.rank() == 0
            config, folder = _broadcast_config(decide(opened) if first else None)  # it may ask: Ctrl-C leaves
            with interrupt_event() as cancelled:
                expert = _train(opened, config, folder, command, cancelled)
        if first:
            print_training_result(config, folder, expert, as_json)
    except MemloraError as error:
        if distributed.rank() == 0:
            raise
        if isinstance(error, Cancelled):  # the first process prints it
            raise typer.Exit(error.exit_code) from None
        raise type(error)(f"process {distributed.rank()} on {socket.gethostname()}: {error}") from None


def new_run(
    opened: Workspace,
    stage_name: str | None,
    options: RecipeOptions,
    *,
    data: Sequence[str],
    rows: int | None,
    start: str | None,
    out: Path | None,
    yes: bool,
) -> tuple[TrainingConfig, Path]:
    """The settings and the folder of a new run.

    Raises:
        UsageError: no stage, an unknown recipe, file or layer, a value out of range, or a folder that contains a run.
        BadTrainingData: there is no training data.
    """
    from memlora_mlx.distill import training_runs
    from memlora_mlx.distill.recipes import CONTINUE_LEARNING_RATE_FACTOR, check_recipe, read_recipe
    from memlora_mlx.errors import UsageError
    from memlora_mlx.records import STAGES

    if stage_name is None:
        raise UsageError(f"Missing option --stage. Choose one of: {', '.join(STAGES)}.")
    stage = parse_stage(stage_name)
    home, name = opened.settings.home, absolute_student(opened.student_name, opened.settings.home)
    recipe = read_recipe(stage, options.recipe, student=name).changed(**options.changes())
    check_recipe(recipe)
    begun = _start_expert_folder(start, opened, recipe) if start or options.recipe is None else None
    if begun is not None and start is None and options.learning_rate is None:
        recipe = recipe.changed(learning_rate=recipe.learning_rate * CONTINUE_LEARNING_RATE_FACTOR)
    files = list(map(absolute_data, data)) or data_or_offer_synthetic(stage, home, yes)
    folder = out.expanduser().resolve() if out else training_runs.new_run_folder(home, stage, date.today())
    if training_runs.is_run(folder):
        raise UsageError(f"{folder} already contains a run. Resume it with `memlora train resume {folder}`.")
    return training_runs.TrainingConfig(stage, name, tuple(files), recipe, rows, start=begun), folder


def resumed_run(run: str | None, stage_name: str | None, home: Path) -> tuple[TrainingConfig, Path]:
    """The settings and the folder of a run to resume.

    Args:
        run: its folder or its name in <home>/runs; None: the newest unfinished one.
        stage_name: the stage that it must train.

    Raises:
        UsageError: there is no such run, or it trains another stage.
    """
    from memlora_mlx.distill import training_runs
    from memlora_mlx.errors import UsageError

    stage = None if stage_name is None else parse_stage(stage_name)
    if run is None:
        folder = training_runs.newest_unfinished(home, stage)
    else:
        folder = Path(run).expanduser()
        if not folder.exists() and (home / "runs" / run).is_dir():
            folder = home / "runs" / run
    config = training_runs.read_run_config(folder)
    if stage is not None and config.stage != stage:
        raise UsageError(f"The run in {folder} trains {config.stage}, not {stage}. Remove --stage to resume it.")
    return config, folder.resolve()


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
                on_note=progress.print,
                cancelled=cancelled,
                command=training_runs.starting_command(folder) or command,
            )
        except Cancelled as error:
            progress.close()
            done, best = str(error).partition(";")[0], folder / training_runs.BEST_SO_FAR
            also = f" To try the best weights so far: --experts {best}" if best.is_dir() else ""
            raise Cancelled(
                f"{done}; the run is saved. Run `memlora train resume {folder}` to continue.{also}"
            ) from None
        finally:
            if first:
                training_runs.discard_empty_run(folder)


def _start_expert_folder(name: str | None, opened: Workspace, recipe: Recipe) -> str | None:
    """The expert that a run continues from: the one named, or the one in use if it adapts the same layers."""
    from memlora_mlx.distill.recipes import continues
    from memlora_mlx.models.adapter_registry import read_card

    if name is not None:
        return None if name == "none" else str(Path(name).expanduser().resolve())
    folder = opened.expert_folders.get(recipe.stage)
    if folder is None:
        return None
    return str(folder.resolve()) if continues(read_card(folder).recipe, recipe) else None


def _broadcast_config(decided: tuple[TrainingConfig, Path] | None) -> tuple[TrainingConfig, Path]:
    """What the first process decided, in all of them."""
    import json

    from memlora_mlx.distill import distributed
    from memlora_mlx.distill.training_runs import config_from_json, config_to_json

    message = b"" if decided is None else json.dumps([config_to_json(decided[0]), str(decided[1])]).encode()
    config, folder = json.loads(distributed.broadcast(message))
    return config_from_json(config), Path(folder)
