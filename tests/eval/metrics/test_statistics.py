"""Tests between systems give the reference values, and find what is there and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlora_mlx.eval.metrics.statistics import holm, mcnemar


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    # by hand from the binomial distribution: 2 x P(X <= smaller) at n tosses of a fair coin
    [(5, 15, 0.04138946533203125), (0, 6, 0.03125), (6, 0, 0.03125), (7, 7, 1.0), (0, 0, 1.0), (1, 0, 1.0)],
)
def test_mcnemar_counts_only_the_questions_that_one_alone_got_right(only_a: int, only_b: int, p: float) -> None:
    a = [True] * only_a + [False] * only_b + [True] * 50 + [False] * 30
    b = [False] * only_a + [True] * only_b + [True] * 50 + [False] * 30
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (only_a, only_b) and found.p_value == pytest.approx(p)


def test_mcnemar_takes_whole_benchmarks_and_refuses_unpaired_ones() -> None:
    assert mcnemar([True] * 1540, [False] * 1540).p_value < 1e-300
    with pytest.raises(ValueError, match="2 verdicts cannot be paired with 1"):
        mcnemar([True, False], [True])


def test_holm_gives_the_textbook_values() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_only_raises_p_values_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    by_p = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in by_p] == sorted(adjusted)
