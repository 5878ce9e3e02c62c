"""The Chat screen: the conversation, the prompt and the memory panel."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static, TextArea

from memlora_mlx.errors import ModelMissing, UsageError
from memlora_mlx.settings import APP_HISTORY, Settings
from memlora_mlx.text import printable, printable_line
from memlora_mlx.tui.chat_controller import ChatController, ChatTurn
from memlora_mlx.tui.commands import parse
from memlora_mlx.tui.memory_editor import MemoryEditor
from memlora_mlx.tui.screens.chat_conversation import ChatConversation
from memlora_mlx.tui.screens.conversation_keys import ConversationKeys
from memlora_mlx.tui.widgets.attachment import Attachment
from memlora_mlx.tui.widgets.exchange import ExchangeView
from memlora_mlx.tui.widgets.memory_item import MemoryItem
from memlora_mlx.tui.widgets.memory_panel import MemoryPanel
from memlora_mlx.tui.widgets.new_text import NewTextMark
from memlora_mlx.tui.widgets.prompt import History, Prompt, PromptBox

WELCOME = """\
Tell me about yourself, or ask about something you told me before.

What you say is stored on this machine and nowhere else. The panel on the right ({panel}) lists the memories of each \
reply: open, edit, delete or undo them there.

/  commands      Ctrl+P  palette      {help}  help      {quit}  quit"""
WELCOME_KEYS = {"panel": "Ctrl+O", "help": "F1", "quit": "Ctrl+Q"}
OPEN_DELAY = 0.05  # seconds after the first frame
ECHO_SECONDS = 0.15  # after which a message is shown although it is not stored yet, as while the store is being opened
READABLE_SHARE = 0.7  # of the context that one message may take in a reply's prompt: see `memlora_mlx.memory.chat`
NO_TEXT = "(shares an image)"  # the text of a message that is an image alone


class ChatScreen(ConversationKeys):
    NAME = "Chat"
    LEAST_SIZE = (40, 12)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop_reply", "Stop", tooltip="Stop the reply", id="chat.stop"),
        Binding("escape", "browse", "Move", tooltip="Move between prompt and replies", id="chat.browse"),
        Binding("ctrl+o", "toggle_panel", "Panel", tooltip="Show or hide the memory panel", id="chat.panel"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._reply_lock = asyncio.Lock()

    def compose_body(self) -> Iterable[Widget]:
        history = _typed_before(self.backend.settings)
        log = VerticalScroll(Static(WELCOME.format(**WELCOME_KEYS), id="welcome", markup=False), id="log", can_focus=False)
        yield Horizontal(
            Vertical(
                log,
                NewTextMark(log),
                Attachment(),
                PromptBox(history, int(READABLE_SHARE * self.backend.settings.max_context)),
                id="talk",
            ),
            MemoryPanel(),
            id="chat",
        )

    def compose(self) -> ComposeResult:
        self.controller = self.memlora.chat = ChatController(self.backend, self._turn_changed)
        self.editor = MemoryEditor(self.memlora)
        self.conversation = ChatConversation(self)
        yield from super().compose()

    def on_mount(self) -> None:
        self.set_class(not self.backend.settings.panel, "-no-panel")
        self.prompt.focus()
        self.watch(self.log_view, "virtual_size", self.conversation.keep_place, init=False)
        self.run_worker(self.controller.run_memory_worker(), group="remember", exit_on_error=False)
        # After the first frame, which has the processor to itself.
        self.call_after_refresh(self.set_timer, OPEN_DELAY, self.open_first_conversation)

    # ------------------------------------------------------------------ asking

    @on(Prompt.Sent)
    def sent(self, event: Prompt.Sent) -> None:
        command = parse(event.text)
        if command is not None:
            self.memlora.run_chat_command(*command)
            return
        turn = ChatTurn(event.text or NO_TEXT, self.attachment.image)
        self.detach()
        self.conversation.keep(turn)
        self.answer(turn)

    async def show(self, turn: ChatTurn) -> ExchangeView:
        """Put a turn at the end of the conversation."""
        view = ExchangeView(turn)
        self.turns.append(turn)
        self.query_one("#welcome").display = False
        self.panel.show_turn(turn)
        await self.log_view.mount(view)
        self.action_scroll_to_end()
        self._turn_changed(turn)
        return view

    @work(group="reply", exit_on_error=False)
    async def answer(self, turn: ChatTurn) -> None:
        """Show the question at once and its reply as it is generated. Replies are generated one after the other."""
        self.controller.pending_replies += 1
        try:
            saving = asyncio.ensure_future(self.conversation.save_question(turn))
            await asyncio.wait([saving], timeout=ECHO_SECONDS)
            view = await self.show(turn)
            try:
                await saving
            except Exception as error:
                self._not_saved(turn, error)
                return
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

    @work(group="reply", exit_on_error=False)
    async def answer_again(self, view: ExchangeView) -> None:
        """Replace the last reply. What was stored from the exchange stays; one that failed is stored now."""
        turn = view.turn
        self.controller.pending_replies += 1
        try:
            async with self._reply_lock:
                is_stored = turn.memory != "none"
                self.controller.take_back(turn)
                await view.markdown.update("")
                await self._stream(turn, view)
            self._turn_changed(turn)
            if turn.problem is None and not is_stored:
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
                if turn.reply == piece:  # the first piece: the memories have been found
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
            view.make_code_focusable()
        await self.conversation.save_reply(turn)

    def _not_saved(self, turn: ChatTurn, error: Exception) -> None:
        """Say that a message could not be stored. It stays on the screen, and /retry stores it."""
        turn.problem = printable_line(str(error)) or type(error).__name__
        if isinstance(error, ModelMissing):
            self.memlora.report_missing_models(error)
        else:
            turn.memory = "failed"
        self._turn_changed(turn)

    async def wait_for_replies(self) -> None:
        """Wait until no reply is being written."""
        async with self._reply_lock:
            pass

    async def clear(self) -> None:
        """Remove all turns from the screen."""
        self.turns.clear()
        await self.query("#log > .exchange, #log > .earlier").remove()
        self.query_one("#welcome").display = True
        self.panel.show_turn(None)

    def _turn_changed(self, turn: ChatTurn) -> None:
        """Update the note below the reply, the panel and the counts."""
        for view in self.query(ExchangeView):
            if view.turn is turn:
                if turn.is_noted:
                    view.show_noted()
                view.refresh_note()
        if self.panel.turn is turn:
            self.panel.refresh_items()
        if turn.memory == "failed":
            self.notify(
                printable_line(turn.problem or ""), title="Not stored", severity="error", timeout=12, markup=False
            )
        if turn.memory == "done":
            if turn.remembered is not None and (told := _withheld(turn.remembered.withheld)):
                self.notify(told, title="Left out", markup=False)
            self.refresh_counts()
            if turn.is_noted:
                self.run_worker(self.conversation.save_reply(turn), group="noted", exit_on_error=False)

    @on(TextArea.Changed)
    def typed(self) -> None:
        self.controller.note_activity()

    # ------------------------------------------------------------------ images

    @on(Prompt.Pasted)
    def pasted(self, event: Prompt.Pasted) -> None:
        self.attach(event.path, "", event.text)

    @work(group="attach", exclusive=True, exit_on_error=False)
    async def attach(self, path: Path, caption: str, pasted: str = "") -> None:
        """Add an image to the next message. If the file is not an image, what was pasted is text."""
        try:
            await self.attachment.attach(path, caption, self.backend.status)
        except UsageError:
            if not pasted:
                raise
            self.prompt.insert(pasted)
        else:
            self.prompt.may_be_empty = True

    @on(Prompt.Emptied)
    def detach(self) -> None:
        self.attachment.detach()
        self.prompt.may_be_empty = False

    # ------------------------------------------------------------------ memories

    @on(ExchangeView.Chosen)
    def chosen(self, event: ExchangeView.Chosen) -> None:
        for view in self.query(ExchangeView):
            view.set_class(view is event.view, "-current")
        self.panel.show_turn(event.view.turn)

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
        """Move from the prompt to the newest reply, and from anywhere else to the prompt."""
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
        elif not is_shown:  # it covers the chat until it is closed
            self.call_after_refresh(self.panel.focus_first)

    def show_panel(self) -> None:
        self.set_class(True, "-panel").set_class(False, "-no-panel")

    def on_key(self, event: events.Key) -> None:
        """Up and Down move between the replies, and to the prompt below them."""
        if isinstance(self.focused, ExchangeView) and event.key in ("up", "down"):
            views = list(self.query(ExchangeView))
            at = views.index(self.focused) + (1 if event.key == "down" else -1)
            (views[at] if 0 <= at < len(views) else self.prompt if at >= len(views) else views[0]).focus()
            event.stop()


def welcome(keymap: Mapping[str, str]) -> str:
    """The words of an empty conversation, with the keys that the user's keymap has."""
    from memlora_mlx.tui.key_names import key_name  # here: the first frame has no use for it

    ids = {"panel": "chat.panel", "help": "app.help", "quit": "app.quit"}
    own = {name: key_name(keymap[id_].split(",")[0]) for name, id_ in ids.items() if id_ in keymap}
    return WELCOME.format(**WELCOME_KEYS | own)


def _withheld(counts: Mapping[str, int]) -> str:
    """What was left out of the memories, in words."""
    from memlora_mlx.memory.secrets import describe_withheld  # here: the first frame has no use for it

    return describe_withheld(counts)


def _typed_before(settings: Settings) -> History:
    """What was typed in earlier runs; in an encrypted store only in this one, because the file would be plain beside it."""
    return History(None if settings.is_encrypted else settings.home / APP_HISTORY, keep_secrets=settings.keep_secrets)
