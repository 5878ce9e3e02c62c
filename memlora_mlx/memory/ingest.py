"""Reading whole conversations into memory: in order, resumable after any interruption, nothing twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from memlora_mlx.conversations import Conversation
from memlora_mlx.conversations.period import Period
from memlora_mlx.memory.change_limit import ChangeLimit
from memlora_mlx.memory.changes import AppliedChange
from memlora_mlx.memory.people import exchanges_of_owners
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.results import ExchangeResult
from memlora_mlx.memory.store.sources import finish_source, mark_source
from memlora_mlx.memory.store.upkeep import embed_messages
from memlora_mlx.records import Exchange, Priority


@dataclass(slots=True)
class IngestStats:
    """How far an ingest has come."""

    total: int = 0  # exchanges asked for, those done before included
    already_stored: int = 0  # of them, done in an earlier run, or meanwhile by another process
    done: int = 0  # of them, done in this run
    facts: int = 0
    added: int = 0
    updated: int = 0
    deleted: int = 0
    duplicates: int = 0
    rejected: int = 0  # decisions about memories that were not offered
    dropped: Counter[str] = field(default_factory=Counter)  # facts that their exchange does not say, by reason
    turned_to_add: Counter[str] = field(default_factory=Counter)  # operations without ground, by reason
    kept: int = 0  # memories that somebody of a lower class would have changed or deleted
    changes: list[AppliedChange] = field(default_factory=list)  # the updates and deletions, in order
    withheld: Counter[str] = field(default_factory=Counter)  # secrets and private passages not stored, by kind
    cut: int = 0  # prompts that did not fit whole
    image_problems: list[str] = field(default_factory=list)  # images that could not be kept and stay references
    tokens: Counter[str] = field(default_factory=Counter)  # "extraction in", "extraction out", "update in", ...
    seconds: float = 0.0

    @property
    def remaining(self) -> int:
        return self.total - self.already_stored - self.done

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far; None before there is one."""
        return self.seconds / self.done * self.remaining if self.done else None

    @property
    def output_tokens(self) -> int:
        return sum(count for name, count in self.tokens.items() if name.endswith(" out"))

    def count(self, result: ExchangeResult) -> None:
        if result.was_already_stored:
            self.already_stored += 1
            return
        self.done += 1
        self.facts += len(result.facts) + result.duplicates
        self.added += result.count("ADD")
        self.updated += result.count("UPDATE")
        self.deleted += result.count("DELETE")
        self.duplicates += result.duplicates
        self.rejected += result.rejected
        self.kept += len({change.kept for change in result.applied if change.kept is not None})
        self.changes += [c for c in result.applied if c.event in ("UPDATE", "DELETE") and c.rejected is None]
        self.dropped.update(result.dropped)
        self.turned_to_add.update(result.turned_to_add)
        self.withheld.update(result.withheld)
        for cost in result.costs:
            self.cut += cost.truncated > 0
            self.tokens[f"{cost.stage} in"] += cost.prompt_tokens
            self.tokens[f"{cost.stage} out"] += cost.output_tokens


def ingest(
    pipeline: Pipeline,
    conversations: Sequence[Conversation],
    *,
    user: str,
    own_names: Collection[str] = (),
    limit: int | None = None,
    may_change: bool = False,
    period: Period | None = None,
    on_progress: Callable[[IngestStats, ExchangeResult | None], None] | None = None,
    cancelled: threading.Event | None = None,
) -> IngestStats:
    """Remember every exchange of the conversations that is not remembered yet.

    Each exchange is one transaction with its own mark, so the run can be stopped or killed anywhere and done again:
    the store is then the same as after an uninterrupted one, and a second full run changes nothing.

    Args:
        user: the owner of conversations that name nobody.
        own_names: speakers of transcripts that are the user; no other is, whatever the name.
        limit: exchanges of each conversation, from its beginning; those done before count.
        may_change: change and delete as many of the older memories as the conversations ask for; see `ChangeLimit`.
        period: read only the exchanges that were said in it.
        on_progress: called before the first exchange and after each.
        cancelled: set it to stop before the next step; what is done stays done.

    Raises:
        Cancelled: `cancelled` was set.
        TooManyChanges: the next exchange would change too much; it was not stored.
    """
    stats = IngestStats()
    store = pipeline.store
    plans = [
        (
            conversation,
            [
                exchange
                for exchange in exchanges_of_owners(store, conversation, user=user, own_names=own_names)
                if not period or period.holds(exchange)
            ][:limit],
        )
        for conversation in conversations
    ]
    stats.total = sum(len(planned) for _, planned in plans)
    resumed: set[str] = set()
    work: list[tuple[Conversation, int, list[Exchange]]] = []
    for conversation, planned in plans:
        done = pipeline.store.stored_exchanges(exchange.key for exchange in planned)
        stats.already_stored += len(done)
        if done:
            resumed.add(conversation.name)
        work.append((conversation, len(planned), [exchange for exchange in planned if exchange.key not in done]))
    if on_progress:
        on_progress(stats, None)

    if pipeline.options.protocol == "product":
        embed_messages(pipeline.store, pipeline.engine.embed)  # those of a store of before they were searched
    approve = None if may_change else ChangeLimit(pipeline.store, resumed).approve
    started = time.perf_counter()
    for conversation, total, missing in work:
        if not missing:
            if total and limit is None:  # an earlier run may have been killed behind its last exchange
                finish_source(pipeline.store, conversation.name)
            continue
        mark_source(pipeline.store, conversation.name, conversation.format, total)
        folder, problems = conversation.folder, stats.image_problems
        seen = (pipeline.store.images.store_exchange_images(exchange, folder, problems.append) for exchange in missing)
        for result in pipeline.remember_all(seen, priority=Priority.BACKGROUND, cancelled=cancelled, approve=approve):
            stats.count(result)
            stats.seconds = time.perf_counter() - started
            if on_progress:
                on_progress(stats, result)
        mark_source(pipeline.store, conversation.name, conversation.format, total, finished=True)
    return stats
