"""The line of keys at the bottom of a full screen."""

from __future__ import annotations

from textual.binding import Binding
from textual.widgets import Footer


class ScreenFooter(Footer):
    """The keys of its screen. While a dialog lies over the screen, the line stays as it is.

    Textual lays out only the screen on top. Keys that are rebuilt behind a dialog would therefore be blank. The line is also
    rebuilt only if it changes: Textual asks for it whenever the focus moves, four times while the app starts.
    """

    _shown: list[tuple[Binding, bool, str]] | None = None

    async def recompose(self) -> None:
        if not self.is_attached or self.app.screen is not self.screen:
            return
        bindings = [
            (key.binding, key.enabled, key.tooltip)
            for key in self.screen.active_bindings.values()
            if key.binding.show or key.binding.key == self.app.COMMAND_PALETTE_BINDING
        ]
        if bindings != self._shown:
            self._shown = bindings
            await super().recompose()
