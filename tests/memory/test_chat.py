"""The chat's replies and what is kept of them: a real engine and store, a tiny student."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memlora_mlx.errors import StoreError
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.changes import AppliedChange
from memlora_mlx.memory.chat import Chat
from memlora_mlx.memory.chat_turns import NOTHING_NOTED
from memlora_mlx.memory.results import ExtractionInput
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange, Request
from memlora_mlx.settings import load_settings


@pytest.fixture
def workspace(tiny_home: Path) -> Iterator[Workspace]:
    with Workspace(load_settings()) as opened:
        yield opened


def test_a_student_that_needs_its_expert_is_asked_through_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    stream = workspace.engine.stream

    def look(request: Request, **options: object) -> Iterator[str]:
        asked.append(request)
        return stream(replace(request, max_tokens=4), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(workspace.engine, "stream", look)
    chat = Chat(workspace.pipeline, "me", limit=3)
    chat.pipeline.options = replace(chat.pipeline.options, talks_freely=False, use_expert_in_chat=True)
    assert "".join(chat.reply("What is my cat called?")).startswith("Not mentioned")
    Memory.of(workspace).add("User has a cat called Moss", user_id="me", infer=False)
    list(chat.reply("What is my cat called?"))
    chat.pipeline.options = replace(chat.pipeline.options, talks_freely=True, use_expert_in_chat=False)
    list(chat.reply("What is my cat called?"))
    assert [request.stage for request in asked] == ["generation", None], "with a memory, and a question"
    assert "Moss" in asked[0].chat[-1][1] and len(asked[0].chat) == 1
    assert len(chat.turns) == 6 and [hit.memory.text for hit in chat.hits] == ["User has a cat called Moss"]


def test_a_student_that_cannot_talk_notes_what_it_is_told_and_says_memories_back(workspace: Workspace) -> None:
    """Without an expert the nearest memory is the reply, in the person of the one who asks."""
    chat = Chat(workspace.pipeline, "me", limit=3)
    assert chat.wants_reply("I live in Vienna."), "a student that talks replies to everything"
    chat.pipeline.options = replace(chat.pipeline.options, talks_freely=False)
    assert not chat.wants_reply("I live in Vienna.") and chat.wants_reply("Where do I live?")
    workspace.editor  # noqa: B018 - opens the store
    Memory.of(workspace).add("User lives in Vienna", user_id="me", infer=False)
    Memory.of(workspace).add("Tom lives in Graz", user_id="me", infer=False)
    assert "".join(chat.reply("Where do I live?")) == "You live in Vienna."
    assert [hit.text for hit in chat.cited] == ["User lives in Vienna"] and chat.hits == chat.cited
    assert "".join(chat.reply("Where does Tom live?")) == "Tom lives in Graz."
    assert "".join(chat.reply("And where does he live?")) == "Tom lives in Graz.", "the name of the turn before"


def test_what_was_noted_is_said_without_a_reply_that_is_stored(workspace: Workspace) -> None:
    chat = Chat(workspace.pipeline, "me", limit=3)
    added = [
        AppliedChange("ADD", "1", "User lives in Vienna"),
        AppliedChange("DELETE", "2", None, "User lives in Graz"),
    ]
    kept = chat.remember("I live in Vienna.", "", key="k", said_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert [message.role for message in workspace.store.exchange("k").messages] == ["user"]
    assert chat.noted("I live in Vienna.", replace(kept, applied=tuple(added))) == (
        "Noted: lives in Vienna\n\nForgotten: lives in Graz"
    )
    assert chat.turns[-1] == ("assistant", "Noted: lives in Vienna\n\nForgotten: lives in Graz")
    assert chat.noted("Hello.", replace(kept, applied=())) == NOTHING_NOTED


def test_a_correction_is_read_with_the_turn_before_and_stored_alone(workspace: Workspace) -> None:
    chat, read = Chat(workspace.pipeline, "me", limit=3), list[str]()
    request = workspace.pipeline.extraction_requests

    def look(exchange: Exchange) -> list[ExtractionInput]:
        found = request(exchange)
        read.append(found[0].request.chat[-1][1].partition("Input:\n")[2])
        return found

    workspace.pipeline.extraction_requests = look  # type: ignore[method-assign]
    chat.turns = [("user", "What colour do I like?"), ("assistant", "Your favourite colour is blue.")]
    chat.remember("No, it is green.", "", key="k", said_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert read[0].splitlines() == [
        "user: User: My favourite colour is blue.",
        "assistant: Assistant: Noted: Your favourite colour is blue.",
        "user: User: No, it is green.",
    ], "a question and its answer are read as what the user said"
    assert [message.text for message in workspace.store.exchange("k").messages] == ["No, it is green."]
    chat.turns += [("user", "No, red."), ("assistant", "I see.")]
    chat.remember("No, red.", "I see.", key="l", said_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert read[1].splitlines()[-2:] == ["user: User: No, red.", "assistant: Assistant: I see."]
    assert "blue" in read[1], "the turn before, and not its own"
    chat.remember("I like tea.", "", key="m", said_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert read[2].splitlines() == ["user: User: I like tea."]


def test_what_is_said_is_kept_under_the_speakers_names(workspace: Workspace) -> None:
    chat = Chat(workspace.pipeline, "me", limit=3)
    assert isinstance("".join(chat.reply("caf\udce9, please")), str), "a shell's bytes that are no UTF-8"
    read = chat.remember("I like tea.", "Good.", key="k", said_at=datetime(2026, 3, 1, tzinfo=UTC))
    kept = workspace.store.exchange(read.exchange.key).messages
    assert [(message.role, message.speaker) for message in kept] == [("user", "User"), ("assistant", "Assistant")]


def test_forgetting_takes_back_ones_own_newest_change(workspace: Workspace) -> None:
    memory = Memory.of(workspace)
    memory.add("I have a cat", user_id="bob", infer=False)
    memory.add("I have a dog", user_id="ann", infer=False)
    bob = Chat(workspace.pipeline, "bob", limit=3).owner
    assert workspace.editor.undo(scope=bob, owner_exact=True).revision.old_text == "I have a cat"
    assert [item["memory"] for item in memory.get_all(user_id="ann")["results"]] == ["I have a dog"]
    with pytest.raises(StoreError, match="nothing to undo"):
        workspace.editor.undo(scope=bob, owner_exact=True)


def test_a_line_of_any_length_is_answered_within_the_context_and_remembered_in_parts(workspace: Workspace) -> None:
    chat = Chat(workspace.pipeline, "me", limit=3)
    engine, counted = workspace.engine, []
    submitted: list[Request] = []
    stream = engine.stream

    def look(request: Request, **options: object) -> Iterator[str]:
        submitted.append(request)
        counted.append(engine.count_tokens(request.chat))
        return stream(replace(request, max_tokens=4), **options)  # type: ignore[arg-type]

    engine.stream = look  # type: ignore[method-assign]
    most = min(workspace.pipeline.options.max_context, engine.student.context)
    for line in ("I like tea. " + "word " * 20_000 + "My cat is Moss.", "x" * 200_000, "hello"):
        list(chat.reply(line))
        assert counted[-1] < most, len(line)
    first = submitted[0].chat[-1][1]
    assert "I like tea." in first and "My cat is Moss." in first and "[...]" in first
    assert submitted[-1].chat[-1][1].endswith("hello")
    parts = workspace.pipeline.extraction_requests(
        chat.remember(
            "I like tea. " + "Some words here. " * 300, "Good.", key="k", said_at=datetime(2026, 3, 1, tzinfo=UTC)
        ).exchange
    )
    assert len(parts) >= 1 and all(not part.truncated for part in parts)


def test_instructions_stand_before_the_talk_and_the_reply_has_its_limits(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    stream = workspace.engine.stream

    def look(request: Request, **options: object) -> Iterator[str]:
        asked.append(request)
        return stream(request, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(workspace.engine, "stream", look)
    chat = Chat(workspace.pipeline, "me", limit=0, instructions="Be brief. " * 5_000, reply_tokens=5)
    "".join(chat.reply("Hello"))
    assert chat.completion is not None and 0 < chat.completion.output_tokens <= 5
    "".join(chat.reply("And now?"))
    (role, text), *talk = asked[1].chat
    assert role == "system" and text.startswith("Be brief.") and "[...]" in text, "too long, it loses its middle"
    assert [said for _, said in talk][::2] == ["Hello", "And now?"] and chat.hits == ()


def test_a_template_without_a_system_prompt_gets_it_in_the_users_words(tmp_path: Path) -> None:
    from tiny_models import TEMPLATE, student_folder

    from memlora_mlx.models.loading import load_student

    folder = student_folder(tmp_path / "strict")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": refusal + TEMPLATE}))
    student = load_student(folder)
    together = student.encode((("user", "Be brief.\n\nHello"),))
    assert student.encode((("system", "Be brief."), ("user", "Hello"))) == together
