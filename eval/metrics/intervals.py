"""How sure a share, a mean, and a difference of two means is: Wilson's interval and the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000
_DRAWS = 4_000_000  # numbers drawn at a time in a bootstrap


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much the first of two systems is better on the same questions, and how likely chance alone is."""

    interval: Interval
    p_value: float  # two-sided


def wilson(successes: int, n: int) -> Interval:
    """Wilson's interval of a share, 0 to 1.

    Raises:
        ValueError: `n` is 0, or `successes` is not among 0 to `n`.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is no share")
    z = 1.959963984540054  # 97.5 % of a normal distribution lies below
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def bootstrap_mean(values: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """The mean of values, one for each question, with its percentile bootstrap interval.

    Raises:
        ValueError: there are no values.
    """
    taken = np.asarray(values, dtype=np.float64)
    return _interval(taken, _resampled_means(taken, seed))


def paired_bootstrap(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, seed: int = 0) -> Difference:
    """The mean of `a - b`, two systems' values on the same questions in the same order.

    The p-value is twice the share of resamples on the other side of 0 or on it, so it goes with the interval: about
    0.05 where one end of that is 0. The least it can be is 2 / 10,001.

    Raises:
        ValueError: there are no values, or not as many of one as of the other.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values cannot be paired with {len(b)}")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    means = _resampled_means(differences, seed)
    against = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return Difference(_interval(differences, means), min(1.0, 2 * (against + 1) / (_RESAMPLES + 1)))


def _resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    if not len(values):
        raise ValueError("there are no values to take the mean of")
    generator = np.random.default_rng(seed)
    means = np.empty(_RESAMPLES)
    for part in np.array_split(means, math.ceil(_RESAMPLES * len(values) / _DRAWS)):  # views of `means`
        part[:] = values[generator.integers(len(values), size=(len(part), len(values)))].mean(axis=1)
    return means


def _interval(values: np.ndarray, means: np.ndarray) -> Interval:
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))
