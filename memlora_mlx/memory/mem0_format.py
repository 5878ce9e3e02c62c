"""Mem0's shapes: its arguments read into records, and records written as its results."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, date, datetime, time, timedelta
from hashlib import md5, sha256
from typing import Any

from memlora_mlx.conversations import (
    DATE_FIELDS,
    Conversation,
    Session,
    Turn,
    conversation_exchanges,
    parse_date,
)
from memlora_mlx.errors import UsageError
from memlora_mlx.memory.changes import AppliedChange
from memlora_mlx.memory.happening import times_json
from memlora_mlx.memory.store import rows
from memlora_mlx.records import Exchange, Hit, Image, MemoryRecord, Revision, Scope, SourceMessage
from memlora_mlx.settings import Settings
from memlora_mlx.text import clean_text

log = logging.getLogger(__name__)

Messages = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
_SCOPE = ("user_id", "agent_id", "run_id")
_TOP_LEVEL_METADATA = ("role", "actor_id")  # metadata of what was stored verbatim; Mem0 shows them beside `metadata`
_IGNORED_ROLES = ("system", "developer", "tool", "function")  # roles that nothing is remembered of
_MEM0_CONFIG = {
    *("vector_store", "llm", "embedder", "graph_store", "reranker", "history_db_path", "version"),
    *("custom_instructions", "custom_fact_extraction_prompt", "custom_update_memory_prompt"),
}


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a configuration of ours or Mem0's. Raises UsageError: a name is unknown."""
    is_ours = isinstance(config.get("embedder"), str)  # Mem0's is a mapping
    foreign = sorted(config.keys() & _MEM0_CONFIG - ({"embedder"} if is_ours else set()))
    if foreign:
        log.warning("memlora runs its own models, prompts and store; not used: %s", ", ".join(foreign))
    known = {field.name for field in fields(Settings)}
    unknown = sorted(config.keys() - known - _MEM0_CONFIG)
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
    return {name: value for name, value in config.items() if name in known and name not in foreign}


def memory_to_mem0(memory: MemoryRecord) -> dict[str, Any]:
    """A memory in Mem0's shape, with when it was said and where it came from beside it."""
    item: dict[str, Any] = {
        "id": memory.id,
        "memory": memory.text,
        "hash": md5(memory.text.encode(), usedforsecurity=False).hexdigest(),
        "metadata": {name: value for name, value in memory.metadata.items() if name not in _TOP_LEVEL_METADATA} or None,
        "created_at": memory.stored_at.isoformat(),
        "updated_at": memory.changed_at.isoformat() if memory.changed_at else None,
        "said_at": memory.said_at.isoformat() if memory.said_at else None,
        "source": memory.source,
    }
    item |= {name: value for name in _SCOPE if (value := getattr(memory.owner, name)) is not None}
    if times := times_json(memory):
        item["happens_at"] = times
    if memory.expires_at:
        item["expiration_date"] = memory.expires_at.isoformat()
    if memory.provenance != "user":
        item["provenance"] = memory.provenance
    if memory.image:
        item["image"] = rows.image_json(memory.image)
    item |= {name: memory.metadata[name] for name in _TOP_LEVEL_METADATA if name in memory.metadata}
    return item


def hit_to_mem0(hit: Hit) -> dict[str, Any]:
    """What a search found, in Mem0's shape with its score.

    `kind` says whether it is a memory or a message that no memory came from: its `memory` is then what was said, and its
    `id` names the message. `message` has the words themselves, their speaker and time.
    """
    if hit.memory is not None:
        item = memory_to_mem0(hit.memory)
    else:
        assert hit.message is not None
        item = {
            "id": hit.id,
            "memory": hit.message.text,
            "hash": md5(hit.message.text.encode(), usedforsecurity=False).hexdigest(),
            "metadata": None,
            "created_at": None,
            "updated_at": None,
            "said_at": hit.message.said_at.isoformat() if hit.message.said_at else None,
            "source": hit.message.source,
            "role": hit.message.role,
        }
        item |= {name: value for name in _SCOPE if (value := getattr(hit.owner, name)) is not None}
    item["kind"] = "message" if hit.memory is None else "memory"
    item["message"] = None if hit.message is None else _message_json(hit.message)
    item["superseded_at"] = hit.superseded_at.isoformat() if hit.superseded_at else None
    item["score"] = round(hit.score, 6)
    return item


def _message_json(message: SourceMessage) -> dict[str, Any]:
    return {
        "text": message.text,
        "speaker": message.speaker,
        "role": message.role,
        "said_at": message.said_at.isoformat() if message.said_at else None,
        "ref": message.ref,
        "exchange": message.key.exchange_key,
        "position": message.key.position,
        "image": rows.image_json(message.image),
    }


def change_to_mem0(change: AppliedChange) -> dict[str, Any]:
    """A change of a memory, as `Memory.add` reports it."""
    item: dict[str, Any] = {
        "id": change.memory_id,
        "memory": change.text or change.old_text or "",
        "event": change.event,
    }
    if change.event == "UPDATE":
        item["previous_memory"] = change.old_text
    return item


