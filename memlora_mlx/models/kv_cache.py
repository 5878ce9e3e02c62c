"""A cache for rows that grow unevenly: each row has a length of its own, and takes back what was not accepted.

mlx-lm's batch caches keep rows of one length by padding them on the left. Here every row writes behind its own end, so
rows may take different numbers of tokens in one forward pass.

- Keys and values: taking tokens back is a change of a number. What lies behind a row's end is never seen: the mask ends
  there, and the next tokens overwrite it. A layer with a sliding window keeps all keys too, and its mask and the keys
  that it reads end at the window; contexts here are short, and a buffer that turns could not take tokens back.
- Recurrent states (of convolutions and state-space layers) cannot be cut. A row keeps the state of before the forward
  pass until all of its tokens are accepted; otherwise the accepted ones are given again in the next pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from memlora_mlx.models.forward_pass import ForwardPass
from memlora_mlx.models.recurrent_cache import RecurrentLayer

_GROWTH = 256  # tokens by which the buffers grow

KeptPrefix = list[Any]  # what `copy_out` gives: for each layer its keys and values, or its recurrent states


class RaggedCache:
    """The keys and values of up to `rows` sequences of one model, and the recurrent states of layers that have them.

    The first `n` rows are the live ones. For a forward pass over some of them call `begin`, give what it returns to the
    model, then say with `advance` how many tokens each row keeps.

    Args:
        native: the cache that mlx-lm or mlx-vlm makes for the model, a layer each.
        rows: places.
    """

    supports_rollback = True

    def __init__(self, native: Sequence[Any], rows: int) -> None:
        self.rows = rows
        self.lengths = [0] * rows
        self._pass = ForwardPass(rows)
        self.layers = [_make_layer(layer, self._pass) for layer in native]
        self._recurrent = [layer for layer in self.layers if isinstance(layer, RecurrentLayer)]
        self._fed: list[int] = []

    @property
    def can_cut(self) -> bool:
        """Whether a prefix of any length can be taken from a row; otherwise only all that it has."""
        return not self._recurrent

    def begin(self, first: int, fed: Sequence[int]) -> list[Any]:
        """Prepare a forward pass over a row for each number, from `first` on.

        Args:
            fed: tokens of each row; all are padded to the longest at their ends.
        """
        starts = self.lengths[first : first + len(fed)]
        self._fed = list(fed)
        self._make_room(max(starts) + max(fed))
        self._pass.begin(first, starts, fed)
        return self.layers

    def advance(self, accepted: Sequence[int]) -> list[int]:
        """Keep the first so many of the tokens that each row was given.

        Returns how many are kept: none of those of a row with recurrent states of which some were not accepted.
        """
        kept = list(accepted)
        if self._recurrent:
            kept = [count if count == fed else 0 for count, fed in zip(accepted, self._fed, strict=True)]
            for layer in self._recurrent:
                layer.keep([count > 0 for count in kept])
        for i, tokens in enumerate(kept):
            self.lengths[self._pass.first + i] += tokens
        return kept

    def move(self, source: int, target: int) -> None:
        """Put the last live row in another's place; `source` is free afterwards."""
        for layer in self.layers:
            layer.move(source, target, self.lengths[source])
        self.lengths[target] = self.lengths[source]
        self.lengths[source] = 0

    def copy_out(self, row: int, tokens: int) -> KeptPrefix:
        """A row's first tokens, for `copy_in`; all of its tokens if `can_cut` is false."""
        assert self.can_cut or tokens == self.lengths[row]
        kept = [layer.copy_out(row, tokens) for layer in self.layers]
        mx.eval(kept)
        return kept

    def copy_in(self, row: int, kept: KeptPrefix, tokens: int) -> None:
        """Begin a row with the first tokens of what `copy_out` gave; with all of them if `can_cut` is false."""
        self._make_room(tokens)
        for layer, part in zip(self.layers, kept, strict=True):
            layer.copy_in(row, part, tokens)
        self.lengths[row] = tokens

    def evaluate(self) -> None:
        mx.eval([layer.arrays() for layer in self.layers])

    def _make_room(self, tokens: int) -> None:
        if tokens > self._pass.capacity:
            self._pass.capacity = (tokens + _GROWTH - 1) // _GROWTH * _GROWTH
            for layer in self.layers:
                layer.grow(self._pass.capacity)


