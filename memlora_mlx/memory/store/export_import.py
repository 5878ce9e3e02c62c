"""Export and import of a store as JSON lines: first the format, then sources and images, then the memories.

    {"format": "memlora-store", "version": 1, "space": {"name": ..., "dim": ...}}
    {"kind": "owner" | "source" | "exchange" | "picture" | "memory", ...}

A store without pictures is version 1. A picture is its file in base64, named by its SHA-256, before the memories that use it.

Embeddings are not in it (they belong to an embedder, and are made again), nor is the history.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar, cast, get_args

from memlora_mlx.errors import StoreError, UsageError
from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import EmbedFunction, ImportResult, Source
from memlora_mlx.memory.store import messages, rows
from memlora_mlx.memory.store.exchanges import insert_exchange
from memlora_mlx.memory.store.images import erase_released_images
from memlora_mlx.memory.store.messages import EndedFact
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.transactions import Transaction
from memlora_mlx.memory.store.upkeep import embed_messages
from memlora_mlx.records import PROVENANCES, Exchange, Image, MemoryRecord, Message, MessageKey, Role, Scope
from memlora_mlx.text import clean_text

FORMAT, VERSION, PLAIN_VERSION = "memlora-store", 2, 1
MAX_TEXT = inputs.MAX_MEMORY  # characters in any one text of an import, but for
MAX_MESSAGE = 64_000_000  # what somebody said: more than is taken in elsewhere, so that every export can come back
MAX_LINE = 4 * MAX_MESSAGE  # characters of a line: an exchange with its messages, or a picture
MAX_MESSAGES = 10_000  # of an exchange
MAX_METADATA = 1_000_000  # characters of a memory's metadata as JSON
T = TypeVar("T")

BATCH = 256  # texts embedded at once
_DIGEST = re.compile("[0-9a-f]{64}")


def export_lines(store: Store) -> Iterator[dict[str, Any]]:
    """The whole store but for history and embeddings, as dicts for JSON lines, the format first.

    The lines show one state of the store, whatever is written meanwhile.
    """
    with store.database.snapshot() as connection:
        pictures = _pictures(connection, store)
        version = VERSION if pictures else PLAIN_VERSION
        yield {"format": FORMAT, "version": version, "space": asdict(store.embedding)}
        for row in connection.execute("SELECT * FROM owners ORDER BY id"):
            yield {"kind": "owner", "owner": rows.scope_json(_scope(row)), "name": row["name"]}
        for row in connection.execute("SELECT * FROM sources ORDER BY rowid"):
            yield {**dict(row), "kind": "source", "source_kind": row["kind"]}
        for row in connection.execute("SELECT key FROM exchanges ORDER BY id"):
            exchange = rows.read_exchange(connection, row["key"])
            assert exchange is not None
            yield _exchange_json(exchange, messages.ended_facts(connection, exchange.key))
        for digest in pictures:
            if path := store.images.path(digest):
                yield {"kind": "picture", "sha256": digest, "data": base64.b64encode(path.read_bytes()).decode()}
        last = 0
        while found := connection.execute(
            "SELECT id FROM memories WHERE id > ? ORDER BY id LIMIT 1000", [last]
        ).fetchall():
            first, last = found[0]["id"], found[-1]["id"]
            for memory in rows.read_memories(connection, "WHERE m.id BETWEEN ? AND ? ORDER BY m.id", [first, last]):
                yield {"kind": "memory", **rows.memory_json(memory)}


def import_lines(store: Store, lines: Iterable[object], embed: EmbedFunction) -> ImportResult:
    """Take in what `export_lines` gave: dicts, or lines of JSON. A memory that is there already stays as it is.

    All lines are read, checked and embedded before anything is written.

    Raises:
        StoreError: a line is not valid; the message names its number, and nothing is imported.
    """
    restored: set[str] = set()
    try:
        return _imported(store, lines, embed, restored)
    finally:  # pictures go to the disk as they are read; of a refused import, or used by no memory, none stays
        erase_released_images(store.images, store.database, store.clock(), restored, set())


def _imported(store: Store, lines: Iterable[object], embed: EmbedFunction, restored: set[str]) -> ImportResult:
    owners: list[tuple[Scope, str | None]] = []
    sources: list[Source] = []
    exchanges: dict[str, Exchange] = {}
    memories: dict[str, MemoryRecord] = {}
    ended: dict[str, dict[int, list[EndedFact]]] = {}
    with store.snapshot() as connection:
        for number, given in enumerate(lines, start=1):
            line = _ImportLine(number, given)
            if number == 1:
                line.check_format()
                continue
            match line.get("kind"):
                case "owner":
                    owners.append((line.scope("owner"), line.text("name", None)))
                case "source":
                    sources.append(_source(line))
                case "exchange":
                    exchange = _exchange(line)
                    exchanges.setdefault(exchange.key, exchange)
                    ended.setdefault(exchange.key, _ended_facts(line))
                case "picture":
                    digest, data = line.picture()
                    try:
                        if store.images.restore(digest, data):
                            restored.add(digest)
                    except UsageError as error:
                        raise line.wrong("data", f"is no picture of an export: {error}") from None
                case "memory":
                    memory = _memory(line)
                    known = exchanges.get(key) if (key := memory.exchange_key) else None
                    known = known or (rows.read_exchange(connection, key) if key else None)
                    if key and (known is None or known.owner != memory.owner):
                        raise line.wrong(
                            "exchange_key", "names no exchange of its owner in the lines before or the store"
                        )
                    memories.setdefault(memory.id, memory)
                case kind:
                    raise line.wrong("kind", f"cannot be {str(kind)[:40]!r}")
        there = _present(connection, memories)
    new = [memory for key, memory in memories.items() if key not in there]
    vectors = []
    for start in range(0, len(new), BATCH):
        batch = [memory.text for memory in new[start : start + BATCH]]
        vectors += inputs.checked_vectors(embed(batch), len(batch), store.embedding)

    with store.transaction() as transaction:
        for scope, name in owners:
            transaction.owner_row(scope, name)
        _import_sources(transaction, sources)
        done = {row["key"] for row in transaction.connection.execute("SELECT key FROM exchanges")}
        for key, exchange in exchanges.items():
            if key not in done:
                insert_exchange(transaction, exchange)
                messages.restore_ended_facts(transaction.connection, key, ended[key])
        there = _present(transaction.connection, memories)  # again: another process may have been quicker
        added = 0
        for memory, vector in zip(new, vectors, strict=True):
            if memory.id not in there:
                transaction.insert_memory(memory, vector)
                transaction.record_history("ADD", None, memory, memory.exchange_key, "import")
                added += 1
    if exchanges.keys() - done:
        embed_messages(store, embed)
    return ImportResult(added, len(memories) - added)


class _ImportLine:
    """One line of an import. Whatever is wrong with it is a StoreError with its number."""

    def __init__(self, number: int, given: object) -> None:
        self.number = number
        try:
            value = json.loads(given) if isinstance(given, str | bytes) else given
        except (ValueError, RecursionError):
            raise StoreError(f"line {number} is not JSON; nothing was imported") from None
        if not isinstance(value, Mapping):
            raise StoreError(f"line {number} is not a JSON object; nothing was imported")
        self._value = value

    def wrong(self, field: str, what: str) -> StoreError:
        return StoreError(f"line {self.number}: {field} {what}; nothing was imported")

    def get(self, field: str) -> Any:
        return self._value.get(field)

    def part(self, field: str) -> _ImportLine:
        if not isinstance(self.get(field), Mapping):
            raise self.wrong(field, "must be an object")
        return _ImportLine(self.number, self.get(field))

    def text(self, field: str, *default: str | None, limit: int = MAX_TEXT) -> Any:
        """Not empty; a missing one is the default, if there is one."""
        value = self.get(field)
        if value is None and default:
            return default[0]
        if not isinstance(value, str) or len(value) > limit or not (value := clean_text(value)):
            raise self.wrong(field, f"must be text with 1 to {limit:,} characters")
        return value

    def choice(self, field: str, values: tuple[T, ...], default: T) -> T:
        value = self.get(field)
        if value is not None and value not in values:
            raise self.wrong(field, f"must be one of {', '.join(map(str, values))}")
        return default if value is None else cast(T, value)

    def number_of(self, field: str) -> int:
        value = self.get(field)
        if type(value) is not int or not 0 <= value < 2**63:
            raise self.wrong(field, "must be a whole number, not negative")
        return value

    def time(self, field: str) -> datetime | None:
        value = self.get(field)
        try:
            return inputs.decode_time(inputs.encode_time(inputs.decode_time(value)))
        except (TypeError, ValueError, OverflowError):
            raise self.wrong(field, "must be an ISO 8601 date and time") from None

    def time_utc(self, field: str) -> datetime:
        value = self.time(field)
        if value is None or value.tzinfo is None:
            raise self.wrong(field, "must be an ISO 8601 date and time with a zone")
        return value

    def scope(self, field: str) -> Scope:
        part = self.part(field)
        scope = Scope(part.text("user_id", None), part.text("agent_id", None), part.text("run_id", None))
        if scope == Scope():
            raise self.wrong(field, "must name a user, an agent or a run")
        return scope

    def image(self) -> Image | None:
        if self.get("image") is None:
            return None
        part = self.part("image")
        digest = part.text("sha256", None)
        if digest is not None and not _DIGEST.fullmatch(digest):
            raise self.wrong("image.sha256", "must have 64 hexadecimal digits")
        return Image(part.text("source"), part.text("caption", None), digest)

    def picture(self) -> tuple[str, bytes]:
        """Its SHA-256, as it says, and its bytes."""
        digest, data = self.get("sha256"), self.get("data")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise self.wrong("sha256", "must have 64 hexadecimal digits")
        try:
            if isinstance(data, str):
                return digest, base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            pass
        raise self.wrong("data", "must be base64")

    def metadata(self) -> dict[str, Any]:
        value = self.get("metadata")
        try:
            if not isinstance(value, Mapping):
                problem = "must be an object"
            elif len(json.dumps(value)) > MAX_METADATA:
                problem = f"is longer than {MAX_METADATA:,} characters"
            else:
                return dict(inputs.clean_json(value))
        except ValueError as error:
            problem = f"must be JSON ({error})"
        raise self.wrong("metadata", problem)

    def check_format(self) -> None:
        if self.get("format") != FORMAT:
            raise StoreError("this is no memlora export: its first line does not name the format")
        if self.get("version") not in (PLAIN_VERSION, VERSION):
            version = str(self.get("version"))[:20]
            raise StoreError(f"this export has version {version}, not {VERSION} or less; upgrade memlora")


def _memory(line: _ImportLine) -> MemoryRecord:
    if len(identity := line.text("id")) > 200:
        raise line.wrong("id", "is longer than 200 characters")
    changed_at = None if line.get("changed_at") is None else line.time_utc("changed_at")
    return MemoryRecord(
        id=identity,
        text=line.text("text"),
        owner=line.scope("owner"),
        said_at=line.time("said_at"),
        revised_at=line.time("revised_at"),
        stored_at=line.time_utc("stored_at"),
        changed_at=changed_at,
        expires_at=line.time("expires_at"),
        exchange_key=line.text("exchange_key", None),
        image=line.image(),
        metadata=line.metadata(),
        message=_source_message(line),
        provenance=line.choice("provenance", PROVENANCES, "user"),
    )


def _exchange(line: _ImportLine) -> Exchange:
    if not isinstance(messages := line.get("messages"), list):
        raise line.wrong("messages", "must be a list")
    if len(messages) > MAX_MESSAGES:
        raise line.wrong("messages", f"can be at most {MAX_MESSAGES:,}")
    return Exchange(
        key=line.text("key"),
        owner=line.scope("owner"),
        messages=tuple(_message(_ImportLine(line.number, message)) for message in messages),
        said_at=line.time("said_at"),
        source=line.text("source"),
        position=line.number_of("position"),
    )


def _ended_facts(line: _ImportLine) -> dict[int, list[EndedFact]]:
    """Memories that once came from a message of an exchange, by its position; exports of older stores have none."""
    found: dict[int, list[EndedFact]] = {}
    for position, message in enumerate(line.get("messages")):
        facts = message.get("ended_facts", [])
        if not isinstance(facts, list):
            raise line.wrong("ended_facts", "must be a list")
        for part in (_ImportLine(line.number, fact) for fact in facts):
            at = inputs.encode_time(part.time_utc("at")) or ""
            fact = EndedFact(part.text("memory_id"), at, bool(part.get("is_forgotten")))
            found.setdefault(position, []).append(fact)
    return found


def _source_message(line: _ImportLine) -> MessageKey | None:
    if line.get("message") is None:
        return None
    part = line.part("message")
    return MessageKey(part.text("exchange_key"), part.number_of("position"))


def _message(line: _ImportLine) -> Message:
    if (role := line.get("role")) not in get_args(Role):
        raise line.wrong("role", f"must be one of {', '.join(get_args(Role))}")
    text = "" if line.get("text") == "" else line.text("text", limit=MAX_MESSAGE)  # a message may be an image alone
    return Message(role, text, line.text("speaker", None), line.time("said_at"), line.image(), line.text("ref", None))


def _exchange_json(exchange: Exchange, ended: Mapping[int, Sequence[EndedFact]]) -> dict[str, Any]:
    return {
        "kind": "exchange",
        "key": exchange.key,
        "owner": rows.scope_json(exchange.owner),
        "source": exchange.source,
        "position": exchange.position,
        "said_at": inputs.encode_time(exchange.said_at),
        "messages": [
            {
                "role": message.role,
                "text": message.text,
                "speaker": message.speaker,
                "said_at": inputs.encode_time(message.said_at),
                "image": rows.image_json(message.image),
                "ref": message.ref,
                **({"ended_facts": [asdict(fact) for fact in ended[position]]} if position in ended else {}),
            }
            for position, message in enumerate(exchange.messages)
        ],
    }


def _pictures(connection: sqlite3.Connection, store: Store) -> list[str]:
    """SHA-256 of the pictures that memories use and that are here."""
    found = connection.execute(
        "SELECT DISTINCT i.sha256 FROM memories m JOIN images i ON i.id = m.image"
        " WHERE i.sha256 IS NOT NULL ORDER BY i.sha256"
    )
    return [row["sha256"] for row in found if store.images.path(row["sha256"])]


def _source(line: _ImportLine) -> Source:
    finished_at = None if line.get("finished_at") is None else line.time_utc("finished_at")
    started_at = line.time_utc("started_at")
    return Source(line.text("name"), line.text("source_kind"), line.number_of("exchanges"), 0, started_at, finished_at)


def _import_sources(transaction: Transaction, sources: Iterable[Source]) -> None:
    transaction.connection.executemany(
        "INSERT OR IGNORE INTO sources (name, kind, exchanges, started_at, finished_at) VALUES (?, ?, ?, ?, ?)",
        [
            [
                source.name,
                source.kind,
                source.exchanges,
                inputs.encode_time(source.started_at),
                inputs.encode_time(source.finished_at),
            ]
            for source in sources
        ],
    )


def _present(connection: sqlite3.Connection, ids: Iterable[str]) -> set[str]:
    found = connection.execute(
        "SELECT public_id FROM memories WHERE public_id IN (SELECT value FROM json_each(?))", [json.dumps(list(ids))]
    )
    return {row["public_id"] for row in found}


def _scope(row: sqlite3.Row) -> Scope:
    return Scope(row["user_id"], row["agent_id"], row["run_id"])
