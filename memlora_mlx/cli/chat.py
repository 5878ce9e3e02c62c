"""`memlora chat`: chat; what the user says is stored as memories."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Self

import typer

from memlora_mlx.cli.console import open_workspace, stderr_console, write_text_piece
from memlora_mlx.cli.options import KeepSecretsOption, ModelOptions, TopKOption

if TYPE_CHECKING:
    from memlora_mlx.memory.chat import Chat
    from memlora_mlx.memory.editing import Editor
    from memlora_mlx.memory.results import ExchangeResult
    from memlora_mlx.memory.store.conversations import TurnState
    from memlora_mlx.memory.store.store import Store
    from memlora_mlx.settings import Settings

SIMPLE_TERMINALS = ("", "dumb", "unknown")  # values of TERM
_HELP = (
    "/memories lists the memories, /undo undoes the last change, /redo makes it again, /new begins another conversation,"
    " /quit (or Ctrl-D) ends the chat"
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
    keep_secrets: KeepSecretsOption = None,
    conversation: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Continue the conversation with this id (default: the last one on a terminal, else a new one).",
            show_default=False,
        ),
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin a new conversation.")] = False,
    models: ModelOptions,
) -> None:
    """Chat with the student model; what you say is stored as memories.

    Each reply uses the memories nearest to your message. On a terminal the full-screen app opens. The plain chat is used
    with --plain, when input or output is not a terminal, and when the extra `tui` is not installed.
    """
    if not plain and sys.stdin.isatty() and sys.stdout.isatty() and _can_be_full_screen():
        flags = {**models.settings(), "user": user, "limit": top_k, "keep_secrets": keep_secrets}
        _full_screen(conversation, new=new, flags=flags)
        return
    from memlora_mlx.memory.chat import Chat

    with open_workspace(**models.settings(), user=user, keep_secrets=keep_secrets) as opened:
        talk = Chat(opened.pipeline, opened.settings.user, limit=top_k or opened.settings.limit)
        speak = stderr_console()
        if sys.stdin.isatty():
            speak.print(f"{opened.student_name}, running on this machine only. {_HELP}", style="dim")
        with _MemoryWorker(talk) as background, _line_history(opened.settings):
            saved = _SavedTalk(opened.store, talk, background)
            saved.open(conversation, new=new or (conversation is None and not sys.stdin.isatty()))
            while (line := _read()) is not None:
                if not line.strip():
                    continue
                if line.strip() == "/quit":
                    break
                if line.strip() == "/new":
                    saved.begin()
                elif line.strip().startswith("/"):
                    background.wait()
                    _command(line.strip(), talk, opened.editor)
                else:
                    saved.say(line)


class _SavedTalk:
    """The conversation as it is stored: each line before its reply begins, each reply when it has ended."""

    def __init__(self, store: Store, chat: Chat, background: _MemoryWorker) -> None:
        self._store, self._chat, self._background = store, chat, background
        self._id: str | None = None

    def open(self, beginning: str | None, *, new: bool) -> None:
        """Continue the conversation whose id begins so, or the last one, or begin a new one.

        What the last run could not remember any more is remembered now.
        """
        from memlora_mlx.memory.conversation_export import questions_and_replies
        from memlora_mlx.memory.store.conversations import find_conversation, latest_conversation, read_turns

        found = latest_conversation(self._store, self._chat.owner) if beginning is None else None
        if beginning is not None:
            found = find_conversation(self._store, beginning)
        if found is None or new:
            return
        self._id = found.id
        turns = read_turns(self._store, found.id)
        self._chat.resume(turns)
        stderr_console().print(f"Continues: {found.name} ({found.turns} messages)", style="dim", markup=False)
        for question, reply in questions_and_replies(turns):
            if not question.is_remembered:
                said = reply.text if reply is not None else ""
                self._background.remember(question.text, said, question.exchange_key, question.said_at)

    def begin(self) -> None:
        """Begin a new conversation with the next line."""
        self._id = None
        self._chat.resume([])
        stderr_console().print("  a new conversation; memories stay", style="dim")

    def say(self, line: str) -> None:
        from memlora_mlx.memory.store.conversations import save_question

        key, said_at = uuid.uuid4().hex, datetime.now(UTC)
        self._id = save_question(
            self._store,
            self._chat.owner,
            line,
            key=key,
            said_at=said_at,
            conversation=self._id,
            keep_secrets=self._chat.pipeline.options.keep_secrets,
        )
        if not self._chat.pipeline.options.talks_freely:  # it answers from what was said before, which must be stored
            self._background.wait()
        if not self._chat.wants_reply(line):
            self._save_reply(key, line, self._background.note(line, key, said_at))
            return
        reply, is_cut = _reply(self._chat, line)
        self._save_reply(key, line, reply, "cut" if is_cut else "complete")
        self._background.remember(line, reply, key, said_at)

    def _save_reply(self, key: str, question: str, reply: str, state: TurnState = "complete") -> None:
        from memlora_mlx.memory.store.conversations import save_reply

        if reply or state == "cut":
            keep = self._chat.pipeline.options.keep_secrets
            save_reply(
                self._store, key, reply, question=question, said_at=datetime.now(UTC), state=state, keep_secrets=keep
            )


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


def _full_screen(conversation: str | None, *, new: bool, flags: Mapping[str, object]) -> None:
    import gc

    from memlora_mlx.settings import load_settings
    from memlora_mlx.tui.terminal_images import detect_graphics

    gc.disable()  # starting creates no garbage; the app enables it again after its first frame
    settings = load_settings(flags)
    if settings.is_encrypted:
        from memlora_mlx.memory.store.keys import unlock

        unlock(settings.store_folder)  # it may ask for a passphrase, which the app leaves no room for
    detect_graphics()
    from memlora_mlx.tui.app import MemloraApp

    app = MemloraApp(settings, conversation=conversation, new=new)
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


def _reply(chat: Chat, line: str) -> tuple[str, bool]:
    """Stream a reply to the terminal. Returns it, and whether Ctrl-C stopped it: then it is the text until then."""
    pieces: list[str] = []
    is_cut = False
    stream = chat.reply(line)
    try:
        for piece in stream:
            pieces.append(piece)
            write_text_piece(piece)
    except KeyboardInterrupt:
        stream.close()
        is_cut = True
        typer.echo(" [stopped]", nl=False)
    typer.echo()
    return "".join(pieces).strip(), is_cut


def _command(line: str, chat: Chat, editor: Editor) -> None:
    from memlora_mlx.errors import MemloraError
    from memlora_mlx.memory.stages import format_day

    if line == "/memories":
        for memory in chat.list_memories():
            typer.echo(f"  {format_day(memory.said_at):<18} {memory.text}")
    elif line in ("/undo", "/redo"):
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
        self.withheld: Counter[str] = Counter()  # secrets and private passages that were not stored, by kind

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        from memlora_mlx.memory.secrets import describe_withheld

        if any(not job.done() for job in self._waiting):
            self._console.print("Saving the last exchanges ...", style="dim")
        self.wait()
        self._pool.shutdown()
        if told := describe_withheld(self.withheld):
            self._console.print(told, style="dim", markup=False)

    def remember(self, said: str, replied: str, key: str, said_at: datetime) -> None:
        self._waiting.append(self._pool.submit(self._chat.remember, said, replied, key=key, said_at=said_at))
        self._report()

    def note(self, said: str, key: str, said_at: datetime) -> str:
        """Store what was said now, and print what was noted of it. Returns that; it is empty where that failed."""
        from memlora_mlx.errors import MemloraError

        try:
            result = self._chat.remember(said, "", key=key, said_at=said_at)
        except MemloraError as error:
            self._console.print(f"  not remembered: {error}", style="red", markup=False)
            return ""
        undo = " - /undo takes it back" if any(change.rejected is None for change in result.applied) else ""
        noted = self._chat.noted(said, result)
        typer.echo(f"{noted}{undo}")
        return noted

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
                self.withheld.update(job.result().withheld)
                for change in job.result().applied:
                    if change.rejected is None:
                        self._console.print(
                            f"  [{change.event.lower()}] {change.text or change.old_text}", style="dim", markup=False
                        )
            except MemloraError as error:
                self._console.print(f"  not remembered: {error}", style="red", markup=False)


@contextlib.contextmanager
def _line_history(settings: Settings):  # type: ignore[no-untyped-def]
    """Let the arrow keys recall earlier lines, also those of earlier chats, without what must not be stored."""
    if not sys.stdin.isatty() or settings.is_encrypted:  # the lines would be plain there
        yield
        return
    import readline

    from memlora_mlx.memory.secrets import screen_text
    from memlora_mlx.settings import CHAT_HISTORY

    file = settings.home / CHAT_HISTORY
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    earlier = readline.get_current_history_length()
    try:
        yield
    finally:
        typed = [
            readline.get_history_item(at + 1) or "" for at in range(earlier, readline.get_current_history_length())
        ]
        # The file as it is now: an erasing may have taken lines away meanwhile, and another chat may have added some.
        readline.clear_history()
        with contextlib.suppress(OSError):
            readline.read_history_file(file)
        for line in typed:
            readline.add_history(line)
        for at in range(readline.get_current_history_length()):
            line = readline.get_history_item(at + 1) or ""
            if (kept := screen_text(line, keep_secrets=settings.keep_secrets).text) != line:
                readline.replace_history_item(at, kept)
        readline.set_history_length(1000)
        with contextlib.suppress(OSError):
            readline.write_history_file(file)
