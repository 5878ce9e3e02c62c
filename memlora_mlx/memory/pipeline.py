"""The memory pipeline: process one exchange into stored memories, and answer one question from them.

    exchange -> extraction -> facts -> related memories -> update -> changes -> store
    question -> search -> memories -> generation -> answer

Each step is a method of its own that takes and returns records, so steps can run one after another or many at once (see
`scheduling`). MLX is not used here: the engine takes requests, and returns text and vectors.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.memory import stages
from memlora_mlx.memory.answering import Answerer
from memlora_mlx.memory.changes import Change, EmbedFunction, Vector
from memlora_mlx.memory.chat_turns import newly_said, with_full_stops
from memlora_mlx.memory.engine import MemoryEngine
from memlora_mlx.memory.forgetting import nearest_in, with_requested_deletions
from memlora_mlx.memory.grounding import GroundedFacts, TurnReason, ground_facts, ground_operations
from memlora_mlx.memory.operations import image_of_exchange, operations_as_changes
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.provenance import Provenances
from memlora_mlx.memory.replacements import with_replacements
from memlora_mlx.memory.results import CallCost, ExchangeResult, ExtractionInput, UpdateInput
from memlora_mlx.memory.scheduling import MAX_IN_FLIGHT, SPECULATIVE_UPDATES, Approve, Schedule
from memlora_mlx.memory.screening import Screening
from memlora_mlx.memory.store.messages import exchange_texts
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import (
    ChatMessages,
    Exchange,
    Grammar,
    Neighbour,
    Priority,
    Request,
    Scope,
    Stage,
)


class _RecentVectors:
    """The vectors of the last texts: the same turn is embedded once for all its owners."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._vectors: dict[str, Vector] = {}

    def of(self, texts: Sequence[str], embed: EmbedFunction) -> list[Vector]:
        if missing := [text for text in dict.fromkeys(texts) if text not in self._vectors]:
            self._vectors.update(zip(missing, embed(missing), strict=True))
        found = [self._vectors[text] for text in texts]
        for old in list(self._vectors)[: -self._size]:
            del self._vectors[old]
        return found


