"""One forward pass over rows of uneven lengths: where their tokens stand, and which keys each of them sees."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx


class ForwardPass:
    """What the layers of one forward pass have in common."""

    def __init__(self, rows: int) -> None:
        self.rows, self.capacity = rows, 0
        self.first = 0

    def begin(self, first: int, starts: Sequence[int], fed: Sequence[int]) -> None:
        self.first, self.count, self.tokens = first, len(starts), max(fed)
        self.starts = list(starts)
        self.end = max(starts) + self.tokens
        # Rows of one width need no padding, and recurrent layers are faster without a mask.
        self.lengths = None if min(fed) == self.tokens else mx.array(list(fed))
        self._masks: dict[tuple[int | None, int], mx.array] = {}  # by window and first key
        self._own_starts = mx.array(self.starts)
        if self.count == 1:
            self.offset: mx.array | int = starts[0]  # a slice is cheaper than a scatter
        else:
            self.offset = self._own_starts
            self.positions = self._own_starts[:, None] + mx.arange(self.tokens)[None]  # (count, tokens)
            self.indices = mx.arange(first, first + self.count)[:, None]

    def low(self, window: int | None) -> int:
        """The first key that any new token sees."""
        return 0 if window is None else max(0, min(self.starts) - window + 1)

    def mask(self, window: int | None, *, cut: bool = True) -> mx.array | None:
        """Which keys each new token sees: bool, (count, 1, tokens, keys); None where it sees all there are.

        Args:
            window: how many keys a token sees, its own among them; None for all.
            cut: whether the keys begin at `low(window)`; else they begin at 0.
        """
        low = self.low(window) if cut else 0
        if self.count == 1 and self.tokens == 1 and (window is None or self.end - low <= window):
            return None
        if (window, low) not in self._masks:
            own = (self._own_starts[:, None] + mx.arange(self.tokens)[None])[..., None]  # (count, tokens, 1)
            keys = mx.arange(low, self.end)[None, None]
            seen = keys <= own
            if window is not None:
                seen = seen & (keys > own - window)
            self._masks[window, low] = seen[:, None]
        return self._masks[window, low]
