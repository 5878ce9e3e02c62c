"""The Chat screen."""

from __future__ import annotations

from collections.abc import Iterable

from textual.widget import Widget
from textual.widgets import Static

from memlora_mlx.tui.screens.base import MainScreen


class ChatScreen(MainScreen):
    NAME = "Chat"

    def compose_body(self) -> Iterable[Widget]:
        yield Static("Chat", id="placeholder")
