"""results/<data set>/ of a run as numbers, curves and boxes, by `resdet.evaluation`.

Every number is computed here and now from the result files, by the code that anyone calls on
them. Where the run stored its own (voc.json, coco.json) the two must agree; else the folder holds
two different evaluations, and nothing is reported from it.

Not for: any rule of evaluation; matching, AP and validation are `resdet.evaluation`'s.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from resdet.errors import RunError
from resdet.evaluation.analysis.ranked_detections import (
    Ranked,
    rank_coco,
    rank_det,
    rank_voc,
)
from resdet.evaluation.inputs.arrays import IntArray
from resdet.evaluation.inputs.result_folder import (
    FolderResult,
    evaluate_folder,
    read_det_folder,
)
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.report.runs import Column
from resdet.run import layout, shapes
from resdet.run.folder import read_json

# The same files and the same code give the same number; versions of numpy may round a last bit.
_SAME = 1e-9

COCO_METRICS = (
    ("AP", "AP, IoU .50 to .95"),
    ("AP50", "AP50"),
    ("AP75", "AP75"),
    ("APs", "AP, small objects"),
    ("APm", "AP, medium objects"),
    ("APl", "AP, large objects"),
    ("AR1", "AR, 1 detection per image"),
    ("AR10", "AR, 10 detections"),
    ("AR100", "AR, 100 detections"),
    ("ARs", "AR, small objects"),
    ("ARm", "AR, medium objects"),
    ("ARl", "AR, large objects"),
)


@dataclass(frozen=True)
class Metric:
    """A number by which runs are ranked; `key` is "mean_ap" (VOC, ILSVRC: by `rule`) or "AP"."""

    key: str
    rule: str
    title: str


# As `evaluate ilsvrc det` names it.
DET_RULE = "ILSVRC DET"
MASK_AP = Metric("AP", "COCO segm", "AP of masks (COCO, IoU .50 to .95)")
COCO_AP50 = Metric("AP50", "COCO bbox", "AP50 (COCO)")


@dataclass(frozen=True, eq=False)
class SetScores:
    """One run on one data set.

    Attributes:
        expected, evaluated: image ids, in the set's order.
        classes: names by ascending category id.
        truth: ground_truth.json.gz.
        voc: {"primary": rule, "11-point": {...}, "area": {...}} or None.
        coco: the JSON of `evaluate coco`, or None.
        ilsvrc: the JSON of `evaluate ilsvrc det`, or None.
        result: what both were made from, with its curves.
        seconds: of detection on all images.
        image_folder: where the images of the set lay when they were looked at, or None.
        exif: whether EXIF's rotation was applied when the images were read, "apply" or "ignore".
        notes: evaluation's, to be shown beside the numbers.
        by: what ranks: "set" (the set's own protocol) or "coco" (COCO's AP, as in He et al. 2015).
    """

    folder: Path
    data_set: str
    expected: tuple[Any, ...]
    evaluated: tuple[Any, ...]
    classes: tuple[str, ...]
    truth: Mapping[str, Any]
    truth_hash: str
    voc: Mapping[str, Any] | None
    coco: Mapping[str, Any] | None
    result: FolderResult
    seconds: float | None = None
    image_folder: Path | None = None
    exif: str = "apply"
    notes: tuple[str, ...] = ()
    by: str = "set"
    ilsvrc: Mapping[str, Any] | None = None

    @property
    def primary(self) -> str | None:
        """The rule of the set's own mean AP ("VOC 11-point", "VOC area", "ILSVRC DET"); None for a
        COCO set."""
        if self.ilsvrc:
            return str(self.ilsvrc["protocol"])
        return str(self.voc["primary"]) if self.voc else None

    @property
    def metric(self) -> Metric:
        """What ranks runs on this set: its own mean AP, if it has one, else COCO's AP; see `by`."""
        if self.primary and self.by == "set":
            return Metric("mean_ap", self.primary, rule_title(self.primary))
        return Metric("AP", "COCO bbox", "AP (COCO, IoU .50 to .95)")

    @property
    def gain_metric(self) -> Metric:
        """What gains are taken by: the ranking number, or VOC's area rule where 11 points rank.

        The 11-point number has no interval of its noise, and a gain stands beside its own.
        """
        if not (self.voc and self.metric.key == "mean_ap"):
            return self.metric
        return Metric("mean_ap", "VOC area", rule_title("VOC area"))

    def value(self, metric: Metric) -> float | None:
        """The number as a fraction; None where it does not exist."""
        table = self._table(metric)
        return None if table is None else table.get(metric.key)

    def per_class(self, metric: Metric) -> dict[str, float | None]:
        """Class name to its AP; None for classes without an object."""
        table = self._table(metric)
        if table is None:
            return {}
        if metric.rule == DET_RULE:  # by DET ids, which count the classes from 1
            return {self.classes[int(k) - 1]: row["ap"] for k, row in table["classes"].items()}
        if metric.key == "mean_ap":
            return {name: row["ap"] for name, row in table["classes"].items()}
        # Evaluation gives AP of every category over all overlaps, and no other number of it.
        return dict(table["per_category"]) if metric.key == "AP" else {}

    def absent(self, metric: Metric) -> list[str]:
        """Classes that have no value, and so are left out of the mean."""
        return [name for name, ap in self.per_class(metric).items() if ap is None]

    def _table(self, metric: Metric) -> Mapping[str, Any] | None:
        if metric.rule == DET_RULE:
            return self.ilsvrc
        if metric.key == "mean_ap":
            return self.voc[metric.rule.removeprefix("VOC ")] if self.voc else None
        return self.coco

    @functools.cached_property
    def of_masks(self) -> SetScores | None:
        """The same run by its masks, with COCO's numbers of these; None where it has none."""
        result = self.result
        if result.segm is None or result.segm_columns is None:
            return None
        masks = replace(result, columns=result.segm_columns)
        return replace(
            self, voc=None, ilsvrc=None, coco=result.segm.to_json(), result=masks, by="coco"
        )

    @functools.cached_property
    def ranked_by_set(self) -> dict[str, Ranked]:
        """Its detections judged by the set's own rules, VOC's or ILSVRC's, for `image_noise`."""
        result = self.result
        if self.ilsvrc:
            det = read_det_folder(self.folder, result.truth, result.columns)
            index = result.truth.index
            return rank_det(index, det.truth, det.results, blacklist=det.blacklist)
        truth = voc.ground_truth_from_coco(self.truth)
        detections = voc.read_detections(self.folder, truth.classes, evaluated=self.evaluated)
        style = result.voc.primary.style if result.voc else "d2"
        return rank_voc(truth, detections, style=style, subset=self.evaluated)

    @functools.cached_property
    def ranked(self) -> dict[str, Ranked]:
        """Its detections judged by COCO's rules, for `image_noise`."""
        return rank_coco(self.result.truth, self.result.columns, subset=self.evaluated)

    # -- boxes, for pictures --------------------------------------------------------------

    @functools.cached_property
    def category_names(self) -> dict[int, str]:
        return {c["id"]: c["name"] for c in self.truth["categories"]}

    @functools.cached_property
    def _truth_by_image(self) -> dict[Any, list[Any]]:
        objects: dict[Any, list[Any]] = defaultdict(list)
        for item in self.truth["annotations"]:
            # COCO's rules count difficult objects like any other.
            plain = self.voc is None and item.get("difficult")
            objects[item["image_id"]].append({**item, "difficult": 0} if plain else item)
        return objects

    @functools.cached_property
    def _rows_by_image(self) -> dict[Any, IntArray]:
        """Rows of the detections of each image, as given; arrays, for there may be very many."""
        image = self.result.columns.image
        order = np.argsort(image, kind="stable")
        present, start = np.unique(image[order], return_index=True)
        parts = np.split(order, start[1:]) if len(present) else []
        ids = self.result.truth.index.image_ids
        return {ids[place]: rows for place, rows in zip(present, parts, strict=True)}

    def truth_of(self, image_id: Any) -> list[dict[str, Any]]:
        return self._truth_by_image.get(image_id, [])

    @functools.cached_property
    def _masks(self) -> dict[int, Any]:
        """The mask of each entry of the results file, where the run has masks."""
        masks = self.result.segm_columns
        if masks is None or masks.segmentations is None:
            return {}
        return dict(zip(map(int, masks.entries), masks.segmentations, strict=True))

    def detections_of(self, image_id: Any, *, threshold: float) -> list[dict[str, Any]]:
        """Those of an image with at least this score, in COCO's results format, with masks."""
        columns = self.result.columns
        rows = self._rows_by_image.get(image_id, np.zeros(0, dtype=np.int64))
        ids = self.result.truth.index.category_ids
        return [
            {
                "image_id": image_id,
                "category_id": ids[columns.category[i]],
                "bbox": columns.boxes[i].tolist(),
                "score": float(columns.scores[i]),
                **self._mask_of(i),
            }
            for i in rows[columns.scores[rows] >= threshold]
        ]

    def _mask_of(self, row: int) -> dict[str, Any]:
        if not self._masks:
            return {}
        mask = self._masks.get(int(self.result.columns.entries[row]))
        return {} if mask is None else {"segmentation": mask}

    @functools.cached_property
    def _images(self) -> dict[Any, Mapping[str, Any]]:
        return {image["id"]: image for image in self.truth["images"]}

    def size_of(self, image_id: Any) -> tuple[int, int] | None:
        """Width and height that boxes of this image are measured in."""
        image = self._images.get(image_id, {})
        width, height = image.get("width"), image.get("height")
        return (width, height) if width and height else None

    @functools.cached_property
    def samples(self) -> dict[Any, Path]:
        """Image id to file of the pictures that the run keeps, in their order."""
        index = self.folder / layout.SAMPLES_INDEX
        if not index.exists():
            return {}
        return {
            s["image_id"]: self.folder / s["file"]
            for s in read_json(index, shapes.FILES[index.name])
            if _stays_below(s["file"])
        }

    def picture_of(self, image_id: Any) -> Path | None:
        """A file of this image: the run's own copy, or the data set's where that is still there."""
        return self.samples.get(image_id) or self.source_of(image_id)

    def source_of(self, image_id: Any) -> Path | None:
        """The data set's own file of this image, where it is still there."""
        name = self._images.get(image_id, {}).get("file_name")
        if self.image_folder is None or not isinstance(name, str) or not _stays_below(name):
            return None
        file = self.image_folder / name
        try:
            return file if file.is_file() else None
        except OSError:  # a folder of someone else's, a name too long for this disk
            return None


