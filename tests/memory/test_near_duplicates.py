"""Which memories are pointed out as saying nearly the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from memlora_mlx.memory.near_duplicates import near_duplicates
from memlora_mlx.records import MemoryRecord, Scope


def memory(text: str, number: int, owner: str = "me") -> MemoryRecord:
    return MemoryRecord(str(number), text, Scope(owner), None, datetime(2026, 3, 1, tzinfo=UTC), None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("User lives in Linz", "User lives in Linz.", True),
        ("User plays the violin", "User is playing violin", True),
        ("User has a black cat", "User has a black cat, Moss", True),
        ("User lives in Linz", "User lives in Graz", False),
        ("User eats meat", "User does not eat meat", False),
        ("User doesn't like tea", "User likes tea", False),
        ("User has a dog", "User has a dog called Rex", False),
        ("User was born in 1984", "User was born in 1985", False),
        ("User saw 32 ships at the harbour", "User saw 32 ships at the harbour on day 39", False),
        ("User owns house 100", "User owns house 1001", False),
    ],
)
def test_what_says_nearly_the_same(one: str, other: str, same: bool) -> None:
    assert near_duplicates([memory(one, 1), memory(other, 2)]) == ({"2": "1"} if same else {})


def test_only_memories_of_one_owner_are_compared() -> None:
    assert near_duplicates([memory("I like tea", 1), memory("I like tea", 2, "ann"), memory("I like tea", 3)]) == {
        "3": "1"
    }
