"""What must not be stored is not stored by the app's chat either, and the user is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pilots import run_app, text_of, wait_until, wait_until_loaded
from textual.pilot import Pilot

from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.screens.chat import ChatScreen

SAID = "My password is Quibble77frotz. I like tea. <private>We plan a zanzibar wedding."


def test_a_secret_and_a_private_passage_are_left_out_and_told(tiny_home: Path) -> None:
    async def check(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = app.screen
        assert isinstance(chat, ChatScreen)
        chat.prompt.set_text(SAID)
        await pilot.press("enter")
        await wait_until(pilot, lambda: [turn.memory for turn in chat.turns] == ["done"], "the memory work")
        await wait_until(pilot, lambda: "Left out" in text_of(app), "the note")

    run_app(check)
    held = [path for path in tiny_home.rglob("*") if path.is_file()]
    assert any(b"I like tea" in path.read_bytes() for path in held)
    for word in (b"77frotz", b"anzibar"):
        assert [path for path in held if word in path.read_bytes().lower()] == []
