"""What an erasing takes out of the database: found by ids, by person, by day, or by words."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from memlora_mlx.errors import MemoryNotFound, StoreError, UsageError
from memlora_mlx.memory.inputs import encode_time
from memlora_mlx.memory.store import turn_erasing
from memlora_mlx.memory.store.erased_texts import ErasedTexts, bare_words
from memlora_mlx.text import clean_name, clean_text

LEAST_LETTERS = 3  # of a text to look for
_IN = "IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class Selection:
    """What to erase: exactly one of these.

    Raises:
        UsageError: none is given, or several, or the text is too short to look for.
    """

    ids: tuple[str, ...] = ()
    person: str | None = None
    before: datetime | None = None  # what was said before it; what has no date counts from when it was stored
    containing: str | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        given = [self.ids, self.person, self.before, self.containing, self.everything]
        if sum(1 for one in given if one) != 1:
            raise UsageError(
                "say what to erase by exactly one of: ids, a person, a day, a text, or everything there is"
            )
        if self.containing and len(bare_words(self.containing).replace(" ", "")) < LEAST_LETTERS:
            raise UsageError(
                f"a text to erase must have at least {LEAST_LETTERS} letters or digits, because shorter ones stand"
                " everywhere; give more of it, or the ids of memories"
            )


@dataclass(frozen=True, slots=True)
class ErasedMemory:
    """A memory that goes, or one that stays although it came from the same words."""

    id: str
    owner: int
    text: str


@dataclass(slots=True)
class ErasePlan:
    """The rows that go, and the texts by which traces of them are found elsewhere."""

    memories: dict[int, ErasedMemory] = field(default_factory=dict)  # by row
    history: set[int] = field(default_factory=set)  # lines
    exchanges: dict[int, str] = field(default_factory=dict)  # row -> key; these go as a whole
    messages: set[tuple[int, int]] = field(default_factory=set)  # (exchange, position) that go
    edits: dict[tuple[int, int], str] = field(default_factory=dict)  # messages that lose some sentences
    images: set[int] = field(default_factory=set)  # rows whose source or caption goes
    sources: dict[str, str] = field(default_factory=dict)  # names of conversations -> their new names
    owners: set[int] = field(default_factory=set)  # that go
    chat: turn_erasing.TurnPlan = field(default_factory=turn_erasing.TurnPlan)  # of the conversations of the chat
    texts: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)  # of exchanges whose training examples go
    part: str | None = None
    staying: list[ErasedMemory] = field(default_factory=list)  # they came from the same words, and can be erased too

    @property
    def is_empty(self) -> bool:
        rows = (self.memories, self.history, self.exchanges, self.messages, self.edits, self.images, self.owners)
        return not any((*rows, self.chat, self.sources))

    @property
    def traces(self) -> ErasedTexts:
        """What to look for in files beside the database."""
        return ErasedTexts(self.texts, self.part, self.keys)


def plan_erasing(connection: sqlite3.Connection, selection: Selection) -> ErasePlan:
    """The rows that a selection means, as the database is now. `Selection.everything` is not planned.

    Raises:
        MemoryNotFound: no memory has one of the ids.
        StoreError: there is no such person.
    """
    plan = ErasePlan()
    if selection.ids:
        _plan_ids(connection, plan, [clean_text(one) for one in selection.ids])
    elif selection.person is not None:
        _plan_person(connection, plan, clean_name(selection.person))
    elif selection.before is not None:
        _plan_before(connection, plan, encode_time(selection.before) or "")
    elif selection.containing is not None:
        _plan_containing(connection, plan, selection.containing)
    _close_history(connection, plan)
    return plan


# ------------------------------------------------------------------ by ids


def _plan_ids(connection: sqlite3.Connection, plan: ErasePlan, ids: Sequence[str]) -> None:
    chosen = set(ids)
    known = connection.execute(
        f"SELECT public_id FROM memories WHERE public_id {_IN} UNION SELECT memory_id FROM history WHERE memory_id {_IN}",
        [json.dumps(list(chosen))] * 2,
    )
    if missing := sorted(chosen - {row[0] for row in known}):
        raise MemoryNotFound(f"no memory has the id {missing[0]}; `memlora memory list` shows them")
    lines = _lines(connection, "memory_id", chosen)
    _take_memories(connection, plan, f"public_id {_IN}", [json.dumps(list(chosen))])
    plan.texts |= {text for line in lines for text in (line["old_text"], line["new_text"]) if text}
    owners = {one.owner for one in plan.memories.values()} | {line["owner"] for line in lines}
    _take_same_words(connection, plan, owners)
    chosen |= {one.id for one in plan.memories.values()}
    lines = _lines(connection, "memory_id", chosen)
    plan.history |= {line["id"] for line in lines}
    told = ErasedTexts(plan.texts)
    keys = _keys_of(lines)
    exchanges = _origins(connection, keys, chosen)
    _take_messages(connection, plan, exchanges)
    given = json.dumps(list(keys.union(exchanges.values())))
    plan.texts |= turn_erasing.plan_whole(connection, plan.chat, f"exchange_key {_IN}", [given])
    _keep_headers(connection, plan, exchanges)
    # What a later reply has repeated word for word.
    owners = {one.owner for one in plan.memories.values()} | {line["owner"] for line in lines}
    _cut_messages(connection, plan, told, owners)
    turn_erasing.plan_words(connection, plan.chat, told, owners)
    turn_erasing.plan_names(connection, plan.chat, plan.texts)


def _take_same_words(connection: sqlite3.Connection, plan: ErasePlan, owners: Iterable[int]) -> None:
    """Other memories of the same owners that say the same word for word, and lines of history that do."""
    said = {bare_words(text) for text in plan.texts}
    same: list[int] = []
    for owner in owners:
        found = connection.execute("SELECT id, text FROM memories WHERE owner = ?", [owner])
        same += [row["id"] for row in found if bare_words(row["text"]) in said]
        for line in connection.execute("SELECT id, old_text, new_text FROM history WHERE owner = ?", [owner]):
            if {bare_words(text) for text in (line["old_text"], line["new_text"]) if text} & said:
                plan.history.add(line["id"])
    _take_memories(connection, plan, f"id {_IN}", [json.dumps(same)])


def _keys_of(lines: Iterable[sqlite3.Row]) -> set[str]:
    """The keys of the exchanges that lines of history name; the exchanges may be gone."""
    keys = {line["exchange_key"] for line in lines if line["exchange_key"]}
    return keys | {key for line in lines if line["before"] and (key := json.loads(line["before"]).get("exchange_key"))}


def _origins(connection: sqlite3.Connection, keys: Iterable[str], ids: Iterable[str]) -> dict[int, str]:
    """The exchanges that memories came from, in all their versions."""
    given = json.dumps(list(ids))
    found = connection.execute(
        f"""
        SELECT id, key FROM exchanges WHERE key {_IN}
        UNION SELECT x.id, x.key FROM memories m JOIN exchanges x ON x.id = m.exchange WHERE m.public_id {_IN}
        UNION SELECT x.id, x.key FROM memories m JOIN indexed_messages i ON i.id = m.message
            JOIN exchanges x ON x.id = i.exchange WHERE m.public_id {_IN}
        UNION SELECT x.id, x.key FROM ended_facts e JOIN indexed_messages i ON i.id = e.message
            JOIN exchanges x ON x.id = i.exchange WHERE e.memory_id {_IN}
        """,
        [json.dumps(list(keys)), given, given, given],
    )
    return {row["id"]: row["key"] for row in found}


def _take_messages(connection: sqlite3.Connection, plan: ErasePlan, exchanges: dict[int, str]) -> None:
    """The messages of exchanges, and the same turns in the conversations of other owners."""
    given = json.dumps(list(exchanges))
    same = """
        SELECT g.exchange, g.position, g.text FROM messages g JOIN exchanges x ON x.id = g.exchange
        WHERE x.source = ? AND g.speaker IS ? AND g.text = ? AND g.ref IS ? AND coalesce(g.said_at, x.said_at) IS ?
    """
    turns = connection.execute(
        f"""
        SELECT g.*, x.source, coalesce(g.said_at, x.said_at) AS at FROM messages g JOIN exchanges x ON x.id = g.exchange
        WHERE x.id {_IN}
        """,
        [given],
    ).fetchall()
    for turn in turns:
        plan.messages.add((turn["exchange"], turn["position"]))
        plan.texts.add(turn["text"])
        is_known = turn["ref"] is not None or turn["at"] is not None or len(bare_words(turn["text"]).split()) > 4
        if turn["speaker"] is not None and is_known:
            values = [turn["source"], turn["speaker"], turn["text"], turn["ref"], turn["at"]]
            plan.messages |= {(row["exchange"], row["position"]) for row in connection.execute(same, values)}
    plan.keys |= set(exchanges.values())


def _keep_headers(connection: sqlite3.Connection, plan: ErasePlan, exchanges: dict[int, str]) -> None:
    """Exchanges that no other memory came from go as a whole; of the others the messages go."""
    stays = connection.execute(
        f"""
        SELECT m.id, m.public_id, m.owner, m.text, m.exchange FROM memories m
        LEFT JOIN indexed_messages i ON i.id = m.message
        WHERE (m.exchange {_IN} OR i.exchange {_IN}) AND m.id NOT {_IN}
        """,
        [json.dumps(list({exchange for exchange, _ in plan.messages}))] * 2 + [json.dumps(list(plan.memories))],
    ).fetchall()
    plan.staying = [ErasedMemory(row["public_id"], row["owner"], row["text"]) for row in stays]
    needed = {row["exchange"] for row in stays}
    plan.exchanges |= {row: key for row, key in exchanges.items() if row not in needed}


# ------------------------------------------------------------------ by person


def _plan_person(connection: sqlite3.Connection, plan: ErasePlan, name: str) -> None:
    plan.owners = {row[0] for row in connection.execute("SELECT id FROM owners WHERE user_id = ?", [name])}
    if not plan.owners:
        raise StoreError(f"there is nobody called {name!r}; `memlora people list` shows who there is")
    owners = json.dumps(list(plan.owners))
    own = connection.execute(f"SELECT id, key FROM exchanges WHERE owner {_IN}", [owners])
    plan.exchanges = {row["id"]: row["key"] for row in own}
    plan.keys = set(plan.exchanges.values())
    # What the person said stands in the conversations of the others, too.
    said = connection.execute(
        f"""
        SELECT g.exchange, g.position FROM messages g JOIN exchanges x ON x.id = g.exchange
        WHERE x.owner NOT {_IN} AND (x.source, g.speaker) IN (
            SELECT source, speaker FROM people WHERE user_id = ?
            UNION SELECT y.source, h.speaker FROM messages h JOIN exchanges y ON y.id = h.exchange
                WHERE y.owner {_IN} AND h.role = 'user' AND h.speaker IS NOT NULL)
        """,
        [owners, name, owners],
    )
    plan.messages = {(row["exchange"], row["position"]) for row in said}
    others = json.dumps([f"{exchange} {position}" for exchange, position in plan.messages])
    _take_memories(
        connection,
        plan,
        f"owner {_IN} OR message IN (SELECT id FROM indexed_messages WHERE exchange || ' ' || position {_IN})",
        [owners, others],
    )
    lines = connection.execute(f"SELECT id, old_text, new_text FROM history WHERE owner {_IN}", [owners]).fetchall()
    lines += _lines(connection, "memory_id", {one.id for one in plan.memories.values()})
    plan.history = {line["id"] for line in lines}
    plan.texts |= {text for line in lines for text in (line["old_text"], line["new_text"]) if text}
    texts = connection.execute(
        f"""
        SELECT g.text FROM messages g JOIN exchanges x ON x.id = g.exchange
        WHERE x.owner {_IN} AND (g.role = 'user' OR g.speaker IS NULL OR lower(g.speaker) = 'assistant')
        """,
        [owners],
    )
    plan.texts |= {row["text"] for row in texts}
    plan.texts |= turn_erasing.plan_conversations(connection, plan.chat, plan.owners)


# ------------------------------------------------------------------ by day


def _plan_before(connection: sqlite3.Connection, plan: ErasePlan, day: str) -> None:
    plan.exchanges = _exchanges_before(connection, day)
    plan.keys = set(plan.exchanges.values())
    given = json.dumps(list(plan.exchanges))
    early = connection.execute("SELECT exchange, position, text FROM messages WHERE said_at < ?", [day]).fetchall()
    early += connection.execute(f"SELECT exchange, position, text FROM messages WHERE exchange {_IN}", [given])
    plan.messages = {(row["exchange"], row["position"]) for row in early if row["exchange"] not in plan.exchanges}
    plan.texts = {row["text"] for row in early}
    _take_memories(connection, plan, f"coalesce(said_at, stored_at) < ? OR exchange {_IN}", [day, given])
    gone = connection.execute(
        """
        SELECT DISTINCT memory_id FROM history h WHERE NOT EXISTS (SELECT 1 FROM memories WHERE public_id = h.memory_id)
            AND coalesce(json_extract(before, '$.said_at'), json_extract(before, '$.stored_at')) < ?
        """,
        [day],
    )
    ids = {one.id for one in plan.memories.values()} | {row[0] for row in gone}
    lines = _lines(connection, "memory_id", ids) + _lines(connection, "exchange_key", plan.keys)
    plan.history = {line["id"] for line in lines}
    plan.texts |= {text for line in lines for text in (line["old_text"], line["new_text"]) if text}
    values = [day, json.dumps(list(plan.keys))]
    plan.texts |= turn_erasing.plan_whole(connection, plan.chat, f"said_at < ? OR exchange_key {_IN}", values)
    turn_erasing.plan_names(connection, plan.chat, plan.texts)


# ------------------------------------------------------------------ by words


def _plan_containing(connection: sqlite3.Connection, plan: ErasePlan, text: str) -> None:
    plan.part, sought = text, ErasedTexts(part=text)
    images = connection.execute("SELECT id, source, caption FROM images")
    plan.images = {row["id"] for row in images if sought.found_in(row["source"]) or sought.found_in(row["caption"])}
    found = [
        row["id"]
        for row in connection.execute("SELECT id, text, metadata, image FROM memories")
        if sought.found_in(row["text"]) or sought.found_in(row["metadata"]) or row["image"] in plan.images
    ]
    _take_memories(connection, plan, f"id {_IN}", [json.dumps(found)])
    plan.texts.clear()  # the words that were given stand in all of them
    for line in connection.execute("SELECT id, old_text, new_text, before FROM history"):
        if any(sought.found_in(line[column]) for column in ("old_text", "new_text", "before")):
            plan.history.add(line["id"])
    ids = {one.id for one in plan.memories.values()}
    plan.history |= {line["id"] for line in _lines(connection, "memory_id", ids)}
    _cut_messages(connection, plan, sought)
    turn_erasing.plan_words(connection, plan.chat, sought)
    names = {row[0] for row in connection.execute("SELECT source FROM exchanges UNION SELECT name FROM sources")}
    free = (name for number in range(1, len(names) + 2) if (name := f"erased {number}") not in names)
    plan.sources = {name: next(free) for name in sorted(names) if sought.found_in(name)}


# ------------------------------------------------------------------ by age


def plan_retention(
    connection: sqlite3.Connection, history_before: datetime | None, said_before: datetime | None
) -> ErasePlan:
    """The lines of history that were written before a time, and the messages that were said before a time.

    Memories stay. What was said at no known time counts from when it was stored.
    """
    plan = ErasePlan()
    if history_before is not None:
        found = connection.execute("SELECT id FROM history WHERE at < ?", [encode_time(history_before)])
        plan.history = {row["id"] for row in found}
        _close_history(connection, plan)
    if said_before is not None:
        exchanges = _exchanges_before(connection, encode_time(said_before) or "")
        found = connection.execute(
            f"SELECT exchange, position FROM messages WHERE exchange {_IN}", [json.dumps(list(exchanges))]
        )
        plan.messages = {(row["exchange"], row["position"]) for row in found}
        _keep_headers(connection, plan, exchanges)
        turn_erasing.plan_whole(connection, plan.chat, "said_at < ?", [encode_time(said_before)])
    return plan


def _exchanges_before(connection: sqlite3.Connection, day: str) -> dict[int, str]:
    first = dict(
        map(tuple, connection.execute("SELECT exchange_key, min(at) FROM history GROUP BY exchange_key").fetchall())
    )
    found: dict[int, str] = {}
    for row in connection.execute("SELECT id, key, said_at FROM exchanges"):
        at = row["said_at"] or first.get(row["key"])
        if at is not None and at < day:
            found[row["id"]] = row["key"]
    return found


# ------------------------------------------------------------------ shared


def _take_memories(connection: sqlite3.Connection, plan: ErasePlan, where: str, values: Sequence[object]) -> None:
    for row in connection.execute(f"SELECT id, public_id, owner, text FROM memories WHERE {where}", values):
        plan.memories[row["id"]] = ErasedMemory(row["public_id"], row["owner"], row["text"])
        plan.texts.add(row["text"])


def _cut_messages(
    connection: sqlite3.Connection, plan: ErasePlan, sought: ErasedTexts, owners: Iterable[int] | None = None
) -> None:
    """Take the sentences of messages that hold the words, and messages with nothing else in them.

    Args:
        owners: only the exchanges of these.
    """
    if not sought:
        return
    where, given = ("1", []) if owners is None else (f"x.owner {_IN}", [json.dumps(list(owners))])
    for row in connection.execute(
        f"SELECT g.exchange, g.position, g.text FROM messages g JOIN exchanges x ON x.id = g.exchange WHERE {where}",
        given,
    ):
        place = (row["exchange"], row["position"])
        if place not in plan.messages and sought.found_in(row["text"]):
            if kept := sought.cut_from(row["text"]):
                plan.edits[place] = kept
            else:
                plan.messages.add(place)


def _lines(connection: sqlite3.Connection, column: str, values: Iterable[str]) -> list[sqlite3.Row]:
    return connection.execute(f"SELECT * FROM history WHERE {column} {_IN}", [json.dumps(list(values))]).fetchall()


def _close_history(connection: sqlite3.Connection, plan: ErasePlan) -> None:
    """A line that was undone by a line that goes has to go too: it would count again."""
    undone = connection.execute("SELECT id, undone_by FROM history WHERE undone_by IS NOT NULL").fetchall()
    while more := {row["id"] for row in undone if row["undone_by"] in plan.history} - plan.history:
        plan.history |= more
