"""`memlora models`: list, download and remove students and embedders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memlora_mlx.cli.help import HelpGroup, command, examples
from memlora_mlx.cli.options import JsonOption
from memlora_mlx.cli.printing import clean_console, print_json, stderr_console
from memlora_mlx.errors import MemloraError

app = typer.Typer(
    cls=HelpGroup,
    no_args_is_help=True,
    help="List, download, choose and remove students and embedders.",
    epilog=examples("memlora models list", "memlora models pull smollm2-135m all-minilm-l6-v2"),
)

ModelArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name from `models list`, Hugging Face id, or local folder.")
]


@command(app, "list", "memlora models list", "memlora models list --all")
def list_models(
    everything: Annotated[bool, typer.Option("--all", help="Also list models that exist for tests only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the models that memlora knows by name, and all that are installed."""
    from memlora_mlx.models.catalog import entries
    from memlora_mlx.models.downloads import default_student, installed
    from memlora_mlx.settings import load_settings

    settings = load_settings()
    folder, known = settings.models_folder, entries(settings.home)
    here = {model.name: model for model in installed(folder)}
    default = settings.student or default_student(folder)
    rows: list[dict[str, object]] = []
    for name in [*known, *sorted(here.keys() - known.keys())]:
        entry, model = known.get(name), here.get(name)
        if entry and entry.is_shipped and not model and not everything:
            continue  # a test bench that nobody has pulled
        added = model.manifest if model and not entry else None
        about = entry or added
        rows.append(
            {
                "name": name,
                "kind": entry.kind if entry else "student" if added and added.gguf else None,
                "family": about.family if about else None,
                "precision": about.precision if about else None,
                "bytes": model.size_bytes if model else entry.download_bytes if entry else None,
                "licence": about.licence if about else None,
                "state": "missing" if model is None else "here" if model.is_complete else "broken",
                "is_default": name == default,
                "path": str(model.path) if model else None,
                "note": entry.note if entry else None,
            }
        )
    if as_json:
        print_json(rows)
    else:
        _print_table(rows)


@command(app, "pull", "memlora models pull qwen2.5-3b")
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names from `models list`, or Hugging Face ids.")],
    newest: Annotated[
        bool,
        typer.Option("--newest", help="Take the newest revision on the hub, not that of the first download."),
    ] = False,
) -> None:
    """Download models and print the folder of each.

    The first download of a repository pins its revision and the SHA-256 of each file. A later one takes the same revision
    and refuses other files.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    from memlora_mlx.errors import Cancelled
    from memlora_mlx.models import downloads
    from memlora_mlx.settings import load_settings

    folder = load_settings().models_folder
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    console = stderr_console()
    for name in names:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(name, total=None)

            def show(
                phase: str, done: int, total: int, name: str = name, bar: Progress = bar, task: int = task
            ) -> None:
                bar.update(task, description=f"{name}: {phase}", completed=done, total=total or None)  # type: ignore[arg-type]

            try:
                path = downloads.pull(name, folder, newest=newest, report=show)
            except KeyboardInterrupt:
                raise Cancelled(f"Stopped. Run `memlora models pull {name}` to continue.") from None
        typer.echo(str(path))
    _say_who_answers()


@command(app, "use", "memlora models use qwen3-4b")
def use(name: ModelArgument) -> None:
    """Choose the student that answers from now on. The choice is saved in config.toml."""
    from memlora_mlx.config_file import is_overridden, save_preferences
    from memlora_mlx.errors import UsageError
    from memlora_mlx.models.catalog import entries
    from memlora_mlx.models.downloads import resolve
    from memlora_mlx.settings import load_settings

    settings = load_settings()
    resolve(name, settings.models_folder)
    entry = entries(settings.home).get(name)
    if entry is not None and entry.kind != "student":
        raise UsageError(f'{name} is an embedder. Choose it with embedder = "{name}" in config.toml.')
    save_preferences(settings.home, student=name)
    if is_overridden("student"):
        typer.echo("MEMLORA_STUDENT names another student and goes before this choice. Unset it.", err=True)
    _say_who_answers()


def _say_who_answers() -> None:
    """Say which student answers, with which experts, and how to choose another. Nothing without a student."""
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.models.downloads import installed
    from memlora_mlx.settings import load_settings

    settings = load_settings()
    with Workspace(settings) as opened:
        try:
            name, stages = opened.student_name, opened.expert_stages
        except MemloraError:
            return
    experts = f"its experts for {', '.join(stages)}" if stages else "no experts: the base model does every stage"
    others = [model.name for model in installed(settings.models_folder) if model.name != name and model.is_complete]
    how = "; `memlora models use NAME` chooses another" if others else ""
    typer.echo(f"{name} answers, with {experts}{how}.", err=True)


@command(app, "add", "memlora models add ~/Downloads/Qwen3-1.7B-Q4_K_M.gguf --name my-qwen")
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="GGUF file, as LM Studio and Ollama keep them.")],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the new student (default: the name of the file).", show_default=False
        ),
    ] = None,
) -> None:
    """Convert a GGUF file into a student and print its folder."""
    from memlora_mlx.models.added_models import add_gguf
    from memlora_mlx.settings import load_settings

    typer.echo(f"Converting {file.name} ...", err=True)
    folder = add_gguf(file, load_settings().models_folder, name)
    typer.echo(str(folder))
    typer.echo(
        f"Use it once with --student {folder.name}, or always after `memlora models use {folder.name}`.", err=True
    )


@command(app, "path", "memlora models path smollm2-135m")
def path(name: ModelArgument) -> None:
    """Print the folder of an installed model."""
    from memlora_mlx.models.downloads import resolve
    from memlora_mlx.settings import load_settings

    typer.echo(str(resolve(name, load_settings().models_folder)))


@command(app, "remove", "memlora models remove qwen2.5-3b")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name from `models list`, or Hugging Face id.")],
) -> None:
    """Delete an installed model."""
    from memlora_mlx.models import downloads
    from memlora_mlx.settings import load_settings

    downloads.remove(name, load_settings().models_folder)
    typer.echo(f"{name} removed", err=True)


def _print_table(rows: list[dict[str, object]]) -> None:
    from rich.filesize import decimal
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("Name", no_wrap=True)
    table.add_column("Family", no_wrap=True)
    table.add_column("Size", no_wrap=True, justify="right")
    table.add_column("Licence")
    table.add_column("Here", no_wrap=True)
    words = {"missing": "", "here": "yes", "broken": "half"}
    for row in rows:
        size = row["bytes"]
        table.add_row(
            str(row["name"]),
            f"{row['family'] or '?'} {row['precision'] or ''}".strip(),
            decimal(size) if isinstance(size, int) else "?",
            str(row["licence"] or "?"),
            "default" if row["is_default"] else words[str(row["state"])],
        )
    clean_console().print(table)
