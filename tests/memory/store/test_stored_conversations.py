"""Conversations of the chat in the store: kept before the reply, listed, searched, renamed, deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from memlora_mlx.errors import StoreError, UsageError
from memlora_mlx.memory.changes import EmbeddingFingerprint, Vector
from memlora_mlx.memory.store import conversations as talks
from memlora_mlx.memory.store import full_text
from memlora_mlx.memory.store.database import Database
from memlora_mlx.memory.store.erase_plan import Selection
from memlora_mlx.memory.store.erasure import erase_everything, erase_rows
from memlora_mlx.memory.store.integrity import check_store, repair_store
from memlora_mlx.memory.store.schema import MIGRATIONS
from memlora_mlx.memory.store.store import Add, Store
from memlora_mlx.records import Exchange, Image, Message, Scope

ANN, BEN = Scope(user_id="ann"), Scope(user_id="ben")
NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
SPACE = EmbeddingFingerprint("tests", 4)


def vector(at: int = 0) -> Vector:
    made = np.zeros(4, np.float32)
    made[at] = 1.0
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path, SPACE) as opened:
        yield opened


def say(
    store: Store,
    key: str,
    question: str,
    reply: str = "",
    *,
    conversation: str | None = None,
    minutes: int = 0,
    owner: Scope = ANN,
) -> str:
    at = NOON + timedelta(minutes=minutes)
    conversation = talks.save_question(store, owner, question, key=key, said_at=at, conversation=conversation)
    if reply:
        talks.save_reply(store, key, reply, question="", said_at=at + timedelta(seconds=5))
    return conversation


def remember(store: Store, key: str, said: str, fact: str, at: int = 0) -> str:
    """What the memory work does: an exchange with one memory. Returns the memory's id."""
    exchange = Exchange(key, ANN, (Message("user", said, "User", said_at=NOON),), NOON, "chat", 0)
    [done] = store.commit(ANN, [Add(fact, vector(at), NOON)], exchange=exchange, message_vectors=[vector(at)]) or []
    talks.mark_remembered(store, key)
    return done.memory_id


def texts(store: Store, conversation: str, **chosen: object) -> list[str]:
    return [turn.text for turn in talks.read_turns(store, conversation, **chosen)]  # type: ignore[arg-type]


def test_words_are_kept_before_there_is_a_reply(store: Store, tmp_path: Path) -> None:
    conversation = say(store, "a", "I was born in Cork in 1979.")
    with Store(tmp_path, SPACE) as other:  # another process
        [turn] = talks.read_turns(other, conversation)
    assert (turn.role, turn.text, turn.said_at) == ("user", "I was born in Cork in 1979.", NOON)
    assert turn.state == "complete" and not turn.is_remembered


def test_a_conversation_is_named_after_its_first_words(store: Store) -> None:
    long = "Tell me about the history of the railway between Cork and Dublin, please"
    first, second = say(store, "a", f"\n\n{long}\nand more"), say(store, "b", "Hi", minutes=1)
    assert [each.name for each in talks.list_conversations(store, ANN)] == [
        "Hi",
        "Tell me about the history of the railway …",
    ]
    assert talks.rename_conversation(store, first, " Trains\nof Ireland ") == "Trains of Ireland"
    say(store, "c", "And buses?", conversation=first, minutes=2)
    found = talks.list_conversations(store, ANN)
    assert [(each.id, each.name, each.turns) for each in found] == [(first, "Trains of Ireland", 2), (second, "Hi", 1)]
    with pytest.raises(UsageError, match="needs a name"):
        talks.rename_conversation(store, first, " \n ")


def test_a_reply_is_stored_once_and_may_be_given_again(store: Store) -> None:
    conversation = say(store, "a", "Where?", "In Cork")
    talks.save_reply(store, "a", "In Dublin", question="", said_at=NOON, state="cut")
    assert [(turn.text, turn.state) for turn in talks.read_turns(store, conversation)] == [
        ("Where?", "complete"),
        ("In Dublin", "cut"),
    ]
    talks.save_question(store, ANN, "Where?", key="a", said_at=NOON, conversation=conversation)
    assert texts(store, conversation) == ["Where?", "In Dublin"]
    talks.save_reply(store, "nobody asked", "Nothing", question="", said_at=NOON)
    assert talks.list_conversations(store, ANN, words="nothing") == []
    assert talks.list_conversations(store, ANN, words="Cork") == []


