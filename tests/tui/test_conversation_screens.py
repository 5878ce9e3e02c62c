"""Conversations in the real app: stored as they are held, opened again, found, renamed, deleted, exported."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cli_home import store_contents
from pilots import run_app, text_of, wait_until, wait_until_loaded
from snapshots import THEMES, check, freeze_status
from textual.pilot import Pilot
from textual.widgets import Input

from memlora_mlx.memory.store import conversations as talks
from memlora_mlx.memory.traces import remove_derived
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Scope
from memlora_mlx.settings import UNSAVED
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.chat_controller import ChatTurn
from memlora_mlx.tui.commands import BY_NAME
from memlora_mlx.tui.screens.chat import ChatScreen
from memlora_mlx.tui.screens.conversations import ConversationsScreen, ConversationTable, DeleteDialog
from memlora_mlx.tui.screens.dialogs import ConfirmDialog, SourceDialog
from memlora_mlx.tui.screens.forms import FormDialog
from memlora_mlx.tui.unsaved import UnsavedTurns
from memlora_mlx.tui.widgets.exchange import ExchangeView
from memlora_mlx.tui.widgets.memory_panel import MemoryItem

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


@pytest.fixture
def home(tiny_home: Path, varied_student: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMLORA_STUDENT", str(varied_student))
    return tiny_home


def chat_of(app: MemloraApp) -> ChatScreen:
    chat = app.screen_stack[0]
    assert isinstance(chat, ChatScreen)
    return chat


async def say(app: MemloraApp, pilot: Pilot[Any], words: str) -> None:
    """Say something, and wait until it is answered and remembered."""
    chat = chat_of(app)
    before = len(chat.turns)
    chat.prompt.set_text(words)
    await pilot.press("enter")
    await wait_until(
        pilot, lambda: len(chat.turns) > before and chat.turns[-1].memory in ("done", "failed"), "remembered"
    )


def fill(workspace: Workspace) -> list[str]:
    """Three conversations, the oldest with 30 questions. Returns their ids."""
    made: list[str] = []
    owner = Scope(user_id=workspace.settings.user)
    told = [
        [("I moved to Bergen.", "A fine town."), *((f"Question {n}?", f"Answer {n}.") for n in range(29))],
        [("My cat Moss hates the vacuum cleaner.", "Poor Moss.")],
        [("We visited the lighthouse on the island.", "How was the weather?"), ("It rained.", "Oh.")],
    ]
    for number, pairs in enumerate(told):
        conversation = None
        for place, (question, reply) in enumerate(pairs):
            at = NOON + timedelta(days=number, minutes=place)
            key = f"{number}-{place}"
            conversation = talks.save_question(
                workspace.store, owner, question, key=key, said_at=at, conversation=conversation
            )
            talks.save_reply(workspace.store, key, reply, question="", said_at=at)
            talks.mark_remembered(workspace.store, key)
        assert conversation is not None
        made.append(conversation)
    return made


def shown(app: MemloraApp) -> list[str]:
    return [turn.question for turn in chat_of(app).turns]


def test_what_is_said_is_stored_before_the_reply_and_comes_back(home: Path) -> None:
    async def first(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        seen: list[list[str]] = []
        reply = chat.controller.reply

        def watched(*arguments: Any) -> Any:
            with sqlite3.connect(home / "store" / "memories.db") as database:
                seen.append([row[0] for row in database.execute("SELECT text FROM turns")])
            return reply(*arguments)

        chat.controller.reply = watched  # type: ignore[method-assign]
        await say(app, pilot, "I was born in Cork in 1979.")
        assert seen == [["I was born in Cork in 1979."]]
        assert "I was born in Cork in 1979." in str(chat.prompt.border_title)

    async def again(app: MemloraApp, pilot: Pilot[Any]) -> None:
        chat = chat_of(app)
        await wait_until(pilot, lambda: shown(app) == ["I was born in Cork in 1979."], "the last conversation is open")
        [turn] = chat.turns
        assert turn.reply and turn.memory == "done" and turn.remembered is not None
        await wait_until(pilot, lambda: "I was born in Cork" in text_of(app))
        await wait_until_loaded(app, pilot)
        await say(app, pilot, "And Ann in Oslo.")
        found = await app.backend.run(lambda workspace: talks.list_conversations(workspace.store))
        assert [(one.name, one.turns) for one in found] == [("I was born in Cork in 1979.", 4)]
        running = await app.backend.run(chat.controller._chat_of)
        assert running.turns[0] == ("user", "I was born in Cork in 1979."), "a follow-up sees what was said before"

    run_app(first)
    run_app(again)


def test_what_could_not_be_remembered_is_remembered_at_the_next_start(home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: shown(app) == ["I moved to Rome."])
        await wait_until(pilot, lambda: chat_of(app).turns[0].memory == "done")
        assert "I moved to Rome." in [row[4] for row in store_contents(home)["messages"]]

    async def killed(app: MemloraApp, pilot: Pilot[Any]) -> None:
        save = partial(
            talks.save_question, owner=Scope(user_id="me"), text="I moved to Rome.", key="killed", said_at=NOON
        )
        await app.backend.run(lambda workspace: save(workspace.store))

    run_app(killed)
    run_app(script)


def test_what_was_sent_before_the_store_was_open_is_stored_at_the_next_start(home: Path) -> None:
    secret = "sk-" + "proj-4mVt8Qw2ZbN6rXc9Lk3Jh5Gd7Fs1Pa0E"
    folder = home / UNSAVED
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    UnsavedTurns(home, keep_secrets=False, is_encrypted=True).keep(ChatTurn("Plain words."))
    assert not folder.exists(), "nothing plain stands beside an encrypted store"
    unsaved = UnsavedTurns(home, keep_secrets=False)
    for key, process, words in (("killed", ended.pid, f"I moved to Rome. {secret}"), ("running", os.getppid(), "Hi.")):
        unsaved.keep(ChatTurn(words, key=key))
        (folder / f"{os.getpid()}-{key}.jsonl").rename(folder / f"{process}-{key}.jsonl")
    assert not any(secret in file.read_text() for file in folder.iterdir())

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: [turn.memory for turn in chat_of(app).turns] == ["done"])
        assert shown(app)[0].startswith("I moved to Rome.")
        await say(app, pilot, "It rains.")
        assert [file.stem for file in folder.iterdir()] == [f"{os.getppid()}-running"], "another app still runs"
        with sqlite3.connect(home / "store" / "memories.db") as database:
            said = [row[0] for row in database.execute("SELECT text FROM turns WHERE role = 'user' ORDER BY id")]
        assert said == shown(app)

    run_app(script)
    remove_derived(home)
    assert not folder.exists(), "erasing everything takes it away, too"


def test_the_list_searches_opens_renames_exports_and_deletes(home: Path, tmp_path: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        bergen, _, _ = await app.backend.run(fill)
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: isinstance(app.screen, ConversationsScreen) and "Moss" in text_of(app))
        table = app.screen.query_one(ConversationTable)
        assert table.row_count == 3
        await pilot.press(*"vacuum")
        await wait_until(pilot, lambda: table.row_count == 1)
        await pilot.press("enter")
        await wait_until(pilot, lambda: shown(app) == ["My cat Moss hates the vacuum cleaner."])

        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: isinstance(app.screen, ConversationsScreen) and "lighthouse" in text_of(app))
        await pilot.press("down")
        await wait_until(pilot, lambda: isinstance(app.focused, ConversationTable))
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, FormDialog))
        app.screen.query_one(Input).value = "The island"
        await pilot.press("enter")
        await wait_until(pilot, lambda: "The island" in text_of(app))

        await pilot.press("x")
        await wait_until(pilot, lambda: isinstance(app.screen, FormDialog))
        app.screen.query_one(Input).value = str(tmp_path / "island.md")
        await pilot.press("enter")
        await wait_until(pilot, (tmp_path / "island.md").is_file)
        assert "# The island" in (tmp_path / "island.md").read_text()

        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmDialog), "nothing was remembered of it")
        await pilot.press("y")
        await wait_until(
            pilot, lambda: isinstance(app.screen, ConversationsScreen) and "The island" not in text_of(app)
        )
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen))
        assert shown(app) == ["My cat Moss hates the vacuum cleaner."]

        await chat_of(app).conversation.open(bergen, at="0-3")
        assert shown(app)[0] == "Question 2?"
        await wait_until(pilot, lambda: isinstance(app.focused, ExchangeView) and "Question 2?" in text_of(app))
        await chat_of(app).conversation.open(bergen, at="0-5")
        place = next(view for view in chat_of(app).query(ExchangeView) if view.turn.key == "0-5")
        top = chat_of(app).log_view.region.y + 1  # below the margin
        await wait_until(pilot, lambda: app.focused is place and place.region.y == top)
        above = chat_of(app).query(ExchangeView).first()
        above.markdown.update("\n\n".join("A line that gets its height late." for _ in range(9)))
        await wait_until(pilot, lambda: above.region.height > 18)
        await wait_until(pilot, lambda: place.region.y == top, "it stays where it is read")

    run_app(script, size=(120, 40))


def test_a_long_conversation_is_loaded_from_its_end(home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        [bergen, *_] = await app.backend.run(fill)
        chat = chat_of(app)
        await chat.conversation.open(bergen)
        assert shown(app)[0] == "Question 9?" and shown(app)[-1] == "Question 28?"
        await wait_until(pilot, lambda: "Answer 28." in text_of(app))
        chat.log_view.scroll_home(animate=False)
        await wait_until(pilot, lambda: "20 earlier messages" in text_of(app))
        await pilot.press("pageup")
        await wait_until(pilot, lambda: shown(app)[0] == "I moved to Bergen." and len(shown(app)) == 30)
        await wait_until(pilot, lambda: "earlier messages" not in text_of(app))

    run_app(script)


def test_a_new_conversation_and_one_that_is_deleted_with_its_memories(home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await say(app, pilot, "I moved to Rome.")
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: not chat_of(app).turns and "Tell me about yourself" in text_of(app))
        await say(app, pilot, "I like tea.")
        found = await app.backend.run(lambda workspace: talks.list_conversations(workspace.store))
        assert [one.name for one in found] == ["I like tea.", "I moved to Rome."]
        if not await app.backend.run(lambda workspace: talks.remembered_count(workspace.store, found[0].id)):
            await app.backend.run(partial(_remember, conversation=found[0].id))
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: isinstance(app.screen, ConversationsScreen) and "Rome" in text_of(app))
        await pilot.press("down", "d")
        await wait_until(pilot, lambda: isinstance(app.screen, DeleteDialog))
        await pilot.press("m")
        await wait_until(
            pilot, lambda: isinstance(app.screen, ConversationsScreen) and "I like tea." not in text_of(app)
        )
        assert "I like tea." not in [row[4] for row in store_contents(home)["messages"]]
        await pilot.press("escape")
        await wait_until(pilot, lambda: not chat_of(app).turns, "the open conversation was deleted")

    run_app(script)


def _remember(workspace: Workspace, conversation: str) -> None:
    """Give the conversation's exchange a memory, where the random student found none."""
    from memlora_mlx.memory.changes import Add

    [key] = {turn.exchange_key for turn in talks.read_turns(workspace.store, conversation)}
    [vector] = workspace.engine.embed(["likes tea"])
    exchange = workspace.store.exchange(key)
    with workspace.store.transaction() as transaction:
        transaction.apply(exchange.owner, Add("likes tea", vector, NOON, position=0), "9", exchange, "model")


