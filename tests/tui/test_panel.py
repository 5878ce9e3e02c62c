"""The memory panel: what a reply was given and cites, search hits, today, pins, and several memories at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until, wait_until_loaded
from textual.pilot import Pilot

from memlora_mlx.errors import UsageError
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.chat import Chat, pinned_memories
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Hit, Scope
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.chat_controller import ChatTurn
from memlora_mlx.tui.screens.chat import ChatScreen
from memlora_mlx.tui.screens.chat_commands import read_search
from memlora_mlx.tui.screens.dialogs import ConfirmDialog, EditDialog
from memlora_mlx.tui.widgets.memory_item import MemoryItem
from memlora_mlx.tui.widgets.text_diff import revision_text, text_diff

TEXTS = ("User has a cat called Moss", "User lives in Bergen", "User likes tea")
SIZE = (120, 40)


def chat_of(app: MemloraApp) -> ChatScreen:
    assert isinstance(app.screen, ChatScreen)
    return app.screen


def fill(workspace: Workspace) -> list[Hit]:
    memory = Memory.of(workspace)
    for text in TEXTS:
        memory.add(text, user_id="me", infer=False)
    return memory.find("cat", scopes=[Scope("me")], limit=3)


async def ready(app: MemloraApp, pilot: Pilot[Any]) -> list[Hit]:
    await wait_until_loaded(app, pilot)
    hits = await app.backend.run(fill)
    chat_of(app).refresh_counts()
    return hits


def items(app: MemloraApp) -> list[MemoryItem]:
    return list(app.screen_stack[0].query(MemoryItem))


def test_today_is_shown_while_no_reply_is(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await ready(app, pilot)
        await wait_until(pilot, lambda: "Learned today (3)" in text_of(app) and "Moss" in text_of(app))
        items(app)[0].focus()
        await pilot.press("d")
        await wait_until(pilot, lambda: "Withdrawn today (1)" in text_of(app))

    run_app(script, size=SIZE)


def test_what_a_reply_cites_is_told_from_what_it_was_given(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        hits = await ready(app, pilot)
        await chat_of(app).show(ChatTurn("Which cat?", reply="Moss.", hits=tuple(hits), cited=(hits[0],)))
        await wait_until(pilot, lambda: "3 memories given, 1 cited" in text_of(app))
        await wait_until(
            pilot, lambda: "Given for this reply (3)" in text_of(app) and text_of(app).count("● cited") == 1
        )

    run_app(script, size=SIZE)


def test_the_hits_of_a_search_stay_after_an_edit(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        hits = await ready(app, pilot)
        await chat_of(app).show(ChatTurn("Which cat?", reply="Moss.", hits=tuple(hits)))
        chat_of(app).prompt.set_text("/search cat")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "Nearest to “cat”" in text_of(app))
        await pilot.press("tab")
        await wait_until(pilot, lambda: isinstance(app.focused, MemoryItem))
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, EditDialog))
        await pilot.press(*" too", "enter")
        await wait_until(pilot, lambda: "edited" in text_of(app) and isinstance(app.screen, ChatScreen))
        await pilot.pause(0.2)
        assert "Nearest to “cat”" in text_of(app) and isinstance(app.focused, MemoryItem)
        await pilot.press("u")
        await wait_until(pilot, lambda: "undone" in text_of(app))
        await pilot.press("r")
        await wait_until(pilot, lambda: "redone" in text_of(app))
        assert "Nearest to “cat”" in text_of(app) and not chat_of(app).prompt.text

    run_app(script, size=SIZE)


def test_several_memories_are_deleted_after_one_question(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await ready(app, pilot)
        await wait_until(pilot, lambda: len(items(app)) == 3)
        items(app)[0].focus()
        await pilot.press("space", "down", "space", "d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmDialog) and "these 2 memories" in text_of(app))
        await pilot.press("y")
        await wait_until(pilot, lambda: app.backend.memories == 1)

    run_app(script, size=SIZE)


def test_a_pinned_memory_stays_on_top_and_every_reply_is_given_it(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await ready(app, pilot)
        await wait_until(pilot, lambda: len(items(app)) == 3)
        chosen = next(item for item in items(app) if "tea" in item.entry.text)
        chosen.focus()
        await pilot.press("p")
        await wait_until(pilot, lambda: "Pinned (1)" in text_of(app))
        pinned = await app.backend.run(lambda opened: pinned_memories(opened.store, Scope("me")))
        assert [memory.text for memory in pinned] == ["User likes tea"] and app.backend.corrections == 0

        def reply(opened: Workspace) -> Chat:
            chat = Chat(opened.pipeline, "me", limit=1)
            next(chat.reply("Who has a cat?"))
            return chat

        chat = await app.backend.run(reply)
        assert chat.hits[0].text == "User likes tea"
        items(app)[0].focus()
        await pilot.press("p")
        await wait_until(pilot, lambda: "Pinned (1)" not in text_of(app))

    run_app(script, size=SIZE)


def test_hits_that_say_nearly_the_same_are_pointed_out(tiny_home: Path) -> None:
    def fill_twice(workspace: Workspace) -> list[Hit]:
        Memory.of(workspace).add("User has a cat, called Moss.", user_id="me", infer=False)
        return fill(workspace)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        hits = await app.backend.run(fill_twice)
        chat_of(app).panel.show_hits("Found", hits)
        await wait_until(pilot, lambda: text_of(app).count("≈ nearly the same") == 1)

    run_app(script, size=SIZE)


def test_a_search_can_name_a_person_and_days() -> None:
    found = read_search("my cat person:ann since:2026-03-01 before:2026-04-01")
    assert found.text == "my cat" and found.person == "ann" and found.since is not None and found.until is not None
    assert found.since.month == 3 and found.until.month == 4
    with pytest.raises(UsageError, match="no date"):
        read_search("cat since:yesterday")
    with pytest.raises(UsageError, match="what to look for"):
        read_search("person:ann")


def test_a_history_shows_what_changed_by_words() -> None:
    shown = text_diff("User lives in Bergen near the harbour", "User lives in Oslo near the harbour").plain
    assert shown == "User lives in [-Bergen-]{+Oslo+} near the harbour"
    assert text_diff("Likes tea", "Has a dog called Bo").plain == "- Likes tea\n+ Has a dog called Bo"
    assert (
        revision_text(None, "Likes tea").plain == "+ Likes tea"
        and revision_text("Likes tea", None).plain == "- Likes tea"
    )
