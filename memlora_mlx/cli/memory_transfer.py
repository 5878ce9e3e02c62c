"""`memlora memory export` and `memlora memory import`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from memlora_mlx.cli.console import open_workspace, require_files, stderr_console
from memlora_mlx.files import atomic_file
from memlora_mlx.json_lines import LineTooLong, bounded_lines
from memlora_mlx.text import printable_json


def export_memories(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Output file; - or no value writes to standard output.", show_default=False
        ),
    ] = Path("-"),
) -> None:
    """Write all memories as JSON lines, for a backup or for another machine."""
    from memlora_mlx.errors import UsageError
    from memlora_mlx.memory.store.export_import import export_lines
    from memlora_mlx.memory.traces import note_export

    with open_workspace(models=False) as opened:
        lines = (printable_json(json.dumps(row, ensure_ascii=False)) for row in export_lines(opened.require_store()))
        if str(file) == "-":
            for line in lines:
                typer.echo(line)
            return
        count = 0
        if not file.name:
            raise UsageError(f"Cannot write {file}: it is a folder. Give the path of a file.")
        try:
            with atomic_file(file) as out:
                for line in lines:
                    out.write(f"{line}\n".encode())
                    count += line.startswith('{"kind": "memory"')
        except OSError as error:
            raise UsageError(f"Cannot write {file}: {error.strerror}. Choose another path.") from error
        note_export(opened.settings.home, file)
    stderr_console().print(f"{count} memories in {file}")


def import_memories(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File written by `memory export`; - reads standard input.")
    ],
) -> None:
    """Import exported memories. Memories that are already stored stay as they are."""
    from memlora_mlx.errors import UsageError
    from memlora_mlx.memory.store.export_import import MAX_LINE, import_lines

    require_files([file])
    with open_workspace(models=False) as opened, contextlib.ExitStack() as stack:
        lines: TextIO = sys.stdin
        if str(file) != "-":
            try:
                lines = stack.enter_context(file.open(encoding="utf-8", errors="replace"))
            except OSError as error:
                raise UsageError(f"Cannot read {file}: {error.strerror}. Check the path.") from error
        try:
            result = import_lines(opened.store, bounded_lines(lines, MAX_LINE), opened.memory_engine.embed)
        except LineTooLong as error:
            raise UsageError(f"Cannot import {file}: {error}. Is this an export of memlora?") from error
    typer.echo(f"{result.added} memories added, {result.skipped} were already stored")
