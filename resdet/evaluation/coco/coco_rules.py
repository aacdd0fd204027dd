"""What each detection counts as by COCO's rule at one overlap of 0.5, and with that rule changed.

Matching is that of `matching`. Which detections overlap which objects depends on boxes and
crowds alone, so that rules about scores and overlaps share it.

Not for: VOC's rules (`voc_rules`), or COCO's number of record (`coco_evaluation`).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from resdet.evaluation.analysis.rule_outcomes import Judged, Taken, judged
from resdet.evaluation.coco import matching
from resdet.evaluation.coco.matching import OverlappingPairs
from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, IntArray, compact, stable_order
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.ground_truth import GroundTruth

OVERLAP = 0.5


def judge_coco(
    truth: GroundTruth,
    columns: Columns,
    *,
    strict: bool = False,
    exact: FloatArray | None = None,
    near: OverlappingPairs | None = None,
) -> Judged:
    """AP50 and verdicts by COCO's rule, with the best 100 of each image and category.

    The range over orders of equal scores is of the verdicts that the file's order gives: within
    an image another order can let a detection take another object, which is left out.

    Args:
        truth, columns: validated; the whole set is scored.
        strict: overlap > 0.5 instead of >=.
        exact: the scores before they were rounded.
        near: `near_pairs` of the same boxes and objects, where that is known.
    """
    used = np.ones(len(truth.index.image_ids), dtype=np.bool_)
    ranked = matching.ranking(truth, columns, used)
    pairs = _of_ranking(near_pairs(truth, columns) if near is None else near, ranked, len(columns))
    # Nothing lies between 0.5 and the next float, so >= that one is > 0.5.
    overlap = float(np.nextafter(OVERLAP, 1)) if strict else OVERLAP
    pairs = pairs.where(pairs.iou >= overlap)
    taken = matching.match(truth, columns, ranked, pairs, np.array([overlap]))[0]
    ignored = matching.is_ignored(truth)
    right = taken >= 0
    right[right] = ~ignored[taken[right]]
    wrong = (taken < 0) & ~matching.is_too_large(columns)[ranked]
    category = columns.category[ranked]
    order = stable_order(compact(category))
    num_categories = len(truth.index.category_ids)
    expected = partial(_wanted, truth, columns, ranked, pairs, taken, right)
    by_class = Taken(
        ranked[order], right[order], wrong[order],
        np.searchsorted(category[order], np.arange(num_categories + 1)),
        np.bincount(truth.category[~ignored], minlength=num_categories),
        lambda: expected()[order],
    )  # fmt: skip
    before = columns.scores if exact is None else exact
    return judged(by_class, columns.scores, before, [_interpolated])[0]


def near_pairs(truth: GroundTruth, columns: Columns) -> OverlappingPairs:
    """Detections and objects of one image and class that overlap by a half; for a detection its
    row stands, not its place in a ranking."""
    rows = np.arange(len(columns))
    pairs = matching.overlapping(truth, columns, rows, OVERLAP)
    return pairs.where(columns.category[pairs.detection] == truth.category[pairs.object])


def _of_ranking(pairs: OverlappingPairs, ranked: IntArray, num_detections: int) -> OverlappingPairs:
    """The pairs of ranked detections, with their places, by place."""
    place = np.full(num_detections, -1, dtype=np.int64)
    place[ranked] = np.arange(len(ranked))
    places = place[pairs.detection]
    rows = np.flatnonzero(places >= 0)
    rows = rows[stable_order(places[rows])]
    return OverlappingPairs(places[rows], pairs.object[rows], pairs.iou[rows])


def _interpolated(right: BoolArray, wrong: BoolArray, positives: int) -> float:
    return matching.interpolated_ap(right[right | wrong], positives)


def _wanted(
    truth: GroundTruth,
    columns: Columns,
    ranked: IntArray,
    near: OverlappingPairs,
    taken: IntArray,
    is_right: BoolArray,
) -> IntArray:
    """The object that a detection took, or lost to one of equal score; -1 for neither."""
    expected = np.where(is_right, taken, -1)
    takers = np.full(len(truth.boxes), -1, dtype=np.int64)
    takers[taken[is_right]] = np.flatnonzero(is_right)
    taker, other = takers[near.object], near.detection
    scores, category = columns.scores[ranked], columns.category[ranked]
    lost = (taker >= 0) & ~is_right[other]
    lost &= (scores[taker] == scores[other]) & (category[taker] == category[other])
    by_overlap = np.flatnonzero(lost)[np.argsort(near.iou[lost], kind="stable")]
    expected[other[by_overlap]] = near.object[by_overlap]
    return expected
