"""`Memory`: the library's front door, with Mem0's methods and return shapes, so that code written for Mem0 runs on it.

Keywords of both generations are taken: `user_id=` and `limit=` of 1.x, `filters=` and `top_k=` of 2.x. Beyond Mem0
there are `ask`, `undo` and the time something was said.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Self

from memlora_mlx.errors import Cancelled, UsageError, VisionMissing
from memlora_mlx.memory import visual_questions
from memlora_mlx.memory.api_erasing import ErasingMemory
from memlora_mlx.memory.editing import UNCHANGED, Reversal
from memlora_mlx.memory.mem0_format import (
    Messages,
    change_to_mem0,
    count_of,
    exchanges_of,
    expiry_of,
    history_to_mem0,
    hit_to_mem0,
    memory_to_mem0,
    moment_of,
    owner_of,
    scope_of,
    settings_of,
)
from memlora_mlx.memory.results import Answer, CallCost
from memlora_mlx.memory.search.find import embed_some_messages, find
from memlora_mlx.memory.secrets import describe_withheld
from memlora_mlx.memory.store.history import memory_history
from memlora_mlx.memory.verbatim import store_verbatim
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.model_config import text_only_message
from memlora_mlx.records import Exchange, Hit, Priority, Scope
from memlora_mlx.settings import Settings, load_settings
from memlora_mlx.text import clean_text

log = logging.getLogger(__name__)


class Memory(ErasingMemory):
    """A long-term memory on this machine; close it, or use it in a `with` statement. Models load when first needed.

    Args:
        settings: `Settings` or a mapping of their fields; by default those of the `memlora` command.
    """

    def __init__(self, settings: Settings | Mapping[str, object] | None = None) -> None:
        self.workspace = Workspace(settings if isinstance(settings, Settings) else load_settings(settings))

    @classmethod
    def of(cls, workspace: Workspace) -> Memory:
        """A memory over a workspace that the caller opens and closes."""
        memory = cls.__new__(cls)
        memory.workspace = workspace
        return memory

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Memory:
        """From a mapping of settings. A Mem0 configuration works too; its servers and models are ignored with a warning."""
        return cls(settings_of(config))

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
        key: str | None = None,
        background: bool = False,
        cancelled: threading.Event | None = None,
    ) -> dict[str, Any]:
        """Extract memories from messages and store them.

        Args:
            messages: a text, one message, or a list of `{"role", "content"}`; content can have text and image parts.
            timestamp: when it was said; by default now, if the messages do not say.
            infer: False stores every message as it is, without asking the student.
            prompt, memory_type: of Mem0; not supported, because the experts are trained on fixed prompts.
            images_from: the folder of an `image_url` that is a path. A `data:` image is stored, a web address is not.
            key: names this call; a second one with the same key stores nothing and returns no results.
            background: give way to replies and answers that somebody waits for.
            cancelled: set it, on another thread, to stop before the next step of the student.

        Returns `{"results": [{"id", "memory", "event", ...}]}`, with `previous_memory` for an UPDATE. Where secrets or private
        passages were not stored, `withheld` counts them by kind.

        Raises:
            UsageError: an image cannot be stored; nothing is then remembered.
            Cancelled: `cancelled` was set. The exchanges before that moment are stored whole, the others not at all.
        """
        _refuse_prompts(prompt, memory_type)
        owner = owner_of(user_id, agent_id, run_id)
        said_at = moment_of(timestamp) if timestamp is not None else datetime.now(UTC)
        extra, expires = dict(metadata or {}), expiry_of(expiration_date)
        keep = self.workspace.store.images.store_exchange_images
        exchanges = [keep(each, images_from, _reject_image) for each in exchanges_of(messages, owner, said_at, key)]
        work = _Work(extra, expires, infer, Priority.BACKGROUND if background else Priority.INTERACTIVE, cancelled)
        return _added(_add(self.workspace, each, work) for each in exchanges)

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
        """The memories and messages that fit a query best, best first.

        Args:
            threshold: least score of a result: from about 0 to 1.5, where higher is better.
            rerank: taken for compatibility; the order is by score.

        Returns `{"results": [{"id", "memory", "score", "created_at", ..., "kind", "message"}]}`: `message` holds the words
        that the memory came from. Of the kind "message" are words that no memory came from, with an `id` of their own.
        """
        hits = self.find(
            query,
            scopes=[scope_of(user_id, agent_id, run_id, filters)],
            limit=count_of(top_k, limit, self.workspace.settings.limit),
            filters=filters,
            show_expired=show_expired,
            said_after=moment_of(said_after) if said_after is not None else None,
            said_before=moment_of(said_before) if said_before is not None else None,
            source=source,
        )
        return {"results": [hit_to_mem0(hit) for hit in hits if threshold is None or hit.score >= threshold]}

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
        scope = scope_of(user_id, agent_id, run_id, filters)
        memories = self.workspace.store.list(scope, filters, count_of(top_k, limit, 100), show_expired=show_expired)
        return {"results": [memory_to_mem0(memory) for memory in memories]}

    def update(
        self,
        memory_id: str,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        data: str | None = None,
    ) -> dict[str, str]:
        """Give a memory a new text (`text`, or `data` as in Mem0 1.x), new metadata, or both."""
        edit = self.workspace.editor.revise(memory_id, data if text is None else text, metadata=metadata)
        _warn(edit.problem)
        _warn(describe_withheld(edit.withheld) or None)
        return {"message": "Memory updated successfully!" if edit.is_change else UNCHANGED}

    def delete(self, memory_id: str) -> dict[str, str]:
        _warn(self.workspace.editor.delete(memory_id).problem)
        return {"message": "Memory deleted successfully!"}

    def delete_all(
        self, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> dict[str, str]:
        """Delete every memory in scope; `undo` can bring each back."""
        self.workspace.editor.delete_all(owner_of(user_id, agent_id, run_id))
        return {"message": "Memories deleted successfully!"}

    def history(self, memory_id: str) -> list[dict[str, Any]]:
        """All that happened to one memory, oldest first."""
        return [history_to_mem0(revision) for revision in memory_history(self.workspace.store, memory_id)]

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
        free: bool = False,
    ) -> Answer:
        """Answer a question from the memories, or about a picture. What no memory fits is "Not mentioned".

        Args:
            image: a picture's file. The answer is then what the student sees in it, one word with a reason (`look`), and
                no memory is read. Nothing of the picture is kept.
            user_id: whose memories; None asks everybody's. Several names are searched together, for as many times the
                hits as there are names.
            limit, top_k: hits to answer from, for each user named; the setting `limit` by default.
            on_text: called with each piece of the answer, on the engine's thread.
            free: let the student answer, from what it knows, also where no memory fits.

        Raises:
            VisionMissing: there is a picture, and the student cannot see.
            UsageError: the picture cannot be read, or the number of memories is not above 0.
        """
        if image is not None:
            return _look(self.workspace, question, image)
        question, count = clean_text(question), count_of(top_k, limit, self.workspace.settings.limit)
        users: list[str | None] = [user_id] if user_id is None or isinstance(user_id, str) else list(user_id)
        hits = self.find(
            question,
            scopes=[scope_of(user, agent_id, run_id, filters, required=False) for user in users],
            limit=count,
            filters=filters,
            show_superseded=False,  # what is no longer so is nothing to answer from
        )
        names = len({hit.owner for hit in hits}) > 1
        return self.workspace.pipeline.answer(question, hits, names=names, on_text=on_text, free=free)

    def find(
        self, /, query: str, *, scopes: Sequence[Scope] = (Scope(),), limit: int = 10, **options: Any
    ) -> list[Hit]:
        """What fits a query best as records, `limit` hits for each scope; `options` are those of `search.find`."""
        if not query.strip():
            raise UsageError("the query is empty; say what to look for")
        query, protocol = clean_text(query), self.workspace.settings.protocol
        [vector] = self.workspace.memory_engine.embed([query], query=True)
        embed_some_messages(self.workspace.store, self.workspace.memory_engine.embed, protocol)
        return find(self.workspace.store, query, vector, limit, protocol=protocol, scopes=scopes, **options)

    def undo(
        self,
        revision: int | None = None,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> dict[str, Any]:
        """Revert one change: the given line of history, or the newest of these owners that was not undone.

        Returns the new line of history. Raises UsageError: neither a line nor an owner is given. Raises StoreError: there is
        nothing to undo, or the memory has changed since.
        """
        return _reversal(self.workspace.editor.undo, revision, user_id, agent_id, run_id)

    def redo(
        self,
        revision: int | None = None,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> dict[str, Any]:
        """Make a change again that was undone, unless its memory has changed since; `revision` is the undo's number."""
        return _reversal(self.workspace.editor.redo, revision, user_id, agent_id, run_id)


