"""The Typer app of the `memlora` command: which commands it has, and the options that all of them share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from memlora_mlx.cli import adapters, bench, memory, models, vqa
from memlora_mlx.cli.ask import ask_command
from memlora_mlx.cli.chat import chat_command
from memlora_mlx.cli.demo import demo_command
from memlora_mlx.cli.doctor import doctor_command
from memlora_mlx.cli.ingest import ingest_command
from memlora_mlx.cli.teach import teach_command
from memlora_mlx.cli.train import TrainCommand, train_command

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="A long-term memory for chat assistants, on this machine alone.",
)
app.command("ingest")(ingest_command)
app.command("ask")(ask_command)
app.command("chat")(chat_command)
app.add_typer(memory.app, name="memory")
app.add_typer(models.app, name="models")
app.command("teach")(teach_command)
app.command("train", cls=TrainCommand)(train_command)
app.add_typer(adapters.app, name="adapters")
app.add_typer(bench.app, name="bench")
app.add_typer(vqa.app, name="vqa")
app.command("doctor")(doctor_command)
app.command("demo")(demo_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from memlora_mlx import __version__

        typer.echo(f"memlora {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    home: Annotated[
        Path | None, typer.Option(help="Folder of models, memories and config.toml (MEMLORA_HOME).", show_default=False)
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    if home is not None:  # settings are read where they are needed; this is how all of them see it
        os.environ["MEMLORA_HOME"] = str(home.expanduser())