class _Layer:
    """One layer's keys and values, with the methods that mlx-lm's models call."""

    keys: mx.array | None = None  # (rows, heads, capacity, dim)
    values: mx.array | None = None

    def __init__(self, now: ForwardPass, window: int | None) -> None:
        self._now, self._window = now, window

    @property
    def offset(self) -> mx.array | int:
        """Where the rows' new tokens stand, for the rotary embedding."""
        return self._now.offset

    def make_mask(self, tokens: int, return_array: bool = False, window_size: int | None = None) -> mx.array | None:
        if self._window is not None:
            return self._now.mask(self._window)
        return self._now.mask(window_size, cut=False)  # a model may ask for a window of a layer that keeps all keys

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
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """The keys and values that the new tokens see, with those of tokens behind the ends of shorter rows."""
        assert self.keys is not None and self.values is not None
        now = self._now
        first, last, low = now.first, now.first + now.count, now.low(self._window)
        return self.keys[first:last, :, low : now.end], self.values[first:last, :, low : now.end]

    def arrays(self) -> list[mx.array]:
        return [array for array in (self.keys, self.values) if array is not None]

    def grow(self, capacity: int) -> None:
        if self.keys is not None and self.values is not None:
            more = [(0, 0), (0, 0), (0, capacity - self.keys.shape[2]), (0, 0)]
            self.keys, self.values = mx.pad(self.keys, more), mx.pad(self.values, more)

    def move(self, source: int, target: int, tokens: int) -> None:
        if source != target and self.keys is not None and self.values is not None:
            self.keys[target, :, :tokens] = self.keys[source, :, :tokens]
            self.values[target, :, :tokens] = self.values[source, :, :tokens]

    def copy_out(self, row: int, tokens: int) -> tuple[mx.array, mx.array]:
        assert self.keys is not None and self.values is not None
        return mx.contiguous(self.keys[row, :, :tokens]), mx.contiguous(self.values[row, :, :tokens])

    def copy_in(self, row: int, kept: tuple[mx.array, mx.array], tokens: int) -> None:
        keys, values = (array[:, :tokens] for array in kept)
        own_keys, own_values = self._buffers(keys.shape[0], keys.shape[2], values.shape[2], keys.dtype)
        own_keys[row, :, :tokens] = keys
        own_values[row, :, :tokens] = values

    def _buffers(self, heads: int, key_dim: int, value_dim: int, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
        if self.keys is None or self.values is None:
            shape = (self._now.rows, heads, self._now.capacity)
            self.keys = mx.zeros((*shape, key_dim), dtype)
            self.values = mx.zeros((*shape, value_dim), dtype)
        return self.keys, self.values


class NativeCache:
    """A model's own cache behind the same calls, for one row: for models with layers that `RaggedCache` does not know."""

    rows = 1
    can_cut = False

    def __init__(self, native: list[Any]) -> None:
        from mlx_lm.models.cache import can_trim_prompt_cache

        self._native = native
        # A window that turns takes tokens back only until it is full.
        turns = any(getattr(layer, "max_size", None) is not None for layer in native)
        self.supports_rollback = bool(can_trim_prompt_cache(native)) and not turns

    def begin(self, first: int, fed: Sequence[int]) -> list[Any]:
        self._tokens = fed[0]
        return self._native

    def advance(self, accepted: Sequence[int]) -> list[int]:
        from mlx_lm.models.cache import trim_prompt_cache

        if accepted[0] < self._tokens:
            trim_prompt_cache(self._native, self._tokens - accepted[0])
        return list(accepted)

    def evaluate(self) -> None:
        mx.eval([layer.state for layer in self._native])


def make_cache(native: list[Any], rows: int) -> RaggedCache | NativeCache:
    """A cache for up to `rows` rows; for one row only where a layer keeps something that `RaggedCache` does not know.

    Args:
        native: what mlx-lm or mlx-vlm makes for the model.
    """
    return RaggedCache(native, rows) if all(map(_is_known, native)) else NativeCache(native)


def _is_known(layer: Any) -> bool:
    # mlx-lm and mlx-vlm each have classes of these names, which do the same.
    kind = type(layer).__name__
    return kind in ("KVCache", "ArraysCache") or (kind == "RotatingKVCache" and not layer.keep)


def _make_layer(layer: Any, now: ForwardPass) -> _Layer | RecurrentLayer:
    if type(layer).__name__ == "ArraysCache":
        return RecurrentLayer(now, len(layer.cache))
    return _Layer(now, getattr(layer, "max_size", None))
