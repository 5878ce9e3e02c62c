"""One exchange in the chat: the question, its image, the reply as it streams, and a note about its memories."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar, Literal

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from memlora_mlx.errors import MemloraError
from memlora_mlx.text import printable, printable_line
from memlora_mlx.tui.chat_controller import ChatTurn
from memlora_mlx.tui.widgets.prompt import Prompt, is_long

FOLDED_LINES = 5  # of a long message that are shown; all of it is sent and stored
FOLDED_COLUMNS = 400  # characters of each of these lines
EVENT_SIGNS = {"ADD": "+", "UPDATE": "~", "DELETE": "-"}
EVENT_WORDS = {"ADD": "added", "UPDATE": "updated", "DELETE": "deleted"}


ExchangeAction = Literal["copy", "again", "edit", "undo"]


class ExchangeView(Vertical, can_focus=True):
    """A turn on the screen. The panel shows the memories of the turn that got the focus last."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "act('copy')", "Copy", tooltip="Copy the reply, or the code block in focus", id="exchange.copy"),
        Binding("r", "act('again')", "Again", tooltip="Answer the question again", id="exchange.again"),
        Binding(
            "e", "act('edit')", "Edit", tooltip="Put the question into the prompt to change it", id="exchange.edit"
        ),
        Binding("u", "act('undo')", "Undo", tooltip="Undo what was stored from this exchange", id="exchange.undo"),
    ]

    class Acted(Message):
        """A key that acts on the exchange."""

        def __init__(self, view: ExchangeView, action: ExchangeAction) -> None:
            super().__init__()
            self.view, self.action = view, action

    class Chosen(Message):
        def __init__(self, view: ExchangeView) -> None:
            super().__init__()
            self.view = view

    def __init__(self, turn: ChatTurn) -> None:
        super().__init__(classes="exchange")
        self.turn = turn
        self._typing = False  # a key went to the prompt, and those behind it are of the same text
        from textual.widgets import Markdown  # here: the first frame has no use for it

        self.markdown = Markdown(printable(turn.reply), classes="reply", open_links=False)
        self._note = Static(classes="note", markup=False)

    def compose(self) -> ComposeResult:
        yield Static(Content(folded(printable(self.turn.question))), classes="question", markup=False)
        if self.turn.image is not None:
            yield ImageView(Path(self.turn.image.source))
        yield self.markdown
        yield self._note

    def on_mount(self) -> None:
        self.refresh_note()

    def on_focus(self) -> None:
        self._typing = False
        self.post_message(self.Chosen(self))

    def on_click(self, event: events.Click) -> None:
        self.focus()

    def on_key(self, event: events.Key) -> None:
        """Text typed while a reply has the focus goes to the prompt.

        This is handled here, not on the screen, because keys typed before the focus has moved still arrive here.
        """
        if event.key in self._bindings.key_to_bindings and not self._typing:
            return
        if event.is_printable and event.character:
            self._typing = True
            prompt = self.screen.query_one(Prompt)
            prompt.focus()
            prompt.insert(event.character)
            event.stop()

    def on_paste(self, event: events.Paste) -> None:
        prompt = self.screen.query_one(Prompt)
        prompt.focus()
        prompt.post_message(events.Paste(event.text))
        event.stop()

    def action_act(self, action: ExchangeAction) -> None:
        self.post_message(self.Acted(self, action))

    def show_noted(self) -> None:
        """Show what was noted, which is the reply to a statement."""
        if self.markdown.source != self.turn.reply:
            self.markdown.update(printable(self.turn.reply))

    def make_code_focusable(self) -> None:
        """Let Tab stop at each code block, so that `y` can copy it alone."""
        for block in self.markdown.query("MarkdownFence"):
            block.can_focus = True

    def refresh_note(self) -> None:
        """Update the line below the reply."""
        self._note.update(Content(summary(self.turn)))


def folded(text: str) -> str:
    """The text; of a long one the first lines, and how much more there is."""
    if not is_long(text):
        return text
    shown = "\n".join(line[:FOLDED_COLUMNS] for line in text.split("\n", FOLDED_LINES)[:FOLDED_LINES])
    lines, left = text.count("\n") + 1 - FOLDED_LINES, len(text) - len(shown)
    return (
        f"{shown}\n… {f'{lines:,} lines, ' if lines > 0 else ''}{left:,} characters more (e shows them in the prompt)"
    )


class ImageView(Static):
    """An image: in pixels if the terminal can show them, else in half-blocks. A file that cannot be read shows its name."""

    def __init__(self, path: Path) -> None:
        super().__init__(Content(f"image: {printable_line(path.name, 60)}"), classes="picture", markup=False)
        self._path = path

    def on_mount(self) -> None:
        self.run_worker(self._show(), exit_on_error=False)

    async def _show(self) -> None:
        from memlora_mlx.tui.terminal_images import image_widget, thumbnail

        try:
            small = await asyncio.to_thread(thumbnail, self._path)
        except MemloraError:
            self.update(Content(f"image: {printable_line(self._path.name, 60)} (cannot be shown)"))
            return
        await self.mount(image_widget(small))


def summary(turn: ChatTurn) -> str:
    """One line: how the reply ended, how many memories it used, and what was stored from the exchange."""
    parts = [] if turn.reply or turn.stopped or turn.problem else ["…"]
    if turn.stopped:
        parts.append("■ stopped")
    if turn.problem and turn.memory != "failed":
        parts.append(f"✗ {printable_line(turn.problem)}")
    if turn.hits:
        cited = f", {len(turn.cited)} cited" if turn.cited else ""
        parts.append(f"● {len(turn.hits)} {'memory' if len(turn.hits) == 1 else 'memories'} given{cited}")
    if turn.memory == "waiting":
        parts.append("◌ will be stored")
    elif turn.memory == "working":
        parts.append("◔ being stored …")
    elif turn.memory == "failed":
        parts.append(f"✗ not stored: {printable_line(turn.problem or '', 120)} (/retry)")
    elif turn.remembered is not None:
        done = [change.event for change in turn.remembered.applied if change.rejected is None]
        counts = [
            f"{EVENT_SIGNS[event]} {done.count(event)} {EVENT_WORDS[event]}" for event in EVENT_SIGNS if event in done
        ]
        undo = "   Esc u undoes" if counts and turn.is_noted and not turn.undone else ""
        undo = "   ↶ undone" if turn.undone else undo
        parts.append(("  ".join(counts) or "○ nothing new to store") + undo)
    return "   ".join(parts)
