"""Top-1 and top-5 error of a classifier with their standard error, per class, and what it mixes up.

Not for: two classifiers on the same images (`paired_test`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet.errors import DataError
from resdet.evaluation.classification.score_files import ClassScores
from resdet.evaluation.inputs.arrays import IntArray

GUESSES = 5
_ROWS = 4096  # images that are ranked at once: 4,096 x 1,000 classes take a few MB


@dataclass(frozen=True)
class ErrorRate:
    """A share of wrong images.

    Attributes:
        wrong, images: counts.
    """

    wrong: int
    images: int

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.wrong / self.images

    @property
    def standard_error(self) -> float:
        """sqrt(e (1 - e) / N), in [0, 0.5]: N images are a sample, each wrong with probability e.

        It covers the choice of images alone, not the noise of another training.
        """
        return math.sqrt(self.value * (1 - self.value) / self.images)


@dataclass(frozen=True)
class ClassErrors:
    """Errors on the images of one class.

    Attributes:
        top1, top5: None where the set has no image of the class.
        taken_for: the class that its wrong images are most often taken for, with their number;
            the first of several that are equally frequent.
    """

    name: str
    images: int
    top1: ErrorRate | None
    top5: ErrorRate | None
    taken_for: tuple[str, int] | None


@dataclass(frozen=True)
class ClassifierErrors:
    """What a classifier gets wrong on a set.

    Attributes:
        rank: (N,), how many classes are ahead of the right one; 0 is right.
        predicted: (N,), the first class.
        labels: (N,).
        classes: K names.
    """

    rank: IntArray
    predicted: IntArray
    labels: IntArray
    classes: tuple[str, ...]

    @property
    def top1(self) -> ErrorRate:
        return ErrorRate(int((self.rank >= 1).sum()), len(self.rank))

    @property
    def top5(self) -> ErrorRate:
        """With fewer than five classes all of them count as guesses."""
        return ErrorRate(int((self.rank >= GUESSES).sum()), len(self.rank))

    def confusion(self) -> list[tuple[int, int, int]]:
        """(true class, predicted class, images) of every pair that occurs, in that order."""
        size = len(self.classes)
        pairs = self.labels * size + self.predicted
        places, counts = np.unique(pairs, return_counts=True)
        return [
            (int(p // size), int(p % size), int(n)) for p, n in zip(places, counts, strict=True)
        ]

    def per_class(self) -> list[ClassErrors]:
        """One entry per class, in the order of the classes."""
        size = len(self.classes)
        images = np.bincount(self.labels, minlength=size)
        wrong1 = np.bincount(self.labels[self.rank >= 1], minlength=size)
        wrong5 = np.bincount(self.labels[self.rank >= GUESSES], minlength=size)
        worst: dict[int, tuple[str, int]] = {}
        for true, predicted, count in self.confusion():
            if true != predicted and count > worst.get(true, ("", 0))[1]:
                worst[true] = (self.classes[predicted], count)
        return [
            ClassErrors(
                name,
                int(images[i]),
                ErrorRate(int(wrong1[i]), int(images[i])) if images[i] else None,
                ErrorRate(int(wrong5[i]), int(images[i])) if images[i] else None,
                worst.get(i),
            )
            for i, name in enumerate(self.classes)
        ]

    def to_json(self) -> dict[str, Any]:
        """Fractions in [0, 1]."""
        return {
            "top1_error": self.top1.value,
            "top1_standard_error": self.top1.standard_error,
            "top5_error": self.top5.value,
            "top5_standard_error": self.top5.standard_error,
        }


def errors_in(scores: ClassScores) -> ClassifierErrors:
    """Counts the errors; equal scores are ordered by class, so a constant one is not right by luck.

    Raises:
        DataError: the set has no images, or the class of one is not known.
    """
    if not scores.has_labels:
        unknown = int((scores.labels < 0).sum())
        raise DataError(
            f"{scores.data_set}: the class of {unknown:,} of {len(scores):,} images is not known, "
            "so there is no error to count."
        )
    ranks, predicted = [], []
    for values, labels in _blocks(scores):
        rows = np.arange(len(labels))
        own = values[rows, labels][:, None]
        before = np.arange(values.shape[1])[None] < labels[:, None]
        ranks.append(((values > own) | ((values == own) & before)).sum(axis=1))
        predicted.append(values.argmax(axis=1))
    return ClassifierErrors(
        np.concatenate(ranks).astype(np.int64),
        np.concatenate(predicted).astype(np.int64),
        scores.labels,
        scores.classes,
    )


def best_classes(scores: ClassScores, count: int) -> IntArray:
    """(N, min(count, K)), the first classes of each image, best first; equal ones by class."""
    count = min(count, scores.log_probabilities.shape[1])
    parts = [np.argsort(-values, axis=1, kind="stable")[:, :count] for values, _ in _blocks(scores)]
    return np.concatenate(parts) if parts else np.empty((0, count), dtype=np.int64)


def _blocks(scores: ClassScores) -> Iterator[tuple[np.ndarray, IntArray]]:
    for start in range(0, len(scores), _ROWS):
        part = slice(start, start + _ROWS)
        yield scores.log_probabilities[part], scores.labels[part]
