"""What the screens may expect of the app. It stands below them, so that no screen imports the app that shows it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from textual.app import App
from textual.notifications import Notification, Notify
from textual.worker import Worker, WorkerFailed, WorkerState

from memlora_mlx.errors import MemloraError, ModelMissing
from memlora_mlx.settings import Settings
from memlora_mlx.text import printable_line
from memlora_mlx.tui.backend import Backend
from memlora_mlx.tui.stylesheet import OnceParsed
from memlora_mlx.tui.themes import ALL_THEMES, ThemeName, theme_name

if TYPE_CHECKING:
    from memlora_mlx.tui.chat_controller import ChatController
    from memlora_mlx.tui.commands import Command

ERROR_SECONDS = 3.0  # for which an error stays above the next notice
NOTICE_LENGTH = 300  # characters: five lines in a window of 80 columns
SCREENS_BY_KEY = {  # mode -> key, name, what it is for
    "chat": ("f2", "Chat", "Chat with your memory"),
    "memories": ("f3", "Memories", "Search, edit and export memories"),
    "ingest": ("f4", "Ingest", "Import conversation files"),
    "train": ("f5", "Train", "Train an expert and watch its loss"),
    "bench": ("f6", "Bench", "Run benchmarks and open their reports"),
    "models": ("f7", "Models", "List, download and choose models"),
    "settings": ("f8", "Settings", "Choose student, experts, theme, memories and keys"),
}

# The second key behind Ctrl+X: what keyboards without function keys can send, such as a Mac's in Terminal.app.
CHORDS = {"1": "help", "ctrl+e": "edit_outside"} | {
    key.removeprefix("f"): f"page('{mode}')" for mode, (key, _, _) in SCREENS_BY_KEY.items()
}


class BaseApp(App[None]):
    """The models, the conversation, the preferences and the error notices that all screens share.

    Args:
        models_folder: where the models are, if not below the settings' home.
        conversation: the id, or its first characters, of the conversation to begin with; by default the last one.
        new: begin a new conversation.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        models_folder: Path | None = None,
        conversation: str | None = None,
        new: bool = False,
    ) -> None:
        super().__init__()
        self.stylesheet = OnceParsed(variables=self.get_css_variables())
        self.first_conversation = conversation
        self.begins_new_conversation = new
        self.backend = Backend(settings, models_folder=models_folder, tell=partial(self.call_later, self.notify))
        self.chat: ChatController | None = None  # set by the Chat screen when it is first shown
        # Work that goes on while its screen is not shown, by its name and with how far it is; all status bars show it.
        self.background_work: dict[str, str] = {}
        self._last_error: Notification | None = None
        for theme in ALL_THEMES:
            self.register_theme(theme)
        self.theme = theme_name(settings.theme, self.console.color_system)

    # ------------------------------------------------------------------ for the screens

    def action_page(self, mode: str) -> None:
        """Show a screen; see `SCREENS_BY_KEY`."""
        self.switch_mode(mode)

    async def action_help(self) -> None:
        """Show the keys of the current screen."""
        raise NotImplementedError

    def action_toggle_theme(self) -> None:
        self.use_theme("light" if self.current_theme.dark else "dark")

    def use_theme(self, name: ThemeName) -> None:
        """Show a theme, and the same one at the next start."""
        self.theme = theme_name(name, self.console.color_system)
        self.save_preferences(theme=name)

    def load_models(self) -> None:
        """Load the models in the background; again, if they could not be loaded before."""
        raise NotImplementedError

    def report_missing_models(self, error: ModelMissing) -> None:
        """Offer the models that a reply needs, or say what is missing where they cannot be offered."""
        raise NotImplementedError

    async def open_conversation(self, conversation: str, at: str) -> None:
        """Show a conversation on the Chat screen, at the exchange with the key `at`."""
        raise NotImplementedError

    def run_chat_command(self, command: Command, argument: str) -> None:
        """Run a `/` command of the Chat screen, which must be the current screen."""
        raise NotImplementedError

    def save_preferences(self, **choices: str | bool | int) -> None:
        """Save settings for the next start in the background. If that fails, they apply until the app quits."""
        from memlora_mlx.config_file import save_preferences

        work = asyncio.to_thread(save_preferences, self.backend.settings.home, **choices)
        self.run_worker(work, group="keep", exit_on_error=False)

    # ------------------------------------------------------------------ notices

    def on_notify(self, event: Notify) -> None:
        """Show the notice in place of the one before, so that notices never stack. A new error stays readable above it."""
        new, error = event.notification, self._last_error
        new.message = printable_line(new.message, NOTICE_LENGTH, tail=NOTICE_LENGTH // 2)
        if new.severity == "error" or (error is not None and time() - error.raised_at > ERROR_SECONDS):
            self._last_error = replace(new) if new.severity == "error" else None
        if error is not None and time() - error.raised_at <= ERROR_SECONDS:
            told = new.message if new.title in ("", error.title) else f"{new.title}: {new.message}"
            lines = [error.message] if told in error.message else [error.message, told]
            length = NOTICE_LENGTH // len(lines)
            new.message = "\n".join(printable_line(line, length, tail=length // 2) for line in lines)
            new.title, new.severity, new.timeout = error.title or new.title, "error", error.timeout
        self._notifications.clear()  # Textual adds the new one after this

    # ------------------------------------------------------------------ failures

    def report_error(self, error: BaseException, title: str = "Error") -> None:
        """Show a failure as a notice of one line. The app continues."""
        if isinstance(error, WorkerFailed):
            error = error.error
        words = printable_line(str(error)) or type(error).__name__
        if not isinstance(error, MemloraError):
            words = f"{type(error).__name__}: {words}"
            self.log.error(error)
        self.notify(words, title=title, severity="error", timeout=12, markup=False)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Report the failure of a worker that was started with `exit_on_error=False`."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.report_error(event.worker.error)
