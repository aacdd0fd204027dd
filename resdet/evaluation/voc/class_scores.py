"""One class of a VOC evaluation on arrays: overlaps, right and wrong, curve, AP.

The object that a detection takes does not depend on the other detections, so all overlaps are
had at once and only "who came first" needs the order.

Not for: several classes, files, or validation (`voc_evaluation`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, IntArray

AP_RULES = ("11-point", "area")
STYLES = ("d2", "devkit")


@dataclass(frozen=True)
class ClassObjects:
    """Objects of one class; boxes VOC's way (`voc_arrays.inclusive`)."""

    image: IntArray
    boxes: FloatArray
    difficult: BoolArray


@dataclass(frozen=True)
class ClassDetections:
    """Detections of one class, in the order in which they are taken."""

    image: IntArray
    boxes: FloatArray
    scores: FloatArray


@dataclass(frozen=True)
class Curve:
    """After each detection, in order: recall, precision, and its score."""

    recall: FloatArray
    precision: FloatArray
    scores: FloatArray


@dataclass(frozen=True)
class ClassScore:
    """What one class got.

    ap: in [0, 1]; None without an object to find, or without a file of detections.
    positives: objects to find. difficult: objects left out. detections: None without a file.
    tie_spread: AP with the right one first in every tie, minus AP with it last.
    other_style: AP where recalls are compared as the other style does, None unless it differs.
    """

    ap: float | None
    positives: int
    difficult: int
    detections: int | None
    curve: Curve | None = None
    tie_spread: float = 0.0
    other_style: float | None = None


def not_scored(objects: ClassObjects) -> ClassScore:
    """The score of a class without a file of detections."""
    difficult = int(objects.difficult.sum())
    return ClassScore(None, len(objects.difficult) - difficult, difficult, None)


def score_class(
    objects: ClassObjects,
    detections: ClassDetections,
    rule: str,
    thresholds: Sequence[float],
    style: str,
) -> list[ClassScore]:
    """AP and curve of one class at each threshold.

    Args:
        objects: in any order.
        detections: by falling score.
        rule: "11-point" or "area". thresholds: of the overlap. style: "d2" or "devkit".
    """
    difficult = int(objects.difficult.sum())
    positives = len(objects.difficult) - difficult
    if positives == 0:
        return [ClassScore(None, 0, difficult, len(detections.scores))] * len(thresholds)
    best, overlap = best_objects(objects, detections)
    other_style = STYLES[1 - STYLES.index(style)]
    scores = []
    for threshold in thresholds:
        right, wrong = _judged(objects, best, overlap, threshold, style)
        ap = average_precision(right, wrong, positives, rule, style)
        tp, fp = np.cumsum(right, dtype=np.int64), np.cumsum(wrong, dtype=np.int64)
        curve = Curve(tp / positives, _precision(tp, fp), detections.scores)
        other = None
        if rule == "11-point":
            other = average_precision(right, wrong, positives, rule, other_style)
        spread = _tie_spread(right, wrong, detections.scores, positives, rule, style)
        scores.append(
            ClassScore(
                ap, positives, difficult, len(detections.scores), curve, spread,
                None if other == ap else other,
            )
        )  # fmt: skip
    return scores


