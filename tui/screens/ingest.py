"""The Ingest screen."""

from __future__ import annotations

from collections.abc import Iterable

from textual.widget import Widget
from textual.widgets import Static

from memlora_mlx.tui.screens.base import MainScreen


class IngestScreen(MainScreen):
    NAME = "Ingest"

    def compose_body(self) -> Iterable[Widget]:
        yield Static("Ingest", id="placeholder")
