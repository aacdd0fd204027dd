"""Error rates, their standard errors, tables of classes and confusions, by hand and sklearn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resdet.errors import DataError
from resdet.evaluation.classification.classifier_errors import (
    ErrorRate,
    best_classes,
    errors_in,
)
from resdet.evaluation.classification.classifier_result import rates
from resdet.evaluation.classification.score_files import ClassScores


def scores_of(values: np.ndarray, labels: list[int]) -> ClassScores:
    logs = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return ClassScores(
        logs.astype(np.float32), np.array(labels), tuple(f"i{n}" for n in range(len(labels))),
        tuple(f"c{k}" for k in range(values.shape[1])), "set", "hash",
    )  # fmt: skip


def test_the_standard_error_is_the_binomial_one() -> None:
    """64 of 1,000: sqrt(0.064 x 0.936 / 1000) = 0.00774."""
    assert ErrorRate(64, 1000).value == 0.064
    assert ErrorRate(64, 1000).standard_error == pytest.approx(math.sqrt(0.064 * 0.936 / 1000))
    assert ErrorRate(0, 10).standard_error == 0


def test_counts_by_hand() -> None:
    """Six classes; the right one first, second and sixth."""
    values = np.array([[9, 1, 2, 3, 4, 5], [9, 8, 1, 1, 1, 1], [0, 5, 6, 7, 8, 9.0]])
    errors = errors_in(scores_of(values, [0, 1, 0]))
    assert errors.rank.tolist() == [0, 1, 5]
    assert (errors.top1.wrong, errors.top5.wrong) == (2, 1)
    assert errors.confusion() == [(0, 0, 1), (0, 5, 1), (1, 0, 1)]
    first, second, third, *_ = errors.per_class()
    assert (first.images, first.taken_for) == (2, ("c5", 1))
    assert first.top1 is not None and first.top1.value == 0.5
    assert second.taken_for == ("c0", 1)
    assert third.images == 0 and third.top1 is None and third.taken_for is None


@pytest.mark.parametrize(("classes", "top5"), [(5, "-"), (6, "50.00 ± 35.36")])
def test_five_guesses_among_five_classes_are_no_error(classes: int, top5: str) -> None:
    """One of two images has its class last: sqrt(0.5 x 0.5 / 2) = 0.3536."""
    values = np.arange(2.0 * classes).reshape(2, classes)
    errors = errors_in(scores_of(values, [0, classes - 1]))
    assert rates(errors, errors) == ("50.00 ± 35.36", top5)
    assert rates(errors, errors.per_class()[1]) == ("-", "-")


def test_equal_scores_are_ordered_by_class() -> None:
    """A constant classifier is right on class 0 alone, and its guesses are classes 0 to 4."""
    scores = scores_of(np.zeros((3, 7)), [0, 4, 6])
    errors = errors_in(scores)
    assert errors.rank.tolist() == [0, 4, 6]
    assert errors.top5.wrong == 1
    assert best_classes(scores, 5).tolist() == [[0, 1, 2, 3, 4]] * 3


def test_sklearn_counts_the_same() -> None:
    """5,000 images, so that several blocks are counted."""
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    values = generator.normal(size=(5000, 12))
    labels = generator.integers(0, 12, 5000)
    scores = scores_of(values, labels.tolist())
    errors = errors_in(scores)
    for k, rate in ((1, errors.top1), (5, errors.top5)):
        accuracy = metrics.top_k_accuracy_score(labels, scores.log_probabilities, k=k)
        assert rate.value == pytest.approx(1 - accuracy)
    matrix = np.zeros((12, 12), dtype=int)
    for true, predicted, number in errors.confusion():
        matrix[true, predicted] = number
    expected = metrics.confusion_matrix(labels, scores.log_probabilities.argmax(1))
    assert np.array_equal(matrix, expected)
    assert [c.images for c in errors.per_class()] == np.bincount(labels).tolist()


def test_without_labels_there_is_no_error() -> None:
    with pytest.raises(DataError, match="the class of 1 of 2 images is not known"):
        errors_in(scores_of(np.zeros((2, 3)), [0, -1]))