def test_the_source_of_a_memory_opens_at_its_place(home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await say(app, pilot, "I like tea.")
        chat = chat_of(app)
        assert chat.conversation.id is not None
        await app.backend.run(partial(_remember, conversation=chat.conversation.id))
        await chat.conversation.begin()
        app.run_chat_command(BY_NAME["search"], "tea")
        await wait_until(pilot, lambda: "Nearest to" in text_of(app) and "score" in text_of(app), "the hits")
        next(item for item in chat.panel.query(MemoryItem) if item.entry.is_memory).focus()
        await wait_until(pilot, lambda: isinstance(app.focused, MemoryItem))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, SourceDialog) and "o Conversation" in text_of(app))
        await pilot.press("o")
        await wait_until(pilot, lambda: shown(app) == ["I like tea."] and isinstance(app.focused, ExchangeView))

    run_app(script, size=(120, 40))


def test_words_that_cannot_be_stored_are_not_lost(isolated_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: "Welcome to memlora" in text_of(app), "the first screen")
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen))
        chat = chat_of(app)
        chat.prompt.set_text("Hello?")
        await pilot.press("enter")
        await wait_until(pilot, lambda: chat.turns and chat.turns[0].problem)
        await wait_until(pilot, lambda: "Welcome to memlora" in text_of(app), "the models are offered again")
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen) and "Hello?" in text_of(app))

    run_app(script)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_list_looks_as_it_did(home: Path, size: tuple[int, int], theme: str) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        app.theme = theme
        await wait_until_loaded(app, pilot)
        made = await app.backend.run(fill)
        chat = chat_of(app)
        chat.prompt.cursor_blink = False
        await chat.conversation.open(made[-1])
        await wait_until(pilot, lambda: "How was the weather?" in text_of(app))
        freeze_status(app)
        await asyncio.sleep(0.3)
        await check(app, "conversation")
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: isinstance(app.screen, ConversationsScreen) and "Bergen" in text_of(app))
        app.screen.query_one(Input).cursor_blink = False
        await pilot.press(*"moss")
        await wait_until(pilot, lambda: app.screen.query_one(ConversationTable).row_count == 1)
        await check(app, "conversations")

    run_app(script, size=size)
