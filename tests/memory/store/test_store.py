"""The store's behaviour on a real SQLite file and real indexes."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memlora_mlx.errors import MemoryNotFound, StoreError, UsageError
from memlora_mlx.memory.changes import Add, Change, Delete, EmbeddingFingerprint, SortOrder, Update
from memlora_mlx.memory.store.erasure import erase_everything
from memlora_mlx.memory.store.history import memory_history, undo_change
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.sources import list_owners, list_sources, mark_source
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, Image, MemoryRecord, Message, Scope

SPACE = EmbeddingFingerprint("words/mean", 16)
ANNA = Scope(user_id="anna")
MAY_8 = datetime(2023, 5, 8, 13, 56)
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def vector(text: str, dim: int = SPACE.dim) -> NDArray[np.float32]:
    """A direction of its own for every text, shape (dim,)."""
    values = np.random.default_rng(zlib.crc32(text.encode("utf-8", "surrogatepass"))).standard_normal(dim)
    return (values / np.linalg.norm(values)).astype(np.float32)


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([vector(text) for text in texts])


def add(text: str, **fields: object) -> Add:
    return Add(text, vector(text), **fields)  # type: ignore[arg-type]


def exchange(key: str = "x1", owner: Scope = ANNA, text: str = "I adopted a cat!") -> Exchange:
    image = Image("https://example.org/cat.jpg", "a cat on a sofa")
    messages = (
        Message("user", text, "Anna", MAY_8, image, "D1:1"),
        Message("assistant", "Lovely!", "Ben", MAY_8, None, "D1:2"),
    )
    return Exchange(key, owner, messages, MAY_8, "conv-26", 0)


class Clock:
    """Each look is a second later."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", SPACE, clock=Clock()) as opened:
        yield opened


def put(store: Store, text: str, owner: Scope = ANNA, **fields: object) -> str:
    [applied] = store.commit(owner, [add(text, **fields)]) or []
    assert applied.rejected is None
    return applied.memory_id


def texts(found: Sequence[MemoryRecord]) -> list[str]:
    return [memory.text for memory in found]


def test_memories_survive_reopening(tmp_path: Path) -> None:
    with Store(tmp_path, SPACE) as store:
        store.commit(ANNA, [add("Anna has a cat.", said_at=MAY_8, metadata={"mood": "glad"})], exchange=exchange())
        before = store.list()

    with Store(tmp_path, SPACE) as store:
        assert store.list() == before
        [hit] = store.search(vector("Anna has a cat."), 5)
    assert hit.memory == before[0]
    assert (hit.distance, hit.score) == (0.0, 1.0)


def test_a_memory_knows_where_it_came_from(store: Store) -> None:
    store.commit(ANNA, [add("Anna has a cat.", said_at=MAY_8, image=Image("cat.jpg"))], exchange=exchange())
    [memory] = store.list()
    assert (memory.exchange_key, memory.source, memory.refs) == ("x1", "conv-26", ("D1:1", "D1:2"))
    assert (memory.owner, memory.image) == (ANNA, Image("cat.jpg"))
    assert (memory.said_at, memory.changed_at, memory.revised_at) == (MAY_8, None, None)
    assert memory.stored_at.tzinfo is not None
    assert store.exchange("x1") == exchange()
    assert list_owners(store)[0].name == "Anna"
    with pytest.raises(StoreError, match="no exchange nope"):
        store.exchange("nope")


def test_an_exchange_is_committed_once(store: Store) -> None:
    assert store.commit(ANNA, [add("one")], exchange=exchange()) is not None
    assert store.commit(ANNA, [add("two")], exchange=exchange()) is None
    assert texts(store.list()) == ["one"]
    assert store.stored_exchanges(["x1", "x2"]) == {"x1"}


def test_an_exchange_without_facts_is_done_too(store: Store) -> None:
    assert store.commit(ANNA, [], exchange=exchange()) == []
    assert store.stored_exchanges(["x1"]) == {"x1"}


def test_an_exchange_gives_the_same_ids_wherever_it_is_committed(tmp_path: Path) -> None:
    ids = []
    for name in ("one", "two"):
        with Store(tmp_path / name, SPACE) as store:
            store.commit(ANNA, [add("a"), add("b")], exchange=exchange())
            ids.append([memory.id for memory in store.list(order="stored")])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


def test_an_exchange_of_another_owner_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="belongs to"):
        store.commit(Scope("ben"), [], exchange=exchange())


