"""The Chat screen: the conversation, the prompt, and the memories beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static, TextArea

from memlora_mlx.errors import UsageError
from memlora_mlx.records import Image
from memlora_mlx.settings import APP_HISTORY
from memlora_mlx.text import printable, printable_line
from memlora_mlx.tui.chat_controller import ChatController, ChatTurn
from memlora_mlx.tui.commands import parse
from memlora_mlx.tui.screens.base import MainScreen
from memlora_mlx.tui.widgets.exchange import ExchangeView
from memlora_mlx.tui.widgets.memory_panel import MemoryItem, MemoryPanel, PanelEntry
from memlora_mlx.tui.widgets.prompt import History, Prompt, PromptBox

WELCOME = """\
Tell me about yourself, or ask what you told me before.

What you say is remembered on this machine and nowhere else. The memories of
each reply stand beside it (Ctrl+O): open, edit, undo or delete them there.

/  commands      Ctrl+P  palette      F1  help      Ctrl+Q  quit"""
NO_WORDS = "(shares an image)"


class ChatScreen(MainScreen):
    NAME = "Chat"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop_reply", "Stop", tooltip="Stop the reply at once", id="chat.stop"),
        Binding("escape", "browse", "Browse", tooltip="Between the prompt and the replies", id="chat.browse"),
        Binding(
            "ctrl+o", "toggle_panel", "Panel", tooltip="Show or hide the memories beside the chat", id="chat.panel"
        ),
        Binding("pageup", "scroll_log(-1)", show=False, tooltip="Scroll the conversation up", id="chat.up"),
        Binding("pagedown", "scroll_log(1)", show=False, tooltip="Scroll the conversation down", id="chat.down"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[ChatTurn] = []
        self.attachment: Image | None = None
        self._current: ExchangeView | None = None  # the one whose memories the panel shows
        self.states: dict[str, str] = {}  # what the user did to memories, by their ids
        self._reply_lock = asyncio.Lock()

    def compose_body(self) -> Iterable[Widget]:
        history = History(self.backend.settings.home / APP_HISTORY)
        yield Horizontal(
            Vertical(
                VerticalScroll(Static(WELCOME, id="welcome", markup=False), id="log", can_focus=False),
                Static(id="attachment", markup=False),
                PromptBox(history),
                id="talk",
            ),
            MemoryPanel(),
            id="chat",
        )

    def compose(self) -> ComposeResult:
        self.controller = self.memlora.chat = ChatController(self.backend, self._turn_changed)
        yield from super().compose()

    def on_mount(self) -> None:
        self.query_one("#attachment").display = False
        self.set_class(not self.backend.settings.panel, "-no-panel")
        self.prompt.focus()
        self.run_worker(self.controller.run_memory_worker(), group="remember", exit_on_error=False)

    # ------------------------------------------------------------------ parts

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    @property
    def panel(self) -> MemoryPanel:
        return self.query_one(MemoryPanel)

    @property
    def log_view(self) -> VerticalScroll:
        return self.query_one("#log", VerticalScroll)

    # ------------------------------------------------------------------ asking

    @on(Prompt.Sent)
    def sent(self, event: Prompt.Sent) -> None:
        command = parse(event.text)
        if command is not None:
            from memlora_mlx.tui.screens.chat_commands import ChatCommands  # here: the first frame has no use for it

            ChatCommands(self).run(*command)
            return
        turn = ChatTurn(event.text or NO_WORDS, self.attachment)
        self.detach()
        self.answer(turn)

    async def show(self, turn: ChatTurn) -> ExchangeView:
        """Put a turn at the end of the conversation."""
        view = ExchangeView(turn)
        self.turns.append(turn)
        self.query_one("#welcome").display = False
        self._current = view
        await self.log_view.mount(view)
        self.log_view.anchor()
        self._turn_changed(turn)
        return view

    @work(group="reply", exit_on_error=False)
    async def answer(self, turn: ChatTurn) -> None:
        """Show the question at once, and its reply as it comes; replies come one after the other."""
        self.controller.pending_replies += 1
        try:
            view = await self.show(turn)
            async with self._reply_lock:
                if self.controller.is_shutting_down:
                    turn.stopped = True
                else:
                    await self._stream(turn, view)
            self._turn_changed(turn)
            if turn.problem is None:
                self.controller.remember(turn)
        finally:
            self.controller.pending_replies -= 1

    async def _stream(self, turn: ChatTurn, view: ExchangeView) -> None:
        self.controller.stop = stop = asyncio.Event()
        self.refresh_bindings()
        view.add_class("-replying")
        stream = view.markdown.get_stream(view.markdown)
        try:
            async for piece in self.controller.reply(turn, stop):
                if turn.reply == piece:  # the first one: the memories are chosen
                    self._turn_changed(turn)
                await stream.write(printable(piece))
        except Exception as error:
            turn.problem = printable_line(str(error)) or type(error).__name__
            self.memlora.report_error(error, "No reply")
        finally:
            self.controller.stop = None
            self.refresh_bindings()
            await stream.stop()
            view.remove_class("-replying")

    async def clear(self) -> None:
        """Take all turns off the screen."""
        self.turns.clear()
        self._current = None
        await self.query(ExchangeView).remove()
        self.query_one("#welcome").display = True
        self.refresh_panel()

    def _turn_changed(self, turn: ChatTurn) -> None:
        """Show what is new of a turn: below its reply, in the panel, in the counts."""
        for view in self.query(ExchangeView):
            if view.turn is turn:
                view.refresh_note()
        if self._current is not None and self._current.turn is turn:
            self.refresh_panel()
        if turn.memory == "failed":
            self.notify(
                printable_line(turn.problem or ""), title="Not remembered", severity="error", timeout=12, markup=False
            )
        if turn.memory == "done":
            self.refresh_counts()

    @work(group="panel", exclusive=True, exit_on_error=False)
    async def refresh_panel(self) -> None:
        await self.panel.show(self._current.turn if self._current else None, self.states)

    @work(group="count", exclusive=True, exit_on_error=False)
    async def refresh_counts(self) -> None:
        await self.backend.refresh_counts()

    @on(TextArea.Changed)
    def typed(self) -> None:
        self.controller.note_activity()

    # ------------------------------------------------------------------ images

    @on(Prompt.Pasted)
    def pasted(self, event: Prompt.Pasted) -> None:
        self.attach(event.path, "", event.text)

    @work(group="attach", exclusive=True, exit_on_error=False)
    async def attach(self, path: Path, caption: str, pasted: str = "") -> None:
        """Take an image to the next question, once it is seen to be one; if it is none, what was pasted is text."""
        from memlora_mlx.tui.terminal_images import thumbnail

        try:
            await asyncio.to_thread(thumbnail, path)
        except UsageError:
            if not pasted:
                raise
            self.prompt.insert(pasted)
            return
        self.attachment = Image(str(path), caption or None)
        student = printable_line(self.backend.status.student or "the student", 30)
        told = f"caption: {printable_line(caption, 60)}" if caption else "add a caption with /image PATH WORDS"
        if self.backend.status.has_vision:
            does = f"{student} looks at it"
        else:
            does = f"{student} cannot see: it reads your words and the caption"
        chip = self.query_one("#attachment", Static)
        chip.update(Content(f"▣ {printable_line(path.name, 40)} ({told})\n  {does}. Backspace takes it off."))
        chip.display = True
        self.prompt.may_be_empty = True

    def detach(self) -> None:
        self.attachment = None
        self.prompt.may_be_empty = False
        self.query_one("#attachment").display = False

    @on(Prompt.Emptied)
    def prompt_emptied(self) -> None:
        self.detach()

    # ------------------------------------------------------------------ memories

    @on(ExchangeView.Chosen)
    def chosen(self, event: ExchangeView.Chosen) -> None:
        self._current = event.view
        for view in self.query(ExchangeView):
            view.set_class(view is event.view, "-current")
        self.refresh_panel()

    @on(MemoryItem.Acted)
    @work(group="memory", exit_on_error=False)
    async def act(self, event: MemoryItem.Acted) -> None:
        """Do to a memory what its key says; a failure is told and changes nothing."""
        from memlora_mlx.tui import memory_edits
        from memlora_mlx.tui.screens.dialogs import EditDialog

        entry = event.entry
        if event.action == "source":
            await self._open_source(entry)
            return
        if event.action == "edit":
            words = await self.memlora.push_screen_wait(EditDialog(self._memory_text(entry)))
            if words is None:
                return
            memory = await self.backend.run(partial(memory_edits.revise, memory_id=entry.memory_id, text=words))
            self.states[entry.memory_id] = f"edited: {memory.text}"
        elif event.action == "undo":
            read = self._current.turn.remembered if self._current else None
            facts = read.facts if read and any(c.memory_id == entry.memory_id for c in read.applied) else ()
            line = await self.backend.run(partial(memory_edits.undo, memory_id=entry.memory_id, facts=facts))
            self.states[entry.memory_id] = f"undone; now: {line.new_text or 'gone'}"
        else:
            await self.backend.run(partial(memory_edits.delete, memory_id=entry.memory_id))
            self.states[entry.memory_id] = "deleted; u brings it back"
        await self.backend.refresh_counts()
        self.refresh_panel()

    def _memory_text(self, entry: PanelEntry) -> str:
        state = self.states.get(entry.memory_id, "")
        return state.removeprefix("edited: ") if state.startswith("edited: ") else entry.text

    async def _open_source(self, entry: PanelEntry) -> None:
        from memlora_mlx.tui.memory_queries import memory_details
        from memlora_mlx.tui.screens.dialogs import SourceDialog

        found = await self.backend.run(partial(memory_details, memory_id=entry.memory_id))
        await self.memlora.push_screen(SourceDialog(found.text or entry.text, found.exchanges, found.history))

    # ------------------------------------------------------------------ keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "stop_reply":
            return self.controller.stop is not None
        if action == "browse":
            return self.controller.stop is None
        return super().check_action(action, parameters)

    def action_stop_reply(self) -> None:
        if self.controller.stop is not None:
            self.controller.stop.set()

    def action_browse(self) -> None:
        """From the prompt to the newest reply, and from anywhere back to the prompt."""
        views = list(self.query(ExchangeView))
        if self.focused is self.prompt and views:
            views[-1].focus()
        else:
            self.prompt.focus()

    def action_toggle_panel(self) -> None:
        is_shown = self.panel.region.width > 0
        if is_shown:
            self.set_class(False, "-panel").set_class(True, "-no-panel")
            if isinstance(self.focused, MemoryItem):
                self.prompt.focus()
        else:
            self.show_panel()
        if not self.has_class("-narrow"):
            self.memlora.save_preferences(panel=not is_shown)
        elif not is_shown:  # it takes the chat's place until it is closed
            self.call_after_refresh(self.panel.focus_first)

    def show_panel(self) -> None:
        self.set_class(True, "-panel").set_class(False, "-no-panel")

    def action_scroll_log(self, pages: int) -> None:
        self.log_view.scroll_relative(y=pages * max(1, self.log_view.size.height - 2), animate=False)

    def on_key(self, event: events.Key) -> None:
        """Up and Down go from reply to reply, and to the prompt below them."""
        if isinstance(self.focused, ExchangeView) and event.key in ("up", "down"):
            views = list(self.query(ExchangeView))
            at = views.index(self.focused) + (1 if event.key == "down" else -1)
            (views[at] if 0 <= at < len(views) else self.prompt if at >= len(views) else views[0]).focus()
            event.stop()
