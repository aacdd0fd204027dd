"""Made-up images with objects, and what a detector might find there, as arrays.

The same generator gives the same scenes, whatever format they are then written in. Boxes are
(x, y, width, height) in pixels.

Not for: files (`coco`, `voc`), or a set's real numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DETECTIONS_PER_IMAGE = 100


@dataclass(frozen=True)
class Objects:
    """Row i is object i; the rows of image n are first[n] to first[n + 1]."""

    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray  # (objects, 4)
    first: np.ndarray  # (images + 1,)


def make_sizes(
    rng: np.random.Generator, kinds: tuple[tuple[int, int, float], ...], num_images: int
) -> np.ndarray:
    """(images, 2) of width and height, drawn from kinds of (width, height, share)."""
    which = rng.choice(len(kinds), num_images, p=[share for *_, share in kinds])
    return np.array([size[:2] for size in kinds], dtype=np.float64)[which]


def make_objects(
    rng: np.random.Generator, sizes: np.ndarray, count: int, frequency: np.ndarray
) -> Objects:
    """Objects by image: many images have few and few have many; half of the objects are of the
    class of the one before, and of those many stand beside it.

    Args:
        sizes: (images, 2), width and height.
        frequency: share of each class, (classes,).
    """
    weights = rng.gamma(1.1, size=len(sizes))
    image = np.sort(rng.choice(len(sizes), count, p=weights / weights.sum()))
    label = rng.choice(len(frequency), count, p=frequency)
    limit = sizes[image] - 2
    side = np.exp(rng.normal(4.1, 1.0, count)).clip(4, 600)
    ratio = np.exp(rng.normal(0, 0.4, count))
    wh = np.stack([side * ratio, side / ratio], 1).clip(3, limit)
    xy = rng.random((count, 2)) * (limit - wh)
    follows, beside = rng.random(count) < 0.5, rng.random(count) < 0.5
    for i in range(1, count):
        if follows[i] and image[i] == image[i - 1]:
            label[i] = label[i - 1]
            if beside[i]:
                wh[i] = (wh[i - 1] * rng.uniform(0.7, 1.4, 2)).clip(3, limit[i])
                xy[i] = (xy[i - 1] + rng.normal(0, 0.4, 2) * wh[i - 1]).clip(0, limit[i] - wh[i])
    boxes = np.concatenate([xy, wh], 1).round(2)
    return Objects(image, label, boxes, np.searchsorted(image, np.arange(len(sizes) + 1)))


def make_detections(
    rng: np.random.Generator,
    objects: Objects,
    image: int,
    size: np.ndarray,
    frequency: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A detector's list for an image, by falling score: labels, boxes (100, 4), scores in [0, 1].

    Several shifted boxes of each object, the closer the surer, now and then of another class; then
    boxes of nothing, often of a class that is there.
    """
    classes = len(frequency)
    rows = np.arange(objects.first[image], objects.first[image + 1])
    near = rng.choice(rows, min(70, 5 * len(rows))) if len(rows) else rows
    rest = DETECTIONS_PER_IMAGE - len(near)
    shift = rng.normal(0, 1, (len(near), 4)) * rng.uniform(0.02, 0.25, (len(near), 1))
    boxes = objects.boxes[near].copy()
    boxes[:, :2] += shift[:, :2] * boxes[:, 2:]
    boxes[:, 2:] *= np.exp(shift[:, 2:])
    scores = (0.6 * (1 - 3 * np.abs(shift).mean(1)) + 0.4 * rng.random(len(near))).clip(0.05, 0.999)
    labels = np.where(
        rng.random(len(near)) < 0.15, rng.integers(0, classes, len(near)), objects.label[near]
    )
    side = np.exp(rng.normal(4, 1, (rest, 1))) * np.exp(rng.normal(0, 0.3, (rest, 2)))
    nothing = np.concatenate([rng.random((rest, 2)) * size, side], 1)
    present = objects.label[rows] if len(rows) else np.arange(classes)
    guessed = np.where(
        rng.random(rest) < 0.3, rng.choice(present, rest), rng.choice(classes, rest, p=frequency)
    )
    boxes = np.concatenate([boxes, nothing])
    scores = np.concatenate([scores, rng.beta(1, 8, rest).clip(0.01, 0.999)])
    labels = np.concatenate([labels, guessed])
    # Inside the image, with a pixel to spare for rounding; never two alike.
    boxes[:, 2:] = boxes[:, 2:].clip(2, 0.9 * size)
    boxes[:, :2] = boxes[:, :2].clip(0, size - 1 - boxes[:, 2:]) + rng.random((len(boxes), 2))
    order = np.argsort(-scores)
    return labels[order], boxes[order], scores[order]
