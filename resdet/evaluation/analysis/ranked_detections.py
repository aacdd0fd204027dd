"""A detector as judged detections by falling score, by the rules of VOC, COCO or ILSVRC DET.

Matching is done once; what is drawn from these later (`image_noise`) is not matched again, as
matching never looks beyond one image.

Terms: M detections of a class, N images, T overlaps.

Not for: the rules themselves (`class_scores`, `matching`, `ilsvrc_metrics`), or AP (`image_noise`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from resdet.evaluation.coco import matching
from resdet.evaluation.ilsvrc.ilsvrc_files import DetResults
from resdet.evaluation.ilsvrc.ilsvrc_metrics import DetTruth, judged_classes
from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, ImageId, IntArray
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.ground_truth import GroundTruth, SetIndex
from resdet.evaluation.voc.class_scores import ClassDetections, ClassObjects, judge
from resdet.evaluation.voc.voc_arrays import VocDetections, VocGroundTruth


@dataclass(frozen=True)
class Ranked:
    """One class of one detector: its detections by falling score, judged.

    Attributes:
        image: (M,) place of the image, 0 to N - 1, by id.
        right: (T, M) took an object.
        ignored: (T, M) neither right nor wrong: on a crowd, or on a difficult object.
        positives: (N,) objects to find, per image.
    """

    image: IntArray
    right: BoolArray
    ignored: BoolArray
    positives: IntArray


# Class name to its detections; classes that were not scored are not in it.
Detector = Mapping[str, Ranked]


def _numbered(index: SetIndex, used: BoolArray) -> IntArray:
    """(images,), place of each image that is scored among those, by id: two files of a set may
    name its images in another order, and a draw must mean the same ones."""
    by_id = np.argsort(index.image_rank())
    number = np.empty(len(used), dtype=np.int64)
    number[by_id] = np.cumsum(used[by_id]) - 1
    return number


def rank_voc(
    truth: VocGroundTruth,
    detections: VocDetections,
    *,
    style: str = "d2",
    iou: float = 0.5,
    subset: Sequence[ImageId] | None = None,
) -> dict[str, Ranked]:
    """A detector by VOC's rules, its detections taken as `voc.evaluate` takes them.

    Args:
        truth, detections: read and validated.
        style: of the comparison, "d2" or "devkit" (`voc_evaluation`).
        subset: the images that were scored, when not all; only these can be drawn.
    """
    used = matching.used_images(truth.index, subset)
    number = _numbered(truth.index, used)
    places: dict[ImageId, int] = {str(i): n for n, i in enumerate(truth.image_ids)}
    places |= {i: n for n, i in enumerate(truth.image_ids)}
    image = np.array([places[i] for i in detections.image_ids], dtype=np.int64)
    rank = truth.index.image_rank()
    ranked = {}
    for label, name in enumerate(truth.classes):
        if name not in detections.classes or name in detections.unread:
            continue
        true = np.flatnonzero((truth.label == label) & used[truth.image])
        mine = np.flatnonzero((detections.label == detections.classes.index(name)) & used[image])
        mine = mine[np.lexsort((rank[image[mine]], -detections.scores[mine]))]
        difficult = truth.difficult[true]
        right, wrong = judge(
            ClassObjects(truth.image[true], truth.boxes[true], difficult),
            ClassDetections(image[mine], detections.boxes[mine], detections.scores[mine]),
            iou,
            style,
        )
        counted = right | wrong
        positives = np.bincount(number[truth.image[true][~difficult]], minlength=int(used.sum()))
        right = right[None, counted]
        ranked[name] = Ranked(number[image[mine[counted]]], right, np.zeros_like(right), positives)
    return ranked


def rank_coco(
    truth: GroundTruth,
    columns: Columns,
    *,
    overlaps: FloatArray = matching.OVERLAPS,
    subset: Sequence[ImageId] | None = None,
) -> dict[str, Ranked]:
    """A detector by COCO's rules, over all sizes and 100 detections per image and class.

    By masks where the columns have them (`Columns.segmentations`), else by boxes.

    Args:
        truth, columns: read and validated.
        overlaps: (T,) ascending; COCO's ten.
        subset: the images that were scored, when not all; only these can be drawn.
    """
    used = matching.used_images(truth.index, subset)
    number = _numbered(truth.index, used)
    rows = matching.ranking(truth, columns, used)
    pairs = matching.overlapping(truth, columns, rows, float(overlaps[0]))
    taken = matching.match(truth, columns, rows, pairs, overlaps)
    need_not = matching.is_ignored(truth)
    ignored = np.zeros(taken.shape, dtype=np.bool_)
    ignored[taken >= 0] = need_not[taken[taken >= 0]]
    right = (taken >= 0) & ~ignored
    ignored |= (taken < 0) & matching.is_too_large(columns)[rows]
    to_find = used[truth.image] & ~need_not
    ranked = {}
    for category, name in enumerate(truth.index.category_names):
        mine = np.flatnonzero(columns.category[rows] == category)
        true = np.flatnonzero(to_find & (truth.category == category))
        ranked[name] = Ranked(
            number[columns.image[rows[mine]]],
            right[:, mine],
            ignored[:, mine],
            np.bincount(number[truth.image[true]], minlength=int(used.sum())),
        )
    return ranked


def rank_det(
    index: SetIndex,
    truth: DetTruth,
    results: DetResults,
    *,
    blacklist: Iterable[tuple[int, int]] = (),
) -> dict[str, Ranked]:
    """A detector by ILSVRC DET's rules, its detections taken as `evaluate_det` takes them.

    Args:
        index: of the set, whose images `truth` and `results` count from 1.
        truth, results, blacklist: read and validated.
    """
    number = _numbered(index, np.ones(truth.num_images, dtype=np.bool_))
    ranked = {}
    for one in judged_classes(truth, results, blacklist):
        right = one.right[None]
        positives = np.bincount(number[truth.image[one.objects] - 1], minlength=truth.num_images)
        ranked[index.category_names[one.label - 1]] = Ranked(
            number[results.image[one.detections] - 1], right, np.zeros_like(right), positives
        )
    return ranked
