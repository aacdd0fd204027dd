"""The result folder of a run: what lies in it, and its metrics from its files alone.

    images.json                     ids expected and evaluated; faults that were accepted, by rule
    ground_truth.json.gz            COCO-style, with `difficult`; info lists the set's metrics
    coco_instances_results.json     the detections, COCO's format; with masks, if info has masks
    comp4_det_test_<class>.txt      the same in VOC's, where VOC's metric is meant
    ilsvrc_det.txt                  the same in ILSVRC DET's, where its metric is meant

The trainer, the report and the command line all use this module, so that the number of a run is
the number that anyone gets from its files.

Not for: writing results (`detect`) or knowing which run they are of (`run`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resdet.errors import CheckFailed, DataError
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.coco.coco_evaluation import CocoResult
from resdet.evaluation.ilsvrc.ilsvrc_files import DetResults, read_det_results
from resdet.evaluation.ilsvrc.ilsvrc_metrics import DetResult, DetTruth, evaluate_det
from resdet.evaluation.ilsvrc.ilsvrc_truth import results_of_run, truth_of_run, with_places
from resdet.evaluation.inputs.arrays import ImageId, is_id, read_json
from resdet.evaluation.inputs.detections import Columns, load_columns
from resdet.evaluation.inputs.findings import Finding, note_on_accepted, refuse_if_any
from resdet.evaluation.inputs.ground_truth import GroundTruth, read_ground_truth
from resdet.evaluation.inputs.validation import check_columns
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.evaluation.voc.detection_files import PREFIX
from resdet.run.layout import COCO_RESULTS, GROUND_TRUTH, ILSVRC_RESULTS, IMAGES

METRICS = ("voc", "coco")
_ENDING = re.compile(r"\.(json|json\.gz|zip)$")


@dataclass(frozen=True)
class VocPair:
    """VOC's AP by both rules; `primary` is the one that the set's year asks for."""

    primary: voc.VocResult
    eleven_point: voc.VocResult
    area: voc.VocResult

    def to_json(self) -> dict[str, Any]:
        return {
            "primary": self.primary.protocol,
            "11-point": self.eleven_point.to_json(),
            "area": self.area.to_json(),
        }


@dataclass(frozen=True)
class FolderResult:
    """The metrics of a result folder; one that its set does not have is None.

    truth, columns: what the metrics of boxes were made from.
    segm: COCO's numbers of masks, of a set whose masks the run read.
    segm_columns: the masks that these were made from, where they were kept.
    """

    data_set: str
    voc: VocPair | None
    coco: coco.CocoResult | None
    truth: GroundTruth
    columns: Columns
    warnings: tuple[Finding, ...] = ()
    ilsvrc: DetResult | None = None
    segm: CocoResult | None = None
    segm_columns: Columns | None = None

    def to_json(self) -> dict[str, Any]:
        """`{"voc": …, "coco": …}`: the contents of voc.json, coco.json and, where they are meant,
        ilsvrc.json and coco_segm.json ("segm"); null where not meant."""
        return {
            "voc": self.voc.to_json() if self.voc else None,
            "coco": self.coco.to_json() if self.coco else None,
            **({"ilsvrc": self.ilsvrc.to_json()} if self.ilsvrc else {}),
            **({"segm": self.segm.to_json()} if self.segm else {}),
        }


def evaluated_beside(path: Path | str) -> tuple[ImageId, ...] | None:
    """The images that were evaluated, from the list that lies with a results file or in a folder.

    A file may have <stem>.images.json or images.json beside it, a folder images.json in it; None
    when there is neither (another tool's results).

    Raises:
        CheckFailed: the list is there and is not one.
    """
    path = Path(path)
    names = [path / IMAGES] if path.is_dir() else [
        path.with_name(f"{_ENDING.sub('', path.name)}.images.json"), path.with_name(IMAGES)
    ]  # fmt: skip
    for name in names:
        if name.is_file():
            return _ids(read_json(name, CheckFailed), "evaluated", name)
    return None


def _ids(value: Any, key: str, path: Path) -> tuple[ImageId, ...]:
    ids = value.get(key) if isinstance(value, dict) else None
    if not isinstance(ids, list) or not all(is_id(i) for i in ids):
        raise CheckFailed(f'{path} has no list of image ids under "{key}". Write it with results.')
    return tuple(ids)


def evaluate_folder(
    folder: Path | str,
    *,
    style: str = "d2",
    subset: Sequence[ImageId] | None = None,
    engine: str = "official",
    keep_masks: bool = False,
) -> FolderResult:
    """The metrics of a result folder, validated first; nothing is written.

    Args:
        folder: RUN/results/<data set>.
        style: of VOC's comparison, "d2" or "devkit" (`voc_evaluation`).
        subset: score these images only, with a note.
        engine: of COCO's numbers, "official" (pycocotools) or "fast", which is held against
            pycocotools on a sample of the images (`coco_evaluation`).
        keep_masks: the result has the masks, too, which take far more memory than boxes.

    Raises:
        DataError: a file of the folder is missing; the ground truth is faulty.
        CheckFailed: the results are refused, the files of the folder contradict each other, or the
            fast engine differs from pycocotools.
    """
    folder = Path(folder)
    for name in (IMAGES, GROUND_TRUTH, COCO_RESULTS):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder} has no {name}. Give a folder that train_det wrote, such as "
                "RUN/results/voc_2007_test; --eval-only writes it again."
            )
    truth = read_ground_truth(folder / GROUND_TRUTH)
    evaluated = _evaluated(folder, truth)
    columns, findings, _ = load_columns(folder / COCO_RESULTS, truth.index)
    findings += check_columns(columns, truth.index, evaluated, subset)
    accepted, beside = _accepted(folder)
    warnings = refuse_if_any(str(folder / COCO_RESULTS), findings, accepted or None)
    metrics = truth.info.get("evaluators") or METRICS
    pair = coco_result = segm = masks = None
    if "coco" in metrics:
        coco_result = coco.evaluate_columns(truth, columns, warnings, subset=subset, engine=engine)
        stated = {**beside, **accepted}
        coco_result = replace(
            coco_result, accepted=stated, notes=(*coco_result.notes, *note_on_accepted(stated))
        )
    if "voc" in metrics:
        pair = _both_rules(folder, truth, columns, evaluated, style, subset)
    # Of a part of the images there is none: the blacklist and the ids are of a whole split.
    ilsvrc = None
    if "ilsvrc" in metrics and subset is None:
        det = read_det_folder(folder, truth, columns)
        ilsvrc = evaluate_det(det.truth, det.results, blacklist=det.blacklist)
    if "coco" in metrics and truth.info.get("masks"):
        segm, masks = _of_masks(folder, truth, evaluated, subset, engine)
    data_set = str(truth.info.get("data_set", folder.name))
    return FolderResult(
        data_set, pair, coco_result, truth, columns, tuple(warnings), ilsvrc, segm,
        masks if keep_masks else None,
    )  # fmt: skip


@dataclass(frozen=True)
class DetFolder:
    """What DET's metric is made from: `ilsvrc_det.txt` and the set's objects, in its order.

    Attributes:
        blacklist: pairs of image, from 1, and DET id that are not scored.
    """

    truth: DetTruth
    results: DetResults
    blacklist: tuple[tuple[int, int], ...]


def read_det_folder(folder: Path, truth: GroundTruth, columns: Columns) -> DetFolder:
    """ILSVRC's file of a result folder, held against the detections in COCO's.

    Args:
        truth, columns: of the same folder, read and validated.

    Raises:
        DataError: there is no such file. CheckFailed: it has other detections than COCO's.
    """
    path = folder / ILSVRC_RESULTS
    images = read_json(folder / IMAGES, CheckFailed)
    indices = images.get("result_indices") or range(1, len(truth.index.image_ids) + 1)
    # Listed in the order of the set, which the ground truth has, too.
    results, expected = with_places(read_det_results(path), indices), results_of_run(columns)
    order, own = (np.argsort(r.image, kind="stable") for r in (results, expected))
    if len(order) != len(own) or not (
        np.array_equal(results.label[order], expected.label[own])
        and np.array_equal(results.scores[order], expected.scores[own])
    ):
        raise CheckFailed(
            f"{path}: {len(order):,} detections, and {COCO_RESULTS} has {len(own):,}, or they "
            "differ. The files are of different evaluations; evaluate again with --eval-only."
        )
    not_scored = tuple((int(i), int(k)) for i, k in truth.info.get("not_scored", ()))
    return DetFolder(truth_of_run(truth), results, not_scored)


def _of_masks(
    folder: Path,
    truth: GroundTruth,
    evaluated: Sequence[ImageId],
    subset: Sequence[ImageId] | None,
    engine: str,
) -> tuple[coco.CocoResult, Columns]:
    """COCO's numbers of the masks in the same file, and these; read apart from the boxes."""
    path = folder / COCO_RESULTS
    columns, findings, _ = load_columns(path, truth.index, "segm")
    findings += check_columns(columns, truth.index, evaluated, subset)
    warnings = refuse_if_any(f"{path}, masks", findings)
    result = coco.evaluate_columns(
        truth, columns, warnings, task="segm", subset=subset, engine=engine
    )
    return result, columns


def _accepted(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Faults by rule that were accepted when other tools' results were put here.

    Returns:
        of detections that are there; of entries that were left out, and of warnings.
    """
    value = read_json(folder / IMAGES, CheckFailed)
    stated = value.get("accepted") if isinstance(value, dict) else None
    if stated is None:
        return {}, {}
    return dict(stated.get("scored", {})), dict(stated.get("beside", {}))


def _evaluated(folder: Path, truth: GroundTruth) -> tuple[ImageId, ...]:
    path = folder / IMAGES
    value = read_json(path, CheckFailed)
    expected = set(_ids(value, "expected", path))
    there = set(truth.index.image_ids)
    if expected != there:
        one = sorted(expected ^ there, key=str)[0]
        raise CheckFailed(
            f"{folder}: {IMAGES} expects {len(expected):,} images, {GROUND_TRUTH} has "
            f"{len(there):,}; image {one} is in one of them only. Evaluate again: the "
            "files are of different sets."
        )
    return _ids(value, "evaluated", path)


def _both_rules(
    folder: Path,
    truth: GroundTruth,
    columns: Columns,
    evaluated: Sequence[ImageId],
    style: str,
    subset: Sequence[ImageId] | None,
) -> VocPair:
    voc_truth = voc.ground_truth_from_coco(truth)
    detections = voc.read_detections(folder, voc_truth.classes, evaluated=evaluated)
    _refuse_disagreement(folder, detections, columns)
    by_rule = {
        rule: voc.evaluate(voc_truth, detections, ap=rule, style=style, subset=subset)
        for rule in voc.AP_RULES
    }
    primary = "11-point" if truth.info.get("voc_year") == 2007 else "area"
    return VocPair(by_rule[primary], by_rule["11-point"], by_rule["area"])


def _refuse_disagreement(folder: Path, detections: voc.VocDetections, columns: Columns) -> None:
    """The two formats hold the same detections; a class file may have been lost or be older."""
    if detections.unread:
        raise CheckFailed(
            f"{folder} has no {PREFIX}<set>_{detections.unread[0]}.txt "
            f"({len(detections.unread)} classes lack a file). Evaluate again with --eval-only."
        )
    count = len(detections.classes)
    lines = np.bincount(detections.label, minlength=count)
    entries = np.bincount(columns.category, minlength=count)
    for label in np.flatnonzero(lines != entries):
        raise CheckFailed(
            f"{folder}: {lines[label]:,} detections of {detections.classes[label]} in "
            f"{PREFIX}*.txt, {entries[label]:,} in {COCO_RESULTS}. The files are of different "
            "evaluations; evaluate again with --eval-only."
        )
