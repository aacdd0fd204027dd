"""What each detection counts as under one of VOC's rules, changed one by one.

`voc_evaluation` gives the number of record; here its rules can be changed, to explain what another
tool's number is made of (`explain`), or where a zero comes from (`zero_ap`). Overlaps depend on
the boxes and the pixel alone, so that most rules share them.

Not for: COCO's rule (`coco_rules`), or validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from resdet.evaluation.analysis.rule_outcomes import Judged, Taken, as_written, judged
from resdet.evaluation.inputs.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    compact,
    falling,
    stable_order,
)
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.voc.class_scores import (
    ClassDetections,
    ClassObjects,
    average_precision,
    best_objects,
)
from resdet.evaluation.voc.voc_arrays import VocGroundTruth, inclusive

# Detections whose pairs with objects are looked at together.
ROWS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class VocRule:
    """VOC's rule for AP50; as it stands, the devkit's of 2010 and later.

    ap: "area" or "11-point". strict: overlap > 0.5 instead of >=. pixel: added to widths, 1.
    float_recalls: 11 points compared as floats (`docs/faults.md` F54). The decimals that scores and
    boxes are written with; None: all.
    """

    ap: str = "area"
    strict: bool = False
    pixel: float = 1.0
    float_recalls: bool = False
    score_decimals: int | None = None
    box_decimals: int | None = None


def judge_voc(truth: VocGroundTruth, columns: Columns, rule: VocRule) -> Judged:
    """AP50 and verdicts by one of VOC's rules.

    Args:
        truth: the objects of the set.
        columns: detections with places in `truth`'s images and classes; validated.
    """
    return VocJudge(truth, columns).judge(rule, [rule.ap])[rule.ap]


class VocJudge:
    """Judges the same detections by one rule after another."""

    def __init__(self, truth: VocGroundTruth, columns: Columns):
        """truth, columns: as for `judge_voc`."""
        self.truth, self.columns = truth, columns
        rank = truth.index.image_rank()
        self._by_image = stable_order(compact(rank[columns.image]))
        self._overlaps: dict[tuple[int | None, float], tuple[IntArray, FloatArray]] = {}

    def judge(
        self, rule: VocRule, aps: Sequence[str], difficult: BoolArray | None = None
    ) -> dict[str, Judged]:
        """AP50 and verdicts by a rule, for several ways to average.

        Args:
            aps: instead of the rule's own `ap`.
            difficult: of the objects, instead of the set's.
        """
        need_not = self.truth.difficult if difficult is None else difficult
        num_classes = len(self.truth.classes)
        scores = as_written(self.columns.scores, rule.score_decimals)
        rows = self._by_image[stable_order(falling(scores[self._by_image]))]
        rows = rows[stable_order(compact(self.columns.category[rows]))]
        best, overlap = (part[rows] for part in self._largest(rule.box_decimals, rule.pixel))
        hit = (overlap > 0.5 if rule.strict else overlap >= 0.5) & (best >= 0)
        ignored = hit.copy()
        ignored[hit] = need_not[best[hit]]
        expected = np.where(hit & ~ignored, best, -1)
        right = _firsts(expected, len(need_not))
        taken = Taken(
            rows, right, ~right & ~ignored,
            np.searchsorted(self.columns.category[rows], np.arange(num_classes + 1)),
            np.bincount(self.truth.label[~need_not], minlength=num_classes),
            lambda: expected,
        )  # fmt: skip
        style = "d2" if rule.float_recalls else "devkit"
        averages = [partial(average_precision, rule=ap, style=style) for ap in aps]
        each = judged(taken, scores, self.columns.scores, averages)
        return dict(zip(aps, each, strict=True))

    def _largest(self, decimals: int | None, pixel: float) -> tuple[IntArray, FloatArray]:
        """For each detection the object of its image and class with the largest overlap, and that;
        -1 and 0 for none."""
        known = self._overlaps.get((decimals, pixel))
        if known is None:
            known = self._overlaps[decimals, pixel] = self._largest_anew(decimals, pixel)
        return known

    def _largest_anew(self, decimals: int | None, pixel: float) -> tuple[IntArray, FloatArray]:
        truth, columns, count = self.truth, self.columns, len(self.truth.classes)
        objects = ClassObjects(truth.image * count + truth.label, truth.boxes, truth.difficult)
        best, overlap = np.empty(len(columns), dtype=np.int64), np.empty(len(columns))
        for start in range(0, len(columns), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            half_open = columns.boxes[rows]
            corners = np.concatenate(
                [half_open[:, :2], half_open[:, :2] + half_open[:, 2:]], axis=1
            )
            group = columns.image[rows] * count + columns.category[rows]
            boxes = as_written(inclusive(corners), decimals)
            detections = ClassDetections(group, boxes, columns.scores[rows])
            best[rows], overlap[rows] = best_objects(objects, detections, pixel)
        return best, overlap


def _firsts(expected: IntArray, num_objects: int) -> BoolArray:
    """Which detections, in order, are the first to match their object; -1 is none."""
    wanting = np.flatnonzero(expected >= 0)
    first = np.zeros(num_objects, dtype=np.int64)
    # Of several numbers written to one place the last stays.
    first[expected[wanting[::-1]]] = wanting[::-1]
    is_first = np.zeros(len(expected), dtype=np.bool_)
    is_first[wanting] = first[expected[wanting]] == wanting
    return is_first
