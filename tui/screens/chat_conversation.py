"""The conversation of the Chat screen: opened, continued, stored as it is held, and left for another one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from memlora_mlx.errors import ModelMissing
from memlora_mlx.text import printable_line
from memlora_mlx.tui import conversation_queries
from memlora_mlx.tui.chat_controller import ChatTurn
from memlora_mlx.tui.conversation_queries import LoadedConversation, owner_of
from memlora_mlx.tui.screens.panel_keys import PanelKeys
from memlora_mlx.tui.unsaved import UnsavedTurns
from memlora_mlx.tui.widgets.exchange import ExchangeView

if TYPE_CHECKING:
    from memlora_mlx.memory.store.conversations import TurnState
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.tui.screens.conversations import ConversationChoice

SHOWN_AT_FIRST = 20  # questions with their replies; more are loaded at the top


class EarlierTurns(Static):
    """Says at the top how many messages come before those that are shown."""

    def __init__(self, count: int) -> None:
        words = f"↑ {count} earlier messages: press PgUp here, or click"
        super().__init__(Content(words), classes="earlier", markup=False)

    async def on_click(self) -> None:
        await self.run_action("screen.scroll_log(-1)")


class ChatConversation:
    """The conversation of one Chat screen. It is stored when something is first said in it."""

    def __init__(self, chat: PanelKeys) -> None:
        self._chat = chat
        self.id: str | None = None
        self._is_ready = asyncio.Event()  # the first conversation is open: what is said now belongs to it
        self._lock = asyncio.Lock()  # questions are stored in the order in which they were sent
        self._shown = 0  # questions
        settings = chat.backend.settings
        self._unsaved = UnsavedTurns(
            settings.home, keep_secrets=settings.keep_secrets, is_encrypted=settings.is_encrypted
        )
        self._held: ExchangeView | None = None  # the place that was opened, while it is read

    # ------------------------------------------------------------------ opening

    async def open_first(self) -> None:
        """Open the conversation that the app was started with, else the last one."""
        app = self._chat.memlora
        try:
            await self._store_left_over()
            if not app.begins_new_conversation:
                find = partial(conversation_queries.first_conversation, beginning=app.first_conversation)
                found = await self._chat.backend.run(find)
                if found is not None:
                    await self._load(found.id)
                    self._chat.log_view.anchor()
        except ModelMissing:  # nothing is stored yet, and nothing is installed: the Chat screen says so
            pass
        finally:
            self._is_ready.set()

    async def _store_left_over(self) -> None:
        """Store what was sent in an app that ended before it was stored: at the end of the last conversation."""
        left = self._unsaved.left_by_others()
        if not left:
            return
        last = await self._chat.backend.run(partial(conversation_queries.first_conversation, beginning=None))
        conversation = last.id if last is not None else None
        for turn in left:
            save = partial(_save_question, turn=turn, conversation=conversation)
            conversation, _ = await self._chat.backend.run(save)
            self._unsaved.drop(turn)

    async def open(self, conversation: str, *, at: str | None = None) -> None:
        """Leave the running conversation for another one. A reply that is being written is stopped.

        Args:
            at: the exchange key of the place to show; else the end is shown.
        """
        self._chat.set_focus(self._chat.prompt)  # and not a memory of the panel, which is about to change
        place = self._view_of(at) if conversation == self.id else None
        if place is None:
            await self._leave()
            async with self._lock:
                await self._load(conversation, since=at)
            place = self._view_of(at)
        if place is None:
            self._chat.log_view.anchor()
        else:
            self._chat.log_view.anchor(False)
            self._held = place
            self._show_place(place)
            # Again, because the panel kept the focus while it changed.
            self._chat.call_after_refresh(self._show_place, place)

    def _show_place(self, place: ExchangeView) -> None:
        place.focus(scroll_visible=False)
        place.scroll_visible(top=True, animate=False)

    def keep_place(self) -> None:
        """Keep the place that was opened at the top, while it has the focus: the text around it gets its height bit by bit."""
        if self._held is not None and self._chat.focused is self._held:
            self._held.scroll_visible(top=True, animate=False)

    def let_go(self) -> None:
        """Leave the place that was opened: the reader scrolls, or says something."""
        self._held = None

    async def follow(self, chosen: ConversationChoice | None) -> None:
        """Do what the list of conversations was left with; None leaves this one open, perhaps with another name."""
        if chosen is None:
            if self.id is not None:
                find = partial(conversation_queries.first_conversation, beginning=self.id)
                found = await self._chat.backend.run(find)
                self.show_name(found.name if found is not None else "")
        elif chosen.conversation is None:
            await self.begin()
        else:
            await self.open(chosen.conversation, at=chosen.at)

    async def begin(self) -> None:
        """Begin a new conversation with the next message. Memories stay."""
        await self._leave()
        async with self._lock:
            self.id, self._shown = None, 0
            self._chat.controller.resume(())
            await self._chat.clear()
            self.show_name("")

    async def load_earlier(self) -> None:
        """Show earlier turns above those on the screen."""
        marks = list(self._chat.query(EarlierTurns))
        if not marks or self.id is None:
            return
        async with self._lock:
            last = self._shown + SHOWN_AT_FIRST
            found = await self._chat.backend.run(partial(conversation_queries.load, conversation=self.id, last=last))
            known = {turn.key for turn in self._chat.turns}
            new = [turn for turn in found.turns if turn.key not in known]
            first = self._chat.query(ExchangeView).first()
            self._chat.turns[:0] = new
            self._shown = last
            await self._chat.log_view.mount_all([ExchangeView(turn) for turn in new], before=first)
            await marks[0].remove()
            if found.earlier:
                await self._chat.log_view.mount(EarlierTurns(found.earlier), before=0)
            first.scroll_visible(top=True, animate=False)

    async def _leave(self) -> None:
        await self._is_ready.wait()
        self._chat.action_stop_reply()
        await self._chat.wait_for_replies()

    async def _load(self, conversation: str, *, since: str | None = None) -> None:
        load = partial(conversation_queries.load, conversation=conversation, last=SHOWN_AT_FIRST, since=since)
        found = await self._chat.backend.run(load)
        self.id, self._shown, self._held = conversation, len(found.turns), None
        self._chat.controller.resume(found.saved_turns)
        await self._show(found)
        self.show_name(found.saved.name)
        for turn in found.turns:
            if turn.memory == "none":  # the app ended before it was remembered
                self._chat.controller.remember(turn)

    async def _show(self, found: LoadedConversation) -> None:
        chat = self._chat
        chat.log_view.anchor(False)  # whoever opens it says what is shown: its end or a place
        if self._is_ready.is_set():
            await chat.clear()
        said = list(chat.query(ExchangeView))  # before the first conversation was open: it goes on with them
        chat.turns[:0] = found.turns
        earlier = [EarlierTurns(found.earlier)] if found.earlier else []
        views = [*earlier, *(ExchangeView(turn) for turn in found.turns)]
        if found.turns:
            chat.query_one("#welcome").display = False
        await chat.log_view.mount_all(views, before=said[0] if said else None)
        if found.turns and chat.turns[-1] is found.turns[-1]:  # nothing has been said meanwhile
            chat.panel.show_turn(found.turns[-1])

    def _view_of(self, key: str | None) -> ExchangeView | None:
        return next((view for view in self._chat.query(ExchangeView) if view.turn.key == key), None)

    # ------------------------------------------------------------------ storing

    def keep(self, turn: ChatTurn) -> None:
        """Write down what was sent until it is stored, so that it is not lost if the terminal is closed before."""
        self._unsaved.keep(turn)

    async def save_question(self, turn: ChatTurn) -> None:
        """Store what the user says, before there is a reply.

        Raises:
            MemloraError: it cannot be stored.
        """
        self.keep(turn)
        await self._is_ready.wait()
        async with self._lock:
            is_first = self.id is None
            self.id, name = await self._chat.backend.run(partial(_save_question, turn=turn, conversation=self.id))
            turn.is_saved = True
            self._unsaved.drop(turn)
            if is_first:
                self.show_name(name)

    async def save_reply(self, turn: ChatTurn) -> None:
        """Store a reply that has ended, however it ended. A failure is reported."""
        if turn.is_saved and (turn.reply or turn.stopped):
            await self._chat.backend.run(partial(_save_reply, turn=turn))

    def show_name(self, name: str) -> None:
        """Show the name of the conversation on the frame of the prompt."""
        self._chat.prompt.border_title = Content(printable_line(name, 60)) if name else None


def _save_question(workspace: Workspace, turn: ChatTurn, conversation: str | None) -> tuple[str, str]:
    """The conversation's id and name."""
    from memlora_mlx.memory.store.conversations import find_conversation, save_question

    store = workspace.store
    saved = save_question(
        store,
        owner_of(workspace),
        turn.question,
        key=turn.key,
        said_at=turn.said_at,
        conversation=conversation,
        image=turn.image,
        keep_secrets=workspace.settings.keep_secrets,
    )
    return saved, "" if conversation == saved else find_conversation(store, saved).name


def _save_reply(workspace: Workspace, turn: ChatTurn) -> None:
    from memlora_mlx.memory.store.conversations import save_reply

    state: TurnState = "cut" if turn.stopped or turn.problem else "complete"
    save_reply(
        workspace.store,
        turn.key,
        turn.reply,
        question=turn.question,
        said_at=datetime.now(UTC),
        state=state,
        keep_secrets=workspace.settings.keep_secrets,
    )
