"""Search what was said and what is remembered of it, in one ranking.

    question - words - BM25 ────────────────────┐
             - vector - nearest messages ───────┤ candidates - scores - hits: messages with their memories
                      - nearest memories ───────┘

A message's score is a sum: the cosine of the question with the message and the one before it, the cosine with the best
memory that came from the message, BM25, and smaller terms for a speaker and a time that the question names. A sum of scores
finds more of what is needed, most of all at the top, than a fusion of ranks or a trained scorer does; the weights are round
numbers, and none of them matters much by itself (see docs/evaluation.md).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memlora_mlx import temporal
from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import Vector
from memlora_mlx.memory.retrieval.conditions import expiry, ranges
from memlora_mlx.memory.retrieval.filters import Condition, all_of, from_filters
from memlora_mlx.memory.retrieval.lexical import question_terms
from memlora_mlx.memory.retrieval.search import nearest
from memlora_mlx.memory.retrieval.tables import MEMORIES, MESSAGES, VectorTable, vectors_from
from memlora_mlx.memory.search.words import ranked_rows
from memlora_mlx.memory.store import messages, meta, rows
from memlora_mlx.memory.store.checksums import require_sound, sound_sql
from memlora_mlx.memory.store.owner_indexes import current_indexes, owner_rows
from memlora_mlx.records import Hit, Image, MessageKey, Scope, SourceMessage

if TYPE_CHECKING:
    from memlora_mlx.memory.store.store import Store

POOL = 30  # of each of the three lists, for each scope; more find nothing more
SPEAKER_WEIGHT = 0.4  # the question names one speaker, and this is what they said
DATE_WEIGHT = 1.0  # the question names a day, and this was said on it; half of it for longer times
SUPERSEDED_PENALTY = 1.0
SCALE = 3.0  # of the three main terms together, so that a perfect match has a score of about 1.0
_ASKING = (
    "who who's whose what what's whats when where where's which why how how's do does did am is are was were has have had can could will"
    " would should tell list"
)
# A question has its mark, or begins as one and has no end of a sentence at all, as people type.
_IS_QUESTION = f"""
    (rtrim(g.text) LIKE '%?' OR (rtrim(g.text) NOT LIKE '%.' AND rtrim(g.text) NOT LIKE '%!' AND instr(
        ' {_ASKING.replace("'", "''")} ', ' ' || lower(substr(g.text, 1, instr(g.text || ' ', ' ') - 1)) || ' '
    ) > 0))
"""
# In a chat with memlora itself, its replies and the user's questions say nothing new: they repeat what was remembered then,
# and would go on to say it when that has changed. Such an exchange stands alone, and its key is a random UUID.
_OF_OWN_CHAT = f"""
    x.source = 'chat' AND x.position = 0 AND x.key GLOB '????????????4???[89ab]???????????????' AND (
        m.position > 0 OR EXISTS (
            SELECT 1 FROM messages g WHERE g.exchange = m.exchange AND g.position = 0 AND {_IS_QUESTION}
        )
    )