def test_an_update_never_loses_when_something_was_first_said(store: Store) -> None:
    memory_id = put(store, "Anna has a cat.", said_at=MAY_8, metadata={"mood": "glad", "count": 1})
    before = store.get(memory_id)
    later = MAY_8 + timedelta(days=30)
    update = Update(memory_id, "Anna has two cats.", vector("Anna has two cats."), later, {"count": 2})

    [applied] = store.commit(ANNA, [update]) or []

    after = store.get(memory_id)
    assert before is not None and after is not None
    assert (applied.event, applied.text, applied.old_text) == ("UPDATE", "Anna has two cats.", "Anna has a cat.")
    assert (after.said_at, after.stored_at, after.id) == (MAY_8, before.stored_at, memory_id)
    assert (after.revised_at, after.metadata) == (later, {"mood": "glad", "count": 2})
    assert after.changed_at is not None and after.changed_at > after.stored_at
    assert [hit.memory.text for hit in store.search(vector("Anna has two cats."), 1)] == ["Anna has two cats."]


def test_an_update_is_revised_when_its_exchange_was_said(store: Store) -> None:
    memory_id = put(store, "Anna has a cat.")
    store.commit(ANNA, [Update(memory_id, "Two cats.", vector("Two cats."))], exchange=exchange())
    memory = store.get(memory_id)
    assert memory is not None and memory.revised_at == MAY_8
    assert memory_history(store, memory_id)[-1].exchange_key == "x1"


def test_a_change_to_what_is_gone_or_anothers_is_rejected_and_the_rest_is_kept(store: Store) -> None:
    hers = put(store, "Anna's")
    his = put(store, "Ben's", Scope("ben"))
    store.delete(hers)
    changes: list[Change] = [Update(hers, "x", vector("x")), Delete(his), Delete("made up"), add("kept")]

    applied = store.commit(ANNA, changes, exchange=exchange()) or []

    assert [bool(one.rejected) for one in applied] == [True, True, True, False]
    assert sorted(texts(store.list())) == ["Ben's", "kept"]


def test_an_id_that_is_taken_is_rejected(store: Store) -> None:
    applied = store.commit(ANNA, [add("first", id="same"), add("second", id="same")]) or []
    assert [bool(one.rejected) for one in applied] == [False, True]
    assert texts(store.list()) == ["first"]


def test_a_change_may_build_on_an_earlier_one_of_its_commit(store: Store) -> None:
    store.commit(ANNA, [add("a", id="1"), Update("1", "b", vector("b")), Update("1", "c", vector("c"))])
    assert texts(store.list()) == ["c"]
    assert [line.new_text for line in memory_history(store, "1")] == ["a", "b", "c"]


def test_a_failing_commit_leaves_nothing(store: Store) -> None:
    with pytest.raises(StoreError, match="metadata must be JSON"):
        store.commit(ANNA, [add("fine"), add("bad", metadata={"x": {1, 2}})], exchange=exchange())
    assert (store.count(), store.stored_exchanges(["x1"]), list_owners(store)) == (0, set(), [])


@pytest.mark.parametrize("metadata", [{"x": float("nan")}, {1: 2}, {"x": b"bytes"}])
def test_metadata_must_be_json(store: Store, metadata: dict[str, object]) -> None:
    with pytest.raises(StoreError, match="metadata must be JSON"):
        store.commit(ANNA, [add("bad", metadata=metadata)])


def test_endless_metadata_is_refused(store: Store) -> None:
    endless: dict[str, object] = {}
    endless["again"] = endless
    with pytest.raises(StoreError, match="nested too deep"):
        store.commit(ANNA, [add("bad", metadata=endless)])


@pytest.mark.parametrize("owner", [Scope(), Scope(user_id=""), Scope("\0")])
def test_a_memory_needs_an_owner(store: Store, owner: Scope) -> None:
    with pytest.raises(UsageError, match="needs an owner"):
        store.commit(owner, [add("whose?")])


@pytest.mark.parametrize(
    "wrong", [np.ones(8, np.float32), np.full(16, np.nan, np.float32), np.ones(16, np.float32), np.zeros((1, 16))]
)
def test_vectors_of_another_kind_are_refused(store: Store, wrong: NDArray[np.float32]) -> None:
    with pytest.raises(StoreError, match="embedding"):
        store.commit(ANNA, [Add("x", wrong)])
    with pytest.raises(StoreError, match="embedding"):
        store.search(wrong, 1)
    assert store.count() == 0


