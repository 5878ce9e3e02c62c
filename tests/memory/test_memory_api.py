"""`Memory` under code written for Mem0: the keywords of both its generations, and its return shapes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import memlora_mlx
from memlora_mlx import Memory
from memlora_mlx.errors import MemloraError, MemoryNotFound, ModelMissing, UsageError
from memlora_mlx.memory.results import ExchangeResult
from memlora_mlx.records import Exchange

TALK = [
    {"role": "user", "content": "I moved to Rome last week."},
    {"role": "assistant", "content": "Lovely! How is it?"},
]


@pytest.fixture
def memory(tiny_home: Path) -> Iterator[Memory]:
    with Memory() as opened:
        yield opened


@pytest.fixture
def heard(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    """The exchanges that the pipeline is given; the student's blind decisions do not matter then."""
    exchanges: list[Exchange] = []

    def remember(exchange: Exchange, **_: object) -> ExchangeResult:
        exchanges.append(exchange)
        return ExchangeResult(exchange)

    monkeypatch.setattr(memory.workspace.pipeline, "remember", remember)
    return exchanges


def keep(memory: Memory, *texts: str, user_id: str = "ann", **options: Any) -> list[str]:
    """Memories of these words. Returns their ids."""
    added = [memory.add(text, user_id=user_id, infer=False, **options) for text in texts]
    return [item["id"] for result in added for item in result["results"]]


# Code of both generations


def test_code_for_mem0_1_runs(memory: Memory) -> None:
    added = memory.add(TALK, user_id="ann", metadata={"topic": "home"})
    assert set(added) == {"results"}
    [tea, _] = keep(memory, "Ann likes tea", "Ann has a cat")
    found = memory.search("Ann likes tea", user_id="ann", limit=1)["results"]
    assert [item["id"] for item in found] == [tea]
    assert len(memory.get_all(user_id="ann", limit=1)["results"]) == 1
    assert memory.update(tea, data="Ann likes mint tea") == {"message": "Memory updated successfully!"}
    assert memory.update(memory_id=tea, data="Ann likes green tea") == {"message": "Memory updated successfully!"}
    assert [line["event"] for line in memory.history(tea)] == ["ADD", "UPDATE", "UPDATE"]
    assert memory.delete(memory_id=tea) == {"message": "Memory deleted successfully!"}
    assert memory.get(tea) is None
    assert memory.delete_all(user_id="ann") == {"message": "Memories deleted successfully!"}
    assert memory.get_all(user_id="ann") == {"results": []}
    assert memory.reset() is None  # type: ignore[func-returns-value]


def test_code_for_mem0_2_runs(memory: Memory) -> None:
    added = memory.add("Ann likes tea", user_id="ann", agent_id="helper", run_id="7", infer=False)
    [item] = added["results"]
    keep(memory, "Bob likes tea", user_id="bob")
    found = memory.search("tea", filters={"user_id": "ann"}, top_k=5, threshold=0.1, rerank=False)["results"]
    assert [(hit["user_id"], hit["agent_id"], hit["run_id"]) for hit in found] == [("ann", "helper", "7")]
    either = {"OR": [{"user_id": "ann"}, {"user_id": {"in": ["bob"]}}]}
    assert len(memory.search("tea", filters=either)["results"]) == 2
    assert len(memory.get_all(filters={"user_id": "*"}, top_k=50)["results"]) == 2
    assert memory.update(item["id"], "Ann likes mint tea", {"sure": True})["message"].startswith("Memory updated")
    assert memory.update(item["id"], text="Ann likes green tea")["message"].startswith("Memory updated")
    got = memory.get(item["id"])
    assert got is not None and (got["memory"], got["metadata"]) == ("Ann likes green tea", {"sure": True})


@pytest.mark.parametrize("infer", [False, True])
def test_a_call_with_the_same_key_stores_nothing_twice(memory: Memory, infer: bool) -> None:
    memory.add("My cat is called Miso.", user_id="ann", infer=infer, key="call 1")
    before = memory.get_all(user_id="ann")["results"]
    assert memory.add("My cat is called Miso.", user_id="ann", infer=infer, key="call 1") == {"results": []}
    assert memory.get_all(user_id="ann")["results"] == before


