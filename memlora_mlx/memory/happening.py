"""When what a memory tells happens: the times its words name, seen from the day they were said.

Nothing of it is stored. The words and their day are, and the calendar follows from the two: a mended rule or a corrected day
then holds for every memory at once, and a stored span cannot contradict its words.
"""

from __future__ import annotations

from collections.abc import Mapping

from memlora_mlx import temporal
from memlora_mlx.records import MemoryRecord


def times_of(memory: MemoryRecord) -> tuple[temporal.Expression, ...]:
    """The words of a memory that name a time, each with its days; none where it is not known when they were said."""
    return temporal.find(memory.text, memory.said_at) if memory.said_at else ()


def times_json(memory: MemoryRecord) -> list[Mapping[str, str]]:
    """The same for JSON: the words, the first and the last day (ISO 8601), and how exactly the time was named."""
    return [
        {
            "words": memory.text[time.start : time.end],
            "from": time.begins.isoformat(),
            "to": time.ends.isoformat(),
            "granularity": time.granularity,
        }
        for time in times_of(memory)
    ]


def times_line(memory: MemoryRecord) -> str:
    """The same for people: "7 May 2023 (yesterday)"."""
    found = [(temporal.written(time.span), memory.text[time.start : time.end]) for time in times_of(memory)]
    return "; ".join(f"{day} ({words})" for day, words in found if day.casefold() != words.casefold())
