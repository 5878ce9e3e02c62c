"""Questions about a time, answered by rule: counting days is code's work and not a small model's.

"When did Ann move?" is answered by the best hit: by the time that its words name ("last week", seen from the day they were
said), or else, if it is about the past, by that day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from memlora_mlx import temporal
from memlora_mlx.memory.retrieval.lexical import content_words, sentences
from memlora_mlx.memory.stages.text import format_day
from memlora_mlx.records import Hit

_ASKS_WHEN = re.compile(r"\s*when\b", re.IGNORECASE)
_ASKS_WHEN_IT_WAS = re.compile(r"\s*when\s+(?:did|was|were|had)\b", re.IGNORECASE)


def dated_answer(question: str, hits: Sequence[Hit]) -> str | None:
    """The day or span of days that answers the question; None if it asks for something else, or the best hit has no time.

    Args:
        hits: best first.
    """
    if not hits or not _ASKS_WHEN.match(question):
        return None
    best = hits[0]
    if best.said_at is None:
        return None
    text = best.message.text if best.message is not None else best.text
    asked = content_words(question)
    for sentence in sorted(sentences(text), key=lambda each: -len(content_words(each) & asked)):
        if found := temporal.find(sentence, best.said_at.date()):
            return temporal.written(found[0].span)
    return format_day(best.said_at) if _ASKS_WHEN_IT_WAS.match(question) else None
