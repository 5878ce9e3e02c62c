"""A memory is said as the answer only where it has to do with what is asked: rules over words, and measured distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.asked_about import CONTRADICTED, asked_kind, asked_words, nearness
from memlora_mlx.memory.chat import Chat
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import load_settings

MEANINGS = {
    "car": 0,
    "volvo": 0,
    "job": 1,
    "nurse": 1,
    "town": 2,
    "porto": 2,
}  # words with one number mean nearly the same


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors in which words of one meaning share a direction, and any other word has one of its own."""
    vectors = np.zeros((len(texts), 200), np.float32)
    for row, text in enumerate(texts):
        for word in text.casefold().rstrip(".").split():
            vectors[row, MEANINGS.get(word, 3 + sum(word.encode()) % 190)] += 1
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("What is my cat called?", ["cat"]),
        ("Which town did I move to?", ["town", "move"]),
        ("Do I smoke?", ["smoke"]),
        ("What did I tell you about Anna yesterday?", ["anna"]),
        ("Where does User live?", ["live"]),
        ("Wo wohne ich?", []),
        ("¿Dónde vivo?", []),
    ],
)
def test_the_words_that_say_what_is_asked_about(question: str, asked: list[str]) -> None:
    assert asked_words(question, ["User"]) == asked


def test_a_memory_with_all_words_is_as_near_as_can_be_and_another_by_its_farthest_word() -> None:
    assert nearness(["live"], ["User lives in Linz"], embed) == [math.inf]
    assert nearness(["live"], ["User moved to Linz"], embed) == [math.inf], "who asks where I live asks for that"
    assert nearness(["work"], ["User got a job as a baker"], embed) == [math.inf]
    near, far = nearness(["car"], ["Volvo", "Linz"], embed)
    assert near == pytest.approx(2.0) and far == pytest.approx(0.0)
    [one] = nearness(["colour", "eyes"], ["User's favourite colour is green"], embed)
    assert one < 0.7, "the colour stands there, and the eyes do not"


def test_the_kind_that_is_asked_for_may_be_farther_than_what_is_asked_about() -> None:
    assert asked_kind("Which town did I move to?") == "town" and asked_kind("Where do I live?") is None
    asked, texts = ["town", "move"], ["User moved to Porto last year"]
    [plain], [kind] = nearness(asked, texts, embed), nearness(asked, texts, embed, "town")
    assert kind == pytest.approx(plain * 4 / 3)
    assert nearness(["town"], texts, embed, "town") == nearness(["town"], texts, embed), "it is all that is asked about"


@pytest.mark.parametrize(
    ("asked", "memory", "is_contradicted"),
    [
        ("cat", "User had a dog called Rex", True),
        ("brother", "User's sister Anna is a painter", True),
        ("mum", "User's mother lives in Rome", False),
        ("cat", "User has a cat and a dog", False),
        ("pet", "User had a dog called Rex", False),
    ],
)
def test_one_relative_or_animal_is_not_another(asked: str, memory: str, is_contradicted: bool) -> None:
    assert (nearness([asked], [memory], embed) == [CONTRADICTED]) is is_contradicted


def test_a_question_about_something_else_gets_no_memory_as_its_answer(tiny_home: Path) -> None:
    """The nearest memory is named as such where it is near, and not at all where it is not."""
    with Workspace(load_settings()) as workspace:
        chat = Chat(workspace.pipeline, "me", limit=3)
        # Of a cosine that the tiny embedder's vectors, which mean nothing, cannot reach: words alone decide.
        chat.pipeline.options = replace(chat.pipeline.options, talks_freely=False, least_cosine=5.0)
        Memory.of(workspace).add("User had a dog called Rex", user_id="me", infer=False)
        assert "".join(chat.reply("What was my dog called?")) == "You had a dog called Rex."
        assert [hit.text for hit in chat.cited] == ["User had a dog called Rex"]
        told = "".join(chat.reply("What is my cat called?"))
        assert told.startswith("Not mentioned: I remember nothing about that.") and not chat.cited
