"""The full-screen app: its screens, keys and palette, and how it starts and quits."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from memlora_mlx.settings import Settings
from memlora_mlx.tui.base_app import SCREENS_BY_KEY, BaseApp

if TYPE_CHECKING:
    from memlora_mlx.tui.commands import Command

LOAD_DELAY = 0.1  # seconds after the first frame
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
        self._owns_process = not gc.isenabled()  # `memlora chat` turns the collector off while it starts

    def on_mount(self) -> None:
        # Loading starts later, so that the first frame has the processor to itself.
        self.call_after_refresh(self.set_timer, LOAD_DELAY, self.load_models)

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
        finally:
            await self.backend.refresh_counts()

    # ------------------------------------------------------------------ keys and palette

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
