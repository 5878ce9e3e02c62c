"""The user's edits of memories, through `Memory` and the editing service, with a real store, engine and tiny models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memlora_mlx.distill.examples import read_examples
from memlora_mlx.errors import MemoryNotFound, StoreError, UsageError
from memlora_mlx.memory import inputs
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.changes import Add, Delete
from memlora_mlx.memory.corrections import corrections_file, count_corrections
from memlora_mlx.memory.store.history import memory_history
from memlora_mlx.records import Exchange, Message, Scope

ANN, BOB = Scope(user_id="ann"), Scope(user_id="bob")
NOON = datetime(2023, 5, 8, 12, tzinfo=UTC)


@pytest.fixture
def memory(tiny_home: Path) -> Iterator[Memory]:
    with Memory() as opened:
        yield opened


def extracted(memory: Memory, text: str, key: str = "x1", owner: Scope = ANN) -> str:
    """A memory that the student has extracted from an exchange."""
    [vector] = memory.workspace.engine.embed([text])
    exchange = Exchange(key, owner, (Message("user", text),), NOON, "chat", 0)
    [added] = memory.workspace.store.commit(owner, [Add(text, vector)], exchange=exchange) or []
    return added.memory_id


def answers(memory: Memory) -> list[object]:
    file = corrections_file(memory.workspace.settings.home, "extraction")
    return [json.loads(example.answer) for example in read_examples(file)] if file.exists() else []


def text_of(memory: Memory, memory_id: str) -> str | None:
    found = memory.workspace.store.get(memory_id)
    return found and found.text


def events(memory: Memory, memory_id: str) -> list[tuple[str, str, bool]]:
    return [(line.event, line.actor, line.undone) for line in memory_history(memory.workspace.store, memory_id)]


def test_an_edit_is_trained_on_until_it_is_undone_and_again_after_redo(memory: Memory) -> None:
    rome = extracted(memory, "Ann lives in Rome")
    memory.update(rome, "Ann lives in Bergen")
    assert answers(memory) == [{"facts": ["Ann lives in Bergen"]}]
    memory.undo(user_id="ann")
    assert answers(memory) == [] and text_of(memory, rome) == "Ann lives in Rome"
    assert memory.redo(user_id="ann")["actor_id"] == "redo"
    assert answers(memory) == [{"facts": ["Ann lives in Bergen"]}] and text_of(memory, rome) == "Ann lives in Bergen"


def test_the_correction_of_a_deletion_comes_and_goes_alike(memory: Memory) -> None:
    rome = extracted(memory, "Ann lives in Rome")
    memory.delete(rome)
    assert answers(memory) == [{"facts": []}]
    memory.undo(user_id="ann")
    assert answers(memory) == []
    memory.redo(user_id="ann")
    assert answers(memory) == [{"facts": []}] and text_of(memory, rome) is None
    memory.undo(user_id="ann")
    assert answers(memory) == [] and text_of(memory, rome) == "Ann lives in Rome"


def test_an_undone_extraction_is_a_correction_until_redo(memory: Memory) -> None:
    rome = extracted(memory, "Ann lives in Rome")
    memory.undo(user_id="ann")
    assert answers(memory) == [{"facts": []}] and text_of(memory, rome) is None
    memory.redo(user_id="ann")
    assert answers(memory) == [] and text_of(memory, rome) == "Ann lives in Rome"
    [hit] = memory.find("Rome")
    assert hit.memory.id == rome, "a search finds it again"


@pytest.mark.parametrize("text", ["Ann lives in Rome", "  Ann lives\n in Rome "])
def test_an_unchanged_text_is_no_edit_and_says_so(memory: Memory, text: str) -> None:
    rome = extracted(memory, "Ann lives in Rome")
    assert "unchanged" in memory.update(rome, text)["message"]
    assert not memory.workspace.editor.revise(rome, text).is_change
    assert events(memory, rome) == [("ADD", "model", False)] and answers(memory) == []
    assert "unchanged" not in memory.update(rome, text, {"sure": True})["message"]
    assert "unchanged" in memory.update(rome, text, {"sure": True})["message"], "the same metadata"
    assert "unchanged" in memory.update(rome)["message"]


def test_undo_and_redo_stay_in_the_scope_they_are_given(memory: Memory) -> None:
    anns, bobs = extracted(memory, "Ann lives in Rome"), extracted(memory, "Bob lives in Oslo", "x2", BOB)
    memory.update(bobs, "Bob lives in Bergen")
    memory.undo(user_id="ann")
    assert text_of(memory, anns) is None and text_of(memory, bobs) == "Bob lives in Bergen"
    with pytest.raises(StoreError, match="nothing to undo"):
        memory.undo(user_id="ann")
    with pytest.raises(StoreError, match="nothing to redo"):
        memory.redo(user_id="bob")
    bobs_line = memory_history(memory.workspace.store, bobs)[-1].id
    with pytest.raises(StoreError, match="no change has the number"):
        memory.undo(bobs_line, user_id="ann")
    memory.redo(user_id="ann")
    assert text_of(memory, anns) == "Ann lives in Rome"
    memory.undo(bobs_line, user_id="bob")
    assert text_of(memory, bobs) == "Bob lives in Oslo"


def test_whose_change_is_undone_has_to_be_said(memory: Memory) -> None:
    """Another program may have changed the store meanwhile, for somebody else."""
    bobs = extracted(memory, "Bob lives in Oslo", "x2", BOB)
    for reverse in (memory.undo, memory.redo):
        with pytest.raises(UsageError, match="say whose memories: at least one of user_id"):
            reverse()
    assert text_of(memory, bobs) == "Bob lives in Oslo"
    [line] = memory_history(memory.workspace.store, bobs)
    memory.undo(line.id)
    assert text_of(memory, bobs) is None, "a line of history says it"


def test_redo_makes_several_undone_changes_again_in_order(memory: Memory) -> None:
    one = extracted(memory, "a")
    memory.update(one, "b")
    memory.update(one, "c")
    for expected in ("b", "a", None):
        memory.undo(user_id="ann")
        assert text_of(memory, one) == expected
    for expected in ("a", "b", "c"):
        memory.redo(user_id="ann")
        assert text_of(memory, one) == expected
    with pytest.raises(StoreError, match="nothing to redo"):
        memory.redo(user_id="ann")
    memory.undo(user_id="ann")
    assert text_of(memory, one) == "b", "an undo after a redo reverts the same change again"
    assert [event for event in events(memory, one) if event[1] not in ("undo", "redo")] == [
        ("ADD", "model", False),
        ("UPDATE", "user", False),
        ("UPDATE", "user", True),
    ]


def test_nothing_can_be_redone_after_the_memory_has_changed(memory: Memory) -> None:
    one, other = extracted(memory, "a"), extracted(memory, "z", "x2")
    memory.update(one, "b")
    undo = memory.undo(user_id="ann")
    memory.update(other, "y")
    memory.update(one, "c")
    with pytest.raises(StoreError, match="nothing to redo"):
        memory.redo(user_id="ann")
    with pytest.raises(StoreError, match="changed since"):
        memory.redo(undo["id"])
    with pytest.raises(StoreError, match="not an undo"):
        memory.redo(memory_history(memory.workspace.store, one)[0].id)
    memory.undo(user_id="ann")
    assert text_of(memory, one) == "a"
    memory.redo(user_id="ann")
    assert text_of(memory, one) == "c", "the last undo can be redone, not the one before"
    assert text_of(memory, other) == "y"


def test_only_the_limit_of_a_memory_limits_an_edit(memory: Memory) -> None:
    long = "Ann " + "walks " * 100 + "home"
    rome = extracted(memory, "Ann lives in Rome")
    memory.update(rome, long)
    assert text_of(memory, rome) == long and len(long) > 586
    assert answers(memory) == [], "the student cannot write a fact of this length, so half of it is not taught"
    with pytest.raises(UsageError, match="at most 1,000,000 characters; this text has 1,000,001"):
        memory.update(rome, "a" * (inputs.MAX_MEMORY + 1))
    with pytest.raises(UsageError, match="needs some text"):
        memory.workspace.editor.revise(rome, " \n ")
    with pytest.raises(MemoryNotFound):
        memory.workspace.editor.revise("nothing", "x")


def test_a_corrected_deletion_keeps_the_facts_it_was_made_of(memory: Memory) -> None:
    coffee = extracted(memory, "Ann drinks coffee")
    exchange = Exchange("x2", ANN, (Message("user", "No coffee any more."),), NOON, "chat", 1)
    memory.workspace.store.commit(ANN, [Delete(coffee)], exchange=exchange)
    memory.workspace.editor.undo(facts=["Ann drinks no coffee"])
    file = corrections_file(memory.workspace.settings.home, "update")
    [before] = read_examples(file)
    memory.update(coffee, "Ann drinks coffee at home")
    assert before in list(read_examples(file)), "a later edit, which does not know the facts, keeps the example"


def test_what_is_deleted_for_good_is_not_trained_on(memory: Memory) -> None:
    rome, oslo = extracted(memory, "Ann lives in Rome"), extracted(memory, "Bob lives in Oslo", "x2", BOB)
    memory.update(rome, "Ann lives in Bergen")
    memory.update(oslo, "Bob lives in Bergen")
    memory.delete_all(user_id="ann")
    assert answers(memory) == [{"facts": ["Bob lives in Bergen"]}]


def test_a_change_stands_when_its_example_cannot_be_written(memory: Memory, caplog: pytest.LogCaptureFixture) -> None:
    rome = extracted(memory, "Ann lives in Rome")
    file = corrections_file(memory.workspace.settings.home, "extraction")
    file.parent.mkdir(parents=True)
    file.write_text("not JSON\n")
    edit = memory.workspace.editor.revise(rome, "Ann lives in Bergen")
    assert edit.memory.text == text_of(memory, rome) == "Ann lives in Bergen"
    assert edit.problem is not None and "line 1" in edit.problem
    memory.undo(user_id="ann")
    assert text_of(memory, rome) == "Ann lives in Rome" and "could not be written" in caplog.text
    assert file.read_text() == "not JSON\n"


def test_only_the_user_can_read_the_corrections(memory: Memory) -> None:
    memory.update(extracted(memory, "Ann lives in Rome"), "Ann lives in Bergen")
    file = corrections_file(memory.workspace.settings.home, "extraction")
    assert file.stat().st_mode & 0o077 == 0 and count_corrections(memory.workspace.settings.home) == 1
