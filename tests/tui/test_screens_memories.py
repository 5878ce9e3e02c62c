"""The Memories screen over a real store: finding, putting right, writing out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pilots import noticed, run_app, text_of, wait_until, wait_until_loaded
from textual.pilot import Pilot
from textual.widgets import Input, Select

from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.changes import Add
from memlora_mlx.memory.store.lookup import find_by_prefix
from memlora_mlx.memory.store.sources import mark_source
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange, Message, Scope
from memlora_mlx.settings import load_settings
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.memory_editor import DELETED
from memlora_mlx.tui.sample_data import seed
from memlora_mlx.tui.screens.dialogs import ConfirmDialog, EditDialog, SourceDialog
from memlora_mlx.tui.screens.first_run import FirstRunScreen
from memlora_mlx.tui.screens.forms import FormDialog, HistoryDialog
from memlora_mlx.tui.screens.memories import MemoriesScreen
from memlora_mlx.tui.widgets.row_table import RowTable

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def many(workspace: Workspace, count: int = 1000) -> None:
    """Memories of two people from two conversations."""
    for person, source in (("ann", "talk-a"), ("bob", "talk-b")):
        owner = Scope(user_id=person)
        messages = (Message("user", f"{person} speaks", said_at=NOW),)
        exchange = Exchange(f"key-{person}", owner, messages, NOW, source, 0)
        texts = [f"{person} fact {number}" for number in range(count // 2)]
        vectors = workspace.engine.embed(texts[:1])
        adds = [Add(text, vectors[0], NOW - timedelta(days=number)) for number, text in enumerate(texts)]
        workspace.store.commit(owner, adds, exchange=exchange)
        mark_source(workspace.store, source, "transcript", 1, finished=True)


async def at_memories(app: MemloraApp, pilot: Pilot[Any]) -> MemoriesScreen:
    await wait_until_loaded(app, pilot)
    await pilot.press("f3")
    await wait_until(pilot, lambda: isinstance(app.screen, MemoriesScreen) and "first" in text_of(app), "the list")
    assert isinstance(app.screen, MemoriesScreen)
    return app.screen


def test_search_filters_and_days(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await app.backend.run(seed)
        screen = await at_memories(app, pilot)
        await pilot.press("slash", *"hazelnuts")
        await wait_until(pilot, lambda: "nearest in meaning" in text_of(app))
        await pilot.press("escape")
        assert screen.selected_memory is not None and screen._shown[screen.selected_memory.id].distance >= 0, (
            "measured, nearest first"
        )
        screen.query_one("#words", Input).value = '"hazelnut"'
        await wait_until(pilot, lambda: "1 memory · exact text" in text_of(app))
        await pilot.press("escape")
        await wait_until(pilot, lambda: "9 memories · newest first" in text_of(app), "Escape clears the search")
        screen.query_one("#since", Input).value = "2026-03-01"
        await wait_until(pilot, lambda: "3 memories" in text_of(app))
        screen.query_one("#since", Input).value = "no day"
        await wait_until(pilot, lambda: "cannot read the day" in text_of(app))
        screen.query_one("#since", Input).value = ""
        await wait_until(pilot, lambda: "9 memories" in text_of(app), "the screen goes on")
        await pilot.press("s")
        await wait_until(pilot, lambda: "oldest first" in text_of(app))

    run_app(script)


def test_editing_deleting_and_undoing_from_the_list(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await app.backend.run(seed)
        screen = await at_memories(app, pilot)
        store = (await app.backend.run(lambda workspace: workspace)).store
        memory = screen.selected_memory
        assert memory is not None
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, EditDialog))
        await pilot.press(*" soon", "enter")
        await wait_until(pilot, lambda: find_by_prefix(store, memory.id).text == f"{memory.text} soon")
        await wait_until(pilot, lambda: f"~ edited {memory.text} soon" in text_of(app))
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("n")
        await wait_until(pilot, lambda: app.screen is screen)
        assert store.get(memory.id) is not None, "no means no"
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await wait_until(pilot, lambda: store.get(memory.id) is None and "✗ deleted" in text_of(app))
        await pilot.press("u")
        await wait_until(pilot, lambda: store.get(memory.id) is not None and "↶ undone" in text_of(app))
        await pilot.press("h")
        await wait_until(pilot, lambda: isinstance(app.screen, HistoryDialog) and "~ updated" in text_of(app))
        await pilot.press("escape", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, SourceDialog) and "Said" in text_of(app))
        await pilot.press("escape", "U")
        await wait_until(
            pilot, lambda: find_by_prefix(store, memory.id).text == memory.text, "the last change of all is the edit"
        )

    run_app(script)


def test_what_says_nearly_the_same_is_marked_and_deleted_by_a_key_that_can_be_undone(tiny_home: Path) -> None:
    def tell(workspace: Workspace) -> None:
        for text in ("User lives in Linz", "User has a cat", "User lives in Linz.", "User lives in Graz"):
            Memory.of(workspace).add(text, user_id="me", infer=False)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await app.backend.run(tell)
        screen = await at_memories(app, pilot)
        await wait_until(pilot, lambda: "≈ 1 nearly the same as another (n: next)" in text_of(app))
        assert text_of(app).count("≈ User lives in Linz") == 1
        await pilot.press("n")
        await wait_until(pilot, lambda: "≈ nearly the same as: User lives in Linz" in text_of(app))
        chosen = screen.selected_memory
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await wait_until(pilot, lambda: "✗ deleted User lives in Linz" in text_of(app) and app.screen is screen)
        await pilot.press("u")
        await wait_until(pilot, lambda: "↶ undone User lives in Linz" in text_of(app))
        assert chosen is not None and "nearly the same as: " not in text_of(app), "the row says what was done to it"

    run_app(script, size=(80, 24))


def test_thousands_are_read_as_they_are_reached(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await app.backend.run(many)
        screen = await at_memories(app, pilot)
        table = screen.query_one("#memories", RowTable)
        assert table.row_count == 200 and "1,000 memories" in text_of(app)
        for known in (200, 400, 600, 800):
            await wait_until(pilot, lambda known=known: table.row_count >= known and not screen._is_reading)
            await pilot.press("end")
        await wait_until(pilot, lambda: table.row_count == 1000)
        assert len(screen._shown) == 1000, "none twice"
        await wait_until(pilot, lambda: len(screen.query_one("#person", Select)._options) == 3)
        screen.query_one("#person", Select).value = "bob"
        await wait_until(pilot, lambda: "500 memories" in text_of(app))
        screen.query_one("#source", Select).value = "talk-a"
        await wait_until(pilot, lambda: "0 memories · no matches" in text_of(app))

    run_app(script)


def test_the_next_page_leaves_nothing_out_behind_deletions(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await app.backend.run(lambda workspace: many(workspace, 260))
        screen = await at_memories(app, pilot)
        for deleted in (1, 2, 3):
            await pilot.press("d")
            await wait_until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            await pilot.press("y")
            await wait_until(
                pilot,
                lambda deleted=deleted: [change.label for change in screen._changes.values()] == [DELETED] * deleted,
            )
            await pilot.press("down")
        await pilot.press("end")
        await wait_until(
            pilot, lambda: screen.query_one("#memories", RowTable).row_count == 260, "all that are left, and the three"
        )

    run_app(script)


@pytest.mark.parametrize("name", ["out.jsonl", "out.md"])
def test_export(tiny_home: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await app.backend.run(seed)
        screen = await at_memories(app, pilot)
        for told in ("Exported", "already exists"):
            await pilot.press("x")
            await wait_until(pilot, lambda: isinstance(app.screen, FormDialog))
            app.screen.query_one("#path", Input).value = str(target)
            await pilot.press("enter")
            await wait_until(pilot, lambda told=told: app.screen is screen and told in text_of(app))

    run_app(script)
    text = target.read_text(encoding="utf-8")
    assert "hazelnuts" in text and not list(tmp_path.glob("*.part"))
    if name.endswith("jsonl"):
        assert sum(json.loads(line).get("kind") == "memory" for line in text.splitlines()) == 9
    else:
        assert sum(line.startswith("- ") for line in text.splitlines()) == 9 and "### 2026-03-02" in text


def test_hostile_memories_are_words_and_an_empty_store_says_so(tiny_home: Path) -> None:
    nasty = "[red]no[/red] \x1b]0;gone\x07 \u202eturned [@click=app.quit]x[/]"

    def add(workspace: Workspace) -> None:
        Memory.of(workspace).add(nasty, user_id="[bold]ann[/bold]", infer=False)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await pilot.press("f3")
        await wait_until(pilot, lambda: "No memories yet" in text_of(app))
        await pilot.press("e", "d", "u", "h")  # on nothing
        await app.backend.run(add)
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: "1 memory" in text_of(app))
        shown = text_of(app)
        assert "[red]no[/red]" in shown and "[@click=app.quit]x[/]" in shown
        assert not {"\x1b", "\x07", "\u202e"} & set(shown)

    run_app(script)


def test_without_an_embedder_the_screen_says_what_to_fetch(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLORA_EMBEDDER", "all-minilm-l6-v2")

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await wait_until(pilot, lambda: isinstance(app.screen, FirstRunScreen))
        await pilot.press("escape", "f3")
        await wait_until(pilot, lambda: "✗ all-minilm-l6-v2 is not on this disk" in text_of(app))
        await pilot.press("slash", *"cello", "escape", "f7")
        await wait_until(pilot, lambda: "Experts" in text_of(app), "the app goes on")

    run_app(script)


def test_a_store_without_its_embedder_is_looked_at_and_deleted_from(
    tiny_home: Path, tiny_embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace(load_settings()) as workspace:
        seed(workspace)
    monkeypatch.setenv("MEMLORA_EMBEDDER", "all-minilm-l6-v2")

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        screen = await at_memories(app, pilot)
        assert app.backend.status.phase == "failed"
        await wait_until(
            pilot, lambda: "9 memories · newest first" in text_of(app) and screen.selected_memory is not None
        )
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, SourceDialog))
        await pilot.press("escape", "slash", *"hazelnut", "escape")
        await wait_until(pilot, lambda: "searching by meaning needs an embedder" in text_of(app))
        await pilot.press("escape")
        await wait_until(pilot, lambda: "newest first" in text_of(app) and screen.selected_memory is not None)
        memory = screen.selected_memory
        assert memory is not None
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await wait_until(pilot, lambda: "✗ deleted" in text_of(app))
        await pilot.press("u")
        await wait_until(
            pilot, lambda: "all-minilm-l6-v2 is not on this disk" in noticed(app), "undoing takes an embedder"
        )
        # It comes, as after a pull.
        monkeypatch.setenv("MEMLORA_EMBEDDER", str(tiny_embedder))
        app.backend.settings = load_settings()
        app.load_models()
        await wait_until(pilot, lambda: app.backend.status.phase == "ready")
        await pilot.press("u")
        await wait_until(pilot, lambda: "↶ undone" in text_of(app))
        assert (await app.backend.run(lambda opened: opened.store.get(memory.id))) == memory

    run_app(script)
