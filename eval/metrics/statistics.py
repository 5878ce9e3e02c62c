"""How sure a difference between two systems is: exact McNemar on verdicts, and Holm's correction over several tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb


@dataclass(frozen=True, slots=True)
class McNemarResult:
    """How often only one of two systems is right on the same question."""

    only_a: int
    only_b: int
    p_value: float  # two-sided


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> McNemarResult:
    """McNemar's exact test: were the questions that one alone got right split by a fair coin?

    Args:
        a, b: two systems' verdicts on the same questions, in the same order.

    Raises:
        ValueError: there are not as many of one as of the other.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} verdicts cannot be paired with {len(b)}")
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1))
    return McNemarResult(only_a, only_b, float(min(Fraction(1), Fraction(2 * tail, 2**n))))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected by Holm's method, in their order: below 0.05, that test holds beside all the others."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
