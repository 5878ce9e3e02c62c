"""Changes of other programs' settings files, as commands show and make them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from memlora_mlx.serve.client_files import PlannedEdit

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the change without making it.")]


def make_edit(edit: PlannedEdit, client: str, *, dry_run: bool) -> None:
    """Show the change and make it, after a backup; with `dry_run` only show it."""
    if not edit.is_change:
        typer.echo(f"{edit.path} is already as wanted; nothing was changed.")
        return
    typer.echo(edit.diff, nl=False)
    if dry_run:
        return
    backup = edit.apply()
    typer.echo(f"Changed {edit.path}." + (f" The old file is {backup}." if backup else "") + f" Restart {client}.")