def test_replies_stand_behind_their_questions_whenever_they_end(store: Store) -> None:
    conversation = say(store, "a", "First?")
    say(store, "b", "Second?", conversation=conversation, minutes=1)
    talks.save_reply(store, "b", "Two", question="", said_at=NOON)
    talks.save_reply(store, "a", "One", question="", said_at=NOON)
    say(store, "c", "Third?", conversation=conversation, minutes=2)
    assert texts(store, conversation) == ["First?", "One", "Second?", "Two", "Third?"]
    assert texts(store, conversation, last=2) == ["Second?", "Two", "Third?"]
    assert texts(store, conversation, last=1, since="b") == ["Second?", "Two", "Third?"]
    assert texts(store, conversation, last=9) == texts(store, conversation)
    talks.delete_turns(store, "b")
    assert texts(store, conversation) == ["First?", "One", "Third?"]


def test_images_come_back_with_their_turns(store: Store) -> None:
    talks.save_question(store, ANN, "Look", key="a", said_at=NOON, image=Image("/x/cat.png", "a cat"))
    latest = talks.latest_conversation(store, ANN)
    assert latest is not None
    assert talks.read_turns(store, latest.id)[0].image == Image("/x/cat.png", "a cat")


def test_conversations_are_found_by_words_of_any_turn_and_by_name(store: Store) -> None:
    cats = say(store, "a", "My cat Moss sleeps all day.", "Cats do that, especially in Reykjavík.")
    talks.rename_conversation(store, cats, "Pets")
    say(store, "b", "We visited the lighthouse.", "Lovely!", minutes=1)
    say(store, "c", "東京に住んでいます", minutes=2)
    say(store, "d", "My cat is called Tom.", minutes=3, owner=BEN)

    def found(words: str) -> list[str]:
        return [each.name for each in talks.list_conversations(store, ANN, words=words)]

    assert found("lightho") == ["We visited the lighthouse."]
    assert found("sleeping cat") == ["Pets"]
    assert found("reykjavik") == ["Pets"] and found("pet") == ["Pets"]
    assert found("東京") == ["東京に住んでいます"]
    assert found("cat lighthouse") == [] and found('"') == [] and found("NOT * (") == []
    [hit] = talks.list_conversations(store, ANN, words="Moss")
    assert hit.excerpt == "My cat Moss sleeps all day." and hit.found_key == "a"
    assert len(talks.list_conversations(store, words="cat")) == 2  # of everybody


def test_an_excerpt_shows_the_words_that_were_found() -> None:
    long = f"{'before ' * 40}the lighthouse {'after ' * 40}"
    piece = talks.excerpt(long, ["lighthouse"])
    assert "lighthouse" in piece and piece.startswith("… ") and piece.endswith(" …") and len(piece) < 120
    assert talks.excerpt("short", ["nothing"]) == "short"


def test_the_beginning_of_an_id_is_enough(store: Store) -> None:
    conversation = say(store, "a", "Hello")
    assert talks.find_conversation(store, conversation[:8]).id == conversation
    with pytest.raises(StoreError, match="conversations list"):
        talks.find_conversation(store, "zzz")
    with pytest.raises(StoreError, match="no conversation"):
        talks.find_conversation(store, "")


def test_a_memory_leads_to_its_place(store: Store) -> None:
    conversation = say(store, "a", "I live in Vienna.", "Noted.")
    memory = store.get(remember(store, "a", "I live in Vienna.", "lives in Vienna"))
    assert memory is not None
    place = talks.conversation_of(store, memory.exchange_key)
    assert place is not None and place.id == conversation
    assert [turn.is_remembered for turn in talks.read_turns(store, conversation)] == [True, True]
    assert talks.conversation_of(store, "elsewhere") is None and talks.conversation_of(store, None) is None


def test_deleting_a_conversation_may_leave_what_was_remembered(store: Store) -> None:
    conversation = say(store, "a", "I live in Vienna.", "Noted.")
    memory = remember(store, "a", "I live in Vienna.", "lives in Vienna")
    assert talks.delete_conversation(store, conversation, with_memories=False) == 0
    assert store.get(memory) is not None and store.exchange("a").messages[0].text == "I live in Vienna."
    assert talks.list_conversations(store) == [] and talks.list_conversations(store, words="Vienna") == []
    assert check_store(store) == []


def test_deleting_a_conversation_with_its_memories_leaves_no_words(store: Store, tmp_path: Path) -> None:
    say(store, "z", "I like tea.")
    remember(store, "z", "I like tea.", "likes tea", 1)
    conversation = say(store, "a", "I live in Vindobona.", "Noted: Vindobona.", minutes=1)
    gone = remember(store, "a", "I live in Vindobona.", "lives in Vindobona")
    say(store, "y", "And cake.", minutes=2)
    kept = remember(store, "y", "And cake.", "likes cake", 2)
    assert talks.remembered_count(store, conversation) == 1
    assert talks.delete_conversation(store, conversation, with_memories=True) == 1
    assert store.get(gone) is None and store.get(kept) is not None
    assert len(talks.list_conversations(store, ANN)) == 2
    assert check_store(store) == []
    with sqlite3.connect(tmp_path / "memories.db") as database:
        dump = [line for line in database.iterdump() if "history" not in line]
    assert not [line for line in dump if "indobona" in line.lower()]


