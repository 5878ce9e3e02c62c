"""Screenshots of the app for its documentation: SVG files that Textual draws from sample data.

    python -m memlora_mlx.tui.screenshots FOLDER [--theme light] [--size 120x36]

It uses a temporary home folder and the models that the settings name.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from textual.pilot import Pilot

from memlora_mlx.memory.store.sources import list_sources
from memlora_mlx.settings import load_settings
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.base_app import SCREENS_BY_KEY
from memlora_mlx.tui.sample_data import NOW, TALK, made_up_report, made_up_training, seed
from memlora_mlx.tui.screens.bench import BenchScreen
from memlora_mlx.tui.screens.chat import ChatScreen
from memlora_mlx.tui.screens.ingest import IngestScreen
from memlora_mlx.tui.themes import THEMES


async def _take(folder: Path, theme: str, size: tuple[int, int]) -> None:
    settings = load_settings()
    with tempfile.TemporaryDirectory() as home:
        made_up_training(Path(home))
        report = made_up_report(Path(home) / "bench" / "runs" / f"{NOW:%Y-%m-%d-%H%M%S}")
        (Path(home) / "models").symlink_to(settings.models_folder.absolute())
        app = MemloraApp(replace(settings, home=Path(home)))
        try:
            async with app.run_test(size=size) as pilot:
                app.theme = f"memlora-{theme}"
                await _screens(app, pilot, folder, report)
        finally:
            app.backend.close()


async def _screens(app: MemloraApp, pilot: Pilot[None], folder: Path, report: Path) -> None:
    while app.backend.status.phase not in ("ready", "failed"):
        await asyncio.sleep(0.1)
    chat = app.screen
    assert isinstance(chat, ChatScreen)
    for turn in await app.backend.run(seed):
        await chat.show(turn)
    await app.backend.refresh_counts()
    await _save(app, pilot, folder / "chat.svg")
    await pilot.press(*"/re")
    await _save(app, pilot, folder / "commands.svg")
    chat.prompt.set_text("")
    await pilot.press("f1")
    await _save(app, pilot, folder / "help.svg")
    await pilot.press("escape", "ctrl+p")
    await _save(app, pilot, folder / "palette.svg")
    await pilot.press("escape")
    for mode in SCREENS_BY_KEY:
        if mode != "chat":
            app.action_page(mode)
            await pilot.pause(1.0)
            if isinstance(app.screen, BenchScreen):
                app.screen.open_report(report)
            elif isinstance(app.screen, IngestScreen):
                talk = folder / "a-talk.txt"
                talk.write_text(TALK, encoding="utf-8")
                app.screen.add(talk)
                await pilot.press("ctrl+r")
                while not await app.backend.run(
                    lambda workspace: [s for s in list_sources(workspace.store) if s.finished_at]
                ):
                    await asyncio.sleep(0.2)
                talk.unlink()
            await _save(app, pilot, folder / f"{mode}.svg")


async def _save(app: MemloraApp, pilot: Pilot[None], path: Path) -> None:
    await pilot.pause(1.5)  # time for a screen to load what it shows
    path.write_text(app.export_screenshot(title="memlora"), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--theme", choices=sorted(THEMES), default="dark")
    parser.add_argument("--size", default="120x36", metavar="COLUMNSxROWS")
    arguments = parser.parse_args(argv)
    columns, _, rows = arguments.size.partition("x")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(_take(arguments.folder, arguments.theme, (int(columns), int(rows))))


if __name__ == "__main__":
    main()
