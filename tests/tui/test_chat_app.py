"""The chat in the real app: tiny random models, a real store, Textual's pilot. What a user can rely on."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from cli_home import store_contents
from pilots import SECONDS, run_app, text_of, wait_until, wait_until_loaded
from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widgets import TextArea

from memlora_mlx.distill.examples import read_examples
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.chat import Chat
from memlora_mlx.memory.corrections import corrections_file
from memlora_mlx.memory.store.lookup import find_by_prefix
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.engine import Engine
from memlora_mlx.records import Priority, Request
from memlora_mlx.settings import load_settings
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.sample_data import seed
from memlora_mlx.tui.screens.chat import ChatScreen
from memlora_mlx.tui.screens.dialogs import ConfirmDialog, EditDialog, SourceDialog
from memlora_mlx.tui.widgets.exchange import ExchangeView
from memlora_mlx.tui.widgets.memory_item import MemoryItem
from memlora_mlx.tui.widgets.status import fit_parts

HELLO = "I moved to Rome."


@pytest.fixture
def home(tiny_home: Path, varied_student: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMLORA_STUDENT", str(varied_student))
    return tiny_home


@pytest.fixture
def talkative(home: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A student whose replies last until they are stopped, however long a busy test takes to do it."""
    monkeypatch.setenv("MEMLORA_STUDENT", str(tiny_student))
    monkeypatch.setattr("memlora_mlx.memory.chat.REPLY_TOKENS", 3000)
    # Random weights go in circles at once; a reply that lasts needs them not to be cut off.
    monkeypatch.setattr("memlora_mlx.models.repetition.CIRCLE_TOKENS", 10**9)
    monkeypatch.setattr("memlora_mlx.models.repetition.SHORTEST_LINE", 10**9)
    reply = Chat.reply

    def slowly(chat: Chat, text: str, *, cancelled: threading.Event, **rest: Any) -> Generator[str]:
        for piece in reply(chat, text, cancelled=cancelled, **rest):
            yield piece
            cancelled.wait(0.05)  # no faster than a real student
        cancelled.wait(SECONDS)

    monkeypatch.setattr(Chat, "reply", slowly)


def chat_of(app: MemloraApp) -> ChatScreen:
    assert isinstance(app.screen, ChatScreen)
    return app.screen


async def say(app: MemloraApp, pilot: Pilot[Any], words: str) -> None:
    chat_of(app).prompt.set_text(words)
    await pilot.press("enter")


async def settled(app: MemloraApp, pilot: Pilot[Any], number: int = 1) -> None:
    chat = chat_of(app)
    await wait_until(
        pilot,
        lambda: len(chat.turns) == number and all(turn.memory in ("done", "failed") for turn in chat.turns),
        "the exchange remembered",
    )


