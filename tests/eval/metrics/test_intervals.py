"""Intervals hold what they promise: of a share, of a mean, and of a difference on the same questions."""

from __future__ import annotations

import numpy as np
import pytest

from memlora_mlx.eval.metrics import intervals
from memlora_mlx.eval.metrics.intervals import Interval


@pytest.mark.parametrize(
    ("share", "low", "high"), [(24.9, 19.8, 30.8), (42.1, 35.9, 48.5), (47.2, 40.9, 53.6), (48.9, 42.6, 55.3)]
)
def test_wilson_gives_the_papers_intervals(share: float, low: float, high: float) -> None:
    interval = intervals.wilson(round(share * 2.33), 233)
    got = [100 * interval.value, 100 * interval.low, 100 * interval.high]
    assert got == pytest.approx([share, low, high], abs=0.06)


def test_wilson_stays_inside_0_and_1() -> None:
    none, every = intervals.wilson(0, 8), intervals.wilson(8, 8)
    assert [none.low, none.high] == pytest.approx([0.0, 0.3244], abs=1e-4) and none.low == 0
    assert [every.low, every.high] == pytest.approx([0.6756, 1.0], abs=1e-4) and every.high == 1
    for successes, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="is no share"):
            intervals.wilson(successes, n)


def test_the_bootstrap_finds_the_normal_interval_and_repeats_by_its_seed() -> None:
    values = np.random.RandomState(0).randn(1540) * 0.3 + 0.5
    interval = intervals.bootstrap_mean(values, seed=1)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert [interval.low, interval.high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.05 * half)
    assert intervals.bootstrap_mean(list(values), seed=1) == interval != intervals.bootstrap_mean(values, seed=2)
    assert intervals.bootstrap_mean([0.4]) == Interval(0.4, 0.4, 0.4)
    with pytest.raises(ValueError, match="no values"):
        intervals.bootstrap_mean([])


def test_pairing_finds_a_difference_that_two_intervals_hide() -> None:
    random = np.random.RandomState(0)
    base = random.rand(200)
    better = base + 0.02 + 0.05 * random.randn(200)
    found = intervals.paired_bootstrap(better, base, seed=3)
    assert found.p_value < 0.001 and found.interval.low > 0
    assert intervals.bootstrap_mean(better).low < intervals.bootstrap_mean(base).high
    turned = intervals.paired_bootstrap(base, better, seed=3)
    assert turned.p_value == found.p_value and turned.interval.value == pytest.approx(-found.interval.value)


def test_no_difference_is_no_finding() -> None:
    assert intervals.paired_bootstrap([0.5, 1.0], [0.5, 1.0]).p_value == 1.0
    random = np.random.RandomState(1)
    judged = [intervals.paired_bootstrap(random.rand(60), random.rand(60), seed).p_value for seed in range(40)]
    assert sum(p < 0.05 for p in judged) <= 5
    with pytest.raises(ValueError, match="cannot be paired"):
        intervals.paired_bootstrap([1.0], [1.0, 2.0])
