"""An import that would change many older memories waits for the user's answer on the Ingest screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until, wait_until_loaded
from textual.pilot import Pilot
from textual.widgets import Input

from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.changes import Delete
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.screens.dialogs import ChangesDialog
from memlora_mlx.tui.screens.ingest import IngestScreen


def test_the_changes_are_shown_and_made_only_after_yes(
    tiny_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Memory() as memory:
        added = [memory.add(f"I own a bicycle {number}", user_id="me", infer=False) for number in range(8)]
    ids = [one["results"][0]["id"] for one in added]
    file = tmp_path / "chat.json"
    file.write_text(json.dumps([{"role": "user", "content": "All of my bicycles are gone."}]))
    monkeypatch.setattr(Pipeline, "decide_changes", lambda *_: [Delete(memory_id) for memory_id in ids])

    async def count(app: MemloraApp) -> int:
        return await app.backend.run(lambda workspace: workspace.store.count())

    async def asked(app: MemloraApp, pilot: Pilot[Any], screen: IngestScreen) -> None:
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: isinstance(app.screen, ChangesDialog), "the question")
        await wait_until(pilot, lambda: "- I own a bicycle 0" in text_of(app), "the changes")

    async def check(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await pilot.press("f4")
        await wait_until(pilot, lambda: isinstance(app.screen, IngestScreen), "the screen")
        screen = app.screen
        assert isinstance(screen, IngestScreen)
        await pilot.pause()
        screen.query_one("#path", Input).value = str(file)
        screen.query_one("#path", Input).focus()
        await pilot.press("enter")
        await wait_until(pilot, lambda: "ready" in text_of(app), "the file")
        await asked(app, pilot, screen)
        await pilot.press("n")
        await wait_until(pilot, lambda: app.screen is screen, "the screen again")
        assert await count(app) == 8 and "waiting for your answer" in text_of(app)
        await asked(app, pilot, screen)
        await pilot.press("y")
        await wait_until(pilot, lambda: "✓ imported" in text_of(app), "the end")
        assert await count(app) == 0

    run_app(check)
