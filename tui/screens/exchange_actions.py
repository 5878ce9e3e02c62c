"""What the keys on an exchange of the chat do: copy, answer again, edit the question, undo what was stored from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memlora_mlx.errors import UsageError
from memlora_mlx.tui.chat_controller import ChatTurn
from memlora_mlx.tui.clipboard import copy
from memlora_mlx.tui.widgets.exchange import ExchangeAction, ExchangeView

if TYPE_CHECKING:
    from memlora_mlx.tui.screens.chat import ChatScreen


class ExchangeActions:
    """The actions on the exchanges of one Chat screen. They run in a worker; a failure is raised and changes nothing."""

    def __init__(self, chat: ChatScreen) -> None:
        self.chat = chat

    async def run(self, view: ExchangeView, action: ExchangeAction) -> None:
        await getattr(self, f"_{action}")(view)

    async def _copy(self, view: ExchangeView) -> None:
        code = getattr(self.chat.focused, "code", None)
        text = code if isinstance(code, str) else view.turn.reply.strip()
        if not text:
            raise UsageError("There is no reply to copy yet.")
        done = copy(self.chat.memlora, text, self.chat.backend.settings.home)
        self.chat.notify(done, title="Code" if isinstance(code, str) else "Reply", markup=False)

    async def _again(self, view: ExchangeView) -> None:
        turn = view.turn
        if turn.is_noted:
            raise UsageError("This was noted and has no answer. u undoes it, e edits it.")
        if turn is self.chat.turns[-1] and self.chat.controller.pending_replies == 0:
            self.chat.answer_again(view)
        elif not self.chat.controller.pending_replies:
            self.chat.answer(ChatTurn(turn.question, turn.image))

    async def _edit(self, view: ExchangeView) -> None:
        self.chat.prompt.show_message(view.turn.question)
        self.chat.prompt.focus()

    async def _undo(self, view: ExchangeView) -> None:
        """Undo the changes of this exchange that still stand, the newest first."""
        result = view.turn.remembered
        changes = [
            each for each in (result.applied if result else ()) if each.rejected is None and each.event != "NONE"
        ]
        if not changes:
            raise UsageError("Nothing was stored from this exchange.")
        undone = 0
        for change in reversed(changes):
            if change.memory_id in view.turn.undone:
                continue
            facts = result.facts if result else ()
            done = await self.chat.editor.undo(change.memory_id, facts=facts)
            if done is not None:
                view.turn.undone.add(change.memory_id)
                self.chat.panel.show_change(done)
                undone += 1
        if not undone:
            raise UsageError("This is undone already. /redo makes the last undone change again.")
        view.refresh_note()
        self.chat.notify("/redo makes it again.", title=f"Undone: {undone} of this exchange", markup=False)