def test_another_embedding_space_is_refused_by_name(tmp_path: Path) -> None:
    Store(tmp_path, SPACE).close()
    with pytest.raises(StoreError, match=r"words/mean \(16 dimensions\), not other \(16 dimensions\).*doctor --repair"):
        Store(tmp_path, EmbeddingFingerprint("other", 16))
    with Store(tmp_path, EmbeddingFingerprint("other", 16), any_embedding=True) as store:
        assert store.embedding == SPACE


def test_the_nearest_come_first(store: Store) -> None:
    for text in ("a", "b", "c", "d"):
        put(store, text)
    found = store.search(vector("c"), 3)
    assert found[0].memory.text == "c" and found[0].distance == 0.0
    assert found[0].score == pytest.approx(1.0)
    assert [hit.distance for hit in found] == sorted(hit.distance for hit in found)
    assert found[1].distance == pytest.approx(
        float(np.linalg.norm(vector("c") - vector(found[1].memory.text))), abs=1e-6
    )
    assert store.search(vector("c"), 0) == []


def test_equal_memories_come_in_the_order_they_were_stored(store: Store) -> None:
    for number in range(60):
        put(store, "the same", metadata={"number": number})
    found = store.search(vector("the same"), 5)
    assert [hit.memory.metadata["number"] for hit in found] == [0, 1, 2, 3, 4]


def test_many_look_ups_at_once_are_the_same_as_one_by_one(store: Store) -> None:
    for number in range(40):
        put(store, f"memory {number}", ANNA if number % 2 else Scope("ben"))
    queries = [vector(f"query {number}") for number in range(5)]
    one_by_one = [store.search(query, 5, scope=ANNA, owner_exact=True) for query in queries]
    assert store.search_many(queries, 5, ANNA) == one_by_one
    assert store.search_many([], 5, ANNA) == []


def test_one_user_under_different_agents(store: Store) -> None:
    owners = [Scope("anna"), Scope("anna", "cook"), Scope("anna", "cook", "run1"), Scope("ben", "cook")]
    for number, owner in enumerate(owners):
        put(store, f"memory {number}", owner)

    def numbers(scope: Scope, exact: bool = False) -> list[int]:
        hits = store.search(vector("query"), 9, scope=scope, owner_exact=exact)
        return sorted(int(hit.memory.text[-1]) for hit in hits)

    assert numbers(Scope()) == [0, 1, 2, 3]
    assert numbers(Scope("anna")) == [0, 1, 2]
    assert numbers(Scope("anna"), exact=True) == [0]
    assert numbers(Scope(agent_id="cook")) == [1, 2, 3]
    assert numbers(Scope("anna", "cook"), exact=True) == [1]
    assert numbers(Scope("nobody")) == []
    assert store.count(Scope("anna", "cook")) == 2
    assert [owner.memories for owner in list_owners(store)] == [1, 1, 1, 1]


def test_search_by_time_is_closed_at_the_start_and_open_at_the_end(store: Store) -> None:
    for day in range(1, 6):
        put(store, f"day {day}", said_at=datetime(2023, 5, day))
    put(store, "no day")
    put(store, "day 3, with a zone", said_at=datetime(2023, 5, 3, tzinfo=UTC))
    found = store.search(vector("q"), 9, said_after=datetime(2023, 5, 2), said_before=datetime(2023, 5, 4))
    assert sorted(hit.memory.text for hit in found) == ["day 2", "day 3", "day 3, with a zone"]


def test_search_by_source(store: Store) -> None:
    store.commit(ANNA, [add("from a conversation")], exchange=exchange())
    put(store, "from nowhere")
    assert [hit.memory.text for hit in store.search(vector("q"), 9, source="conv-26")] == ["from a conversation"]
    assert store.search(vector("q"), 9, source="conv-30") == []


def test_expired_memories_are_kept_but_not_found(store: Store) -> None:
    put(store, "gone", expires_at=NOW - timedelta(days=1))
    put(store, "still here", expires_at=NOW + timedelta(days=1))
    assert texts(store.list()) == ["still here"]
    assert [hit.memory.text for hit in store.search(vector("gone"), 9)] == ["still here"]
    assert [len(found) for found in store.search_many([vector("gone")], 9, ANNA)] == [1]
    assert (store.count(), store.count(show_expired=True)) == (1, 2)
    assert len(store.search(vector("gone"), 9, show_expired=True)) == 2
    assert check_store(store) == []


