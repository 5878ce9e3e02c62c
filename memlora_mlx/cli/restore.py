"""`memlora restore`: bring back a store from a backup, or keep what is whole of a damaged one."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from memlora_mlx.cli.console import open_workspace
from memlora_mlx.cli.options import JsonOption
from memlora_mlx.cli.printing import print_json


def restore_command(
    listing: Annotated[bool, typer.Option("--list", help="List the backups and change nothing.")] = False,
    day: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="DATE", help="Day of the backup, such as 2026-11-29 (default: the newest undamaged one)."
        ),
    ] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Use no backup: rebuild the store from its own undamaged data.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Replace the memory store by a backup. A copy of the present store stays in its folder `backups/replaced`."""
    from memlora_mlx.errors import StoreError, UsageError
    from memlora_mlx.memory.store.restoring import choose_backup, restore_backup, salvage_store
    from memlora_mlx.settings import load_settings

    if salvage and day is not None:
        raise UsageError("Use either --from or --salvage.")
    folder = load_settings().store_folder
    now = datetime.now(UTC)
    if listing:
        _print_backups(folder, as_json)
        return
    if salvage:
        if not (folder / "memories.db").is_file():
            raise StoreError(f"There is no memory store in {folder}. `memlora restore` uses a backup.")
        _confirm(f"Rebuild the store in {folder} from its own undamaged data?", yes)
        report, kept = salvage_store(folder, now)
        said = [*report.lines(), *_repair()]
    else:
        backup = choose_backup(folder, None if day is None else _parse(day))
        what = f"the backup of {backup.day} ({backup.memories} memories, {backup.exchanges} exchanges)"
        _confirm(f"Replace the store in {folder} by {what}?", yes)
        kept = restore_backup(folder, backup, now)
        said = [f"The store is {what} now."]
    if kept is not None:
        said.append(f"The store as it was is in {kept}.")
    if as_json:
        print_json({"says": said, "replaced": None if kept is None else str(kept)})
        return
    for line in said:
        typer.echo(line)


def _print_backups(folder: Path, as_json: bool) -> None:
    from memlora_mlx.memory.store.backups import read_backups

    backups = read_backups(folder)
    if as_json:
        fields = ("memories", "exchanges", "size", "problem")
        print_json([{"day": str(each.day), **{name: getattr(each, name) for name in fields}} for each in backups])
        return
    if not backups:
        typer.echo(f"There are no backups in {folder}. A backup is made on each day of use, once something is stored.")
    for each in backups:
        state = "" if each.problem is None else f"  DAMAGED: {each.problem}"
        typer.echo(
            f"{each.day}  {each.memories:>7} memories  {each.exchanges:>7} exchanges  {each.size / 1e6:8.1f} MB{state}"
        )


def _repair() -> list[str]:
    """Make again what follows from the rest: embeddings and the full-text index."""
    from memlora_mlx.errors import ModelMissing
    from memlora_mlx.memory.store.integrity import repair_store
    from memlora_mlx.memory.store.store import Store

    try:
        with open_workspace(models=False) as opened:
            fingerprint = opened.embedding_fingerprint
            with Store(opened.settings.store_folder, fingerprint, create=False, any_embedding=True) as store:
                repair_store(store, opened.engine.embed)
    except ModelMissing as error:
        return [f"Embeddings were not computed again ({error}). Run `memlora doctor --repair` afterwards."]
    return []


def _confirm(question: str, yes: bool) -> None:
    """Ask before the store is replaced. Without a terminal to ask on, `--yes` is needed."""
    from memlora_mlx.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty() or not typer.confirm(question, err=True):
        raise UsageError(f"{question} Nothing was changed. Use --yes to do it without a question.")


def _parse(day: str) -> date:
    from memlora_mlx.errors import UsageError

    try:
        return date.fromisoformat(day)
    except ValueError as error:
        raise UsageError(f"{day!r} is not a date. Write it as 2026-11-29.") from error
