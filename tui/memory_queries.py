"""Queries of the Memories screen: pages of memories, search results and exports.

The functions run on a thread (`Backend.run`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlora_mlx.errors import ModelBroken, ModelMissing, StoreError, UsageError
from memlora_mlx.files import atomic_file
from memlora_mlx.records import Exchange, MemoryRecord, Neighbour, Revision

if TYPE_CHECKING:
    from memlora_mlx.memory.changes import SortOrder, Source
    from memlora_mlx.memory.workspace import Workspace

PAGE = 200  # memories read at once
NEAREST = 200  # memories that a search by meaning returns
ORDERS: tuple[SortOrder, ...] = ("newest", "oldest", "changed", "stored")


@dataclass(frozen=True, slots=True)
class MemoryQuery:
    """Which memories to list, and in what order."""

    text: str = ""  # searched by meaning; in quotation marks, as exact text
    owner: str | None = None
    source: str | None = None
    since: str = ""
    until: str = ""
    order: SortOrder = "newest"


@dataclass(frozen=True, slots=True)
class MemoryPage:
    """A part of the list."""

    hits: tuple[Neighbour, ...]  # with distance -1.0 where it was not computed
    total: int  # memories that match
    is_last: bool
    note: str = ""  # how the search was done
    duplicates: Mapping[str, str] = field(default_factory=dict)  # see `near_duplicates`


@dataclass(frozen=True, slots=True)
class FilterChoices:
    """The choices of the filters."""

    owners: tuple[tuple[str, str], ...] = ()  # name, user id
    sources: tuple[str, ...] = field(default=())


def filter_choices(workspace: Workspace) -> FilterChoices:
    from memlora_mlx.memory.store.sources import list_owners, list_sources

    owners = [owner for owner in list_owners(workspace.store) if owner.memories and owner.scope.user_id]
    people = dict.fromkeys((owner.name or str(owner.scope.user_id), str(owner.scope.user_id)) for owner in owners)
    return FilterChoices(tuple(people), tuple(source.name for source in list_sources(workspace.store)))


def read_sources(workspace: Workspace) -> list[Source]:
    """The conversations that were read, for the Ingest screen."""
    from memlora_mlx.memory.store.sources import list_sources

    return list_sources(workspace.store)


def memory_page(workspace: Workspace, query: MemoryQuery, offset: int = 0) -> MemoryPage:
    """The memories that match, `PAGE` at a time, with those of them that say nearly the same as another of the page.

    Raises:
        UsageError: a date cannot be read.
    """
    from memlora_mlx.memory.near_duplicates import near_duplicates

    page = _memory_page(workspace, query, offset)
    return replace(page, duplicates=near_duplicates([hit.memory for hit in page.hits[:PAGE]]))


def _memory_page(workspace: Workspace, query: MemoryQuery, offset: int) -> MemoryPage:
    filters = _filter_of(query)
    store = workspace.store
    words = query.text.strip()
    if not words:
        found = store.list(filters=filters, limit=PAGE, offset=offset, order=query.order)
        total = store.count(filters=filters)
        return MemoryPage(_as_hits(found), total, offset + len(found) >= total)
    if len(words) > 1 and words[0] == words[-1] == '"':
        return _containing_words(workspace, query, words[1:-1], "exact text")
    try:
        workspace.embedder_folder  # noqa: B018 - raises where there is none
        [vector] = workspace.memory_engine.embed([words], query=True)
    except (ModelMissing, ModelBroken):
        return _containing_words(workspace, query, words, "exact text search: searching by meaning needs an embedder")
    hits = tuple(store.search(vector, NEAREST, filters=filters))
    total = store.count(filters=filters)
    return MemoryPage(
        hits, total, True, "nearest in meaning first" if len(hits) == total else f"the {NEAREST} nearest in meaning"
    )


def _containing_words(workspace: Workspace, query: MemoryQuery, words: str, note: str) -> MemoryPage:
    every = workspace.store.list(filters=_filter_of(query), order=query.order)
    wanted = words.casefold()
    found = [memory for memory in every if wanted in memory.text.casefold()]
    return MemoryPage(_as_hits(found), len(found), True, note)


def _as_hits(memories: Iterable[MemoryRecord]) -> tuple[Neighbour, ...]:
    return tuple(Neighbour(memory, -1.0) for memory in memories)


def pinned_and_today(workspace: Workspace, midnight: datetime) -> tuple[list[MemoryRecord], list[Revision]]:
    """The user's pinned memories, and what was learned, changed and withdrawn from a moment on, the newest first."""
    from memlora_mlx.memory.chat import pinned_memories
    from memlora_mlx.memory.store.history import changes_since
    from memlora_mlx.records import Scope

    owner = Scope(user_id=workspace.settings.user)
    return pinned_memories(workspace.store, owner), changes_since(workspace.store, midnight, owner)


