"""`Memory`: the library's front door, with Mem0's methods and return shapes, so that code written for Mem0 runs on it.

Keywords of both generations are taken: `user_id=` and `limit=` of 1.x, `filters=` and `top_k=` of 2.x. Beyond Mem0
there are `ask`, `undo` and the time something was said.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, date, datetime, time, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any, Self

from memlora_mlx.conversations import Conversation, Session, Turn, conversation_exchanges, parse_date
from memlora_mlx.errors import MemoryNotFound, UsageError, VisionMissing
from memlora_mlx.memory import inputs, visual_questions
from memlora_mlx.memory.changes import Add
from memlora_mlx.memory.pipeline import Answer, CallCost
from memlora_mlx.memory.stages import clean_line
from memlora_mlx.memory.store import rows
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange, Hit, Image, MemoryRecord, Revision, Scope
from memlora_mlx.settings import APP_HISTORY, CHAT_HISTORY, CORRECTIONS, Settings, load_settings

log = logging.getLogger(__name__)

Messages = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
_SCOPE = ("user_id", "agent_id", "run_id")
_TOP_LEVEL_METADATA = ("role", "actor_id")  # metadata of what was stored verbatim; Mem0 shows them beside `metadata`
_IGNORED_ROLES = ("system", "developer", "tool", "function")  # roles that nothing is remembered of
_MEM0_CONFIG = {
    *("vector_store", "llm", "embedder", "graph_store", "reranker", "history_db_path", "version"),
    *("custom_instructions", "custom_fact_extraction_prompt", "custom_update_memory_prompt"),
}


class Memory:
    """A long-term memory on this machine.

    Args:
        settings: where it lives and which models it uses; by default those of the `memlora` command. A mapping may
            name any field of `Settings`.

    Models load when first needed. Close it, or use it in a `with` statement.
    """

    def __init__(self, settings: Settings | Mapping[str, object] | None = None) -> None:
        chosen = settings if isinstance(settings, Settings) else load_settings(settings)
        self.workspace = Workspace(chosen)

    @classmethod
    def of(cls, workspace: Workspace) -> Memory:
        """Over a workspace that somebody else opens and closes."""
        memory = cls.__new__(cls)
        memory.workspace = workspace
        return memory

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Memory:
        """From a mapping of settings. What a Mem0 configuration says of its servers is put aside with a note."""
        is_ours = isinstance(config.get("embedder"), str)  # Mem0's is a mapping
        foreign = sorted(config.keys() & _MEM0_CONFIG - ({"embedder"} if is_ours else set()))
        if foreign:
            log.warning("memlora runs its own models, prompts and store; not used: %s", ", ".join(foreign))
        known = {field.name for field in fields(Settings)}
        unknown = sorted(config.keys() - known - _MEM0_CONFIG)
        if unknown:
            raise UsageError(f"unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
        return cls({name: value for name, value in config.items() if name in known and name not in foreign})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.workspace.close()

    # ------------------------------------------------------------------ Mem0's methods

    def add(
        self,
        messages: Messages,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
        expiration_date: datetime | date | str | None = None,
        infer: bool = True,
        memory_type: str | None = None,
        prompt: str | None = None,
        images_from: Path | None = None,
    ) -> dict[str, Any]:
        """Read messages and remember what matters.

        Args:
            messages: a text, one message, or a list of `{"role", "content"}`; content may hold text and image parts.
            timestamp: when it was said; now, if neither it nor the messages say.
            infer: False stores every message as it is, without asking the student.
            prompt, memory_type: Mem0's custom prompts and procedural memories; refused, as the experts are trained
                for their own prompts.

            images_from: where an `image_url` that is a path is looked for; `data:` is kept, the web stays a reference.

        Returns `{"results": [{"id", "memory", "event", ...}]}`, with `previous_memory` for an UPDATE.

        Raises:
            UsageError: a picture cannot be kept; nothing is then remembered.
        """
        if prompt is not None or memory_type is not None:
            raise UsageError("custom prompts and memory types are not taken: the experts are trained for their prompts")
        owner = _owner(user_id, agent_id, run_id)
        said_at = _moment(timestamp) if timestamp is not None else datetime.now(UTC)
        extra = dict(metadata or {})
        expires = _expiry(expiration_date)
        results: list[dict[str, Any]] = []
        keep = self.workspace.store.images.store_exchange_images
        for exchange in [keep(each, images_from, _reject_options) for each in _exchanges(messages, owner, said_at)]:
            if not infer:
                results += self._store_verbatim(exchange, extra, expires)
                continue
            remembered = self.workspace.pipeline.remember(exchange, metadata=extra, expires_at=expires)
            for change in remembered.applied:
                if change.rejected is not None:
                    continue
                item: dict[str, Any] = {"id": change.memory_id, "memory": change.text or change.old_text or ""}
                item["event"] = change.event
                if change.event == "UPDATE":
                    item["previous_memory"] = change.old_text
                results.append(item)
        return {"results": results}

    def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        limit: int | None = None,
        top_k: int | None = None,
        filters: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        rerank: bool = False,
        show_expired: bool = False,
        said_after: datetime | str | None = None,
        said_before: datetime | str | None = None,
        source: str | None = None,
    ) -> dict[str, Any]:
        """The memories nearest to a query, nearest first.

        Args:
            threshold: least score (cosine similarity, higher is closer) of a result.
            rerank: taken for compatibility; the order is by distance.

        Returns `{"results": [{"id", "memory", "score", "created_at", ...}]}`.
        """
        hits = self.find(
            query,
            scope=_scope(user_id, agent_id, run_id, filters),
            limit=_count(top_k, limit, self.workspace.settings.limit),
            filters=filters,
            show_expired=show_expired,
            said_after=_moment(said_after) if said_after is not None else None,
            said_before=_moment(said_before) if said_before is not None else None,
            source=source,
        )
        kept = [hit for hit in hits if threshold is None or hit.score >= threshold]
        return {"results": [{**memory_to_mem0(hit.memory), "score": round(hit.score, 6)} for hit in kept]}

    def get(self, memory_id: str) -> dict[str, Any] | None:
        memory = self.workspace.store.get(memory_id)
        return memory_to_mem0(memory) if memory else None

    def get_all(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        limit: int | None = None,
        top_k: int | None = None,
        filters: Mapping[str, Any] | None = None,
        show_expired: bool = False,
    ) -> dict[str, Any]:
        scope = _scope(user_id, agent_id, run_id, filters)
        memories = self.workspace.store.list(scope, filters, _count(top_k, limit, 100), show_expired=show_expired)
        return {"results": [memory_to_mem0(memory) for memory in memories]}

    def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        data: str | None = None,
    ) -> dict[str, str]:
        """Give a memory new words (`text`, or 1.x's `data`), new metadata, or both."""
        words = text if text is not None else data
        existing = self._existing(memory_id)
        words = clean_line(words, None) if words is not None else existing.text
        if len(words) > inputs.MAX_MEMORY:
            raise UsageError(f"a memory has at most {inputs.MAX_MEMORY:,} characters, and this text {len(words):,}")
        if not words:
            raise UsageError("a memory needs some text; use `delete` to remove it")
        [vector] = self.workspace.engine.embed([words])
        self.workspace.store.revise(memory_id, words, vector, metadata=metadata)
        return {"message": "Memory updated successfully!"}

    def delete(self, memory_id: str) -> dict[str, str]:
        self.workspace.store.delete(memory_id)
        return {"message": "Memory deleted successfully!"}

    def delete_all(
        self, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> dict[str, str]:
        """Delete every memory in scope; `undo` can bring each back."""
        self.workspace.store.delete_all(_owner(user_id, agent_id, run_id))
        return {"message": "Memories deleted successfully!"}

    def history(self, memory_id: str) -> list[dict[str, Any]]:
        """All that happened to one memory, oldest first."""
        return [_as_history(revision) for revision in self.workspace.store.history(memory_id)]

    def reset(self) -> None:
        """Forget everything: history, what was typed in chats, and the training pairs that corrections have left."""
        self.workspace.store.reset()
        home = self.workspace.settings.home
        for left in (home / CHAT_HISTORY, home / APP_HISTORY, *home.glob(f"teacher/*/{CORRECTIONS}")):
            left.unlink(missing_ok=True)

    # ------------------------------------------------------------------ beyond Mem0

    def ask(
        self,
        question: str,
        *,
        user_id: str | Iterable[str] | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        limit: int | None = None,
        top_k: int | None = None,
        filters: Mapping[str, Any] | None = None,
        image: str | Path | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Answer a question from the memories, or about a picture.

        Args:
            image: a picture's file. The answer is then what the student sees in it, one word with a reason (`look`), and
                no memory is read. Nothing of the picture is kept.
            user_id: whose memories; several names are each given `limit` memories, as Mem0 does, and None asks
                everybody's.
            limit, top_k: memories to answer from, for each user named; the setting `limit` by default.
            on_text: called with each piece of the answer, on the engine's thread.

        Raises:
            VisionMissing: there is a picture, and the student cannot see.
            UsageError: the picture cannot be read, or the number of memories is not above 0.
        """
        if image is not None:
            return self._look(question, image)
        question, count = inputs.clean_text(question), _count(top_k, limit, self.workspace.settings.limit)
        users: list[str | None] = [user_id] if user_id is None or isinstance(user_id, str) else list(user_id)
        hits: list[Hit] = []
        for user in users:
            scope = _scope(user, agent_id, run_id, filters, required=False)
            hits += self.find(question, scope=scope, limit=count, filters=filters)
        hits.sort(key=lambda hit: hit.distance)
        names = len({hit.memory.owner for hit in hits}) > 1
        return self.workspace.pipeline.answer(question, hits, names=names, on_text=on_text)

    def find(self, query: str, *, scope: Scope | None = None, limit: int = 10, **options: Any) -> list[Hit]:
        """The memories nearest to a query as records; `options` are those of `Store.search`."""
        if not query.strip():
            raise UsageError("the query is empty; say what to look for")
        [vector] = self.workspace.engine.embed([inputs.clean_text(query)], query=True)
        return self.workspace.store.search(vector, limit, scope=scope or Scope(), **options)

    def undo(self, revision: int | None = None) -> dict[str, Any]:
        """Take back one change: the given line of history, or the newest that still stands."""
        return _as_history(self.workspace.store.undo(self.workspace.engine.embed, revision))

    # ------------------------------------------------------------------ inside

    def _look(self, question: str, image: str | Path) -> Answer:
        from memlora_mlx.models.model_config import text_only_message

        if not question.strip():
            raise UsageError("the question is empty; say what to look for")
        if not self.workspace.has_vision:
            raise VisionMissing(text_only_message(self.workspace.student_name))
        with visual_questions.normalised_copy(image) as picture:
            look = visual_questions.answer_visual_question(self.workspace.engine, question, picture, Path(image).name)
        return Answer(look.answer, (), CallCost.of("vqa", look.completion, 0), look)

    def _existing(self, memory_id: str) -> MemoryRecord:
        memory = self.workspace.store.get(memory_id)
        if memory is None:
            raise MemoryNotFound(f"no memory has the id {memory_id}; `memlora memory list` shows them")
        return memory

    def _store_verbatim(
        self, exchange: Exchange, metadata: dict[str, Any], expires: datetime | None
    ) -> list[dict[str, Any]]:
        messages = [message for message in exchange.messages if message.role != "system" and clean_line(message.text)]
        texts = [clean_line(message.text, inputs.MAX_MEMORY) for message in messages]
        vectors = self.workspace.engine.embed(texts)
        changes = [
            Add(
                text,
                vector,
                said_at=message.said_at or exchange.said_at,
                image=message.image,
                metadata={
                    **metadata,
                    "role": message.role,
                    **({"actor_id": message.speaker} if message.speaker else {}),
                },
                expires_at=expires,
            )
            for message, text, vector in zip(messages, texts, vectors, strict=True)
        ]
        applied = self.workspace.store.commit(exchange.owner, changes, exchange=exchange, actor="user") or []
        return [
            {
                "id": change.memory_id,
                "memory": change.text,
                "event": "ADD",
                "actor_id": message.speaker,
                "role": message.role,
            }
            for change, message in zip(applied, messages, strict=True)
        ]


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
    if memory.expires_at:
        item["expiration_date"] = memory.expires_at.isoformat()
    if memory.image:
        item["image"] = rows.image_json(memory.image)
    item |= {name: memory.metadata[name] for name in _TOP_LEVEL_METADATA if name in memory.metadata}
    return item


def hit_to_mem0(hit: Hit) -> dict[str, Any]:
    """A memory that was found, in Mem0's shape with its score, and the distance it comes from."""
    return {**memory_to_mem0(hit.memory), "score": round(hit.score, 6), "distance": round(hit.distance, 6)}


def _as_history(revision: Revision) -> dict[str, Any]:
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


def _count(top_k: int | None, limit: int | None, default: int) -> int:
    """How many memories: `top_k`, else `limit`, else the default. Raises UsageError for less than one."""
    for name, value in (("top_k", top_k), ("limit", limit)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UsageError(f"{name} must be a whole number above 0, not {value!r}")
    return top_k or limit or default


def _owner(user_id: str | None, agent_id: str | None, run_id: str | None) -> Scope:
    return _scope(user_id, agent_id, run_id, None)


def _scope(
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


def _reject_options(problem: str) -> None:
    raise UsageError(problem)


def _names_scope(filters: object) -> bool:
    """Whether a filter says whose memories, however deep."""
    if isinstance(filters, Mapping):
        return any(key in _SCOPE or (key in ("AND", "OR") and _names_scope(part)) for key, part in filters.items())
    return isinstance(filters, list | tuple) and any(_names_scope(part) for part in filters)


def _moment(value: datetime | date | str | float) -> datetime:
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


def _expiry(value: datetime | date | str | None) -> datetime | None:
    """When a memory stops being shown; a bare day means its end."""
    if value is None:
        return None
    moment = _moment(value)
    is_written = isinstance(value, str) and not value.strip().isdigit()  # digits are an epoch
    is_day = type(value) is date or (is_written and moment.time() == time.min and ":" not in str(value))
    if is_day:
        moment = min(moment, datetime.max.replace(tzinfo=moment.tzinfo) - timedelta(days=1)) + timedelta(days=1)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _exchanges(messages: Messages, owner: Scope, said_at: datetime) -> list[Exchange]:
    """The messages of one `add`, cut as a chat is; each call's exchanges are new ones."""
    items: list[Any] = [messages] if isinstance(messages, str | Mapping) else list(messages)
    turns = tuple(turn for item in items if (turn := _turn(item)) is not None)
    if not turns:
        raise UsageError("there is no message to remember; give a text or a list of {'role', 'content'}")
    conversation = Conversation("", "api", "messages", (Session(said_at, turns),))
    return [
        replace(exchange, key=uuid.uuid4().hex, owner=owner)
        for exchange in conversation_exchanges(conversation, user="")
    ]


def _turn(item: Any) -> Turn | None:
    if isinstance(item, str):
        item = {"role": "user", "content": item}
    if not isinstance(item, Mapping) or item.get("role") not in ("user", "assistant", *_IGNORED_ROLES):
        raise UsageError(f"a message is {{'role': 'user' or 'assistant', 'content': ...}}, not {str(item)[:60]!r}")
    content, image = item.get("content"), None
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
    said_at = item.get("timestamp") or item.get("created_at")
    return Turn(
        inputs.clean_text(str(item.get("name") or "")),
        inputs.clean_text(str(content or "")),
        item["role"],
        said_at=_moment(said_at) if said_at is not None else None,
        image=image,
    )
