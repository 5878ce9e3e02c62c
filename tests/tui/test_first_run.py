"""The first start: with nothing on the disk, one key downloads the models, and the next offers to import an export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until
from snapshots import THEMES, check, freeze_status
from textual.pilot import Pilot

from memlora_mlx.models.catalog import shipped_entries
from memlora_mlx.models.downloads import MANIFEST
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.screens import first_run
from memlora_mlx.tui.screens.chat import ChatScreen
from memlora_mlx.tui.screens.first_run import FirstRunScreen
from memlora_mlx.tui.screens.ingest import IngestScreen

STARTERS = ("smollm2-135m", "all-minilm-l6-v2")
COPY = """
import json, shutil, sys, time
sources, manifest, name, folder = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
for done in (0, 40, 100):
    print(f"downloading\\t{done}\\t100", flush=True)
    time.sleep(0.2)
shutil.copytree(sources[name], f"{folder}/{name}")
with open(f"{folder}/{name}/{manifest}", "w") as file:
    json.dump({"name": name, "files": {}}, file)
"""


async def first_screen(app: MemloraApp, pilot: Pilot[Any]) -> FirstRunScreen:
    await wait_until(pilot, lambda: isinstance(app.screen, FirstRunScreen) and "Welcome" in text_of(app))
    assert isinstance(app.screen, FirstRunScreen)
    return app.screen


def test_the_first_screen_names_the_models_and_can_be_left(isolated_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await first_screen(app, pilot)
        shown = " ".join(text_of(app).replace("│", "").split())
        for name in STARTERS:
            entry = shipped_entries()[name]
            assert name in shown and f"licence {entry.licence}" in shown
        assert "too small to chat" in shown and "93 MB" in shown
        assert not app._notifications, "no notice lies over it"
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen))
        app.load_models()
        await wait_until(
            pilot, lambda: "is not on this" in text_of(app), "it is shown once; then a notice says what to do"
        )

    run_app(script, size=(80, 24))


def test_one_key_downloads_both_and_the_next_opens_the_file_picker(
    isolated_home: Path, tiny_student: Path, tiny_embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    monkeypatch.setenv("MEMLORA_EXPERTS", "none")  # the shipped ones do not fit the tiny student
    sources = {STARTERS[0]: str(tiny_student), STARTERS[1]: str(tiny_embedder)}
    job = first_run.Job

    class Copying(job):  # type: ignore[misc,valid-type]
        """Copies a tiny model where the real job downloads one."""

        def __init__(self, arguments: list[str], settings: Any, log: Path) -> None:
            Path(arguments[2]).mkdir(parents=True, exist_ok=True)
            script = isolated_home / "copy_model.py"
            script.write_text(COPY)
            monkeypatch.setenv("PYTHONPATH", f"{isolated_home}:{':'.join(sys.path)}")
            super().__init__(["copy_model", json.dumps(sources), MANIFEST, *arguments[1:]], settings, log)

    monkeypatch.setattr(first_run, "Job", Copying)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await first_screen(app, pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: "%" in text_of(app) or "smollm2-135m: downloading" in text_of(app))
        await wait_until(pilot, lambda: "Both models are here" in text_of(app))
        await wait_until(pilot, lambda: app.backend.status.phase == "ready", "the student is loaded meanwhile")
        await pilot.press("i")
        await wait_until(pilot, lambda: any(isinstance(screen, IngestScreen) for screen in app.screen_stack))
        await wait_until(pilot, lambda: "A conversation file" in text_of(app))

    run_app(script, size=(80, 24))


def test_a_download_that_fails_says_why_and_can_be_tried_again(
    isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = first_run.Job

    class Failing(job):  # type: ignore[misc,valid-type]
        def __init__(self, arguments: list[str], settings: Any, log: Path) -> None:
            super().__init__(["memlora_mlx", "models", "pull", "no-such-model"], settings, log)

    monkeypatch.setattr(first_run, "Job", Failing)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await first_screen(app, pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: "✗" in text_of(app) and "no-such-model" in text_of(app))
        assert app.backend.has_network_activity == "offline"
        await wait_until(pilot, lambda: "Enter to try again" in text_of(app))

    run_app(script, size=(80, 24))


def test_notices_replace_each_other_and_stay_off_the_status_bar(isolated_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await first_screen(app, pilot)
        await pilot.press("escape")
        for number in range(4):
            app.notify(f"notice {number}", markup=False)
        await wait_until(pilot, lambda: "notice 3" in text_of(app))
        assert "notice 2" not in text_of(app) and "offline" in text_of(app)
        app.notify("the disk is full", title="Error", severity="error", markup=False)
        app.notify("something else", markup=False)
        await wait_until(pilot, lambda: "the disk is full" in text_of(app) and "something else" in text_of(app))
        assert len(app._notifications) == 1 and "Write a message" in text_of(app)

    run_app(script, size=(80, 24))


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_first_screen_looks_as_it_did(isolated_home: Path, size: tuple[int, int], theme: str) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        app.theme = theme
        screen = await first_screen(app, pilot)
        app.screen_stack[0].query_one("#prompt").cursor_blink = False  # type: ignore[attr-defined]
        freeze_status(app)
        for bar in app.screen_stack[0].query("StatusBar"):
            bar.parts = lambda: [("no student", 0), ("offline", 0)]  # type: ignore[attr-defined]
        await check(app, "first-run")
        screen._set_phase("ready")
        screen._say(first_run.READY)
        await check(app, "first-run-ready")

    run_app(script, size=size)
