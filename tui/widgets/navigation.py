"""The line at the top: all screens and their keys, with the current screen in brackets."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from memlora_mlx.tui.base_app import SCREENS_BY_KEY


class Navigation(Static):
    """`F2 [Chat]  F3 Memories ...`. A click opens the screen."""

    DEFAULT_CSS = """
    Navigation { dock: top; height: 1; padding: 0 1; background: $surface; color: $foreground; link-style: none; link-color: $foreground 80%; }
    """

    def __init__(self, current: str) -> None:
        parts = []
        for mode, (key, name, _) in SCREENS_BY_KEY.items():
            if mode == current:
                parts.append(Content.assemble((key.upper(), "$text-muted"), (f"[{name}]", "bold $text-accent")))
            else:
                link = f"@click=app.page('{mode}')"
                parts.append(Content.assemble((key.upper(), "$text-muted"), f" {name} ").stylize(link))
        parts.append(Content.assemble((" F1", "$text-muted"), " Help").stylize("@click=app.help"))
        super().__init__(Content("").join(parts), markup=False)
