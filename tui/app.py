"""The app: its screens, its keys, its palette, and the one session that all screens share."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.worker import Worker, WorkerFailed, WorkerState

from memlora_mlx.errors import MemloraError
from memlora_mlx.settings import Settings
from memlora_mlx.text import printable_line
from memlora_mlx.tui.backend import Backend
from memlora_mlx.tui.themes import THEMES

if TYPE_CHECKING:
    from memlora_mlx.tui.chat_controller import ChatController

SCREENS_BY_KEY = {  # mode -> key, name, what it is for
    "chat": ("f2", "Chat", "Talk, and be remembered"),
    "memories": ("f3", "Memories", "Search, edit and export what is remembered"),
    "ingest": ("f4", "Ingest", "Read conversation files into the memory"),
    "train": ("f5", "Train", "Train an expert and watch it learn"),
    "bench": ("f6", "Bench", "Run benchmarks and open their reports"),
    "models": ("f7", "Models", "See, fetch and choose models"),
}

LOAD_AFTER = 0.1  # seconds behind the first frame


def _screen(mode: str) -> Callable[[], Screen[None]]:
    """A screen's class by its mode's name, imported when it is first shown."""

    def build() -> Screen[None]:
        module = import_module(f"memlora_mlx.tui.screens.{mode}")
        screen: Screen[None] = getattr(module, f"{mode.capitalize()}Screen")()
        return screen

    return build


class MemloraApp(App[None]):
    """The full-screen app.

    Args:
        models_folder: where the models are, if not below the settings' home.
    """

    TITLE = "memlora"
    CSS_PATH = "app.tcss"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[None]]]] = {mode: _screen(mode) for mode in SCREENS_BY_KEY}
    DEFAULT_MODE = "chat"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help", show=False, priority=True, tooltip="All keys and commands", id="app.help"),
        *(
            Binding(key, f"page('{mode}')", name, show=False, priority=True, tooltip=purpose, id=f"app.{mode}")
            for mode, (key, name, purpose) in SCREENS_BY_KEY.items()
        ),
        Binding("ctrl+t", "toggle_theme", "Theme", show=False, tooltip="Between dark and light", id="app.theme"),
        Binding("ctrl+q", "quit", "Quit", priority=True, tooltip="Leave; what was said is kept", id="app.quit"),
    ]

    def __init__(self, settings: Settings, *, models_folder: Path | None = None) -> None:
        super().__init__()
        self.backend = Backend(settings, models_folder=models_folder)
        self.chat: ChatController | None = None  # of the Chat screen, once it was shown
        self._is_alone = not gc.isenabled()  # the command started it, and nothing else lives in this process
        for theme in THEMES.values():
            self.register_theme(theme)
        self.theme = THEMES[settings.theme].name

    def on_mount(self) -> None:
        # The first frame does not share the processor with them.
        self.call_after_refresh(self.set_timer, LOAD_AFTER, self.load_models)

    def load_models(self) -> None:
        gc.enable()
        self.run_worker(self._load(), group="load", exclusive=True, exit_on_error=False)

    async def _load(self) -> None:
        try:
            if self.backend.status.phase == "failed":  # what was missing may be there now
                await self.backend.reopen()
            else:
                await self.backend.load()
            if self._is_alone:  # what a start has made stays: to look through it again and again holds up the keys
                gc.freeze()
        finally:
            await self.backend.refresh_counts()

    # ------------------------------------------------------------------ what keys and palette do

    def action_page(self, mode: str) -> None:
        self.switch_mode(mode)

    async def action_help(self) -> None:
        from memlora_mlx.tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            await self.push_screen(HelpScreen(self.screen))

    def action_toggle_theme(self) -> None:
        name = "dark" if self.theme == THEMES["light"].name else "light"
        self.theme = THEMES[name].name
        self.save_preferences(theme=name)

    def save_preferences(self, **choices: str | bool) -> None:
        """Keep choices for the next start; one that cannot be kept holds until the app is left."""
        from memlora_mlx.tui.preferences import save_preferences

        work = asyncio.to_thread(save_preferences, self.backend.settings.home, **choices)
        self.run_worker(work, group="keep", exit_on_error=False)

    async def action_quit(self) -> None:
        self.run_worker(self._quit_when_done(), group="leave", exclusive=True, exit_on_error=False)

    async def _quit_when_done(self) -> None:
        """Leave once the last exchanges are remembered, or at once if the user will not wait."""
        from memlora_mlx.tui.screens.dialogs import FinishDialog

        await asyncio.sleep(0.05)  # what was sent a moment ago is on its way
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
            yield from self._chat_commands(screen)
        yield SystemCommand("Help", "All keys and commands (F1)", self.action_help)
        yield SystemCommand("Theme: dark or light", "Change between the two (Ctrl+T)", self.action_toggle_theme)
        yield SystemCommand("Screenshot", "Save this screen as an SVG file", self.deliver_screenshot)
        yield SystemCommand("Quit", "Leave; what was said is kept (Ctrl+Q)", self.action_quit)

    def _chat_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The `/` commands that need no words and are not in the palette anyway."""
        from memlora_mlx.tui.commands import BY_NAME
        from memlora_mlx.tui.screens.chat import ChatScreen
        from memlora_mlx.tui.screens.chat_commands import ChatCommands

        if isinstance(screen, ChatScreen):
            for name in ("undo", "image", "panel", "clear", "retry", "export", "save"):
                run = partial(ChatCommands(screen).run, BY_NAME[name], "")
                yield SystemCommand(f"Chat: {name}", f"{BY_NAME[name].purpose} (/{name})", run)

    # ------------------------------------------------------------------ failures

    def report_error(self, error: BaseException, title: str = "That did not work") -> None:
        """Tell a failure in one line; the app goes on."""
        if isinstance(error, WorkerFailed):
            error = error.error
        words = printable_line(str(error)) or type(error).__name__
        if not isinstance(error, MemloraError):
            words = f"{type(error).__name__}: {words}"
            self.log.error(error)
        self.notify(words, title=title, severity="error", timeout=12, markup=False)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A worker's failure is told, never the end of the app (its worker runs with `exit_on_error=False`)."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.report_error(event.worker.error)
