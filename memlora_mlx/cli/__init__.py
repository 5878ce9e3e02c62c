"""The `memlora` command: thin commands that parse, call the library and print.

Results go to standard output, progress and notes to standard error. Exit codes: 0 fine, 1 failure, 2 usage,
130 interrupted. Only `main` turns errors into text; a bug keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from memlora_mlx.cli import memory, models
from memlora_mlx.cli.ask import ask
from memlora_mlx.cli.chat import chat
from memlora_mlx.cli.demo import demo
from memlora_mlx.cli.doctor import doctor
from memlora_mlx.cli.ingest import ingest
from memlora_mlx.errors import MemloraError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="A long-term memory for chat assistants, on this machine alone.",
)
app.command()(ingest)
app.command()(ask)
app.command()(chat)
app.add_typer(memory.app, name="memory")
app.add_typer(models.app, name="models")
app.command()(doctor)
app.command()(demo)


@app.callback()
def _root(
    home: Annotated[
        Path | None, typer.Option(help="Folder of models, memories and config.toml (MEMLORA_HOME).", show_default=False)
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        from memlora_mlx import __version__

        typer.echo(f"memlora {__version__}")
        raise typer.Exit
    if home is not None:  # settings are read where they are needed; this is how all of them see it
        os.environ["MEMLORA_HOME"] = str(home.expanduser())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    try:
        app(argv, prog_name="memlora")
    except MemloraError as error:
        typer.echo(f"memlora: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("memlora: stopped", err=True)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `memlora memory list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
