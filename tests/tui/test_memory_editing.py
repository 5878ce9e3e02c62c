"""Correcting memories in the real app: nothing typed is lost, nothing unchanged is an edit, and undo undoes what was meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until, wait_until_loaded
from textual import events
from textual.pilot import Pilot
from textual.widgets import TextArea

from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.corrections import count_corrections
from memlora_mlx.memory.store.history import memory_history
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import MemoryRecord
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.sample_data import seed
from memlora_mlx.tui.screens.chat import ChatScreen
from memlora_mlx.tui.screens.dialogs import EditDialog
from memlora_mlx.tui.screens.forms import FormDialog
from memlora_mlx.tui.screens.memories import MemoriesScreen
from memlora_mlx.tui.widgets.memory_item import MemoryItem

# As in a real conversation: 586 characters, more than the 240 of an extracted fact.
LONG = " ".join(f"In year {year} Ann moved house again." for year in range(1990, 2007)) + " The end."
LONG = LONG[:585] + "."


async def store_of(app: MemloraApp) -> Store:
    return (await app.backend.run(lambda workspace: workspace)).store


async def searched(app: MemloraApp, pilot: Pilot[Any], *texts: str) -> tuple[ChatScreen, list[MemoryRecord]]:
    """The chat with these memories as the results of a search, the first of them in focus."""
    await wait_until_loaded(app, pilot)
    for text in texts:
        await app.backend.run(lambda workspace, text=text: Memory.of(workspace).add(text, user_id="me", infer=False))
    chat = app.screen
    assert isinstance(chat, ChatScreen)
    chat.prompt.set_text("/search " + texts[0][:20])
    await pilot.press("enter")
    await wait_until(pilot, lambda: len(chat.panel.query(MemoryItem)) == len(texts), "the hits")
    item = chat.panel.query(MemoryItem).first()
    item.focus()
    await wait_until(pilot, lambda: chat.focused is item)
    return chat, (await store_of(app)).list()


def burst(app: MemloraApp, *arrivals: events.Event) -> None:
    """Keys and pastes as a terminal sends them in one read: the app has no pause between them."""
    for event in arrivals:
        event.set_sender(app)
        app.post_message(event)


def keys(text: str) -> Sequence[events.Key]:
    names = {" ": "space", "\r": "enter"}
    return [events.Key(names.get(character, character), character) for character in text]


def test_a_memory_longer_than_a_fact_is_shown_and_saved_whole(tiny_home: Path) -> None:
    assert len(LONG) == 586

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        _, [memory] = await searched(app, pilot, LONG)
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, EditDialog))
        assert app.screen.query_one(TextArea).text == LONG
        await wait_until(pilot, lambda: "1990" in text_of(app) and LONG[-12:] in text_of(app), "start and end")
        await pilot.press(*" Really.", "enter")
        store = await store_of(app)
        await wait_until(pilot, lambda: store.list()[0].text == f"{LONG} Really.")
        assert store.list()[0].id == memory.id

    run_app(script)


@pytest.mark.parametrize("pasted", [False, True])
def test_text_and_enter_in_one_burst_are_saved(tiny_home: Path, pasted: bool) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        _, [memory] = await searched(app, pilot, "Ann likes tea")
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, EditDialog) and app.screen.query(TextArea))
        more = [events.Paste(" and coffee")] if pasted else keys(" and coffee")
        burst(app, *more, *keys("\r"))
        store = await store_of(app)
        await wait_until(pilot, lambda: [found.text for found in store.list()] == ["Ann likes tea and coffee"])
        assert [line.event for line in memory_history(store, memory.id)] == ["ADD", "UPDATE"]

    run_app(script)


def test_a_form_takes_all_that_was_typed_before_enter(tiny_home: Path, tmp_path: Path) -> None:
    target = tmp_path / "o.md"

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await app.backend.run(seed)
        await pilot.press("f3")
        await wait_until(pilot, lambda: isinstance(app.screen, MemoriesScreen) and "newest first" in text_of(app))
        await pilot.press("x")
        await wait_until(pilot, lambda: isinstance(app.screen, FormDialog) and app.screen.focused is not None)
        await pilot.press("ctrl+u")
        burst(app, *keys(f"{target}\r"))
        await wait_until(pilot, target.is_file)

    run_app(script)


def test_an_unchanged_edit_is_no_edit_and_u_does_not_undo_the_add_after_it(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        chat, [memory] = await searched(app, pilot, "Ann likes tea")
        store = await store_of(app)
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, EditDialog))
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.screen is chat and "The text is unchanged" in text_of(app))
        assert "edited" not in text_of(app)
        await pilot.press("u")
        await wait_until(pilot, lambda: "Nothing to undo" in text_of(app))
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, EditDialog))
        app.screen.query_one(TextArea).text = "   "
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.screen is chat and "needs some text" in text_of(app), "a failed edit")
        await pilot.press("u")
        await pilot.pause()
        await wait_until(
            pilot, lambda: not app.workers or all(w.is_finished for w in app.workers if w.group == "memory")
        )
        assert [line.event for line in memory_history(store, memory.id)] == ["ADD"], "the memory is as it was"
        assert store.list() == [memory] and count_corrections(tiny_home) == 0

    run_app(script)


def test_search_results_stay_while_they_are_changed(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        chat, _ = await searched(app, pilot, "Ann likes tea", "Bob likes chess")
        store = await store_of(app)
        items = list(chat.panel.query(MemoryItem))
        memory_id = items[0].entry.memory_id

        async def shown(text: str) -> None:
            await wait_until(pilot, lambda: text in text_of(app), text)
            assert list(chat.panel.query(MemoryItem)) == items, "the same hits, in their places"
            assert app.screen is chat and chat.focused is items[0], "and the focus with them"

        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, EditDialog))
        await pilot.press(*" a lot", "enter")
        await shown("» ~ edited")
        assert items[0].entry.text == "Ann likes tea a lot" and "Nearest to" in text_of(app)
        await pilot.press("u")
        await shown("» ↶ undone")
        assert items[0].entry.text == "Ann likes tea"
        await pilot.press("r")
        await shown("» ↷ redone")
        assert store.get(memory_id).text == items[0].entry.text == "Ann likes tea a lot"  # type: ignore[union-attr]
        await pilot.press("d")
        await shown("» ✗ deleted")
        assert store.get(memory_id) is None
        await pilot.press("u")
        await shown("» ↶ undone")
        assert store.get(memory_id) is not None and not chat.turns, "no key was sent as a message"

    run_app(script, size=(120, 32))


def test_redo_on_the_memories_screen_and_as_a_command(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await app.backend.run(seed)
        store = await store_of(app)
        await pilot.press("f3")
        await wait_until(pilot, lambda: isinstance(app.screen, MemoriesScreen) and "newest first" in text_of(app))
        screen = app.screen
        assert isinstance(screen, MemoriesScreen) and screen.selected_memory is not None
        memory = screen.selected_memory
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, EditDialog))
        await pilot.press(*" now", "enter")
        await wait_until(pilot, lambda: "~ edited" in text_of(app))
        for key, label, text in (
            ("u", "↶ undone", memory.text),
            ("r", "↷ redone", f"{memory.text} now"),
            ("U", "↶ undone", memory.text),
            ("R", "↷ redone", f"{memory.text} now"),
        ):
            await pilot.press(key)
            await wait_until(pilot, lambda label=label: label in text_of(app), key)
            assert store.get(memory.id).text == text  # type: ignore[union-attr]
        await pilot.press("r")
        await wait_until(pilot, lambda: "there is nothing to redo" in text_of(app))
        await pilot.press("f2")
        await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen))
        for command, text in (("/undo", memory.text), ("/redo", f"{memory.text} now")):
            assert isinstance(app.screen, ChatScreen)
            app.screen.prompt.set_text(command)
            await pilot.press("enter")
            await wait_until(pilot, lambda text=text: store.get(memory.id).text == text, command)  # type: ignore[union-attr]
        await pilot.press("f1")
        await wait_until(pilot, lambda: "Redo the change" in text_of(app), "the help names the key")

    run_app(script, size=(120, 90))