def test_the_shapes_are_mem0s(memory: Memory) -> None:
    [item] = memory.add(TALK[0], user_id="ann", infer=False, metadata={"topic": "home"})["results"]
    assert item == {"id": item["id"], "memory": TALK[0]["content"], "event": "ADD", "actor_id": None, "role": "user"}
    [hit] = memory.search("Rome", user_id="ann")["results"]
    got = memory.get(item["id"])
    assert got is not None and got.items() <= hit.items()
    assert hit["kind"] == "memory" and hit["message"]["text"] == TALK[0]["content"]
    assert {"id", "memory", "hash", "metadata", "score", "created_at", "updated_at", "user_id", "role"} <= set(hit)
    assert hit["metadata"] == {"topic": "home"} and hit["updated_at"] is None and len(hit["hash"]) == 32
    datetime.fromisoformat(hit["created_at"])
    [line] = memory.history(item["id"])
    names = {"id", "memory_id", "old_memory", "new_memory", "event", "created_at", "updated_at", "is_deleted"}
    assert names | {"actor_id", "role"} <= set(line)
    assert (line["old_memory"], line["new_memory"], line["is_deleted"]) == (None, TALK[0]["content"], False)
    memory.delete(item["id"])
    assert memory.history(item["id"])[-1]["is_deleted"] is True


def test_what_add_did_is_told_with_the_words_before(tiny_home: Path, varied_student: Path) -> None:
    said = [f"I saw {number} apples." for number in range(3)]
    with Memory({"student": str(varied_student)}) as memory:
        results = [item for text in said for item in memory.add(text, user_id="ann")["results"]]
        assert results
        for item in results:
            assert set(item) - {"previous_memory"} == {"id", "memory", "event"}
            assert ("previous_memory" in item) == (item["event"] == "UPDATE")
            assert memory.history(item["id"])


def test_the_package_gives_memory_without_loading_models() -> None:
    assert memlora_mlx.Memory is Memory and "Memory" in memlora_mlx.__all__


# What add takes


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ("I moved.", [("user", "I moved.")]),
        ({"role": "user", "content": "I moved."}, [("user", "I moved.")]),
        (TALK, [("user", "I moved to Rome last week."), ("assistant", "Lovely! How is it?")]),
        ([{"role": "system", "content": "Be kind."}, *TALK[:1]], [("user", "I moved to Rome last week.")]),
        ([{"role": "tool", "content": "42"}, {"role": "user", "content": "I moved."}], [("user", "I moved.")]),
        ([{"role": "assistant", "content": None, "tool_calls": []}, TALK[0]], [("user", TALK[0]["content"])]),
        ([{"role": "user", "content": ["I moved", {"type": "text", "text": "to Rome."}]}], [("user", "I moved to Rome.")]),
    ],
)  # fmt: skip
def test_messages_come_as_text_one_or_many(
    memory: Memory, heard: list[Exchange], messages: Any, said: list[tuple[str, str]]
) -> None:
    memory.add(messages, user_id="ann")
    assert [(message.role, message.text) for exchange in heard for message in exchange.messages] == said


def test_an_image_part_is_kept_with_its_words(memory: Memory, heard: list[Exchange]) -> None:
    """Mem0 drops images silently unless a server is told to describe them."""
    parts = [
        {"type": "text", "text": "Look at my cat."},
        {"type": "image_url", "image_url": {"url": "https://photos/cat.jpg"}},
    ]
    memory.add([{"role": "user", "content": parts}], user_id="ann")
    memory.add({"role": "user", "content": {"type": "image_url", "image_url": {"url": "cat.png"}}}, user_id="ann")
    images = [(m.text, m.image.source) for exchange in heard for m in exchange.messages if m.image]
    assert images == [("Look at my cat.", "https://photos/cat.jpg"), ("", "cat.png")]

    [item] = memory.add([{"role": "user", "content": parts}], user_id="ann", infer=False)["results"]
    record = memory.workspace.store.get(item["id"])
    assert record is not None and record.image is not None and record.image.source == "https://photos/cat.jpg"
    only_image = {"role": "user", "content": [parts[1]]}
    assert memory.add(only_image, user_id="ann", infer=False) == {"results": []}


