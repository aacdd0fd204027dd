"""COCO's precision and recall on arrays: pycocotools' own values, many times faster.

    order     per category by falling score; ties by image, then as given
    match     who takes whom, at all overlaps and in all size ranges (`fast_matching`)
    count     precision is needed at right detections only: the others are counted, not listed

Equal to pycocotools 2.0.11 in every value, to the bit on x86 (`tests/evaluation`). What a user
sees is checked against it once more before it is shown (`coco_evaluation`).

Shapes: T overlaps, R recalls, K categories, A size ranges, M limits of detections per image and
category, as pycocotools has them.

Not for: the number of record (`coco_evaluation` has it from pycocotools), reading or validating
files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from resdet.evaluation.coco.fast_matching import (
    LIMITS,
    OVERLAPS,
    SIZES,
    CocoDetections,
    CocoObjects,
    Groups,
    Matches,
    box_pairs,
    inside_sizes,
    mask_pairs,
    match,
    places_in_runs,
    ranges,
)
from resdet.evaluation.inputs.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    compact,
    falling,
    stable_order,
)

__all__ = [
    "LIMITS", "OVERLAPS", "RECALLS", "SIZES", "Accumulated", "CocoDetections", "CocoObjects",
    "evaluate", "summarize",
]  # fmt: skip

RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Accumulated:
    """What `COCOeval` leaves: -1 where a category has nothing to find.

    precision: (T, R, K, A, M). recall: (T, K, A, M). numbers: the twelve of `summarize`.
    absorbed: detections that a crowd region took at the lowest overlap.
    """

    precision: FloatArray
    recall: FloatArray
    numbers: FloatArray
    absorbed: int


def summarize(ap: FloatArray, ar: FloatArray) -> FloatArray:
    """The twelve numbers from precision and recall, in the order of `COCOeval.summarize`."""
    best = len(LIMITS) - 1
    parts = [ap[..., 0, best], ap[0, ..., 0, best], ap[5, ..., 0, best]]
    parts += [ap[..., size, best] for size in (1, 2, 3)]
    parts += [ar[..., 0, limit] for limit in range(len(LIMITS))]
    parts += [ar[..., size, best] for size in (1, 2, 3)]
    return np.array([_mean_of_defined(part) for part in parts])


def _mean_of_defined(values: FloatArray) -> float:
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else -1.0


def evaluate(objects: CocoObjects, detections: CocoDetections, num_categories: int) -> Accumulated:
    """Precision and recall of detections; masks are compared where both sides have them.

    Args:
        objects, detections: of the same images and categories; scores and boxes are finite.
        num_categories: K.

    Raises:
        ValueError: only one side has masks.

    Source: pycocotools 2.0.11, cocoeval.py (evaluateImg, accumulate).
    """
    if (objects.masks is None) != (detections.masks is None):
        raise ValueError("masks are given for objects or detections only; give both or neither")
    ordered = _order(detections, num_categories)
    groups = _pair_groups(objects, detections, ordered, num_categories)
    overlapping = box_pairs if objects.masks is None else mask_pairs
    matches = match(overlapping(groups, objects, detections), objects, groups)
    return _accumulate(objects, detections, ordered, matches, num_categories)


# -- order and groups --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ordered:
    """Detections by category, falling score, image, file order; a place counts in this order.

    row: the detection at each place. rank: how many of its image and category come before it, at
    most 100.
    by_group: places by image, then category, in each by score. start: where a group begins in
    `by_group`. group: its number, image x K + category, rising.
    """

    row: IntArray
    rank: npt.NDArray[np.uint8]
    by_group: IntArray
    start: IntArray
    group: IntArray


def _order(detections: CocoDetections, num_categories: int) -> _Ordered:
    image, category = compact(detections.image), compact(detections.category)
    row = stable_order(image)
    row = row[stable_order(falling(detections.scores[row]))]
    row = row[stable_order(category[row])]
    image, category = image[row], category[row]
    by_group = stable_order(image)
    image, category = image[by_group], category[by_group]
    change = np.ones(len(row), dtype=np.bool_)
    change[1:] = (image[1:] != image[:-1]) | (category[1:] != category[:-1])
    start = np.flatnonzero(change)
    group = image[start].astype(np.int64) * num_categories + category[start]
    # More than the last limit are all alike: a byte holds them.
    rank = np.empty(len(row), dtype=np.uint8)
    rank[by_group] = np.minimum(places_in_runs(start, len(row)), LIMITS[-1])
    return _Ordered(row, rank, by_group, start, group)


def _pair_groups(
    objects: CocoObjects, detections: CocoDetections, ordered: _Ordered, num_categories: int
) -> Groups:
    group = objects.image * num_categories + objects.category
    by_group = np.argsort(group, kind="stable")
    expected, start = np.unique(group[by_group], return_index=True)
    count = np.diff(start, append=len(group))
    place = np.asarray(np.searchsorted(ordered.group, expected))
    there = np.flatnonzero(np.append(ordered.group, -1)[place] == expected)
    place = place[there]
    lengths = np.minimum(np.diff(ordered.start, append=len(ordered.row))[place], LIMITS[-1])
    places = ordered.by_group[ranges(ordered.start[place], lengths)]
    return Groups(
        ordered.row[places], places, by_group, np.cumsum(lengths) - lengths, lengths,
        start[there], count[there],
    )  # fmt: skip


# -- precision and recall ----------------------------------------------------------------------


def _accumulate(
    objects: CocoObjects,
    detections: CocoDetections,
    ordered: _Ordered,
    matches: Matches,
    num_categories: int,
) -> Accumulated:
    shape = (len(SIZES), len(LIMITS), len(OVERLAPS), num_categories)
    precision = np.full((*shape, len(RECALLS)), -1.0)
    recall = np.full(shape, -1.0)
    category_start = np.searchsorted(
        detections.category[ordered.row], np.arange(num_categories + 1)
    )
    detection_inside = inside_sizes(detections.area[ordered.row])
    object_inside = inside_sizes(objects.area)
    # How many would be counted before each place if nothing had matched.
    passed = np.zeros(len(ordered.row) + 1, dtype=np.int32)
    for m, limit in enumerate(LIMITS):
        taking = matches.within(ordered.rank, limit)
        for a in range(len(SIZES)):
            np.cumsum(detection_inside[a] & (ordered.rank < limit), dtype=np.int32, out=passed[1:])
            counts = object_inside[a] & ~objects.crowd
            expected = np.bincount(objects.category[counts], minlength=num_categories)
            needed, defined = _needed(expected), expected > 0
            right, own = counts[taking.object], detection_inside[a][taking.place]
            overlaps = taking.overlaps(a)
            for t in range(len(OVERLAPS)):
                rows = np.flatnonzero((overlaps & (1 << t)).astype(np.bool_))
                curve = _Curve(taking.place[rows], right[rows], own[rows], passed, category_start)
                precision[a, m, t, defined] = curve.precision(needed)[defined]
                recall[a, m, t, defined] = curve.hits[defined] / expected[defined]
    crowds = objects.crowd[matches.object] & (matches.overlaps(0) & 1 != 0)
    # From a, m, t, k, r to the order that pycocotools has.
    ap, ar = precision.transpose(2, 4, 3, 0, 1), recall.transpose(2, 3, 0, 1)
    return Accumulated(ap, ar, summarize(ap, ar), int(crowds.sum()))


class _Curve:
    """Right detections of all categories at one overlap, size range and limit.

    What is counted up to a place: everything inside the size range, but for detections that took
    something; those count if what they took does.
    """

    def __init__(
        self,
        place: IntArray,
        right: BoolArray,
        own: BoolArray,
        passed: npt.NDArray[np.int32],
        category_start: IntArray,
    ):
        more = np.zeros(len(place) + 1, dtype=np.int64)
        np.cumsum(right.astype(np.int64) - own, out=more[1:])
        rows = np.flatnonzero(right)
        self.place = place[rows]
        first = np.searchsorted(self.place, category_start)
        self.hits = np.diff(first)
        before = passed[category_start] + more[np.searchsorted(place, category_start)]
        counted = passed[self.place + 1] + more[rows + 1] - np.repeat(before[:-1], self.hits)
        hit = np.arange(1, len(rows) + 1) - np.repeat(first[:-1], self.hits)
        self.values = hit / (counted + np.spacing(1))
        self.first = first[:-1]

    def precision(self, needed: IntArray) -> FloatArray:
        """(K, R): the best precision from the needed right detection on, 0 where it never comes."""
        categories = np.arange(len(self.hits))
        # A 0 behind each category stands for recalls that are not reached.
        padded = np.zeros(len(self.values) + len(categories))
        padded[np.arange(len(self.values)) + np.repeat(categories, self.hits)] = self.values
        index = (self.first + categories)[:, None] + np.minimum(needed, self.hits[:, None])
        best = np.maximum.reduceat(padded, index.ravel()).reshape(index.shape)
        return np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]


def _needed(expected: IntArray) -> IntArray:
    """(K, R): right detections before the one that reaches each recall, of `expected` objects."""
    total = np.maximum(expected, 1)[:, None]
    count = np.maximum(np.ceil(RECALLS * total).astype(np.int64) - 1, 1)
    for _ in range(2):  # as the division rounds, not as the product does
        count += count / total < RECALLS
    return count - 1
