"""The requests that the engine is answering, in three batches: interactive, background, and long background ones.

Everything here but `stages` and `tokens` runs on the engine's thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from memlora_mlx.errors import Cancelled
from memlora_mlx.records import Completion, Priority, Request, Stage

if TYPE_CHECKING:
    from memlora_mlx.models.batching import DecodingBatch, PrefixCache
    from memlora_mlx.models.decoding import DecodingSequence
    from memlora_mlx.models.experts import ExpertTable
    from memlora_mlx.models.student import Student

LONG_TOKENS = 1024  # of prompt and output; longer background requests are answered one by one


@dataclass(eq=False)
class InFlightRequest:
    """A request that waits for its answer, or is being answered."""

    request: Request
    result: Future[Completion]
    on_text: Callable[[str], None] | None  # is given each new piece of the answer
    cancelled: threading.Event
    started: float = 0.0  # of `time.perf_counter`, seconds
    shown: int = 0  # characters given to `on_text`


class Lane(IntEnum):
    """The batches of the engine, the most urgent first."""

    INTERACTIVE = 0
    BACKGROUND = 1
    LONG = 2  # background requests too long to share a batch: every row's buffer is as long as the longest's


LONG_PROMPT_TOKENS = 512  # from which on somebody who waits wants to know how far reading is
BATCH_SIZES = {Lane.INTERACTIVE: 4, Lane.BACKGROUND: 8, Lane.LONG: 1}  # places in each batch


class Lanes:
    """The batches of one student, and the request that each of their rows answers."""

    def __init__(self) -> None:
        self._batches: dict[Lane, DecodingBatch] = {}
        self._in_flight: dict[Lane, dict[DecodingSequence, InFlightRequest]] = {}
        self._prefixes: PrefixCache = {}
        self._finished_tokens = 0  # tokens of the answers that are done

    def busy(self) -> list[Lane]:
        """The lanes that have something to do, the most urgent first."""
        return [lane for lane, batch in sorted(self._batches.items()) if batch.is_busy]

    def stages(self) -> set[Stage | None]:
        """The stages of the requests that are being answered; None stands for chat. From any thread."""
        return {row.stage for row in self._rows()}

    def tokens(self) -> int:
        """Tokens written since the engine began. From any thread."""
        return self._finished_tokens + sum(len(row.tokens) for row in self._rows())

    def reading(self) -> tuple[int, int]:
        """Tokens read and to read of the prompts that are being read, without short ones. From any thread."""
        rows = [row for row in self._rows() if not row.tokens and len(row.prompt) > LONG_PROMPT_TOKENS and row.pending]
        return sum(max(0, len(row.prompt) - len(row.pending)) for row in rows), sum(len(row.prompt) for row in rows)

    def begin(self, in_flight: InFlightRequest, priority: Priority, student: Student, experts: ExpertTable) -> None:
        """Put a request into the batch that its priority and its length call for.

        Raises:
            MemloraError: the prompt cannot be encoded, or its image cannot be read.
        """
        from memlora_mlx.models.batching import DecodingBatch
        from memlora_mlx.models.decoding import DecodingSequence, GrammarMatcher

        in_flight.started = time.perf_counter()
        request = in_flight.request
        prompt = student.encode(request.chat, request.image)
        student.compute_features(prompt, (row.pending for row in self._rows()))
        guide = GrammarMatcher(student, request.grammar) if request.grammar else None
        row = DecodingSequence(
            student,
            request.stage,
            prompt,
            guide=guide,
            max_tokens=request.max_tokens,
            stop_repetition=request.stop_repetition,
        )
        lane = Lane.INTERACTIVE if priority is Priority.INTERACTIVE else Lane.BACKGROUND
        if lane is Lane.BACKGROUND and row.max_length > LONG_TOKENS:
            lane = Lane.LONG
        if lane not in self._batches:
            self._batches[lane] = DecodingBatch(student, experts, BATCH_SIZES[lane], self._prefixes)
            self._in_flight[lane] = {}
        self._in_flight[lane][row] = in_flight
        self._batches[lane].add(row)

    def step(self, lane: Lane) -> None:
        """Run one forward pass of a batch, and pass what it wrote to its requests."""
        batch, requests = self._batches[lane], self._in_flight[lane]
        for row, in_flight in list(requests.items()):
            if in_flight.cancelled.is_set():
                batch.cancel(row)
                requests.pop(row).result.set_exception(Cancelled("stopped"))
        try:
            ended, failed = batch.step()
        except Exception as error:  # out of memory, say: none of these rows can go on, the engine can
            batch.clear()
            for in_flight in requests.values():
                in_flight.result.set_exception(error)
            requests.clear()
            return
        for row, reason in failed:
            requests.pop(row).result.set_exception(reason)
        for row, in_flight in list(requests.items()):
            try:
                _show(in_flight, row)
            except Exception as error:  # the caller's own code: its request ends, the engine goes on
                batch.cancel(row)
                requests.pop(row).result.set_exception(error)
        for row in ended:
            if row in requests:
                self._deliver(requests.pop(row), row)

    def close(self, reason: Exception) -> None:
        """End every request with an exception, and let go of the batches."""
        for requests in self._in_flight.values():
            for in_flight in requests.values():
                in_flight.result.set_exception(reason)
        self._batches.clear()
        self._in_flight.clear()
        self._prefixes.clear()

    def _rows(self) -> list[DecodingSequence]:
        return [row for requests in list(self._in_flight.values()) for row in list(requests)]

    def _deliver(self, in_flight: InFlightRequest, row: DecodingSequence) -> None:
        assert row.finish is not None
        self._finished_tokens += len(row.tokens)
        in_flight.result.set_result(
            Completion(
                text=row.text,
                finish=row.finish,
                prompt_tokens=len(row.prompt),
                output_tokens=len(row.tokens),
                steps=row.counters.steps,
                seconds=time.perf_counter() - in_flight.started,
            )
        )


def _show(in_flight: InFlightRequest, row: DecodingSequence) -> None:
    """Give the caller the new part of the text; the bytes of an incomplete character wait for the rest of it."""
    if in_flight.on_text is None:
        return
    text = row.text if row.finish else row.text.rstrip("\ufffd")
    if text[in_flight.shown :]:
        in_flight.on_text(text[in_flight.shown :])
        in_flight.shown = len(text)
