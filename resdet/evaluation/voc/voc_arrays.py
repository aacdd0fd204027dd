"""VOC ground truth and detections as arrays: from the devkit's files, COCO's, or lists.

Boxes are kept as VOC's files have them: (xmin, ymin, xmax, ymax), counted from 1, both ends
inside, so that a number in a file is the number that is scored. `inclusive` alone turns the
half-open boxes of everything else into these.

Not for: scores (`voc_evaluation`), detection files (`detection_files`), or one annotation
(`annotation_files`).
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from resdet import profile
from resdet.errors import DataError, first_few
from resdet.evaluation.inputs.annotation_entries import TruthFaults
from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, ImageId, IntArray
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.findings import TRUTH
from resdet.evaluation.inputs.ground_truth import GroundTruth, SetIndex, read_ground_truth
from resdet.evaluation.voc.annotation_files import (
    leaves_image,
    name_of,
    read_annotation,
    swapped,
)
from resdet.formats.voc_list import read_list, to_make_layout
from resdet.formats.voc_xml import VOC_CLASSES, VocFile

OUTSIDE = "boxes that leave their image, kept"


def inclusive(half_open: FloatArray) -> FloatArray:
    """Half-open boxes (x0, y0, x1, y1) as VOC's: 1 is added to x0 and y0, as Detectron2 does."""
    boxes = np.array(half_open, dtype=np.float64).reshape(-1, 4)
    boxes[:, :2] += 1
    return boxes


@dataclass(frozen=True)
class VocGroundTruth:
    """The objects of a VOC-style set; row i of each array is object i."""

    index: SetIndex  # the categories are the classes, numbered from 1
    image: IntArray
    label: IntArray  # place in classes
    boxes: FloatArray  # (objects, 4), VOC's way
    difficult: BoolArray
    repairs: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # on faults that were accepted
    accepted: Mapping[str, int] = field(default_factory=dict)  # faults by rule

    @property
    def classes(self) -> tuple[str, ...]:
        return self.index.category_names

    @property
    def image_ids(self) -> tuple[ImageId, ...]:
        return self.index.image_ids


@dataclass(frozen=True)
class VocDetections:
    """Detections of VOC-style classes; row i of each column is detection i, in the given order.

    evaluated: the images that the detector saw, None when not recorded.
    unread: classes without a file, which therefore have no score.
    """

    classes: tuple[str, ...]
    image_ids: Sequence[ImageId]
    label: IntArray
    boxes: FloatArray  # (detections, 4), VOC's way
    scores: FloatArray
    evaluated: tuple[ImageId, ...] | None = None
    unread: tuple[str, ...] = ()
    title: str = "the detections"
    where: Callable[[int], str] | None = None

    def name(self, row: int) -> str:
        if self.where is not None:
            return self.where(row)
        return f"detection {row} (image {self.image_ids[row]})"


def voc_index(
    title: str, classes: Sequence[str], image_ids: Sequence[ImageId], sizes: FloatArray
) -> SetIndex:
    ids = tuple(range(1, len(classes) + 1))
    return SetIndex(title, tuple(image_ids), sizes, ids, tuple(classes))


# -- ground truth -----------------------------------------------------------------------------


@profile.timed("read annotations")
def read_devkit_ground_truth(
    root: Path | str,
    split: str,
    classes: Sequence[str] | None = None,
    accepted: Mapping[str, int] | None = None,
) -> VocGroundTruth:
    """The objects of ROOT/ImageSets/Main/<split>.txt, from ROOT/Annotations.

    Without `classes`, the twenty of VOC when every name is one of them; else the names found,
    with those that have a list of their own in ImageSets/Main (a home-made set).

    Args:
        accepted: by rule, exactly so many faults of annotations are accepted (`gt-images`: files
            that are none; `gt-entries`, `gt-boxes`: objects), other rules are of detections; None
            where the caller cannot state any.

    Raises:
        DataError: the tree is not there (a near match is named), the list or an annotation is
            faulty, a class name is not among the classes.
        CheckFailed: another number of faults was accepted than there is.
    """
    root = Path(root)
    _find_tree(root, split)
    image_ids = read_list(root, split)
    title = f"{root.name} {split}"
    faults = TruthFaults(title, accepted)
    files = {i: read_annotation(root / "Annotations" / f"{i}.xml") for i in image_ids}
    left = {i: a for i, a in files.items() if _is_usable(a, faults)}
    if not left:
        faults.emptied.append(f"ImageSets/Main/{split}.txt")
    notes = [*faults.settle(), *_outside_the_tree(image_ids)]
    image_ids, annotations = tuple(left), list(left.values())
    names = {item.name for a in annotations for item in a.objects}
    chosen = tuple(classes) if classes is not None else _classes_of(root, names)
    _refuse_unknown_names(annotations, chosen)
    repairs: dict[str, int] = {}
    for annotation in annotations:
        counts = {**annotation.repairs, OUTSIDE: _outside(annotation)}
        for what, times in counts.items():
            repairs[what] = repairs.get(what, 0) + times
    places = {name: i for i, name in enumerate(chosen)}
    rows = [
        (i, places[item.name], item.box, item.difficult)
        for i, annotation in enumerate(annotations)
        for item in annotation.objects
    ]
    sizes = [a.size or (math.nan, math.nan) for a in annotations]
    index = voc_index(title, chosen, image_ids, np.array(sizes, dtype=np.float64))
    return VocGroundTruth(
        index,
        np.array([r[0] for r in rows], dtype=np.int64),
        np.array([r[1] for r in rows], dtype=np.int64),
        np.array([r[2] for r in rows], dtype=np.float64).reshape(-1, 4),
        np.array([r[3] for r in rows], dtype=np.bool_),
        {what: times for what, times in repairs.items() if times},
        tuple(notes),
        {r: n for r, n in (accepted or {}).items() if r.startswith(TRUTH)},
    )