"""
_TO_BE_FOUND = Condition(f"NOT m.is_forgotten AND NOT ({_OF_OWN_CHAT})")


@dataclass(slots=True, eq=False)
class _Candidate:
    """Something that may be a hit: a message, or a memory alone."""

    row: int  # in indexed_messages, or in memories
    owner: int
    speaker: str | None
    said_at: str | None  # as it is stored
    turn: tuple[object, ...] | None = None  # what a message has in common in the conversations of all its owners
    memories: list[int] = field(default_factory=list)  # rows of those that may be shown with it
    cosine: float = 0.0  # with the message and the one before it
    best_memory: int | None = None
    memory_cosine: float = 0.0
    words: float = 0.0
    superseded_at: datetime | None = None
    score: float = 0.0


def find_hits(
    store: Store,
    question: str,
    vector: Vector,
    limit: int,
    *,
    scopes: Sequence[Scope] = (Scope(),),
    owner_exact: bool = False,
    filters: Mapping[str, Any] | None = None,
    said_after: datetime | None = None,
    said_before: datetime | None = None,
    source: str | None = None,
    show_expired: bool = False,
    show_superseded: bool = True,
) -> list[Hit]:
    """The best messages and memories for a question, best first.

    The same turn in the conversations of two owners is one hit. What somebody has deleted is not found by the words it
    came from either; words whose memories were changed or withdrawn rank lower and are marked.

    Args:
        vector: of the question; unit length, shape (dim,).
        scopes: whose memories, all in one ranking; a None in one means any, and with `owner_exact` that the owner has none.
        said_after, said_before: from the first on, and before the second.
        source: the conversation they came from.
        show_superseded: find words whose memories were changed or withdrawn, too.

    Raises:
        StoreError: a vector of another embedder.
        UsageError: see `filters`.
    """
    query = inputs.checked_vector(np.asarray(vector), store.embedding)
    common = expiry(store.clock(), show_expired)
    indexed, chosen = ranges(source, said_after, said_before), from_filters(filters)
    with store.indexes.lock, store.message_indexes.lock, store.snapshot() as connection:
        position = meta.read_revision(connection, store.embedding, store.folder)
        kinds = current_indexes(connection, position, scopes, owner_exact, store.message_indexes, store.indexes)
        about = store.indexes.cache.get(
            position, ("about", tuple(scopes), owner_exact), lambda: _About.read(connection, scopes, owner_exact)
        )
        owners = about.owners
        if not owners or limit < 1:
            return []
        pool = max(POOL * len(scopes), 2 * limit)
        near = [
            nearest(
                connection,
                indexes,
                query,
                pool,
                table=table,
                common=all_of(common, _TO_BE_FOUND) if table is MESSAGES else common,
                indexed=indexed,
                filters=chosen,
            )
            for indexes, table in zip(kinds, (MESSAGES, MEMORIES), strict=True)
        ]
        search = _Search(connection, about, question, query, all_of(common, indexed, chosen))
        is_filtered = (said_after, said_before, source) != (None, None, None) or bool(filters)
        found = search.candidates(
            [row for row, _ in near[0]], [row for row, _ in near[1]], pool * (8 if is_filtered else 1)
        )
        search.measure(found, dict(near[0]), dict(near[1]))
        _score(found, question, search.names, _asked_times(question, store.clock(), about.last_said))
        if len(owners) > 1:
            found = _merged(found, search.forgotten_turns())
        if not show_superseded:
            found = [each for each in found if each.superseded_at is None]
        best = sorted(found, key=lambda each: (-each.score, each.row))[:limit]
        return _as_hits(connection, best)


@dataclass(frozen=True, slots=True)
class _About:
    """What searches of the same owners have in common until something is written."""

    owners: list[int]
    names: list[str]  # of those who speak
    last_said: datetime | None

    @classmethod
    def read(cls, connection: sqlite3.Connection, scopes: Sequence[Scope], exact: bool) -> _About:
        owners = owner_rows(connection, scopes, exact)
        return cls(owners, messages.speakers(connection, owners), messages.said_last(connection, owners))


class _Search:
    """One search, within one read transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        about: _About,
        question: str,
        query: Vector,
        where: Condition,
    ) -> None:
        owners = about.owners
        self.connection, self.owners, self.query, self.where = connection, owners, query, where
        self.names = about.names
        words = {word for name in self.names for word in question_terms(name)}
        self.words = ranked_rows(connection, owners, question_terms(question, words))

    def candidates(self, near_messages: Sequence[int], near_memories: Sequence[int], pool: int) -> list[_Candidate]:
        """The union of the lists, each message with those of its memories that the conditions let through.

        Args:
            pool: rows of the ranking by words that are looked at.
        """
        # They come in descending order of their rows; of equal ones the first row goes first.
        by_row = list(self.words.items())[::-1]
        ranked = sorted(by_row, key=itemgetter(1), reverse=True)
        by_words = [messages.split_row(row) for row, _ in ranked[:pool]]
        memories = self._memories([*near_memories, *(row for is_message, row in by_words if not is_message)])
        wanted = [*near_messages, *(row for is_message, row in by_words if is_message)]
        found = self._messages([*wanted, *(row for row in memories.values() if row is not None)])
        alone = [row for row, message in memories.items() if message not in found]
        return [*found.values(), *self._alone(alone)]

    def _memories(self, keys: Iterable[int]) -> dict[int, int | None]:
        """Those of the memories that meet the conditions, with the rows of their messages."""
        found = self.connection.execute(
            f"SELECT m.id, m.message {MEMORIES.rows} WHERE m.id IN (SELECT value FROM json_each(?)) AND {self.where.sql}",
            [json.dumps(list(keys)), *self.where.values],
        )
        return {row[0]: row[1] for row in found}

    def _messages(self, keys: Iterable[int]) -> dict[int, _Candidate]:
        where = all_of(self.where, _TO_BE_FOUND)
        listed = self.connection.execute(
            f"SELECT m.id, m.memory {MESSAGES.rows} WHERE m.id IN (SELECT value FROM json_each(?)) AND {where.sql}",
            [json.dumps(list(set(keys))), *where.values],
        )
        memories: dict[int, list[int]] = {}
        for row, memory in listed:
            memories.setdefault(row, []).extend([] if memory is None else [memory])
        ended = self.connection.execute(
            "SELECT message, max(at) FROM ended_facts WHERE message IN (SELECT value FROM json_each(?)) GROUP BY message",
            [json.dumps([row for row, live in memories.items() if not live])],
        )
        superseded = {row: inputs.decode_time(at) for row, at in ended}
        # The turns of one owner are told apart by their rows; those of several by what was said.
        turns = _TURNS if len(self.owners) > 1 else _ROWS
        found = self.connection.execute(turns.format("SELECT value FROM json_each(?)"), [json.dumps(list(memories))])
        return {
            row: _Candidate(row, owner, turn[0], turn[1], turn, memories[row], superseded_at=superseded.get(row))
            for row, owner, turn in ((each[0], each[1], tuple(each)[2:]) for each in found)
        }

    def _alone(self, keys: Iterable[int]) -> list[_Candidate]:
        found = self.connection.execute(
            "SELECT m.id, m.owner, m.said_at, o.name FROM memories m JOIN owners o ON o.id = m.owner"
            " WHERE m.id IN (SELECT value FROM json_each(?))",
            [json.dumps(list(keys))],
        )
        return [_Candidate(row["id"], row["owner"], row["name"], row["said_at"], None, [row["id"]]) for row in found]

    def forgotten_turns(self) -> set[tuple[object, ...]]:
        """The turns that one of the owners has forgotten: nobody else's view of them may bring them back."""
        found = self.connection.execute(
            _TURNS.format(
                "SELECT e.message FROM ended_facts e JOIN indexed_messages f ON f.id = e.message"
                " WHERE e.is_forgotten AND f.owner IN (SELECT value FROM json_each(?))"
            ),
            [json.dumps(list(self.owners))],
        )
        return {tuple(row)[2:] for row in found}

    def measure(
        self, found: Sequence[_Candidate], near_messages: Mapping[int, float], near_memories: Mapping[int, float]
    ) -> None:
        """The cosines and BM25 of the candidates, from what is stored.

        Args:
            near_messages, near_memories: distances that are known already.
        """
        said = self._cosines(MESSAGES, {each.row for each in found if each.turn is not None}, near_messages)
        known = self._cosines(MEMORIES, {memory for each in found for memory in each.memories}, near_memories)
        most = max(self.words.values(), default=0.0) or 1.0
        for each in found:
            each.best_memory = max(each.memories, key=lambda row: (known.get(row, -1.0), -row), default=None)
            remembered = known.get(each.best_memory, 0.0) if each.best_memory is not None else None
            if each.turn is None:
                each.cosine = remembered or 0.0
                row = messages.memory_row(each.owner, each.row)
            else:
                each.cosine = said.get(each.row, remembered or 0.0)  # not embedded yet
                row = messages.message_row(each.owner, each.row)
            each.memory_cosine = each.cosine if remembered is None else remembered
            each.words = self.words.get(row, 0.0) / most

    def _cosines(self, table: VectorTable, keys: set[int], distances: Mapping[int, float]) -> dict[int, float]:
        measured = {row: 1.0 - distance * distance / 2.0 for row, distance in distances.items()}
        keys = keys - measured.keys()
        found = self.connection.execute(_VECTORS[table.name], [json.dumps(list(keys))]).fetchall()
        sound, vectors = vectors_from([(row[1], row[2]) for row in found], len(self.query))
        cosines: NDArray[np.float32] = np.nan_to_num(np.vecdot(vectors, self.query), nan=-1.0)
        return measured | {found[at][0]: cosine for at, cosine in zip(sound, cosines.tolist(), strict=True)}