def overlaps(a: FloatArray, b: FloatArray, pixel: float = 1.0) -> FloatArray:
    """Intersection over union of the boxes in each row, VOC's way: both ends inside.

    Here and nowhere else a pixel is added. The order of the operations is the devkit's. Other
    values of `pixel` are for explaining other tools' numbers: 0 leaves it out, 2 adds it twice.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # an area may be beyond every float
        low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
        sides = np.maximum(high - low + pixel, 0)
        shared = sides[:, 0] * sides[:, 1]
        area_a, area_b = (np.prod(box[:, 2:] - box[:, :2] + pixel, axis=1) for box in (a, b))
        union = area_a + area_b - shared
        # Only without the pixel a box can have no area.
        return np.divide(shared, union, out=np.zeros_like(shared), where=union != 0)


def pairs(objects: ClassObjects, detections: ClassDetections) -> tuple[IntArray, IntArray]:
    """Every detection with every object of its image, by detection, then by object."""
    by_image = np.argsort(objects.image, kind="stable")
    images = objects.image[by_image]
    start = np.searchsorted(images, detections.image, side="left")
    count = np.searchsorted(images, detections.image, side="right") - start
    first = np.cumsum(count) - count
    within = np.arange(count.sum()) - np.repeat(first, count)
    return np.repeat(np.arange(len(count)), count), by_image[np.repeat(start, count) + within]


def best_objects(
    objects: ClassObjects, detections: ClassDetections, pixel: float = 1.0
) -> tuple[IntArray, FloatArray]:
    """For each detection the object of its image with the largest overlap, and that overlap.

    Of equal overlaps the first object's; -1 and 0 without any object in the image.
    """
    best = np.full(len(detections.image), -1, dtype=np.int64)
    overlap = np.zeros(len(detections.image))
    owner, candidate = pairs(objects, detections)
    if len(owner) == 0:
        return best, overlap
    iou = overlaps(detections.boxes[owner], objects.boxes[candidate], pixel)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    overlap[owner[first]] = np.maximum.reduceat(iou, first)
    largest = np.flatnonzero(iou == overlap[owner])
    taken = largest[np.unique(owner[largest], return_index=True)[1]]
    best[owner[taken]] = candidate[taken]
    return best, overlap


def judge(
    objects: ClassObjects,
    detections: ClassDetections,
    threshold: float,
    style: str,
    pixel: float = 1.0,
) -> tuple[BoolArray, BoolArray]:
    """Which detections are right, and which are wrong; those on difficult objects are neither."""
    return _judged(objects, *best_objects(objects, detections, pixel), threshold, style)


def _judged(
    objects: ClassObjects, best: IntArray, overlap: FloatArray, threshold: float, style: str
) -> tuple[BoolArray, BoolArray]:
    hit = (best >= 0) & (overlap > threshold if style == "d2" else overlap >= threshold)
    ignored = hit.copy()
    ignored[hit] = objects.difficult[best[hit]]
    rows = np.flatnonzero(hit & ~ignored)
    _, firsts = np.unique(best[rows], return_index=True)
    right = np.zeros(len(hit), dtype=np.bool_)
    right[rows[firsts]] = True
    return right, ~right & ~ignored


def _precision(tp: IntArray, fp: IntArray) -> FloatArray:
    # Before the first right or wrong one (only detections on difficult objects) it is 0.
    return np.asarray(tp / np.maximum(tp + fp, 1))


def average_precision(
    right: BoolArray, wrong: BoolArray, positives: int, rule: str, style: str
) -> float:
    """AP of right and wrong detections in order; `positives` is above 0."""
    tp, fp = np.cumsum(right, dtype=np.int64), np.cumsum(wrong, dtype=np.int64)
    recall, precision = tp / positives, _precision(tp, fp)
    # The best precision from here on, and 0 where the recall is never reached.
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if rule == "11-point":
        if style == "d2":
            reached = np.searchsorted(recall, np.arange(0.0, 1.1, 0.1), side="left")
        else:
            reached = np.searchsorted(10 * tp, np.arange(11) * positives, side="left")
        return math.fsum(envelope[reached]) / 11
    # Summed without rounding, so that a perfect class has exactly 1.
    return min(1.0, math.fsum(np.diff(recall, prepend=0.0) * envelope[:-1]))


def _tie_spread(
    right: BoolArray, wrong: BoolArray, scores: FloatArray, positives: int, rule: str, style: str
) -> float:
    """How much the order within equal scores could move AP.

    In whatever order, a tie holds the same number of right ones: of the detections in it that
    take one object exactly one is first.
    """
    group = np.cumsum(np.diff(scores, prepend=np.inf) != 0)
    if len(scores) == 0 or group[-1] == len(scores):
        return 0.0
    best, worst = np.lexsort((~right, group)), np.lexsort((right, group))
    high, low = (
        average_precision(right[order], wrong[order], positives, rule, style)
        for order in (best, worst)
    )
    return high - low
