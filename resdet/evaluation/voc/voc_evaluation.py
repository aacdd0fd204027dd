"""PASCAL VOC's average precision, exact and vectorised.

The devkit's rules, with full-precision scores (VOC's `VOCap.m`; `docs/faults.md` F51 to F54, F88 to
F91). Each detection takes the object of its image and class with the largest overlap, found
already or not; the first to take one that is not difficult is right, later ones are wrong, and
those on difficult objects are neither. Detections are taken by falling score; equal scores by
image id, then in the order given. Classes without an object to find have no AP and are left
out of the mean.

Two styles, both with VOC's inclusive pixels (width = xmax - xmin + 1):

    d2      overlap > threshold; recalls compared with 0, 0.1, … as floats (Detectron2)
    devkit  overlap >= threshold; 11-point recalls compared as integers, 10 tp >= k positives

Not for: reading files (`voc_arrays`, `detection_files`; their functions are offered here too).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from resdet import profile
from resdet.errors import CheckFailed
from resdet.evaluation.analysis.zero_ap import notes_on_zero
from resdet.evaluation.inputs.arrays import ImageId, IntArray
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.findings import TRUTH, WARN, Finding, finding, refuse_if_any, share
from resdet.evaluation.inputs.validation import check_columns
from resdet.evaluation.voc.class_scores import (
    AP_RULES,
    STYLES,
    ClassDetections,
    ClassObjects,
    ClassScore,
    Curve,
    not_scored,
    score_class,
)
from resdet.evaluation.voc.detection_files import read_detections, write_detections
from resdet.evaluation.voc.voc_arrays import (
    VocDetections,
    VocGroundTruth,
    detections_from_boxes,
    detections_from_columns,
    did_you_mean,
    ground_truth_from_boxes,
    ground_truth_from_coco,
    inclusive,
    read_devkit_ground_truth,
)
from resdet.evaluation.voc.voc_result import VocResult

# Detectron2's and COCO's ten.
OVERLAPS = tuple(percent / 100 for percent in range(50, 100, 5))

__all__ = [
    "AP_RULES", "OVERLAPS", "STYLES", "ClassScore", "Curve", "VocDetections", "VocGroundTruth",
    "VocResult", "check_detections", "detections_from_boxes", "detections_from_columns",
    "evaluate", "evaluate_at", "ground_truth_from_boxes", "ground_truth_from_coco", "inclusive",
    "read_detections", "read_devkit_ground_truth", "write_detections",
]  # fmt: skip


def evaluate(
    ground_truth: VocGroundTruth,
    detections: VocDetections,
    *,
    ap: str = "11-point",
    iou: float = 0.5,
    style: str = "d2",
    subset: Sequence[ImageId] | None = None,
    accepted: Mapping[str, int] | None = None,
) -> VocResult:
    """AP of each class and their mean, after the detections were validated.

    Args:
        ground_truth: the objects of the set.
        detections: of the same classes; a class that they do not have is not scored.
        ap: "11-point" (VOC 2007) or "area" (2010 and later).
        iou: the overlap that a right detection has, above 0 and at most 1.
        style: "d2" or "devkit", see the module.
        subset: score these images only; else all must have been evaluated (F91).
        accepted: by rule of the checks, exactly so many faults are accepted (`findings.accept`).

    Raises:
        CheckFailed: the detections are refused: not finite, on unknown images, images missing.
    """
    return evaluate_at(
        ground_truth, detections, [iou], ap=ap, style=style, subset=subset, accepted=accepted
    )[0]


def evaluate_at(
    ground_truth: VocGroundTruth,
    detections: VocDetections,
    ious: Sequence[float] = OVERLAPS,
    *,
    ap: str = "11-point",
    style: str = "d2",
    subset: Sequence[ImageId] | None = None,
    accepted: Mapping[str, int] | None = None,
) -> list[VocResult]:
    """What `evaluate` gives at each of `ious`; validation and overlaps are had once for all.

    The mean of the results' `mean_ap` over OVERLAPS is Detectron2's "AP" of a VOC set.
    """
    _refuse_unknown_choices(ap, ious, style)
    stated = {r: n for r, n in (accepted or {}).items() if r.startswith(TRUTH)}
    if stated and stated != dict(ground_truth.accepted):
        raise CheckFailed(
            f"{ground_truth.index.title} was read with {dict(ground_truth.accepted) or 'nothing'} "
            f"accepted, and {stated} is stated now. State the same, or nothing."
        )
    columns, kept, findings = _columns(ground_truth, detections)
    findings += check_columns(columns, ground_truth.index, detections.evaluated, subset)
    findings += _classes_without_a_file(ground_truth, detections)
    warnings = refuse_if_any(detections.title, findings, accepted)
    boxes = detections.boxes[kept]  # as written: half-open ones would have been rounded twice
    used = np.ones(len(ground_truth.image_ids), dtype=np.bool_)
    if subset is not None:
        chosen = set(subset)
        used = np.array([i in chosen for i in ground_truth.image_ids], dtype=np.bool_)
    rank = ground_truth.index.image_rank()
    scores: dict[str, list[ClassScore]] = {}
    for label, name in enumerate(ground_truth.classes):
        true = np.flatnonzero((ground_truth.label == label) & used[ground_truth.image])
        objects = ClassObjects(
            ground_truth.image[true], ground_truth.boxes[true], ground_truth.difficult[true]
        )
        if name not in detections.classes or name in detections.unread:
            scores[name] = [not_scored(objects)] * len(ious)
            continue
        mine = np.flatnonzero((columns.category == label) & used[columns.image])
        # Stable: score down, then image id, then the order given (F52).
        mine = mine[np.lexsort((rank[columns.image[mine]], -columns.scores[mine]))]
        class_detections = ClassDetections(columns.image[mine], boxes[mine], columns.scores[mine])
        with profile.span("match and sum up"):
            scores[name] = score_class(objects, class_detections, ap, ious, style)
    images = {"expected": len(used), "evaluated": int(used.sum()), "missing": int((~used).sum())}
    results = []
    for place, iou in enumerate(ious):
        classes = {name: each[place] for name, each in scores.items()}
        result = VocResult(
            ap,
            iou,
            style,
            classes,
            images,
            tuple(warnings),
            accepted={**ground_truth.accepted, **(accepted or {})},
        )
        if iou == 0.5:  # what a zero means elsewhere is another question
            causes = notes_on_zero(result.mean_ap, ground_truth, columns, used)
            result = dataclasses.replace(result, causes=tuple(causes))
        results.append(result)
    return results


def _refuse_unknown_choices(ap: str, ious: Sequence[float], style: str) -> None:
    if ap not in AP_RULES:
        raise ValueError(f"ap is {ap!r}, expected one of {AP_RULES}")
    if style not in STYLES:
        raise ValueError(f"style is {style!r}, expected one of {STYLES}")
    for iou in ious:
        if not 0 < iou <= 1:
            raise ValueError(f"iou is {iou}, expected a number above 0 and at most 1")


def check_detections(
    ground_truth: VocGroundTruth,
    detections: VocDetections,
    subset: Sequence[ImageId] | None = None,
) -> list[Finding]:
    """What is wrong with the detections; an empty list when they are clean."""
    columns, _, findings = _columns(ground_truth, detections)
    return findings + check_columns(columns, ground_truth.index, detections.evaluated, subset)


def _classes_without_a_file(
    ground_truth: VocGroundTruth, detections: VocDetections
) -> list[Finding]:
    """They are in no mean, which a file that was lost on the way would so raise."""
    present = {ground_truth.classes[label] for label in np.unique(ground_truth.label)}
    names = [name for name in detections.unread if name in present]
    if not names:
        return []
    return [
        Finding(
            "no-file", len(names), names[:5],
            "Where all classes are meant, write a file for each, an empty one where nothing was "
            "found.",
            WARN, f"{share(len(names), len(ground_truth.classes), 'classes')} have objects and no "
            "file, and are left out of the mean.",
        )
    ]  # fmt: skip


def _columns(
    ground_truth: VocGroundTruth, detections: VocDetections
) -> tuple[Columns, IntArray, list[Finding]]:
    """Detections with images and classes numbered as the ground truth's, faulty ones left out;
    with the rows that were kept."""
    classes = {name: i for i, name in enumerate(ground_truth.classes)}
    strange = [name for name in detections.classes if name not in classes]
    if strange:
        raise CheckFailed(
            f'{detections.title}: class "{strange[0]}" is not among the {len(classes)} classes of '
            f"{ground_truth.index.title}{did_you_mean(strange[0], list(classes))} "
            f"The classes: {', '.join(classes)}."
        )
    label = np.array([classes[name] for name in detections.classes], dtype=np.int64)
    places: dict[ImageId, int] = {str(i): n for n, i in enumerate(ground_truth.image_ids)}
    places |= {i: n for n, i in enumerate(ground_truth.image_ids)}
    image = np.array([places.get(i, -1) for i in detections.image_ids], dtype=np.int64)
    findings: list[Finding] = []
    total = len(image)
    rows = np.flatnonzero(image < 0)
    if len(rows):
        findings.append(
            finding(
                "unknown-image", rows,
                lambda r: f"{detections.name(r)}: image {detections.image_ids[r]} is not "
                f"among the {len(places):,} images of {ground_truth.index.title}",
                f"Images that the set does not have: {share(len(rows), total)}.",
                "Is it the right --root and --split? Results of another set cannot be scored.",
                leaves_out=True,
            )
        )  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):  # a width may be beyond every float
        low, high = detections.boxes[:, :2], detections.boxes[:, 2:]
        half_open = np.concatenate([low - 1, high - low + 1], axis=1)
    finite = np.isfinite(detections.scores) & np.isfinite(half_open).all(axis=1)
    rows = np.flatnonzero(~finite)
    if len(rows):
        findings.append(
            finding(
                "not-finite", rows,
                lambda r: f"{detections.name(r)}: score {detections.scores[r]:g}, box "
                f"{' '.join(f'{v:g}' for v in detections.boxes[r])}",
                f"Scores or boxes that are NaN or infinite: {share(len(rows), total)}.",
                "They come from the model: look for a loss that was not finite in its log.",
                leaves_out=True,
            )
        )  # fmt: skip
    kept = np.flatnonzero(finite & (image >= 0))
    columns = Columns(
        image[kept], label[detections.label[kept]], half_open[kept], detections.scores[kept],
        lambda row: detections.name(int(kept[row])), origin=1.0, entries=kept,
        left_out=total - len(kept),
    )  # fmt: skip
    return columns, kept, findings
