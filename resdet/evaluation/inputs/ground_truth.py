"""COCO's instances JSON as arrays: checked, counted, renumbered inside, the file untouched.

The file is read with the loader's rules (`resdet.formats.coco_json`).
Where an annotation has a fault or needs a repair, all are read one by one
(`annotation_entries`). Faults F5, F7, F8, F56, F57, F58 of `docs/faults.md`.

Not for: detections (`validation`), or VOC's XML (`annotation_files`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from resdet import profile
from resdet.errors import CheckFailed, DataError
from resdet.evaluation.inputs.annotation_entries import (
    AnnotationReader,
    TruthFaults,
    category_fault,
    image_fault,
)
from resdet.evaluation.inputs.arrays import (
    BoolArray,
    FloatArray,
    ImageId,
    IntArray,
    places,
    read_json,
    to_floats,
)
from resdet.evaluation.inputs.findings import TRUTH
from resdet.formats import coco_json
from resdet.formats.other_tools import describe_json


@dataclass(frozen=True)
class SetIndex:
    """What of a set its results are checked against: images with sizes, and categories."""

    title: str
    image_ids: tuple[ImageId, ...]
    sizes: FloatArray  # (images, 2): width, height in pixels; NaN where unknown
    category_ids: tuple[int, ...]
    category_names: tuple[str, ...]
    file_names: tuple[str | None, ...] = ()  # of the images, where the set names them

    def image_rank(self) -> IntArray:
        """Place of each image in the order of ids: numbers by value, then text."""
        order = sorted(range(len(self.image_ids)), key=lambda i: _id_key(self.image_ids[i]))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        return rank


def _id_key(image_id: ImageId) -> tuple[bool, ImageId]:
    return isinstance(image_id, str), image_id


@dataclass(frozen=True)
class GroundTruth:
    """The objects of a COCO-style set; row i of each array is the file's annotation i."""

    index: SetIndex
    image: IntArray  # place in index.image_ids
    category: IntArray  # place in index.category_ids
    boxes: FloatArray  # (objects, 4): x, y, width, height
    area: FloatArray
    crowd: BoolArray
    difficult: BoolArray
    segmentations: list[Any]  # as the file has them; None where missing
    members: dict[int, FloatArray]  # row of a crowd to the boxes of its objects, where it has them
    info: Mapping[str, Any]
    repairs: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # to be shown beside every number of COCO's metric
    accepted: Mapping[str, int] = field(default_factory=dict)  # faults by rule

    @property
    def sizes_by_box_area(self) -> bool:
        """Every `area` is its box's: APs, APm and APl are then not comparable with COCO's."""
        boxes = self.boxes[:, 2] * self.boxes[:, 3]
        return len(boxes) > 0 and bool(np.allclose(self.area, boxes, rtol=1e-6, atol=1e-6))


def read_ground_truth(
    source: Mapping[str, Any] | Path | str | GroundTruth,
    accepted: Mapping[str, int] | None = None,
) -> GroundTruth:
    """The ground truth in a COCO-style JSON file or in the object such a file holds.

    Args:
        accepted: by rule, exactly so many faults are accepted (`annotation_entries.RULES`; other
            rules are of results); None where the caller cannot state any.

    Raises:
        DataError: no such file, no annotations (a test set), or faults in them: all of them
            are counted, the first named.
        CheckFailed: another number of faults was accepted than there is.
    """
    if not isinstance(source, GroundTruth):
        return _read(source, accepted)
    stated = {r: n for r, n in (accepted or {}).items() if r.startswith(TRUTH)}
    if stated and stated != dict(source.accepted):
        raise CheckFailed(
            f"{source.index.title} was read with {dict(source.accepted) or 'nothing'} accepted, "
            f"and {stated} is stated now. State the same, or nothing."
        )
    return source


@profile.timed("read annotations")
def _read(
    source: Mapping[str, Any] | Path | str, accepted: Mapping[str, int] | None
) -> GroundTruth:
    title = "the ground truth"
    if isinstance(source, str | Path):
        title = Path(source).name
        source = read_json(source, DataError)
    if not isinstance(source, Mapping):
        what = "Is it a results file? Give it as RESULTS, and instances as --gt."
        raise DataError(
            f"{title} holds a {type(source).__name__}, not an object with images, annotations "
            f"and categories. {describe_json(source) or what}"
        )
    if key := coco_json.lacking_list(source, ("images", "categories", "annotations")):
        raise DataError(_lacks(title, key, source))
    return _GroundTruthReader(title, source, accepted).read()


