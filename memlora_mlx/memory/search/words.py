"""Search the words of messages and memories with SQLite's FTS5, ranked by BM25."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from memlora_mlx.memory.retrieval.lexical import match_expression
from memlora_mlx.memory.store.messages import OWNER_BITS, owner_rows

# The text of a message counts most, with the memories that came from it; the messages around it give it context.
_BM25 = "bm25(message_words, 1.0, 0.5, 1.0, 0.25)"
MAX_ROWS = 1_000  # rows that are ranked: BM25 takes about 5 microseconds for each
MAX_RANGES = 16  # owners whose rows are read one range after the other; of more owners, all rows are read


def ranked_rows(connection: sqlite3.Connection, owners: Sequence[int], terms: Sequence[str]) -> dict[int, float]:
    """The rowids in `message_words` of the owners' texts with any of the terms, with their BM25: higher is better.

    The rarest terms are taken first. Where all of them would match more than `MAX_ROWS` rows, the most frequent ones, which
    say least, are left out; of the rows of a single term that is more frequent, the newest are taken.
    """
    where, values = _ranges(owners)
    query = f"SELECT count(*) FROM (SELECT 1 FROM message_words WHERE message_words MATCH ? AND {where} LIMIT ?)"
    counts = {
        term: connection.execute(query, [match_expression([term]), *values, MAX_ROWS + 1]).fetchone()[0]
        for term in terms
    }
    chosen: list[str] = []
    total = 0
    for term in sorted(filter(counts.get, terms), key=counts.__getitem__):
        total += counts[term]
        if chosen and total > MAX_ROWS:
            break
        chosen.append(term)
    if not chosen:
        return {}
    ranked = connection.execute(
        f"SELECT rowid, -{_BM25} FROM message_words WHERE message_words MATCH ? AND {where} ORDER BY rowid DESC LIMIT ?",
        [match_expression(chosen), *values, MAX_ROWS],
    )
    wanted = None if len(owners) <= MAX_RANGES else set(owners)
    return {row: score for row, score in ranked if wanted is None or row >> OWNER_BITS in wanted}


def _ranges(owners: Sequence[int]) -> tuple[str, list[int]]:
    """SQL for the rows of these owners; for all rows where there are many owners."""
    if len(owners) > MAX_RANGES:
        return "1", []
    if len(owners) == 1:
        return "rowid BETWEEN ? AND ?", list(owner_rows(owners[0]))
    return (
        f"({' OR '.join(['rowid BETWEEN ? AND ?'] * len(owners))})",
        [bound for owner in owners for bound in owner_rows(owner)],
    )