def _outside_the_tree(image_ids: Sequence[str]) -> list[str]:
    """The sentence on annotations that a list names elsewhere, as the loader has it; else none."""
    outside = [i for i in image_ids if os.path.isabs(i) or ".." in PurePath(i).parts]
    if not outside:
        return []
    return [
        f"{len(outside):,} listed annotations lie outside the folder given ({outside[0]!a}); they "
        "are read, as the list names them, and nothing is written there."
    ]


def _is_usable(annotation: VocFile, faults: TruthFaults) -> bool:
    """Whether the file is an annotation; its faults are added, faulty objects taken out."""
    if not annotation.is_whole:
        faults.add("images", annotation.faults[0])
        return False
    for line in annotation.faults:
        faults.add("entries", line)
    for item in list(annotation.objects):
        if line := swapped(annotation, item):
            faults.add("boxes", line)
            annotation.objects.remove(item)
    return True


def _outside(annotation: VocFile) -> int:
    return sum(leaves_image(annotation, item) for item in annotation.objects)


def _find_tree(root: Path, split: str) -> None:
    if (root / "Annotations").is_dir():
        return
    near = [
        path
        for pattern in ("*/Annotations", "VOCdevkit/*/Annotations")
        for path in sorted(root.glob(pattern))
        if path.is_dir()
    ]
    hint = f" Give --root {near[0].parent}." if near else ""
    if not near and (root.parent / "Annotations").is_dir():
        hint = f" Give --root {root.parent}."
    hint = hint or to_make_layout(root, split)
    raise DataError(
        f"No VOC set at {root.absolute()}: expected Annotations/<id>.xml and "
        f"ImageSets/Main/<split>.txt in it.{hint}"
    )


def _classes_of(root: Path, names: set[str]) -> tuple[str, ...]:
    known = {name.casefold(): name for name in VOC_CLASSES}
    if all(name.casefold() in known for name in names):
        return VOC_CLASSES
    lists = (root / "ImageSets" / "Main").glob("*_*.txt")
    return tuple(sorted(names | {path.stem.rsplit("_", 1)[0] for path in lists}))


def _refuse_unknown_names(annotations: Sequence[VocFile], classes: tuple[str, ...]) -> None:
    faults = [
        f'{name_of(a, item)}: class "{item.name}" is not among the {len(classes)} classes'
        f"{did_you_mean(item.name, classes)}"
        for a in annotations
        for item in a.objects
        if item.name not in classes
    ]
    if faults:
        raise DataError(
            f"{len(faults):,} objects are of unknown classes. Fix the names, or give the classes "
            f"that the set has.\n{first_few(faults)}"
        )


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """'; did you mean "person"?' when one of the names is near, else nothing."""
    folded = {n.casefold(): n for n in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.75)
    return f'; did you mean "{folded[near[0]]}"?' if near else ""


