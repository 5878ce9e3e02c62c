"""What commands share while they run: the workspace they open, the files they need, Ctrl-C, and printing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from memlora_mlx.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from memlora_mlx.memory.workspace import Workspace

STARTER_MODELS = ("smollm2-135m", "all-minilm-l6-v2")


@contextmanager
def open_workspace(*, models: bool = True, embedder: bool = True, **flags: object) -> Iterator[Workspace]:
    """The user's workspace, closed at the end.

    Args:
        models: require a student and an embedder; on a terminal, offer to download those that are missing.
        embedder: False for commands that need a student only.
        flags: settings from the command line; None means that the option was not given.
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


def stderr_console() -> Console:
    """The console for progress and notes: standard error. Lines are wrapped on a terminal only."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def write_text_piece(piece: str) -> None:
    """Write a piece of generated text to standard output, without control characters.

    It may be called on the engine's thread, which must not fail when the reader of a pipe has gone.
    """
    try:
        typer.echo(printable(piece), nl=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_columns(head: str, words: str) -> None:
    """Print one line of a listing; on a terminal a long text is wrapped and indented below its start."""
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, len(head) + 20)
        words = textwrap.fill(words, width, initial_indent=head, subsequent_indent=" " * len(head))[len(head) :]
    typer.echo(head + words)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


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