_VECTORS = {
    MESSAGES.name: """
        SELECT m.id, e.vector, p.vector FROM indexed_messages m JOIN message_vectors e ON e.message = m.id
        LEFT JOIN message_vectors p ON p.message = m.previous WHERE m.id IN (SELECT value FROM json_each(?))
    """,
    MEMORIES.name: "SELECT memory, vector, NULL FROM embeddings WHERE memory IN (SELECT value FROM json_each(?))",
}
_TURNS = """
    SELECT i.id, i.owner, i.speaker, i.said_at, x.source, g.ref, g.text FROM indexed_messages i
    JOIN messages g ON g.exchange = i.exchange AND g.position = i.position JOIN exchanges x ON x.id = i.exchange
    WHERE i.id IN ({})
"""
_ROWS = "SELECT id, owner, speaker, said_at FROM indexed_messages WHERE id IN ({})"
_MESSAGES = f"""
    SELECT i.id, {sound_sql("messages", "g")} AS is_sound, i.speaker, i.said_at, i.position, g.role,
        g.text, g.ref, x.key, x.source,
        o.user_id, o.agent_id, o.run_id, p.source AS image_source, p.caption AS image_caption, p.sha256 AS image_sha256
    FROM indexed_messages i JOIN messages g ON g.exchange = i.exchange AND g.position = i.position
    JOIN exchanges x ON x.id = i.exchange JOIN owners o ON o.id = i.owner LEFT JOIN images p ON p.id = g.image
    WHERE i.id IN (SELECT value FROM json_each(?))
"""


