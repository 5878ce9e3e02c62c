"""Small windows over a screen: words to edit, a question to answer, where a memory came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Footer, Static, TextArea

from memlora_mlx.memory.stages import MAX_TEXT
from memlora_mlx.records import Exchange, Revision
from memlora_mlx.text import printable, printable_line
from memlora_mlx.tui.times import format_time


class EditDialog(ModalScreen[str | None]):
    """New words for a memory; None when the user goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,ctrl+s", "save", "Save", priority=True, tooltip="Keep these words", id="edit.save"),
        Binding("escape", "dismiss", "Back", tooltip="Leave it as it is", id="edit.back"),
    ]

    def __init__(self, text: str, title: str = "Edit this memory") -> None:
        super().__init__()
        self._text, self._title = printable(text), title

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="dialog-title", markup=False)
            yield TextArea(self._text, soft_wrap=True, tab_behavior="focus", highlight_cursor_line=False, id="edit")
            yield Static(f"one line, at most {MAX_TEXT} characters", classes="hint", markup=False)
            yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        area = self.query_one("#edit", TextArea)
        area.move_cursor(area.document.end)
        area.focus()

    def action_save(self) -> None:
        self.dismiss(" ".join(self.query_one("#edit", TextArea).text.split()))


class ConfirmDialog(ModalScreen[bool]):
    """A question whose answer changes something."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "Yes", id="confirm.yes"),
        Binding("n,escape", "answer(False)", "No", id="confirm.no"),
    ]

    def __init__(self, question: str, words: str = "") -> None:
        super().__init__()
        self._question, self._words = question, words

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._question, classes="dialog-title", markup=False)
            if self._words:
                yield Static(Content(printable_line(self._words)), markup=False)
            yield Footer(show_command_palette=False)

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class SourceDialog(ModalScreen[None]):
    """Where a memory came from, and all that happened to it since."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "dismiss", "Back", id="source.back"),
    ]

    def __init__(self, text: str, exchanges: Sequence[Exchange], history: Sequence[Revision]) -> None:
        super().__init__()
        self._text, self._exchanges, self._history = text, exchanges, history

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Static(Content(printable_line(self._text)), classes="dialog-title", markup=False)
            with VerticalScroll(can_focus=True):
                yield Static(self._source(), markup=False)
                yield Static(self._changes(), markup=False)
            yield Footer(show_command_palette=False)

    def _source(self) -> Content:
        if not self._exchanges:
            return Content(
                "\nNo conversation is kept with it: it was written by hand, or its conversation was forgotten."
            )
        parts: list[Content] = []
        for exchange in self._exchanges:
            head = f"\nSaid {format_time(exchange.said_at)} in {printable_line(exchange.source, 60)}\n"
            parts.append(Content.styled(head, "$foreground 60%"))
            for message in exchange.messages:
                known = {"user": "you", "assistant": "memlora"}
                name = printable_line(message.speaker or known.get(message.role, message.role), 40)
                words = printable(message.text)[:4000]
                parts.append(Content.assemble((f"\n{name}  ", "bold $text-primary"), words, "\n"))
                if message.image is not None:
                    parts.append(
                        Content(f"  image: {printable_line(message.image.caption or message.image.source, 120)}\n")
                    )
        return Content("").join(parts)

    def _changes(self) -> Content:
        parts: list[Content] = [Content.styled("\nWhat happened to it\n", "$foreground 60%")]
        for line in self._history:
            undone = "  (undone)" if line.undone else ""
            words = printable_line(line.new_text or line.old_text or "")
            parts.append(
                Content(f"\n{line.event.lower():<7} {format_time(line.at)}  by {line.actor}{undone}\n  {words}\n")
            )
        return Content("").join(parts)


class FinishDialog(ModalScreen[bool]):
    """Shown while the last exchanges are remembered on the way out; True once they are, False to leave without."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave without", tooltip="Leave at once; they are forgotten", id="finish.leave"),
    ]

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            noun = "exchange" if self._count == 1 else f"{self._count} exchanges"
            yield Static(f"Remembering the last {noun} …", classes="dialog-title", markup=False)
            yield Static("memlora closes by itself when this is done.", markup=False)
            yield Footer(show_command_palette=False)

    def action_leave(self) -> None:
        self.dismiss(False)
