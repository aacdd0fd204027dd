"""LogME: how well a linear model on frozen features explains a target, without training it.

The evidence of Bayesian linear regression, maximised over the precision of the weights (alpha) and
of the noise (beta): log p(y | F) with y ~ N(0, F F^T / alpha + I / beta), per object. Class labels
are regressed one against the rest, box coordinates as they are; a score is the mean over the
targets.

Source: You et al. 2021, LogME (arXiv:2102.11005), with the fixed point of arXiv:2110.10545; on
regions of objects and with box coordinates as targets: Fouquet et al. 2023 (arXiv:2306.15306),
whose "Total LogME" is the mean of the two.

Terms: N objects, D features of each, K classes.

Not for: which features, or how far a score can be trusted (`rank_correlation`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from resdet.evaluation.inputs.arrays import FloatArray, IntArray

# The iteration ends where alpha / beta changes by less than this share; the evidence is flat there.
TOLERANCE = 1e-6
MOST_ITERATIONS = 1000
# Of precisions: features that explain a target exactly, or not at all, would make one infinite.
_MOST_PRECISION, _LEAST_PRECISION = 1e12, 1e-12


@dataclass(frozen=True)
class LogMe:
    """Scores of one backbone's features, in nats per object; higher is better.

    Attributes:
        labels: of class labels (You et al.).
        boxes: of box coordinates (Fouquet et al.'s regression part).
        objects: N.
    """

    labels: float
    boxes: float
    objects: int

    @property
    def total(self) -> float:
        """Fouquet et al.'s Total LogME."""
        return (self.labels + self.boxes) / 2

    def to_json(self) -> dict[str, float | int]:
        return {
            "logme": self.labels,
            "box_logme": self.boxes,
            "total_logme": self.total,
            "objects": self.objects,
        }


def log_evidence(features: FloatArray, targets: FloatArray) -> FloatArray:
    """Maximum log evidence of each target, per object, (T,).

    Args:
        features: (N, D) finite.
        targets: (N, T) finite.

    Raises:
        ValueError: no object, other lengths, or a value that is not finite.

    Example:
        >>> features = np.array([[1.0], [-1.0], [1.0], [-1.0]])
        >>> good, bad = log_evidence(features, np.array([[1.0, 1], [-1, 1], [0.9, 1], [-0.9, 1]]))
        >>> bool(good > bad)
        True
    """
    features, targets = (np.asarray(a, dtype=np.float64) for a in (features, targets))
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets):
        raise ValueError(
            f"features are {features.shape} and targets {targets.shape}, expected (N, D) and (N, T)"
        )
    if not len(features):
        raise ValueError("no object: nothing to score")
    if not np.isfinite(features).all() or not np.isfinite(targets).all():
        raise ValueError("a feature or a target is not finite")
    vectors, squares = _left_vectors(features)
    # In the directions of the features, and what lies in none of them.
    along = (vectors.T @ targets) ** 2
    beside = np.maximum((targets**2).sum(axis=0) - along.sum(axis=0), 0.0)
    return np.array(
        [
            _maximum(squares, along[:, t], float(beside[t]), len(features))
            for t in range(targets.shape[1])
        ]
    )


def _left_vectors(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Left singular vectors (N, R) and squared singular values (R,), of rank R.

    By the smaller of the two Gram matrices: a decomposition of (N, D) itself takes minutes for
    thousands of objects.
    """
    if features.shape[0] <= features.shape[1]:
        values, vectors = np.linalg.eigh(features @ features.T)
    else:
        values, right = np.linalg.eigh(features.T @ features)
        vectors = features @ right
    kept = values > max(float(values[-1]), 0.0) * len(values) * np.finfo(np.float64).eps
    values, vectors = values[kept], vectors[:, kept]
    if features.shape[0] > features.shape[1]:
        vectors = vectors / np.sqrt(values)
    return vectors, values


def _maximum(squares: FloatArray, along: FloatArray, beside: float, count: int) -> float:
    """Evidence per object at the best alpha and beta, by MacKay's fixed point."""
    alpha = beta = 1.0
    for _ in range(MOST_ITERATIONS):
        ratio = alpha / beta
        gamma = float((squares / (squares + ratio)).sum())
        weights = float((squares * along / (squares + ratio) ** 2).sum())
        rest = float((along * (ratio / (squares + ratio)) ** 2).sum()) + beside
        alpha = _bounded(gamma, weights)
        beta = _bounded(count - gamma, rest)
        if abs(alpha / beta - ratio) <= TOLERANCE * ratio:
            break
    # log N(y; 0, F F^T / alpha + I / beta), direction by direction.
    variance = squares / alpha + 1 / beta
    log_determinant = float(np.log(variance).sum()) - (count - len(squares)) * math.log(beta)
    distance = float((along / variance).sum()) + beta * beside
    return -0.5 * (log_determinant + distance + count * math.log(2 * math.pi)) / count


def _bounded(numerator: float, denominator: float) -> float:
    if numerator <= _LEAST_PRECISION * denominator:
        return _LEAST_PRECISION
    if numerator >= _MOST_PRECISION * denominator:
        return _MOST_PRECISION
    return numerator / denominator


def logme(features: FloatArray, labels: IntArray, boxes: FloatArray) -> LogMe:
    """The scores of one backbone on the objects of a set.

    Args:
        features: (N, D) one row an object.
        labels: (N,) places in the list of classes; classes without an object do not count.
        boxes: (N, 4) corners as shares of the sides of the image, 0 to 1.

    Raises:
        ValueError: as `log_evidence`.
    """
    present = np.unique(labels)
    one_hot = (np.asarray(labels)[:, None] == present[None]).astype(np.float64)
    scores = log_evidence(features, np.concatenate([one_hot, np.asarray(boxes, float)], axis=1))
    by_class, by_side = scores[: len(present)], scores[len(present) :]
    return LogMe(float(by_class.mean()), float(by_side.mean()), len(features))
