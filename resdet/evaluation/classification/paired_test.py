"""Do two classifiers differ, on the same images? The exact test of McNemar, and an interval.

Only images count on which one is right and the other wrong: `first_only` are wrong by the first
alone, `second_only` by the second alone. Where the two are equally good each such image is a coin.

Not for: noise of another training; both tests are about the choice of images alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from resdet.evaluation.inputs.arrays import IntArray


@dataclass(frozen=True)
class PairedTest:
    """Two classifiers on the same images.

    Attributes:
        images: N.
        both: wrong by both. first_only, second_only: wrong by one alone.
        p_value: two-sided, of McNemar's exact test.
        low, high: interval of the difference of the error rates, in [-1, 1].
        confidence: of the interval.
    """

    images: int
    both: int
    first_only: int
    second_only: int
    p_value: float
    low: float
    high: float
    confidence: float = 0.95

    @property
    def difference(self) -> float:
        """Error rate of the first minus that of the second, in [-1, 1]."""
        return (self.first_only - self.second_only) / self.images

    def to_json(self) -> dict[str, Any]:
        return {
            "both_wrong": self.both,
            "first_only_wrong": self.first_only,
            "second_only_wrong": self.second_only,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
            "p_value": self.p_value,
        }


def paired_test(
    first_rank: IntArray, second_rank: IntArray, *, top: int = 1, confidence: float = 0.95
) -> PairedTest:
    """Compares two classifiers by the ranks of the right classes.

    Args:
        first_rank, second_rank: (N,), of the same images (`ClassifierErrors.rank`).
        top: how many guesses count: 1 or 5.

    Raises:
        ValueError: the numbers of images differ, or there is none.
    """
    if len(first_rank) != len(second_rank) or len(first_rank) == 0:
        raise ValueError(
            f"ranks of {len(first_rank)} and {len(second_rank)} images, expected the same images"
        )
    first, second = first_rank >= top, second_rank >= top
    first_only, second_only = int((first & ~second).sum()), int((~first & second).sum())
    low, high = difference_interval(first_only, second_only, len(first), confidence)
    return PairedTest(
        len(first),
        int(np.logical_and(first, second).sum()),
        first_only,
        second_only,
        mcnemar_exact(first_only, second_only),
        low,
        high,
        confidence,
    )


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Two-sided p-value: n = b + c coins of 1/2, min(1, 2 P(X <= min(b, c))).

    Example:
        By hand for b = 1, c = 7: 2 (1 + 8) / 2^8 = 18 / 256.

        >>> mcnemar_exact(1, 7)
        0.0703125

    Source: McNemar 1947; the exact form, as in Fagerland, Lydersen, Laake 2013.
    """
    number, least = first_only + second_only, min(first_only, second_only)
    # Whole numbers: 2^-n is no float for n above 1,074.
    term = total = 1
    for k in range(least):
        term = term * (number - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / 2**number)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: none below 0.05 is false with a probability of 0.95.

    The k-th smallest of m becomes the largest of (m - j + 1) p_j over j up to k, at most 1.

    Example:
        By hand: 0.01 * 3, then 0.02 * 2, and 0.04 * 1 is raised to the one before.

        >>> holm([0.04, 0.01, 0.02])
        [0.04, 0.03, 0.04]

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = largest
    return corrected


def difference_interval(
    first_only: int, second_only: int, images: int, confidence: float = 0.95
) -> tuple[float, float]:
    """The differences d of the two error rates that the score test does not reject.

    With b = `first_only`, c = `second_only`: T(d) = (b - c - N d) / sqrt(N (2 q + d (1 - d))),
    where q is the most likely share, for this d, of images wrong by the second alone. The interval
    is where |T| is at most the normal quantile. It keeps its level where b and c are small or 0;
    the textbook interval then has width 0.

    Args:
        images: N, more than 0.
        confidence: such as 0.95.

    Source: Tango 1998, Statistics in Medicine 17, 891.
    """
    quantile = NormalDist().inv_cdf(0.5 + confidence / 2)
    estimate = (first_only - second_only) / images

    def statistic(difference: float) -> float:
        return abs(_score(first_only, second_only, images, difference))

    return (
        -1.0
        if statistic(-1.0) <= quantile
        else _crossing(statistic, quantile, outside=-1.0, inside=estimate),
        1.0
        if statistic(1.0) <= quantile
        else _crossing(statistic, quantile, outside=1.0, inside=estimate),
    )


def _score(b: int, c: int, n: int, difference: float) -> float:
    gap = b - c - n * difference
    if gap == 0:
        return 0.0
    middle = (2 * n - b + c) * difference - b - c
    root = math.sqrt(max(0.0, middle**2 + 8 * n * c * difference * (1 - difference)))
    q = (root - middle) / (4 * n)
    variance = n * (2 * q + difference * (1 - difference))
    return gap / math.sqrt(variance) if variance > 0 else math.inf


def _crossing(statistic, quantile: float, *, outside: float, inside: float) -> float:  # type: ignore[no-untyped-def]
    """Where the statistic falls to the quantile, by halving; it falls towards the estimate."""
    for _ in range(100):
        middle = (outside + inside) / 2
        if statistic(middle) > quantile:
            outside = middle
        else:
            inside = middle
    return inside
