"""Seeds: Welch's interval against scipy and printed tables, and what one seed does not state."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from resdet.evaluation.analysis.seed_noise import (
    SeedDifference,
    seed_difference,
    seed_spread,
    seed_verdict,
    seeds_to_settle,
    t_quantile,
)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (10, 2.228), (30, 2.042), (120, 1.980), (1e6, 1.960)],
)
def test_t_quantiles_are_those_of_the_printed_table(degrees: float, expected: float) -> None:
    """Any statistics book, two-sided 5 %."""
    assert t_quantile(0.975, degrees) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("probability", [0.8, 0.975, 0.9999])
@pytest.mark.parametrize("degrees", [1e6, 1e8])
def test_t_with_many_degrees_is_the_normal_distribution(probability: float, degrees: float) -> None:
    """Oracle: the standard library's normal distribution, which t tends to as 1 / degrees."""
    assert t_quantile(probability, degrees) == pytest.approx(
        NormalDist().inv_cdf(probability), rel=2e-5
    )


@pytest.mark.parametrize(("probability", "degrees"), [(0.4, 3), (0.99999, 3), (0.9, math.inf)])
def test_quantiles_that_are_not_had_are_refused(probability: float, degrees: float) -> None:
    """By the docstring; infinite degrees gave a number of 20 digits."""
    with pytest.raises(ValueError, match="expected 0.5 to 0.9999"):
        t_quantile(probability, degrees)


def test_welch_equals_scipy() -> None:
    """Oracle: scipy.stats.ttest_ind(equal_var=False), its confidence interval and degrees."""
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed here")
    rng = np.random.default_rng(2)
    for sizes in ((2, 2), (2, 5), (3, 4), (5, 5), (10, 3)):
        before, after = (
            rng.normal(0.7, s, n).tolist() for s, n in zip((0.01, 0.03), sizes, strict=True)
        )
        test = stats.ttest_ind(after, before, equal_var=False)
        interval = test.confidence_interval(0.95)
        ours = seed_difference(before, after)
        assert ours.degrees == pytest.approx(test.df, rel=1e-10)
        assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
        assert ours.has_zero == (test.pvalue >= 0.05)


def test_mean_and_deviation_by_hand() -> None:
    """70, 72, 74: mean 72, and (4 + 0 + 4) / 2 = 4 is the variance."""
    spread = seed_spread([0.70, 0.72, 0.74])
    assert (spread.mean, spread.deviation) == pytest.approx((0.72, 0.02))


@pytest.mark.parametrize(("value", "count"), [(0.1, 3), (0.7, 3), (0.123456789, 5)])
def test_equal_numbers_have_no_spread(value: float, count: int) -> None:
    """By definition; numpy's mean of three times 0.1 is not 0.1, and its deviation 1.7e-17."""
    spread = seed_spread([value] * count)
    assert (spread.mean, spread.deviation) == (value, 0)
    same = seed_difference([value] * count, [value + 0.1] * count)
    assert (same.low, same.high, same.has_zero) == (None, None, None)
    assert seed_verdict(same).startswith("All seeds of a side gave the same number")


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([0.7], [0.72], "One seed each: how far another would move the gap is unknown."),
        ([0.7], [0.72, 0.73], "One seed on one side: how far another"),
        (
            [0.7, 0.7],
            [0.72, 0.72],
            "All seeds of a side gave the same number: the spread is unknown.",
        ),
    ],
)
def test_an_unknown_spread_is_reported_to_be_unknown(
    before: list[float], after: list[float], verdict: str
) -> None:
    """No interval, no estimate, one plain sentence."""
    found = seed_difference(before, after)
    assert (found.low, found.high, found.degrees, found.has_zero) == (None, None, None, None)
    assert seeds_to_settle(found) is None
    assert seed_verdict(found).startswith(verdict)


def test_values_that_are_no_numbers_are_refused() -> None:
    """A run without a number has no place in a mean."""
    with pytest.raises(ValueError, match="values are .nan., expected one finite number per seed"):
        seed_spread([math.nan])
    with pytest.raises(ValueError, match="values are .., expected"):
        seed_spread([])
    with pytest.raises(ValueError, match="probability is 1 and degrees 3"):
        t_quantile(1, 3)


def test_seeds_to_settle_are_those_of_the_printed_table() -> None:
    """Cohen 1988, table 2.4.1: two groups, two-sided 5 %, power .80; d = 1.0: 17, d = 0.8: 26."""
    for effect, expected in ((1.0, 17), (0.8, 26)):
        one = seed_spread([0.7 - 0.01 / math.sqrt(2), 0.7 + 0.01 / math.sqrt(2)])
        other = seed_spread([v + effect * 0.01 for v in one.values])
        assert one.deviation == pytest.approx(0.01)
        found = SeedDifference(one, other, effect * 0.01, -0.1, 0.1, 2.0)
        assert seeds_to_settle(found) == expected


def test_seeds_to_settle_gives_up_on_hardly_any_difference() -> None:
    """A thousand trainings would not show a thousandth of a deviation."""
    assert seeds_to_settle(seed_difference([0.70, 0.72], [0.70001, 0.72001])) is None


def test_a_gap_is_reported_to_be_inside_or_outside_seed_noise() -> None:
    """70.0 ± 1.4 and 72.0 ± 1.4: Welch's half width is 4.303 x 1.414 = 6.1 points."""
    inside = seed_verdict(seed_difference([0.69, 0.71], [0.71, 0.73]))
    assert inside.startswith(
        "Over 2 and 2 seeds, 70.0 ± 1.4 and 72.0 ± 1.4 (mean, standard deviation): the gap of +2.0 "
        "points is inside seed noise: −4.1 to +8.1 points (Welch's 95 % interval). If the true gap "
        "is this large, about 9 seeds each would show it"
    )
    outside = seed_verdict(seed_difference([0.70, 0.701, 0.702], [0.75, 0.751, 0.752]))
    assert "the gap of +5.0 points is outside seed noise" in outside
    assert "seeds each would" not in outside