def _message(row: sqlite3.Row) -> SourceMessage:
    require_sound(row, "a message")
    image = row["image_source"] and Image(row["image_source"], row["image_caption"], row["image_sha256"])
    return SourceMessage(
        MessageKey(row["key"], row["position"]),
        Scope(row["user_id"], row["agent_id"], row["run_id"]),
        row["role"],
        row["text"],
        row["speaker"],
        inputs.decode_time(row["said_at"]),
        image or None,
        row["ref"],
        row["source"],
    )


def _score(found: Iterable[_Candidate], question: str, names: Iterable[str], times: Sequence[temporal.Span]) -> None:
    asked = [name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", question, re.IGNORECASE)]
    for each in found:
        score = each.cosine + each.memory_cosine + each.words
        if len(asked) == 1 and each.speaker == asked[0]:
            score += SPEAKER_WEIGHT
        if times and (said_at := inputs.decode_time(each.said_at)) is not None:
            score += max(_date_weight(said_at.date(), span) for span in times)
        if each.superseded_at is not None:
            score -= SUPERSEDED_PENALTY
        each.score = score / SCALE


def _asked_times(question: str, now: datetime, last_said: datetime | None) -> list[temporal.Span]:
    """The times that a question names, seen from today and from the last day of the conversations.

    "In May" is the last May for somebody who asks now, and the May of a conversation that ended two years ago.
    """
    days = [now, *([] if last_said is None else [last_said])]
    spans = (temporal.asked(question, day) for day in days)
    return list(dict.fromkeys(span for span in spans if span is not None))


def _date_weight(day: date, span: temporal.Span) -> float:
    if not span.begins <= day <= span.ends:
        return 0.0
    return DATE_WEIGHT if (span.ends - span.begins).days < 2 else DATE_WEIGHT / 2


def _merged(found: Iterable[_Candidate], forgotten: set[tuple[object, ...]]) -> list[_Candidate]:
    """One candidate for the same turn in the conversations of several owners: the best of those with a memory, if any.

    A turn is superseded where it is for one owner, unless a memory still stands for it with another.
    """
    turns: dict[object, list[_Candidate]] = {}
    for each in sorted(found, key=lambda candidate: (-candidate.score, candidate.row)):
        if each.turn is None or each.turn not in forgotten:
            turns.setdefault(each.turn or each.row, []).append(each)
    merged = []
    for same in turns.values():
        standing = [each for each in same if each.memories]
        superseded = [each for each in same if each.superseded_at is not None]
        merged.append((standing or superseded or same)[0])
    return merged


def _as_hits(connection: sqlite3.Connection, best: Sequence[_Candidate]) -> list[Hit]:
    memories = rows.read_rows(connection, (each.best_memory for each in best if each.best_memory is not None))
    chosen = json.dumps([each.row for each in best if each.turn is not None])
    said = {row["id"]: _message(row) for row in connection.execute(_MESSAGES, [chosen])}
    return [
        Hit(
            None if each.best_memory is None else memories[each.best_memory],
            None if each.turn is None else said[each.row],
            each.score,
            each.superseded_at,
        )
        for each in best
    ]
