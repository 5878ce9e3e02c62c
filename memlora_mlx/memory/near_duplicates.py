"""Memories that say nearly the same, for a person who tidies them up. Rules over words: nothing is deleted by them.

Two memories of one owner say nearly the same if they have the same content words, or one has all words of the other and
few more ("User lives in Linz", "User lives in Linz, Austria"). A "not" in only one of them makes them say the opposite.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from memlora_mlx.memory.grounding import occurs
from memlora_mlx.memory.retrieval.lexical import content_words
from memlora_mlx.records import MemoryRecord

LEAST_SHARE = 2 / 3  # of the longer one's content words that the shorter one has
_GENERAL = content_words("user")
_NOT = re.compile(r"\b(?:not|no|never|nobody|nothing|without)\b|n['’]t\b", re.IGNORECASE)


def near_duplicates(memories: Sequence[MemoryRecord]) -> dict[str, str]:
    """The id of each memory that says nearly the same as one before it in the list, with the id of that one."""
    found: dict[str, str] = {}
    known: list[tuple[MemoryRecord, frozenset[str], bool]] = []
    for memory in memories:
        words, is_denied = content_words(memory.text) - _GENERAL, _NOT.search(memory.text) is not None
        for other, spoken, was_denied in known:
            if other.owner == memory.owner and was_denied == is_denied and say_the_same(words, spoken):
                found[memory.id] = other.id
                break
        else:
            known.append((memory, words, is_denied))
    return found


def say_the_same(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether all words of the shorter one stand in the longer one, which has few others, and both have the same numbers."""
    short, long = sorted((one, other), key=len)
    if not short or len(short) < LEAST_SHARE * len(long):
        return False
    if {word for word in short if not word.isalpha()} != {word for word in long if not word.isalpha()}:
        return False
    return all(word in long or occurs(word, long) for word in short)
