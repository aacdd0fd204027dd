"""COCO's precision and recall on arrays: pycocotools' own values, many times faster.

    order     per category by falling score; ties by image, then as given
    pair      only boxes of one image and category that overlap by half can ever match
    match     the 40 matchings (10 overlaps x 4 size ranges) run at once, a bit each, and all
              images at once: first everybody's first detection, then everybody's second, ...
    count     precision is needed at right detections only: the others are counted, not listed

Equal to pycocotools 2.0.11 in every value, to the bit on x86 (`tests/evaluation`). What a user
sees is checked against it once more before it is shown (`coco`).

Shapes: T overlaps, R recalls, K categories, A size ranges, M limits of detections per image and
category, as pycocotools has them.

Not for: the number of record (`coco` has it from pycocotools), reading or validating files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from resdet.evaluation.arrays import BoolArray, FloatArray, IntArray, stable_order

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
# All, small, medium, large: smallest and largest area in pixels, both inside.
SIZES = ((0, 1e5**2), (0, 32**2), (32**2, 96**2), (96**2, 1e5**2))
LIMITS = (1, 10, 100)

# Bit a x T + t stands for size range a and overlap t.
Bits = npt.NDArray[np.uint64]
ALL, NONE = ~np.uint64(0), np.uint64(0)
_SIGN = np.uint64(1 << 63)
# So few that their columns stay in the processor's cache.
PAIRS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Objects:
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
class Found:
    """Detections in the file's order; the columns of `Objects` with a score."""

    image: IntArray
    category: IntArray
    boxes: FloatArray
    area: FloatArray
    scores: FloatArray
    masks: Sequence[Any] | None = None


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


def evaluate(objects: Objects, found: Found, num_categories: int) -> Accumulated:
    """Precision and recall of detections; masks are compared where both sides have them.

    Args:
        objects, found: of the same images and categories; scores and boxes are finite.
        num_categories: K.

    Raises:
        ValueError: only one side has masks.

    Source: pycocotools 2.0.11, cocoeval.py (evaluateImg, accumulate).
    """
    if (objects.masks is None) != (found.masks is None):
        raise ValueError("masks are given for objects or detections only; give both or neither")
    ordered = _order(found, num_categories)
    groups = _pair_groups(objects, found, ordered, num_categories)
    pairs = _box_pairs(groups, objects, found)
    if objects.masks is not None:
        pairs = _mask_pairs(groups, objects, found)
    matches = _match(pairs, objects, groups)
    return _accumulate(objects, found, ordered, matches, num_categories)


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


def _order(found: Found, num_categories: int) -> _Ordered:
    image, category = _compact(found.image), _compact(found.category)
    row = stable_order(image)
    row = row[stable_order(_falling(found.scores[row]))]
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
    rank[by_group] = np.minimum(_places_in_runs(start, len(row)), LIMITS[-1])
    return _Ordered(row, rank, by_group, start, group)


def _compact(values: IntArray) -> npt.NDArray[Any]:
    """The same whole numbers, from 0 on, in as few bytes as hold them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _falling(scores: FloatArray) -> Bits:
    """Whole numbers that rise as scores fall: but for their sign, floats are ordered as bits."""
    bits = (scores + 0.0).view(np.uint64)  # + 0.0: -0.0 is 0.0
    negative = bits >> np.uint64(63) != 0
    return np.where(negative, bits, ~bits & ~_SIGN)


def _places_in_runs(starts: IntArray, total: int) -> IntArray:
    """0, 1, 2, ... from each start to the next."""
    return np.arange(total) - np.repeat(starts, np.diff(starts, append=total))


@dataclass(frozen=True)
class _Groups:
    """The images and categories with objects and detections, one beside the other.

    found: detections by group and falling score, at most 100 each. place: of each in `_Ordered`.
    objects: by group, in the file's order. The rest is per group: where it begins in both, and
    how many it has.
    """

    found: IntArray
    place: IntArray
    objects: IntArray
    found_start: IntArray
    found_count: IntArray
    object_start: IntArray
    object_count: IntArray


def _pair_groups(objects: Objects, found: Found, ordered: _Ordered, num_categories: int) -> _Groups:
    group = objects.image * num_categories + objects.category
    by_group = np.argsort(group, kind="stable")
    wanted, start = np.unique(group[by_group], return_index=True)
    count = np.diff(start, append=len(group))
    place = np.asarray(np.searchsorted(ordered.group, wanted))
    there = np.flatnonzero(np.append(ordered.group, -1)[place] == wanted)
    place = place[there]
    lengths = np.minimum(np.diff(ordered.start, append=len(ordered.row))[place], LIMITS[-1])
    places = ordered.by_group[_ranges(ordered.start[place], lengths)]
    return _Groups(
        ordered.row[places], places, by_group, np.cumsum(lengths) - lengths, lengths,
        start[there], count[there],
    )  # fmt: skip


def _ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """start, start + 1, ... of each, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


