"""The Settings screen: student, experts, theme, memories a reply, and the keys of all actions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import DataTable, Input, Select, Static

from memlora_mlx.config_file import is_overridden, save_key
from memlora_mlx.errors import UsageError
from memlora_mlx.text import printable_line
from memlora_mlx.tui.keymap import FIXED, actions, read_keymap
from memlora_mlx.tui.screens.base import MainScreen
from memlora_mlx.tui.widgets.actions import ScreenActions
from memlora_mlx.tui.widgets.row_table import RowTable

MOST_MEMORIES = 50  # that a reply may be given
OWN = ""  # the value of a choice that is left to memlora


class SettingsScreen(MainScreen):
    NAME = "Settings"
    CSS_PATH = "pages.tcss"
    COMMANDS: ClassVar[set[type[Provider] | object]] = {ScreenActions}  # type: ignore[assignment]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "change_key", "Key", show=False, tooltip="Give the action another key", id="settings.key"),
        Binding("d,delete", "own_key", "Own key", tooltip="Give the action its first key back", id="settings.own_key"),
        Binding("escape", "back", "Back", show=False, tooltip="Move to the list of keys", id="page.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._keymap: dict[str, str] = {}
        self._rows: dict[str, tuple[str, str, str]] = {}  # of the keys: key, action and purpose
        self._is_filled = False

    def compose_body(self) -> Iterable[Widget]:
        settings = self.backend.settings
        themes = [("dark theme", "dark"), ("light theme", "light")]
        yield Static(
            "Student, experts, theme, and memories that a reply is given at most", classes="head", markup=False
        )
        with Horizontal(classes="fields"):
            students = [("best student here", OWN)]
            if settings.student:
                students.append((Path(settings.student).name, settings.student))
            yield Select[str](students, value=settings.student or OWN, allow_blank=False, compact=True, id="student")
            yield Select[str](
                _experts(settings.experts), value=settings.experts or OWN, allow_blank=False, compact=True, id="experts"
            )
            yield Select[str](themes, value=settings.theme, allow_blank=False, compact=True, id="theme")
            yield Input(str(settings.limit), type="integer", compact=True, classes="date", id="limit")
        yield Static("", classes="says", markup=False, id="says")
        yield Static("Keys (Enter changes one, d gives its own back)", classes="head", markup=False)
        yield RowTable((("key", 16), ("action", 18), ("what it does", 0)), id="keys")
        yield Static("", classes="says", markup=False, id="detail")

    def on_mount(self) -> None:
        self.call_after_refresh(self._begin)  # nested widgets are mounted by then

    def _begin(self) -> None:
        self.table.focus()
        self.fill()

    @property
    def table(self) -> RowTable:
        return self.query_one("#keys", RowTable)

    @work(group="fill", exclusive=True, exit_on_error=False)
    async def fill(self) -> None:
        """List the students on this disk and the keys."""
        from memlora_mlx.tui.screens.train import installed_students

        names = await asyncio.to_thread(installed_students, self.backend.settings.models_folder)
        chosen = self.backend.settings.student or OWN
        select = self.query_one("#student", Select)
        with self.prevent(Select.Changed):
            select.set_options(
                [
                    ("best student here", OWN),
                    *((Path(name).name, name) for name in sorted({*names, chosen} - {OWN})),
                ]
            )
            select.value = chosen
        self.call_after_refresh(self._filled)
        await self._list_keys()

    def _filled(self) -> None:
        self._is_filled = True

    async def _list_keys(self) -> None:
        home = self.backend.settings.home
        try:
            self._keymap = await asyncio.to_thread(read_keymap, home)
        finally:
            rows = [(name, (self._keymap.get(name, key), name, purpose)) for name, key, purpose in actions()]
            self._rows = dict(rows)
            self.table.set_rows(rows)

    # ------------------------------------------------------------------ choices

    @on(Select.Changed)
    @work(group="choose", exit_on_error=False)
    async def chosen(self, event: Select.Changed) -> None:
        if not self._is_filled or event.value != event.select.value:  # not chosen by the user, or not any more
            return
        settings, value = self.backend.settings, str(event.value)
        if event.select.id == "theme":
            if value != settings.theme or self.app.current_theme.dark != (value == "dark"):
                self.memlora.use_theme("dark" if value == "dark" else "light")
        elif event.select.id == "student":
            if value != (settings.student or OWN):
                await self._use(f"Student: {value or 'the best here'}", student=value or None)
        elif value != (settings.experts or OWN):
            await self._use(f"Experts: {printable_line(value or 'those of the student', 60)}", experts=value or None)

    async def _use(self, told: str, **change: str | None) -> None:
        """Load the models with a changed setting, and save it once that worked."""
        self._show_message(f"{told}: loading …")
        try:
            await self.backend.reopen(**change)
        except Exception:
            self._show_message(f"✗ {told}: it cannot be loaded and is not saved.")
            raise
        for name, value in change.items():
            self.memlora.save_preferences(**{name: value or ""})
            note = f" MEMLORA_{name.upper()} goes before it at the next start." if is_overridden(name) else ""
            self._show_message(f"✓ {told}.{note}")

    @on(Input.Submitted, "#limit")
    def limit_set(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if not text.isdigit() or not 0 < int(text) <= MOST_MEMORIES:
            self._show_message(f"✗ Give a number from 1 to {MOST_MEMORIES}.")
            return
        self.backend.change_limit(int(text))
        self.memlora.save_preferences(limit=int(text))
        self._show_message(f"✓ A reply is given at most {text} memories.")
        self.table.focus()

    # ------------------------------------------------------------------ keys

    @on(DataTable.RowHighlighted, "#keys")
    def show_purpose(self) -> None:
        """Below the list: the action under the cursor in full, which the columns may cut."""
        row = self._rows.get(self.table.key_at_cursor or "")
        self.query_one("#detail", Static).update(Content(f"{row[0]}: {row[2]}" if row else ""))

    @on(DataTable.RowSelected, "#keys")
    @work(group="key", exclusive=True, exit_on_error=False)
    async def change_key(self, event: DataTable.RowSelected) -> None:
        """Ask for a key and give it to the action under the cursor."""
        action = str(event.row_key.value)
        if action in FIXED:
            raise UsageError(f"The key of {action} cannot be changed.")
        key = await self.memlora.push_screen_wait(KeyDialog(action))
        if key is not None:
            await self._save_key(action, key)

    @work(group="key", exclusive=True, exit_on_error=False)
    async def action_own_key(self) -> None:
        if action := self.table.key_at_cursor:
            await self._save_key(action, "")

    async def _save_key(self, action: str, key: str) -> None:
        await asyncio.to_thread(save_key, self.backend.settings.home, action, key)
        await self._list_keys()
        self.app.set_keymap(self._keymap)
        again = "" if key else " It has its own key from the next start on."
        self._show_message(f"✓ {action}: {key or 'its own key'}.{again}")

    def action_back(self) -> None:
        self.table.focus()

    def _show_message(self, words: str) -> None:
        self.query_one("#says", Static).update(Content(words))


class KeyDialog(ModalScreen[str | None]):
    """Ask for a key by having it pressed. The result is its name, or None after Escape."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self._action = action

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(f"Press the new key for {self._action}", classes="dialog-title", markup=False)
            yield Static("Escape leaves the key as it is.", classes="hint", markup=False)

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        self.dismiss(None if event.key == "escape" else event.key)


def _experts(chosen: str | None) -> list[tuple[str, str]]:
    """The choices of experts. A folder is among them if it was named before."""
    choices = [("the experts for it", OWN), ("the free ones (Apache-2.0)", "free"), ("no experts", "none")]
    if chosen not in (None, OWN, "free", "none"):
        choices.append((printable_line(f"experts in {chosen}", 40), str(chosen)))
    return choices