def test_a_deleted_memory_is_never_found_again(store: Store) -> None:
    ids = [put(store, f"memory {number}") for number in range(30)]
    store.search(vector("memory 3"), 1)  # the index now holds it
    store.delete(ids[3])
    assert store.get(ids[3]) is None
    assert ids[3] not in {hit.memory.id for hit in store.search(vector("memory 3"), 30)}
    with pytest.raises(MemoryNotFound):
        store.delete(ids[3])
    with pytest.raises(MemoryNotFound):
        store.revise(ids[3], "x", vector("x"))


def test_revising_by_hand(store: Store) -> None:
    memory_id = put(store, "Anna has a cat.", said_at=MAY_8)
    revised = store.revise(memory_id, "Anna has a dog.", vector("Anna has a dog."), metadata={"by": "hand"})
    assert revised == store.get(memory_id)
    assert (revised.text, revised.said_at, revised.metadata) == ("Anna has a dog.", MAY_8, {"by": "hand"})
    assert [(line.event, line.actor) for line in memory_history(store, memory_id)] == [
        ("ADD", "model"),
        ("UPDATE", "user"),
    ]


def test_deleting_everything_of_an_owner_lets_the_conversation_be_read_again(store: Store) -> None:
    store.commit(ANNA, [add("a")], exchange=exchange())
    put(store, "Ben's", Scope("ben"))
    assert store.delete_all(ANNA) == 1
    assert texts(store.list()) == ["Ben's"]
    applied = store.commit(ANNA, [add("a")], exchange=exchange())
    assert applied is not None and applied[0].rejected is None
    assert [hit.memory.text for hit in store.search(vector("a"), 1)] == ["a"]


def test_a_memory_brought_back_does_not_stand_in_the_way_of_a_second_reading(store: Store) -> None:
    [before] = store.commit(ANNA, [add("a")], exchange=exchange()) or []
    store.delete_all(ANNA)
    undo_change(store, embed)
    [after] = store.commit(ANNA, [add("b")], exchange=exchange()) or []
    assert after.rejected is None and after.memory_id != before.memory_id
    assert sorted(texts(store.list())) == ["a", "b"]


def test_reset_forgets_everything_and_leaves_no_trace(store: Store) -> None:
    store.commit(ANNA, [add("a-secret-to-forget")], exchange=exchange(text="another-secret"))
    store.search(vector("q"), 1)
    erase_everything(store)
    assert (store.list(), list_owners(store), store.stored_exchanges(["x1"]), store.search(vector("q"), 9)) == (
        [],
        [],
        set(),
        [],
    )
    left = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert b"a-secret-to-forget" not in left and b"another-secret" not in left
    put(store, "new")
    assert [hit.memory.text for hit in store.search(vector("q"), 9)] == ["new"]


def test_undoing_an_addition(store: Store) -> None:
    memory_id = put(store, "Anna has a cat.")
    line = undo_change(store, embed)
    assert (line.event, line.actor, line.old_text) == ("DELETE", "undo", "Anna has a cat.")
    assert store.get(memory_id) is None and store.search(vector("q"), 9) == []
    assert [old.undone for old in memory_history(store, memory_id)] == [True, False]
    with pytest.raises(StoreError, match="nothing to undo"):
        undo_change(store, embed)


def test_undoing_an_update_restores_the_memory_as_it_was(store: Store) -> None:
    store.commit(ANNA, [add("old", id="1", said_at=MAY_8, metadata={"a": 1})], exchange=exchange())
    before = store.get("1")
    store.commit(ANNA, [Update("1", "new", vector("new"), NOW, {"b": 2})])
    assert undo_change(store, embed).new_text == "old"
    assert store.get("1") == before
    assert store.search(vector("old"), 1)[0].distance == 0.0


def test_undoing_a_deletion_restores_the_memory_as_it_was(store: Store) -> None:
    fields = {"id": "1", "said_at": MAY_8, "image": Image("cat.jpg", "cat"), "expires_at": NOW + timedelta(days=9)}
    store.commit(ANNA, [add("old", metadata={"a": [1, None]}, **fields)], exchange=exchange())
    before = store.get("1")
    store.search(vector("q"), 1)
    store.delete("1")
    assert undo_change(store, embed).event == "ADD"
    assert store.get("1") == before
    assert [(hit.memory.id, hit.distance) for hit in store.search(vector("old"), 9)] == [("1", 0.0)]


