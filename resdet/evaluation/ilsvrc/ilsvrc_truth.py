"""ILSVRC's ground truth as the metrics take it: from its tree, or from a run's result folder.

Boxes keep the numbers of the XML, in which result files are written, too. With a run's records,
which are half-open, the numbers are the same: `resdet.data.readers.ilsvrc_reader` keeps them.

Not for: the metrics (`ilsvrc_metrics`), or result files (`ilsvrc_files`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resdet import profile
from resdet.errors import CheckFailed, DataError, first_few
from resdet.evaluation.ilsvrc.ilsvrc_files import DetResults
from resdet.evaluation.ilsvrc.ilsvrc_metrics import DetTruth, LocTruth
from resdet.evaluation.inputs.arrays import FloatArray, IntArray
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.ground_truth import GroundTruth
from resdet.evaluation.voc.annotation_files import read_annotation, swapped
from resdet.formats.ilsvrc_tree import (
    DET,
    LOC,
    IlsvrcTree,
    ImageList,
    SynsetMap,
    read_det_blacklist,
    read_images,
    read_numbers,
    read_synsets,
)


@dataclass(frozen=True)
class DetSet:
    """A split of DET to score on.

    Attributes:
        truth: its images counted from 1 in the order of the list.
        images: the list; result files have its indices.
        blacklist: (image from 1, DET id), pairs that are not scored.
    """

    truth: DetTruth
    images: ImageList
    synsets: SynsetMap
    blacklist: tuple[tuple[int, int], ...] = ()

    def placed(self, results: DetResults) -> DetResults:
        """Results with indices of the list, their images counted from 1 in its order.

        Raises:
            CheckFailed: an index that is not in the list.
        """
        return with_places(results, self.images.indices)


def with_places(results: DetResults, indices: Sequence[int]) -> DetResults:
    """Results whose images are places from 1 in `indices`; raises as `DetSet.placed`."""
    order = np.argsort(np.asarray(indices, dtype=np.int64), kind="stable")
    known = np.asarray(indices, dtype=np.int64)[order]
    at = np.minimum(np.searchsorted(known, results.image), len(known) - 1)
    unknown = np.flatnonzero(known[at] != results.image)
    if len(unknown):
        lines = [f"{results.name(row)}: image {results.image[row]}" for row in unknown.tolist()]
        raise CheckFailed(
            f"{results.title}: {len(unknown):,} of {len(results.image):,} detections are of images "
            f"whose index is not in the list.\n{first_few(lines, 5)}\nAn index is that of the "
            "image's line in the list of the split: name the split that was detected on."
        )
    return replace(results, image=order[at] + 1)


@profile.timed("read annotations")
def read_det_set(root: Path | str, split: str = "val", *, blacklist: bool = True) -> DetSet:
    """The objects of a split of DET, from its XML.

    Args:
        split: "val", "val1", "val2", or another list in ImageSets/DET.
        blacklist: the development kit's pairs of image and class are left out, where it has any.

    Raises:
        DataError: the tree lacks a file, or an annotation has a fault; names the first ones.
    """
    tree = IlsvrcTree(Path(root), DET)
    synsets, images = read_synsets(tree.map_file), read_images(tree.list_file(split))
    image, label, boxes = _objects(tree, split, images, synsets)
    truth = DetTruth(len(images), image, label, boxes, len(synsets))
    pairs: tuple[tuple[int, int], ...] = ()
    if blacklist and tree.is_of_val(split) and tree.blacklist is not None:
        place = {index: i for i, index in enumerate(images.indices, 1)}
        listed = read_det_blacklist(tree.blacklist, synsets.place())
        pairs = tuple((place[i], k) for i, k in listed if i in place)
    return DetSet(truth, images, synsets, pairs)


@dataclass(frozen=True)
class LocSet:
    """The images of a CLS-LOC list to score on; `blacklist` counts from 1 in their order."""

    truth: LocTruth
    images: ImageList
    synsets: SynsetMap
    blacklist: tuple[int, ...] = ()


@profile.timed("read annotations")
def read_loc_set(root: Path | str, split: str = "val", *, blacklist: bool = True) -> LocSet:
    """The class of each image, and its boxes, from the XML.

    Where the development kit's labels of val are there, val's images are held against them.

    Args:
        split: "val", "train_loc", or another list in ImageSets/CLS-LOC.
        blacklist: what the development kit leaves out of val is left out, where it has any.

    Raises:
        DataError: the tree lacks a file, an annotation has a fault, or an image's boxes are of
            several classes or of another than the kit has.
    """
    tree = IlsvrcTree(Path(root), LOC)
    synsets, images = read_synsets(tree.map_file), read_images(tree.list_file(split))
    image, label, boxes = _objects(tree, split, images, synsets)
    labels = np.zeros(len(images), dtype=np.int64)
    np.maximum.at(labels, image - 1, label)
    mixed = np.unique(image[label != labels[image - 1]])
    given = _labels_of_kit(tree, images) if tree.is_of_val(split) else None
    if given is not None:
        mixed = np.union1d(mixed, np.flatnonzero((labels != given) & (labels > 0)) + 1)
        labels = given
    if len(mixed):
        lines = [images.ids[number - 1] for number in mixed]
        raise DataError(
            f"{tree.annotations(split)}: {len(mixed):,} images have boxes of another class than "
            f"their own, and LOC has one class an image.\n{first_few(lines, 5)}\nIs map_clsloc.txt "
            "of the same development kit as the annotations?"
        )
    if not labels.all():
        bare = [images.ids[n] for n in np.flatnonzero(labels == 0)]
        raise DataError(
            f"{tree.annotations(split)}: {len(bare):,} images have no object, and the development "
            f"kit's labels are not there.\n{first_few(bare, 5)}\nPut its "
            "*_clsloc_validation_ground_truth.txt into devkit/data."
        )
    out: list[int] = []
    if blacklist and tree.is_of_val(split) and tree.blacklist is not None:
        place = {index: i for i, index in enumerate(images.indices, 1)}
        out = [place[i] for i in read_numbers(tree.blacklist) if i in place]
    return LocSet(LocTruth(labels, image, boxes), images, synsets, tuple(out))


def read_cls_labels(root: Path | str) -> IntArray:
    """The id of each image of val, from the development kit, in the order of the file names.

    Raises:
        DataError: the kit has no such file, or it is not of numbers.
    """
    tree = IlsvrcTree(Path(root), LOC)
    if tree.validation_labels is None:
        raise DataError(
            f"{tree.kit} has no *_clsloc_validation_ground_truth.txt, which has the class of each "
            "image of val. Copy it there from the development kit."
        )
    return np.array(read_numbers(tree.validation_labels), dtype=np.int64)


def _labels_of_kit(tree: IlsvrcTree, images: ImageList) -> IntArray | None:
    """By the indices of the list; None where the kit has none."""
    if tree.validation_labels is None:
        return None
    every = read_cls_labels(tree.root)
    indices = np.array(images.indices)
    if indices.max() > len(every):
        raise DataError(
            f"{tree.validation_labels} has {len(every):,} labels, and the list an image with index "
            f"{indices.max():,}. Take both from one development kit."
        )
    return every[indices - 1]


def _objects(
    tree: IlsvrcTree, split: str, images: ImageList, synsets: SynsetMap
) -> tuple[IntArray, IntArray, FloatArray]:
    """Image and label of each object, from 1, and its box; raises DataError with all faults."""
    place, faults = synsets.place(), []
    rows: list[tuple[int, int]] = []
    boxes: list[tuple[float, float, float, float]] = []
    folder = tree.annotations(split)
    for number, image_id in enumerate(images.ids, 1):
        annotation = read_annotation(folder / f"{image_id}.xml")
        faults += annotation.faults
        for item in annotation.objects:
            if item.name not in place:
                faults.append(
                    f"{annotation.where}, object {item.number}: {item.name} is no class of "
                    f"{tree.map_file.name}"
                )
            elif fault := swapped(annotation, item):
                faults.append(fault)
            else:
                rows.append((number, place[item.name] + 1))
                boxes.append(item.box)
    if faults:
        raise DataError(f"{folder}: {len(faults):,} faults.\n{first_few(faults, 5)}")
    table = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1], np.array(boxes, dtype=np.float64).reshape(-1, 4)


# -- of a run ----------------------------------------------------------------------------------


def truth_of_run(truth: GroundTruth) -> DetTruth:
    """The objects of a result folder: classes in the order of their ids, from 1."""
    return DetTruth(
        len(truth.index.image_ids),
        truth.image + 1,
        truth.category + 1,
        _corners(truth.boxes),
        len(truth.index.category_ids),
    )


def results_of_run(columns: Columns) -> DetResults:
    """Its detections, images counted from 1 in the order of the set."""
    return DetResults(
        columns.image + 1, columns.category + 1, columns.scores, _corners(columns.boxes)
    )


def _corners(boxes: FloatArray) -> FloatArray:
    """(x, y, width, height) to (xmin, ymin, xmax, ymax), the numbers of the XML."""
    return np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
