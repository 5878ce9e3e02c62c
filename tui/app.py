"""The full-screen app: its screens, keys and palette, and how it starts and quits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static, TextArea

from memlora_mlx.errors import ModelMissing, UsageError
from memlora_mlx.settings import Settings
from memlora_mlx.tui.base_app import CHORDS, SCREENS_BY_KEY, BaseApp

if TYPE_CHECKING:
    from memlora_mlx.tui.commands import Command
    from memlora_mlx.tui.screens.chat import ChatScreen

LOAD_DELAY = 0.1  # seconds after the first frame
CHORD_SECONDS = 3.0  # that the second key of a chord may take
QUIT_SECONDS = 3.0  # between the two Ctrl+C that quit
QUIT_HELP = "Quit after the last messages are stored"


def _screen(mode: str) -> Callable[[], Screen[None]]:
    """A function that builds the screen of this mode. The screen's module is imported when it is first shown."""

    def build() -> Screen[None]:
        module = import_module(f"memlora_mlx.tui.screens.{mode}")
        screen: Screen[None] = getattr(module, f"{mode.capitalize()}Screen")()
        return screen

    return build


class MemloraApp(BaseApp):
    """The full-screen app. For its arguments see `BaseApp`."""

    TITLE = "memlora"
    CSS_PATH = "app.tcss"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[None]]]] = {mode: _screen(mode) for mode in SCREENS_BY_KEY}
    DEFAULT_MODE = "chat"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help", show=False, priority=True, tooltip="Show all keys and commands", id="app.help"),
        *(
            Binding(key, f"page('{mode}')", name, show=False, priority=True, tooltip=purpose, id=f"app.{mode}")
            for mode, (key, name, purpose) in SCREENS_BY_KEY.items()
        ),
        Binding("ctrl+t", "toggle_theme", "Theme", show=False, tooltip="Switch between dark and light", id="app.theme"),
        Binding("ctrl+q", "quit", "Quit", priority=True, tooltip=QUIT_HELP, id="app.quit"),
        Binding(
            "ctrl+c",
            "interrupt",
            "Stop",
            show=False,
            priority=True,
            tooltip="Stop the reply; with a selection, copy it; else, pressed twice, quit",
            id="app.interrupt",
        ),
        Binding(
            "ctrl+x",
            "chord",
            "Second keys",
            show=False,
            priority=True,
            tooltip="Then 1 to 8 is F1 to F8, and Ctrl+E opens $EDITOR",
            id="app.chord",
        ),
    ]

    def __init__(
        self,
        settings: Settings,
        *,
        models_folder: Path | None = None,
        conversation: str | None = None,
        new: bool = False,
    ) -> None:
        super().__init__(settings, models_folder=models_folder, conversation=conversation, new=new)
        self._chord_until = self._quit_until = 0.0
        self._has_offered_models = False
        self._owns_process = not gc.isenabled()  # `memlora chat` turns the collector off while it starts

    def on_mount(self) -> None:
        # Loading starts later, so that the first frame has the processor to itself.
        self.call_after_refresh(self.set_timer, LOAD_DELAY, self.load_models)
        if (self.backend.settings.home / "config.toml").is_file():
            self.call_after_refresh(self._use_keymap)

    def _use_keymap(self) -> None:
        """Use the keys of config.toml. A wrong line there is told, and the keys stay as they are."""
        from memlora_mlx.tui.keymap import read_keymap

        try:
            keymap = read_keymap(self.backend.settings.home)
        except UsageError as error:
            self.report_error(error, "Keys")
        else:
            if keymap:
                self.set_keymap(keymap)
                from memlora_mlx.tui.screens.chat import welcome

                for screen in self._chat_screens():
                    screen.query_one("#welcome", Static).update(welcome(keymap))

    def load_models(self) -> None:
        gc.enable()
        self.run_worker(self._load(), group="load", exclusive=True, exit_on_error=False)

    async def _load(self) -> None:
        try:
            if self.backend.status.phase == "failed":  # what was missing may have been downloaded since
                await self.backend.reopen()
            else:
                await self.backend.load()
            if self._owns_process:  # objects made at the start live as long as the app: collections need not visit them
                gc.freeze()
        except ModelMissing:
            if not await self.offer_models():
                raise
            return
        finally:
            with contextlib.suppress(ModelMissing):  # there is nothing to count
                await self.backend.refresh_counts()
                self._refresh_chat()

    def _refresh_chat(self) -> None:
        """Let the chat's panel show what is in the store."""
        for screen in self._chat_screens():
            screen.refresh_counts()

    def _chat_screens(self) -> list[ChatScreen]:
        from memlora_mlx.tui.screens.chat import ChatScreen

        return [screen for screen in self.get_screen_stack("chat") if isinstance(screen, ChatScreen)]

    async def offer_models(self, *, again: bool = False) -> bool:
        """Show the screen of the first start, once, or again. Returns False if there is nothing to offer."""
        from memlora_mlx.tui.first_models import missing_models

        settings, folder = self.backend.settings, self.backend.models_folder
        missing = (
            () if self._has_offered_models and not again else await asyncio.to_thread(missing_models, settings, folder)
        )
        if not missing:
            return False
        from memlora_mlx.tui.screens.first_run import FirstRunScreen

        self._has_offered_models = True
        await self.push_screen(FirstRunScreen(missing), self._after_first_run)
        return True

    def report_missing_models(self, error: ModelMissing) -> None:
        self.run_worker(self._offer_or_report(error), group="first", exit_on_error=False)

    async def _offer_or_report(self, error: ModelMissing) -> None:
        if not await self.offer_models(again=True):
            self.report_error(error, "No reply")

    def _after_first_run(self, imports: bool | None) -> None:
        if imports:
            self.run_worker(self._import_first_file(), group="first", exit_on_error=False)

    async def _import_first_file(self) -> None:
        from memlora_mlx.tui.screens.ingest import IngestScreen

        await self.switch_mode("ingest")
        if isinstance(self.screen, IngestScreen):
            self.screen.action_pick()

    # ------------------------------------------------------------------ keys and palette

    async def on_event(self, event: events.Event) -> None:
        """After Ctrl+X, the next key is read here: see `CHORDS`. Any other key does what it always does."""
        if isinstance(event, events.Key) and not event.is_forwarded and monotonic() < self._chord_until:
            self._chord_until = 0.0
            if (action := CHORDS.get(event.key)) is not None:
                await self.run_action(action)
                return
        await super().on_event(event)

    async def action_chord(self) -> None:
        """Wait for the second key of a chord. In a text with a selection, Ctrl+X cuts as it always does."""
        if isinstance(self.focused, TextArea) and self.focused.selected_text:
            self.focused.action_cut()
            return
        self._chord_until = monotonic() + CHORD_SECONDS

    async def action_edit_outside(self) -> None:
        from memlora_mlx.tui.widgets.prompt import Prompt

        if isinstance(self.focused, Prompt):
            self.focused.action_edit_outside()

    async def action_interrupt(self) -> None:
        """What Ctrl+C does: copy a selection, stop the reply, or quit when it is pressed again."""
        selected = self.screen.get_selected_text() or getattr(self.focused, "selected_text", "")
        if selected:
            from memlora_mlx.tui.clipboard import copy

            self.notify(copy(self, selected, self.backend.settings.home), markup=False)
        elif self.chat is not None and self.chat.stop is not None:
            self.chat.stop.set()
        elif monotonic() < self._quit_until:
            await self.action_quit()
        else:
            self._quit_until = monotonic() + QUIT_SECONDS
            self.notify("Press Ctrl+C again to quit.", timeout=QUIT_SECONDS, markup=False)

    async def action_help(self) -> None:
        from memlora_mlx.tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            await self.push_screen(HelpScreen(self.screen))

    async def action_quit(self) -> None:
        self.run_worker(self._quit_when_done(), group="leave", exclusive=True, exit_on_error=False)

    async def _quit_when_done(self) -> None:
        """Quit once the last exchanges are stored, or at once if the user does not want to wait."""
        from memlora_mlx.tui.screens.dialogs import FinishDialog

        await asyncio.sleep(0.05)  # a message sent a moment ago may still be in the queue
        if self.chat is not None and self.chat.pending:
            self.chat.shut_down()
            dialog = FinishDialog(self.chat.pending)
            self.push_screen(dialog)
            while self.chat.pending and dialog.is_attached:
                await asyncio.sleep(0.05)
        self.exit()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for mode, (key, name, purpose) in SCREENS_BY_KEY.items():
            yield SystemCommand(f"Go to {name}", f"{purpose} ({key.upper()})", lambda mode=mode: self.action_page(mode))
        if self.current_mode == "chat":
            yield from self._chat_commands()
        yield SystemCommand("Help", "Show all keys and commands (F1)", self.action_help)
        yield SystemCommand("Theme: dark or light", "Switch between the two (Ctrl+T)", self.action_toggle_theme)
        yield SystemCommand("Screenshot", "Save this screen as an SVG file", self.deliver_screenshot)
        yield SystemCommand("Quit", f"{QUIT_HELP} (Ctrl+Q)", self.action_quit)

    def _chat_commands(self) -> Iterable[SystemCommand]:
        """The `/` commands that work without an argument and are not in the palette anyway."""
        from memlora_mlx.tui.commands import BY_NAME

        for name in ("undo", "redo", "image", "panel", "clear", "retry", "export", "save"):
            run = partial(self.run_chat_command, BY_NAME[name], "")
            yield SystemCommand(f"Chat: {name}", f"{BY_NAME[name].purpose} (/{name})", run)

    async def open_conversation(self, conversation: str, at: str) -> None:
        from memlora_mlx.tui.screens.chat import ChatScreen

        await self.switch_mode("chat")
        chat = self.screen_stack[0]
        if isinstance(chat, ChatScreen):
            chat.show_conversation(conversation, at)

    def run_chat_command(self, command: Command, argument: str) -> None:
        from memlora_mlx.tui.screens.chat import ChatScreen
        from memlora_mlx.tui.screens.chat_commands import ChatCommands

        chat = self.screen_stack[0]  # below the palette and dialogs
        if isinstance(chat, ChatScreen):
            ChatCommands(chat).run(command, argument)
