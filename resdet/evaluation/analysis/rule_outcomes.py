"""What each detection counts as under one rule, and what the order of equal scores can do.

    right     the first on an object to find
    wrong     on nothing, or not the first
    neither   on a difficult object, or in a crowd
    cut off   beyond the number of detections that a rule takes

Rules decide which detections are right and wrong (`voc_rules`, `coco_rules`); here that becomes
AP50, its range over all orders of equal scores, and a verdict for each detection.

Terms: M detections that a rule takes, by class and falling score; K classes; G objects.

Not for: matching, or the numbers of record (`voc_evaluation`, `coco_evaluation`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, IntArray

WRONG, RIGHT, NEITHER, CUT = range(4)
VERDICTS = ("wrong", "right", "neither", "cut off")
# Numbers from here on are written by Python, not in one go.
_LARGE = 1e12

# AP of one class: right ones, wrong ones, in order, and how many objects there are to find.
Average = Callable[[BoolArray, BoolArray, int], float]


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
    verdict: npt.NDArray[np.int8]
    tied: BoolArray
    merged: BoolArray
    positives: int  # objects to find, of all classes
    num_classes: int  # that the mean is over


@dataclass(frozen=True)
class Taken:
    """What a rule makes of a list of detections.

    Attributes:
        rows: (M,) rows of the detections, by class, then by falling score.
        right, wrong: (M,); what is neither is neither.
        starts: (K + 1,) where each class begins, and the end.
        positives: (K,) objects to find.
        expected: gives (M,) the object that each would take if it came first, -1 for none; asked
            only where equal scores are right and wrong.
    """

    rows: IntArray
    right: BoolArray
    wrong: BoolArray
    starts: IntArray
    positives: IntArray
    expected: Callable[[], IntArray]


def judged(
    taken: Taken, scores: FloatArray, exact: FloatArray, averages: Sequence[Average]
) -> list[Judged]:
    """AP50 by each way to average, with the verdicts, which do not depend on it.

    Args:
        scores: of all detections, those that rank; they may have been rounded.
        exact: the scores before that.
        averages: AP of a class, one or several.
    """
    rows, right, wrong = taken.rows, taken.right, taken.wrong
    verdict = np.full(len(scores), CUT, dtype=np.int8)
    verdict[rows] = np.where(right, RIGHT, np.where(wrong, WRONG, NEITHER))
    starts = _ties(scores[rows], taken.starts)
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(rows)))
    mixed = np.bincount(group, right) * np.bincount(group, wrong) > 0
    in_mixed = mixed[group]
    tied, merged = np.zeros((2, len(scores)), dtype=np.bool_)
    tied[rows] = in_mixed & (right | wrong)
    if len(rows):
        given = exact[rows]
        spread = np.maximum.reduceat(given, starts) - np.minimum.reduceat(given, starts)
        merged[rows] = tied[rows] & (spread > 0)[group]
    best = worst = np.arange(len(rows))
    if in_mixed.any():
        best, worst = _extreme_orders(np.flatnonzero(in_mixed), right, group, taken.expected())
    classes = np.flatnonzero(taken.positives)
    counts = (int(taken.positives.sum()), len(classes))
    values = np.zeros((len(averages), len(classes), 3))
    for place, k in enumerate(classes.tolist()):
        mine = slice(taken.starts[k], taken.starts[k + 1])
        orders = [right[mine], wrong[mine]]
        ranges = [(right[o[mine]], wrong[o[mine]]) for o in (worst, best)]
        has_range = in_mixed[mine].any()
        for a, average in enumerate(averages):
            values[a, place] = average(orders[0], orders[1], int(taken.positives[k]))
            if has_range:
                values[a, place, 1:] = [average(r, w, int(taken.positives[k])) for r, w in ranges]
    results = []
    for each in values:
        ap50 = low = high = None
        if len(classes):
            ap50, low, high = (float(v) for v in np.mean(each, axis=0))
        results.append(Judged(ap50, low, high, verdict, tied, merged, *counts))
    return results


def _ties(scores: FloatArray, classes: IntArray) -> IntArray:
    """Where each run of equal scores of one class begins."""
    begins = np.ones(len(scores), dtype=np.bool_)
    begins[1:] = scores[1:] != scores[:-1]
    begins[classes[classes < len(scores)]] = True
    return np.flatnonzero(begins)


def _extreme_orders(
    places: IntArray, right: BoolArray, group: IntArray, expected: IntArray
) -> tuple[IntArray, IntArray]:
    """(M,) each: the right ones of every tie first, and last; only `places` are in mixed ties."""
    best, worst = np.arange(len(right)), np.arange(len(right))
    right, group, expected = right[places], group[places], expected[places]
    best[places] = places[np.lexsort((~right, group))]
    worst[places] = places[worst_order(right, group, expected)]
    return best, worst


def worst_order(right: BoolArray, group: IntArray, expected: IntArray) -> IntArray:
    """The order within ties that has the right ones as late as they can be.

    Of the detections of a tie that match one object the first is right, whichever that is, so no
    order has all of them behind it. First come those that are wrong in every order, then object
    by object its right one and the others that match it, the object with most of them first.

    Args:
        right: in the order of falling score. group: number of each one's tie.
        expected: number of the object that each would take if it came first, -1 for none.
    """
    takers = np.full(int(expected.max(initial=-1)) + 1, -1, dtype=np.int64)
    takers[expected[right]] = group[right]
    follows = np.zeros(len(right), dtype=np.bool_)
    wanting = (expected >= 0) & ~right
    follows[wanting] = takers[expected[wanting]] == group[wanting]
    chained = right | follows
    followers = np.bincount(expected[follows], minlength=len(takers))
    number = np.where(chained, expected, 0)
    size = np.where(chained, followers[number] if len(followers) else 0, 0)
    return np.lexsort((~right, number, -size, chained, group))


def as_written(values: FloatArray, decimals: int | None) -> FloatArray:
    """Numbers as they read back from a file that gives them so many decimals; None: all."""
    if decimals is None:
        return values
    scaled = values * 10.0**decimals
    written = np.rint(scaled) / 10.0**decimals
    # Python rounds what the number is, not what the product was rounded to: at a half that decides.
    halves = np.abs(np.abs(scaled - np.trunc(scaled)) - 0.5) < 1e-3
    unsure = np.flatnonzero((halves | (np.abs(scaled) >= _LARGE)).ravel())
    texts = (f"{v:.{decimals}f}" for v in values.ravel()[unsure].tolist())
    written.flat[unsure] = [float(t) for t in texts]
    return written
