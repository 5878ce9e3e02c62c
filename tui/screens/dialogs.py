"""Dialogs: edit a memory, answer a question, show the source of a memory, wait before quitting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Footer, Static, TextArea

from memlora_mlx.records import Exchange, Revision
from memlora_mlx.text import printable, printable_line
from memlora_mlx.tui.times import format_time
from memlora_mlx.tui.widgets.text_diff import revision_text


class EditArea(TextArea):
    """A text whose Enter saves it."""

    class Saved(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def _on_key(self, event: events.Key) -> None:  # type: ignore[override]
        # Here, not by a binding of the dialog: that would overtake text that arrived before the key and waits its turn.
        if event.key in ("enter", "ctrl+s"):
            self.post_message(self.Saved(self.text))
            event.stop()
            event.prevent_default()


class EditDialog(ModalScreen[str | None]):
    """Edit the text of a memory. The result is the text on one line, or None if the user cancels."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,ctrl+s", "save", "Save", tooltip="Save the text", id="edit.save"),
        Binding("escape", "dismiss", "Cancel", tooltip="Leave the text as it is", id="edit.back"),
    ]

    def __init__(self, text: str, title: str = "Edit this memory") -> None:
        super().__init__()
        self._text, self._title = printable(text), title

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="dialog-title", markup=False)
            yield EditArea(self._text, soft_wrap=True, tab_behavior="focus", highlight_cursor_line=False, id="edit")
            yield Static("Line breaks are saved as spaces.", classes="hint", markup=False)
            yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        area = self.query_one(EditArea)
        area.move_cursor(area.document.end)
        area.focus()

    def on_key(self, event: events.Key) -> None:
        """Keys that arrive before the focus has moved to the text are meant for it."""
        area = self.query_one(EditArea)
        if not area.has_focus and (event.is_printable or event.key == "enter"):
            area.post_message(events.Key(event.key, event.character))
            event.stop()
            event.prevent_default()

    def on_paste(self, event: events.Paste) -> None:
        area = self.query_one(EditArea)
        if not area.has_focus:
            area.post_message(events.Paste(event.text))
            event.stop()

    @on(EditArea.Saved)
    def saved(self, event: EditArea.Saved) -> None:
        self.dismiss(" ".join(event.text.split()))

    def action_save(self) -> None:
        """A click on the footer."""
        self.dismiss(" ".join(self.query_one(EditArea).text.split()))


class ConfirmDialog(ModalScreen[bool]):
    """A yes-or-no question before a change."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="confirm.yes"),  # not Enter, which is pressed by habit
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


class EraseDialog(ConfirmDialog, inherit_bindings=False):
    """The question before something is erased for good. Enter, which is pressed by habit, is no answer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Erase", tooltip="Erase it; nothing can undo that", id="erase.yes"),
        Binding("n,escape", "answer(False)", "No", id="erase.no"),
    ]


class ChangesDialog(ModalScreen[bool]):
    """The changes of older memories that an import waits with, and the question whether it may make them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Change them", tooltip="Make these changes and all later ones", id="changes.yes"),
        Binding("n,escape", "answer(False)", "Stop here", tooltip="Change nothing; the import stops", id="changes.no"),
    ]

    def __init__(self, reason: str, waiting: Sequence[tuple[str, str | None]]) -> None:
        super().__init__()
        self._reason, self._waiting = reason.partition(" Look at the changes")[0], waiting

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Static("May this import change so much?", classes="dialog-title", markup=False)
            yield Static(Content(printable_line(self._reason)), markup=False)
            with VerticalScroll(can_focus=True):
                yield Static(Content("\n".join(self._lines())), markup=False)
            yield Footer(show_command_palette=False)

    def _lines(self) -> list[str]:
        return [
            f"- {printable_line(old, 200)}"
            if new is None
            else f"~ {printable_line(old, 200)} -> {printable_line(new, 200)}"
            for old, new in self._waiting
        ]

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class SourceDialog(ModalScreen[bool | None]):
    """The exchanges that a memory came from, and its history. The result is True to see its place in its conversation.

    Args:
        has_place: a conversation of the chat is stored that it was said in.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "open", "Conversation", tooltip="Open its place in its conversation", id="source.open"),
        Binding("escape,enter,q", "dismiss", "Back", id="source.back"),
    ]

    def __init__(
        self, text: str, exchanges: Sequence[Exchange], history: Sequence[Revision], *, has_place: bool = False
    ) -> None:
        super().__init__()
        self._text, self._exchanges, self._history, self._has_place = text, exchanges, history, has_place

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._has_place if action == "open" else True

    def action_open(self) -> None:
        self.dismiss(True)

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
                "\nThere is no conversation for this memory: it was typed by hand, or its conversation was deleted."
            )
        parts: list[Content] = []
        for exchange in self._exchanges:
            head = f"\nSaid {format_time(exchange.said_at)} in {printable_line(exchange.source, 60)}\n"
            parts.append(Content.styled(head, "$text-muted"))
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
        parts: list[Content] = [Content.styled("\nHistory\n", "$text-muted")]
        for line in self._history:
            undone = "  (undone)" if line.undone else ""
            head = f"\n{line.event.lower():<7} {format_time(line.at)}  by {line.actor}{undone}\n"
            parts.append(Content.assemble(head, revision_text(line.old_text, line.new_text), "\n"))
        return Content("").join(parts)


class FinishDialog(ModalScreen[bool]):
    """Shown before the app quits, while the last exchanges are stored. Escape quits without waiting."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "escape",
            "leave",
            "Quit now",
            tooltip="Quit now. The last exchanges will not be stored.",
            id="finish.leave",
        ),
    ]

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            noun = "exchange" if self._count == 1 else f"{self._count} exchanges"
            yield Static(f"Storing the last {noun} …", classes="dialog-title", markup=False)
            yield Static("memlora quits when this is done.", markup=False)
            yield Footer(show_command_palette=False)

    def action_leave(self) -> None:
        self.dismiss(False)
