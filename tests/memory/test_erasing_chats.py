"""Erasing reaches the conversations of the chat, what waits in the queue, and backups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memlora_mlx.memory.changes import Add, EmbeddingFingerprint, Vector
from memlora_mlx.memory.erasing import Selection, erase, preview_erasing
from memlora_mlx.memory.store import conversations as talks
from memlora_mlx.memory.store.backups import back_up, read_backups
from memlora_mlx.memory.store.erase_plan import plan_retention
from memlora_mlx.memory.store.erasure import erase_planned
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, Image, Message, Scope
from memlora_mlx.serve.work_queue import WorkQueue

ANN, BEN = Scope(user_id="ann"), Scope(user_id="ben")
NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
SPACE = EmbeddingFingerprint("tests", 4)
SECRET = "I see the therapist Quibblefrotz in Graz."
FACT = "Ann sees the therapist Quibblefrotz."
CAT = "My cat is called Moss."


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store(home / "store", SPACE) as opened:
        yield opened


def vector() -> Vector:
    return np.array([1, 0, 0, 0], np.float32)


def say(store: Store, key: str, question: str, reply: str = "", owner: Scope = ANN, **values: Any) -> str:
    at = NOON + timedelta(days=values.pop("days", 0))
    conversation = talks.save_question(store, owner, question, key=key, said_at=at, **values)
    if reply:
        talks.save_reply(store, key, reply, question=question, said_at=at)
    return conversation


def remember(store: Store, key: str, said: str, fact: str, reply: str = "", owner: Scope = ANN) -> str:
    """What the memory work does. Returns the memory's id; none where the exchange is not remembered."""
    turns = [Message("user", said, "User")] + ([Message("assistant", reply, "Assistant")] if reply else [])
    exchange = Exchange(key, owner, tuple(turns), NOON, "chat", 0)
    done = store.commit(owner, [Add(fact, vector(), NOON)], exchange=exchange, message_vectors=[vector()] * len(turns))
    talks.mark_remembered(store, key)
    return done[0].memory_id if done else ""


def texts(store: Store, conversation: str) -> list[str]:
    return [turn.text for turn in talks.read_turns(store, conversation)]


def is_on_the_disk(home: Path, mark: bytes = b"quibblefrotz") -> bool:
    return any(mark in path.read_bytes().lower() for path in home.rglob("*") if path.is_file())


def test_turns_go_with_the_memory_that_came_from_them(home: Path, store: Store) -> None:
    talk = say(store, "a", SECRET, "Quibblefrotz sounds nice.")
    memory = remember(store, "a", SECRET, FACT, "Quibblefrotz sounds nice.")
    later = f"Here is what I know. {FACT} You have a cat."
    say(store, "b", "What do you know of me?", later, conversation=talk)
    remember(store, "b", "What do you know of me?", "Ann asks.", later)
    [saved] = talks.list_conversations(store, ANN)
    assert saved.name == SECRET and is_on_the_disk(home)
    would = preview_erasing(store, home, Selection(ids=(memory,)))
    done = erase(store, home, Selection(ids=(memory,)))
    assert would == done and done.turns == 3
    assert texts(store, talk) == ["What do you know of me?", "Here is what I know. You have a cat."]
    [saved] = talks.list_conversations(store, ANN)
    assert saved.name == "What do you know of me?"
    assert talks.list_conversations(store, words="Quibblefrotz") == [] and talks.list_conversations(store, words="cat")
    assert not is_on_the_disk(home) and check_store(store) == []


def test_a_turn_loses_only_the_sentence(home: Path, store: Store) -> None:
    talk = say(store, "a", f"I like tea. {SECRET}", "Tea is good for you.")
    picture = say(store, "b", "Look!", image=Image("/pictures/quibblefrotz.jpg", "Quibblefrotz at the door"))
    say(store, "c", "Quibblefrotz?")
    done = erase(store, home, Selection(containing="quibblefrotz"))
    assert done.turns == 2
    assert texts(store, talk) == ["I like tea.", "Tea is good for you."]
    [shown] = talks.read_turns(store, picture)
    assert shown.text == "Look!" and shown.image is None
    assert sorted(each.name for each in talks.list_conversations(store)) == ["I like tea.", "Look!"]
    assert not is_on_the_disk(home) and check_store(store) == []


def test_a_name_that_the_user_gave_is_replaced(home: Path, store: Store) -> None:
    talk = say(store, "a", "Hello, how are you?")
    talks.rename_conversation(store, talk, "About Quibblefrotz")
    erase(store, home, Selection(containing="quibblefrotz"))
    assert [each.name for each in talks.list_conversations(store)] == ["Hello, how are you?"]
    assert not is_on_the_disk(home)


def test_names_that_hold_the_words_are_told(home: Path, store: Store) -> None:
    said = (Message("user", "I like tea.", "Dr. Quibblefrotz"), Message("assistant", "So do I.", "Bob"))
    store.commit(ANN, [], exchange=Exchange("k", ANN, said, NOON, "talk", 0), message_vectors=[vector()] * 2)
    store.commit(Scope(user_id="quibblefrotz"), [Add("likes figs", vector(), NOON)])
    would = preview_erasing(store, home, Selection(containing="Quibblefrotz"))
    done = erase(store, home, Selection(containing="Quibblefrotz"))
    assert would.is_empty and would.names == done.names == ("Dr. Quibblefrotz", "quibblefrotz")
    assert erase(store, home, Selection(person="quibblefrotz")).names == ()
    assert preview_erasing(store, home, Selection(containing="quibblefrotz")).names == ("Dr. Quibblefrotz",)