def test_the_time_something_was_said_comes_from_the_conversation(memory: Memory, heard: list[Exchange]) -> None:
    """Mem0 stamps imported chats with today (mem0 3944)."""
    memory.add("I moved.", user_id="ann", timestamp="2023-05-08T13:56")
    memory.add("I moved.", user_id="ann", timestamp=1683554160)
    memory.add([{**TALK[0], "timestamp": "2023-05-09"}, {**TALK[1], "created_at": 1683700000}], user_id="ann")
    memory.add("I moved.", user_id="ann")
    times = [message.said_at for exchange in heard for message in exchange.messages]
    assert times[:2] == [datetime(2023, 5, 8, 13, 56), datetime(2023, 5, 8, 13, 56, tzinfo=UTC)]
    assert times[2:4] == [datetime(2023, 5, 9), datetime(2023, 5, 10, 6, 26, 40, tzinfo=UTC)]
    assert times[4] is not None and datetime.now(UTC) - times[4] < timedelta(minutes=1)

    [old] = keep(memory, "Ann likes tea", timestamp=datetime(2021, 1, 2))
    got = memory.get(old)
    assert got is not None and got["said_at"].startswith("2021-01-02")
    assert got["created_at"].startswith(str(datetime.now(UTC).date()))
    memory.update(old, "Ann likes mint tea")
    after = memory.get(old)
    assert after is not None and after["said_at"] == got["said_at"]


def test_verbatim_keeps_every_word_who_said_it_and_asks_no_student(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory.workspace.pipeline, "remember", None)
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "ICH MAG TEE ☕ und نعناع", "name": "ann"},
        {"role": "assistant", "content": "Noted."},
    ]
    results = memory.add(messages, user_id="u", infer=False)["results"]
    assert [(item["memory"], item["role"], item["actor_id"]) for item in results] == [
        ("ICH MAG TEE ☕ und نعناع", "user", "ann"),
        ("Noted.", "assistant", None),
    ]
    got = memory.get(results[0]["id"])
    assert got is not None and (got["role"], got["actor_id"], got["metadata"]) == ("user", "ann", None)
    assert len(memory.get_all(user_id="u", filters={"role": "user"})["results"]) == 1


def test_the_same_words_may_be_stored_twice_without_deleting_the_first(memory: Memory) -> None:
    """Adding a memory twice deleted it in Mem0 (mem0 1674)."""
    assert len(set(keep(memory, "Ann likes tea", "Ann likes tea"))) == 2


def test_an_expired_memory_is_kept_but_not_shown(memory: Memory) -> None:
    today = datetime.now(UTC).date()
    keep(memory, "Ann is away", expiration_date=today - timedelta(days=1))
    keep(memory, "Ann is here", expiration_date=str(today))
    assert [item["memory"] for item in memory.get_all(user_id="ann")["results"]] == ["Ann is here"]
    assert [item["memory"] for item in memory.search("Ann", user_id="ann")["results"]] == ["Ann is here"]
    assert len(memory.get_all(user_id="ann", show_expired=True)["results"]) == 2
    assert len(memory.search("Ann", user_id="ann", show_expired=True)["results"]) == 2


def test_a_day_of_expiry_ends_with_it_however_it_is_written_and_never_is_a_day_too(memory: Memory) -> None:
    for written in (date(2026, 12, 1), "2026-12-01", "1 December 2026"):
        [item] = memory.add("Ann is away", user_id="ann", infer=False, expiration_date=written)["results"]
        assert memory.get(item["id"])["expiration_date"] == "2026-12-02T00:00:00+00:00"  # type: ignore[index]
    keep(memory, "Ann lives", expiration_date="9999-12-31")
    assert "Ann lives" in [item["memory"] for item in memory.get_all(user_id="ann")["results"]]


# What is long, or broken


def test_long_words_are_kept_whole(memory: Memory) -> None:
    long = "Ann wrote down all of it, and at the end " * 20 + "the code is 4711"
    [first] = keep(memory, long)
    [second] = keep(memory, "short")
    memory.update(second, long)
    assert [memory.get(each)["memory"] for each in (first, second)] == [long, long]  # type: ignore[index]
    memory.add(TALK, user_id="ann")  # the student is shown them, and decides on them
    assert memory.ask("What is the code?", user_id="ann").hits


def test_half_an_emoji_is_no_error(memory: Memory) -> None:
    keep(memory, "Ann likes \ud83d tea")
    assert memory.search("\ud83d tea", user_id="ann")["results"]
    assert memory.ask("tea \ud83d?", user_id="ann").hits


# Scopes


