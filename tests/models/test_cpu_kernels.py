"""What numpy computes in MLX's place on a CPU is what MLX computes, whatever the mask, and so are its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlora_mlx.models import cpu_kernels
from memlora_mlx.models.cpu_kernels import attention, causal_attention, silu

import mlx.core as mx  # isort: skip
import mlx.nn as nn

pytestmark = pytest.mark.skipif(mx.default_device() != mx.Device(mx.cpu), reason="a GPU computes these itself")

MLX_SILU, MLX_ATTENTION = cpu_kernels._mlx_silu, cpu_kernels._mlx_attention  # whatever a student has installed by now
DIM = 8
SCALE = DIM**-0.5
MASKS = ("none", "causal", "bool", "float", "rows", "heads", "three", "both")

# groups, heads of each, queries, keys before them, batch
shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(0, 30), st.integers(1, 2))


def close(a: mx.array, b: mx.array) -> bool:
    return bool(np.abs(np.array(a) - np.array(b)).max() < 1e-5)


def made(groups: int, repeats: int, time: int, before: int, batch: int, seed: int = 0) -> tuple[mx.array, ...]:
    mx.random.seed(seed)
    keys = time + before
    q = mx.random.normal((batch, groups * repeats, time, DIM))
    return q, mx.random.normal((batch, groups, keys, DIM)), mx.random.normal((batch, groups, keys, DIM))


def masks(kind: str, q: mx.array, k: mx.array) -> Any:
    """Masks that hide about a third, never all that a query could look at."""
    batch, heads, time, keys = *q.shape[:3], k.shape[2]
    if kind in ("none", "causal"):
        return None if kind == "none" else "causal"
    shape = {
        "bool": (time, keys),
        "float": (time, keys),
        "rows": (batch, 1, time, keys),
        "heads": (1, heads, time, keys),
        "three": (heads, time, keys),
        "both": (batch, heads, time, keys),
    }[kind]
    seen = (mx.random.uniform(shape=shape) > 0.3) | (mx.arange(keys) == 0)
    return mx.random.normal(shape) if kind == "float" else seen


@pytest.fixture(autouse=True)
def always_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_kernels, "_MIN_ELEMENTS", 0)


@settings(max_examples=80, deadline=None)
@given(shapes, st.sampled_from(MASKS), st.sampled_from([1, 100, 1 << 21]))
def test_attention_is_what_mlx_computes(shape: tuple[int, ...], kind: str, scores: int) -> None:
    """With all its queries together, with some, and with each by itself."""
    q, k, v = made(*shape)
    mask = masks(kind, q, k)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cpu_kernels, "_SCORES", scores)
        found = attention(q, k, v, scale=SCALE, mask=mask)
    assert close(found, MLX_ATTENTION(q, k, v, scale=SCALE, mask=mask))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2, 63, 64, 65, 127, 128, 129, 150]),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 2),
)
def test_causal_attention_and_its_gradients_are_mlx_s_around_the_blocks_borders(
    time: int, groups: int, repeats: int, batch: int
) -> None:
    inputs = made(groups, repeats, time, 0, batch, seed=time)
    weights = mx.random.normal(inputs[0].shape)

    def total(function: Any) -> Any:
        return lambda q, k, v: (function(q, k, v, scale=SCALE, mask="causal") * weights).sum()

    ours, theirs = (mx.grad(total(f), argnums=(0, 1, 2))(*inputs) for f in (causal_attention, MLX_ATTENTION))
    outputs = [f(*inputs, scale=SCALE, mask="causal") for f in (causal_attention, MLX_ATTENTION)]
    assert close(*outputs)
    for mine, its in zip(ours, theirs, strict=True):
        assert np.abs(np.array(mine) - np.array(its)).max() < 1e-4  # sums over as many as 150 terms


@settings(max_examples=20, deadline=None)
@given(shapes, st.sampled_from(MASKS))
def test_anything_but_a_whole_causal_sequence_is_left_to_mlx(shape: tuple[int, ...], kind: str) -> None:
    q, k, v = made(*shape)
    mask = masks(kind, q, k)
    assert close(causal_attention(q, k, v, scale=SCALE, mask=mask), MLX_ATTENTION(q, k, v, scale=SCALE, mask=mask))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.floats(0.1, 200.0))
def test_silu_is_what_mlx_computes_and_never_overflows(size: int, spread: float) -> None:
    x = mx.random.normal((size,)) * spread
    found, expected = np.array(silu(x)), np.array(MLX_SILU(x))
    assert np.isfinite(found).all()
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_other_kinds_of_numbers_are_left_to_mlx() -> None:
    q, k, v = (x.astype(mx.bfloat16) for x in made(2, 2, 70, 0, 1))
    assert attention(q, k, v, scale=SCALE, mask="causal").dtype == mx.bfloat16
    assert silu(q).dtype == mx.bfloat16


def test_each_way_ends_with_its_block() -> None:
    before = nn.silu, mx.fast.scaled_dot_product_attention
    with cpu_kernels.with_gradients():
        assert nn.silu is MLX_SILU and mx.fast.scaled_dot_product_attention is causal_attention
        during = mx.fast.scaled_dot_product_attention
        with cpu_kernels.without_gradients():
            assert nn.silu is silu and mx.fast.scaled_dot_product_attention is attention
        assert mx.fast.scaled_dot_product_attention is during
        with pytest.raises(ValueError, match="lost"), cpu_kernels.without_cpu_kernels():
            raise ValueError("lost")
        assert mx.fast.scaled_dot_product_attention is during
    assert (nn.silu, mx.fast.scaled_dot_product_attention) == before