def test_a_memory_that_was_said_again_elsewhere_stays(store: Store) -> None:
    conversation = say(store, "a", "I live in Vienna.")
    memory = remember(store, "a", "I live in Vienna.", "lives in Vienna")
    store.revise(memory, "lives in Graz", vector(3))  # by hand: the words come from no message any more
    assert talks.remembered_count(store, conversation) == 1
    assert talks.delete_conversation(store, conversation, with_memories=True) == 1


def test_deleting_an_owner_or_everything_takes_the_conversations(store: Store, tmp_path: Path) -> None:
    say(store, "a", "Ann's words")
    say(store, "b", "Ben's words", owner=BEN)
    store.delete_all(ANN)
    assert [each.name for each in talks.list_conversations(store)] == ["Ben's words"]
    erase_everything(store)
    assert talks.list_conversations(store) == [] and check_store(store) == []
    assert b"Ben's words" not in (tmp_path / "memories.db").read_bytes()


def test_a_conversation_that_another_process_deleted_begins_anew(store: Store) -> None:
    conversation = say(store, "a", "Hello")
    talks.delete_conversation(store, conversation, with_memories=False)
    again = say(store, "b", "Still there?", conversation=conversation, minutes=1)
    assert again != conversation and texts(store, again) == ["Still there?"]


def test_a_store_of_before_conversations_gets_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = next(at for at, statements in enumerate(MIGRATIONS) if "TABLE conversations" in statements[0])
    monkeypatch.setattr("memlora_mlx.memory.store.database.MIGRATIONS", MIGRATIONS[:version])
    old = Database(tmp_path / "memories.db")
    with old.write() as database:
        database.execute("CREATE TABLE turns (id, text)")
        full_text.create_words(database)  # as that version left them, without the turns
        database.execute("DROP TABLE turn_words")
        database.execute("DROP TABLE turns")
    old.close()
    monkeypatch.undo()
    with Store(tmp_path, SPACE) as store:
        remember(store, "a", "I live in Vienna.", "lives in Vienna")
        say(store, "b", "I moved to Graz.")
        assert [each.name for each in talks.list_conversations(store, words="graz")] == ["I moved to Graz."]
        assert store.count() == 1 and check_store(store) == []


def test_secrets_and_private_passages_are_never_stored(store: Store, tmp_path: Path) -> None:
    said = "I like tea. My IBAN is DE89 3704 0044 0532 0130 00."
    conversation = say(store, "a", said)
    talks.save_reply(store, "a", "DE89 3704 0044 0532 0130 00, noted.", question=said, said_at=NOON)
    private = "<private>We plan a zanzibar wedding.</private>"
    talks.save_question(store, ANN, private, key="b", said_at=NOON, conversation=conversation)
    talks.save_reply(store, "b", "Zanzibar is nice.", question=private, said_at=NOON)
    named = say(store, "c", "My IBAN is DE89 3704 0044 0532 0130 00, I think.")
    assert "I like tea." in texts(store, conversation)[0] and texts(store, conversation)[2:] == ["...", "..."]
    assert "[secret removed" in talks.find_conversation(store, named).name
    held = [path.read_bytes().lower() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(mark in data for data in held for mark in (b"0532 0130", b"zanzibar"))
    kept = talks.save_question(store, ANN, said, key="d", said_at=NOON, keep_secrets=True)
    assert texts(store, kept) == [said]


def test_doctor_sees_and_repairs_words_that_are_missing(store: Store) -> None:
    say(store, "a", "I moved to Graz.")
    with store.transaction() as transaction:
        transaction.connection.execute("DELETE FROM turn_words")
    assert any("turns" in problem for problem in check_store(store))
    repair_store(store, lambda given: np.stack([vector() for _ in given]))
    assert check_store(store) == [] and len(talks.list_conversations(store, words="Graz")) == 1


def test_erasing_reaches_the_turns_and_the_name(store: Store, tmp_path: Path) -> None:
    conversation = say(store, "a", "I live in Vindobona near the river. I like tea.", "Noted: lives in Vindobona.")
    say(store, "b", "What a fine day.", "Indeed.", conversation=conversation, minutes=1)
    say(store, "c", "Nobody remembered that Vindobona is old.", minutes=2)
    remember(store, "a", "I live in Vindobona near the river. I like tea.", "lives in Vindobona")
    erase_rows(store, Selection(containing="Vindobona"))
    [left] = talks.list_conversations(store)
    assert left.id == conversation and "indobona" not in left.name
    assert not [text for text in texts(store, conversation) if "indobona" in text]
    assert "What a fine day." in texts(store, conversation)
    store.close()
    assert b"indobona" not in (tmp_path / "memories.db").read_bytes().lower()