def history_to_mem0(revision: Revision) -> dict[str, Any]:
    return {
        "id": revision.id,
        "memory_id": revision.memory_id,
        "old_memory": revision.old_text,
        "new_memory": revision.new_text,
        "event": revision.event,
        "created_at": revision.at.isoformat(),
        "updated_at": revision.at.isoformat(),
        "is_deleted": revision.event == "DELETE",
        "actor_id": revision.actor,
        "role": None,
        "undone": revision.undone,
    }


def owner_of(user_id: str | None, agent_id: str | None, run_id: str | None) -> Scope:
    return scope_of(user_id, agent_id, run_id, None)


def count_of(top_k: int | None, limit: int | None, default: int) -> int:
    """How many memories: `top_k`, else `limit`, else the default. Raises UsageError for less than one."""
    for name, value in (("top_k", top_k), ("limit", limit)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UsageError(f"{name} must be a whole number above 0, not {value!r}")
    return top_k or limit or default


def scope_of(
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
    filters: Mapping[str, Any] | None,
    *,
    required: bool = True,
) -> Scope:
    """The scope that keywords and filters name together."""
    given = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
    for name in _SCOPE:
        if given[name] is None and isinstance(value := (filters or {}).get(name), str) and value != "*":
            given[name] = value
    clean = {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
    for name, value in clean.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise UsageError(f"{name} must be a name, not {given[name]!r}")
    if required and not any(clean.values()) and not _names_scope(filters):
        raise UsageError("say whose memories: at least one of user_id, agent_id and run_id is needed")
    return Scope(**clean)


def _names_scope(filters: object) -> bool:
    """Whether a filter says whose memories, however deep."""
    if isinstance(filters, Mapping):
        return any(key in _SCOPE or (key in ("AND", "OR") and _names_scope(part)) for key, part in filters.items())
    return isinstance(filters, list | tuple) and any(_names_scope(part) for part in filters)


def moment_of(value: datetime | date | str | float) -> datetime:
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC) if value.tzinfo else value
        except OverflowError:  # at either end of the calendar
            return value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return parse_date(value)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"cannot read the time {value!r}; write it as 2023-05-08T13:56") from error


def expiry_of(value: datetime | date | str | None) -> datetime | None:
    """When a memory stops being shown; a bare day means its end."""
    if value is None:
        return None
    moment = moment_of(value)
    is_written = isinstance(value, str) and not value.strip().isdigit()  # digits are an epoch
    is_day = type(value) is date or (is_written and moment.time() == time.min and ":" not in str(value))
    if is_day:
        moment = min(moment, datetime.max.replace(tzinfo=moment.tzinfo) - timedelta(days=1)) + timedelta(days=1)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def exchanges_of(messages: Messages, owner: Scope, said_at: datetime, key: str | None = None) -> list[Exchange]:
    """The messages of one `add`, cut as a chat is; each call's exchanges are new ones, unless a key names the call."""
    items: list[Any] = [messages] if isinstance(messages, str | Mapping) else list(messages)
    turns = tuple(turn for item in items if (turn := _turn(item)) is not None)
    if not turns:
        raise UsageError("there is no message to remember; give a text or a list of {'role', 'content'}")
    conversation = Conversation("", "api", "messages", (Session(said_at, turns),))
    call = sha256(key.encode(errors="replace")).hexdigest()[:32] if key else uuid.uuid4().hex
    return [
        replace(exchange, key=f"{call}-{number}", owner=owner)
        for number, exchange in enumerate(conversation_exchanges(conversation, user=""))
    ]


def _turn(item: Any) -> Turn | None:
    if isinstance(item, str):
        item = {"role": "user", "content": item}
    if not isinstance(item, Mapping) or item.get("role") not in ("user", "assistant", *_IGNORED_ROLES):
        raise UsageError(f"a message is {{'role': 'user' or 'assistant', 'content': ...}}, not {str(item)[:60]!r}")
    image = None
    content = next((value for name in ("content", "parts", "text") if (value := item.get(name))), None)
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, Sequence) and not isinstance(content, str):
        urls = [part.get("image_url") for part in content if isinstance(part, Mapping)]
        found = [url.get("url") if isinstance(url, Mapping) else url for url in urls if url]
        image = Image(str(found[0])) if found else None
        texts = [str(part.get("text") or "") if isinstance(part, Mapping) else str(part) for part in content]
        content = " ".join(filter(None, texts))
    if item["role"] in _IGNORED_ROLES or not (content or image):
        return None
    said_at = next((value for name in DATE_FIELDS if (value := item.get(name))), None)
    return Turn(
        clean_text(str(item.get("name") or "")),
        clean_text(str(content or "")),
        item["role"],
        said_at=moment_of(said_at) if said_at is not None else None,
        image=image,
    )
