"""A KV cache for rows that grow unevenly: each row has a length of its own, and takes back what was not accepted.

mlx-lm's batch cache keeps rows of one length by padding them on the left. Here every row writes behind its own end, so
rows may take different numbers of tokens in one forward pass, and taking tokens back is a change of a number. What lies
behind a row's end is never seen: the mask ends there, and the next tokens overwrite it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

_GROWTH = 256  # tokens by which the buffers grow


class RaggedCache:
    """The keys and values of up to `rows` sequences of one model.

    The first `n` rows are the live ones. For a forward pass over some of them call `begin`, give what it returns to the
    model, then say with `advance` how many tokens each row keeps.
    """

    supports_rollback = True

    def __init__(self, layers: int, rows: int) -> None:
        self.rows = rows
        self.lengths = [0] * rows
        self._pass = _ForwardPass(rows)
        self.layers = [_Layer(self._pass) for _ in range(layers)]

    def begin(self, first: int, count: int, tokens: int) -> list[_Layer]:
        """Prepare a forward pass of `tokens` tokens on each of `count` rows from `first` on."""
        starts = self.lengths[first : first + count]
        self._make_room(max(starts) + tokens)
        self._pass.begin(first, starts, tokens)
        return self.layers

    def advance(self, kept: Sequence[int]) -> None:
        """Keep the first so many of the tokens each row was given."""
        for i, tokens in enumerate(kept):
            self.lengths[self._pass.first + i] += tokens

    def move(self, source: int, target: int) -> None:
        """Put one row in another's place."""
        if source != target:
            for layer in self.layers:
                layer.move(source, target, self.lengths[source])
        self.lengths[target] = self.lengths[source]
        self.lengths[source] = 0

    def copy_out(self, row: int, tokens: int) -> list[tuple[mx.array, mx.array]]:
        """The keys and values of a row's first tokens, for `copy_in`."""
        kept = [layer.copy_out(row, tokens) for layer in self.layers]
        mx.eval(kept)
        return kept

    def copy_in(self, row: int, kept: Sequence[tuple[mx.array, mx.array]], tokens: int) -> None:
        """Begin a row with the first tokens of what `copy_out` gave."""
        self._make_room(tokens)
        for layer, (keys, values) in zip(self.layers, kept, strict=True):
            layer.copy_in(row, keys[..., :tokens, :], values[..., :tokens, :])
        self.lengths[row] = tokens

    def evaluate(self) -> None:
        mx.eval([(layer.keys, layer.values) for layer in self.layers if layer.keys is not None])

    def _make_room(self, tokens: int) -> None:
        if tokens > self._pass.capacity:
            self._pass.capacity = (tokens + _GROWTH - 1) // _GROWTH * _GROWTH
            for layer in self.layers:
                layer.grow(self._pass.capacity)


class _ForwardPass:
    """What the layers of one forward pass have in common."""

    def __init__(self, rows: int) -> None:
        self.rows, self.capacity = rows, 0
        self.first = 0

    def begin(self, first: int, starts: Sequence[int], tokens: int) -> None:
        self.first, self.count, self.tokens = first, len(starts), tokens
        self.end = max(starts) + tokens
        self._mask: mx.array | None = None
        self._starts = mx.array(list(starts))
        if self.count == 1:
            self.offset: mx.array | int = starts[0]  # a slice is cheaper than a scatter
        else:
            self.offset = self._starts
            self.positions = self._starts[:, None] + mx.arange(tokens)[None]  # (count, tokens)
            self.indices = mx.arange(first, first + self.count)[:, None]

    def mask(self) -> mx.array | None:
        """Which keys each new token sees: bool, (count, 1, tokens, end); None where it sees all there are."""
        if self.count == 1 and self.tokens == 1:
            return None
        if self._mask is None:
            own = self._starts[:, None] + mx.arange(self.tokens)[None]
            self._mask = (mx.arange(self.end)[None, None] <= own[..., None])[:, None]
        return self._mask


