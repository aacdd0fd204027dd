"""Matching of COCO's fast engine: which detection takes which object, in every range at once.

    pair      only boxes of one image and category that overlap by half can ever match
    match     the 40 matchings (10 overlaps x 4 size ranges) run at once, a bit each, and all
              images at once: first everybody's first detection, then everybody's second, ...

Shapes: T overlaps, A size ranges.

Not for: the order of detections, precision and recall (`fast_engine`), or one overlap at a time
with the object that was taken (`matching`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, IntArray, stable_order

OVERLAPS = np.linspace(0.5, 0.95, 10)
# All, small, medium, large: smallest and largest area in pixels, both inside.
SIZES = ((0, 1e5**2), (0, 32**2), (32**2, 96**2), (96**2, 1e5**2))
LIMITS = (1, 10, 100)

# Bit a x T + t stands for size range a and overlap t.
Bits = npt.NDArray[np.uint64]
ALL, NONE = ~np.uint64(0), np.uint64(0)
# So few that their columns stay in the processor's cache.
PAIRS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class CocoObjects:
    """What there is to find, in the file's order.

    image: place of the image in the order of ids. category: from 0. boxes: x, y, width, height.
    area: decides the size range. masks: compressed, where masks are compared.
    """

    image: IntArray
    category: IntArray
    boxes: FloatArray
    area: FloatArray
    crowd: BoolArray
    masks: Sequence[Any] | None = None


@dataclass(frozen=True)
class CocoDetections:
    """Detections in the file's order; the columns of `CocoObjects` with a score."""

    image: IntArray
    category: IntArray
    boxes: FloatArray
    area: FloatArray
    scores: FloatArray
    masks: Sequence[Any] | None = None


@dataclass(frozen=True)
class Groups:
    """The images and categories with objects and detections, one beside the other.

    detections: detections by group and falling score, at most 100 each. place: of each in the order
    of `fast_engine`. objects: by group, in the file's order. The rest is per group: where it begins
    in both, and how many it has.
    """

    detections: IntArray
    place: IntArray
    objects: IntArray
    detection_start: IntArray
    detection_count: IntArray
    object_start: IntArray
    object_count: IntArray


def places_in_runs(starts: IntArray, total: int) -> IntArray:
    """0, 1, 2, ... from each start to the next."""
    return np.arange(total) - np.repeat(starts, np.diff(starts, append=total))


def ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """start, start + 1, ... of each, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


# -- pairs that may match ----------------------------------------------------------------------


@dataclass(frozen=True)
class CandidatePairs:
    """Pairs that overlap by the lowest overlap or more: places in `Groups.detections`, rows of
    objects, overlaps. By rising detection, in each by the object's place in the file."""

    detections: IntArray
    object: IntArray
    overlap: FloatArray


def box_pairs(groups: Groups, objects: CocoObjects, detections: CocoDetections) -> CandidatePairs:
    """Pairs by the overlap of boxes, in the order of pycocotools' operations."""
    low, high, area = _corners(detections.boxes[groups.detections])
    object_low, object_high, object_area = _corners(objects.boxes[groups.objects])
    crowd = objects.crowd[groups.objects]
    first = np.repeat(groups.object_start, groups.detection_count)
    count = np.repeat(groups.object_count, groups.detection_count)
    kept = []
    for begin, end in _blocks(count):
        f = np.repeat(np.arange(begin, end), count[begin:end])
        o = ranges(first[begin:end], count[begin:end])
        # Most pairs lie apart already along x: what follows is for the others only.
        width = np.minimum(high[0][f], object_high[0][o]) - np.maximum(low[0][f], object_low[0][o])
        touch = np.flatnonzero(width > 0)
        f, o, width = f[touch], o[touch], width[touch]
        height = np.minimum(high[1][f], object_high[1][o]) - np.maximum(low[1][f], object_low[1][o])
        touch = np.flatnonzero(height > 0)
        f, o = f[touch], o[touch]
        shared = width[touch] * height[touch]
        whole = np.where(crowd[o], area[f], area[f] + object_area[o] - shared)
        overlap = shared / whole
        near = np.flatnonzero(overlap >= OVERLAPS[0])
        kept.append((f[near], groups.objects[o[near]], overlap[near]))
    return _joined(kept)


def _corners(
    boxes: FloatArray,
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray], FloatArray]:
    """Left and top, right and bottom, area."""
    x, y, width, height = np.ascontiguousarray(boxes.T)
    return (x, y), (x + width, y + height), width * height


