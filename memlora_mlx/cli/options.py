"""What commands share: options, the workspace they open, and how they speak."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memlora_mlx.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from memlora_mlx.memory.workspace import Workspace

StudentOption = Annotated[
    str | None, typer.Option(help="A student from `memlora models list`, a local MLX folder or a hub id.")
]
ExpertsOption = Annotated[
    str | None,
    typer.Option(help="A folder of experts, one sub-folder a stage, or of a single one; 'none' for the base."),
]
ModeOption = Annotated[str | None, typer.Option("--expert-mode", help="swap (smallest) or fused (float bases only).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UserOption = Annotated[list[str] | None, typer.Option("--user", help="Whose memories; may be given several times.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, max=1_000_000, help="At most so many.")]

STARTER_MODELS = ("smollm2-135m", "all-minilm-l6-v2")


@contextmanager
def open_workspace(*, models: bool = True, embedder: bool = True, **flags: object) -> Iterator[Workspace]:
    """The user's workspace, closed at the end.

    Args:
        models: make sure that a student and an embedder are there; on a terminal the user is asked whether to fetch
            the missing ones.
        embedder: False where a student is all it takes.
        flags: settings from the command line; a None counts as not given.
    """
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.settings import load_settings

    opened = Workspace(load_settings(flags))
    with opened:
        if models:
            _require_models(opened, STARTER_MODELS if embedder else STARTER_MODELS[:1])
        yield opened


def _require_models(opened: Workspace, starters: Sequence[str]) -> None:
    from memlora_mlx.errors import ModelMissing
    from memlora_mlx.models.catalog import entries

    missing: list[str] = []
    for part, starter in zip(("student_folder", "embedder_folder"), starters, strict=False):
        try:
            getattr(opened, part)
        except ModelMissing:
            named = opened.settings.student if part == "student_folder" else opened.settings.embedder
            if named is not None and named not in entries(opened.settings.home):
                raise  # it may be a slip: the error knows names that are near
            missing.append(named or starter)
    if not missing:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        from memlora_mlx.cli.models import pull

        if typer.confirm(f"{' and '.join(missing)} not on this disk. Fetch now?", default=True, err=True):
            pull(missing)
            return
    raise ModelMissing(
        f"not on this disk: {', '.join(missing)}; get them with `memlora models pull {' '.join(missing)}`"
    )


def stderr_console() -> Console:
    """Where progress and notes go: standard error. Lines are broken on a terminal only."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def write_text_piece(piece: str) -> None:
    """A piece of the student's words to standard output, without what could drive a terminal.

    It may be called on the engine's thread, which has no use for the news that the reader is gone.
    """
    try:
        typer.echo(printable(piece), nl=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_columns(head: str, words: str) -> None:
    """A line of a listing to standard output; on a terminal long words go on below where they began."""
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, len(head) + 20)
        words = textwrap.fill(words, width, initial_indent=head, subsequent_indent=" " * len(head))[len(head) :]
    typer.echo(head + words)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def require_files(paths: list[Path]) -> list[Path]:
    """The paths; the first that is not there is a usage error, before any model loads."""
    from memlora_mlx.errors import UsageError

    for path in paths:
        try:
            is_there = str(path) == "-" or path.exists()
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}; check its permissions") from error
        if not is_there:
            raise UsageError(f"there is no file {path}; check the path")
    return paths
