"""What commands share while they run: the workspace they open, the files they need, Ctrl-C, and printing."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memlora_mlx.cli.printing import print_columns, print_json, stderr_console, write_text_piece

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

# Commands find here what they share, printing too.
__all__ = [
    "interrupt_event",
    "open_workspace",
    "print_columns",
    "print_json",
    "require_files",
    "stderr_console",
    "write_text_piece",
]

STARTER_MODELS = ("smollm2-135m", "all-minilm-l6-v2")


@contextmanager
def open_workspace(*, models: bool = True, embedder: bool = True, **flags: object) -> Iterator[Workspace]:
    """The user's workspace, closed at the end. What the memory asks of a model, the resident process answers if it runs.

    Args:
        models: require a student and an embedder; on a terminal, offer to download those that are missing.
        embedder: False for commands that need a student only.
        flags: settings from the command line; None means that the option was not given.
    """
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.serve.resident_engine import resident_engine
    from memlora_mlx.settings import load_settings

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    opened = Workspace(load_settings(flags), remote_engine=lambda workspace: resident_engine(workspace, tell))
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
                raise  # it may be a typing error: the message suggests similar names
            missing.append(named or starter)
    if not missing:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        from memlora_mlx.cli.models import pull

        if typer.confirm(f"{' and '.join(missing)} not installed. Download now?", default=True, err=True):
            pull(missing)
            return
    raise ModelMissing(f"Not installed: {', '.join(missing)}. Download with `memlora models pull {' '.join(missing)}`.")


def require_files(paths: list[Path]) -> list[Path]:
    """Return the paths. Raises UsageError for the first one that does not exist, before any model loads."""
    from memlora_mlx.errors import UsageError

    for path in paths:
        try:
            is_there = str(path) == "-" or path.exists()
        except OSError as error:
            raise UsageError(f"Cannot read {path}: {error.strerror}. Check its permissions.") from error
        if not is_there:
            raise UsageError(f"There is no file {path}. Check the path.")
    return paths


@contextmanager
def interrupt_event() -> Iterator[threading.Event]:
    """An event that Ctrl-C or `kill` sets, so that the command can stop cleanly; a second one interrupts at once."""
    event = threading.Event()
    handled = (signal.SIGINT, signal.SIGTERM)

    def on_signal(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = [signal.signal(number, on_signal) for number in handled]
    try:
        yield event
    finally:
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)
