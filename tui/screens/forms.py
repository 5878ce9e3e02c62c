"""Small windows of the screens: a few fields to fill in, and what happened to a memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Select, Static

from memlora_mlx.records import Revision
from memlora_mlx.text import printable, printable_line
from memlora_mlx.tui.times import format_time


@dataclass(frozen=True, slots=True)
class FormField:
    """One field."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    options: tuple[str, ...] = ()  # to choose from; empty: free words


class FormDialog(ModalScreen[dict[str, str] | None]):
    """Answers by the fields' names; None when the user goes back."""

    CSS_PATH = "pages.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,ctrl+s", "submit", "Do it", priority=True, tooltip="With these answers", id="form.done"),
        Binding("tab", "app.focus_next", "Next field", id="form.next"),
        Binding("escape", "dismiss", "Back", tooltip="Leave all as it is", id="form.back"),
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

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "submit":  # in a list of choices Enter opens and chooses
            return not (isinstance(self.focused, Select) or any(select.expanded for select in self.query(Select)))
        return super().check_action(action, parameters)

    def action_submit(self) -> None:
        answers = {}
        for ask in self._fields:
            field = self.query_one(f"#{ask.name}")
            assert isinstance(field, Input | Select)
            answers[ask.name] = str(field.value)
        self.dismiss(answers)


class HistoryDialog(ModalScreen[None]):
    """All that happened to a memory, oldest first."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,h,q", "dismiss", "Back", id="history.back")]

    def __init__(self, text: str, history: Sequence[Revision]) -> None:
        super().__init__()
        self._text, self._history = text, history

    def compose(self) -> ComposeResult:
        signs = {"ADD": "+ added", "UPDATE": "~ changed", "DELETE": "− deleted", "NONE": "○ left"}
        with Vertical(classes="dialog wide"):
            yield Static(Content(printable_line(self._text)), classes="dialog-title", markup=False)
            with VerticalScroll(can_focus=True):
                for line in self._history:
                    parts = [
                        (f"{signs[line.event]}  ", "bold"),
                        (f"{format_time(line.at)}, by {printable_line(line.actor, 20)}", "$foreground 60%"),
                        ("  ↶ undone" if line.undone else "", "bold"),
                    ]
                    words = [f"\n  was  {printable_line(line.old_text)}"] if line.old_text else []
                    words += [f"\n  now  {printable_line(line.new_text)}"] if line.new_text else []
                    yield Static(Content.assemble(*parts, *words, "\n"), markup=False)
            yield Footer(show_command_palette=False)


class TextDialog(ModalScreen[None]):
    """Words to read."""

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
