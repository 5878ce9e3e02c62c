"""One exchange from words to store, and one question from store to answer.

    exchange - extract -> facts - related? -> update -> decisions - apply -> store
    question - search -> memories - answer -> text

Each step is a function of its own that takes records and returns records, so that they can be run one after another
or many at once. This room never sees MLX: the engine takes requests and gives text and vectors back.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import Cancelled
from memlora_mlx.memory import stages, visual_questions
from memlora_mlx.memory.changes import Add, AppliedChange, Change, Delete, Update, Vector, WriteConflict
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.visual_questions import VisualAnswer
from memlora_mlx.records import (
    ChatMessages,
    Completion,
    Exchange,
    Grammar,
    Hit,
    Image,
    MemoryRecord,
    Priority,
    Request,
    Scope,
    Stage,
)
from memlora_mlx.settings import Protocol

if TYPE_CHECKING:
    from memlora_mlx.models.engine import Engine

MAX_IN_FLIGHT = 8  # exchanges worked on at once: as many as the engine's batch has places
# Updates of one owner asked for at once, in the hope that those before change nothing. With the shipped experts three of five
# second guesses were wrong, and on a CPU every one read in vain costs as much as a right one: 0.65 exchanges/s against 0.74.
SPECULATIVE_UPDATES = 1


@dataclass(frozen=True, slots=True)
class CallCost:
    """What one call of the student cost."""

    stage: Stage
    prompt_tokens: int
    output_tokens: int
    seconds: float
    truncated: int = 0  # characters or memories that did not fit into the prompt

    @classmethod
    def of(cls, stage: Stage, completion: Completion, truncated: int) -> CallCost:
        return cls(stage, completion.prompt_tokens, completion.output_tokens, completion.seconds, truncated)


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """What became of one exchange."""

    exchange: Exchange
    facts: tuple[str, ...] = ()
    applied: tuple[AppliedChange, ...] = ()
    duplicates: int = 0  # facts that were stored word for word already
    rejected: int = 0  # decisions about memories that were not offered
    costs: tuple[CallCost, ...] = ()
    was_already_stored: bool = False  # somebody remembered it before; nothing was written

    def count(self, event: str) -> int:
        return sum(1 for change in self.applied if change.event == event and change.rejected is None)


@dataclass(frozen=True, slots=True, eq=False)
class UpdateInput:
    """New facts beside the memories they may concern."""

    facts: tuple[str, ...]
    vectors: NDArray[np.float32]  # of the facts: (len(facts), dim)
    memories: tuple[MemoryRecord, ...]  # the small ids of the update prompt are positions in this
    duplicates: int = 0
    nearest_by_fact: tuple[tuple[MemoryRecord, ...], ...] = ()  # those of each fact


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and the memories it was given."""

    text: str
    hits: tuple[Hit, ...]
    cost: CallCost
    look: VisualAnswer | None = None  # at a picture


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What the pipeline does beyond the paper, and where."""

    protocol: Protocol = "product"
    related: int = 5
    max_context: int = 4096
    verbatim_only: Collection[Stage] = field(default_factory=frozenset)  # stages whose student needs a short leash
    copy_constrained: bool = False  # the update expert was trained to take its texts from the prompt
    per_fact: bool = False  # it was trained on one fact at a time: each fact of an exchange has an update of its own
    supports_images: bool = False  # the student can look at pictures
    use_expert_in_chat: bool = (
        False  # the student needs its generation expert to use what it is reminded of, in a chat too
    )


_Submit = Callable[[Request, threading.Event], Future[Completion]]  # the event stops it


@dataclass(frozen=True, slots=True, eq=False)
class _PendingUpdate:
    """An update that was asked for: of all facts of an exchange, or of one."""

    related: UpdateInput  # what was offered
    request: Request
    truncated: int
    answer: Future[Completion]
    superseded: threading.Event  # set: nobody waits for it any more


@dataclass(slots=True, eq=False)
class _InFlightExchange:
    """An exchange on its way into the store."""

    exchange: Exchange
    extraction: Future[Completion]
    truncated: int
    facts: tuple[str, ...] | None = None  # None until the extraction is read
    vectors: NDArray[np.float32] | None = None
    related: UpdateInput | None = None  # all that is new, beside the memories it may concern
    updates: list[_PendingUpdate] = field(default_factory=list)
    commits_at_request: int = 0  # commits of its owner when the updates were asked

    @property
    def pending_requests(self) -> list[Future[Completion]]:
        """What has to be answered next."""
        asked = [self.extraction] if self.related is None else [update.answer for update in self.updates]
        return [answer for answer in asked if not answer.done()]

    @property
    def is_ready(self) -> bool:
        return self.related is not None and not self.pending_requests


class Pipeline:
    """The stages over one engine and one store."""

    def __init__(self, engine: Engine, store: Store, options: PipelineOptions) -> None:
        self.engine, self.store, self.options = engine, store, options

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
        """Read one exchange and keep what matters: one transaction, or nothing. See `remember_all`."""
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
    ) -> Iterator[ExchangeResult]:
        """Read exchanges and keep what matters, in their order, each in one transaction.

        The student works ahead while the store is written strictly in order. Extractions do not depend on each other.
        Updates of different owners do not either; those of one owner are asked for `speculative_updates` exchanges ahead, and one
        counts only if, after all commits before it, its prompt would still be the same. So the store is the one that
        reading one exchange after the other gives. Where somebody else changes a memory meanwhile, what was decided on its old
        words is asked again.

        Args:
            priority: of the student's work; interactive by default.
            metadata: kept with every memory that is added or updated.
            expires_at: when the memories that are added stop being shown.
            max_in_flight: exchanges being worked on at once; 1 is one after the other.
            speculative_updates: updates of one owner asked for at once.

        Raises:
            Cancelled: `cancelled` was set; what was yielded is stored, and nothing of the rest.
        """

        def submit(request: Request, superseded: threading.Event) -> Future[Completion]:
            chosen = Priority.INTERACTIVE if priority is None else priority
            return self.engine.submit(request, priority=chosen, cancelled=superseded)

        stop = threading.Event()
        remaining = iter(exchanges)
        in_flight: deque[_InFlightExchange] = deque()
        commits: Counter[Scope] = Counter()  # of each owner, since which a guess may be wrong
        try:
            while True:
                if cancelled is not None and cancelled.is_set():
                    raise Cancelled("stopped")
                while len(in_flight) < max_in_flight and (exchange := next(remaining, None)) is not None:
                    request, truncated = self.extraction_request(exchange)
                    in_flight.append(_InFlightExchange(exchange, submit(request, stop), truncated))
                if not in_flight:
                    return
                self._speculate(in_flight, submit, commits, speculative_updates)
                oldest = in_flight[0]
                if not oldest.is_ready:
                    running = [answer for item in in_flight for answer in item.pending_requests]
                    wait(running, timeout=0.1, return_when=FIRST_COMPLETED)  # and look whether to stop
                    continue
                if oldest.facts and oldest.commits_at_request != commits[oldest.exchange.owner]:
                    self._request_updates(oldest, submit, commits[oldest.exchange.owner])
                    continue  # ready at once, where nothing has changed
                try:
                    remembered = self._commit(oldest, metadata or {}, expires_at)
                except WriteConflict:  # the user, or another process, was there meanwhile
                    self._request_updates(oldest, submit, commits[oldest.exchange.owner])
                    continue
                yield remembered
                commits[oldest.exchange.owner] += 1
                in_flight.popleft()
        finally:
            # If the caller left, or something failed, the student need not finish what nobody waits for.
            stop.set()
            for update in (update for item in in_flight for update in item.updates):
                update.superseded.set()

    def _speculate(
        self,
        in_flight: Iterable[_InFlightExchange],
        submit: _Submit,
        commits: Counter[Scope],
        speculative_updates: int,
    ) -> None:
        """Ask for the updates of each owner's next exchanges whose facts are there."""
        asked: Counter[Scope] = Counter()
        for item in in_flight:
            owner = item.exchange.owner
            if asked[owner] == speculative_updates:
                continue
            asked[owner] += 1
            if item.facts is None and item.extraction.done():
                item.facts = tuple(stages.parse_facts(item.extraction.result().text))
                item.vectors = self.engine.embed(item.facts) if item.facts else None
            if item.facts is None:
                asked[owner] = speculative_updates  # what this one will add is not known: a guess beyond it is too bold
            elif item.related is None:
                self._request_updates(item, submit, commits[owner])

    def _request_updates(self, item: _InFlightExchange, submit: _Submit, commits: int) -> None:
        """Ask what the facts change, as the store stands now; what was asked alike already is not asked again."""
        item.commits_at_request = commits
        item.related = self.find_related(item.exchange.owner, item.facts or (), item.vectors)
        before, item.updates = item.updates, []
        for part in self.split_by_fact(item.related):
            request, truncated, offered = self.update_request(part)
            same = [u for u in before if u.request == request and u.related.memories == offered.memories]
            if same:
                before.remove(same[0])
                item.updates.append(same[0])
            else:
                superseded = threading.Event()
                item.updates.append(
                    _PendingUpdate(offered, request, truncated, submit(request, superseded), superseded)
                )
        for update in before:
            update.superseded.set()

    def _commit(
        self, item: _InFlightExchange, metadata: Mapping[str, object], expires_at: datetime | None
    ) -> ExchangeResult:
        assert item.related is not None
        exchange, related = item.exchange, item.related
        costs = [CallCost.of("extraction", item.extraction.result(), item.truncated)]
        answered: list[tuple[UpdateInput, stages.UpdateAnswer]] = []
        for update in item.updates:
            completion = update.answer.result()
            costs.append(CallCost.of("update", completion, update.truncated))
            old = [memory.text for memory in update.related.memories]
            answered.append((update.related, stages.parse_update(completion.text, old)))
        changes = self.decide_changes(exchange, answered, metadata, expires_at)
        applied = self.store.commit(exchange.owner, changes, exchange=exchange)
        if applied is None:
            return ExchangeResult(exchange, was_already_stored=True, costs=tuple(costs))
        rejected = sum(decisions.rejected for _, decisions in answered)
        rejected += sum(1 for change in applied if change.rejected is not None)
        return ExchangeResult(exchange, related.facts, tuple(applied), related.duplicates, rejected, tuple(costs))

    def extraction_request(self, exchange: Exchange) -> tuple[Request, int]:
        """The request for an exchange's facts, and how many of its characters had to be left out.

        A student that sees is shown the picture which the facts are then stored with: see `image_of_exchange`.
        """
        picture = self._picture(exchange)
        if self.options.protocol == "paper":  # Mem0's way: a text student is not told what an image shows
            bare = tuple(replace(message, image=None) for message in exchange.messages)
            exchange = replace(exchange, messages=bare)
        grammar = stages.extraction_grammar(exchange, verbatim_only="extraction" in self.options.verbatim_only)
        return self._fitted_request(
            "extraction",
            lambda length: stages.extraction_chat(exchange, length),
            stages.extraction_characters(exchange),
            stages.EXTRACTION_TOKENS,
            lambda _: grammar,
            picture,
        )[:2]

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
            kept = [
                i
                for i, hits in enumerate(found)
                if all(_comparable(hit.memory.text) != _comparable(facts[i]) for hit in hits)
            ]
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
            return [related]
        return [
            UpdateInput((fact,), vector[None], memories)
            for fact, vector, memories in zip(related.facts, related.vectors, related.nearest_by_fact, strict=True)
        ]

    def update_request(self, related: UpdateInput) -> tuple[Request, int, UpdateInput]:
        """The request for what to do, how many memories did not fit, and what was offered in the end."""

        def grammar(kept: int) -> Grammar:
            old = [memory.text for memory in related.memories[:kept]]
            verbatim_only = "update" in self.options.verbatim_only
            return stages.update_grammar(
                old, related.facts, verbatim_only=verbatim_only, copy_constrained=self.options.copy_constrained
            )

        request, truncated, kept = self._fitted_request(
            "update",
            lambda count: stages.update_chat([memory.text for memory in related.memories[:count]], related.facts),
            len(related.memories),
            stages.UPDATE_TOKENS,
            grammar,
        )
        return request, truncated, replace(related, memories=related.memories[:kept])

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
        image = image_of_exchange(exchange)
        changed_ids: set[str] = set()
        changes: list[Change] = []
        for related, operation in operations:
            text, index = operation.text, operation.memory_index
            memory = None if index is None else related.memories[index]
            if memory is not None and memory.id not in changed_ids:
                changed_ids.add(memory.id)
                if operation.event == "UPDATE":
                    vector, more = known[text], metadata or None
                    changes.append(
                        Update(memory.id, text, vector, metadata=more, image=image, expected_text=memory.text)
                    )
                else:
                    changes.append(Delete(memory.id, expected_text=memory.text))
            elif operation.event != "DELETE":
                changes.append(Add(text, known[text], exchange.said_at, image, metadata, expires_at))
        return changes

    # ------------------------------------------------------------------ question to answer

    def answer_request(
        self, question: str, hits: Sequence[Hit], *, names: bool = False, look: VisualAnswer | None = None
    ) -> tuple[Request, int]:
        """The request for an answer from the hits, nearest first, and how many of them did not fit.

        Args:
            names: say whose memory each is, where more than one owner is asked.
            look: what one of their pictures has shown; it stands behind the words of its memory.
        """
        recalled = [
            stages.PromptMemory(
                stages.with_visual_answer(hit.memory.text, look.answer, look.reason)
                if look is not None and look.memory == hit.memory
                else hit.memory.text,
                hit.memory.said_at,
                owner_name(hit.memory.owner) if names else None,
            )
            for hit in hits
        ]
        return self._fitted_request(
            "generation",
            lambda kept: stages.answer_chat(question, recalled[:kept]),
            len(recalled),
            stages.ANSWER_TOKENS,
            lambda _: None,
        )[:2]

    def answer(
        self, question: str, hits: Sequence[Hit], *, names: bool = False, on_text: Callable[[str], None] | None = None
    ) -> Answer:
        """Answer from the hits; with a student that sees, after another look at a picture among the nearest.

        Args:
            on_text: called on the engine's thread with each piece of the answer.
        """
        found = None
        if self.options.supports_images and self.options.protocol == "product":
            found = visual_questions.answer_from_stored_image(self.engine, question, hits, self.store.images)
        request, truncated = self.answer_request(question, hits, names=names, look=found)
        completion = self.engine.complete(request, on_text=on_text)
        cost = CallCost.of("generation", completion, truncated)
        return Answer(completion.text.strip(), tuple(hits[: len(hits) - truncated]), cost, found)

    # ------------------------------------------------------------------ inside

    def _fitted_request(
        self,
        stage: Stage,
        build: Callable[[int], ChatMessages],
        items: int,
        output: int,
        grammar: Callable[[int], Grammar | None],
        picture: Path | None = None,
    ) -> tuple[Request, int, int]:
        """The stage's request with as much as fits, what was cut, and what was kept."""
        budget = min(self.options.max_context, self.engine.student.context) - output
        fitted = stages.fit_prompt(build, items, lambda chat: self.engine.count_tokens(chat, picture), budget)
        return Request(stage, fitted.chat, grammar(fitted.kept), output, picture), fitted.truncated, fitted.kept

    def _picture(self, exchange: Exchange) -> Path | None:
        """The file of the exchange's image, for a student that sees; None where it is not in the store."""
        image = image_of_exchange(exchange) if self.options.supports_images else None
        return self.store.images.path(image.sha256) if image is not None else None


def image_of_exchange(exchange: Exchange) -> Image | None:
    """The image that the facts of an exchange are stored with. Of several it is the owner's: what they show is theirs.

    One that is kept comes before a mere reference.
    """
    found = sorted(
        (message for message in exchange.messages if message.image),
        key=lambda message: (message.image is None or message.image.sha256 is None, message.role != "user"),
    )
    return found[0].image if found else None


def owner_name(owner: Scope) -> str | None:
    """An owner as people say it: LoCoMo's `Caroline_26` is Caroline."""
    name = owner.user_id or owner.agent_id or owner.run_id
    if name is None:
        return None
    first, _, last = name.rpartition("_")
    return first if first and last.isdigit() else name


def _comparable(text: str) -> str:
    """A text without case, blanks and end marks, to tell whether two say the same word for word."""
    return " ".join(text.casefold().split()).rstrip(".!")
