"""Erasing a memory for good in the real app, in the panel and in the list of memories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until, wait_until_loaded
from textual.pilot import Pilot

from memlora_mlx.memory.api import Memory
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.screens.chat import ChatScreen
from memlora_mlx.tui.screens.dialogs import EraseDialog
from memlora_mlx.tui.screens.memories import MemoriesScreen
from memlora_mlx.tui.widgets.memory_panel import MemoryItem

WORDS = "I see Dr. Quibblefrotz on Tuesdays."


def is_on_the_disk(home: Path) -> bool:
    return any(b"bblefrotz" in path.read_bytes().lower() for path in home.rglob("*") if path.is_file())


async def add(app: MemloraApp, pilot: Pilot[Any]) -> None:
    await wait_until_loaded(app, pilot)
    await app.backend.run(lambda workspace: Memory.of(workspace).add(WORDS, user_id="me", infer=False))


@pytest.mark.parametrize("place", ["panel", "list"])
def test_a_memory_is_erased_after_a_question_that_enter_does_not_answer(tiny_home: Path, place: str) -> None:
    async def check(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await add(app, pilot)
        if place == "panel":
            chat = app.screen
            assert isinstance(chat, ChatScreen)
            chat.prompt.set_text("/search Tuesdays")
            await pilot.press("enter")
            await wait_until(pilot, lambda: len(chat.panel.query(MemoryItem)) == 1, "the hit")
            chat.panel.query(MemoryItem).first().focus()
            await pilot.pause()
        else:
            await pilot.press("f3")
            await wait_until(
                pilot, lambda: isinstance(app.screen, MemoriesScreen) and app.screen.table.row_count == 1, "the list"
            )
        await pilot.press("D")
        await wait_until(pilot, lambda: isinstance(app.screen, EraseDialog), "the question")
        await wait_until(pilot, lambda: "Messages: 1" in text_of(app), "its text")
        await pilot.press("enter")
        assert isinstance(app.screen, EraseDialog) and is_on_the_disk(tiny_home)
        await pilot.press("y")
        await wait_until(pilot, lambda: "✗ erased" in text_of(app), "the end")
        assert "Quibblefrotz" not in [m.text for m in await app.backend.run(lambda workspace: workspace.store.list())]
        assert not any(
            b"bblefrotz" in path.read_bytes().lower() for path in (tiny_home / "store").rglob("*") if path.is_file()
        )

    run_app(check)
