"""COCO's twelve numbers, per-category AP and curves, by pycocotools: the number of record.

pycocotools gets clean input: results are validated, images, categories and annotations are
numbered from 1 in the order of their own ids (an annotation with id 0 would count as "not
found", `docs/faults.md` F58), and the caller's objects are left as they were. What it marks with -1
is None here. Detections of equal score are taken by image id, then as given (F59).

The engine "fast" (`fast_engine`) is for development. Before its numbers are given, it and
pycocotools both score a sample of the images, and everything must be equal: the twelve numbers,
the precision array and the recall array. The result states how many images that were.

Not for: any limit but 100 detections per image and class.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resdet import profile
from resdet.errors import CheckFailed, DataError, first_few
from resdet.evaluation.analysis.zero_ap import notes_on_zero
from resdet.evaluation.coco import fast_engine
from resdet.evaluation.coco.fast_engine import (
    OVERLAPS,
    RECALLS,
    Accumulated,
    CocoDetections,
    CocoObjects,
)
from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, ImageId, IntArray
from resdet.evaluation.inputs.detections import TASKS, Columns, load_columns
from resdet.evaluation.inputs.findings import Finding, refuse_if_any
from resdet.evaluation.inputs.ground_truth import GroundTruth, read_ground_truth
from resdet.evaluation.inputs.image_ids import EXACT, WORDS
from resdet.evaluation.inputs.masks import compressed, mask_area
from resdet.evaluation.inputs.validation import check_columns
from resdet.evaluation.voc.voc_result import no_detections
from resdet.formats.coco_masks import segmentation_fault

NUMBERS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
ENGINES = ("official", "fast")
# Of the sample: at most so many images, and so few detections that pycocotools takes a second.
CHECKED_IMAGES, CHECKED_DETECTIONS = 200, 5000
ROUNDING = 1e-12


@dataclass(frozen=True)
class CocoResult:
    """COCO's numbers; `to_json` is what `resdet evaluate coco --json` prints.

    numbers: AP, AP50, … ARl in [0, 1], None where nothing is defined.
    per_category: AP of each category, None for one without an object.
    precision: (10 overlaps, 101 recalls, categories), NaN where undefined; all sizes, 100
        detections per image and class.
    images: expected, evaluated, missing. notes: to be shown beside the numbers.
    accepted: faults of the results by rule (`findings.accept`). image_ids: how they named images.
    """

    task: str
    numbers: Mapping[str, float | None]
    per_category: Mapping[str, float | None]
    precision: FloatArray
    overlaps: FloatArray
    recalls: FloatArray
    images: Mapping[str, int]
    notes: tuple[str, ...] = ()
    warnings: tuple[Finding, ...] = ()
    engine: str = "official"
    accepted: Mapping[str, int] = field(default_factory=dict)
    image_ids: str = EXACT

    @property
    def protocol(self) -> str:
        return f"COCO {self.task}"

    def curve(self, category: str, iou: float = 0.5) -> tuple[FloatArray, FloatArray]:
        """Recall and interpolated precision of one category; empty where undefined."""
        names = list(self.per_category)
        if category not in names:
            raise ValueError(f"no category {category!r}; there are {', '.join(names)}")
        rows = np.flatnonzero(np.isclose(self.overlaps, iou))
        if len(rows) == 0:
            known = ", ".join(f"{t:.2f}" for t in self.overlaps)
            raise ValueError(f"iou is {iou}, expected one of {known}")
        precision = self.precision[rows[0], :, names.index(category)]
        if np.isnan(precision).any():
            return np.zeros(0), np.zeros(0)
        return self.recalls, precision

    def to_json(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "engine": self.engine,
            **self.numbers,
            "per_category": dict(self.per_category),
            "images": dict(self.images),
            **({"accepted": dict(self.accepted)} if self.accepted else {}),
            **({"image_ids": self.image_ids} if self.image_ids != EXACT else {}),
        }


def evaluate(
    gt: Mapping[str, Any] | Path | str | GroundTruth,
    results: Sequence[Any] | Path | str,
    *,
    task: str = "bbox",
    evaluated_ids: Sequence[ImageId] | None = None,
    subset: Sequence[ImageId] | None = None,
    engine: str = "official",
    accepted: Mapping[str, int] | None = None,
    image_ids: str = EXACT,
) -> CocoResult:
    """The twelve numbers of a results list, after it was validated.

    Args:
        gt: COCO's instances JSON: an object or a path.
        results: COCO's results list: dicts, or a path.
        task: "bbox", or "segm" for masks.
        evaluated_ids: the images that the detector saw; None when not recorded.
        subset: score these images only; else all must have been evaluated (F91).
        engine: "official" (pycocotools), or "fast", cross-checked on a sample.
        accepted: by rule of the checks, exactly so many faults are accepted (`findings.accept`).
        image_ids: how the results name images, one of `image_ids.WAYS`.

    Raises:
        DataError: a path does not exist; the ground truth is faulty, or has no masks for segm.
        CheckFailed: the results are refused, or the fast engine differs; the page gives the reason.
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}, expected one of {TASKS}")
    _refuse_unknown(engine)
    accepted = accepted or {}
    truth = read_ground_truth(gt, accepted)
    columns, findings, title = load_columns(
        results, truth.index, task, image_ids=image_ids, by_names=True
    )
    findings += check_columns(columns, truth.index, evaluated_ids, subset)
    warnings = refuse_if_any(title, findings, accepted)
    result = evaluate_columns(truth, columns, warnings, task=task, subset=subset, engine=engine)
    notes = result.notes
    if image_ids != EXACT:
        notes = (*notes, f"Image ids of the results were read as {WORDS[image_ids]}.")
    return replace(
        result, accepted={**truth.accepted, **accepted}, image_ids=image_ids, notes=notes
    )


