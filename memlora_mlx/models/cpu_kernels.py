"""What MLX's CPU back end does one element at a time, done another way there. On Metal and CUDA nothing of this is used.

Its `exp` takes 13 to 17 ns an element where numpy's vectorised one takes 0.6: half of a forward pass over a prompt, in
SiLU and in the softmax of attention. For prompts numpy computes these (`install_cpu_kernels`). Under a gradient nothing can be
evaluated midway without keeping the whole graph alive, so there attention only leaves out the keys that the causal
mask hides, and keeps its weights instead of computing them again (`with_gradients`). Values differ by float32 rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

_MIN_ELEMENTS = 8192  # elements; below, as in a decode step, waiting for the graph costs more than the exponentials
_SCORES = 1 << 21  # of attention, computed at a time: more of them are in no cache, and of fresh pages from the system
_BLOCK = 64  # queries that are masked together in training

_mlx_silu = nn.silu
_mlx_attention = mx.fast.scaled_dot_product_attention


def install_cpu_kernels() -> None:
    """Let every model read prompts this way, if the CPU is all there is."""
    if _on_cpu():
        _use(silu, attention)


@contextmanager
def without_cpu_kernels() -> Iterator[None]:
    """Within it MLX does all of it its own way, for comparison."""
    with _using(_mlx_silu, _mlx_attention):
        yield


@contextmanager
def with_gradients() -> Iterator[None]:
    """Within it gradients may be taken."""
    with _using(_mlx_silu, causal_attention):
        yield


@contextmanager
def without_gradients() -> Iterator[None]:
    """Within it, inside `with_gradients`, none is: a validation."""
    with _using(silu, attention):
        yield


@contextmanager
def _using(*functions: Callable[..., mx.array]) -> Iterator[None]:
    before = nn.silu, mx.fast.scaled_dot_product_attention
    if _on_cpu():
        _use(*functions)
    try:
        yield
    finally:
        _use(*before)


def _use(new_silu: Callable[..., mx.array], new_attention: Callable[..., mx.array]) -> None:
    nn.silu, mx.fast.scaled_dot_product_attention = new_silu, new_attention


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x)."""
    if not _is_faster(x.size, x):
        return _mlx_silu(x)
    values = np.asarray(x)
    y = np.multiply(values, np.float32(0.5))
    np.tanh(y, out=y)  # sigmoid(x) = (1 + tanh(x / 2)) / 2, which cannot overflow
    y += 1
    y *= 0.5
    y *= values
    return mx.array(y)


def attention(q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Any = None, **options: Any) -> mx.array:
    """Scaled dot-product attention as mx.fast's: q (batch, heads, time, dim); k and v (batch, kv heads, keys, dim)."""
    if _unusual(options) or not _is_faster(q.size // q.shape[-1] * k.shape[2], q, k, v):
        return _mlx_attention(q, k, v, scale=scale, mask=mask, **options)
    batch, heads, time, dim = q.shape
    groups, keys = k.shape[1:3]
    if isinstance(mask, str):  # "causal"
        mask = mx.arange(keys - time, keys)[:, None] >= mx.arange(keys)
    if mask is not None:
        mask = mask.reshape(*(1,) * (4 - mask.ndim), *mask.shape)  # (batch, heads, time, keys), or 1 of some of them
        by_head = (groups, heads // groups) if mask.shape[1] > 1 else (1, 1)  # heads of one group lie together
        mask = np.asarray(mask.reshape(mask.shape[0], *by_head, *mask.shape[2:]))
        if mask.shape[3] == 1 < time:
            mask = np.broadcast_to(mask, (*mask.shape[:3], time, mask.shape[4]))
    q = (q * scale).reshape(batch, groups, -1, time, dim)
    flipped, mixed = k.swapaxes(-1, -2), []
    step = max(1, _SCORES // (batch * heads * keys))
    for start in range(0, time, step):
        part = q[..., start : start + step, :]  # (batch, groups, heads of each, queries, dim)
        p = np.array(part.reshape(batch, groups, -1, dim) @ flipped).reshape(*part.shape[:4], keys)
        if mask is not None:
            seen = mask[..., start : start + step, :]
            p += np.where(seen, np.float32(0), np.float32(-1e30)) if seen.dtype == np.bool_ else seen
        p -= p.max(axis=-1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=-1, keepdims=True)
        mixed.append((mx.array(p).reshape(batch, groups, -1, keys) @ v).reshape(*part.shape[:4], v.shape[-1]))
        if start + step < time:
            mx.eval(mixed[-1])  # it holds its weights until then
    return mx.concatenate(mixed, axis=-2).reshape(batch, heads, time, v.shape[-1])


def causal_attention(
    q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Any = None, **options: Any
) -> mx.array:
    """The same for whole sequences under a causal mask, in blocks of queries; anything else is left to MLX."""
    batch, heads, time, dim = q.shape
    groups, keys = k.shape[1:3]
    if _unusual(options) or mask != "causal" or keys != time:
        return _mlx_attention(q, k, v, scale=scale, mask=mask, **options)
    q = (q * scale).reshape(batch, groups, heads // groups, time, dim)
    flipped, mixed = k.swapaxes(-1, -2), []
    for start in range(0, time, _BLOCK):
        end = min(time, start + _BLOCK)
        hidden = mx.where(mx.arange(start, end)[:, None] >= mx.arange(end), 0.0, -1e30).astype(q.dtype)
        scores = q[..., start:end, :].reshape(batch, groups, -1, dim) @ flipped[..., :end]
        p = mx.softmax(scores.reshape(batch, groups, -1, end - start, end) + hidden, axis=-1)
        part = p.reshape(batch, groups, -1, end) @ v[..., :end, :]
        mixed.append(part.reshape(batch, groups, -1, end - start, v.shape[-1]))
    return mx.concatenate(mixed, axis=-2).reshape(batch, heads, time, v.shape[-1])


def _on_cpu() -> bool:
    # Inside a compiled function nothing can be evaluated.
    return bool(mx.default_device() == mx.Device(mx.cpu)) and bool(os.environ.get("MLX_DISABLE_COMPILE"))


def _is_faster(elements: int, *arrays: mx.array) -> bool:
    return elements >= _MIN_ELEMENTS and all(array.dtype == mx.float32 for array in arrays)


def _unusual(options: dict[str, Any]) -> bool:
    return any(value is not None for value in options.values())
