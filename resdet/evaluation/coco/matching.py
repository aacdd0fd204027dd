"""COCO's matching of boxes or masks on arrays: which detection takes which object, at each overlap.

By the rules of pycocotools, whose own overlaps are used: the best 100 detections of an image and
class in order of score, equal scores by image id and then as given; each takes the free object
with the largest overlap, the last of equal ones; crowds are taken only by what found no object,
by any number of detections, and those are neither right nor wrong. For all sizes; a detection
is matched in its image only.

Terms: M detections that count, T overlaps, "row" a place in the arrays of GroundTruth or Columns.

Not for: COCO's numbers of record (`coco_evaluation`), or the ranges of small, medium and large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from resdet.evaluation.inputs.arrays import (
    BoolArray,
    FloatArray,
    ImageId,
    IntArray,
    compact,
    falling,
    stable_order,
)
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.ground_truth import GroundTruth, SetIndex
from resdet.evaluation.inputs.masks import compressed

# As pycocotools makes them: 0.5 + 0.05 k and k / 100, with the same last bits.
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
DETECTIONS = 100
# Of pycocotools' range "all": what is larger counts for nothing.
_LARGEST = 1e5**2


@dataclass(frozen=True)
class OverlappingPairs:
    """Detections and objects of one image that overlap, by detection.

    Attributes:
        detection: (P,) place in the ranking, ascending.
        object: (P,) row of the ground truth, of any class.
        iou: (P,) overlap; with a crowd, the share of the detection that lies in it.
    """

    detection: IntArray
    object: IntArray
    iou: FloatArray

    def where(self, chosen: BoolArray) -> OverlappingPairs:
        return OverlappingPairs(self.detection[chosen], self.object[chosen], self.iou[chosen])


def used_images(index: SetIndex, subset: Sequence[ImageId] | None) -> BoolArray:
    """(images,), which of the set are scored: all, or those of the subset.

    Raises:
        ValueError: the subset names an image that the set does not have.
    """
    if subset is None:
        return np.ones(len(index.image_ids), dtype=np.bool_)
    chosen = set(subset)
    if strange := chosen.difference(index.image_ids):
        raise ValueError(f"{index.title} has no image {sorted(strange, key=str)[0]} of the subset")
    return np.array([i in chosen for i in index.image_ids], dtype=np.bool_)


def is_ignored(truth: GroundTruth) -> BoolArray:
    """(objects,), those that need not be found."""
    return truth.crowd | (truth.area > _LARGEST)


def is_too_large(columns: Columns) -> BoolArray:
    """(detections,), those that are neither right nor wrong where they take no object."""
    with np.errstate(over="ignore"):
        return np.asarray(columns.boxes[:, 2] * columns.boxes[:, 3] > _LARGEST)


def ranking(truth: GroundTruth, columns: Columns, used: BoolArray) -> IntArray:
    """(M,) rows of the detections that count, by falling score.

    Args:
        used: (images,), those that are scored.
    """
    rank = truth.index.image_rank()
    rows = np.flatnonzero(used[columns.image])
    rows = rows[stable_order(compact(rank[columns.image[rows]]))]
    rows = rows[stable_order(falling(columns.scores[rows]))]
    # The best of each image and class: its place among its own, in the order of score.
    group = columns.image[rows] * len(truth.index.category_ids) + columns.category[rows]
    grouped = stable_order(group)
    group = group[grouped]
    start = np.flatnonzero(np.diff(group, prepend=-1))
    place = np.empty(len(rows), dtype=np.int64)
    place[grouped] = np.arange(len(rows)) - np.repeat(start, np.diff(start, append=len(rows)))
    return np.asarray(rows[place < DETECTIONS])


def overlapping(
    truth: GroundTruth, columns: Columns, ranked: IntArray, least: float
) -> OverlappingPairs:
    """The detections of a ranking with the objects of their image that they overlap.

    By their masks where the detections have some (`Columns.segmentations`), else by their boxes.

    Args:
        ranked: (M,) rows, see `ranking`.
        least: overlap of a pair; above 0.
    """
    images = columns.image[ranked]
    by_image = np.argsort(images, kind="stable")
    objects = np.argsort(truth.image, kind="stable")
    present, start = np.unique(images[by_image], return_index=True)
    parts = np.split(by_image, start[1:]) if len(present) else []
    low = np.searchsorted(truth.image[objects], present, side="left")
    high = np.searchsorted(truth.image[objects], present, side="right")
    found: list[tuple[IntArray, IntArray, FloatArray]] = []
    for mine, first, last in zip(parts, low, high, strict=True):
        if first == last:
            continue
        here = objects[first:last]
        iou = coco_mask.iou(
            *_places(truth, columns, ranked[mine], here), truth.crowd[here].tolist()
        )
        detection, column = np.nonzero(iou >= least)
        found.append((mine[detection], here[column], iou[detection, column]))
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return OverlappingPairs(none, none, np.zeros(0))
    detection, object_, iou = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(detection, kind="stable")
    return OverlappingPairs(detection[order], object_[order], iou[order])


def _places(
    truth: GroundTruth, columns: Columns, detections: IntArray, objects: IntArray
) -> tuple[Any, Any]:
    """What pycocotools measures overlaps of: boxes, or compressed masks, of one image."""
    masks = columns.segmentations
    if masks is None:
        return columns.boxes[detections], truth.boxes[objects]
    width, height = (int(v) for v in truth.index.sizes[truth.image[objects[0]]])
    return (
        [compressed(masks[row], height, width) for row in detections.tolist()],
        [compressed(truth.segmentations[row], height, width) for row in objects.tolist()],
    )


def match(
    truth: GroundTruth,
    columns: Columns,
    ranked: IntArray,
    pairs: OverlappingPairs,
    overlaps: FloatArray,
) -> IntArray:
    """(T, M) the object that each detection takes at each overlap; -1 for none.

    Args:
        pairs: those down to the least of `overlaps`, of all classes.
        overlaps: (T,) ascending, at most 62.
    """
    pairs = pairs.where(columns.category[ranked[pairs.detection]] == truth.category[pairs.object])
    ignored = is_ignored(truth)
    # In the order in which a detection would take them; of equal ones the last.
    order = np.lexsort((-pairs.object, -pairs.iou, ignored[pairs.object], pairs.detection))
    pairs = OverlappingPairs(pairs.detection[order], pairs.object[order], pairs.iou[order])
    # One bit an overlap: which are reached by the pair, free at the object, not yet matched.
    limits = np.minimum(overlaps, 1 - 1e-10)
    reached = (1 << np.searchsorted(limits, pairs.iou, side="right")) - 1
    free = [(1 << len(overlaps)) - 1] * len(truth.image)
    crowd = truth.crowd.tolist()
    looking, last = 0, -1
    taken = np.zeros(len(order), dtype=np.int64)
    detections, objects = pairs.detection.tolist(), pairs.object.tolist()
    for i, bits in enumerate(reached.tolist()):
        if detections[i] != last:
            last, looking = detections[i], -1
        take = bits & looking & free[objects[i]]
        if take:
            looking &= ~take
            taken[i] = take
            if not crowd[objects[i]]:
                free[objects[i]] &= ~take
    matched = np.full((len(overlaps), len(ranked)), -1, dtype=np.int64)
    for t in range(len(overlaps)):
        chosen = (taken >> t) & 1 == 1
        matched[t, pairs.detection[chosen]] = pairs.object[chosen]
    return matched


def interpolated_ap(right: BoolArray, positives: int) -> float:
    """COCO's AP of one class at one overlap: the mean of the best precision at 101 recalls.

    Args:
        right: by falling score; detections that are neither right nor wrong are left out.
        positives: objects to find, above 0.
    """
    tp = np.cumsum(right)
    precision = tp / np.arange(1, len(tp) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    reached = np.searchsorted(tp / positives, RECALLS, side="left")
    return float(envelope[reached].mean())
