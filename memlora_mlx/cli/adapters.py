"""`memlora adapters`: list, show, verify, install and export experts (LoRA adapters)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memlora_mlx.cli.console import open_workspace, print_json
from memlora_mlx.cli.help import HelpGroup, command, examples
from memlora_mlx.cli.options import ExpertStageOption, JsonOption, StudentOption, parse_stage
from memlora_mlx.cli.printing import clean_console

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.records import Stage

app = typer.Typer(
    cls=HelpGroup,
    no_args_is_help=True,
    help="List, show, verify, install and export experts (LoRA adapters).",
    epilog=examples("memlora adapters list", "memlora adapters install ~/runs/update-1"),
)

ExpertArgument = Annotated[
    str, typer.Argument(metavar="STAGE|FOLDER", help="Stage, for its expert in use, or the folder of an expert.")
]


@command(app, "list", "memlora adapters list")
def list_adapters(as_json: JsonOption = False) -> None:
    """List shipped and installed experts. An installed expert is used before a shipped one."""
    from memlora_mlx.errors import AdapterMismatch
    from memlora_mlx.models.adapter_registry import WEIGHTS, list_experts, read_card
    from memlora_mlx.models.cards import ExpertCard
    from memlora_mlx.settings import load_settings

    rows: list[dict[str, Any]] = []
    for place in list_experts(load_settings().home):
        weights = place.folder / WEIGHTS
        try:
            card, state = read_card(place.folder), "whole" if weights.is_file() else "broken"
        except AdapterMismatch:
            card, state = ExpertCard(), "broken"
        rows.append(
            {
                "stage": place.stage,
                "student": place.student,
                "origin": place.origin,
                "is_used": place.is_active,
                "state": state,
                "base": card.base.name if card.base else None,
                "data": card.data.teachers if card.data else {},
                "licence": card.licence,
                "validation_loss": card.metrics.validation_loss if card.metrics else None,
                "bytes": weights.stat().st_size if weights.is_file() else 0,
                "path": str(place.folder),
            }
        )
    if as_json:
        print_json(rows)
    elif rows:
        _print_table(rows)
    else:
        typer.echo("There are no experts yet. `memlora train --stage extraction` trains one.", err=True)


@command(app, "show", "memlora adapters show update")
def show(which: ExpertArgument, student: StudentOption = None, as_json: JsonOption = False) -> None:
    """Print an expert's card: base model, data, licence and results."""
    from memlora_mlx.models.cards import AdapterConfig

    with open_workspace(models=False, student=student) as opened:
        folder = _find_experts(opened, which)
    config = AdapterConfig.read(folder).as_json()
    card = {"folder": str(folder), **config.pop("memlora", {"card": "none"}), "adapter_config": config}
    if as_json:
        print_json(card)
    else:
        _print_card(card, "")