def toggle_pin(workspace: Workspace, memory_id: str) -> bool:
    """Pin a memory, or unpin it. Returns whether it is pinned now. Raises MemoryNotFound."""
    from memlora_mlx.memory.chat import PINNED

    memory = workspace.store.get(memory_id)
    is_pinned = bool(memory and memory.metadata.get(PINNED))
    workspace.editor.revise(memory_id, metadata={PINNED: not is_pinned})
    return not is_pinned


@dataclass(frozen=True, slots=True)
class MemoryDetails:
    """A memory's text, the exchanges that it came from, and its history."""

    text: str
    exchanges: tuple[Exchange, ...]
    history: tuple[Revision, ...]
    place: tuple[str, str] | None = None  # the id of the conversation that it was said in last, and the exchange's key


def memory_details(workspace: Workspace, memory_id: str) -> MemoryDetails:
    from memlora_mlx.memory.store.conversations import conversation_of
    from memlora_mlx.memory.store.history import memory_history

    store = workspace.store
    memory, history = store.get(memory_id), memory_history(store, memory_id)
    keys = [memory.exchange_key if memory else None, *(line.exchange_key for line in history)]
    exchanges = []
    for key in dict.fromkeys(key for key in keys if key):
        try:
            exchanges.append(store.exchange(key))
        except StoreError:  # its conversation was deleted
            continue
    text = memory.text if memory else next((line.old_text for line in reversed(history) if line.old_text), "")
    places = ((conversation_of(store, key), key) for key in reversed(list(dict.fromkeys(keys))) if key)
    place = next(((found.id, key) for found, key in places if found is not None), None)
    return MemoryDetails(text, tuple(exchanges), tuple(history), place)


# ------------------------------------------------------------------------------------------------ files


def export(workspace: Workspace, path: Path) -> int:
    """Write all memories to a new file: Markdown if its name ends in .md, else the format of `memlora memory export`.

    Returns the number of memories.

    Raises:
        UsageError: the file exists, or it cannot be written. A partial file is removed.
    """
    from memlora_mlx.memory.store.export_import import export_lines

    if path.suffix.lower() in (".md", ".markdown"):
        return _write(path, lambda: _as_markdown(workspace))
    rows = export_lines(workspace.store)
    return _write(path, lambda: ((json.dumps(row, ensure_ascii=False), row.get("kind") == "memory") for row in rows))


def _as_markdown(workspace: Workspace) -> Iterable[tuple[str, bool]]:
    """Lines of Markdown: each owner's memories by day, oldest first. Each with whether it is a memory."""
    from memlora_mlx.memory.evidence import owner_name

    yield "# Memories", False
    memories = workspace.store.list(order="oldest")
    owners = dict.fromkeys(memory.owner for memory in memories)
    for owner in owners:
        yield f"\n## {_escaped(owner_name(owner) or 'nobody')}", False
        day = None
        for memory in (memory for memory in memories if memory.owner == owner):
            said = f"{memory.said_at:%Y-%m-%d}" if memory.said_at else "undated"
            if said != day:
                yield f"\n### {said}\n", False
                day = said
            yield f"- {_escaped(memory.text)}", True


def _escaped(text: str) -> str:
    """Escape what Markdown would interpret."""
    line = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|!" else c for c in line)


def _write(path: Path, lines: Callable[[], Iterable[tuple[str, bool]]]) -> int:
    count = 0
    try:
        if path.exists():
            raise UsageError(f"{path} already exists. Give another name.")
        with atomic_file(path, private=False) as out:
            for line, is_memory in lines():
                out.write(f"{line}\n".encode())
                count += is_memory
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}. Choose another path.") from error
    return count


def _filter_of(query: MemoryQuery) -> dict[str, Any] | None:
    from memlora_mlx.memory.retrieval.filters import parse_filters

    people = () if query.owner is None else (query.owner,)
    return parse_filters(people, query.source, query.since, query.until)