def ground_truth_from_boxes(
    classes: Sequence[str],
    images: Sequence[ImageId],
    image_ids: Sequence[ImageId],
    labels: Sequence[int] | IntArray,
    boxes: Sequence[Sequence[float]] | FloatArray,
    difficult: Sequence[bool] | None = None,
    *,
    sizes: Sequence[tuple[float, float]] | None = None,
) -> VocGroundTruth:
    """Objects with half-open boxes (x0, y0, x1, y1), as a loader has them.

    Args:
        classes: names; labels are places in it.
        images: the ids of all images of the set, those without an object too.
        image_ids: one for each object.
        difficult: one for each object; none is when left out.
        sizes: (width, height) of each image; without them boxes are not checked against it.
    """
    places = {image_id: i for i, image_id in enumerate(images)}
    strange = [i for i in image_ids if i not in places]
    if strange or len(places) < len(images):
        raise ValueError(f"objects on images that are not in images, or twice: {strange[:5]}")
    label = np.asarray(labels, dtype=np.int64).reshape(-1)
    if len(label) and not 0 <= label.min() <= label.max() < len(classes):
        raise ValueError(f"labels {label.min()} to {label.max()} for {len(classes)} classes")
    hard = [False] * len(label) if difficult is None else difficult
    box = inclusive(np.asarray(boxes, dtype=np.float64))
    if not len(image_ids) == len(label) == len(box) == len(hard):
        raise ValueError(
            f"{len(image_ids)} image ids, {len(label)} labels, {len(box)} boxes, {len(hard)} "
            "difficult; give one of each per object"
        )
    known = [(math.nan, math.nan)] * len(images) if sizes is None else sizes
    shapes = np.array(known, dtype=np.float64).reshape(-1, 2)
    return VocGroundTruth(
        voc_index("the ground truth", classes, images, shapes),
        np.array([places[i] for i in image_ids], dtype=np.int64),
        label,
        box,
        np.array(hard, dtype=np.bool_),
    )


def ground_truth_from_coco(
    source: Mapping[str, Any] | Path | str | GroundTruth,
) -> VocGroundTruth:
    """The ground truth of a COCO-style file, for VOC's metric.

    `difficult` is read where it is written. A crowd, which VOC does not know, counts as
    difficult: not to be found, and no fault to be found. Where it lists its objects ("members",
    [x, y, width, height] each, as resdet writes them for sets that have both formats), they
    stand in its place.
    """
    truth = read_ground_truth(source)
    index = truth.index
    kept = [row for row in range(len(truth.boxes)) if row not in truth.members]
    parts = truth.members.items()
    rows = np.array([*kept, *(r for r, boxes in parts for _ in boxes)], dtype=np.int64)
    boxes = np.concatenate([truth.boxes[kept], *(boxes for _, boxes in parts)])
    repairs = dict(truth.repairs)
    if bare := int(truth.crowd.sum()) - len(truth.members):
        repairs["crowds, taken as difficult"] = bare
    return VocGroundTruth(
        voc_index(index.title, index.category_names, index.image_ids, index.sizes),
        truth.image[rows],
        truth.category[rows],
        inclusive(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)),
        (truth.difficult | truth.crowd)[rows],
        repairs,
    )


# -- detections -------------------------------------------------------------------------------


def detections_from_boxes(
    classes: Sequence[str],
    image_ids: Sequence[ImageId],
    labels: Sequence[int] | IntArray,
    boxes: Sequence[Sequence[float]] | FloatArray,
    scores: Sequence[float] | FloatArray,
    *,
    evaluated: Sequence[ImageId] | None = None,
) -> VocDetections:
    """Detections with half-open boxes (x0, y0, x1, y1), as a detector gives them.

    Args:
        classes: names; labels are places in it.
        image_ids: one for each detection.
        evaluated: the images that the detector saw, with or without detections.
    """
    label = np.asarray(labels, dtype=np.int64).reshape(-1)
    score = np.asarray(scores, dtype=np.float64).reshape(-1)
    box = inclusive(np.asarray(boxes, dtype=np.float64))
    if not len(image_ids) == len(label) == len(box) == len(score):
        raise ValueError(
            f"{len(image_ids)} image ids, {len(label)} labels, {len(box)} boxes, {len(score)} "
            "scores; give one of each per detection"
        )
    if len(label) and not 0 <= label.min() <= label.max() < len(classes):
        raise ValueError(f"labels {label.min()} to {label.max()} for {len(classes)} classes")
    seen = None if evaluated is None else tuple(evaluated)
    return VocDetections(tuple(classes), list(image_ids), label, box, score, seen)


def detections_from_columns(
    columns: Columns, index: SetIndex, evaluated: Sequence[ImageId] | None, title: str
) -> VocDetections:
    """Detections read from a COCO-style results list, for VOC's metric."""
    corners = np.concatenate(
        [columns.boxes[:, :2], columns.boxes[:, :2] + columns.boxes[:, 2:]], axis=1
    )
    return VocDetections(
        index.category_names,
        [index.image_ids[i] for i in columns.image],
        columns.category,
        inclusive(corners),
        columns.scores,
        None if evaluated is None else tuple(evaluated),
        title=title,
        where=columns.name,
    )
