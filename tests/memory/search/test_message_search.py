"""Searching what was said beside what is remembered: on a real SQLite file, real indexes, real FTS5."""

from __future__ import annotations

import sqlite3
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memlora_mlx.memory.changes import Add, Change, Delete, EmbeddingFingerprint, Update
from memlora_mlx.memory.search.hits import find_hits
from memlora_mlx.memory.store.erasure import erase_everything
from memlora_mlx.memory.store.export_import import export_lines, import_lines
from memlora_mlx.memory.store.full_text import words_version
from memlora_mlx.memory.store.history import redo_change, undo_change
from memlora_mlx.memory.store.integrity import check_store, repair_store
from memlora_mlx.memory.store.messages import exchange_texts
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.upkeep import embed_messages
from memlora_mlx.records import Exchange, Hit, Message, Scope

SPACE = EmbeddingFingerprint("words/mean", 32)
ANN, BEN = Scope(user_id="Ann"), Scope(user_id="Ben")
MAY_8 = datetime(2023, 5, 8, 13, 56)
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Sums of a direction for each word, so that texts that share words are near each other: shape (len(texts), 32)."""
    made = []
    for text in texts:
        words = "".join(c if c.isalnum() else " " for c in text.lower()).split() or ["nothing"]
        values = sum(np.random.default_rng(zlib.crc32(word.encode())).standard_normal(SPACE.dim) for word in words)
        made.append(values / np.linalg.norm(values))
    return np.array(made, dtype=np.float32).reshape(-1, SPACE.dim)


def add(text: str, **fields: object) -> Add:
    return Add(text, embed([text])[0], MAY_8, **fields)  # type: ignore[arg-type]


def exchange(key: str, *texts: str, owner: Scope = ANN, said_at: datetime = MAY_8, source: str = "talk") -> Exchange:
    """Ann and Ben in turn, seen by the owner."""
    speakers = ("Ann", "Ben")
    messages = tuple(
        Message(
            "user" if speakers[at % 2] == owner.user_id else "assistant",
            text,
            speakers[at % 2],
            said_at,
            None,
            f"{key}:{at}",
        )
        for at, text in enumerate(texts)
    )
    return Exchange(key, owner, messages, said_at, source, 0)


def keep(store: Store, said: Exchange, *changes: Change, embedded: bool = True) -> list[str]:
    vectors = list(embed(exchange_texts(said))) if embedded else None
    applied = store.commit(said.owner, changes, exchange=said, message_vectors=vectors)
    return [change.memory_id for change in applied or []]


def ask(
    store: Store, question: str, limit: int = 10, *, scopes: Sequence[Scope] = (ANN,), **options: object
) -> list[Hit]:
    return find_hits(store, question, embed([question])[0], limit, scopes=scopes, **options)  # type: ignore[arg-type]


def said(hits: Sequence[Hit]) -> list[str]:
    return [hit.message.text for hit in hits if hit.message is not None]


def all_words(store: Store) -> str:
    """Everything in any file of the store."""
    store.close()
    return "".join(path.read_bytes().decode("latin-1") for path in store.folder.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", SPACE, clock=lambda: NOW) as opened:
        yield opened


def test_a_hit_is_a_memory_with_the_words_it_came_from(store: Store) -> None:
    [cat] = keep(
        store, exchange("x", "I adopted a cat named Moss!", "Lovely, how old?"), add("Ann has a cat named Moss")
    )
    best = ask(store, "What is the cat called?")[0]
    assert best.memory is not None and best.memory.id == best.id == cat
    assert best.message is not None
    assert (best.message.text, best.message.speaker, best.message.said_at, best.message.ref) == (
        "I adopted a cat named Moss!",
        "Ann",
        MAY_8,
        "x:0",
    )
    assert best.memory.message == best.message.key


def test_a_message_that_gave_no_memory_is_found_too(store: Store) -> None:
    keep(store, exchange("x", "The plumber charged 310 euros.", "Ouch."))
    keep(store, exchange("y", "We walked the dog.", "Nice day for it."))
    best = ask(store, "How much did the plumber take?")[0]
    assert best.memory is None and said([best]) == ["The plumber charged 310 euros."]
    assert best.id == "x:0"  # of the exchange's key and the position: the same in every search


def test_a_memory_without_a_conversation_is_found_by_its_words(store: Store) -> None:
    keep(store, exchange("x", "I like rowing.", "Me too."))
    store.commit(ANN, [add("Ann is allergic to hazelnuts")])
    best = ask(store, "hazelnuts?")[0]
    assert best.message is None and best.memory is not None and best.memory.text == "Ann is allergic to hazelnuts"


def test_an_answer_is_found_by_the_question_before_it(store: Store) -> None:
    keep(store, exchange("x", "It rained all day.", "Where did you spend your honeymoon?"))
    keep(store, exchange("y", "Lisbon.", "Great."))
    keep(store, exchange("z", "Soup again.", "Fine.", said_at=MAY_8 + timedelta(days=2)))
    found = said(ask(store, "Where was the honeymoon?"))
    assert found.index("Lisbon.") <= 1
    keep(store, exchange("later", "Perfect.", "Yes.", said_at=MAY_8 + timedelta(days=9)))
    with store.snapshot() as connection:
        rows = connection.execute("SELECT id, previous FROM indexed_messages ORDER BY id").fetchall()
    # within a session each message follows another, across a silence none does
    assert [row["previous"] for row in rows] == [None, 1, 2, 3, None, 5, None, 7]


def test_replies_of_memlora_and_questions_to_it_are_no_evidence(store: Store) -> None:
    """A reply from before a correction would go on to say what is no longer so."""
    told = ("I live in Graz.", "Noted: lives in Graz"), ("Where do I live?", "You live in Graz.")
    typed = ("where do i live now", "You live in Graz."), ("What's where I live", "You live in Graz.")
    for number, texts in enumerate((*told, *typed)):
        keep(store, exchange(uuid.uuid4().hex, *texts, said_at=MAY_8 + timedelta(minutes=number), source="chat"))
    assert said(ask(store, "Where do I live?")) == ["I live in Graz."]
    keep(store, exchange("of a file that is called chat", *told[1], source="chat"))
    assert set(said(ask(store, "Where do I live?"))) == {"I live in Graz.", "Where do I live?", "You live in Graz."}


def test_words_find_what_vectors_do_not(store: Store) -> None:
    for number in range(80):
        keep(store, exchange(f"x{number}", f"We talked about the plan number {number} for a while.", "Sure."))
    keep(store, exchange("rare", "Ask for Quellmoser at the desk.", "Will do."), embedded=False)
    assert said(ask(store, "Who is Quellmoser?"))[0] == "Ask for Quellmoser at the desk."


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("我昨天買了一隻白貓", "白貓"),
        ("週末に京都へ行きました", "京都"),
        ("猫が好きです", "猫"),
        ("ฉันกินข้าวผัดที่กรุงเทพ", "กรุงเทพ"),
        ("Das war in Zürich.", "zurich"),
        ("She was running late for the exams.", "exam run"),
    ],
)
def test_words_of_many_languages_are_found(store: Store, text: str, question: str) -> None:
    for number in range(60):
        keep(store, exchange(f"x{number}", f"filler {number}", f"more {number}"))
    keep(store, exchange("it", text, "ok"), embedded=False)
    assert said(ask(store, question))[0] == text


@pytest.mark.parametrize(
    "question",
    [
        '"',
        "a OR b",
        "NEAR(cat, 2)",
        "text:cat",
        "cat*",
        "-cat",
        "(((",
        '" OR "',
        "^cat",
        "cat AND",
        "\x00cat",
        "{a b}:c",
        "?",
    ],
)
def test_a_question_is_never_read_as_search_syntax(store: Store, question: str) -> None:
    keep(store, exchange("x", "a cat", "a dog"))
    ask(store, question)  # an error of FTS5 would be raised


def test_names_in_the_question_prefer_what_that_speaker_said(store: Store) -> None:
    keep(store, exchange("x", "I love tea.", "I love tea."))
    [first, second, *_] = ask(store, "What does Ben love?")
    assert first.message is not None and first.message.speaker == "Ben"
    assert second.message is not None and second.message.speaker == "Ann"


def test_a_day_in_the_question_prefers_what_was_said_on_it(store: Store) -> None:
    for number, day in enumerate((MAY_8, datetime(2023, 6, 20), datetime(2023, 7, 3))):
        keep(store, exchange(f"x{number}", f"We had lunch, number {number}.", "Good.", said_at=day))
    assert said(ask(store, "What about lunch on 20 June 2023?"))[0] == "We had lunch, number 1."
    assert said(ask(store, "What about lunch in July?"))[0] == "We had lunch, number 2."


def test_filters_hold_for_messages_too(store: Store) -> None:
    [_] = keep(store, exchange("x", "My cat is Moss.", "Aw."), add("Ann has a cat", metadata={"topic": "pets"}))
    keep(store, exchange("y", "My cat ran away.", "Oh no.", said_at=datetime(2023, 9, 1), source="other"))
    [_] = keep(
        store,
        exchange("z", "My cat is old.", "Yes."),
        add("The cat is old", expires_at=datetime(2023, 12, 1, tzinfo=UTC)),
    )
    keep(store, exchange("w", "Bens cat", "What?", owner=BEN))
    question = "cat"
    assert {"My cat is Moss.", "My cat ran away."} <= set(said(ask(store, question)))
    assert "Bens cat" not in said(ask(store, question))
    assert "My cat is old." not in said(ask(store, question))  # its memory has expired
    assert "My cat is old." in said(ask(store, question, show_expired=True))
    assert said(ask(store, question, source="other")) == ["My cat ran away.", "Oh no."]
    assert set(said(ask(store, question, said_after=datetime(2023, 8, 1)))) == {"My cat ran away.", "Oh no."}
    assert said(ask(store, question, filters={"topic": "pets"})) == ["My cat is Moss."]
    assert "My cat is Moss." not in said(ask(store, question, filters={"topic": {"ne": "pets"}}))


def test_the_same_turn_of_two_owners_is_one_hit(store: Store) -> None:
    mine = exchange("ann", "I moved to Oslo.", "I am in Rome.")
    keep(store, mine, add("Ann lives in Oslo"))
    keep(store, replace(mine, key="ben", owner=BEN), add("Ben is in Rome", position=1))
    hits = ask(store, "Where does Ann live, in Oslo?", scopes=(ANN, BEN))
    assert sorted(said(hits)) == ["I am in Rome.", "I moved to Oslo."]
    assert {hit.memory.text for hit in hits if hit.memory} == {"Ann lives in Oslo", "Ben is in Rome"}


# ------------------------------------------------------------------ forgotten is forgotten


def test_words_of_a_memory_that_was_deleted_are_never_found_again(store: Store) -> None:
    [code, tea] = keep(
        store,
        exchange("x", "The door code is 4711 and I like tea.", "Noted."),
        add("The door code is 4711"),
        add("Ann likes tea"),
    )
    store.delete(code)
    hits = ask(store, "What is the door code 4711?")
    assert not any("4711" in text for text in said(hits))
    assert [hit.memory.id for hit in hits if hit.memory] == [tea]  # of its own now, without the words
    undo_change(store, embed)
    assert said(ask(store, "door code"))[0] == "The door code is 4711 and I like tea."
    redo_change(store, embed)
    assert not any("4711" in text for text in said(ask(store, "door code")))
    assert check_store(store) == []


def test_nobody_elses_view_brings_forgotten_words_back(store: Store) -> None:
    mine = exchange("ann", "My code is 4711.", "Ok.")
    [code] = keep(store, mine, add("The code is 4711"))
    keep(store, replace(mine, key="ben", owner=BEN))
    assert "My code is 4711." in said(ask(store, "code", scopes=(ANN, BEN)))
    store.delete(code)
    assert "My code is 4711." not in said(ask(store, "code", scopes=(ANN, BEN)))


def test_words_whose_memory_was_changed_rank_lower_and_are_marked(store: Store) -> None:
    [home] = keep(store, exchange("x", "I live in Bergen.", "Nice."), add("Ann lives in Bergen"))
    moved = "Ann lives in Oslo"
    keep(store, exchange("y", "I live in Oslo now.", "Oh!"), Update(home, moved, embed([moved])[0]))
    hits = ask(store, "Where does Ann live?")
    marked = {hit.message.text: hit.superseded_at for hit in hits if hit.message}
    assert marked["I live in Bergen."] == NOW and marked["I live in Oslo now."] is None
    assert said(hits).index("I live in Oslo now.") < said(hits).index("I live in Bergen.")
    assert "I live in Bergen." not in said(ask(store, "Bergen", show_superseded=False))
    undo_change(store, embed)
    again = {hit.message.text: hit for hit in ask(store, "Where does Ann live?") if hit.message}
    assert again["I live in Bergen."].superseded_at is None
    assert (
        again["I live in Bergen."].memory is not None
        and again["I live in Bergen."].memory.text == "Ann lives in Bergen"
    )
    assert again["I live in Oslo now."].superseded_at == NOW


def test_words_whose_memory_the_student_withdrew_are_superseded_and_not_forgotten(store: Store) -> None:
    [trip] = keep(store, exchange("x", "I booked a trip to Norway.", "Great."), add("Ann booked a trip to Norway"))
    keep(store, exchange("y", "The Norway trip is cancelled.", "Sorry."), Delete(trip))
    [old] = [hit for hit in ask(store, "Norway trip") if hit.message and hit.message.ref == "x:0"]
    assert old.superseded_at == NOW and old.memory is None


def test_an_edit_by_hand_supersedes_the_words(store: Store) -> None:
    [home] = keep(store, exchange("x", "I live in Bergen.", "Nice."), add("Ann lives in Bergen"))
    store.revise(home, "Ann lives in Hamburg", embed(["Ann lives in Hamburg"])[0])
    hits = ask(store, "Where does Ann live?", show_superseded=False)
    assert "I live in Bergen." not in said(hits)
    assert [hit.memory.text for hit in hits if hit.memory] == ["Ann lives in Hamburg"]
    undo_change(store, embed)
    assert said(ask(store, "Where does Ann live?", show_superseded=False))[0] == "I live in Bergen."


def test_new_metadata_leaves_a_memory_with_its_words(store: Store) -> None:
    [home] = keep(store, exchange("x", "I live in Bergen.", "Nice."), add("Ann lives in Bergen"))
    store.revise(home, "Ann lives in Bergen", embed(["Ann lives in Bergen"])[0], metadata={"seen": True})
    best = ask(store, "Bergen")[0]
    assert best.memory is not None and best.message is not None and best.superseded_at is None


def test_deleting_everything_of_an_owner_leaves_no_word_in_the_file(store: Store) -> None:
    keep(store, exchange("x", "My secret word is Xylobrastic.", "Ok."))
    keep(store, exchange("b", "Bens word is Quorvathian.", "Ok.", owner=BEN))
    store.delete_all(ANN)
    assert not any("Xylobrastic" in text for text in said(ask(store, "Xylobrastic", scopes=(Scope(),))))
    assert said(ask(store, "Quorvathian", scopes=(BEN,)))[0] == "Bens word is Quorvathian."
    assert check_store(store) == []
    found = all_words(store).lower()
    assert "xylobrast" not in found and "quorvathian" in found


def test_a_reset_leaves_no_word_in_any_file(store: Store) -> None:
    keep(store, exchange("x", "My secret word is Xylobrastic.", "Ok."), add("The secret word is Xylobrastic"))
    store.commit(ANN, [add("Zanthomere is a memory by hand")])
    ask(store, "Xylobrastic")
    erase_everything(store)
    assert ask(store, "Xylobrastic", scopes=(Scope(),)) == []
    assert check_store(store) == []
    found = all_words(store).lower()
    assert "xylobrast" not in found and "zanthomer" not in found


# ------------------------------------------------------------------ upkeep


def test_an_older_store_is_searched_by_words_at_once_and_by_meaning_when_embedded(tmp_path: Path) -> None:
    """A store of before messages were searched: its history says what was forgotten and what was changed."""
    with Store(tmp_path, SPACE, clock=lambda: NOW) as store:
        [code] = keep(store, exchange("x", "The door code is 4711.", "Noted."), add("The door code is 4711"))
        [home] = keep(store, exchange("y", "I live in Bergen.", "Nice."), add("Ann lives in Bergen"))
        moved = "Ann lives in Oslo"
        keep(store, exchange("z", "I live in Oslo now.", "Oh!"), Update(home, moved, embed([moved])[0]))
        store.delete(code)
    as_before(tmp_path / "memories.db")
    with Store(tmp_path, SPACE, clock=lambda: NOW) as store:
        hits = ask(store, "Where does Ann live, Bergen or Oslo?")
        by_text = {hit.message.text: hit for hit in hits if hit.message}
        assert by_text["I live in Oslo now."].memory is not None
        assert by_text["I live in Bergen."].superseded_at is not None
        assert not any("4711" in text for text in said(ask(store, "door code 4711")))
        assert check_store(store) == []
        assert embed_messages(store, embed) == 6
        assert embed_messages(store, embed) == 0
        assert check_store(store) == []


def as_before(path: Path) -> None:
    """Take a store back to the tables of before messages were searched."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DROP TABLE message_words")
        for trigger in ("message_embedded", "embedded_message_removed"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("DROP INDEX memories_message")
        connection.execute("DROP INDEX exchanges_owner_source")
        for table in ("ended_facts", "message_tombstones", "message_vectors", "indexed_messages"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE memories DROP COLUMN message")
        connection.execute("ALTER TABLE memories DROP COLUMN provenance")
        for table in ("people", "checksums", "erased_exchanges", "turn_words", "turns", "conversations"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE owners DROP COLUMN messages")
        connection.execute("DELETE FROM meta WHERE key = 'words'")
        connection.execute("PRAGMA user_version = 2")
    connection.close()


def test_another_preparation_of_words_makes_the_index_again(tmp_path: Path) -> None:
    with Store(tmp_path, SPACE) as store:
        keep(store, exchange("x", "A cat named Moss.", "Aw."), add("Ann has a cat"))
        store.commit(ANN, [add("Ann likes rowing")])
        with store.transaction() as transaction:
            transaction.connection.execute("UPDATE meta SET value = '0' WHERE key = 'words'")
            transaction.connection.execute("UPDATE message_words SET text = 'nonsense'")
    with Store(tmp_path, SPACE) as store:
        assert said(ask(store, "Moss"))[0] == "A cat named Moss."
        assert ask(store, "rowing")[0].memory is not None
        with store.snapshot() as connection:
            assert words_version(connection) > 0
        assert check_store(store) == []


def test_the_doctor_finds_and_mends_what_is_wrong_with_messages(store: Store) -> None:
    for number in range(4):
        keep(store, exchange(f"x{number}", f"message {number}", "ok"), add(f"memory {number}"))
    assert check_store(store) == []
    with store.transaction() as transaction:
        execute = transaction.connection.execute
        execute("DELETE FROM message_words WHERE rowid = (SELECT max(rowid) FROM message_words)")
        execute("DELETE FROM message_vectors WHERE message = 1")
        execute("UPDATE message_vectors SET vector = zeroblob(8) WHERE message = 2")
        execute("UPDATE owners SET messages = 99")
    problems = "\n".join(check_store(store))
    assert "full-text index" in problems and "messages have no sound embedding" in problems and "99" in problems
    repair_store(store, embed)
    assert check_store(store) == []
    assert said(ask(store, "message 3"))[0] == "message 3"


def test_a_copy_of_a_store_knows_what_was_forgotten_and_changed(store: Store, tmp_path: Path) -> None:
    [code] = keep(store, exchange("x", "The door code is 4711.", "Noted."), add("The door code is 4711"))
    [home] = keep(store, exchange("y", "I live in Bergen.", "Nice."), add("Ann lives in Bergen"))
    moved = "Ann lives in Oslo"
    keep(store, exchange("z", "I live in Oslo now.", "Oh!"), Update(home, moved, embed([moved])[0]))
    store.delete(code)
    with Store(tmp_path / "copy", SPACE) as copy:
        import_lines(copy, list(export_lines(store)), embed)
        assert not any("4711" in text for text in said(ask(copy, "door code 4711")))
        by_text = {hit.message.text: hit for hit in ask(copy, "Where does Ann live?") if hit.message}
        assert by_text["I live in Bergen."].superseded_at == NOW
        assert by_text["I live in Oslo now."].memory is not None
        assert check_store(copy) == []


def test_messages_committed_by_another_process_are_found(store: Store) -> None:
    keep(store, exchange("x", "A cat named Moss.", "Aw."))
    assert said(ask(store, "Moss"))
    with Store(store.folder, SPACE) as other:
        keep(other, exchange("y", "A dog named Fern.", "Aw."))
        assert said(ask(other, "Fern"))[0] == "A dog named Fern."
        assert said(ask(store, "dog Fern"))[0] == "A dog named Fern."
        other.delete_all(ANN)
    assert ask(store, "Moss") == []


def test_large_conversations_use_the_graph_and_find_the_same(tmp_path: Path) -> None:
    with Store(tmp_path / "flat", SPACE) as flat, Store(tmp_path / "graph", SPACE, exact_limit=50) as graph:
        for number in range(150):
            one = exchange(f"x{number}", f"topic {number % 30} detail {number}", f"reply {number}")
            for each in (flat, graph):
                keep(each, one, add(f"fact {number}"))
        for question in ("topic 7 detail", "reply 33", "fact 9"):
            assert [hit.id for hit in ask(flat, question, 5)] == [hit.id for hit in ask(graph, question, 5)]
    assert list((tmp_path / "graph" / "indexes" / "messages").glob("*.usearch"))
