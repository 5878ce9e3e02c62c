"""The Ingest screen: import conversation files, with progress, pause and resume."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Sequence
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

from memlora_mlx.errors import Cancelled, EngineClosed, MemloraError, TooManyChanges, UsageError
from memlora_mlx.text import format_duration, printable_line
from memlora_mlx.tui import memory_queries
from memlora_mlx.tui.screens.base import MainScreen
from memlora_mlx.tui.screens.dialogs import ChangesDialog
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

INTERVAL = 0.25  # seconds between two updates of the progress
LINES = 2000  # changes that can be scrolled back to


class IngestScreen(MainScreen):
    NAME = "Ingest"
    CSS_PATH = "pages.tcss"
    COMMANDS: ClassVar[set[type[Provider] | object]] = {ScreenActions}  # type: ignore[assignment]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "pick", "Pick a file", tooltip="Choose a conversation file", id="page.pick"),
        Binding("slash", "path", "Type a path", tooltip="Focus the path field", id="page.find"),
        Binding("ctrl+r", "read", "Import", tooltip="Import the files, or continue after a pause", id="page.run"),
        Binding("p", "pause_or_read", "Pause", tooltip="Pause or continue the import", id="ingest.pause"),
        Binding("escape", "pause", "Stop", show=False, tooltip="Pause the import", id="page.back"),
        Binding("d,delete", "remove_file", "Remove", tooltip="Remove the file from the list", id="ingest.delete"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[str, list[Conversation]] = {}
        self._states: dict[str, str] = {}  # of the files, as the table shows them
        self._sources: list[Source] = []
        self._stop: threading.Event | None = None  # stops the running import
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
        self.call_after_refresh(self._begin)  # nested widgets are mounted by then

    def _begin(self) -> None:
        self.query_one("#progress").display = False
        self.set_interval(INTERVAL, self._refresh_progress)
        self._show_message(
            "Formats: exports of assistants and messengers, also as ZIP archives, or `Name: text` transcripts."
        )
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

        kinds = (".json", ".jsonl", ".txt", ".md", ".zip", ".vtt", ".srt")
        filters = Filters(
            ("Conversations", lambda path: path.suffix.lower() in kinds), ("All files", lambda path: True)
        )
        downloads = Path.home() / "Downloads"  # where exports come to lie
        start = downloads if downloads.is_dir() else Path()
        path = await self.memlora.push_screen_wait(FileOpen(start, "A conversation file", filters=filters))
        if path is not None:
            self.add(path)

    @work(group="add", exit_on_error=False)
    async def add(self, path: Path) -> None:
        """Read the conversations of a file. A file that cannot be read stays in the list with the reason."""
        from memlora_mlx.conversations import ReadReport, read_conversations

        key, report = str(path), ReadReport()
        self._states[key] = "… opening"
        self._files[key] = []
        self._list()
        try:
            self._files[key] = await asyncio.to_thread(read_conversations, path, None, report)
            self._states[key] = "ready; press Ctrl+R to import"
            self._show_message(await asyncio.to_thread(_preview, self._files[key], self.backend.settings.user))
            if report.problems:
                bad = f"{len(report.problems)} not read: {printable_line(report.problems[0]).removeprefix(f'{key}: ')}"
                self._states[key] = f"ready; press Ctrl+R to import ({bad})"
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
        """List the chosen files, then the conversations that were imported before."""
        rows: list[tuple[str, tuple[str, str, str]]] = []
        chosen = set()
        for key, conversations in self._files.items():
            chosen |= {conversation.name for conversation in conversations}
            count = len(conversations)
            name = f"{Path(key).name} ({count} conversations)" if count > 1 else Path(key).name
            rows.append((key, (name, "", self._states[key])))
        for source in self._sources:
            if source.name not in chosen or not self._is_reading:
                state = "✓ imported" if source.finished_at else "‖ stopped; add its file again"
                rows.append((f"source:{source.name}", (source.name, f"{source.done}/{source.exchanges}", state)))
        self.table.set_rows(rows)

    # ------------------------------------------------------------------ the import

    @property
    def _is_reading(self) -> bool:
        return self._stop is not None

    def action_pause_or_read(self) -> None:
        self.action_pause() if self._is_reading else self.action_read()

    def action_pause(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._show_message("Pausing after the current exchange …")
        else:
            self.table.focus()

    @work(group="read", exit_on_error=False)
    async def action_read(self) -> None:
        """Import the chosen files. Exchanges that were imported before are skipped, so this also continues."""
        if self._is_reading:
            return
        chosen = [conversation for found in self._files.values() for conversation in found]
        if not chosen:
            raise UsageError("There is nothing to import. Press o to choose a file, or / to type its path.")
        try:
            await self._read(chosen)
        except TooManyChanges as error:
            if await self.memlora.push_screen_wait(ChangesDialog(str(error), error.waiting)):
                await self._read(chosen, may_change=True)

    async def _read(self, chosen: list[Conversation], *, may_change: bool = False) -> None:
        """Import conversations. Raises TooManyChanges: see `ingest`."""
        stop = self._stop = threading.Event()
        self._tally = None
        self._show_message("Loading the student …")
        for key, conversations in self._files.items():
            if conversations:
                self._states[key] = "▶ being imported"
        self._list()
        bar = self.query_one("#progress", ProgressBar)
        bar.display = True
        try:
            tally = await self.backend.run(partial(self._ingest, chosen, stop, may_change))
        except Cancelled:
            self._end("‖ paused", "Press Ctrl+R to continue")
        except TooManyChanges:
            self._end("‖ waiting for your answer", "Press Ctrl+R to be asked again")
            raise
        except EngineClosed:
            self._end("‖ stopped because the student changed", "Press Ctrl+R to continue")
        except Exception:
            self._end("✗ stopped by an error", "Press Ctrl+R to continue")
            raise
        else:
            self._end("✓ imported", tally=tally)
        finally:
            self._stop = None
            self.memlora.background_work.pop("ingest", None)
            await self.backend.refresh_counts()
            self.refresh_list()

    def _ingest(
        self, chosen: list[Conversation], stop: threading.Event, may_change: bool, workspace: Workspace
    ) -> IngestStats:
        """Runs on a thread. It leaves its progress in attributes that the screen reads several times a second."""
        from memlora_mlx.memory.ingest import ingest

        def progress(tally: IngestStats, last: ExchangeResult | None) -> None:
            self._tally = tally
            if last is not None:
                self._log_lines.append(last)

        user = workspace.settings.user
        return ingest(
            workspace.pipeline, chosen, user=user, may_change=may_change, on_progress=progress, cancelled=stop
        )

    def _end(self, state: str, hint: str = "", tally: IngestStats | None = None) -> None:
        """Show how the import ended: the state in the table, with a hint and a summary above it."""
        self._refresh_progress()
        tally = tally or self._tally
        for key, conversations in self._files.items():
            if conversations:
                self._states[key] = state
        self._show_message(". ".join(part for part in (state, hint, _summary(tally) if tally else "") if part) + ".")
        self._tally = None

    def _refresh_progress(self) -> None:
        """Show the progress, and the changes since the last update."""
        log = self.query_one("#changes", RichLog)
        while self._log_lines:
            for line in _changes(self._log_lines.popleft()):
                log.write(line)
        tally = self._tally
        if tally is None or self._stop is None:
            return
        self.memlora.background_work["ingest"] = f"{tally.already_stored + tally.done:,}/{tally.total:,}"
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


def _preview(conversations: Sequence[Conversation], user: str) -> str:
    """What an import of these would read, before anything is stored."""
    from memlora_mlx.conversations import conversation_exchanges

    exchanges = [one for conversation in conversations for one in conversation_exchanges(conversation, user=user)]
    days = sorted(f"{one.said_at:%Y-%m-%d}" for one in exchanges if one.said_at is not None)
    people = sorted({one.owner.user_id or "" for one in exchanges})
    parts = [
        f"{len(conversations):,} {'conversation' if len(conversations) == 1 else 'conversations'}",
        f"{len(exchanges):,} exchanges",
        *([f"{days[0]} to {days[-1]}"] if days else ["undated"]),
        f"of {printable_line(', '.join(people), 60)}",
    ]
    return f"{', '.join(parts)}. Nothing is stored yet: Ctrl+R imports."


def _summary(tally: IngestStats) -> str:
    from memlora_mlx.memory.secrets import describe_withheld

    before = f", {tally.already_stored} were imported before" if tally.already_stored else ""
    withheld = describe_withheld(tally.withheld)
    return (
        f"{tally.done} exchanges in {format_duration(tally.seconds)}{before}; "
        f"{tally.added} memories added, {tally.updated} updated, {tally.deleted} deleted{withheld and f'; {withheld}'}"
    )


def _changes(read: ExchangeResult) -> Iterable[Text]:
    """One line for each change that came from an exchange."""
    for change in read.applied:
        if change.rejected is None and change.event != "NONE":
            was = (
                f"  (was: {printable_line(change.old_text, 120)})"
                if change.event == "UPDATE" and change.old_text
                else ""
            )
            yield Text(f"{EVENT_SIGNS[change.event]} {printable_line(change.text or change.old_text or '', 200)}{was}")