def _refuse_unknown(engine: str) -> None:
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}, expected one of {ENGINES}")


def evaluate_columns(
    truth: GroundTruth,
    columns: Columns,
    warnings: Sequence[Finding] = (),
    *,
    task: str = "bbox",
    subset: Sequence[ImageId] | None = None,
    engine: str = "official",
) -> CocoResult:
    """The same for results that were read and validated already."""
    _refuse_unknown(engine)
    if task == "segm":
        _refuse_missing_masks(truth)
    used = np.ones(len(truth.index.image_ids), dtype=np.bool_)
    if subset is not None:
        chosen = set(subset)
        used = np.array([i in chosen for i in truth.index.image_ids], dtype=np.bool_)
    if engine == "fast":
        counted, engine = fast_and_checked(truth, columns, used, task)
    else:
        counted = official(truth, columns, used, task)
    precision = counted.precision[:, :, :, 0, -1]
    per_category = {
        name: _mean_of_defined(precision[:, :, k])
        for k, name in enumerate(truth.index.category_names)
    }
    stats = [None if value < 0 else float(value) for value in counted.numbers]
    images = {"expected": len(used), "evaluated": int(used.sum()), "missing": int((~used).sum())}
    num_detections = int(used[columns.image].sum())
    return CocoResult(
        task,
        dict(zip(NUMBERS, stats, strict=True)),
        per_category,
        np.where(precision < 0, np.nan, precision),
        OVERLAPS,
        RECALLS,
        images,
        (
            *_notes(truth, counted.absorbed, per_category, images, num_detections),
            *notes_on_zero(stats[1], truth, columns, used),
        ),
        tuple(warnings),
        engine,
    )


def _mean_of_defined(values: FloatArray) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _refuse_missing_masks(truth: GroundTruth) -> None:
    faults = []
    for row, segmentation in enumerate(truth.segmentations):
        fault = segmentation_fault(segmentation, truth.index.sizes[truth.image[row]])
        if fault:
            image_id = truth.index.image_ids[truth.image[row]]
            faults.append(f"annotation entry {row} (image {image_id}): {fault}")
    if faults:
        raise DataError(
            f"{truth.index.title}: {len(faults):,} of {len(truth.segmentations):,} objects have no "
            f"mask to score against. Use --task bbox, or add the masks.\n{first_few(faults)}"
        )


# -- the fast engine ---------------------------------------------------------------------------


