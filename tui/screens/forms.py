"""Dialogs: a form to fill in, the history of a memory, a text to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Select, Static

from memlora_mlx.records import Revision
from memlora_mlx.text import printable, printable_line
from memlora_mlx.tui.times import format_time
from memlora_mlx.tui.widgets.text_diff import revision_text


@dataclass(frozen=True, slots=True)
class FormField:
    """One field of a form."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    options: tuple[str, ...] = ()  # to choose from; without them the user types


class FormDialog(ModalScreen[dict[str, str] | None]):
    """A form. The result maps field names to answers, or is None if the user cancels.

    Enter in a text field and Ctrl+S confirm. They are no priority bindings: those overtake text that is still arriving.
    """

    CSS_PATH = "pages.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "submit", "Confirm", tooltip="Confirm", id="form.done"),
        Binding("tab", "app.focus_next", "Next field", id="form.next"),
        Binding("escape", "dismiss", "Cancel", tooltip="Cancel", id="form.back"),
    ]

    def __init__(self, title: str, fields: Sequence[FormField], about: str = "") -> None:
        super().__init__()
        self._title, self._fields, self._about = title, fields, about

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="dialog-title", markup=False)
            if self._about:
                yield Static(Content(printable_line(self._about)), classes="hint", markup=False)
            for ask in self._fields:
                with Vertical(classes="form"):
                    yield Static(ask.label, markup=False)
                    if ask.options:
                        options = [(option, option) for option in ask.options]
                        yield Select(options, value=ask.value, allow_blank=False, compact=True, id=ask.name)
                    else:
                        yield Input(ask.value, placeholder=ask.hint, compact=True, id=ask.name)
            yield Footer(show_command_palette=False)

    @on(Input.Submitted)
    def submitted(self) -> None:
        self.action_submit()

    def action_submit(self) -> None:
        answers = {}
        for ask in self._fields:
            field = self.query_one(f"#{ask.name}")
            assert isinstance(field, Input | Select)
            answers[ask.name] = str(field.value)
        self.dismiss(answers)


class HistoryDialog(ModalScreen[None]):
    """The history of a memory, oldest change first."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,h,q", "dismiss", "Back", id="history.back")]

    def __init__(self, text: str, history: Sequence[Revision]) -> None:
        super().__init__()
        self._text, self._history = text, history

    def compose(self) -> ComposeResult:
        signs = {"ADD": "+ added", "UPDATE": "~ updated", "DELETE": "- deleted", "NONE": "○ unchanged"}
        with Vertical(classes="dialog wide"):
            yield Static(Content(printable_line(self._text)), classes="dialog-title", markup=False)
            with VerticalScroll(can_focus=True):
                for line in self._history:
                    parts = [
                        (f"{signs[line.event]}  ", "bold"),
                        (f"{format_time(line.at)}, by {printable_line(line.actor, 20)}", "$text-muted"),
                        ("  ↶ undone" if line.undone else "", "bold"),
                    ]
                    words = revision_text(line.old_text, line.new_text)
                    yield Static(Content.assemble(*parts, "\n", words, "\n"), markup=False)
            yield Footer(show_command_palette=False)


class TextDialog(ModalScreen[None]):
    """A text to read."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "dismiss", "Back", id="text.back")]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Static(Content(printable_line(self._title)), classes="dialog-title", markup=False)
            with VerticalScroll(can_focus=True):
                yield Static(Content(printable(self._text)[:100_000]), markup=False)
            yield Footer(show_command_palette=False)
