"""`memlora chat`: chat; what the user says is stored as memories."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from memlora_mlx.cli.console import open_workspace, stderr_console, write_text_piece
from memlora_mlx.cli.options import ModelOptions, TopKOption

if TYPE_CHECKING:
    from memlora_mlx.memory.chat import Chat
    from memlora_mlx.memory.editing import Editor
    from memlora_mlx.memory.results import ExchangeResult

SIMPLE_TERMINALS = ("", "dumb", "unknown")  # values of TERM
_HELP = (
    "/memories lists the memories, /undo undoes the last change, /redo makes it again, /quit (or Ctrl-D) ends the chat"
)


def chat_command(
    *,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="User whose memories are used and updated (default: the setting `user`, which is me).",
        ),
    ] = None,
    top_k: TopKOption = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Use a plain line-by-line chat instead of the full-screen app.")
    ] = False,
    models: ModelOptions,
) -> None:
    """Chat with the student model; what you say is stored as memories.

    Each reply uses the memories nearest to your message. On a terminal the full-screen app opens. The plain chat is used
    with --plain, when input or output is not a terminal, and when the extra `tui` is not installed.
    """
    if not plain and sys.stdin.isatty() and sys.stdout.isatty() and _can_be_full_screen():
        _full_screen(**models.settings(), user=user, limit=top_k)
        return
    from memlora_mlx.memory.chat import Chat

    with open_workspace(**models.settings(), user=user) as opened:
        talk = Chat(opened.pipeline, opened.settings.user, limit=top_k or opened.settings.limit)
        speak = stderr_console()
        if sys.stdin.isatty():
            speak.print(f"{opened.student_name}, running on this machine only. {_HELP}", style="dim")
        with _MemoryWorker(talk) as background, _line_history(opened.settings.home):
            while (line := _read()) is not None:
                if not line.strip():
                    continue
                if line.strip() == "/quit":
                    break
                if line.strip().startswith("/"):
                    background.wait()
                    _command(line.strip(), talk, opened.editor)
                    continue
                if not talk.pipeline.options.talks_freely:  # it answers from what was said before, which must be stored
                    background.wait()
                if not talk.wants_reply(line):
                    background.note(line)
                    continue
                reply = _reply(talk, line)
                if reply is not None:
                    background.remember(line, reply)


def _can_be_full_screen() -> bool:
    """Whether the terminal and the installed packages can show the app; prints a note if they cannot."""
    from memlora_mlx.errors import ExtraMissing
    from memlora_mlx.extras import require

    if os.environ.get("TERM", "") in SIMPLE_TERMINALS:
        note = f"This is the plain chat: the terminal (TERM={os.environ.get('TERM', '')}) has no full screen."
        stderr_console().print(note, style="dim", markup=False)
        return False
    try:
        require("tui", "the full-screen chat")
    except ExtraMissing as missing:
        stderr_console().print(f"This is the plain chat: {missing}", style="dim", markup=False)
        return False
    return True


def _full_screen(**flags: object) -> None:
    import gc

    from memlora_mlx.settings import load_settings
    from memlora_mlx.tui.terminal_images import detect_graphics

    gc.disable()  # starting creates no garbage; the app enables it again after its first frame
    settings = load_settings(flags)
    detect_graphics()
    from memlora_mlx.tui.app import MemloraApp

    app = MemloraApp(settings)
    try:
        app.run()
    finally:
        app.backend.close()


def _read() -> str | None:
    """The next line; None at the end of the input. On a terminal Ctrl-C clears the line."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return None
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            typer.echo(err=True)


def _reply(chat: Chat, line: str) -> str | None:
    """Stream a reply to the terminal; Ctrl-C stops it, and the text until then is the reply."""
    pieces: list[str] = []
    stream = chat.reply(line)
    try:
        for piece in stream:
            pieces.append(piece)
            write_text_piece(piece)
    except KeyboardInterrupt:
        stream.close()
        typer.echo(" [stopped]", nl=False)
    typer.echo()
    return "".join(pieces).strip() or None


def _command(line: str, chat: Chat, editor: Editor) -> None:
    from memlora_mlx.errors import MemloraError
    from memlora_mlx.memory.stages import format_day

    if line == "/memories":
        for memory in chat.list_memories():
            typer.echo(f"  {format_day(memory.said_at):<18} {memory.text}")
    elif line in ("/forget", "/undo", "/redo"):
        try:
            reverse = editor.redo if line == "/redo" else editor.undo
            reversal = reverse(scope=chat.owner, owner_exact=True)
            text = reversal.revision.old_text or reversal.revision.new_text or ""
            typer.echo(f"  {'redone' if line == '/redo' else 'undone'}: {text}")
            if reversal.problem:
                typer.echo(f"  {reversal.problem}", err=True)
        except MemloraError as error:
            typer.echo(f"  {error}", err=True)
    else:
        typer.echo(f"  {_HELP}", err=True)


class _MemoryWorker:
    """Stores exchanges in the background while the user goes on typing; waits for the last ones at the end."""

    def __init__(self, chat: Chat) -> None:
        self._chat, self._console = chat, stderr_console()
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[Future[ExchangeResult]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if any(not job.done() for job in self._waiting):
            self._console.print("Saving the last exchanges ...", style="dim")
        self.wait()
        self._pool.shutdown()

    def remember(self, said: str, replied: str) -> None:
        self._waiting.append(
            self._pool.submit(self._chat.remember, said, replied, key=uuid.uuid4().hex, said_at=datetime.now(UTC))
        )
        self._report()

    def note(self, said: str) -> None:
        """Store what was said now, and print what was noted of it."""
        from memlora_mlx.errors import MemloraError

        try:
            result = self._chat.remember(said, "", key=uuid.uuid4().hex, said_at=datetime.now(UTC))
        except MemloraError as error:
            self._console.print(f"  not remembered: {error}", style="red", markup=False)
            return
        undo = " - /undo takes it back" if any(change.rejected is None for change in result.applied) else ""
        typer.echo(f"{self._chat.noted(said, result)}{undo}")

    def wait(self) -> None:
        for job in self._waiting:
            job.exception()
        self._report()

    def _report(self) -> None:
        """Print the changes of the exchanges that are done."""
        from memlora_mlx.errors import MemloraError

        for job in [job for job in self._waiting if job.done()]:
            self._waiting.remove(job)
            try:
                for change in job.result().applied:
                    if change.rejected is None:
                        self._console.print(
                            f"  [{change.event.lower()}] {change.text or change.old_text}", style="dim", markup=False
                        )
            except MemloraError as error:
                self._console.print(f"  not remembered: {error}", style="red", markup=False)


@contextlib.contextmanager
def _line_history(home: Path):  # type: ignore[no-untyped-def]
    """Let the arrow keys recall earlier lines, also those of earlier chats."""
    if not sys.stdin.isatty():
        yield
        return
    import readline

    from memlora_mlx.settings import CHAT_HISTORY

    file = home / CHAT_HISTORY
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(1000)
        with contextlib.suppress(OSError):
            readline.write_history_file(file)