@dataclass(frozen=True, slots=True)
class _Work:
    """How the exchanges of one `add` are stored."""

    metadata: dict[str, Any]
    expires: datetime | None
    infer: bool
    priority: Priority
    cancelled: threading.Event | None


def _add(workspace: Workspace, exchange: Exchange, work: _Work) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """The results of one exchange, and what was not stored of it."""
    if not work.infer:
        if work.cancelled is not None and work.cancelled.is_set():
            raise Cancelled("the call was cancelled; the exchanges before that are stored")
        return store_verbatim(workspace, exchange, work.metadata, work.expires)
    remembered = workspace.pipeline.remember(
        exchange,
        priority=work.priority,
        cancelled=work.cancelled,
        metadata=work.metadata,
        expires_at=work.expires,
    )
    applied = [change_to_mem0(change) for change in remembered.applied if change.rejected is None]
    return applied, remembered.withheld


def _added(parts: Iterable[tuple[list[dict[str, Any]], Mapping[str, int]]]) -> dict[str, Any]:
    """The results of all exchanges of one `add`."""
    results: list[dict[str, Any]] = []
    withheld: Counter[str] = Counter()
    for items, taken in parts:
        results += items
        withheld.update(taken)
    return {"results": results, **({"withheld": dict(withheld)} if withheld else {})}


def _refuse_prompts(prompt: str | None, memory_type: str | None) -> None:
    if prompt is not None or memory_type is not None:
        raise UsageError(
            "custom prompts and memory types are not supported: the experts are trained on fixed prompts."
            " Remove these arguments"
        )


def _look(workspace: Workspace, question: str, image: str | Path) -> Answer:
    if not question.strip():
        raise UsageError("the question is empty; say what to look for")
    if not workspace.has_vision:
        raise VisionMissing(text_only_message(workspace.student_name))
    with visual_questions.normalised_copy(image) as picture:
        look = visual_questions.answer_visual_question(workspace.memory_engine, question, picture, Path(image).name)
    return Answer(look.answer, (), CallCost.of("vqa", look.completion, 0), look)


def _reversal(
    reverse: Callable[..., Reversal],
    revision: int | None,
    user_id: str | None,
    agent_id: str | None,
    run_id: str | None,
) -> dict[str, Any]:
    reversal = reverse(revision, scope=scope_of(user_id, agent_id, run_id, None, required=revision is None))
    _warn(reversal.problem)
    return history_to_mem0(reversal.revision)


def _warn(problem: str | None) -> None:
    if problem is not None:
        log.warning(problem)


def _reject_image(problem: str) -> None:
    raise UsageError(problem)
