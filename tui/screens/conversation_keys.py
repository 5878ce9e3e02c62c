"""What the keys of the Chat screen do with whole conversations: list them, begin one, open one at a place, scroll."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from memlora_mlx.tui.screens.chat_conversation import ChatConversation
from memlora_mlx.tui.screens.exchange_keys import ExchangeKeys


class ConversationKeys(ExchangeKeys):
    """The actions on the conversations of the Chat screen. A failure is reported and changes nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+r",
            "conversations",
            "Conversations",
            show=False,
            tooltip="Search, open, rename, delete and export conversations",
            id="chat.conversations",
        ),
        Binding(
            "ctrl+n",
            "new_conversation",
            "New",
            show=False,
            tooltip="Start a new conversation; memories stay",
            id="chat.new",
        ),
        Binding("pageup", "scroll_log(-1)", show=False, tooltip="Scroll the conversation up", id="chat.up"),
        Binding("pagedown", "scroll_log(1)", show=False, tooltip="Scroll the conversation down", id="chat.down"),
        Binding("ctrl+end", "scroll_to_end", show=False, tooltip="Go to the end of the conversation", id="chat.end"),
    ]
    conversation: ChatConversation

    def open_first_conversation(self) -> None:
        self.run_worker(self.conversation.open_first(), group="conversation", exit_on_error=False)

    def show_conversation(self, conversation: str, at: str) -> None:
        """Open a conversation at the exchange with the key `at`."""
        self.run_worker(self.conversation.open(conversation, at=at), group="conversation", exit_on_error=False)

    def action_new_conversation(self) -> None:
        self.run_worker(self.conversation.begin(), group="conversation", exit_on_error=False)

    @work(group="conversations", exclusive=True, exit_on_error=False)
    async def action_conversations(self) -> None:
        from memlora_mlx.tui.screens.conversations import ConversationsScreen

        chosen = await self.app.push_screen_wait(ConversationsScreen(self.conversation.id))
        await self.conversation.follow(chosen)

    def action_scroll_to_end(self) -> None:
        self.conversation.let_go()
        self.log_view.anchor()

    def action_scroll_log(self, pages: int) -> None:
        self.conversation.let_go()
        if pages < 0:
            self.log_view.release_anchor()  # a reply that grows must not move what is read
            if self.log_view.scroll_y <= 0:
                self.run_worker(self.conversation.load_earlier(), group="conversation", exit_on_error=False)
        self.log_view.scroll_relative(y=pages * max(1, self.log_view.size.height - 2), animate=False)
