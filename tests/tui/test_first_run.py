"""The first start: with nothing on the disk, one key downloads the models, and the next offers to import an export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from cli_home import EXCHANGES, TALK, exchanges_done
from pilots import run_app, text_of, wait_until
from snapshots import THEMES, check, freeze_status
from textual.pilot import Pilot
from textual.widgets._toast import Toast

from memlora_mlx.models.catalog import shipped_entries
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.first_models import recommended_students
from memlora_mlx.tui.screens import first_run
from memlora_mlx.tui.screens.chat import ChatScreen
from memlora_mlx.tui.screens.first_run import FirstRunScreen
from memlora_mlx.tui.screens.ingest import IngestScreen
from memlora_mlx.tui.widgets.prompt import Prompt

STARTERS = ("smollm2-135m", "all-minilm-l6-v2")
COPY = """
import json, shutil, sys, time
from pathlib import Path
from memlora_mlx.models.cards import ModelFile, ModelManifest
sources, name, place = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3], sys.argv[2])
for done in (0, 40, 100):
    print(f"downloading\\t{done}\\t100", flush=True)
    time.sleep(0.2)
shutil.copytree(sources[name], place)
files = tuple(ModelFile(path=path.name, bytes=path.stat().st_size) for path in place.iterdir())
ModelManifest(name=name, files=files).write(place)
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
        assert "too small to chat" in shown and "download 93 MB, disk 542 MB" in shown
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
            super().__init__(["copy_model", json.dumps(sources), *arguments[1:]], settings, log)

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
        await wait_until(pilot, lambda: app.backend.has_network_activity == "offline")
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

        prompt = app.screen.query_one(Prompt)
        prompt.set_text("\n".join("line" for _ in range(9)))
        for number in range(6):
            app.notify(f"error {number}: " + "cannot write the file " * 30, severity="error", markup=False)
        await wait_until(pilot, lambda: "error 5" in text_of(app) and prompt.region.height == 10)
        assert "error 4" in text_of(app) and "error 3" not in text_of(app), "the last error and the one before"
        toast = app.screen.query_one(Toast)
        await wait_until(pilot, lambda: 1 < toast.region.bottom <= prompt.region.y)

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
        screen.say_ready()
        await check(app, "first-run-ready")

    run_app(script, size=size)


def test_students_are_recommended_that_fit_the_memory_of_the_machine() -> None:
    known = shipped_entries()
    for gigabytes in (4, 8, 16, 64):
        found = recommended_students(known.values(), gigabytes << 30)
        assert found and all((known[name].download_bytes or 0) <= 0.4 * (gigabytes << 30) for name in found)
        assert all(known[name].kind == "student" and not known[name].needs_vision for name in found)
    small = recommended_students(known.values(), 8 << 30)
    assert recommended_students(known.values(), 64 << 30) != small


def test_a_file_is_looked_at_before_anything_is_stored(tiny_home: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.txt"
    file.write_text(TALK)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: app.backend.status.phase in ("ready", "failed"))
        await pilot.press("f4")
        await wait_until(pilot, lambda: isinstance(app.screen, IngestScreen))
        assert isinstance(app.screen, IngestScreen)
        app.screen.add(file)
        await wait_until(pilot, lambda: f"{EXCHANGES} exchanges, 2023-05-08 to 2023-06-01" in text_of(app))
        await wait_until(pilot, lambda: "Nothing is stored yet" in " ".join(text_of(app).split()))
        assert exchanges_done(tiny_home) == 0

    run_app(script, size=(80, 24))
