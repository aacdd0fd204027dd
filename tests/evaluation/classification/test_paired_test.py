"""McNemar's exact test and Tango's interval, against published values, scipy and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resdet.evaluation.classification.paired_test import (
    difference_interval,
    holm,
    mcnemar_exact,
    paired_test,
)


def test_the_published_example_comes_out() -> None:
    """Bentur et al. 2009 (airways before and after a transplantation; 21 children, 1 and 7
    discordant) as Fagerland, Lydersen, Laake work it out: p = 0.0703, -0.517 to -0.026."""
    assert mcnemar_exact(1, 7) == 18 / 256
    low, high = difference_interval(1, 7, 21)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize(("b", "c"), [(3, 3), (40, 12), (0, 9), (900, 1100), (5000, 4600)])
def test_the_test_is_the_binomial_of_one_half(b: int, c: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert mcnemar_exact(b, c) == pytest.approx(stats.binomtest(b, b + c, 0.5).pvalue, rel=1e-9)


def test_without_a_discordant_image_nothing_is_shown() -> None:
    """p is 1; the interval is not a point: z^2 / (n + z^2) on either side, by hand from T(d)."""
    assert mcnemar_exact(0, 0) == 1.0
    low, high = difference_interval(0, 0, 100)
    z = 1.959963984540054
    assert -low == pytest.approx(high) == pytest.approx(z**2 / (100 + z**2))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 30, 200), (0, 5, 40), (7, 7, 50), (1, 0, 3)])
def test_the_ends_are_where_the_score_test_rejects(b: int, c: int, n: int) -> None:
    """The restricted likelihood is maximised on a grid instead of by its closed form."""

    def statistic(d: float) -> float:
        # q21 between max(0, -d) and (1 - d) / 2: then q12 = q21 + d and the rest are not negative.
        q = np.linspace(max(0.0, -d), (1 - d) / 2, 200_001)[1:-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = (n - b - c) * np.log(1 - 2 * q - d)
            likelihood += b * np.log(q + d) if b else 0
            likelihood += c * np.log(q) if c else 0
        best = q[np.nanargmax(likelihood)]
        return abs(b - c - n * d) / math.sqrt(n * (2 * best + d * (1 - d)))

    low, high = difference_interval(b, c, n)
    assert low < (b - c) / n < high
    for end in (low, high):
        assert statistic(end) == pytest.approx(1.95996, abs=2e-3)


def test_the_interval_ends_at_certainty() -> None:
    """Five of five wrong by one alone: 1 is not rejected; the mirror image for the other."""
    low, high = difference_interval(5, 0, 5)
    assert high == 1.0 and 0 < low < 1
    assert difference_interval(0, 5, 5) == pytest.approx((-high, -low))


def test_ranks_become_counts() -> None:
    """By hand: wrong at top-1 by A 0, 1, 2; by B 1, 3. At top-5 by A 2, by B none."""
    a, b = np.array([1, 1, 7, 0, 0]), np.array([0, 2, 0, 1, 0])
    first = paired_test(a, b)
    assert (first.both, first.first_only, first.second_only) == (1, 2, 1)
    assert first.difference == pytest.approx(1 / 5)
    fifth = paired_test(a, b, top=5)
    assert (fifth.both, fifth.first_only, fifth.second_only) == (0, 1, 0)
    with pytest.raises(ValueError, match="5 and 4 images"):
        paired_test(a, b[:4])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([0.2], [0.2]),
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.9, 0.6, 0.6], [1.0, 1.0, 1.0]),
        ([0.04, 0.01], [0.04, 0.02]),
    ],
)
def test_holm_is_the_step_down_of_bonferroni(given: list[float], expected: list[float]) -> None:
    """The third as R's p.adjust(p, "holm") gives it; the others by hand."""
    assert holm(given) == pytest.approx(expected)
