"""How the chat, its panel, the help and the palette look, at two sizes and in both themes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until, wait_until_loaded
from snapshots import SIZES, THEMES, check, freeze_status
from textual.command import CommandPalette
from textual.pilot import Pilot

from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.sample_data import seed
from memlora_mlx.tui.screens.chat import ChatScreen
from memlora_mlx.tui.screens.help import HelpScreen


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_screens_look_as_they_did(tiny_home: Path, size: tuple[int, int], theme: str) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        app.theme = theme
        await wait_until_loaded(app, pilot)
        turns = await app.backend.run(seed)
        await app.backend.refresh_counts()
        chat = app.screen
        assert isinstance(chat, ChatScreen)
        chat.prompt.cursor_blink = False
        for turn in turns:
            await chat.show(turn)
        await wait_until(pilot, lambda: "hazelnuts" in text_of(app))
        freeze_status(app)
        chat.action_toggle_panel() if chat.panel.region.width else None
        await wait_until(pilot, lambda: chat.panel.region.width == 0)
        assert "Stored from this exchange" not in text_of(app)
        await check(app, "chat")

        chat.show_panel()
        await wait_until(pilot, lambda: "Stored from this exchange" in text_of(app))
        await check(app, "chat-panel")

        await pilot.press("f1")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen) and "esc Back" in text_of(app))
        await check(app, "help")
        await pilot.press("escape", "ctrl+p")
        await wait_until(pilot, lambda: CommandPalette.is_open(app) and "Chat: clear" in text_of(app))
        await pilot.press(*"mod")
        await wait_until(pilot, lambda: "Go to Models" in text_of(app) and "Chat: clear" not in text_of(app))
        app.screen.query_one("CommandInput").cursor_blink = False  # type: ignore[attr-defined]
        await wait_until(
            pilot, lambda: "memories given" in text_of(app) or "offline" in text_of(app), "what lies behind it"
        )
        await check(app, "palette")

    run_app(script, size=size)