# -- pairs that may match ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Pairs:
    """Pairs that overlap by the lowest overlap or more: places in `_Groups.found`, rows of
    objects, overlaps. By rising detection, in each by the object's place in the file."""

    found: IntArray
    object: IntArray
    overlap: FloatArray


def _box_pairs(groups: _Groups, objects: Objects, found: Found) -> _Pairs:
    low, high, area = _corners(found.boxes[groups.found])
    object_low, object_high, object_area = _corners(objects.boxes[groups.objects])
    crowd = objects.crowd[groups.objects]
    first = np.repeat(groups.object_start, groups.found_count)
    count = np.repeat(groups.object_count, groups.found_count)
    kept = []
    for begin, end in _blocks(count):
        f = np.repeat(np.arange(begin, end), count[begin:end])
        o = _ranges(first[begin:end], count[begin:end])
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


def _mask_pairs(groups: _Groups, objects: Objects, found: Found) -> _Pairs:
    kept = []
    for f, f_count, o, o_count in zip(
        groups.found_start, groups.found_count, groups.object_start, groups.object_count,
        strict=True,
    ):  # fmt: skip
        rows = groups.objects[o : o + o_count]
        overlap = coco_mask.iou(
            [found.masks[i] for i in groups.found[f : f + f_count]],  # type: ignore[index]
            [objects.masks[i] for i in rows],  # type: ignore[index]
            objects.crowd[rows].astype(int).tolist(),
        )
        near, partner = np.nonzero(overlap >= OVERLAPS[0])
        kept.append((f + near, rows[partner], overlap[near, partner]))
    return _joined(kept)


def _joined(parts: Sequence[tuple[IntArray, IntArray, FloatArray]]) -> _Pairs:
    if not parts:
        return _Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return _Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


# -- matching ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Matches:
    """Who took whom, by rising place: place in `_Ordered`, row of the object, and in which size
    ranges and overlaps it did."""

    place: IntArray
    object: IntArray
    bits: Bits

    def within(self, rank: npt.NDArray[np.uint8], limit: int) -> _Matches:
        """Those of the first `limit` detections of each image and category."""
        rows = np.flatnonzero(rank[self.place] < limit)
        return _Matches(self.place[rows], self.object[rows], self.bits[rows])

    def overlaps(self, size: int) -> npt.NDArray[np.uint16]:
        """The T bits of a size range."""
        shifted = self.bits >> np.uint64(size * len(OVERLAPS))
        return shifted.astype(np.uint16) & np.uint16((1 << len(OVERLAPS)) - 1)


def _match(pairs: _Pairs, objects: Objects, groups: _Groups) -> _Matches:
    """Every detection takes the best free object, in the order of scores.

    A detection's first choice is the largest overlap among objects that count, then among those
    that do not (crowd, or outside the size range); of equal ones the last. So each pair is asked
    twice: in the ranges where its object counts, then in the others.
    """
    tries = _tries(pairs, objects, groups)
    free = np.full(len(objects.area), ALL)
    open_ = np.full(len(groups.found), ALL)
    taken = np.zeros(len(tries.bits), dtype=np.uint64)
    consumes = np.where(objects.crowd, NONE, ALL)
    for begin, end in zip(tries.turns[:-1].tolist(), tries.turns[1:].tolist(), strict=True):
        f, o = tries.found[begin:end], tries.object[begin:end]
        free_before, open_before = free[o], open_[f]
        took = tries.bits[begin:end] & free_before & open_before
        taken[begin:end] = took
        free[o] = free_before & ~(took & consumes[o])
        open_[f] = open_before & ~took
    rows = np.flatnonzero(taken)
    place = groups.place[tries.found[rows]]
    order = stable_order(place)
    return _Matches(place[order], tries.object[rows[order]], taken[rows[order]])


@dataclass(frozen=True)
class _Tries:
    """Pairs in the order in which they are asked; within a turn no two of one image and category.

    turns: where each turn begins, and the end.
    """

    found: IntArray
    object: IntArray
    bits: Bits
    turns: IntArray


