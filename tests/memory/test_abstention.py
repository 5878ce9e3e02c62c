"""Questions that the memories of somebody else answer are declined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memlora_mlx.memory.abstention import is_about_somebody_else
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Hit, Scope

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
