"""What the user corrects becomes what the experts learn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from memlora_mlx.distill.examples import read_examples
from memlora_mlx.errors import BadTrainingData
from memlora_mlx.memory.corrections import corrections_file, count_corrections, update_corrections
from memlora_mlx.memory.store.history import memory_history, undo_change
from memlora_mlx.memory.store.store import Add, Delete, EmbeddingFingerprint, Store, Update
from memlora_mlx.records import Exchange, Message, Scope

ANN = Scope(user_id="ann")
NOON = datetime(2023, 5, 8, 12, tzinfo=UTC)


def vector(text: str) -> np.ndarray:
    numbers = np.random.default_rng(sum(map(ord, text))).normal(size=8).astype(np.float32)
    return numbers / np.linalg.norm(numbers)


def embed(texts: list[str]) -> np.ndarray:
    return np.stack([vector(text) for text in texts])


def exchange(key: str, said: str, source: str = "chat") -> Exchange:
    return Exchange(key, ANN, (Message("user", said), Message("assistant", "Good.")), NOON, source, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", EmbeddingFingerprint("test", 8)) as opened:
        yield opened


def answers(home: Path, stage: str) -> list[object]:
    file = corrections_file(home, stage)  # type: ignore[arg-type]
    return [json.loads(row.answer) for row in read_examples(file)] if file.exists() else []


def test_an_edit_teaches_the_extraction_the_right_words(store: Store, tmp_path: Path) -> None:
    added = store.commit(
        ANN,
        [Add("Ann lives in Rome", vector("a")), Add("Ann likes tea", vector("b"))],
        exchange=exchange("x1", "I live in Bergen and like tea."),
    )
    assert added is not None
    assert update_corrections(store, tmp_path, added[0].memory_id) == 0, "nothing is corrected yet"
    assert count_corrections(tmp_path) == 0

    store.revise(added[0].memory_id, "Ann lives in Bergen", vector("c"))
    update_corrections(store, tmp_path, added[0].memory_id)
    assert answers(tmp_path, "extraction") == [{"facts": ["Ann lives in Bergen", "Ann likes tea"]}]
    [row] = read_examples(corrections_file(tmp_path, "extraction"))
    assert row.teacher == "user" and row.split == "train" and "I live in Bergen and like tea." in row.chat[0][1]

    store.delete(added[1].memory_id)
    update_corrections(store, tmp_path, added[1].memory_id)
    assert answers(tmp_path, "extraction") == [{"facts": ["Ann lives in Bergen"]}], "one row an exchange, the newest"
    assert count_corrections(tmp_path) == 1


def test_a_correction_that_is_taken_back_goes_again(store: Store, tmp_path: Path) -> None:
    [added] = store.commit(ANN, [Add("Ann likes tea", vector("b"))], exchange=exchange("x1", "I like tea.")) or []
    store.delete(added.memory_id)
    update_corrections(store, tmp_path, added.memory_id)
    assert answers(tmp_path, "extraction") == [{"facts": []}]
    undo_change(store, embed)
    update_corrections(store, tmp_path, added.memory_id)
    assert count_corrections(tmp_path) == 0


def test_an_undone_change_teaches_the_update_to_leave_the_memory(store: Store, tmp_path: Path) -> None:
    [first] = store.commit(ANN, [Add("Ann has a cat", vector("cat"))], exchange=exchange("x1", "I have a cat.")) or []
    changes = [Update(first.memory_id, "Ann has a dog", vector("dog")), Add("Ann runs", vector("runs"))]
    store.commit(ANN, changes, exchange=exchange("x2", "My sister has a dog. I run."))
    [line] = [line for line in memory_history(store, first.memory_id) if line.event == "UPDATE"]
    undo_change(store, embed, line.id)
    update_corrections(store, tmp_path, first.memory_id)
    assert answers(tmp_path, "extraction") == []
    assert answers(tmp_path, "update") == [{"memory": [{"id": "1", "text": "Ann runs", "event": "ADD"}]}]
    [row] = read_examples(corrections_file(tmp_path, "update"))
    assert 'Old memories:[{"id": "0", "text": "Ann has a cat"}]' in row.chat[0][1]


def test_a_memory_removed_wrongly_needs_the_facts(store: Store, tmp_path: Path) -> None:
    [first] = store.commit(ANN, [Add("Ann drinks tea", vector("t"))], exchange=exchange("x1", "I drink tea.")) or []
    store.commit(ANN, [Delete(first.memory_id)], exchange=exchange("x2", "No coffee for me."))
    undo_change(store, embed)
    update_corrections(store, tmp_path, first.memory_id)
    assert count_corrections(tmp_path) == 0, "the history does not keep why it was removed"
    update_corrections(store, tmp_path, first.memory_id, facts=["Ann drinks no coffee"])
    assert answers(tmp_path, "update") == [{"memory": []}]


def test_words_of_an_update_are_corrected_for_both_experts(store: Store, tmp_path: Path) -> None:
    [first] = (
        store.commit(ANN, [Add("Ann lives in Rome", vector("r"))], exchange=exchange("x1", "I live in Rome.")) or []
    )
    store.commit(ANN, [Update(first.memory_id, "Ann lives in Osl", vector("o"))], exchange=exchange("x2", "Now Oslo."))
    store.revise(first.memory_id, "Ann lives in Oslo", vector("o2"))
    update_corrections(store, tmp_path, first.memory_id)
    assert answers(tmp_path, "extraction") == [{"facts": ["Ann lives in Oslo"]}]
    expected = {"id": "0", "text": "Ann lives in Oslo", "event": "UPDATE", "old_memory": "Ann lives in Rome"}
    assert answers(tmp_path, "update") == [{"memory": [expected]}]


def test_test_conversations_teach_nothing(store: Store, tmp_path: Path) -> None:
    for source in ("conv-30", "conv-41"):
        talk = exchange(source, "I like tea.", source)
        [added] = store.commit(ANN, [Add(f"{source} tea", vector("b"))], exchange=talk) or []
        store.delete(added.memory_id)
        assert update_corrections(store, tmp_path, added.memory_id) == 0


def test_a_damaged_file_is_left_alone(store: Store, tmp_path: Path) -> None:
    [added] = store.commit(ANN, [Add("Ann likes tea", vector("b"))], exchange=exchange("x1", "I like tea.")) or []
    file = corrections_file(tmp_path, "extraction")
    file.parent.mkdir(parents=True)
    file.write_text("mine\n")
    store.delete(added.memory_id)
    with pytest.raises(BadTrainingData, match="line 1"):
        update_corrections(store, tmp_path, added.memory_id)
    assert file.read_text() == "mine\n"
