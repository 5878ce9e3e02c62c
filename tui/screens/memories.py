"""The Memories screen."""

from __future__ import annotations

from collections.abc import Iterable

from textual.widget import Widget
from textual.widgets import Static

from memlora_mlx.tui.screens.base import MainScreen


class MemoriesScreen(MainScreen):
    NAME = "Memories"

    def compose_body(self) -> Iterable[Widget]:
        yield Static("Memories", id="placeholder")
