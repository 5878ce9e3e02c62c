"""The keys of the chat: copy, answer again, edit, undo, stop, quit, second keys, own keys, and commands that do not exist."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pilots import noticed, run_app, text_of, wait_until, wait_until_loaded
from textual.events import Paste
from textual.pilot import Pilot

from memlora_mlx.errors import UsageError
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.changes import AppliedChange
from memlora_mlx.memory.results import ExchangeResult
from memlora_mlx.records import Exchange, Message, Scope
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.chat_controller import ChatTurn
from memlora_mlx.tui.clipboard import COPY_FILE, refusal
from memlora_mlx.tui.commands import BY_NAME
from memlora_mlx.tui.keymap import actions, read_keymap
from memlora_mlx.tui.screens.chat import ChatScreen
from memlora_mlx.tui.screens.help import HelpScreen
from memlora_mlx.tui.screens.memories import MemoriesScreen
from memlora_mlx.tui.widgets.exchange import ExchangeView

REPLY = "Two lines:\n\n```python\nprint(1)\n```\n"


def chat_of(app: MemloraApp) -> ChatScreen:
    assert isinstance(app.screen, ChatScreen)
    return app.screen


async def one_exchange(app: MemloraApp, pilot: Pilot[Any]) -> ExchangeView:
    await wait_until_loaded(app, pilot)
    view = await chat_of(app).show(ChatTurn("How?", reply=REPLY, said_at=datetime(2026, 3, 1, tzinfo=UTC)))
    await wait_until(pilot, lambda: "print" in text_of(app))
    view.make_code_focusable()
    return view


def test_y_copies_the_reply_and_in_a_code_block_the_code(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no pbcopy
    for name in ("TERM_PROGRAM", "VTE_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        view = await one_exchange(app, pilot)
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.focused is view)
        await pilot.press("y")
        await wait_until(pilot, lambda: app.clipboard == REPLY.strip())
        await pilot.press("tab")
        await wait_until(pilot, lambda: getattr(app.focused, "code", None))
        await pilot.press("y")
        await wait_until(pilot, lambda: app.clipboard.strip() == "print(1)")
        assert not (tiny_home / COPY_FILE).exists()
        monkeypatch.setenv("TERM_PROGRAM", "Apple_Terminal")
        await pilot.press("y")
        await wait_until(pilot, lambda: (tiny_home / COPY_FILE).is_file())
        assert (tiny_home / COPY_FILE).read_text().strip() == "print(1)"
        assert stat.S_IMODE((tiny_home / COPY_FILE).stat().st_mode) & 0o077 == 0

    run_app(script)


def test_a_text_that_is_too_long_for_the_terminal_is_not_sent_to_it() -> None:
    assert refusal("a" * 1000, {"TERM": "xterm"}) is None
    assert refusal("a" * 100_000, {"TERM": "xterm"}) is not None
    assert refusal("a", {"TERM": "linux"}) is not None


def test_e_puts_the_question_into_the_prompt_and_r_answers_again(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        view = await one_exchange(app, pilot)
        await pilot.press("escape", "e")
        await wait_until(pilot, lambda: chat_of(app).prompt.text == "How?" and chat_of(app).prompt.has_focus)
        chat_of(app).prompt.set_text("")
        await pilot.press("escape", "r")
        await wait_until(pilot, lambda: view.turn.reply not in ("", REPLY) and view.turn.memory == "done")
        assert chat_of(app).turns == [view.turn], "in its place, not below it"

    run_app(script)


def test_u_on_an_exchange_undoes_what_was_stored_from_it(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        chat.prompt.set_text("I moved to Rome.")
        await pilot.press("enter")
        await wait_until(pilot, lambda: chat.turns and chat.turns[0].memory == "done")
        assert chat.turns[0].remembered is not None
        stored = [each for each in chat.turns[0].remembered.applied if each.event == "ADD"]
        await pilot.press("escape", "u")
        if stored:
            await wait_until(pilot, lambda: len(chat.turns[0].undone) == len(stored))
            left = await app.backend.run(lambda opened: Memory.of(opened).get_all(user_id="me")["results"])
            assert left == []
            app.run_chat_command(BY_NAME["redo"], "")
            await wait_until(pilot, lambda: len(chat.turns[0].undone) == len(stored) - 1, "it stands again")
        else:
            await wait_until(pilot, lambda: "Nothing was stored" in text_of(app))

    run_app(script)


def test_what_a_command_undoes_is_marked_on_its_exchange_and_redo_says_what_it_needs(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat, text = chat_of(app), "User lives in Vienna"
        added = await app.backend.run(lambda opened: Memory.of(opened).add(text, user_id="me", infer=False)["results"])
        applied = (AppliedChange("ADD", added[0]["id"], text),)
        said = Exchange("k", Scope("me"), (Message("user", "I live in Vienna."),), None, "chat", 0)
        turn = ChatTurn("I live in Vienna.", reply="Noted: lives in Vienna", is_noted=True, memory="done")
        turn.remembered = ExchangeResult(said, applied=applied)
        await chat.show(turn)
        await wait_until(pilot, lambda: "u undoes" in text_of(app))
        app.run_chat_command(BY_NAME["undo"], "")
        await wait_until(pilot, lambda: "↶ undone" in text_of(app) and "u undoes" not in text_of(app))
        app.run_chat_command(BY_NAME["redo"], "")
        await wait_until(pilot, lambda: "u undoes" in text_of(app))
        app.run_chat_command(BY_NAME["redo"], "")
        await wait_until(pilot, lambda: "undo one first" in noticed(app))

    run_app(script)


def test_an_unknown_command_is_refused_with_the_nearest_name(tiny_home: Path, tmp_path: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        chat.prompt.set_text("/clearr")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "Did you mean /clear?" in text_of(app))
        assert chat.prompt.text == "/clearr" and not chat.turns and chat.prompt._history.earlier("") is None
        chat.prompt.set_text(f"{tmp_path} is a folder")
        await pilot.press("enter")
        await wait_until(pilot, lambda: chat.turns)

    run_app(script)


def test_ctrl_c_asks_twice_before_it_quits(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await pilot.press("ctrl+c")
        await wait_until(pilot, lambda: "Press Ctrl+C again" in text_of(app))
        assert app.is_running
        await pilot.press("ctrl+c")
        await wait_until(pilot, lambda: not app.is_running)

    run_app(script)


def test_function_keys_have_a_second_key(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        await pilot.press("ctrl+x", "3")
        await wait_until(pilot, lambda: isinstance(app.screen, MemoriesScreen))
        await pilot.press("ctrl+x", "2")
        await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen))
        await pilot.press("3")
        assert chat_of(app).prompt.text == "3", "a digit alone is text"
        await pilot.press("ctrl+x", "1")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen) and "F3, Ctrl+X 3" in text_of(app))

    run_app(script)


def test_a_long_text_is_written_in_the_editor(tiny_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf " and Ann\\nlikes tea" >> "$1"\n')
    editor.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(editor))
    from contextlib import nullcontext

    monkeypatch.setattr(MemloraApp, "suspend", lambda app: nullcontext())

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        prompt = chat_of(app).prompt
        prompt.set_text("I like tea")
        await pilot.press("ctrl+x", "ctrl+e")
        await wait_until(pilot, lambda: prompt.text == "I like tea and Ann\nlikes tea")
        monkeypatch.setenv("VISUAL", "no-such-editor")
        await pilot.press("ctrl+g")
        await wait_until(pilot, lambda: "no-such-editor" in text_of(app))

    run_app(script)


def test_own_keys_take_the_place_of_those_of_memlora(tiny_home: Path) -> None:
    tiny_home.mkdir(exist_ok=True)
    (tiny_home / "config.toml").write_text(
        '[keys]\n"chat.panel" = "ctrl+b"\n"chat.stop" = "ctrl+k"\n', encoding="utf-8"
    )
    assert read_keymap(tiny_home)["chat.browse"] == "escape", "which loses its key otherwise"

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        await wait_until(pilot, lambda: app._keymap)
        await wait_until(pilot, lambda: "panel on the right (Ctrl+B)" in text_of(app), "the first words name it")
        is_shown = chat.panel.region.width > 0
        await pilot.press("ctrl+b")
        await wait_until(pilot, lambda: (chat.panel.region.width > 0) != is_shown)
        await pilot.press("f1")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen) and "Ctrl+B" in text_of(app))

    run_app(script, size=(110, 50))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('"chat.panell" = "ctrl+b"', "did you mean 'chat.panel'"),
        ('"prompt.send" = "ctrl+b"', "cannot be changed"),
        ('"chat.panel" = 3', "it takes a key"),
    ],
)
def test_a_wrong_key_is_told_in_one_line(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "config.toml").write_text(f"[keys]\n{line}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=told):
        read_keymap(tmp_path)


def test_every_action_that_has_an_id_can_be_given_a_key() -> None:
    found = [name for name, _, _ in actions()]
    assert len(found) == len(set(found)) and {"app.help", "exchange.copy", "memory.edit", "prompt.editor"} <= set(found)


LONG = "\n".join(f"line {number} of the paste" for number in range(40))


def test_a_long_message_is_folded_and_comes_back_from_the_history_as_itself(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        chat = chat_of(app)
        chat.prompt.post_message(Paste(LONG))
        await wait_until(pilot, lambda: "pasted text 1: 40 lines" in chat.prompt.text)
        await pilot.press("enter")
        await wait_until(pilot, lambda: chat.turns and "35 lines" in text_of(app))
        assert chat.turns[0].question == LONG and "line 4 of" in text_of(app) and "line 5 of" not in text_of(app)
        await pilot.press("up")
        await wait_until(pilot, lambda: "pasted text 1: 40 lines" in chat.prompt.text)
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(chat.turns) == 2)
        assert chat.turns[1].question == LONG

    run_app(script)


def test_a_message_that_a_reply_cannot_read_whole_is_told_before_it_is_sent(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        prompt = chat_of(app).prompt
        prompt.post_message(Paste("tea " * 1000))
        await wait_until(pilot, lambda: "pasted" in prompt.text)
        assert not prompt.border_subtitle
        prompt.post_message(Paste("tea " * 20_000))
        await wait_until(pilot, lambda: "reads only its ends" in str(prompt.border_subtitle))
        assert "about 21,000 tokens" in str(prompt.border_subtitle)
        prompt.set_text("")
        await wait_until(pilot, lambda: not prompt.border_subtitle)

    run_app(script)


def test_the_place_one_reads_stays_while_text_comes_below(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        view = await one_exchange(app, pilot)
        chat = chat_of(app)
        for number in range(12):
            await chat.show(ChatTurn(f"Question {number}", reply="An answer."))
        await wait_until(pilot, lambda: "Question 11" in text_of(app) and "below" not in text_of(app))
        await pilot.press("pageup")
        await wait_until(pilot, lambda: "more below" in text_of(app))
        before = chat.log_view.scroll_y
        await view.markdown.update("An answer.")  # the height of what is above stays out of this
        stream_to = list(chat.query(ExchangeView))[-1].markdown
        before = chat.log_view.scroll_y
        await stream_to.append("\n\n".join(f"new line {number}" for number in range(30)))
        await wait_until(pilot, lambda: "new text below" in text_of(app))
        assert abs(chat.log_view.scroll_y - before) <= 1 and "new line 29" not in text_of(app)
        await pilot.press("ctrl+end")
        await wait_until(pilot, lambda: "new line 29" in text_of(app) and "below" not in text_of(app))

    run_app(script)