def test_undoing_step_by_step_back_to_nothing(store: Store) -> None:
    put(store, "a", id="1")
    store.revise("1", "b", vector("b"))
    store.delete("1")
    seen = [undo_change(store, embed).new_text for _ in range(3)]
    assert seen == ["b", "a", None]
    assert store.get("1") is None


def test_undo_of_what_has_changed_since_is_refused(store: Store) -> None:
    put(store, "a", id="1")
    store.revise("1", "b", vector("b"))
    first = memory_history(store, "1")[0]
    with pytest.raises(StoreError, match="changed since"):
        undo_change(store, embed, first.id)
    undo_change(store, embed)
    undo_change(store, embed, first.id)
    with pytest.raises(StoreError, match="already undone"):
        undo_change(store, embed, first.id)
    with pytest.raises(StoreError, match="no change has the number 999"):
        undo_change(store, embed, 999)


def test_undo_after_everything_was_deleted(store: Store) -> None:
    store.commit(ANNA, [add("a", id="1")], exchange=exchange())
    store.delete_all(ANNA)
    undo_change(store, embed)
    memory = store.get("1")
    assert memory is not None and (memory.text, memory.exchange_key) == ("a", None)


def test_the_embedder_may_use_the_store_while_undoing(store: Store) -> None:
    put(store, "a", id="1")
    store.revise("1", "b", vector("b"))

    def busy_embedder(given: Sequence[str]) -> NDArray[np.float32]:
        put(store, "written by the embedder", id="2")
        return embed(given)

    undo_change(store, busy_embedder)
    assert {memory.text for memory in store.list()} == {"a", "written by the embedder"}


def test_listing_in_order_and_in_pages(store: Store) -> None:
    for day in (2, 3, 1):
        put(store, f"day {day}", said_at=datetime(2023, 5, day), id=str(day))
    store.revise("2", "day 2, revised", vector("x"))

    def days(order: SortOrder) -> list[str]:
        return [memory.id for memory in store.list(order=order)]

    assert days("newest") == ["3", "2", "1"]
    assert days("oldest") == ["1", "2", "3"]
    assert days("stored") == ["2", "3", "1"]
    assert days("changed") == ["2", "1", "3"]
    assert [memory.id for memory in store.list(limit=1, offset=1)] == ["2"]


def test_naive_times_stay_naive_and_aware_ones_become_utc(store: Store) -> None:
    put(store, "naive", said_at=MAY_8, id="1")
    put(store, "aware", said_at=datetime.fromisoformat("2023-05-08T13:56:00.25+02:00"), id="2")
    naive, aware = store.get("1"), store.get("2")
    assert naive is not None and naive.said_at == MAY_8 and naive.said_at.tzinfo is None
    assert aware is not None and aware.said_at == datetime(2023, 5, 8, 11, 56, 0, 250000, tzinfo=UTC)


def test_text_that_no_database_can_hold_is_cleaned(store: Store) -> None:
    put(store, "a \0NUL, half a \ud83d pair, a whole one: \ud83d\ude00 and \U0001f408", id="1")
    put(store, "b", id="2", metadata={"key\0": "\udfff"})
    first, second = store.get("1"), store.get("2")
    assert first is not None and first.text == "a NUL, half a \ufffd pair, a whole one: \U0001f600 and \U0001f408"
    assert second is not None and second.metadata == {"key": "\ufffd"}
    assert store.get("\ud800") is None


def test_sources_show_how_far_they_have_been_read(store: Store) -> None:
    mark_source(store, "conv-26", "locomo", 3)
    store.commit(ANNA, [], exchange=exchange())
    [source] = list_sources(store)
    assert (source.kind, source.exchanges, source.done, source.finished_at) == ("locomo", 3, 1, None)
    mark_source(store, "conv-26", "locomo", 3, finished=True)
    [finished] = list_sources(store)
    assert finished.finished_at is not None and finished.started_at == source.started_at


def test_several_threads_use_one_store(store: Store) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(15):
                put(store, f"{name} {number}", Scope(name))
                [hit] = store.search(vector(f"{name} {number}"), 1, scope=Scope(name))
                assert hit.distance == 0.0
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=[f"user{number}"]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.count() == 60
    assert check_store(store) == []


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path, SPACE)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.count()
