"""How far the difference of two backbones would move with other seeds.

A training that differs in nothing but its seed ends elsewhere. Several trainings of each backbone
have a mean and a spread, and the difference of the means an interval; from one training a side
nothing is known, and that is reported. All numbers are of one metric on the same images.

Not for: the noise of the test images (`image_noise`): it is another one, and neither interval
knows of the other.
"""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resdet.evaluation.analysis.image_noise import LEVEL, POWER, points

# More seeds than anyone trains.
_MAX_SEEDS = 1000


@dataclass(frozen=True)
class SeedSpread:
    """Several trainings of one backbone. deviation: standard deviation (n - 1); None of one."""

    values: tuple[float, ...]
    mean: float
    deviation: float | None


@dataclass(frozen=True)
class SeedDifference:
    """Difference of two means over seeds, after minus before.

    low, high: Welch's 95 % interval; None where a side has one seed, or no side has any spread.
    degrees: of freedom, after Welch and Satterthwaite.
    """

    before: SeedSpread
    after: SeedSpread
    difference: float
    low: float | None = None
    high: float | None = None
    degrees: float | None = None

    @property
    def has_zero(self) -> bool | None:
        """None where the interval is unknown."""
        return None if self.low is None or self.high is None else self.low <= 0 <= self.high


def seed_spread(values: Sequence[float]) -> SeedSpread:
    """Mean and standard deviation of one backbone's trainings.

    Args:
        values: one number per seed, by the same metric on the same images.

    Raises:
        ValueError: there is none, or one is not finite.

    Example:
        >>> seed_spread([0.70, 0.72]).deviation, seed_spread([0.70]).deviation
        (0.014142135623730963, None)
    """
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"values are {list(values)}, expected one finite number per seed")
    exact = [float(value) for value in values]
    # Rounded once: three equal numbers have no spread, while numpy gives them one of 1e-17.
    deviation = statistics.stdev(exact) if len(exact) > 1 else None
    return SeedSpread(tuple(exact), statistics.mean(exact), deviation)


def seed_difference(before: Sequence[float], after: Sequence[float]) -> SeedDifference:
    """Difference of two backbones over their seeds, with Welch's interval where it is known.

    Source: B. L. Welch 1947, Biometrika 34. Seeds of two backbones are not paired: the same seed
    starts two different nets.
    """
    a, b = seed_spread(before), seed_spread(after)
    difference = b.mean - a.mean
    if a.deviation is None or b.deviation is None or a.deviation == b.deviation == 0:
        return SeedDifference(a, b, difference)
    parts = [s.deviation**2 / len(s.values) for s in (a, b) if s.deviation is not None]
    freedoms = [len(s.values) - 1 for s in (a, b)]
    shares = [part / sum(parts) for part in parts]
    # By the formula never under 1, but for its last bit.
    degrees = max(1.0, 1 / sum(s**2 / f for s, f in zip(shares, freedoms, strict=True)))
    half = t_quantile((1 + LEVEL) / 2, degrees) * math.sqrt(sum(parts))
    return SeedDifference(a, b, difference, difference - half, difference + half, degrees)


def seeds_to_settle(seeds: SeedDifference) -> int | None:
    """Seeds per backbone with which a true difference of the measured size would show.

    As `images_to_settle`: an interval without 0 in 4 of 5 cases, from spreads that a few seeds
    know only roughly. None where the spread is unknown, nothing differs, or 1,000 do not suffice.
    """
    if seeds.degrees is None or seeds.difference == 0:
        return None
    spread = math.hypot(seeds.before.deviation or 0.0, seeds.after.deviation or 0.0)

    def suffice(n: int) -> bool:
        needed = t_quantile((1 + LEVEL) / 2, 2 * n - 2) + t_quantile(POWER, 2 * n - 2)
        return needed * spread / math.sqrt(n) <= abs(seeds.difference)

    count = 2 + bisect.bisect_left(range(2, _MAX_SEEDS + 1), True, key=suffice)
    return count if count <= _MAX_SEEDS else None


def t_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t distribution.

    Args:
        probability: 0.5 to 0.9999.
        degrees: of freedom, a whole number or not, 1 to 1e9.

    Returns:
        To eight digits up to a probability of 0.995, to four beyond.

    Source: with t = sqrt(degrees) tan(angle) the density is a power of the cosine of the angle,
        which Gauss and Legendre's rule integrates; the angle is found by halving.
    """
    if not 0.5 <= probability <= 0.9999 or not 1 <= degrees <= 1e9:
        raise ValueError(
            f"probability is {probability} and degrees {degrees}, expected 0.5 to 0.9999 and 1 "
            "to 1e9"
        )
    nodes, node_weights = np.polynomial.legendre.leggauss(60)
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    if degrees > 1e5:  # where the difference has lost its digits, what it tends to
        log_scale = math.log(degrees / 2) / 2 - 1 / (4 * degrees)
    scale = math.exp(log_scale) / math.sqrt(math.pi)

    def beyond_half(angle: float) -> float:
        points = np.cos(angle * (nodes + 1) / 2) ** (degrees - 1)
        return scale * angle / 2 * float(node_weights @ points)

    # With many degrees all of the density lies at small angles, where the nodes of a wide interval
    # would step over it: so from t = 1 on to the first that is too large.
    low, reach = 0.0, 1.0
    while (high := math.atan(reach / math.sqrt(degrees))) < math.pi / 2 - 1e-9:
        if beyond_half(high) >= probability - 0.5:
            break
        low, reach = high, 2 * reach
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond_half(middle) < probability - 0.5 else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def seed_verdict(seeds: SeedDifference) -> str:
    """The same of the noise of seeds."""
    counts = [len(s.values) for s in (seeds.before, seeds.after)]
    if min(counts) == 1:
        return (
            f"{'One seed each' if max(counts) == 1 else 'One seed on one side'}: how far another "
            "would move the gap is unknown."
        )
    if seeds.low is None or seeds.high is None or seeds.degrees is None:
        return (
            "All seeds of a side gave the same number: the spread is unknown. Were they trained "
            "apart?"
        )
    sides = " and ".join(
        f"{100 * s.mean:.1f} ± {100 * (s.deviation or 0):.1f}" for s in (seeds.before, seeds.after)
    )
    where = "inside" if seeds.has_zero else "outside"
    text = (
        f"Over {counts[0]} and {counts[1]} seeds, {sides} (mean, standard deviation): the gap of "
        f"{points(seeds.difference)} points is {where} seed noise: {points(seeds.low)} to "
        f"{points(seeds.high)} points (Welch's 95 % interval)."
    )
    if seeds.has_zero and (needed := seeds_to_settle(seeds)) is not None:
        text += (
            f" If the true gap is this large, about {needed:,} seeds each would show it in 4 of 5 "
            "cases."
        )
    return text