class _Layer:
    """One layer's keys and values, with the methods that mlx-lm's models call."""

    keys: mx.array | None = None  # (rows, heads, capacity, dim)
    values: mx.array | None = None

    def __init__(self, now: _ForwardPass) -> None:
        self._now = now

    @property
    def offset(self) -> mx.array | int:
        """Where the rows' new tokens stand, for the rotary embedding."""
        return self._now.offset

    def make_mask(self, tokens: int, return_array: bool = False, window_size: int | None = None) -> mx.array | None:
        return self._now.mask()

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Write (count, heads, tokens, dim) behind each row's end; return all up to the longest end."""
        now = self._now
        own_keys, own_values = self._buffers(keys.shape[1], keys.shape[3], values.shape[3], keys.dtype)
        first, last, end = now.first, now.first + now.count, now.end
        if isinstance(now.offset, int):
            own_keys[first:last, :, now.offset : end] = keys
            own_values[first:last, :, now.offset : end] = values
        else:
            own_keys[now.indices, :, now.positions] = keys.transpose(0, 2, 1, 3)
            own_values[now.indices, :, now.positions] = values.transpose(0, 2, 1, 3)
        return own_keys[first:last, :, :end], own_values[first:last, :, :end]

    def grow(self, capacity: int) -> None:
        if self.keys is not None and self.values is not None:
            more = [(0, 0), (0, 0), (0, capacity - self.keys.shape[2]), (0, 0)]
            self.keys, self.values = mx.pad(self.keys, more), mx.pad(self.values, more)

    def move(self, source: int, target: int, tokens: int) -> None:
        if self.keys is not None and self.values is not None:
            self.keys[target, :, :tokens] = self.keys[source, :, :tokens]
            self.values[target, :, :tokens] = self.values[source, :, :tokens]

    def copy_out(self, row: int, tokens: int) -> tuple[mx.array, mx.array]:
        assert self.keys is not None and self.values is not None
        return mx.contiguous(self.keys[row, :, :tokens]), mx.contiguous(self.values[row, :, :tokens])

    def copy_in(self, row: int, keys: mx.array, values: mx.array) -> None:
        own_keys, own_values = self._buffers(keys.shape[0], keys.shape[2], values.shape[2], keys.dtype)
        own_keys[row, :, : keys.shape[1]] = keys
        own_values[row, :, : values.shape[1]] = values

    def _buffers(self, heads: int, key_dim: int, value_dim: int, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
        if self.keys is None or self.values is None:
            shape = (self._now.rows, heads, self._now.capacity)
            self.keys = mx.zeros((*shape, key_dim), dtype)
            self.values = mx.zeros((*shape, value_dim), dtype)
        return self.keys, self.values


class NativeCache:
    """A model's own cache behind the same calls, for one row: for models whose layers keep more than plain keys."""

    rows = 1

    def __init__(self, native: list[Any]) -> None:
        from mlx_lm.models.cache import can_trim_prompt_cache

        self._native = native
        # A window that turns takes tokens back only until it is full.
        turns = any(getattr(layer, "max_size", None) is not None for layer in native)
        self.supports_rollback = bool(can_trim_prompt_cache(native)) and not turns

    def begin(self, first: int, count: int, tokens: int) -> list[Any]:
        self._tokens = tokens
        return self._native

    def advance(self, kept: Sequence[int]) -> None:
        from mlx_lm.models.cache import trim_prompt_cache

        if kept[0] < self._tokens:
            trim_prompt_cache(self._native, self._tokens - kept[0])

    def evaluate(self) -> None:
        mx.eval([layer.state for layer in self._native])

    def copy_out(self, row: int, tokens: int) -> None:
        return None


def make_cache(native: list[Any], rows: int) -> RaggedCache | NativeCache:
    """A cache for up to `rows` rows; for one row only where the model's layers keep more than plain keys and values.

    Args:
        native: what mlx-lm makes for the model.
    """
    from mlx_lm.models.cache import KVCache

    if all(type(layer) is KVCache for layer in native):
        return RaggedCache(len(native), rows)
    return NativeCache(native)