@pytest.mark.parametrize(
    "call",
    [
        lambda memory: memory.add("x"),
        lambda memory: memory.add("x", user_id=""),
        lambda memory: memory.add("x", user_id="  "),
        lambda memory: memory.add("x", user_id=7),
        lambda memory: memory.search("x"),
        lambda memory: memory.search("x", filters={"source": "user_id"}),
        lambda memory: memory.search("x", filters={"NOT": [{"user_id": "ann"}]}),
        lambda memory: memory.get_all(),
        lambda memory: memory.delete_all(),
        lambda memory: memory.search("", user_id="ann"),
        lambda memory: memory.add([], user_id="ann"),
        lambda memory: memory.add([{"role": "wizard", "content": "x"}], user_id="ann"),
        lambda memory: memory.add("x", user_id="ann", timestamp="someday"),
        lambda memory: memory.add("x", user_id="ann", prompt="Do it my way"),
        lambda memory: memory.update("nothing", text="x"),
        lambda memory: memory.delete("nothing"),
        lambda memory: memory.search("x", user_id="ann", filters={"said_at": {"near": 1}}),
    ],
)
def test_what_cannot_be_done_is_a_value_error_of_one_line(memory: Memory, call: Any) -> None:
    with pytest.raises(ValueError) as caught:
        call(memory)
    assert isinstance(caught.value, MemloraError) and "\n" not in str(caught.value)
    assert memory.workspace.store.count() == 0


def test_scopes_are_trimmed_and_kept_apart(memory: Memory) -> None:
    keep(memory, "Ann likes tea", user_id=" ann ")
    keep(memory, "Bob likes tea", user_id="bob")
    memory.add("The helper likes tea", agent_id="helper", infer=False)
    found = memory.search("tea", user_id="ann")["results"]
    assert [(item["memory"], item["user_id"]) for item in found] == [("Ann likes tea", "ann")]
    assert [item["memory"] for item in memory.get_all(agent_id="helper")["results"]] == ["The helper likes tea"]
    memory.delete_all(user_id="bob")
    assert len(memory.get_all(filters={"user_id": "*"})["results"]) == 1
    assert len(memory.get_all(agent_id="helper")["results"]) == 1


# Searching


def test_a_higher_score_is_nearer_and_a_threshold_keeps_the_nearest(memory: Memory) -> None:
    """Scores that were distances, and thresholds the wrong way round (mem0 3144, 4453, 4999)."""
    keep(memory, "ann likes tea", "bob bought a bicycle", "the doctor said no", "seven green apples")
    found = memory.search("ann likes tea", user_id="ann")["results"]
    scores = [item["score"] for item in found]
    assert found[0]["memory"] == "ann likes tea" and scores[0] == pytest.approx(1.0, abs=1e-4)
    assert scores == sorted(scores, reverse=True) and len(scores) == 4
    above = (scores[0] + scores[1]) / 2
    assert [item["score"] for item in memory.search("ann likes tea", user_id="ann", threshold=above)["results"]] == [
        scores[0]
    ]
    assert len(memory.search("ann likes tea", user_id="ann", threshold=-1.0)["results"]) == 4


def test_search_by_when_it_was_said_and_where_it_is_from(memory: Memory) -> None:
    for month in (1, 2, 3):
        keep(memory, f"tea in month {month}", timestamp=date(2023, month, 1))
    found = memory.search("tea", user_id="ann", said_after="2023-02-01", said_before=datetime(2023, 3, 1))["results"]
    assert [item["memory"] for item in found] == ["tea in month 2"]
    assert len(memory.search("tea", user_id="ann", source="api")["results"]) == 3
    assert memory.search("tea", user_id="ann", source="conv-26")["results"] == []


def test_metadata_filters_work_as_in_mem0(memory: Memory) -> None:
    keep(memory, "tea", metadata={"topic": "drinks", "cups": 7})
    keep(memory, "rome", metadata={"topic": "places"})
    for filters in ({"topic": "drinks"}, {"cups": {"gte": 5}}, {"NOT": [{"topic": {"eq": "places"}}]}):
        assert [i["memory"] for i in memory.search("x", user_id="ann", filters=filters)["results"]] == ["tea"]


# Asking, undoing, and the rest


def test_an_answer_comes_from_each_user_asked(memory: Memory) -> None:
    keep(memory, *(f"ann fact {n}" for n in range(4)), user_id="Ann_1")
    keep(memory, *(f"bob fact {n}" for n in range(4)), user_id="Bob_1")
    pieces: list[str] = []
    both = memory.ask("fact?", user_id=["Ann_1", "Bob_1"], limit=3, on_text=pieces.append)
    assert len(both.hits) == 6 and {hit.owner.user_id for hit in both.hits} == {"Ann_1", "Bob_1"}
    scores = [hit.score for hit in both.hits]
    assert scores == sorted(scores, reverse=True)
    assert "".join(pieces).strip() == both.text
    assert {hit.owner.user_id for hit in memory.ask("fact?", user_id="Ann_1").hits} == {"Ann_1"}
    assert len(memory.ask("fact?").hits) == 8
    assert memory.ask("fact?", user_id="nobody").hits == ()


