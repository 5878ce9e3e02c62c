"""The line of keys at the bottom of a full screen."""

from __future__ import annotations

from textual.widgets import Footer


class ScreenFooter(Footer):
    """The keys of its screen. While a dialog lies over the screen, the line stays as it is.

    Textual lays out only the screen on top. Keys that are rebuilt behind a dialog would therefore be blank.
    """

    async def recompose(self) -> None:
        if self.app.screen is self.screen:
            await super().recompose()