def _lacks(title: str, key: str, source: Mapping[str, Any]) -> str:
    if what := describe_json(source):
        return f'{title} has no list "{key}". {what}'
    if key == "annotations":
        return (
            f"{title} has no annotations, so no AP can be had here: it describes a test set. "
            "Give a set with annotations as --gt."
        )
    return (
        f'{title} has no list "{key}". COCO\'s instances JSON has images, annotations, categories.'
    )


# The keys of an annotation without faults.
_PLAIN = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")


def _are_lists(boxes: list[Any]) -> bool:
    return set(map(type, boxes)) <= {list, tuple} and set(map(len, boxes)) <= {4}


class _GroundTruthReader:
    """One pass over a file; collects every fault before the first is raised."""

    def __init__(
        self, title: str, source: Mapping[str, Any], accepted: Mapping[str, int] | None = None
    ):
        self.title = title
        self.source = source
        self.faults = TruthFaults(title, accepted)
        self.repairs: dict[str, int] = {}
        self.notes: list[str] = []
        self.rejected = coco_json.RejectedIds(), coco_json.RejectedIds()

    def read(self) -> GroundTruth:
        index = self._index()
        ground_truth = self._plain_annotations(index) or self._annotations(index)
        self.notes += self.faults.settle()
        self._note_what_coco_lacks(ground_truth)
        # Of the set that a run was measured on: what its own files no longer show.
        known = ground_truth.info.get("notes")
        if isinstance(known, list):
            self.notes += [f"{n[0].upper()}{n[1:]}." for n in known if isinstance(n, str) and n]
        accepted = {r: n for r, n in (self.faults.accepted or {}).items() if r.startswith(TRUTH)}
        notes = tuple(dict.fromkeys(self.notes))
        return replace(ground_truth, notes=notes, accepted=accepted)

    def read_index(self) -> SetIndex:
        index = self._index()
        self.faults.settle()
        return index

    def _index(self) -> SetIndex:
        ids, sizes, names = self._images()
        return SetIndex(self.title, ids, sizes, *self._categories(), names)

    def _note_what_coco_lacks(self, truth: GroundTruth) -> None:
        if difficult := int((truth.difficult & ~truth.crowd).sum()):
            self.notes.append(coco_json.counted_in_coco("difficult", difficult) + ".")
        if ignored := coco_json.count_ignored(self.source["annotations"]):
            self.notes.append(coco_json.counted_in_coco("ignore", ignored) + ".")
        if coco_json.is_federated(self.source["images"]):
            self.notes.append(
                "The set is federated, as LVIS: not every category was annotated on every image. "
                "COCO's metric counts right detections of such categories as wrong, so this is "
                "not LVIS's AP; that is lvis-api's."
            )

    def _images(self) -> tuple[tuple[ImageId, ...], FloatArray, tuple[str | None, ...]]:
        read = coco_json.read_images(self.source["images"])
        self._count(read)
        for fault in read.faults:
            self.faults.add("images", image_fault(fault))
            # An image whose size is none is there, without a size.
            if fault.rule != "size":
                self.rejected[0].add(fault)
        self._refuse_empty("images", read.images, read.faults)
        sizes = [image.size or (np.nan, np.nan) for image in read.images]
        return (
            tuple(image.id for image in read.images),
            np.array(sizes, dtype=np.float64).reshape(-1, 2),
            tuple(coco_json.file_name_of(image.entry) for image in read.images),
        )

    def _count(self, read: coco_json.Entries) -> None:
        for what, number in read.repairs.items():
            self.repairs[what] = self.repairs.get(what, 0) + number

    def _refuse_empty(self, key: str, good: Sized, faults: Sized) -> None:
        if not good and not faults:
            self.faults.add("", f'"{key}" is empty: there is nothing to score.')
        elif not good:
            self.faults.emptied.append(key)

    def _categories(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """In the order of ids, as pycocotools takes them."""
        annotations = self.source.get("annotations")
        read = coco_json.read_categories(self.source["categories"], annotations)
        self._count(read)
        self.notes += [f"{note[0].upper()}{note[1:]}." for note in read.notes]
        for fault in read.faults:
            self.faults.add("categories", category_fault(fault))
            self.rejected[1].add(fault)
        self._refuse_empty("categories", read.names, read.faults)
        return tuple(read.names), tuple(read.names.values())

    def _plain_annotations(self, index: SetIndex) -> GroundTruth | None:
        """The annotations, all at once, where none has a fault; else None.

        What `_annotations` would give, ten times faster.
        """
        items = self.source["annotations"]
        if set(map(type, items)) - {dict}:
            return None
        try:
            columns = [list(map(itemgetter(key), items)) for key in _PLAIN]
        except KeyError:
            return None
        ids, images, categories, boxes, areas, crowd = columns
        difficult = [item.get("difficult", 0) for item in items]
        numbers = chain(areas, chain.from_iterable(boxes) if _are_lists(boxes) else [None])
        fits = (
            all(set(map(type, column)) <= {int} for column in (ids, categories, crowd, difficult))
            and set(map(type, images)) <= {int, str}
            and set(map(type, numbers)) <= {int, float}
            and len(set(ids)) == len(ids)
            and set(crowd) | set(difficult) <= {0, 1}
            and not any("members" in item for item in items)
        )
        if not fits:
            return None
        image_places = {image_id: i for i, image_id in enumerate(index.image_ids)}
        category_places = {category_id: i for i, category_id in enumerate(index.category_ids)}
        image, category = places(images, image_places), places(categories, category_places)
        box = to_floats(chain.from_iterable(boxes)).reshape(-1, 4)
        with np.errstate(over="ignore"):
            area, by_box = to_floats(areas), box[:, 2] * box[:, 3]
            largest = by_box * coco_json.AREA_SLACK + coco_json.AREA_ROUNDING
        if not (
            image.min(initial=0) >= 0
            and category.min(initial=0) >= 0
            and np.isfinite(box).all()
            # Whole numbers from here on are refused: the careful way tells them from floats.
            and (np.abs(box) < coco_json.MAX_INTEGER).all()
            and (area < coco_json.MAX_INTEGER).all()
            and (box[:, 2:] > 0).all()
            and ((area > 0) & (area <= largest)).all()
        ):
            return None
        info = self.source.get("info")
        return GroundTruth(
            index, image, category, box, area, np.array(crowd, dtype=np.bool_),
            np.array(difficult, dtype=np.bool_), [item.get("segmentation") for item in items], {},
            info if isinstance(info, Mapping) else {}, self.repairs,
        )  # fmt: skip

    def _annotations(self, index: SetIndex) -> GroundTruth:
        reader = AnnotationReader(
            self.faults,
            self.repairs,
            {image_id: i for i, image_id in enumerate(index.image_ids)},
            {category_id: i for i, category_id in enumerate(index.category_ids)},
            self.rejected,
        )
        rows = reader.read(self.source["annotations"])
        if reader.left_out:
            what = "annotations of images or categories that were left out"
            self.notes.append(f"Left out with them: {reader.left_out:,} {what}.")
        info = self.source.get("info")
        return GroundTruth(
            index,
            np.array(rows.images, dtype=np.int64),
            np.array(rows.categories, dtype=np.int64),
            np.array(rows.boxes, dtype=np.float64).reshape(-1, 4),
            np.array(rows.areas, dtype=np.float64),
            np.array(rows.crowd, dtype=np.bool_),
            np.array(rows.difficult, dtype=np.bool_),
            rows.segmentations,
            rows.members,
            info if isinstance(info, Mapping) else {},
            self.repairs,
        )


def read_index(
    source: Mapping[str, Any] | Path | str, accepted: Mapping[str, int] | None = None
) -> SetIndex:
    """Images with their sizes, and categories, of a set with or without annotations (image_info).

    Annotations are not looked at.

    Args:
        accepted: as for `read_ground_truth`, of images and categories.

    Raises:
        DataError: no such file, no images or categories, or faults in them.
    """
    title = "the set"
    if isinstance(source, str | Path):
        title = Path(source).name
        source = read_json(source, DataError)
    if not isinstance(source, Mapping):
        raise DataError(
            f"{title} holds a {type(source).__name__}, not an object with images and categories. "
            + (
                describe_json(source)
                or "Is it a results file? Give instances or image_info as --gt."
            )
        )
    if key := coco_json.lacking_list(source, ("images", "categories")):
        raise DataError(_lacks(title, key, source))
    return _GroundTruthReader(title, source, accepted).read_index()
