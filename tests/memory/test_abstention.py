"""Questions that the memories of somebody else answer are declined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memlora_mlx import Memory
from memlora_mlx.memory.abstention import fits_nothing, is_about_somebody_else
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Hit, MessageKey, Scope, SourceMessage

ANN, BOB = Scope(user_id="Ann_7"), Scope(user_id="Bob_7")
TOPICS = ("cat", "guitar", "Rome")


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Texts are near each other that have topics in common; a name is a topic of its own."""
    rows = [[1.0 * (word in text) for word in (*TOPICS, "Ann", "Bob")] + [0.3] for text in texts]
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path, EmbeddingFingerprint("topics", len(TOPICS) + 3)) as opened:
        for owner, texts in ((ANN, ["Ann plays the guitar"]), (BOB, ["Bob has a cat", "Bob moved to Rome"])):
            opened.commit(owner, [Add(text, vector) for text, vector in zip(texts, embed(texts), strict=True)])
        yield opened


def found(store: Store, question: str, *owners: Scope) -> list[Hit]:
    [vector] = embed([question])
    return [Hit(near.memory, None, near.score) for owner in owners for near in store.search(vector, 3, scope=owner)]


@pytest.mark.parametrize(
    ("question", "declined"),
    [
        ("When did Ann adopt a cat?", True),
        ("What is Ann's cat called?", True),
        ("When did Bob adopt a cat?", False),
        ("Does Ann play the guitar?", False),
        ("Does Bob play the guitar?", True),
        ("Which of Ann and Bob has a cat?", False),  # about both
        ("Who has a cat?", False),  # about nobody by name
        ("Has Annabel a cat?", False),  # another name
        ("Ann?", False),
    ],
)
def test_a_question_is_declined_where_it_fits_somebody_elses_memories(
    store: Store, question: str, declined: bool
) -> None:
    assert is_about_somebody_else(question, found(store, question, ANN, BOB), store, embed) is declined


def test_one_persons_memories_are_never_somebody_elses(store: Store) -> None:
    question = "When did Ann adopt a cat?"
    assert not is_about_somebody_else(question, found(store, question, ANN), store, embed)
    assert not is_about_somebody_else(question, [], store, embed)


@pytest.mark.parametrize(("question", "nothing"), [("Who has a cat?", False), ("What is the capital of France?", True)])
def test_a_question_about_nothing_that_was_found_is_declined(store: Store, question: str, nothing: bool) -> None:
    hits = found(store, question, BOB)
    assert fits_nothing(question, hits, store, embed, least=0.5) is nothing


@pytest.mark.parametrize("question", ["What did I study?", "What is Bob's favourite colour?", "How old is our piano?"])
def test_a_question_about_the_asker_or_a_person_of_the_memories_is_always_asked(store: Store, question: str) -> None:
    assert not fits_nothing(question, found(store, question, BOB), store, embed, least=0.99)


def test_what_was_said_counts_where_no_memory_came_of_it(store: Store) -> None:
    said = SourceMessage(MessageKey("x", 0), BOB, "user", "my guitar is old", None, None, None, None, "chat")
    question = "How old is the guitar?"
    assert fits_nothing("cat", found(store, "cat", ANN), store, embed, least=0.9)
    assert not fits_nothing(question, [Hit(None, said, 0.4)], store, embed, least=0.9)


@pytest.mark.starter
def test_ask_answers_from_memories_unless_free(starter_models: Path, isolated_home: Path) -> None:
    isolated_home.mkdir(parents=True)
    (isolated_home / "models").symlink_to(starter_models)
    with Memory() as memory:
        memory.add("My cat is called Miso.", user_id="ann")
        question = "What is the capital of France?"
        declined = memory.ask(question, user_id="ann")
        assert (declined.text, declined.cost.prompt_tokens) == ("Not mentioned", 0)
        assert memory.ask(question, user_id="ann", free=True).cost.prompt_tokens > 0
        assert "Miso" in memory.ask("What is the name of my cat?", user_id="ann").text
