"""How the screens beside the chat look, at two sizes and in both themes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until, wait_until_loaded
from snapshots import SIZES, check_themes, freeze_status
from textual.pilot import Pilot

from memlora_mlx.models import adapter_registry
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.sample_data import made_up_report, made_up_training, seed
from memlora_mlx.tui.screens.bench import BenchScreen
from memlora_mlx.tui.widgets.row_table import RowTable


def make_expert(home: Path) -> None:
    folder = home / "adapters" / "smollm2-135m" / "update"
    folder.mkdir(parents=True)
    card = {"metrics": {"validation_loss": {"base": 1.796, "expert": 0.036}}}
    (folder / "adapter_config.json").write_text(json.dumps({"memlora": card}), encoding="utf-8")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_screens_look_as_they_did(tiny_home: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_registry, "SHIPPED", tiny_home / "none")  # those that come with memlora change
    made_up_training(tiny_home)
    make_expert(tiny_home)
    monkeypatch.setattr("memlora_mlx.tui.screens.models.memory_of_machine", lambda: 16 << 30)
    made_up_report(tiny_home / "bench" / "runs" / "2026-03-14-093000")

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await app.backend.run(seed)
        await app.backend.refresh_counts()
        seen = {
            "memories": ("f3", "9 memories · newest first"),
            "ingest": ("f4", "exports of assistants"),
            "train": ("f5", "✓ done"),
            "bench": ("f6", "2026-03-14-093000"),
            "models": ("f7", "tiny-llama"),
            "settings": ("f8", "app.help"),
        }
        for name, (key, told) in seen.items():
            await pilot.press(key)
            await wait_until(pilot, lambda told=told: told in text_of(app), name)
            screen = app.screen
            if isinstance(screen, BenchScreen):
                await wait_until(pilot, lambda screen=screen: screen.table.row_count == 1)
                screen.open_report(screen._files[0])
                await wait_until(pilot, lambda: "61.6 [" in text_of(app))
            if name == "models":
                await wait_until(pilot, lambda screen=screen: screen.query_one("#experts", RowTable).row_count > 0)
            freeze_status(app)
            await check_themes(app, name)

    run_app(script, size=size)
