"""Work on several exchanges at once, and store them strictly in order.

Extractions do not depend on each other, so they run together. An update depends on the memories that earlier exchanges of
the same owner leave behind. It is requested early all the same, and its answer is used only if its prompt is still the
same after those exchanges are stored; otherwise it is requested again.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import Cancelled
from memlora_mlx.memory.changes import Change, WriteConflict
from memlora_mlx.memory.engine import MemoryEngine
from memlora_mlx.memory.grounding import GroundedFacts
from memlora_mlx.memory.results import CallCost, ExchangeResult, ExtractionInput, UpdateInput
from memlora_mlx.records import Completion, Exchange, Priority, Request, Scope

MAX_IN_FLIGHT = 8  # exchanges worked on at once: as many as the engine's background batch has places
# Updates of one owner that are requested at once. With the shipped experts three of five updates requested second were
# wrong, and on a CPU a wrong one costs as much time as a right one: 0.65 exchanges/s against 0.74.
SPECULATIVE_UPDATES = 1


Approve: TypeAlias = Callable[[Exchange, Sequence[Change]], None]  # called before an exchange is stored; may raise


class ExchangeSteps(Protocol):
    """The steps of one exchange; `Pipeline` has them."""

    @property
    def engine(self) -> MemoryEngine: ...

    def extraction_requests(self, exchange: Exchange) -> list[ExtractionInput]: ...

    def read_facts(self, answers: Sequence[tuple[ExtractionInput, str]]) -> GroundedFacts: ...

    def find_related(
        self, owner: Scope, facts: Sequence[str], vectors: NDArray[np.float32] | None = None
    ) -> UpdateInput: ...

    def split_by_fact(self, related: UpdateInput) -> list[UpdateInput]: ...

    def update_request(self, related: UpdateInput) -> tuple[Request, int, UpdateInput]: ...

    def store_exchange(
        self,
        exchange: Exchange,
        related: UpdateInput,
        answers: Sequence[tuple[UpdateInput, str]],
        costs: Sequence[CallCost],
        metadata: Mapping[str, object],
        expires_at: datetime | None,
        approve: Approve | None,
    ) -> ExchangeResult: ...


@dataclass(frozen=True, slots=True, eq=False)
class _PendingExtraction:
    """The facts of an exchange, or of one part of a long one, were requested."""

    part: ExtractionInput
    answer: Future[Completion]


@dataclass(frozen=True, slots=True, eq=False)
class _PendingUpdate:
    """An update that was requested: for all facts of an exchange, or for one."""

    related: UpdateInput  # what was offered
    request: Request
    truncated: int
    answer: Future[Completion]
    superseded: threading.Event  # set when the answer is no longer needed


@dataclass(slots=True, eq=False)
class _InFlightExchange:
    """An exchange that is being worked on."""

    exchange: Exchange
    extractions: list[_PendingExtraction]  # one for each part
    facts: GroundedFacts | None = None  # None until all extractions have been parsed
    vectors: NDArray[np.float32] | None = None
    related: UpdateInput | None = None  # the new facts, and the memories that they may change
    updates: list[_PendingUpdate] = field(default_factory=list)
    commits_at_request: int = 0  # commits of its owner when the updates were requested

    @property
    def pending_requests(self) -> list[Future[Completion]]:
        """The requests that it waits for."""
        asked = self.extractions if self.related is None else self.updates
        return [request.answer for request in asked if not request.answer.done()]

    @property
    def is_ready(self) -> bool:
        return self.related is not None and not self.pending_requests


class Schedule:
    """One run over exchanges. See `Pipeline.remember_all` for the arguments."""

    def __init__(
        self,
        steps: ExchangeSteps,
        *,
        priority: Priority,
        metadata: Mapping[str, object],
        expires_at: datetime | None,
        max_in_flight: int,
        speculative_updates: int,
        approve: Approve | None = None,
    ) -> None:
        self._steps, self._priority = steps, priority
        self._metadata, self._expires_at, self._approve = metadata, expires_at, approve
        self._max_in_flight, self._speculative_updates = max_in_flight, speculative_updates
        self._in_flight: deque[_InFlightExchange] = deque()
        self._commits: Counter[Scope] = Counter()  # of each owner; an update requested before the last one may be wrong
        self._stop = threading.Event()

    def run(self, exchanges: Iterable[Exchange], cancelled: threading.Event | None) -> Iterator[ExchangeResult]:
        """Yield each result as soon as it is stored, in the order of the exchanges. Raises Cancelled."""
        remaining = iter(exchanges)
        try:
            while True:
                if cancelled is not None and cancelled.is_set():
                    raise Cancelled("stopped")
                self._fill(remaining)
                if not self._in_flight:
                    return
                self._speculate()
                oldest = self._in_flight[0]
                if not oldest.is_ready:
                    running = [answer for item in self._in_flight for answer in item.pending_requests]
                    wait(running, timeout=0.1, return_when=FIRST_COMPLETED)  # then check again for `cancelled`
                elif (result := self._stored(oldest)) is not None:
                    yield result
                    self._commits[oldest.exchange.owner] += 1
                    self._in_flight.popleft()
        finally:
            # If the caller left, or something failed, nobody needs the remaining answers.
            self._stop.set()
            for update in (update for item in self._in_flight for update in item.updates):
                update.superseded.set()

    def _fill(self, remaining: Iterator[Exchange]) -> None:
        """Request extractions until `max_in_flight` exchanges are being worked on."""
        while len(self._in_flight) < self._max_in_flight and (exchange := next(remaining, None)) is not None:
            # There is nothing to read where all of it was private.
            parts = self._steps.extraction_requests(exchange) if exchange.messages else []
            asked = [_PendingExtraction(part, self._submit(part.request, self._stop)) for part in parts]
            self._in_flight.append(_InFlightExchange(exchange, asked))

    def _submit(self, request: Request, cancelled: threading.Event) -> Future[Completion]:
        return self._steps.engine.submit(request, priority=self._priority, cancelled=cancelled)

    def _speculate(self) -> None:
        """Request the updates of each owner's next exchanges whose facts are known."""
        asked: Counter[Scope] = Counter()
        for item in self._in_flight:
            owner = item.exchange.owner
            if asked[owner] == self._speculative_updates:
                continue
            asked[owner] += 1
            if item.facts is None and not item.pending_requests:
                item.facts = self._steps.read_facts([(e.part, e.answer.result().text) for e in item.extractions])
                item.vectors = self._steps.engine.embed(item.facts.kept) if item.facts.kept else None
            if item.facts is None:
                asked[owner] = self._speculative_updates  # its facts are unknown, so a later update cannot be predicted
            elif item.related is None:
                self._request_updates(item)

    def _request_updates(self, item: _InFlightExchange) -> None:
        """Request what the facts change in the memories as they are now; an identical request is not sent again."""
        item.commits_at_request = self._commits[item.exchange.owner]
        facts = item.facts.kept if item.facts else ()
        item.related = self._steps.find_related(item.exchange.owner, facts, item.vectors)
        before, item.updates = item.updates, []
        for part in self._steps.split_by_fact(item.related):
            request, truncated, offered = self._steps.update_request(part)
            same = [u for u in before if u.request == request and u.related.memories == offered.memories]
            if same:
                before.remove(same[0])
                item.updates.append(same[0])
            else:
                superseded = threading.Event()
                answer = self._submit(request, superseded)
                item.updates.append(_PendingUpdate(offered, request, truncated, answer, superseded))
        for update in before:
            update.superseded.set()

    def _stored(self, item: _InFlightExchange) -> ExchangeResult | None:
        """Store an exchange; None if its updates had to be requested again first."""
        assert item.related is not None and item.facts is not None
        if item.facts.kept and item.commits_at_request != self._commits[item.exchange.owner]:
            self._request_updates(item)  # it is ready again at once if nothing has changed
            return None
        costs = [CallCost.of("extraction", e.answer.result(), e.part.truncated) for e in item.extractions]
        answers: list[tuple[UpdateInput, str]] = []
        for update in item.updates:
            completion = update.answer.result()
            costs.append(CallCost.of("update", completion, update.truncated))
            answers.append((update.related, completion.text))
        try:
            result = self._steps.store_exchange(
                item.exchange, item.related, answers, costs, self._metadata, self._expires_at, self._approve
            )
            return replace(result, dropped=item.facts.dropped)
        except WriteConflict:  # the user or another process has changed one of the memories meanwhile
            self._request_updates(item)
            return None
