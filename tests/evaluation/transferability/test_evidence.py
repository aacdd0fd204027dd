"""LogME against its definition: the density of a normal distribution, maximised by other means."""

import math

import numpy as np
import pytest

from resdet.evaluation.transferability.evidence import log_evidence, logme


def density(features: np.ndarray, target: np.ndarray, alpha: float, beta: float) -> float:
    """log N(y; 0, F F^T / alpha + I / beta) per object, from the covariance itself."""
    count = len(target)
    covariance = features @ features.T / alpha + np.eye(count) / beta
    _, log_determinant = np.linalg.slogdet(covariance)
    distance = target @ np.linalg.solve(covariance, target)
    return -0.5 * (log_determinant + distance + count * math.log(2 * math.pi)) / count


def greatest(features: np.ndarray, target: np.ndarray) -> float:
    """The maximum over log alpha and log beta, by SciPy from several starts."""
    optimize = pytest.importorskip("scipy.optimize")
    return max(
        -optimize.minimize(
            lambda x: -density(features, target, math.exp(x[0]), math.exp(x[1])),
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 5000},
        ).fun
        for start in ([0, 0], [5, 0], [0, 5], [-3, 2])
    )


@pytest.mark.parametrize(
    ("count", "width"), [(30, 4), (12, 12), (8, 20)], ids=["tall", "square", "wide"]
)
def test_it_is_the_greatest_density_of_the_model(count, width):
    generator = np.random.default_rng(count)
    features = generator.normal(size=(count, width))
    target = 0.5 * features[:, 0] + 2 * generator.normal(size=count)
    (found,) = log_evidence(features, target[:, None])
    assert found == pytest.approx(greatest(features, target), abs=1e-6)


def test_one_feature_by_hand():
    """F = (1, -1, 1, -1) has one direction, u = F / 2. y = (1, -1, 0.9, -0.9) is 1.9 along u, and
    0.01 of its square, 3.62, lies beside it, over three directions: variances 3.61 and 0.01 / 3."""
    features = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    (found,) = log_evidence(features, np.array([[1.0], [-1.0], [0.9], [-0.9]]))
    by_hand = -0.5 * (math.log(3.61) + 3 * math.log(0.01 / 3) + 4 + 4 * math.log(2 * math.pi)) / 4
    assert found == pytest.approx(by_hand, abs=1e-6)


def test_features_that_explain_nothing_leave_the_noise_by_hand():
    """y is orthogonal to F: what remains is a normal density of variance |y|^2 / N = 1."""
    (found,) = log_evidence(np.array([[1.0], [-1.0]]), np.array([[1.0], [1.0]]))
    assert found == pytest.approx(-0.5 * (1 + math.log(2 * math.pi)), abs=1e-6)


def test_twice_the_feature_is_the_same_evidence():
    """The precision of the weights takes the scale up."""
    generator = np.random.default_rng(0)
    features, targets = generator.normal(size=(40, 5)), generator.normal(size=(40, 2))
    np.testing.assert_allclose(
        log_evidence(1000 * features, targets), log_evidence(features, targets), atol=1e-6
    )


def test_labels_are_one_against_the_rest_and_total_is_the_mean_with_the_boxes():
    generator = np.random.default_rng(1)
    labels = np.array([0, 2, 2, 0, 2, 0, 0, 2])
    boxes = generator.uniform(size=(8, 4))
    features = generator.normal(size=(8, 3))
    found = logme(features, labels, boxes)
    columns = np.stack([labels == 0, labels == 2], axis=1).astype(float)
    assert found.labels == pytest.approx(log_evidence(features, columns).mean(), abs=1e-12)
    assert found.boxes == pytest.approx(log_evidence(features, boxes).mean(), abs=1e-12)
    assert found.to_json()["total_logme"] == pytest.approx((found.labels + found.boxes) / 2)


def test_features_that_separate_the_classes_score_higher_than_noise():
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 3, size=200)
    noise, boxes = generator.normal(size=(200, 16)), generator.uniform(size=(200, 4))
    informed = noise + np.eye(16)[labels] * 3
    assert logme(informed, labels, boxes).labels > logme(noise, labels, boxes).labels + 0.1


@pytest.mark.parametrize(
    ("features", "targets", "match"),
    [
        (np.zeros((0, 2)), np.zeros((0, 1)), "no object"),
        (np.zeros((3, 2)), np.zeros((2, 1)), "expected"),
        (np.full((3, 2), np.nan), np.zeros((3, 1)), "not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(features, targets, match):
    with pytest.raises(ValueError, match=match):
        log_evidence(features, targets)


def test_features_that_are_all_zero_are_as_good_as_none():
    (found,) = log_evidence(np.zeros((4, 3)), np.ones((4, 1)))
    assert found == pytest.approx(-0.5 * (1 + math.log(2 * math.pi)), abs=1e-6)