def test_what_was_said_before_a_day_goes_from_conversations(home: Path, store: Store) -> None:
    talk = say(store, "a", SECRET, "I see.")
    say(store, "b", CAT, "A nice name.", conversation=talk, days=10)
    say(store, "c", "Quibblefrotz again.")
    erase(store, home, Selection(before=NOON + timedelta(days=5)))
    [left] = talks.list_conversations(store)
    assert left.name == CAT and texts(store, talk) == [CAT, "A nice name."]
    assert not is_on_the_disk(home) and check_store(store) == []


def test_a_person_goes_with_their_conversations(home: Path, store: Store) -> None:
    say(store, "a", SECRET, "I see.")
    ben = say(store, "b", CAT, "A nice name.", owner=BEN)
    erase(store, home, Selection(person="ann"))
    assert [each.id for each in talks.list_conversations(store)] == [ben]
    assert not is_on_the_disk(home) and not is_on_the_disk(home, b'"ann"') and check_store(store) == []


def test_everything_goes_with_all_conversations(home: Path, store: Store) -> None:
    say(store, "a", SECRET, "I see.")
    back_up(store.database, date(2026, 5, 8))
    WorkQueue(home).put("add", {"messages": [{"role": "user", "content": SECRET}], "user_id": "ann"})
    done = erase(store, home, Selection(everything=True))
    assert done.turns == 2 and talks.list_conversations(store) == []
    assert not is_on_the_disk(home) and check_store(store) == []


def test_what_is_erased_before_it_was_remembered_stays_forgotten(home: Path, store: Store) -> None:
    say(store, "a", SECRET, "I see.")
    say(store, "b", CAT)
    erase(store, home, Selection(containing="quibblefrotz"))
    assert remember(store, "a", SECRET, FACT) == "" and remember(store, "b", CAT, "Ann has a cat.") != ""
    assert not is_on_the_disk(home)


def queued(home: Path) -> list[list[str]]:
    folder = WorkQueue(home).folder
    calls = [json.loads(path.read_text())["arguments"] for path in sorted(folder.rglob("*.json"))]
    return [[message["content"] for message in call["messages"]] for call in calls]


def test_what_waits_in_the_queue_loses_the_words(home: Path, store: Store) -> None:
    queue = WorkQueue(home)
    for content in (f"{CAT} {SECRET}", SECRET, CAT):
        said = [{"role": "user", "content": content}, {"role": "assistant", "content": "I see."}]
        queue.put("add", {"messages": said, "user_id": "ann", "key": "k"})
    queue.fail(queue.next())  # type: ignore[arg-type]
    would = preview_erasing(store, home, Selection(containing="quibblefrotz"))
    assert is_on_the_disk(home) and not would.is_empty
    assert would == erase(store, home, Selection(containing="quibblefrotz"))
    assert sorted(queued(home)) == [[CAT, "I see."], [CAT, "I see."]] and not is_on_the_disk(home)


def test_queued_calls_of_a_person_and_from_before_a_day_go(home: Path, store: Store) -> None:
    queue = WorkQueue(home)
    for user, content, at in (("ann", SECRET, NOON), ("ben", CAT, NOON + timedelta(days=9)), ("ben", "Old.", NOON)):
        said = [{"role": "user", "content": content}]
        queue.put("add", {"messages": said, "user_id": user, "timestamp": at.isoformat()})
    say(store, "a", "Hello there.")
    erase(store, home, Selection(person="ann"))
    assert queued(home) == [[CAT], ["Old."]] and not is_on_the_disk(home)
    erase(store, home, Selection(before=NOON + timedelta(days=1)))
    assert queued(home) == [[CAT]]


def test_backups_go_also_where_the_store_has_lost_the_words_already(home: Path, store: Store) -> None:
    talk = say(store, "a", SECRET)
    say(store, "b", CAT)
    remember(store, "b", CAT, "Ann has a cat.")
    back_up(store.database, date(2026, 5, 8))
    talks.delete_conversation(store, talk, with_memories=True)
    store.database.compact()
    back_up(store.database, date(2026, 5, 9))
    erase(store, home, Selection(containing="quibblefrotz"))
    assert [each.day for each in read_backups(store.folder)] == [date(2026, 5, 9)] and not is_on_the_disk(home)


def test_deleting_a_memory_leaves_the_conversation_as_it_was_held(store: Store) -> None:
    talk = say(store, "a", SECRET, "I see.")
    store.delete(remember(store, "a", SECRET, FACT))
    assert store.count() == 0 and texts(store, talk) == [SECRET, "I see."]


def test_turns_are_kept_as_long_as_messages_are(home: Path, store: Store) -> None:
    talk = say(store, "a", SECRET, "I see.")
    memory = remember(store, "a", SECRET, "Ann sees a doctor.")
    say(store, "b", CAT, conversation=talk, days=10)
    back_up(store.database, date(2026, 5, 8))
    day = NOON + timedelta(days=5)
    erase_planned(store, lambda connection: plan_retention(connection, None, day), keep_backups=True)
    assert texts(store, talk) == [CAT] and [one.id for one in store.list()] == [memory]
    assert len(read_backups(store.folder)) == 1 and check_store(store) == []
    assert not any(b"quibblefrotz" in path.read_bytes().lower() for path in store.folder.glob("memories.db*"))
