"""What commands share: options, the workspace they open, and how they speak."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from memlora_mlx.memory.workspace import Workspace

Student = Annotated[
    str | None, typer.Option(help="A student from `memlora models list`, a local MLX folder or a hub id.")
]
Experts = Annotated[str | None, typer.Option(help="A folder of experts, one sub-folder a stage; 'none' for the base.")]
Mode = Annotated[str | None, typer.Option("--expert-mode", help="swap (smallest) or fused (float bases only).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
User = Annotated[list[str] | None, typer.Option("--user", help="Whose memories; may be given several times.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")]

STARTERS = ("smollm2-135m", "all-minilm-l6-v2")


@contextmanager
def workspace(*, models: bool = True, **flags: object) -> Iterator[Workspace]:
    """The user's workspace, closed at the end.

    Args:
        models: make sure that a student and an embedder are there; on a terminal the user is asked whether to fetch
            the missing ones.
        flags: settings from the command line; a None counts as not given.
    """
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.settings import load_settings

    opened = Workspace(load_settings(flags))
    with opened:
        if models:
            _ensure_models(opened)
        yield opened


def _ensure_models(opened: Workspace) -> None:
    from memlora_mlx.errors import ModelMissing

    missing: list[str] = []
    for part, starter in (("student_folder", STARTERS[0]), ("embedder_folder", STARTERS[1])):
        try:
            getattr(opened, part)
        except ModelMissing:
            named = opened.settings.student if part == "student_folder" else opened.settings.embedder
            missing.append(named or starter)
    if not missing:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        from memlora_mlx.cli.models import pull

        if typer.confirm(f"{' and '.join(missing)} not on this disk. Fetch now?", default=True, err=True):
            pull(missing)
            return
    raise ModelMissing(f"not on this disk: {', '.join(missing)}; get them with `memlora models pull {' '.join(missing)}`")


def notes() -> Console:
    """Where progress and notes go: standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def existing_files(paths: list[Path]) -> list[Path]:
    """The paths; the first that is not there is a usage error, before any model loads."""
    from memlora_mlx.errors import UsageError

    for path in paths:
        if str(path) != "-" and not path.exists():
            raise UsageError(f"there is no file {path}; check the path")
    return paths
