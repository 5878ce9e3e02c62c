"""Many outputs at once: rows of different prompts, stages and experts in one forward pass.

A row enters when a place is free, is read alone (its prompt is long), and then steps with the others. Rows take
different numbers of tokens in a step: their own forced and proposed ones. The keys and values of a stage's last prompt
are kept, and a prompt that begins alike starts behind what they share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from memlora_mlx.errors import MemloraError, ModelBroken
from memlora_mlx.models.decoding import LOOKUP_TOKENS, DecodingSequence, TokenMask
from memlora_mlx.models.experts import ExpertTable
from memlora_mlx.models.kv_cache import KeptPrefix, NativeCache, RaggedCache
from memlora_mlx.models.student import Student
from memlora_mlx.records import Stage

PREFILL_TOKENS = 512  # of a prompt in one forward pass; between two, a more urgent request may run
PREFILL_ALONE_TOKENS = 16  # a row with more of them to read reads alone: the others would be padded to its length
STEP_TOKENS = 24  # of a step of all rows: where reading the weights stops being what a step costs
PREFIX_TOKENS = 8192  # of a stage's last prompt that are kept: a whole small context, for follow-up questions over it
_READ_AGAIN_TOKENS = 8  # pending tokens that may be read again when a draft is wrong, in a cache that cannot be cut
_MIN_SHARED_PREFIX = 8  # fewer shared tokens are not worth a copy

# The tokens of a stage's last prompt with what was kept of them. Of models with recurrent states only what two prompts
# share can be kept, so nothing is known before the second one.
PrefixCache = dict[Stage | None, tuple[list[int], KeptPrefix | None]]


class DecodingBatch:
    """Rows that are decoded together.

    Args:
        rows: places; one is used with a model whose cache has layers of an unknown kind.
        prefixes: shared between the batches of one student.
        step_tokens: tokens of a step of all rows, up to which proposals are made.
    """

    def __init__(
        self,
        student: Student,
        experts: ExpertTable,
        rows: int,
        prefixes: PrefixCache | None = None,
        *,
        step_tokens: int = STEP_TOKENS,
    ) -> None:
        self._student, self._experts, self._rows = student, experts, rows
        self._prefixes: PrefixCache = {} if prefixes is None else prefixes
        self._step_tokens = step_tokens
        self._cache: RaggedCache | NativeCache | None = None
        self.active: list[DecodingSequence] = []
        self.queued: deque[DecodingSequence] = deque()

    @property
    def is_busy(self) -> bool:
        return bool(self.active or self.queued)

    def add(self, row: DecodingSequence) -> None:
        self.queued.append(row)

    def cancel(self, row: DecodingSequence) -> None:
        """Take a row out before its end."""
        if row in self.active:
            self._remove(self.active.index(row))
        elif row in self.queued:
            self.queued.remove(row)

    def clear(self) -> None:
        """Take every row out."""
        self.active.clear()
        self.queued.clear()
        self._cache = None

    def step(self) -> tuple[list[DecodingSequence], list[tuple[DecodingSequence, MemloraError]]]:
        """One forward pass, or none where all that is next is forced.

        Returns the rows that ended, and those that failed with why; both have left.
        """
        failed: list[tuple[DecodingSequence, MemloraError]] = []
        while self.queued and len(self.active) < self._capacity():
            self._admit(self.queued.popleft())
        for row in list(self.active):
            try:
                row.append_forced()
            except MemloraError as error:
                failed.append((row, error))
        ended = [row for row in self.active if row.finish]
        if not ended and not failed and self.active:
            alone = next((i for i, row in enumerate(self.active) if len(row.pending) > PREFILL_ALONE_TOKENS), None)
            failed = self._forward(0, len(self.active)) if alone is None else self._forward(alone, 1)
            ended = [row for row in self.active if row.finish]
        for row in (*ended, *(row for row, _ in failed)):
            if row in self.active:
                self._remove(self.active.index(row))
        if not self.is_busy:
            self._cache = None  # an idle batch holds no memory
        return ended, failed

    def _capacity(self) -> int:
        if self._cache is None:
            self._cache = self._student.make_batch_cache(self._rows)
        return self._cache.rows

    def _admit(self, row: DecodingSequence) -> None:
        assert self._cache is not None
        if not self._cache.supports_rollback:
            row.disable_lookup()
        self.active.append(row)
        known = self._prefixes.get(row.stage)
        if known is None or not isinstance(self._cache, RaggedCache):
            return
        tokens, kept = known
        # The prompt's last token is always read: its logits choose the first token of the output.
        shared = _shared(tokens, row.prompt[:-1])
        if shared < _MIN_SHARED_PREFIX:
            if not self._cache.can_cut:
                del self._prefixes[row.stage]  # this prompt takes its place
            return
        if kept is not None and (self._cache.can_cut or shared == len(tokens)):
            self._cache.copy_in(len(self.active) - 1, kept, shared)
            row.pending = row.pending[shared:]
            row.counters.reused = shared
        elif not self._cache.can_cut:
            row.prefix_to_keep = shared

    def _remove(self, index: int) -> None:
        last = len(self.active) - 1
        if isinstance(self._cache, RaggedCache):
            self._cache.move(last, index)
        else:
            self._cache = None
        self.active[index] = self.active[last]
        self.active.pop()

    def _forward(self, first: int, count: int) -> list[tuple[DecodingSequence, MemloraError]]:
        """One forward pass of the rows from `first` on."""
        cache, rows = self._cache, self.active[first : first + count]
        assert cache is not None
        self._experts.use_rows([row.stage for row in rows])
        if count == 1 and (part := self._part_to_read(first)):
            [row] = rows
            self._hidden(rows, [row.pending[:part]], cache.begin(first, [part]))
            cache.advance([part])
            cache.evaluate()
            del row.pending[:part]
            self._keep_prefix(first)
            return []

        limit = min(LOOKUP_TOKENS, max(0, self._step_tokens // count - 1))
        if not cache.can_cut and max(len(row.pending) for row in rows) > _READ_AGAIN_TOKENS:
            limit = 0  # a draft that is wrong in part would have them read again
        fed = [row.pending + row.propose(limit) for row in rows]
        widths = [len(tokens) for tokens in fed]
        width = max(widths)
        padded = [row + [0] * (width - len(row)) for row in fed]
        hidden = self._hidden(rows, padded, cache.begin(first, widths))  # (count, width, dim)
        wanted = [
            i * width + j
            for i, (row, given) in enumerate(zip(rows, fed, strict=True))
            for j in range(len(row.pending) - 1, len(given))
        ]
        logits = self._student.logits(hidden.reshape(count * width, -1)[mx.array(wanted)])  # (choices, vocabulary)
        mx.async_eval(logits)

        is_sound = mx.logical_not(mx.isnan(logits).any(axis=-1)) & mx.isfinite(logits.max(axis=-1))

        choices = [len(given) - len(row.pending) + 1 for row, given in zip(rows, fed, strict=True)]
        chosen = _choose(logits, [row.masks() for row in rows], choices)  # masks are made while the model computes
        sound = np.array(is_sound)
        kept, failed, start = [], [], 0
        for row, count_chosen in zip(rows, choices, strict=True):
            try:
                if not sound[start : start + count_chosen].all():
                    raise _not_finite(row)
                kept.append(row.accept_choices(chosen[start : start + count_chosen]))
            except MemloraError as error:
                kept.append(0)
                failed.append((row, error))
            start += count_chosen
        for row, given, accepted, stored in zip(rows, fed, kept, cache.advance(kept), strict=True):
            if stored < accepted:
                row.read_again(given[:accepted])
        for i, row in enumerate(rows):
            if row.counters.steps == 1:
                self._save_prefix(first + i, row)
        return failed

    def _hidden(self, rows: Sequence[DecodingSequence], tokens: Sequence[Sequence[int]], cache: list[Any]) -> mx.array:
        """The last hidden states of the rows' next tokens."""
        numbers = np.array(tokens, np.int32)
        positions = None
        if self._student.stands_in_rows:
            positions = self._student.positions_at(numbers, [row.read for row in rows])
        return self._student.hidden(mx.array(numbers), cache, positions=positions)

    def _part_to_read(self, index: int) -> int:
        """Pending tokens of a row to read without choosing one; 0 to read them all and choose."""
        row = self.active[index]
        if row.prefix_to_keep and isinstance(self._cache, RaggedCache):
            part = row.prefix_to_keep - self._cache.lengths[index]
            if 0 < part < len(row.pending):
                return min(part, PREFILL_TOKENS)
        return PREFILL_TOKENS if len(row.pending) > PREFILL_TOKENS else 0

    def _keep_prefix(self, index: int) -> None:
        """Keep what a row has read, where that is what its prompt shares with the stage's last one."""
        row = self.active[index]
        if isinstance(self._cache, RaggedCache) and row.prefix_to_keep == self._cache.lengths[index]:
            tokens, row.prefix_to_keep = row.prefix_to_keep, 0
            self._prefixes[row.stage] = (row.prompt[:tokens], self._cache.copy_out(index, tokens))

    def _save_prefix(self, index: int, row: DecodingSequence) -> None:
        """Keep what is known of a prompt that was just read, for the stage's next one."""
        if not isinstance(self._cache, RaggedCache):
            return
        if self._cache.can_cut:
            tokens = min(len(row.prompt), PREFIX_TOKENS)
            self._prefixes[row.stage] = (row.prompt[:tokens], self._cache.copy_out(index, tokens))
        elif self._prefixes.get(row.stage, ([], None))[1] is None:
            self._prefixes[row.stage] = (row.prompt[:PREFIX_TOKENS], None)


def _not_finite(row: DecodingSequence) -> ModelBroken:
    """What a row fails with whose logits choose nothing: they are NaN or infinite."""
    whose = f"the {row.stage} stage" if row.stage else "the student"
    return ModelBroken(
        f"{whose} computed numbers that are not finite, so nothing it wrote was used; check the experts with"
        " `memlora adapters verify`, or use --experts none"
    )


def _choose(logits: mx.array, masks: Sequence[Sequence[TokenMask] | None], choices: Sequence[int]) -> list[int]:
    """The likeliest allowed token for each of the logits' rows, in one transfer."""
    if any(rows is not None for rows in masks):
        vocabulary = logits.shape[-1]
        allowed = np.ones((logits.shape[0], vocabulary), bool)
        start = 0
        for rows, count in zip(masks, choices, strict=True):
            if rows is not None:
                for row, mask in enumerate(rows, start):
                    allowed[row] = mask.allowed
                    if mask.handicapped is not None:
                        logits[row, mx.array(mask.handicapped)] -= mask.nats
            start += count
        logits = mx.where(mx.array(allowed), logits, -float("inf"))
    return [int(token) for token in np.array(mx.argmax(logits, axis=-1))]


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two prompts share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
