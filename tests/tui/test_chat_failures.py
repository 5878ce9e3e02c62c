"""When something breaks, the app goes on with a readable notice, and the store is whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until, wait_until_loaded
from textual.pilot import Pilot

from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.models.batching import DecodingBatch
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.screens.chat import ChatScreen


async def say(app: MemloraApp, pilot: Pilot[Any], words: str) -> ChatScreen:
    chat = app.screen
    assert isinstance(chat, ChatScreen)
    chat.prompt.set_text(words)
    await pilot.press("enter")
    return chat


def test_without_models_the_app_says_how_to_get_them(isolated_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: "Press Enter to download" in text_of(app), "the first screen")
        await pilot.press("escape")
        await wait_until(pilot, lambda: "not loaded" in text_of(app), "the status bar")
        chat = await say(app, pilot, "Hello?")
        await wait_until(pilot, lambda: chat.turns and chat.turns[0].problem)
        await wait_until(pilot, lambda: "✗" in text_of(app))
        assert chat.turns[0].memory == "none"
        await pilot.press("f1")
        await wait_until(pilot, lambda: "Keys and commands" in text_of(app), "the app goes on")

    run_app(script)


def test_a_student_that_runs_out_of_memory_answers_the_next_question(
    tiny_home: Path, varied_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMLORA_STUDENT", str(varied_student))
    step = DecodingBatch.step

    def fails_once(self: DecodingBatch) -> Any:
        monkeypatch.setattr(DecodingBatch, "step", step)
        raise RuntimeError("[metal::malloc] out of memory")

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        monkeypatch.setattr(DecodingBatch, "step", fails_once)
        chat = await say(app, pilot, "I like tea.")
        await wait_until(pilot, lambda: "out of memory" in text_of(app))
        await say(app, pilot, "I still like tea.")
        await wait_until(pilot, lambda: len(chat.turns) == 2 and chat.turns[1].memory == "done")
        assert chat.turns[1].reply and chat.turns[0].memory == "none"

    run_app(script)


def test_a_full_disk_loses_no_memory_and_can_be_tried_again(
    tiny_home: Path, varied_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMLORA_STUDENT", str(varied_student))
    file = tiny_home / "store" / "memories.db"

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await say(app, pilot, "/remember Ann likes tea")
        await wait_until(pilot, lambda: app.backend.memories == 1)
        store = (await app.backend.run(lambda workspace: workspace)).store
        full: list[sqlite3.Connection] = []
        write = store.database.write

        def no_room(*arguments: Any, **options: Any) -> Any:
            held = write(*arguments, **options)
            connection = held.__enter__()
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
            full.append(connection)

            class Held:
                def __enter__(self) -> sqlite3.Connection:
                    return connection

                def __exit__(self, *error: object) -> Any:
                    return held.__exit__(*error)

            return Held()

        monkeypatch.setattr(store.database, "write", no_room)
        chat = await say(app, pilot, "I moved to Rome. " * 600)
        await wait_until(pilot, lambda: chat.turns and chat.turns[0].memory == "failed")
        await wait_until(pilot, lambda: "Not stored" in text_of(app))
        assert store.count() == 1 and check_store(store) == []

        monkeypatch.undo()
        for connection in full:
            connection.execute("PRAGMA max_page_count = 1073741823")
        await say(app, pilot, "/retry")
        await wait_until(pilot, lambda: chat.turns[0].memory == "done")
        assert check_store(store) == []

    run_app(script)
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
