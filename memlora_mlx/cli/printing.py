"""The one door through which the command line prints: no control character of anybody's data reaches a terminal.

While a command runs, standard output and standard error are `CleanStream`s, so that `print`, `typer.echo`, logging, warnings
and the traceback of a bug all go through `memlora_mlx.text.printable`. Rich draws with escape sequences of its own and
therefore writes past them; `CleanConsole` cleans the text that it draws instead.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import typer

from memlora_mlx.text import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console


class CleanStream:
    """A text stream that writes no control characters but tabs and line ends.

    It has no `buffer`: bytes would get past it.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream  # where Rich writes to

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes text, not {type(text).__name__}")
        self.rich_proxied_file.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.rich_proxied_file, name)


@contextmanager
def clean_output() -> Iterator[None]:
    """A block in which this process prints through clean streams. After a bug they stay, for its traceback."""
    before = sys.stdout, sys.stderr
    clean = [stream if stream is None or isinstance(stream, CleanStream) else CleanStream(stream) for stream in before]
    sys.stdout, sys.stderr = clean
    try:
        yield
    except Exception:
        sys.excepthook = _print_traceback
        raise
    except BaseException:
        _restore(clean, before)
        raise
    _restore(clean, before)


def _restore(clean: Sequence[object], before: tuple[TextIO, TextIO]) -> None:
    """Take the clean streams back. One that was wrapped meanwhile stays, as click does where the reader of a pipe has gone."""
    if sys.stdout is clean[0]:
        sys.stdout = before[0]
    if sys.stderr is clean[1]:
        sys.stderr = before[1]


def _print_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """In one piece and without colours, whatever Python would do on a terminal."""
    sys.stderr.write("".join(traceback.format_exception(kind, error, where)))


def clean_console(**options: Any) -> Console:
    """A console of Rich that draws no control characters of the text it is given. Brackets in text are no markup.

    Args:
        options: of `rich.console.Console`; `stderr=True` for progress and notes.
    """
    from rich.console import Console
    from rich.segment import Segment

    class CleanConsole(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(printable(segment.text), segment.style)

    return CleanConsole(**{"highlight": False, "markup": False, **options})


def stderr_console() -> Console:
    """The console for progress and notes: standard error. Lines are wrapped on a terminal only."""
    return clean_console(stderr=True, soft_wrap=not sys.stderr.isatty())


def drop_output(descriptor: int) -> None:
    """Send what is still written to this descriptor nowhere: its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def write_text_piece(piece: str) -> None:
    """Write a piece of generated text to standard output.

    It may be called on the engine's thread, which must not fail when the reader of a pipe has gone.
    """
    try:
        typer.echo(piece, nl=False)
    except BrokenPipeError:
        drop_output(sys.stdout.fileno())


def print_columns(head: str, words: str) -> None:
    """Print one line of a listing; on a terminal a long text is wrapped and indented below its start."""
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, len(head) + 20)
        words = textwrap.fill(words, width, initial_indent=head, subsequent_indent=" " * len(head))[len(head) :]
    typer.echo(head + words)


def print_json(value: Any) -> None:
    typer.echo(printable_json(json.dumps(value, ensure_ascii=False, indent=1, default=str)))