def test_every_change_can_be_undone(memory: Memory) -> None:
    [tea] = keep(memory, "Ann likes tea")
    memory.update(tea, "Ann likes coffee")
    memory.delete(tea)
    [cat] = keep(memory, "Bob has a cat", user_id="bob")
    assert memory.undo(user_id="ann")["new_memory"] == "Ann likes coffee"
    assert memory.get(cat) is not None, "what came later is of somebody else"
    memory.undo(user_id="ann")
    got = memory.get(tea)
    assert got is not None and got["memory"] == "Ann likes tea"
    memory.undo(user_id="ann")
    assert memory.get(tea) is None
    with pytest.raises(MemloraError, match="nothing to undo"):
        memory.undo(user_id="ann")


def test_new_metadata_alone_keeps_the_words(memory: Memory) -> None:
    [tea] = keep(memory, "Ann likes tea", metadata={"topic": "drinks"})
    memory.update(tea, metadata={"sure": True})
    got = memory.get(tea)
    assert got is not None
    assert (got["memory"], got["metadata"]) == ("Ann likes tea", {"topic": "drinks", "sure": True})
    with pytest.raises(UsageError, match="needs some text"):
        memory.update(tea, " \n ")
    with pytest.raises(MemoryNotFound):
        memory.update("nothing", "x")


def test_reset_forgets_everything(memory: Memory) -> None:
    [tea] = keep(memory, "Ann likes tea")
    memory.reset()
    assert memory.get(tea) is None and memory.history(tea) == []
    assert memory.search("tea", user_id="ann") == {"results": []}
    keep(memory, "Ann likes tea")
    home = memory.workspace.settings.home
    left = [home / "chat-history", home / "chat-history.jsonl", home / "teacher" / "update" / "corrections.jsonl"]
    left[-1].parent.mkdir(parents=True)
    for file in left:
        file.write_text("Ann")
    memory.reset()
    assert not any(file.exists() for file in left), "nor what was typed, nor what corrections have left"


def test_memories_are_there_after_closing(memory: Memory) -> None:
    keep(memory, "Ann likes tea")
    memory.close()
    memory.close()
    with Memory() as again:
        assert len(again.search("tea", user_id="ann")["results"]) == 1


# Settings


def test_a_mem0_configuration_is_taken_and_what_is_not_used_is_said(
    tiny_home: Path, tiny_student: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {
        "version": "v1.1",
        "history_db_path": "/tmp/history.db",
        "llm": {"provider": "ollama", "config": {"model": "llama3.1"}},
        "embedder": {"provider": "openai", "config": {"model": "text-embedding-3-small"}},
        "vector_store": {"provider": "qdrant", "config": {"host": "localhost"}},
        "custom_fact_extraction_prompt": "Extract everything.",
        "student": str(tiny_student),
        "limit": 3,
    }
    with caplog.at_level(logging.WARNING), Memory.from_config(config) as memory:
        assert memory.workspace.settings.limit == 3
        keep(memory, *"abcde")
        assert len(memory.search("a", user_id="ann")["results"]) == 3
    [record] = caplog.records
    for name in ("custom_fact_extraction_prompt", "embedder", "history_db_path", "llm", "vector_store", "version"):
        assert name in record.getMessage()


def test_an_unknown_setting_is_refused(tiny_home: Path) -> None:
    with pytest.raises(UsageError, match="unknown setting 'studnet'"):
        Memory.from_config({"studnet": "x"})
    with pytest.raises(UsageError, match="limit cannot be 0"):
        Memory({"limit": 0})


def test_without_a_student_memories_are_still_found_and_edited(
    tiny_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMLORA_STUDENT")
    with Memory() as memory:
        [tea] = keep(memory, "Ann likes tea")
        assert memory.search("tea", user_id="ann")["results"][0]["id"] == tea
        memory.update(tea, "Ann likes coffee")
        memory.undo(user_id="ann")
        with pytest.raises(ModelMissing, match="no student is on this disk; `memlora models pull"):
            memory.add("I moved.", user_id="ann")
        with pytest.raises(ModelMissing):
            memory.ask("Who moved?", user_id="ann")
