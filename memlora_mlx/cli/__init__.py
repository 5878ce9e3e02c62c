"""The `memlora` command: thin commands that parse, call the library and print.

Results go to standard output, progress and notes to standard error. Exit codes: 0 fine, 1 failure, 2 usage,
130 interrupted. Only `main` turns errors into text; a bug keeps its traceback.

This module defines nothing but `main`, so that no name here hides a submodule; `cli/app.py` builds the app.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import typer

from memlora_mlx.cli.printing import clean_output
from memlora_mlx.errors import MemloraError
from memlora_mlx.extras import missing_extra
from memlora_mlx.private_files import private_umask


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    with clean_output(), private_umask():
        _run(argv)


def _run(argv: Sequence[str] | None) -> NoReturn:
    from memlora_mlx.cli.app import app

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
        _fail("Stopped.", 130)
    if code == 130:  # how `app` reports a Ctrl-C
        _fail("Stopped.", 130)
    raise SystemExit(code or 0)


def _fail(line: str, exit_code: int) -> NoReturn:
    if line:
        typer.echo(f"memlora: {' '.join(line.splitlines())}", err=True)
    raise SystemExit(exit_code) from None
