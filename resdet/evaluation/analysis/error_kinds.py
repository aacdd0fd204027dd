"""What each detection is, right or which kind of error, and the state of each object.

By the definitions that `detection_errors` states, at two overlaps, t_f and t_b.

Terms: M detections that count, by falling score; G objects, rows of the ground truth.

Not for: what an error costs (`detection_errors`), or masks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from resdet.evaluation.coco import matching
from resdet.evaluation.coco.matching import OverlappingPairs
from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, IntArray
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.ground_truth import GroundTruth

ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(ERRORS))
# What else a detection can be; kinds are places in ERRORS or these.
RIGHT, NEITHER = -1, -2
# The state of an object: found, or the error. Places in STATES; -1 where it need not be found.
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
    truth: GroundTruth,
    columns: Columns,
    used: BoolArray,
    foreground: float,
    background: float,
    ignore_difficult: bool = False,
) -> Verdicts:
    """What each detection and object is.

    Args:
        used: (images,), those that are scored.
        foreground, background: t_f and t_b.
        ignore_difficult: as VOC's rules do: difficult objects need not be found, and whatever
            covers one best is neither right nor wrong.
    """
    asked = truth
    if ignore_difficult:
        # COCO's way to mark a single object that need not be found: larger than every range.
        area = np.where(truth.difficult, np.inf, truth.area)
        asked = dataclasses.replace(truth, area=area)
    rows = matching.ranking(truth, columns, used)
    pairs = matching.overlapping(truth, columns, rows, background)
    taken = matching.match(
        asked, columns, rows, pairs.where(pairs.iou >= foreground), np.array([foreground])
    )[0]
    need_not = matching.is_ignored(asked)
    on_difficult = np.zeros(len(rows), dtype=np.bool_)
    if ignore_difficult:
        on_difficult = _covers_difficult(truth, columns, rows, pairs, foreground)
    pairs = pairs.where(~need_not[pairs.object])
    same_class = columns.category[rows[pairs.detection]] == truth.category[pairs.object]
    own, own_object = _largest(pairs.where(same_class), len(rows))
    other, other_object = _largest(pairs.where(~same_class), len(rows))
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
    kinds[matching.is_too_large(columns)[rows] | on_difficult] = NEITHER
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


def _covers_difficult(
    truth: GroundTruth, columns: Columns, rows: IntArray, pairs: OverlappingPairs, foreground: float
) -> BoolArray:
    """(M,), whose largest overlap with an object of its class, t_f or more, is with a difficult
    one."""
    single = ~truth.crowd[pairs.object]
    same_class = columns.category[rows[pairs.detection]] == truth.category[pairs.object]
    overlap, item = _largest(pairs.where(single & same_class), len(rows))
    covers = overlap >= foreground
    covers[covers] = truth.difficult[item[covers]]
    return covers


def _largest(pairs: OverlappingPairs, num_detections: int) -> tuple[FloatArray, IntArray]:
    """Per detection the largest overlap, 0 without any, and its object: of equal ones the first."""
    order = np.lexsort((pairs.object, -pairs.iou, pairs.detection))
    detection, firsts = np.unique(pairs.detection[order], return_index=True)
    iou, row = np.zeros(num_detections), np.full(num_detections, -1, dtype=np.int64)
    iou[detection], row[detection] = pairs.iou[order[firsts]], pairs.object[order[firsts]]
    return iou, row


def _states(kinds: npt.NDArray[np.int_], meant: IntArray, finder: IntArray) -> npt.NDArray[np.int8]:
    """The state of each object; of several errors that mean it, the one of the highest score."""
    states = np.full(len(finder), STATES.index("missed"), dtype=np.int8)
    means = np.flatnonzero((kinds == CLASSIFICATION) | (kinds == LOCALISATION))
    objects, firsts = np.unique(meant[means], return_index=True)
    best = kinds[means[firsts]]
    states[objects] = np.where(
        best == CLASSIFICATION, STATES.index("classification"), STATES.index("localisation")
    )
    states[finder >= 0] = STATES.index("found")
    return states