def _tries(pairs: _Pairs, objects: Objects, groups: _Groups) -> _Tries:
    """A detection of one pair has one try, whether its object counts or not; others have two of
    each pair. Turns: all first tries of the first detections, their second tries, ..."""
    counting = _size_bits(objects.area) & np.where(objects.crowd, NONE, ALL)
    bits = _overlap_bits(pairs.overlap)
    starts = np.flatnonzero(np.diff(pairs.found, prepend=-1))
    lengths = np.diff(starts, append=len(pairs.found))
    one, many = starts[lengths == 1], np.flatnonzero(np.repeat(lengths > 1, lengths))
    in_sizes = counting[pairs.object[many]]
    twice, later = np.tile(many, 2), np.repeat([False, True], len(many))
    order = np.lexsort((-twice, -pairs.overlap[twice], later, pairs.found[twice]))
    twice_bits = np.concatenate([bits[many] & in_sizes, bits[many] & ~in_sizes])[order]
    twice = twice[order]
    pair, bits = np.concatenate([one, twice]), np.concatenate([bits[one], twice_bits])
    nth_try = np.concatenate([one * 0, _nth(pairs.found[twice])])
    group = np.repeat(np.arange(len(groups.found_count)), groups.found_count)[pairs.found[starts]]
    nth_found = np.repeat(_nth(group), lengths)[pair]
    turn = nth_found * (int(nth_try.max(initial=0)) + 1) + nth_try
    order = stable_order(turn)
    turns = np.append(np.flatnonzero(np.diff(turn[order], prepend=-1)), len(order))
    pair = pair[order]
    return _Tries(pairs.found[pair], pairs.object[pair], bits[order], turns)


def _nth(values: IntArray) -> IntArray:
    """How many equal ones stand directly before each."""
    return _places_in_runs(np.flatnonzero(np.diff(values, prepend=-1)), len(values))


def _size_bits(area: FloatArray) -> Bits:
    """All T bits of each size range that an area lies in."""
    bits = np.zeros(len(area), dtype=np.uint64)
    for a, inside in enumerate(_inside(area)):
        bits[inside] |= np.uint64((1 << len(OVERLAPS)) - 1 << a * len(OVERLAPS))
    return bits


def _inside(area: FloatArray) -> list[BoolArray]:
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


# -- precision and recall ----------------------------------------------------------------------


def _accumulate(
    objects: Objects, found: Found, ordered: _Ordered, matches: _Matches, num_categories: int
) -> Accumulated:
    shape = (len(SIZES), len(LIMITS), len(OVERLAPS), num_categories)
    precision = np.full((*shape, len(RECALLS)), -1.0)
    recall = np.full(shape, -1.0)
    category_start = np.searchsorted(found.category[ordered.row], np.arange(num_categories + 1))
    inside = _inside(found.area[ordered.row])
    object_inside = _inside(objects.area)
    # How many would be counted before each place if nothing had matched.
    passed = np.zeros(len(ordered.row) + 1, dtype=np.int32)
    for m, limit in enumerate(LIMITS):
        taking = matches.within(ordered.rank, limit)
        for a in range(len(SIZES)):
            np.cumsum(inside[a] & (ordered.rank < limit), dtype=np.int32, out=passed[1:])
            counts = object_inside[a] & ~objects.crowd
            wanted = np.bincount(objects.category[counts], minlength=num_categories)
            needed, defined = _needed(wanted), wanted > 0
            right, own = counts[taking.object], inside[a][taking.place]
            overlaps = taking.overlaps(a)
            for t in range(len(OVERLAPS)):
                rows = np.flatnonzero((overlaps & (1 << t)).astype(np.bool_))
                curve = _Curve(taking.place[rows], right[rows], own[rows], passed, category_start)
                precision[a, m, t, defined] = curve.precision(needed)[defined]
                recall[a, m, t, defined] = curve.hits[defined] / wanted[defined]
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


def _needed(wanted: IntArray) -> IntArray:
    """(K, R): right detections before the one that reaches each recall, of `wanted` objects."""
    total = np.maximum(wanted, 1)[:, None]
    count = np.maximum(np.ceil(RECALLS * total).astype(np.int64) - 1, 1)
    for _ in range(2):  # as the division rounds, not as the product does
        count += count / total < RECALLS
    return count - 1