def test_what_is_said_is_answered_shown_and_remembered(home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await say(app, pilot, HELLO)
        await settled(app, pilot)
        [turn] = chat_of(app).turns
        assert turn.reply and turn.problem is None
        assert HELLO in text_of(app)
        found = store_contents(home)
        assert [(speaker, text) for _, _, role, speaker, text, *_ in found["messages"] if role == "user"] == [
            ("User", HELLO)
        ]
        assert turn.remembered is not None and turn.remembered.exchange.key == turn.key
        await wait_until(pilot, lambda: app.backend.memories == len(found["memories"]))
        await wait_until(pilot, lambda: "offline" in text_of(app) and "lively-llama" in text_of(app))

    run_app(script, size=(120, 40))


def test_a_statement_to_a_student_that_cannot_talk_is_noted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the student would babble reaches the screen, and the question behind it waits for the note."""
    monkeypatch.setattr(Workspace, "talks_freely", False)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await say(app, pilot, HELLO)
        await say(app, pilot, "Where did I move?")
        await settled(app, pilot, 2)
        told, asked = chat_of(app).turns
        assert told.is_noted and told.reply.startswith(("Noted", "Nothing new"))
        assert asked.reply and asked.cited == asked.hits[:1], "a memory, said back"
        found = store_contents(home)
        assert [role for _, _, role, *_ in found["messages"]].count("assistant") == 1, "the note is no message"

    run_app(script)


def test_statements_and_questions_typed_ahead_are_all_answered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question waits for the note before it, and the note for the question before that: none waits for ever."""
    monkeypatch.setattr(Workspace, "talks_freely", False)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        for words in (HELLO, "Where did I move?", "I like tea.", "What do I like?"):
            await say(app, pilot, words)
        await settled(app, pilot, 4)
        assert all(turn.reply for turn in chat_of(app).turns)

    run_app(script)


def test_escape_stops_a_reply_at_once_and_the_next_question_is_answered(talkative: None) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        await say(app, pilot, "Tell me everything.")
        await wait_until(pilot, lambda: chat.turns and chat.turns[0].reply)
        await pilot.press("escape")
        await wait_until(pilot, lambda: chat.turns[0].stopped)
        stopped_at = chat.turns[0].reply
        await wait_until(pilot, lambda: "■ stopped" in text_of(app))
        await say(app, pilot, "And now?")
        await wait_until(pilot, lambda: len(chat.turns) == 2 and chat.turns[1].reply)
        assert chat.turns[0].reply == stopped_at
        await pilot.press("escape")

    run_app(script)


def test_a_question_goes_before_memory_work_that_has_begun(
    home: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply's first words come while the memory work of the exchange before is still going on."""
    monkeypatch.setenv("MEMLORA_STUDENT", str(tiny_student))
    begun, asked = threading.Event(), threading.Event()
    order: list[str] = []
    submit = Engine.submit

    def hold_when_begun(engine: Engine) -> None:
        """Let the memory work take no more than a step for each call of somebody else, until the question is there."""

        def look() -> None:
            if engine.activity().doing:
                begun.set()
            while begun.is_set() and not (asked.is_set() or engine._calls):
                time.sleep(0.002)

        while not asked.is_set():
            engine.call(look)

    def watched(engine: Engine, request: Request, *, priority: Priority = Priority.INTERACTIVE, **rest: Any) -> Any:
        if priority is Priority.BACKGROUND:
            if not begun.is_set():
                threading.Thread(target=hold_when_begun, args=(engine,), daemon=True).start()
            done = submit(engine, request, priority=priority, **rest)
            done.add_done_callback(lambda _: order.append("memory"))
            return done
        if begun.is_set():
            on_text = rest["on_text"]
            rest["on_text"] = lambda text: (order.append("reply"), on_text(text))
        done = submit(engine, request, priority=priority, **rest)
        if begun.is_set():
            asked.set()
        return done

    monkeypatch.setattr(Engine, "submit", watched)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await say(app, pilot, "I like tea. " * 40)
        await wait_until(pilot, begun.is_set, "the memory work has begun")
        await say(app, pilot, "And you?")
        await wait_until(pilot, lambda: "memory" in order)
        assert order[0] == "reply"

    run_app(script)


def test_typing_is_not_held_up_by_a_reply(talkative: None) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        await app.backend.run(lambda workspace: Memory.of(workspace).add("Ann likes tea", user_id="me", infer=False))
        await say(app, pilot, "Tell me everything.")
        await wait_until(pilot, lambda: chat.turns and chat.turns[0].reply)
        await wait_until(pilot, lambda: chat.panel.query(MemoryItem), "the memories it uses, while it is coming")
        app.post_message(Key("x", "x"))
        while chat.prompt.text != "x":
            await asyncio.sleep(0.001)
        assert chat.check_action("stop_reply", ()), "the reply is still coming"
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(chat.turns) == 2)
        await pilot.press("escape")
        await wait_until(pilot, lambda: chat.turns[1].reply, "replies come one after the other")
        await pilot.press("escape")

    run_app(script, size=(120, 32))


def test_the_panel_edits_undoes_deletes_and_opens_the_source(home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        turns = await app.backend.run(seed)
        chat = chat_of(app)
        await chat.show(turns[1])
        await wait_until(pilot, lambda: len(chat.panel.query(MemoryItem)) == 3)
        await wait_until(pilot, lambda: all(word in text_of(app) for word in ("~ updated", "was", "score 0.64")))

        changed = list(chat.panel.query(MemoryItem))[2]
        changed.focus()
        await wait_until(pilot, lambda: chat.focused is changed)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, SourceDialog) and "moved again" in text_of(app))
        await pilot.press("escape")

        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, EditDialog))
        app.screen.query_one(TextArea).text = "Lives in Bergen,\nup on Floyen"
        await pilot.press("enter")
        store = (await app.backend.run(lambda workspace: workspace)).store
        await wait_until(
            pilot, lambda: find_by_prefix(store, changed.entry.memory_id).text == "Lives in Bergen, up on Floyen"
        )
        await wait_until(pilot, lambda: app.backend.corrections == 2 and "2 corrections" in text_of(app))
        [row] = read_examples(corrections_file(home, "update"))
        assert json.loads(row.answer)["memory"][0]["text"] == "Lives in Bergen, up on Floyen"

        async def press(key: str) -> None:
            await wait_until(pilot, lambda: isinstance(chat.focused, MemoryItem))
            list(chat.panel.query(MemoryItem))[2].focus()
            await pilot.press(key)

        await press("u")  # the edit
        await wait_until(
            pilot, lambda: find_by_prefix(store, changed.entry.memory_id).text == "Lives in Bergen, up on the hill"
        )
        await wait_until(pilot, lambda: app.backend.corrections == 0)
        await wait_until(pilot, lambda: "» ↶ undone" in text_of(app))
        await press("u")  # the student's change
        await wait_until(
            pilot, lambda: find_by_prefix(store, changed.entry.memory_id).text == "Lives in Bergen, near the harbour"
        )
        await press("d")
        await wait_until(pilot, lambda: store.get(changed.entry.memory_id) is None)
        await wait_until(pilot, lambda: "» ✗ deleted" in text_of(app))
        await press("u")
        await wait_until(pilot, lambda: store.get(changed.entry.memory_id) is not None)

    run_app(script, size=(120, 40))


