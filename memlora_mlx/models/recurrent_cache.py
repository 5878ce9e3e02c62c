"""The states of a recurrent layer (a convolution, a state-space or a linear-attention layer) for rows of uneven lengths.

A state stands for all tokens read so far, and tokens cannot be taken out of it again. So what a forward pass makes of it
is put in place only for the rows whose tokens were all accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from memlora_mlx.models.forward_pass import ForwardPass


class RecurrentLayer:
    """One layer's states, with the methods of mlx-lm's `ArraysCache` that its models call.

    Args:
        now: the forward pass.
        size: states that the layer has, such as one of a convolution and one of its recurrence.
    """

    left_padding = None  # of mlx-lm's own batches

    def __init__(self, now: ForwardPass, size: int) -> None:
        self._now = now
        self._kept: list[mx.array | None] = [None] * size  # (rows that were read, ...)
        self._new: list[mx.array | None] = [None] * size  # (rows of this pass, ...)
        self.reads_lengths = False  # whether the model has asked for them: see `pads_rows`

    @property
    def lengths(self) -> mx.array | None:
        """The tokens of each row in this pass, (rows,); None where all rows have as many."""
        self.reads_lengths = True
        return self._now.lengths

    def __getitem__(self, index: int) -> mx.array | None:
        kept, now = self._kept[index], self._now
        if kept is None or not any(now.starts):
            return None  # the model begins with zeros
        kept = _with_rows(kept, now.first + now.count)
        states = kept if kept.shape[0] == now.count else kept[now.first : now.first + now.count]
        if all(now.starts):
            return states
        begun = mx.array([start > 0 for start in now.starts]).reshape(-1, *[1] * (states.ndim - 1))
        return mx.where(begun, states, mx.zeros_like(states))

    def __setitem__(self, index: int, states: mx.array) -> None:
        self._new[index] = states

    def make_mask(self, tokens: int, **_: Any) -> mx.array | None:
        """Which tokens are of a row and which are padding: bool, (rows, tokens); None without padding."""
        lengths = self._now.lengths
        return None if lengths is None else mx.arange(tokens) < lengths[:, None]

    def advance(self, tokens: int) -> None:
        """The model has read the tokens; `keep` says what becomes of it."""

    def keep(self, accepted: Sequence[bool]) -> None:
        """Put the new states in place for those rows of this pass whose tokens were all accepted."""
        first, last = self._now.first, self._now.first + self._now.count
        for index, new in enumerate(self._new):
            if new is None:
                continue
            kept = _with_rows(self._kept[index], last, like=new)
            if not all(accepted):
                chosen = mx.array(list(accepted)).reshape(-1, *[1] * (new.ndim - 1))
                new = mx.where(chosen, new, kept[first:last])
            if kept.shape[0] == new.shape[0]:
                kept = new
            else:
                kept[first:last] = new
            self._kept[index] = kept
        self._new = [None] * len(self._new)

    def arrays(self) -> list[mx.array]:
        return [kept for kept in self._kept if kept is not None]

    def grow(self, capacity: int) -> None:
        """States do not grow with their tokens."""

    def move(self, source: int, target: int, tokens: int) -> None:
        for index, kept in enumerate(self._kept):
            if kept is not None and kept.shape[0] > source:
                if source != target:
                    kept[target] = kept[source]
                self._kept[index] = kept[:source]  # the last row: buffers end with the last one that was read

    def copy_out(self, row: int, tokens: int) -> list[mx.array | None]:
        return [None if kept is None else mx.contiguous(kept[row : row + 1]) for kept in self._kept]

    def copy_in(self, row: int, states: Sequence[mx.array | None], tokens: int) -> None:
        for index, state in enumerate(states):
            if state is not None:
                kept = _with_rows(self._kept[index], row + 1, like=state)
                kept[row : row + 1] = state
                self._kept[index] = kept


def _with_rows(kept: mx.array | None, rows: int, like: mx.array | None = None) -> mx.array:
    """The states with at least so many rows; new ones are zeros."""
    if kept is None:
        assert like is not None
        return mx.zeros((rows, *like.shape[1:]), like.dtype)
    if kept.shape[0] >= rows:
        return kept
    return mx.concatenate([kept, mx.zeros((rows - kept.shape[0], *kept.shape[1:]), kept.dtype)])
