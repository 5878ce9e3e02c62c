"""The `memlora` command: thin commands that parse, call the library and print.

Results go to standard output, progress and notes to standard error. Exit codes: 0 fine, 1 failure, 2 usage,
130 interrupted. Only `main` turns errors into text; a bug keeps its traceback.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from memlora_mlx.cli import adapters, bench, memory, models, vqa
from memlora_mlx.cli.ask import ask_command
from memlora_mlx.cli.chat import chat_command
from memlora_mlx.cli.demo import demo_command
from memlora_mlx.cli.doctor import doctor_command
from memlora_mlx.cli.ingest import ingest_command
from memlora_mlx.cli.teach import teach_command
from memlora_mlx.cli.train import TrainCommand, train_command
from memlora_mlx.errors import MemloraError
from memlora_mlx.extras import missing_extra

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="A long-term memory for chat assistants, on this machine alone.",
)
app.command()(ingest_command)
app.command()(ask_command)
app.command()(chat_command)
app.add_typer(memory.app, name="memory")
app.add_typer(models.app, name="models")
app.command()(teach_command)
app.command(cls=TrainCommand)(train_command)
app.add_typer(adapters.app, name="adapters")
app.add_typer(bench.app, name="bench")
app.add_typer(vqa.app, name="vqa")
app.command()(doctor_command)
app.command()(demo_command)


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


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    # `app` itself ends the process, silently, when a reader is gone (`memlora memory list | head`).
    try:
        code = app(argv, prog_name="memlora", standalone_mode=False)
    except MemloraError as error:
        _fail(str(error), error.exit_code)
    except typer.TyperException as error:  # a wrong option or argument
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        line = " ".join(error.format_message().split()).rstrip(".")
        _fail(line and line + hint, error.exit_code)  # without one, the help was asked for and is printed
    except ImportError as error:
        if (missing := missing_extra(error)) is None:
            raise
        _fail(str(missing), missing.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _fail("stopped", 130)
    if code == 130:  # how `app` tells of a Ctrl-C
        _fail("stopped", 130)
    raise SystemExit(code or 0)


def _fail(line: str, exit_code: int) -> NoReturn:
    if line:
        typer.echo(f"memlora: {line}", err=True)
    raise SystemExit(exit_code) from None