@command(app, "verify", "memlora adapters verify", "memlora adapters verify ~/runs/update-1/expert")
def verify(
    which: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STAGE|FOLDER",
            help="Stages or folders of the experts to check (default: every expert in use).",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:N]",
            help="Data to validate with: a JSONL file, or FILE:N for its first N examples. May be repeated (default: the"
            " files named in the card).",
        ),
    ] = None,
    stage: ExpertStageOption = None,
    student: StudentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check experts against their cards: files, base model and validation loss. Exits with 1 if something differs."""
    from memlora_mlx.distill import adapter_operations
    from memlora_mlx.errors import ModelMissing

    with open_workspace(embedder=False, student=student) as opened:
        folders = [_find_experts(opened, name) for name in which or opened.expert_stages]
        if not folders:
            raise ModelMissing(f"{opened.student_name} has no experts. `memlora train --stage extraction` trains one.")
        base, home, known = _student(opened), opened.settings.home, None if stage is None else parse_stage(stage)
        found = {
            folder: adapter_operations.verify_expert(folder, base, home, stage=known, data=data or [])
            for folder in folders
        }
    if as_json:
        rows = [
            {"folder": str(path), "what": f.subject, "is_right": f.is_right, "says": f.message}
            for path in found
            for f in found[path]
        ]
        print_json(rows)
    else:
        marks = {True: "ok     ", None: "note   ", False: "PROBLEM"}
        for folder, findings in found.items():
            typer.echo(str(folder))
            for finding in findings:
                typer.echo(f"  {marks[finding.is_right]}  {finding.subject}: {finding.message}")
    if any(finding.is_right is False for findings in found.values() for finding in findings):
        raise typer.Exit(1)


@command(
    app,
    "install",
    "memlora adapters install ~/runs/update-1",
    "memlora adapters install experts.zip",
    "memlora adapters install OWNER/NAME",
)
def install(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of an expert, of several, or of a training run that produced one; an archive that `export` wrote; or"
            " a repository on the hub.",
        ),
    ],
    stage: ExpertStageOption = None,
    student: StudentOption = None,
) -> None:
    """Install experts for a student and print their new folders. The student uses them from now on."""
    from memlora_mlx.distill import adapter_operations
    from memlora_mlx.models.adapter_registry import read_card
    from memlora_mlx.text import clean_line

    known = None if stage is None else parse_stage(stage)
    with open_workspace(embedder=False, student=student) as opened:
        places = adapter_operations.install_experts(
            source, _student(opened), opened.student_name, opened.settings.home, stage=known
        )
        name = opened.student_name
    for place in places:
        typer.echo(str(place))
        licence = read_card(place).licence
        typer.echo(
            f"{name} uses it for {place.name} from now on.{f' Licence: {clean_line(licence)}.' if licence else ''}",
            err=True,
        )


@command(
    app,
    "export",
    "memlora adapters export update ~/update-expert",
    "memlora adapters export update update.zip",
    "memlora adapters export all experts.zip",
)
def export(
    which: Annotated[
        str,
        typer.Argument(
            metavar="STAGE|FOLDER|all", help="Stage, for its expert in use; the folder of an expert; or all in use."
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="Folder to create, or a file whose name ends in .zip.")
    ],
    student: StudentOption = None,
) -> None:
    """Copy an expert in mlx-lm's format, for `mlx_lm.generate --adapter-path FOLDER`, or write one file to hand on.

    The file has the experts with their cards, a README with their licence, and checksums. `all` with a folder writes the
    same as a folder, which can be uploaded to the hub.
    """
    from memlora_mlx.distill import adapter_operations, expert_archives
    from memlora_mlx.errors import MemloraError

    target = target.expanduser()
    with open_workspace(models=False, student=student) as opened:
        if which == "all" or target.suffix == expert_archives.SUFFIX:
            chosen = _chosen_experts(opened, which)
            write = expert_archives.write_archive if target.suffix == ".zip" else expert_archives.write_folder
            write(chosen, target)
            typer.echo(str(target))
            typer.echo(f"memlora adapters install {shlex.quote(str(target))}", err=True)
            return
        adapter_operations.export_expert(_find_experts(opened, which), target)
        try:
            model = str(opened.student_folder)
        except MemloraError:
            model = "MODEL"
    typer.echo(str(target))
    typer.echo(f"mlx_lm.generate --model {shlex.quote(model)} --adapter-path {shlex.quote(str(target))}", err=True)


# ------------------------------------------------------------------------------------------------ inside


def _find_experts(opened: Workspace, which: str) -> Path:
    """The folder of a stage's expert in use, or the folder itself."""
    from memlora_mlx.errors import ModelMissing, UsageError
    from memlora_mlx.models.cards import CONFIG
    from memlora_mlx.records import STAGES

    if which in STAGES:
        folders = opened.expert_folders
        if which not in folders:
            raise ModelMissing(
                f"{opened.student_name} has no {which} expert. `memlora train --stage {which}` trains one."
            )
        return folders[parse_stage(which)]
    folder = Path(which).expanduser()
    if not folder.is_dir():
        raise UsageError(f"{which!r} is neither a stage nor a folder. Give a folder, or one of: {', '.join(STAGES)}.")
    made = folder / "expert"  # of a run
    return made if not (folder / CONFIG).is_file() and (made / CONFIG).is_file() else folder


def _chosen_experts(opened: Workspace, which: str) -> dict[Stage, Path]:
    """The experts to put into one file. Raises UsageError: an expert does not say its stage."""
    from memlora_mlx.errors import ModelMissing, UsageError
    from memlora_mlx.models.adapter_registry import experts_in
    from memlora_mlx.records import STAGES

    if which == "all":
        if not opened.expert_folders:
            raise ModelMissing(f"{opened.student_name} has no experts. `memlora train` makes some.")
        return opened.expert_folders
    folder = _find_experts(opened, which)
    if which in STAGES:
        return {parse_stage(which): folder}
    found = experts_in(folder)
    if not found:
        raise UsageError(
            f"The card of the expert in {folder} does not say its stage, so it cannot be put into one file."
        )
    return found


def _student(opened: Workspace) -> Any:
    from memlora_mlx.models.catalog import entries
    from memlora_mlx.models.loading import load_student

    name = opened.student_name
    return load_student(opened.student_folder, name if name in entries(opened.settings.home) else None)


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("Stage", "Student", "Origin", "Data", "Licence"):
        table.add_column(name, no_wrap=name in ("Stage", "Origin"), overflow="fold")
    for name in ("Loss", "Size"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        origin = row["origin"] if row["state"] == "whole" else row["state"]
        table.add_row(
            row["stage"],
            row["student"] + ("" if row["base"] in (None, row["student"]) else f" (base {row['base']})"),
            origin if row["is_used"] else f"({origin})",
            "\n".join(row["data"]) or "?",
            "\n".join(part.partition(" (")[0] for part in (row["licence"] or "?").split("; ")),
            _format_loss_change(row["validation_loss"]),
            f"{row['bytes'] / 1e6:.1f} MB",
            style=None if row["is_used"] else "dim",
        )
    clean_console().print(table)


def _format_loss_change(loss: object) -> str:
    """A card's validation losses, from where the training began to the expert; cards come from anywhere."""
    if not isinstance(loss, Mapping):
        return "?"
    try:
        return f"{float(loss.get('base', loss.get('start'))):.2f} -> {float(loss['expert']):.2f}"
    except (KeyError, TypeError, ValueError):
        return "?"


def _print_card(card: Mapping[str, Any], margin: str) -> None:
    for name, value in card.items():
        words = name.replace("_", " ")
        if isinstance(value, Mapping):
            typer.echo(f"{margin}{words}")
            _print_card(value, margin + "  ")
        else:
            said = ", ".join(map(str, value)) if isinstance(value, list) else value
            typer.echo(f"{margin}{words}: {said:.6g}" if isinstance(said, float) else f"{margin}{words}: {said}")
