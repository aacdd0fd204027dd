"""How far one ranking agrees with another: Kendall's tau, and what few backbones can show of it.

Not for: the rankings themselves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Of the normal distribution, of an interval of 95 %.
_Z = 1.959963984540054
# Variance of atanh(tau) is this over (n - 4): Fieller, Hartley and Pearson 1957, Biometrika 44.
_FIELLER = 0.437
FEWEST_FOR_INTERVAL = 5


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's tau-b of two lists.

    Attributes:
        tau: -1 to 1; None where one of the lists has a single value.
        low, high: 95 % interval; None with fewer than 5 entries.
        count: entries. agreeing, differing: pairs in the same and in the opposite order.
    """

    tau: float | None
    low: float | None
    high: float | None
    count: int
    agreeing: int
    differing: int

    def to_json(self) -> dict[str, float | int | None]:
        return {
            "tau": self.tau,
            "low": self.low,
            "high": self.high,
            "entries": self.count,
            "pairs_agreeing": self.agreeing,
            "pairs_differing": self.differing,
        }


def kendall(first: Sequence[float], second: Sequence[float]) -> RankCorrelation:
    """Kendall's tau-b, with ties, and its interval.

    The interval is Fieller's, of atanh(tau), as Bonett and Wright 2000 recommend it up to a tau of
    0.8; where all pairs agree, tau is taken as if half a pair did not, so that a list of six does
    not claim certainty.

    Args:
        first, second: values of the same entries, finite.

    Raises:
        ValueError: other lengths, fewer than two entries, or a value that is not finite.

    Example:
        >>> found = kendall([1, 2, 3, 4], [1, 3, 2, 4])
        >>> round(found.tau, 3), found.agreeing, found.differing
        (0.667, 5, 1)
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"{len(first)} and {len(second)} values, expected as many of each, and two at least"
        )
    if not np.isfinite([*first, *second]).all():
        raise ValueError("a value is not finite")
    signs = [
        (np.sign(first[i] - first[j]), np.sign(second[i] - second[j]))
        for i, j in itertools.combinations(range(len(first)), 2)
    ]
    agreeing = sum(bool(a * b > 0) for a, b in signs)
    differing = sum(bool(a * b < 0) for a, b in signs)
    untied = [sum(bool(pair[side] != 0) for pair in signs) for side in (0, 1)]
    if not all(untied):
        return RankCorrelation(None, None, None, len(first), agreeing, differing)
    tau = (agreeing - differing) / math.sqrt(untied[0] * untied[1])
    low, high = _interval(tau, len(first), len(signs))
    return RankCorrelation(tau, low, high, len(first), agreeing, differing)


def _interval(tau: float, count: int, pairs: int) -> tuple[float | None, float | None]:
    if count < FEWEST_FOR_INTERVAL:
        return None, None
    bound = 1 - 1 / pairs
    centre = math.atanh(min(bound, max(-bound, tau)))
    half = _Z * math.sqrt(_FIELLER / (count - 4))
    low, high = math.tanh(centre - half), math.tanh(centre + half)
    return (low, max(high, tau)) if tau >= 0 else (min(low, tau), high)
