"""What of a search's hits an answer is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memlora_mlx import Memory
from memlora_mlx.memory.answering import Answerer
from memlora_mlx.records import Hit, MessageKey, Scope, SourceMessage


@pytest.fixture
def memory(tiny_home: Path) -> Iterator[Memory]:
    with Memory() as opened:
        yield opened


def hits(*scores: float) -> list[Hit]:
    said_at = datetime(2024, 3, 3, tzinfo=UTC)
    owner = Scope(user_id="maya")
    return [
        Hit(
            None,
            SourceMessage(MessageKey("key", i), owner, "user", f"Word {i}", None, said_at, None, None, "chat"),
            score,
        )
        for i, score in enumerate(scores)
    ]


def given(memory: Memory, found: Sequence[Hit], share: float) -> int:
    """How many of the hits the request for an answer has."""
    pipeline = memory.workspace.pipeline
    answerer = Answerer(pipeline.engine, pipeline.store, replace(pipeline.options, score_share=share))
    request, left_out = answerer.answer_request("Which word?", found)
    text = request.chat[-1][1]
    assert all((f"Word {i} " in text) == (i < len(found) - left_out) for i in range(len(found)))
    return len(found) - left_out


def test_an_answer_is_not_given_hits_that_fit_far_worse_than_the_best(memory: Memory) -> None:
    assert given(memory, hits(1.0, 0.7, 0.6, 0.59, 0.1), 0.6) == 3
    assert given(memory, hits(1.0, 0.7, 0.6, 0.59, 0.1), 0.0) == 5
    assert given(memory, hits(0.2, 0.19), 0.6) == 2  # far from the question, but alike
    assert given(memory, hits(1.0), 0.6) == 1
    assert given(memory, hits(1.0, 0.3, -0.1), 0.6) == 1  # a message that has nothing in common with the question
    assert given(memory, hits(1.0, 0.3, -0.1), 0.0) == 3
    assert given(memory, hits(-0.1, -0.2), 0.6) == 2


def test_a_pinned_memory_without_a_score_is_given(memory: Memory) -> None:
    assert given(memory, hits(0.0, 0.9, 0.2), 0.6) == 2