class Pipeline(Answerer):
    """The steps of the memory system, with one engine and one store. Those of questions are in `Answerer`."""

    def __init__(self, engine: MemoryEngine, store: Store, options: PipelineOptions) -> None:
        super().__init__(engine, store, options)
        self._recent_vectors = _RecentVectors()

    # ------------------------------------------------------------------ exchange to store

    def remember(
        self,
        exchange: Exchange,
        *,
        priority: Priority | None = None,
        cancelled: threading.Event | None = None,
        metadata: Mapping[str, object] | None = None,
        expires_at: datetime | None = None,
    ) -> ExchangeResult:
        """Process and store one exchange, in one transaction. See `remember_all`."""
        [remembered] = self.remember_all(
            [exchange], priority=priority, cancelled=cancelled, metadata=metadata, expires_at=expires_at
        )
        return remembered

    def remember_all(
        self,
        exchanges: Iterable[Exchange],
        *,
        priority: Priority | None = None,
        cancelled: threading.Event | None = None,
        metadata: Mapping[str, object] | None = None,
        expires_at: datetime | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        speculative_updates: int = SPECULATIVE_UPDATES,
        approve: Approve | None = None,
    ) -> Iterator[ExchangeResult]:
        """Process exchanges and store them in order, each in one transaction.

        The student works on several exchanges at once, but the result is the same as of one after the other (see
        `scheduling`). If somebody else changes a memory meanwhile, the updates that saw its old text are asked again.

        Args:
            priority: of the student's work; interactive by default.
            metadata: stored with every memory that is added or updated.
            expires_at: from this time on, the added memories are not shown any more.
            max_in_flight: how many exchanges to work on at once; 1 means one after the other.
            speculative_updates: how many updates of one owner to request at once.
            approve: called with the changes of each exchange before they are stored; an error that it raises ends the run.

        Raises:
            Cancelled: `cancelled` was set. What was yielded is stored, and nothing else.
        """
        schedule = Schedule(
            self,
            priority=Priority.INTERACTIVE if priority is None else priority,
            metadata=metadata or {},
            expires_at=expires_at,
            max_in_flight=max_in_flight,
            speculative_updates=speculative_updates,
            approve=approve,
        )
        # Here all doors meet: what must not be stored is not even read by the student.
        screening = Screening(keep_secrets=self.options.keep_secrets)
        return screening.results(schedule.run(screening.screened(exchanges), cancelled))

    def extraction_requests(self, exchange: Exchange) -> list[ExtractionInput]:
        """The requests for an exchange's facts: one, or for a long exchange one for each part of it.

        A part has at most `stages.PART_CHARACTERS`, and fewer where the student's context takes less. A sentence that a
        message of a long exchange repeats is read once.
        """
        if exchange.before:
            exchange = replace(exchange, messages=(*exchange.before, *exchange.messages))
        characters = stages.PART_CHARACTERS
        is_long = self.options.protocol == "product" and stages.extraction_characters(exchange) > characters
        parts = stages.split_exchange(stages.without_repeats(exchange), characters) if is_long else [exchange]
        return [request for part in parts for request in self._part_requests(part, characters)]

    def _part_requests(self, part: Exchange, characters: int) -> list[ExtractionInput]:
        """The request for a part, or those for smaller parts of it until they fit whole."""
        request, truncated = self.extraction_request(part)
        if not truncated or self.options.protocol == "paper" or characters <= stages.SHORTEST_PART_CHARACTERS:
            return [ExtractionInput(part, request, truncated)]
        half = characters // 2
        return [found for small in stages.split_exchange(part, half) for found in self._part_requests(small, half)]

    def read_facts(self, answers: Sequence[tuple[ExtractionInput, str]]) -> GroundedFacts:
        """The facts of an exchange's extractions; beyond the paper, only those that the exchange says."""
        found = [(part.exchange, newly_said(part.exchange, stages.parse_facts(text))) for part, text in answers]
        if self.options.protocol == "paper":
            return GroundedFacts(tuple(fact for _, facts in found for fact in facts))
        return ground_facts(found)

    def extraction_request(self, exchange: Exchange) -> tuple[Request, int]:
        """The request for an exchange's facts, and how many of its characters had to be left out.

        A student that sees is shown the picture which the facts are then stored with: see `image_of_exchange`.
        """
        picture = _picture(self, exchange)
        if self.options.protocol == "paper":  # Mem0's way: a text student is not told what an image shows
            bare = tuple(replace(message, image=None) for message in exchange.messages)
            exchange = replace(exchange, messages=bare)
        else:
            exchange = with_full_stops(stages.with_reply(exchange))
        grammar = self.options.extraction_grammar(exchange)
        return self._fitted_request(
            "extraction",
            lambda length: _shown(self.options, "extraction", stages.extraction_chat(exchange, length)),
            stages.extraction_characters(exchange),
            stages.EXTRACTION_TOKENS,
            lambda _: grammar,
            picture,
        )[:2]

    def message_vectors(self, exchange: Exchange) -> list[Vector] | None:
        """The vectors of the exchange's messages, in order; None in the paper's protocol, which searches facts alone."""
        if self.options.protocol == "paper":
            return None
        return self._recent_vectors.of(exchange_texts(exchange), self.engine.embed)

    def find_related(
        self, owner: Scope, facts: Sequence[str], vectors: NDArray[np.float32] | None = None
    ) -> UpdateInput:
        """For every fact the owner's nearest memories, merged in the order of the facts, as Mem0 does.

        Beyond the paper, a fact that is stored word for word already is dropped.
        """
        if not facts:
            return UpdateInput((), np.empty((0, 0), np.float32), ())
        vectors = self.engine.embed(facts) if vectors is None else vectors
        found = self.store.search_many(vectors, self.options.related, owner)
        kept = list(range(len(facts)))
        if self.options.protocol == "product":
            kept = [i for i, hits in enumerate(found) if not _is_stored(facts[i], hits)]
        memories = {hit.memory.id: hit.memory for i in kept for hit in found[i]}
        return UpdateInput(
            tuple(facts[i] for i in kept),
            vectors[kept],
            tuple(memories.values()),
            duplicates=len(facts) - len(kept),
            nearest_by_fact=tuple(tuple(hit.memory for hit in found[i]) for i in kept),
        )

    def split_by_fact(self, related: UpdateInput) -> list[UpdateInput]:
        """What one update is asked about: all new facts together (the paper's way), or each with memories of its own."""
        if not related.facts:
            return []
        if not self.options.per_fact:
            return related.in_groups_of(stages.MAX_FACTS)
        return [
            UpdateInput((fact,), vector[None], memories)
            for fact, vector, memories in zip(related.facts, related.vectors, related.nearest_by_fact, strict=True)
        ]

    def update_request(self, related: UpdateInput) -> tuple[Request, int, UpdateInput]:
        """The request for what to do, how many memories did not fit, and what was offered in the end."""
        texts = [memory.text for memory in related.memories]

        verbatim, copied = "update" in self.options.verbatim_only, self.options.copy_constrained

        def grammar(kept: int) -> Grammar:
            return stages.update_grammar(texts[:kept], related.facts, verbatim_only=verbatim, copy_constrained=copied)

        request, truncated, kept = self._fitted_request(
            "update",
            lambda count: _shown(self.options, "update", stages.update_chat(texts[:count], related.facts)),
            len(related.memories),
            stages.UPDATE_TOKENS,
            grammar,
        )
        return request, truncated, replace(related, memories=related.memories[:kept])

    def store_exchange(
        self,
        exchange: Exchange,
        related: UpdateInput,
        answers: Sequence[tuple[UpdateInput, str]],
        costs: Sequence[CallCost] = (),
        metadata: Mapping[str, object] = MappingProxyType({}),
        expires_at: datetime | None = None,
        approve: Approve | None = None,
    ) -> ExchangeResult:
        """Parse the answers of an exchange's updates and store the exchange with what they change.

        Args:
            related: all new facts of the exchange.
            answers: for each update, what it was asked about and the student's answer.
            costs: of all calls for this exchange.

        Raises:
            WriteConflict: a memory has changed since the update was requested; nothing is stored.
        """
        turned: Counter[TurnReason] = Counter()
        parsed: list[tuple[UpdateInput, stages.UpdateAnswer]] = []
        for offered, text in answers:
            old = [memory.text for memory in offered.memories]
            answer = stages.parse_update(text, old)
            if self.options.protocol == "product":
                similarity = partial(_similarity, self.engine)
                answer, reasons = ground_operations(answer, offered.facts, old, exchange, similarity)
                answer = with_replacements(answer, offered.facts, offered.memories, exchange, similarity)
                turned.update(reasons)
            parsed.append((offered, answer))
        changes = self.decide_changes(exchange, parsed, metadata, expires_at)
        if self.options.protocol == "product":  # the paper knows no requests to forget
            nearest = nearest_in(self.store, self.engine.embed, self.options.related)
            changes = with_requested_deletions(changes, exchange, nearest)
        if approve is not None:
            approve(exchange, changes)
        vectors = self.message_vectors(exchange)
        applied = self.store.commit(exchange.owner, changes, exchange=exchange, message_vectors=vectors)
        if applied is None:
            return ExchangeResult(exchange, was_already_stored=True, costs=tuple(costs))
        rejected = sum(answer.rejected for _, answer in parsed)
        rejected += sum(1 for change in applied if change.rejected is not None)
        return ExchangeResult(
            exchange,
            related.facts,
            tuple(applied),
            related.duplicates,
            rejected,
            tuple(costs),
            turned_to_add=dict(turned),
        )

    def decide_changes(
        self,
        exchange: Exchange,
        answered: Sequence[tuple[UpdateInput, stages.UpdateAnswer]],
        metadata: Mapping[str, object] = MappingProxyType({}),
        expires_at: datetime | None = None,
    ) -> list[Change]:
        """The decisions of an exchange's updates with the store's ids and with vectors; a fact's own vector is used again.

        A memory is changed once in an exchange: what a later update would make of it too is added beside it.
        """
        known: dict[str, Vector] = {}
        for related, _ in answered:
            known.update(zip(related.facts, related.vectors, strict=True))
        operations = [(related, operation) for related, answer in answered for operation in answer.operations]
        texts = {d.text for _, d in operations if d.event != "DELETE" and d.text not in known}
        if texts:
            ordered = sorted(texts)
            known.update(zip(ordered, self.engine.embed(ordered), strict=True))
        classes = Provenances(exchange if self.options.protocol == "product" else None)  # the paper knows no classes
        return operations_as_changes(operations, known, exchange, metadata, expires_at, classes)


def _picture(pipeline: Pipeline, exchange: Exchange) -> Path | None:
    """The file of the exchange's image, for a student that sees; None where it is not in the store."""
    image = image_of_exchange(exchange) if pipeline.options.supports_images else None
    return pipeline.store.images.path(image.sha256) if image is not None else None


def _shown(options: PipelineOptions, stage: Stage, chat: ChatMessages) -> ChatMessages:
    """A stage's prompt, after rules and examples if this student is to have them."""
    return stages.zero_shot_chat(stage, chat) if stage in options.zero_shot else chat


def _similarity(engine: MemoryEngine, text: str, other: str) -> float:
    """The cosine of two texts."""
    one, two = engine.embed([text, other])
    return float(one @ two)


def _is_stored(fact: str, hits: Sequence[Neighbour]) -> bool:
    return any(_comparable(hit.memory.text) == _comparable(fact) for hit in hits)


def _comparable(text: str) -> str:
    """A text without case, blanks and end marks, to tell whether two say the same word for word."""
    return " ".join(text.casefold().split()).rstrip(".!")
