"""Kendall's tau against SciPy's, and its interval by hand."""

import math

import numpy as np
import pytest

from resdet.evaluation.transferability.rank_correlation import kendall


@pytest.mark.parametrize("seed", range(5))
def test_it_is_scipy_s_with_ties_and_without(seed):
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 6, size=12).astype(float)
    second = first + generator.integers(0, 6, size=12)
    found = kendall(first.tolist(), second.tolist())
    assert found.tau == pytest.approx(stats.kendalltau(first, second).statistic, abs=1e-12)


def test_one_pair_turned_round_of_ten_by_hand():
    """Of ten pairs nine agree; Fieller: atanh(0.8) +- 1.96 sqrt(0.437)."""
    found = kendall([1, 2, 3, 4, 5], [1, 2, 3, 5, 4])
    assert (found.agreeing, found.differing, found.tau) == (9, 1, pytest.approx(0.8))
    half = 1.959964 * math.sqrt(0.437)
    assert found.low == pytest.approx(math.tanh(math.atanh(0.8) - half), abs=1e-6)
    assert found.high == pytest.approx(math.tanh(math.atanh(0.8) + half), abs=1e-6)


def test_full_agreement_of_few_is_no_certainty():
    found = kendall([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    assert found.tau == found.high == 1 and 0 < found.low < 0.9
    turned = kendall([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])
    assert (turned.tau, turned.low, turned.high) == (-1, -1, pytest.approx(-found.low))


def test_four_have_no_interval_and_equal_values_no_tau():
    assert kendall([1, 2, 3, 4], [1, 2, 3, 4]).low is None
    assert kendall([1, 1, 1], [1, 2, 3]).tau is None


@pytest.mark.parametrize("second", [[1.0], [1.0, math.nan]])
def test_what_is_no_pair_of_rankings_is_refused(second):
    with pytest.raises(ValueError, match="value"):
        kendall([1.0, 2.0], second)