def fast_and_checked(
    truth: GroundTruth, columns: Columns, used: BoolArray, task: str
) -> tuple[Accumulated, str]:
    """The fast engine's result, and its name with the number of images of the cross-check.

    Args:
        used: (images,), those that are scored.

    Raises:
        CheckFailed: it and pycocotools differ on the sample.
    """
    sample = _sample(truth, columns, used)
    with profile.span("cross-check"):
        ours, theirs = fast(truth, columns, sample, task), official(truth, columns, sample, task)
    parts = {
        "twelve numbers": (ours.numbers, theirs.numbers),
        "precision array": (ours.precision, theirs.precision),
        "recall array": (ours.recall, theirs.recall),
    }
    for part, (mine, official_) in parts.items():
        gap = float(np.abs(mine - official_).max(initial=0))
        if gap > ROUNDING:
            raise CheckFailed(
                f"The fast engine and pycocotools differ by {gap:.3g} in the {part} of "
                f"{int(sample.sum())} images, so its numbers are not shown. Use evaluate coco with "
                "--engine official, and report it: this is a fault of resdet."
            )
    count = int(sample.sum())
    name = f"fast (cross-checked on {count:,} {'image' if count == 1 else 'images'})"
    return (ours if (sample == used).all() else fast(truth, columns, used, task)), name


