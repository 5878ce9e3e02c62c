"""What the keys on an exchange of the chat do: copy, answer again, edit the question, undo what was stored from it."""

from __future__ import annotations

from typing import Any

from textual import on, work

from memlora_mlx.errors import UsageError
from memlora_mlx.tui.chat_controller import ChatTurn
from memlora_mlx.tui.screens.panel_keys import PanelKeys
from memlora_mlx.tui.widgets.exchange import ExchangeView


class ExchangeKeys(PanelKeys):
    """The actions on the exchanges of the Chat screen. A failure is reported and changes nothing."""

    def answer(self, turn: ChatTurn) -> Any:
        """Show a question and generate its reply."""
        raise NotImplementedError

    def answer_again(self, view: ExchangeView) -> Any:
        """Generate the last reply again, in its place."""
        raise NotImplementedError

    @on(ExchangeView.Acted)
    @work(group="exchange", exit_on_error=False)
    async def act_on_exchange(self, event: ExchangeView.Acted) -> None:
        await getattr(self, f"_{event.action}_exchange")(event.view)

    async def _copy_exchange(self, view: ExchangeView) -> None:
        from memlora_mlx.tui.clipboard import copy

        code = getattr(self.focused, "code", None)
        text = code if isinstance(code, str) else view.turn.reply.strip()
        if not text:
            raise UsageError("There is no reply to copy yet.")
        done = copy(self.memlora, text, self.backend.settings.home)
        self.notify(done, title="Code" if isinstance(code, str) else "Reply", markup=False)

    async def _again_exchange(self, view: ExchangeView) -> None:
        turn = view.turn
        if turn.is_noted:
            raise UsageError("This was noted and has no answer. u undoes it, e edits it.")
        if turn is self.turns[-1] and self.controller.pending_replies == 0:
            self.answer_again(view)
        elif not self.controller.pending_replies:
            self.answer(ChatTurn(turn.question, turn.image))

    async def _edit_exchange(self, view: ExchangeView) -> None:
        self.prompt.show_message(view.turn.question)
        self.prompt.focus()

    async def _undo_exchange(self, view: ExchangeView) -> None:
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
            done = await self.editor.undo(change.memory_id, facts=facts)
            if done is not None:
                view.turn.undone.add(change.memory_id)
                self.panel.show_change(done)
                undone += 1
        if not undone:
            raise UsageError("This is undone already. /redo makes the last undone change again.")
        view.refresh_note()
        self.notify("/redo makes it again.", title=f"Undone: {undone} of this exchange", markup=False)