def _stays_below(name: str) -> bool:
    """Whether a file name of data stays in its folder: a page is passed on, with its pictures."""
    path = PurePath(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def rule_title(rule: str) -> str:
    """A set's own number named in full.

    Example:
        >>> rule_title("VOC 11-point"), rule_title("VOC area"), rule_title("ILSVRC DET")
        ('AP50 (VOC 2007, 11 points)', 'AP50 (VOC 2010, area)', 'mAP (ILSVRC DET)')
    """
    titles = {"VOC 11-point": "AP50 (VOC 2007, 11 points)", "VOC area": "AP50 (VOC 2010, area)",
              DET_RULE: "mAP (ILSVRC DET)"}  # fmt: skip
    if rule not in titles:
        raise RunError(f"the AP rule {rule!r} is not known; known: {', '.join(titles)}.")
    return titles[rule]


def read_scores(column: Column, data_set: str, by: str = "set") -> SetScores:
    """What this run reached on this set, ranked `by` "set" or "coco" (`SetScores`).

    Raises:
        RunError: the files do not give the numbers that the run stored, or give none, or COCO's
            AP is asked for and the set is not scored by COCO's rules.
        DataError, CheckFailed: a file is missing, broken, or refused by validation.
    """
    folder = column.run.results(data_set)
    images = read_json(folder / layout.IMAGES, shapes.IMAGE_LIST)
    expected, evaluated = tuple(images["expected"]), tuple(images["evaluated"])
    whole = set(expected) == set(evaluated)
    style = str(column.config.get("EVAL.VOC_STYLE", "d2"))
    # Held against pycocotools on a sample, and against the number that the run stored.
    result = evaluate_folder(
        folder,
        style=style,
        subset=None if whole else evaluated,
        engine="fast",
        keep_masks=True,
    )
    tables = result.to_json()
    _refuse_other_numbers(folder, tables)
    if not any(tables.values()):
        raise RunError(f"{folder}: its ground truth names neither voc nor coco as evaluator.")
    if by == "coco" and tables["coco"] is None:
        raise RunError(
            f"{data_set} is not scored by COCO's rules, so its runs cannot be ranked by COCO's AP. "
            "Leave --by out."
        )
    truth = read_json(folder / layout.GROUND_TRUTH)
    return SetScores(
        folder=folder,
        data_set=data_set,
        expected=expected,
        evaluated=evaluated,
        classes=tuple(c["name"] for c in sorted(truth["categories"], key=lambda c: c["id"])),
        truth=truth,
        truth_hash=_hash(truth),
        voc=tables["voc"],
        coco=tables["coco"],
        result=result,
        seconds=images.get("seconds"),
        image_folder=Path(images["image_folder"]) if images.get("image_folder") else None,
        exif=images.get("exif", "apply"),
        notes=_notes(result),
        by=by,
        ilsvrc=tables.get("ilsvrc"),
    )


def _notes(result: FolderResult) -> tuple[str, ...]:
    """Evaluation's own sentences, but for the mean's count, which stands below each table."""
    notes = [*result.voc.primary.notes] if result.voc else []
    notes += [*result.coco.notes] if result.coco else []
    notes += [finding.what for finding in result.warnings]
    return tuple(
        text
        for text in dict.fromkeys(notes)
        if not text.startswith(("Mean of ", "On ", "Best 100"))
    )


def _refuse_other_numbers(folder: Path, tables: Mapping[str, Any]) -> None:
    """A stored number that the files do not give is of another evaluation."""
    for name, path in (
        ("voc", ("11-point", "mean_ap")),
        ("coco", ("AP",)),
        ("ilsvrc", ("mean_ap",)),
        ("segm", ("AP",)),
    ):
        file = folder / layout.SCORES[name]
        if not file.exists() or tables.get(name) is None:
            continue
        stored, computed = read_json(file, shapes.FILES[file.name]), tables[name]
        for key in path:
            stored, computed = (stored or {}).get(key), computed[key]
        if (stored is None) != (computed is None) or (
            stored is not None and abs(stored - computed) > _SAME
        ):
            raise RunError(
                f"{file} has {'.'.join(path)} {stored}, the result files beside it give "
                f"{computed}. Evaluate again: train_det --eval-only."
            )


def blacklisted_pairs(truth: Mapping[str, Any]) -> list[list[int]]:
    """The image's number from 1 and the class of what the blacklist of ILSVRC's kit leaves out."""
    info = truth.get("info")
    return list(info.get("not_scored") or ()) if isinstance(info, Mapping) else []


def _hash(truth: Mapping[str, Any]) -> str:
    """Over what decides a score: image ids and sizes, categories, boxes, flags, and the pairs of
    image and class that a development kit's blacklist leaves out; not the order."""
    rows = [
        sorted(json.dumps([i["id"], i.get("width"), i.get("height")]) for i in truth["images"]),
        sorted(json.dumps([c["id"], c["name"]]) for c in truth["categories"]),
        sorted(
            json.dumps([
                a["image_id"], a["category_id"], a["bbox"], a.get("area"),
                int(a.get("iscrowd") or 0), int(a.get("difficult") or 0),
            ])
            for a in truth["annotations"]
        ),
    ]  # fmt: skip
    if pairs := blacklisted_pairs(truth):  # most sets have none
        ids = {number: image["id"] for number, image in enumerate(truth["images"], 1)}
        rows.append(sorted(json.dumps([ids.get(n), k]) for n, k in pairs))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
