"""What each detection counts as under one of VOC's rules, and what the order of ties can do.

    right     the first on an object to find
    wrong     on nothing, or not the first
    neither   on a difficult object, or in a crowd
    cut off   beyond the number of detections that a rule takes

`voc` gives the number of record; here its rules can be changed one by one, to say what another
tool's number is made of (`explain`), or where a zero comes from (`zero`).

Not for: COCO's rules (`explain` asks pycocotools), or validation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from resdet.evaluation.arrays import BoolArray, FloatArray, IntArray
from resdet.evaluation.detections import Columns
from resdet.evaluation.voc_matching import (
    Found,
    Objects,
    average_precision,
    best_objects,
    judge,
)
from resdet.evaluation.voc_sets import VocGroundTruth, inclusive

WRONG, RIGHT, NEITHER, CUT = range(4)
VERDICTS = ("wrong", "right", "neither", "cut off")

Average = Callable[[BoolArray, BoolArray], float]


@dataclass(frozen=True)
class Judged:
    """The same detections under one rule; row i of each array is detection i.

    ap50: mean over the classes with an object to find, in [0, 1]; None without such a class.
    low, high: the least and the largest AP50 over all orders of equal scores.
    tied: equal scores of one class that are right and wrong. merged: such a tie, made by rounding.
    """

    ap50: float | None
    low: float | None
    high: float | None
    verdict: IntArray
    tied: BoolArray
    merged: BoolArray
    positives: int  # objects to find, of all classes
    num_classes: int  # that the mean is over


@dataclass(frozen=True)
class VocRule:
    """VOC's rule for AP50; as it stands, the devkit's of 2010 and later.

    ap: "area" or "11-point". strict: overlap > 0.5 instead of >=. pixel: added to widths, 1.
    float_recalls: 11 points compared as floats (`faults.md` F54). The decimals that scores and
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
    corners = np.concatenate(
        [columns.boxes[:, :2], columns.boxes[:, :2] + columns.boxes[:, 2:]], axis=1
    )
    boxes = as_written(inclusive(corners), rule.box_decimals)
    scores = as_written(columns.scores, rule.score_decimals)
    rank = truth.index.image_rank()
    sheet = Sheet(columns.scores, scores)
    for label in range(len(truth.classes)):
        true = np.flatnonzero(truth.label == label)
        objects = Objects(truth.image[true], truth.boxes[true], truth.difficult[true])
        rows = np.flatnonzero(columns.category == label)
        rows = rows[np.lexsort((rank[columns.image[rows]], -scores[rows]))]
        found = Found(columns.image[rows], boxes[rows], scores[rows])
        right, wrong = judge(objects, found, 0.5, "d2" if rule.strict else "devkit", rule.pixel)
        positives = int((~objects.difficult).sum())
        average = partial(
            average_precision, positives=positives, rule=rule.ap,
            style="d2" if rule.float_recalls else "devkit",
        )  # fmt: skip
        wanted = partial(_wanted, objects, found, rule)
        sheet.enter(rows, right, wrong, positives, average, wanted)
    return sheet.judged()


def _wanted(objects: Objects, found: Found, rule: VocRule) -> IntArray:
    """The object to find that each detection would take if it came first; -1 for none."""
    best, overlap = best_objects(objects, found, rule.pixel)
    hit = overlap > 0.5 if rule.strict else overlap >= 0.5
    hit &= best >= 0
    hit[hit] = ~objects.difficult[best[hit]]
    return np.where(hit, best, -1)


def as_written(values: FloatArray, decimals: int | None) -> FloatArray:
    """Numbers as they read back from a file that gives them so many decimals; None: all."""
    if decimals is None:
        return values
    texts = (f"{v:.{decimals}f}" for v in values.ravel().tolist())
    return np.array([float(t) for t in texts], dtype=np.float64).reshape(values.shape)


class Sheet:
    """Collects the verdicts of class after class."""

    def __init__(self, exact: FloatArray, scores: FloatArray):
        """exact: the scores given; scores: those that rank, which may be rounded."""
        self.exact, self.scores = exact, scores
        self.verdict = np.full(len(scores), CUT, dtype=np.int64)
        self.tied = np.zeros(len(scores), dtype=np.bool_)
        self.merged = np.zeros(len(scores), dtype=np.bool_)
        self.values: list[tuple[float, float, float]] = []
        self.positives = 0

    def enter(
        self,
        rows: IntArray,
        right: BoolArray,
        wrong: BoolArray,
        positives: int,
        average: Average,
        wanted: Callable[[], IntArray],
    ) -> None:
        """One class: its detections by falling score, and what they are.

        positives: its objects to find; without any it has no AP. average: AP of right and wrong
        ones in order. wanted: see `worst_order`; asked only where ties mix right and wrong.
        """
        self.verdict[rows] = np.where(right, RIGHT, np.where(wrong, WRONG, NEITHER))
        group = np.cumsum(np.diff(self.scores[rows], prepend=np.inf) != 0) - 1
        mixed = np.bincount(group, right) * np.bincount(group, wrong) > 0
        self.tied[rows] = mixed[group] & (right | wrong)
        exact = self.exact[rows]
        if len(rows):
            starts = np.flatnonzero(np.diff(group, prepend=-1))
            spread = np.maximum.reduceat(exact, starts) - np.minimum.reduceat(exact, starts)
            self.merged[rows] = self.tied[rows] & (spread > 0)[group]
        if positives == 0:
            return
        self.positives += positives
        value = low = high = average(right, wrong)
        if mixed.any():
            best, worst = np.lexsort((~right, group)), worst_order(right, group, wanted())
            high, low = (average(right[order], wrong[order]) for order in (best, worst))
        self.values.append((value, low, high))

    def judged(self) -> Judged:
        ap50 = low = high = None
        if self.values:
            ap50, low, high = (float(v) for v in np.mean(self.values, axis=0))
        return Judged(
            ap50, low, high, self.verdict, self.tied, self.merged, self.positives, len(self.values)
        )


def worst_order(right: BoolArray, group: IntArray, wanted: IntArray) -> IntArray:
    """The order within ties that has the right ones as late as they can be.

    Of the detections of a tie that want one object the first is right, whichever that is, so no
    order has all of them behind it. First come those that are wrong in every order, then object
    by object its right one and the others that want it, the most wanted object first.

    Args:
        right: in the order of falling score. group: number of each one's tie.
        wanted: number of the object that each would take if it came first, -1 for none.
    """
    takers = np.full(int(wanted.max(initial=-1)) + 1, -1, dtype=np.int64)
    takers[wanted[right]] = group[right]
    follows = np.zeros(len(right), dtype=np.bool_)
    wanting = (wanted >= 0) & ~right
    follows[wanting] = takers[wanted[wanting]] == group[wanting]
    chained = right | follows
    followers = np.bincount(wanted[follows], minlength=len(takers))
    number = np.where(chained, wanted, 0)
    size = np.where(chained, followers[number] if len(followers) else 0, 0)
    return np.lexsort((~right, number, -size, chained, group))