def _blocks(counts: IntArray) -> Iterator[tuple[int, int]]:
    """Slices of `counts` that sum to about PAIRS_AT_ONCE."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(PAIRS_AT_ONCE, total, PAIRS_AT_ONCE))
    edges = np.unique([0, *cuts.tolist(), len(counts)])
    return zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def mask_pairs(groups: Groups, objects: CocoObjects, detections: CocoDetections) -> CandidatePairs:
    """Pairs by the overlap of masks, by pycocotools itself."""
    kept = []
    for f, f_count, o, o_count in zip(
        groups.detection_start, groups.detection_count, groups.object_start, groups.object_count,
        strict=True,
    ):  # fmt: skip
        rows = groups.objects[o : o + o_count]
        overlap = coco_mask.iou(
            [detections.masks[i] for i in groups.detections[f : f + f_count]],  # type: ignore[index]
            [objects.masks[i] for i in rows],  # type: ignore[index]
            objects.crowd[rows].astype(int).tolist(),
        )
        near, partner = np.nonzero(overlap >= OVERLAPS[0])
        kept.append((f + near, rows[partner], overlap[near, partner]))
    return _joined(kept)


def _joined(parts: Sequence[tuple[IntArray, IntArray, FloatArray]]) -> CandidatePairs:
    if not parts:
        return CandidatePairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return CandidatePairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


# -- matching ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Matches:
    """Who took whom, by rising place: place of the detection, row of the object, and in which size
    ranges and overlaps it did."""

    place: IntArray
    object: IntArray
    bits: Bits

    def within(self, rank: npt.NDArray[np.uint8], limit: int) -> Matches:
        """Those of the first `limit` detections of each image and category."""
        rows = np.flatnonzero(rank[self.place] < limit)
        return Matches(self.place[rows], self.object[rows], self.bits[rows])

    def overlaps(self, size: int) -> npt.NDArray[np.uint16]:
        """The T bits of a size range."""
        shifted = self.bits >> np.uint64(size * len(OVERLAPS))
        return shifted.astype(np.uint16) & np.uint16((1 << len(OVERLAPS)) - 1)


def match(pairs: CandidatePairs, objects: CocoObjects, groups: Groups) -> Matches:
    """Every detection takes the best free object, in the order of scores.

    A detection's first choice is the largest overlap among objects that count, then among those
    that do not (crowd, or outside the size range); of equal ones the last. So each pair is asked
    twice: in the ranges where its object counts, then in the others.
    """
    tries = _tries(pairs, objects, groups)
    free = np.full(len(objects.area), ALL)
    open_ = np.full(len(groups.detections), ALL)
    taken = np.zeros(len(tries.bits), dtype=np.uint64)
    consumes = np.where(objects.crowd, NONE, ALL)
    for begin, end in zip(tries.turns[:-1].tolist(), tries.turns[1:].tolist(), strict=True):
        f, o = tries.detections[begin:end], tries.object[begin:end]
        free_before, open_before = free[o], open_[f]
        took = tries.bits[begin:end] & free_before & open_before
        taken[begin:end] = took
        free[o] = free_before & ~(took & consumes[o])
        open_[f] = open_before & ~took
    rows = np.flatnonzero(taken)
    place = groups.place[tries.detections[rows]]
    order = stable_order(place)
    return Matches(place[order], tries.object[rows[order]], taken[rows[order]])


@dataclass(frozen=True)
class _Tries:
    """Pairs in the order in which they are asked; within a turn no two of one image and category.

    turns: where each turn begins, and the end.
    """

    detections: IntArray
    object: IntArray
    bits: Bits
    turns: IntArray


def _tries(pairs: CandidatePairs, objects: CocoObjects, groups: Groups) -> _Tries:
    """A detection of one pair has one try, whether its object counts or not; others have two of
    each pair. Turns: all first tries of the first detections, their second tries, ..."""
    counting = _size_bits(objects.area) & np.where(objects.crowd, NONE, ALL)
    bits = _overlap_bits(pairs.overlap)
    starts = np.flatnonzero(np.diff(pairs.detections, prepend=-1))
    lengths = np.diff(starts, append=len(pairs.detections))
    one, many = starts[lengths == 1], np.flatnonzero(np.repeat(lengths > 1, lengths))
    in_sizes = counting[pairs.object[many]]
    twice, later = np.tile(many, 2), np.repeat([False, True], len(many))
    order = np.lexsort((-twice, -pairs.overlap[twice], later, pairs.detections[twice]))
    twice_bits = np.concatenate([bits[many] & in_sizes, bits[many] & ~in_sizes])[order]
    twice = twice[order]
    pair, bits = np.concatenate([one, twice]), np.concatenate([bits[one], twice_bits])
    nth_try = np.concatenate([one * 0, _nth(pairs.detections[twice])])
    group = np.repeat(np.arange(len(groups.detection_count)), groups.detection_count)[
        pairs.detections[starts]
    ]
    nth_detection = np.repeat(_nth(group), lengths)[pair]
    turn = nth_detection * (int(nth_try.max(initial=0)) + 1) + nth_try
    order = stable_order(turn)
    turns = np.append(np.flatnonzero(np.diff(turn[order], prepend=-1)), len(order))
    pair = pair[order]
    return _Tries(pairs.detections[pair], pairs.object[pair], bits[order], turns)


def _nth(values: IntArray) -> IntArray:
    """How many equal ones stand directly before each."""
    return places_in_runs(np.flatnonzero(np.diff(values, prepend=-1)), len(values))


def _size_bits(area: FloatArray) -> Bits:
    """All T bits of each size range that an area lies in."""
    bits = np.zeros(len(area), dtype=np.uint64)
    for a, inside in enumerate(inside_sizes(area)):
        bits[inside] |= np.uint64((1 << len(OVERLAPS)) - 1 << a * len(OVERLAPS))
    return bits


def inside_sizes(area: FloatArray) -> list[BoolArray]:
    """For each size range: which areas lie in it."""
    return [np.asarray((area >= low) & (area <= high)) for low, high in SIZES]


def _overlap_bits(overlap: FloatArray) -> Bits:
    """The bits of the overlaps that are reached, in every size range."""
    table = [
        sum((1 << n) - 1 << a * len(OVERLAPS) for a in range(len(SIZES)))
        for n in range(len(OVERLAPS) + 1)
    ]
    reached = np.searchsorted(np.minimum(OVERLAPS, 1 - 1e-10), overlap, side="right")
    return np.array(table, dtype=np.uint64)[reached]