def _sample(truth: GroundTruth, columns: Columns, used: BoolArray) -> BoolArray:
    """Images with objects, evenly in the order of ids; a quarter of them with crowd regions."""
    total = len(used)
    order = np.argsort(truth.index.image_rank())
    with_objects = np.bincount(truth.image, minlength=total)[order] > 0
    with_crowds = np.bincount(truth.image[truth.crowd], minlength=total)[order] > 0
    per_image = max(1, int(used[columns.image].sum())) / max(1, int(used.sum()))
    limit = min(CHECKED_IMAGES, max(1, int(CHECKED_DETECTIONS / per_image)))
    sample = np.zeros(total, dtype=np.bool_)
    for chosen, count in ((with_crowds, limit // 4), (with_objects, limit)):
        places = order[chosen & used[order]]
        count = min(len(places), count - int(sample.sum()))
        sample[places[np.linspace(0, len(places) - 1, max(0, count)).round().astype(int)]] = True
    return sample if sample.any() else used


@profile.timed("fast engine")
def fast(truth: GroundTruth, columns: Columns, used: BoolArray, task: str) -> Accumulated:
    """`fast_engine` on the images that are used."""
    rank = truth.index.image_rank()
    objects, rows = _rows(used[truth.image]), _rows(used[columns.image])
    boxes = columns.boxes[rows]
    with np.errstate(over="ignore"):  # beyond every float: infinite, as in Python
        area = boxes[:, 2] * boxes[:, 3]
    gt_masks = masks = None
    if task == "segm":
        gt_masks = [_gt_mask(truth, row) for row in np.arange(len(truth.area))[objects].tolist()]
        masks = [_dt_mask(columns, row) for row in np.arange(len(columns))[rows].tolist()]
        area = np.array([mask_area(mask) for mask in masks], dtype=np.float64)
    return fast_engine.evaluate(
        CocoObjects(
            rank[truth.image[objects]], truth.category[objects], truth.boxes[objects],
            truth.area[objects], truth.crowd[objects], gt_masks,
        ),
        CocoDetections(
            rank[columns.image[rows]], columns.category[rows], boxes, area,
            columns.scores[rows], masks,
        ),
        len(truth.index.category_ids),
    )  # fmt: skip


def _rows(chosen: BoolArray) -> IntArray | slice:
    """Rows to take; all of them as a slice, so that nothing is copied."""
    return slice(None) if chosen.all() else np.flatnonzero(chosen)


def _gt_mask(truth: GroundTruth, row: int) -> dict[str, Any]:
    width, height = (int(v) for v in truth.index.sizes[truth.image[row]])
    return compressed(truth.segmentations[row], height, width)


def _dt_mask(columns: Columns, row: int) -> dict[str, Any]:
    mask = (columns.segmentations or [])[row]
    height, width = (int(v) for v in mask["size"])
    return compressed(mask, height, width)


# -- pycocotools -------------------------------------------------------------------------------


@profile.timed("pycocotools")
def official(truth: GroundTruth, columns: Columns, used: BoolArray, task: str) -> Accumulated:
    """pycocotools on the images that are used, its prints swallowed."""
    engine = official_engine(truth, columns, used, task)
    with contextlib.redirect_stdout(io.StringIO()):
        with profile.span("match"):
            engine.evaluate()
        with profile.span("sum up"):
            engine.accumulate()
            engine.summarize()
    return Accumulated(
        engine.eval["precision"], engine.eval["recall"], engine.stats, _absorbed(engine)
    )


def official_engine(truth: GroundTruth, columns: Columns, used: BoolArray, task: str) -> Any:
    """pycocotools' evaluator over clean input, before it runs; its parameters may be set."""
    # Images in the order of their ids: pycocotools breaks ties between images by it.
    number = truth.index.image_rank() + 1
    images = [
        {"id": int(number[i]), "width": width, "height": height}
        for i, (width, height) in enumerate(truth.index.sizes.tolist())
        if used[i]
    ]
    categories = [{"id": k} for k in range(1, len(truth.index.category_ids) + 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        gt_api, dt_api = COCO(), COCO()
        gt_api.dataset = {
            "images": images,
            "categories": categories,
            "annotations": _gt_records(truth, used, number, task),
        }
        dt_api.dataset = {
            "images": images,
            "categories": categories,
            "annotations": _dt_records(columns, used, number, task),
        }
        gt_api.createIndex()
        dt_api.createIndex()
        return COCOeval(gt_api, dt_api, task)


def _gt_records(
    truth: GroundTruth, used: BoolArray, number: IntArray, task: str
) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    boxes, areas = truth.boxes.tolist(), truth.area.tolist()
    for row in np.flatnonzero(used[truth.image]).tolist():
        image = truth.image[row]
        record = {
            "id": len(records) + 1,
            "image_id": int(number[image]),
            "category_id": int(truth.category[row]) + 1,
            "bbox": boxes[row],
            "area": areas[row],
            "iscrowd": int(truth.crowd[row]),
        }
        if task == "segm":
            record["segmentation"] = _gt_mask(truth, row)
        records.append(record)
    return records


def _dt_records(
    columns: Columns, used: BoolArray, number: IntArray, task: str
) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    boxes, scores = columns.boxes.tolist(), columns.scores.tolist()
    for row in np.flatnonzero(used[columns.image]).tolist():
        record = {
            "id": len(records) + 1,
            "image_id": int(number[columns.image[row]]),
            "category_id": int(columns.category[row]) + 1,
            "bbox": boxes[row],
            "area": boxes[row][2] * boxes[row][3],
            "score": scores[row],
            "iscrowd": 0,
        }
        if task == "segm":
            record["segmentation"] = _dt_mask(columns, row)
            record["area"] = mask_area(record["segmentation"])
        records.append(record)
    return records


def _notes(
    truth: GroundTruth,
    absorbed: int,
    per_category: Mapping[str, float | None],
    images: Mapping[str, int],
    num_detections: int,
) -> list[str]:
    notes = ["Best 100 detections per image and class."]
    if images["evaluated"] < images["expected"]:
        notes.append(f"On {images['evaluated']:,} of {images['expected']:,} images.")
    if num_detections == 0:
        notes.append(no_detections(images["evaluated"]))
    undefined = [name for name, ap in per_category.items() if ap is None]
    if len(undefined) == len(per_category):
        notes.append("AP is undefined: no category has an object to find.")
    elif undefined:
        notes.append(
            f"Mean of {len(per_category) - len(undefined)} of {len(per_category)} categories; no "
            f"objects of: {', '.join(undefined)}."
        )
    if truth.crowd.any():
        notes.append(
            f"{int(truth.crowd.sum()):,} crowd regions, which took {absorbed:,} "
            "detections at overlap 0.5."
        )
    if truth.sizes_by_box_area:
        notes.append("Sizes by box area: APs, APm, APl are not comparable with COCO's.")
    notes += truth.notes
    return notes + [f"Repaired in reading: {n:,} x {what}." for what, n in truth.repairs.items()]


def _absorbed(engine: Any) -> int:
    """Detections that a crowd region took, so that they are neither right nor wrong."""
    crowds = [a["id"] for a in engine.cocoGt.dataset["annotations"] if a["iscrowd"]]
    every_size = engine.params.areaRng[0]
    return sum(
        int(np.isin(e["dtMatches"][0], crowds).sum())
        for e in engine.evalImgs
        if e is not None and e["aRng"] == every_size
    )
