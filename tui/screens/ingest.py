"""The Ingest screen: conversation files into memory, watched, paused, and gone on with."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, ProgressBar, RichLog, Static

from memlora_mlx.errors import Cancelled, EngineClosed, MemloraError, UsageError
from memlora_mlx.text import format_duration, printable_line
from memlora_mlx.tui import memory_queries
from memlora_mlx.tui.screens.base import MainScreen
from memlora_mlx.tui.widgets.actions import ScreenActions
from memlora_mlx.tui.widgets.exchange import EVENT_SIGNS
from memlora_mlx.tui.widgets.prompt import dropped_path
from memlora_mlx.tui.widgets.row_table import RowTable

if TYPE_CHECKING:
    from memlora_mlx.conversations import Conversation
    from memlora_mlx.memory.changes import Source
    from memlora_mlx.memory.ingest import IngestStats
    from memlora_mlx.memory.results import ExchangeResult
    from memlora_mlx.memory.workspace import Workspace

INTERVAL = 0.25  # seconds between two looks at how far it is
LINES = 2000  # of changes that can be scrolled back to


class IngestScreen(MainScreen):
    NAME = "Ingest"
    CSS_PATH = "pages.tcss"
    COMMANDS: ClassVar[set[type[Provider] | object]] = {ScreenActions}  # type: ignore[assignment]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "pick", "Pick a file", tooltip="Choose a conversation file", id="page.pick"),
        Binding("slash", "path", "Type a path", tooltip="To the field for a file's path", id="page.find"),
        Binding("ctrl+r", "read", "Read", tooltip="Read the files in, or go on after a pause", id="page.run"),
        Binding("p", "pause_or_read", "Pause", tooltip="Pause the reading, or go on with it", id="ingest.pause"),
        Binding("escape", "pause", "Stop", show=False, tooltip="Pause; what was read is kept", id="page.back"),
        Binding("d,delete", "remove_file", "Take off", tooltip="Take the file off the list", id="ingest.delete"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[str, list[Conversation]] = {}
        self._states: dict[str, str] = {}  # of the files
        self._sources: list[Source] = []
        self._stop: threading.Event | None = None  # of the reading under way
        self._tally: IngestStats | None = None
        self._log_lines: deque[ExchangeResult] = deque(maxlen=LINES)

    def compose_body(self) -> Iterable[Widget]:
        with Horizontal(classes="fields"):
            yield Input(placeholder="/ path of a conversation file; Enter adds it", compact=True, id="path")
        yield RowTable((("file or conversation", 0), ("exchanges", 11), ("state", 30)), id="files")
        yield ProgressBar(total=None, show_eta=False, id="progress")
        yield Static("", classes="says", markup=False, id="says")
        yield RichLog(max_lines=LINES, wrap=True, markup=False, highlight=False, id="changes")

    def on_mount(self) -> None:
        self.call_after_refresh(self._begin)  # the widgets within widgets are there then

    def _begin(self) -> None:
        self.query_one("#progress").display = False
        self.set_interval(INTERVAL, self._refresh_progress)
        self._show_message("LoCoMo, OpenAI-style JSON or JSONL, a ChatGPT export, or a `Name: text` transcript.")
        self.query_one("#files").focus()

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self.refresh_list)

    def on_unmount(self) -> None:
        if self._stop is not None:
            self._stop.set()

    @property
    def table(self) -> RowTable:
        return self.query_one("#files", RowTable)

    # ------------------------------------------------------------------ files

    @on(Input.Submitted, "#path")
    def typed(self, event: Input.Submitted) -> None:
        if event.value.strip():
            words = event.value.strip()
            self.add(dropped_path(words) or Path(words.strip("\"'")).expanduser())
            event.input.clear()
            self.table.focus()

    @work(group="pick", exclusive=True, exit_on_error=False)
    async def action_pick(self) -> None:
        from textual_fspicker import FileOpen, Filters

        kinds = (".json", ".jsonl", ".txt", ".md")
        filters = Filters(
            ("Conversations", lambda path: path.suffix.lower() in kinds), ("All files", lambda path: True)
        )
        path = await self.memlora.push_screen_wait(FileOpen(".", "A conversation file", filters=filters))
        if path is not None:
            self.add(path)

    @work(group="add", exit_on_error=False)
    async def add(self, path: Path) -> None:
        """Read a file's conversations; one that cannot be read stays in the list with its reason."""
        from memlora_mlx.conversations import read_conversations

        key = str(path)
        self._states[key] = "… looking into it"
        self._files[key] = []
        self._list()
        try:
            self._files[key] = await asyncio.to_thread(read_conversations, path)
            self._states[key] = "ready; Ctrl+R reads it in"
        except MemloraError as error:
            self._states[key] = f"✗ {printable_line(str(error)).removeprefix(f'{key}: ')}"
            raise
        finally:
            self._list()

    def action_path(self) -> None:
        self.query_one("#path", Input).focus()

    def action_remove_file(self) -> None:
        key = self.table.key_at_cursor or ""
        if key in self._files and not self._is_reading:
            del self._files[key]
            self._list()

    @work(group="look", exclusive=True, exit_on_error=False)
    async def refresh_list(self) -> None:
        self._sources = await self.backend.run(memory_queries.read_sources)
        self._list()

    def _list(self) -> None:
        """The files chosen, then what was read before."""
        rows: list[tuple[str, tuple[str, str, str]]] = []
        chosen = set()
        for key, conversations in self._files.items():
            chosen |= {conversation.name for conversation in conversations}
            count = len(conversations)
            name = f"{Path(key).name} ({count} conversations)" if count > 1 else Path(key).name
            rows.append((key, (name, "", self._states[key])))
        for source in self._sources:
            if source.name not in chosen or not self._is_reading:
                state = "✓ read" if source.finished_at else "‖ stopped; add its file to go on"
                rows.append((f"source:{source.name}", (source.name, f"{source.done}/{source.exchanges}", state)))
        self.table.set_rows(rows)

    # ------------------------------------------------------------------ reading

    @property
    def _is_reading(self) -> bool:
        return self._stop is not None

    def action_pause_or_read(self) -> None:
        self.action_pause() if self._is_reading else self.action_read()

    def action_pause(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._show_message("pausing behind the exchange under way …")
        else:
            self.table.focus()

    @work(group="read", exit_on_error=False)
    async def action_read(self) -> None:
        """Read what is chosen; what was read before is not read twice, so this goes on as well."""
        if self._is_reading:
            return
        chosen = [conversation for found in self._files.values() for conversation in found]
        if not chosen:
            raise UsageError("there is nothing to read; o picks a file, / takes its path")
        stop = self._stop = threading.Event()
        self._tally = None
        self._show_message("loading the student …")
        bar = self.query_one("#progress", ProgressBar)
        bar.display = True
        try:
            tally = await self.backend.run(partial(self._ingest, chosen, stop))
        except Cancelled:
            self._end("‖ paused; Ctrl+R goes on")
        except EngineClosed:
            self._end("‖ stopped, as another student was chosen; Ctrl+R goes on")
        except Exception:
            self._end("✗ stopped; what was read is kept, Ctrl+R goes on")
            raise
        else:
            self._end("✓ read", tally)
        finally:
            self._stop = None
            await self.backend.refresh_counts()
            self.refresh_list()

    def _ingest(self, chosen: list[Conversation], stop: threading.Event, workspace: Workspace) -> IngestStats:
        """On a thread: the screen looks at what is left here, several times a second."""
        from memlora_mlx.memory.ingest import ingest

        def progress(tally: IngestStats, last: ExchangeResult | None) -> None:
            self._tally = tally
            if last is not None:
                self._log_lines.append(last)

        return ingest(workspace.pipeline, chosen, user=workspace.settings.user, on_progress=progress, cancelled=stop)

    def _end(self, state: str, tally: IngestStats | None = None) -> None:
        self._refresh_progress()
        tally = tally or self._tally
        for key, conversations in self._files.items():
            if conversations:
                self._states[key] = state
        self._show_message(f"{state}: {_summary(tally)}" if tally else state)
        self._tally = None

    def _refresh_progress(self) -> None:
        """Show how far it is, and what has changed since the last look."""
        log = self.query_one("#changes", RichLog)
        while self._log_lines:
            for line in _changes(self._log_lines.popleft()):
                log.write(line)
        tally = self._tally
        if tally is None or self._stop is None:
            return
        self.query_one("#progress", ProgressBar).update(
            total=max(1, tally.total), progress=tally.already_stored + tally.done
        )
        parts = [f"{tally.already_stored + tally.done:,} of {tally.total:,} exchanges"]
        if tally.seconds:
            parts.append(
                f"{60 * tally.done / tally.seconds:.0f} a minute, {tally.output_tokens / tally.seconds:.0f} tok/s"
            )
        if (left := tally.seconds_left) is not None:
            parts.append(f"{format_duration(left)} left")
        parts.append(f"+{tally.added} ~{tally.updated} -{tally.deleted}")
        if self._stop.is_set():
            parts.append("pausing …")
        self._show_message(" · ".join(parts))

    def _show_message(self, words: str) -> None:
        self.query_one("#says", Static).update(Content(words))


def _summary(tally: IngestStats) -> str:
    before = f", {tally.already_stored} were read before" if tally.already_stored else ""
    return (
        f"{tally.done} exchanges in {format_duration(tally.seconds)}{before}; "
        f"{tally.added} memories added, {tally.updated} changed, {tally.deleted} removed"
    )


def _changes(read: ExchangeResult) -> Iterable[Text]:
    """What reading one exchange did, a line each."""
    for change in read.applied:
        if change.rejected is None and change.event != "NONE":
            was = (
                f"  (was: {printable_line(change.old_text, 120)})"
                if change.event == "UPDATE" and change.old_text
                else ""
            )
            yield Text(f"{EVENT_SIGNS[change.event]} {printable_line(change.text or change.old_text or '', 200)}{was}")
