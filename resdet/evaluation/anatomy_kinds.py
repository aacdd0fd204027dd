"""What each detection is, right or which kind of error, and how each object fared.

By the definitions that `anatomy` states, at two overlaps, t_f and t_b.

Terms: M detections that count, by falling score; G objects, rows of the ground truth.

Not for: what an error costs (`anatomy`), or masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from resdet.evaluation import coco_pairs
from resdet.evaluation.arrays import BoolArray, FloatArray, IntArray
from resdet.evaluation.coco_pairs import Pairs
from resdet.evaluation.detections import Columns
from resdet.evaluation.ground_truth import GroundTruth

ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(ERRORS))
# What else a detection can be; kinds are places in ERRORS or these.
RIGHT, NEITHER = -1, -2
# How an object fared: found, or why not. Places in STATES; -1 where it need not be found.
STATES = ("found", "classification", "localisation", "missed")
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Verdicts:
    """Every detection and object with what it is.

    Attributes:
        rows: (M,) rows of the detections.
        kinds: (M,) places in ERRORS, RIGHT or NEITHER.
        meant: (M,) row of the object that a detection has, doubles or means; -1 for none.
        states: (G,) places in STATES; -1 for objects that need not be found.
        finder: (G,) place of the detection that has the object; -1 for none.
    """

    rows: IntArray
    kinds: npt.NDArray[np.int8]
    meant: IntArray
    states: npt.NDArray[np.int8]
    finder: IntArray


def judge(
    truth: GroundTruth, columns: Columns, used: BoolArray, foreground: float, background: float
) -> Verdicts:
    """What each detection and object is.

    Args:
        used: (images,), those that are scored.
        foreground, background: t_f and t_b.
    """
    rows = coco_pairs.ranking(truth, columns, used)
    pairs = coco_pairs.overlapping(truth, columns, rows, background)
    taken = coco_pairs.match(
        truth, columns, rows, pairs.where(pairs.iou >= foreground), np.array([foreground])
    )[0]
    need_not = coco_pairs.is_ignored(truth)
    pairs = pairs.where(~need_not[pairs.object])
    own_class = columns.category[rows[pairs.detection]] == truth.category[pairs.object]
    own, own_object = _largest(pairs.where(own_class), len(rows))
    other, other_object = _largest(pairs.where(~own_class), len(rows))
    kinds = np.select(
        [
            (own >= background) & (own <= foreground),
            other >= foreground,
            own >= foreground,
            np.maximum(own, other) <= background,
        ],
        [LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND],
        BOTH,
    )
    kinds[coco_pairs.is_too_large(columns)[rows]] = NEITHER
    kinds[taken >= 0] = np.where(need_not[taken[taken >= 0]], NEITHER, RIGHT)
    means_own = (kinds == LOCALISATION) | (kinds == DUPLICATE)
    meant = np.select(
        [taken >= 0, means_own, kinds == CLASSIFICATION], [taken, own_object, other_object], -1
    )
    finder = np.full(len(truth.image), -1, dtype=np.int64)
    right = np.flatnonzero(kinds == RIGHT)
    finder[taken[right]] = right
    states = _states(kinds, meant, finder)
    states[need_not | ~used[truth.image]] = -1
    return Verdicts(rows, kinds.astype(np.int8), meant, states, finder)


def _largest(pairs: Pairs, num_detections: int) -> tuple[FloatArray, IntArray]:
    """Per detection the largest overlap, 0 without any, and its object: of equal ones the first."""
    order = np.lexsort((pairs.object, -pairs.iou, pairs.detection))
    detection, firsts = np.unique(pairs.detection[order], return_index=True)
    iou, row = np.zeros(num_detections), np.full(num_detections, -1, dtype=np.int64)
    iou[detection], row[detection] = pairs.iou[order[firsts]], pairs.object[order[firsts]]
    return iou, row


def _states(kinds: npt.NDArray[np.int_], meant: IntArray, finder: IntArray) -> npt.NDArray[np.int8]:
    """How each object fared; of several errors that mean it, the one of the highest score."""
    states = np.full(len(finder), STATES.index("missed"), dtype=np.int8)
    means = np.flatnonzero((kinds == CLASSIFICATION) | (kinds == LOCALISATION))
    objects, firsts = np.unique(meant[means], return_index=True)
    best = kinds[means[firsts]]
    states[objects] = np.where(
        best == CLASSIFICATION, STATES.index("classification"), STATES.index("localisation")
    )
    states[finder >= 0] = STATES.index("found")
    return states