def test_commands_complete_and_act(home: Path, tmp_path: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        await pilot.press(*"/rem")
        await wait_until(pilot, lambda: chat.prompt._completions.display)
        await pilot.press("tab")
        assert chat.prompt.text == "/remember "
        await pilot.press(*"Ann likes tea", "enter")
        await wait_until(pilot, lambda: app.backend.memories == 1)
        await say(app, pilot, "/search tea")
        await wait_until(pilot, lambda: "Nearest to" in text_of(app) and "Ann likes tea" in text_of(app))
        target = tmp_path / "out.jsonl"
        await say(app, pilot, f"/export {target}")
        await wait_until(pilot, target.is_file)
        assert "Ann likes tea" in target.read_text()
        await say(app, pilot, f"/export {target}")
        await wait_until(pilot, lambda: "already exists" in text_of(app), "a file is never overwritten")
        await say(app, pilot, "/forget peanuts")
        await wait_until(pilot, lambda: "No memory has these words" in text_of(app), "the nearest is another one")
        await say(app, pilot, "/forget tea")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await wait_until(pilot, lambda: app.backend.memories == 0)
        await say(app, pilot, "/undo")
        await wait_until(pilot, lambda: app.backend.memories == 1)
        await say(app, pilot, "/etc/passwd is a file")
        await wait_until(pilot, lambda: len(chat.turns) == 1, "not a command, so it is said")
        await wait_until(pilot, lambda: chat.turns[0].memory != "none")
        await say(app, pilot, "/clear")
        await wait_until(pilot, lambda: not chat.query(ExchangeView))

    run_app(script)


def test_completions_never_take_the_place_of_what_was_typed_fast(home: Path) -> None:
    """Keys arrive faster than the completions follow when the machine is busy, or a multiplexer sends a whole line."""

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        await pilot.press(*"/rem")
        await wait_until(pilot, lambda: chat.prompt._completions.display)
        for character in "ember Ann likes tea":
            chat.prompt.post_message(Key("space" if character == " " else character, character))
        chat.prompt.post_message(Key("enter", "\r"))
        await wait_until(pilot, lambda: app.backend.memories == 1, "all of it was sent")
        assert [memory[2] for memory in store_contents(home)["memories"]] == ["Ann likes tea"]

    run_app(script)


def test_what_is_typed_on_a_reply_in_focus_goes_to_the_prompt(home: Path, tmp_path: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await say(app, pilot, HELLO)
        await settled(app, pilot)
        chat = chat_of(app)
        [view] = chat.query(ExchangeView)
        for words in ("the quick brown fox", "a second one"):
            chat.prompt.set_text("")
            view.focus()
            await wait_until(pilot, lambda: chat.focused is view)
            for character in words:  # faster than the focus moves
                view.post_message(Key("space" if character == " " else character, character))
            await wait_until(pilot, lambda words=words: chat.prompt.text == words, "every key, in order")
        view.focus()
        await wait_until(pilot, lambda: chat.focused is view)
        view.post_message(Paste(" and a paste"))
        await wait_until(pilot, lambda: chat.prompt.text == "a second one and a paste")
        (tmp_path / "notes.txt").write_text("tea")
        chat.prompt.set_text("look at ")
        chat.prompt.post_message(Paste(str(tmp_path / "notes.txt")))
        await wait_until(
            pilot, lambda: chat.prompt.text == f"look at {tmp_path / 'notes.txt'}", "no image, so it is text"
        )

    run_app(script)


def test_enter_sends_the_path_that_was_typed_and_up_goes_on_past_commands(home: Path, tmp_path: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        (tmp_path / "notes.md").write_text("there already")
        for words in ("hello one", f"/export {tmp_path / 'notes'}"):
            await say(app, pilot, words)
        await wait_until(pilot, (tmp_path / "notes").is_file, "not the longer name beside it")
        await wait_until(pilot, lambda: len(chat.turns) == 1 and chat.turns[0].reply)
        await say(app, pilot, "hello two")
        for words in ("hello two", f"/export {tmp_path / 'notes'}", "hello one"):
            await pilot.press("up")
            assert chat.prompt.text == words

    run_app(script)


def test_a_long_paste_is_folded_and_sent_whole(home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        long = "\n".join(f"line {i} \x1b[31mred" for i in range(40))
        chat.prompt.post_message(Paste(long))
        await wait_until(pilot, lambda: "pasted text 1: 40 lines" in chat.prompt.text)
        await pilot.press(*" ok", "enter")
        await wait_until(pilot, lambda: chat.turns)
        assert chat.turns[0].question.startswith("line 0 [31mred\nline 1")
        assert chat.turns[0].question.endswith("ok") and "\x1b" not in chat.turns[0].question

    run_app(script)


def test_lines_history_and_a_draft(home: Path) -> None:
    async def first(app: MemloraApp, pilot: Pilot[Any]) -> None:
        prompt = chat_of(app).prompt
        await pilot.press(*"one", "ctrl+j", *"two")
        assert prompt.text == "one\ntwo"
        await pilot.press("enter")
        assert prompt.text == ""

    async def later(app: MemloraApp, pilot: Pilot[Any]) -> None:
        prompt = chat_of(app).prompt
        await pilot.press(*"draft", "up")
        assert prompt.text == "one\ntwo", "also from the run before"
        await pilot.press("down")
        assert prompt.text == "draft"

    run_app(first)
    run_app(later)


def test_an_image_goes_with_its_caption_to_a_student_that_cannot_see(home: Path, tmp_path: Path) -> None:
    from PIL import Image
    from textual.events import Paste

    picture = tmp_path / "my cat.png"
    Image.new("RGB", (64, 48), "orange").save(picture)
    (tmp_path / "broken.png").write_bytes(b"no image")

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        chat.prompt.post_message(Paste(f"'{picture}'"))  # as a terminal gives what is dropped on it
        await wait_until(pilot, lambda: chat.attachment.image is not None)
        await wait_until(pilot, lambda: "cannot read images" in text_of(app))
        await pilot.press("backspace")
        await wait_until(pilot, lambda: chat.attachment.image is None)
        await say(app, pilot, f"/image {tmp_path / 'broken.png'}")
        await wait_until(pilot, lambda: "is not a picture" in text_of(app))
        assert chat.attachment.image is None
        await say(app, pilot, f"/image {picture} Moss asleep on the sofa")
        await wait_until(pilot, lambda: chat.attachment.image is not None)
        await say(app, pilot, "Look at him.")
        await settled(app, pilot)
        assert "▀" in text_of(app) or "▄" in text_of(app), "half-blocks, as this is no terminal that shows pictures"
        [turn] = chat.turns
        assert turn.problem is None and turn.image is not None and turn.image.caption == "Moss asleep on the sofa"
        store = (await app.backend.run(lambda workspace: workspace)).store
        message = store.exchange(turn.key).messages[0]
        assert message.image is not None and message.image.caption == "Moss asleep on the sofa"

    run_app(script, size=(110, 50))


def test_hostile_words_are_only_words(home: Path) -> None:
    nasty = "[red]no[/red] \x1b]0;gone\x07 \u202eturned <b>bold</b> [@click=app.quit]x[/]"

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        from memlora_mlx.records import Hit
        from memlora_mlx.tui.chat_controller import ChatTurn

        await wait_until_loaded(app, pilot)
        Memory.of(await app.backend.run(lambda workspace: workspace)).add(
            "[bold]tea[/bold] is nice", user_id="me", infer=False
        )
        store = (await app.backend.run(lambda workspace: workspace)).store
        [memory] = store.list(app.backend.owner)
        turn = ChatTurn(nasty, reply=f"{nasty}\n\n```\n{nasty}\n```\n", hits=(Hit(memory, None, 0.5),), problem=nasty)
        await chat_of(app).show(turn)
        await wait_until(pilot, lambda: "[bold]tea[/bold] is nice" in text_of(app))
        app.report_error(ValueError(nasty))
        await wait_until(pilot, lambda: "Error" in text_of(app))
        shown = text_of(app)
        assert "\x1b" not in shown and "\x07" not in shown and "\u202e" not in shown
        assert "[red]no[/red]" in shown and "[@click=app.quit]x[/]" in shown

    run_app(script, size=(140, 45))


def test_resizing_and_themes_lose_nothing(home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        for turn in await app.backend.run(seed):
            await chat.show(turn)
        await pilot.press(*"half a thought")
        assert chat.panel.region.width > 0
        await pilot.resize_terminal(80, 24)
        await wait_until(pilot, lambda: chat.panel.region.width == 0, "the panel makes room")
        assert chat.prompt.text == "half a thought" and "half a thought" in text_of(app)
        await pilot.press("ctrl+o")
        await wait_until(pilot, lambda: isinstance(chat.focused, MemoryItem))
        await pilot.press("ctrl+t", "ctrl+o")
        await wait_until(pilot, lambda: chat.panel.region.width == 0)
        assert app.theme == "memlora-light" and chat.focused is chat.prompt
        await pilot.resize_terminal(150, 45)
        assert chat.prompt.text == "half a thought" and len(chat.query(ExchangeView)) == 2
        await wait_until(pilot, lambda: load_settings().theme == "light", "kept for the next time")
        assert load_settings().panel, "where there is little room it is only put away"
        chat.show_panel()
        await wait_until(pilot, lambda: chat.panel.region.width > 0)
        await pilot.press("ctrl+o")
        await wait_until(pilot, lambda: not load_settings().panel)

    async def next_time(app: MemloraApp, pilot: Pilot[Any]) -> None:
        assert app.theme == "memlora-light" and chat_of(app).panel.region.width == 0
        await wait_until_loaded(app, pilot)

    run_app(script)
    run_app(next_time, size=(150, 45))


def test_leaving_waits_for_the_last_exchange(home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await say(app, pilot, HELLO)
        await wait_until(pilot, lambda: chat_of(app).turns and chat_of(app).turns[0].memory != "none")
        await pilot.press("ctrl+q")
        for _ in range(1000):
            if app._exit:
                break
            await asyncio.sleep(0.02)

    begun = time.monotonic()
    run_app(script)
    assert time.monotonic() - begun < 60
    assert [text for _, _, role, _, text, *_ in store_contents(home)["messages"] if role == "user"] == [HELLO]


@pytest.mark.parametrize("width", [140, 96, 78, 60, 30])
def test_the_status_line_gives_up_figures_before_words_and_never_the_last(width: int) -> None:
    parts = [("smollm2-135m", 0), ("▶ chat + extraction expert", 0), ("6 tok/s", 1), ("777 MB", 2)]
    line = fit_parts([*parts, ("9 memories", 0), ("2 corrections", 3), ("offline", 0)], width)
    assert len(line) <= width and line.endswith("│ " + "offline" if width < 140 else "│  offline")
    assert ("9 memories" in line) == (width >= 70) and ("2 corrections" in line) == (width > 100)
