"""The help: every key of the current screen, taken from its bindings, and the `/` commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from memlora_mlx.tui.base_app import CHORDS
from memlora_mlx.tui.commands import COMMANDS
from memlora_mlx.tui.key_names import key_name

OWN_KEYS = (
    "Other keys: lines in the table [keys] of config.toml. The settings screen (F8) lists the actions and their ids."
)
WIDTH = 20  # cells of the key column


class HelpScreen(ModalScreen[None]):
    """
    Args:
        of: the screen whose keys are shown.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "Back", id="help.back")]

    def __init__(self, of: Screen[object]) -> None:
        super().__init__()
        self._of = of

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Static("Keys and commands", classes="dialog-title", markup=False)
            with VerticalScroll(can_focus=True):
                yield from self._sections()
            yield Footer(show_command_palette=False)

    def _sections(self) -> Iterable[Widget]:
        keymap = self.app._keymap  # the user's own keys; Textual has no other way to ask for them
        yield from _section("Everywhere", _keys(type(self.app), keymap, self.app.COMMAND_PALETTE_BINDING))
        name = getattr(self._of, "NAME", "") or "This screen"
        yield from _section(name, _keys(type(self._of), keymap))
        seen: set[type] = {type(self._of)}
        for widget in self._of.query("*"):
            if type(widget) not in seen and type(widget).__module__.startswith("memlora_mlx."):
                seen.add(type(widget))
                if rows := _keys(type(widget), keymap):
                    yield from _section(f"{name}: {_title(widget)}", rows)
        if name == "Chat":
            if not self._of.query("MemoryItem"):
                from memlora_mlx.tui.widgets.memory_item import MemoryItem

                yield from _section("Chat: memory", _keys(MemoryItem, keymap))
            if not self._of.query("ExchangeView"):
                from memlora_mlx.tui.widgets.exchange import ExchangeView

                yield from _section("Chat: reply", _keys(ExchangeView, keymap))
            commands = [(f"/{command.name} {command.argument}".strip(), command.purpose) for command in COMMANDS]
            yield from _section("Commands in the chat", commands)
        yield Static(OWN_KEYS, classes="hint", markup=False)


def _keys(node: type, keymap: Mapping[str, str], palette: str | None = None) -> list[tuple[str, str]]:
    """The keys and purposes of a class's own bindings, one row per action; the keys as the user's keymap has them."""
    rows: dict[str, tuple[list[str], str]] = {}
    for cls in reversed(node.__mro__):
        if not cls.__module__.startswith("memlora_mlx."):
            continue
        for binding in Binding.make_bindings(cls.__dict__.get("BINDINGS", ())):
            words = binding.tooltip or binding.description
            if words:
                label = binding.description if binding.description and binding.tooltip else ""
                keys, _ = rows.setdefault(binding.action, ([], f"{label}: {words}" if label else words))
                keys += _own_keys(binding, keymap)
    found = [(", ".join(list(dict.fromkeys(keys))[:3]), words) for keys, words in rows.values()]
    return [*found, (key_name(palette), "Palette: Search all commands")] if palette else found


def _own_keys(binding: Binding, keymap: Mapping[str, str]) -> list[str]:
    """The keys of a binding: the user's, and for a function key its second one."""
    keys = keymap.get(binding.id or "", binding.key).split(",")
    second = [f"Ctrl+X {chord}" for chord, action in CHORDS.items() if action == binding.action and len(chord) == 1]
    return [key_name(key) for key in keys] + second


def _title(widget: Widget) -> str:
    return {"Prompt": "prompt", "MemoryItem": "memory", "ExchangeView": "reply", "RowTable": "Rows"}.get(
        type(widget).__name__, type(widget).__name__
    )


def _section(title: str, rows: Iterable[tuple[str, str]]) -> Iterable[Widget]:
    lines = [Content.assemble((f"{keys:<{WIDTH}} ", "$text-accent"), words) for keys, words in rows]
    if lines:
        yield Static(title, classes="section", markup=False)
        for line in lines:
            yield Static(line, classes="help-line", markup=False)
