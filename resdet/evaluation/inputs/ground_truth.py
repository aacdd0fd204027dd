"""COCO's instances JSON as arrays: checked, counted, renumbered inside, the file untouched.

The file is read with the loader's rules (`resdet.formats.coco_json`).
What pycocotools accepts silently is refused here (ids that stand twice, objects of images that
are not there, `iscrowd` as text), and what is harmless is repaired and counted (missing
`iscrowd` or `area`). Faults F5, F7, F8, F56, F57, F58 of `docs/faults.md`.

Not for: detections (`validation`), or VOC's XML (`annotation_files`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from resdet import profile
from resdet.errors import DataError, first_few
from resdet.evaluation.inputs.arrays import (
    BoolArray,
    FloatArray,
    ImageId,
    IntArray,
    as_text,
    places,
    printable,
    read_json,
    to_floats,
)
from resdet.formats import coco_json


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

    @property
    def sizes_by_box_area(self) -> bool:
        """Every `area` is its box's: APs, APm and APl are then not comparable with COCO's."""
        boxes = self.boxes[:, 2] * self.boxes[:, 3]
        return len(boxes) > 0 and bool(np.allclose(self.area, boxes, rtol=1e-6, atol=1e-6))


def read_ground_truth(source: Mapping[str, Any] | Path | str | GroundTruth) -> GroundTruth:
    """The ground truth in a COCO-style JSON file or in the object such a file holds.

    Raises:
        DataError: no such file, no annotations (a test set), or faults in them: all of them
            are counted, the first named.
    """
    return source if isinstance(source, GroundTruth) else _read(source)


@profile.timed("read annotations")
def _read(source: Mapping[str, Any] | Path | str) -> GroundTruth:
    title = "the ground truth"
    if isinstance(source, str | Path):
        title = Path(source).name
        source = read_json(source, DataError)
    if not isinstance(source, Mapping):
        raise DataError(
            f"{title} holds a {type(source).__name__}, not an object with images, annotations "
            "and categories. Is it a results file? Give it as RESULTS, and instances as --gt."
        )
    if key := coco_json.lacking_list(source, ("images", "categories", "annotations")):
        raise DataError(_lacks(title, key))
    return _GroundTruthReader(title, source).read()


def _lacks(title: str, key: str) -> str:
    if key == "annotations":
        return (
            f"{title} has no annotations, so no AP can be had here: it describes a test set. "
            "Give a set with annotations as --gt."
        )
    return (
        f'{title} has no list "{key}". COCO\'s instances JSON has images, annotations, categories.'
    )


def _half_a_pair(where: str, key: str, text: object) -> str:
    return (
        f'{where} has the {key} "{printable(text)}", with half a character (a lone surrogate) in '
        "it. Write it anew."
    )


def _image_fault(fault: coco_json.Fault) -> str:
    where = f'"images" entry {fault.number}'
    if fault.rule == "object":
        return f"{where} is {as_text(fault.value)}, not an object."
    if fault.rule == "id":
        return f"{where} has no id that is a number or text."
    if fault.rule == "half":
        return _half_a_pair(where, "id", fault.value)
    if fault.rule == "twice":
        return (
            f'image id {fault.value} occurs twice ("images" entries {fault.other} and '
            f"{fault.number}). Ids must be unique; renumber one."
        )
    width, height = (as_text(fault.entry.get(side)) for side in ("width", "height"))
    return (
        f"{where} (id {fault.value}): width is {width}, height is {height}. Write the image's "
        "size, or leave both out."
    )


def _category_fault(fault: coco_json.Fault) -> str:
    where = f'"categories" entry {fault.number}'
    if fault.rule == "object":
        return f"{where} is {as_text(fault.value)}, not an object."
    if fault.rule == "id":
        value = None if fault.value is coco_json.MISSING else fault.value
        return f"{where} has id {as_text(value)}. Write an integer."
    if fault.rule == "name":
        if fault.other is None or isinstance(fault.other, str):
            return f"{where} (id {fault.value}) has no name. Write one."
        return (
            f"{where} (id {fault.value}) has the name {as_text(fault.other)}, which is not text. "
            'Write the class\'s name, such as "name": "cat".'
        )
    if fault.rule == "half":
        return _half_a_pair(where, "name", fault.value)
    name = fault.entry["name"].strip()
    if fault.rule == "twice":
        return f"category id {fault.value} occurs twice. Renumber {printable(name)}."
    return f'two categories are named "{name}". Rename one.'


# The keys of an annotation without faults.
_PLAIN = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")


def _are_lists(boxes: list[Any]) -> bool:
    return set(map(type, boxes)) <= {list, tuple} and set(map(len, boxes)) <= {4}


class _GroundTruthReader:
    """One pass over a file; collects every fault before the first is raised."""

    def __init__(self, title: str, source: Mapping[str, Any]):
        self.title = title
        self.source = source
        self.faults: list[str] = []
        self.repairs: dict[str, int] = {}
        self.notes: list[str] = []

    def read(self) -> GroundTruth:
        index = self.read_index()
        ground_truth = self._plain_annotations(index) or self._annotations(index)
        self._stop_if_faulty()
        self._note_what_coco_lacks(ground_truth)
        # Of the set that a run was measured on: what its own files no longer show.
        known = ground_truth.info.get("notes")
        if isinstance(known, list):
            self.notes += [f"{n[0].upper()}{n[1:]}." for n in known if isinstance(n, str) and n]
        return replace(ground_truth, notes=tuple(dict.fromkeys(self.notes)))

    def read_index(self) -> SetIndex:
        ids, sizes, names = self._images()
        index = SetIndex(self.title, ids, sizes, *self._categories(), names)
        self._stop_if_faulty()
        return index

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

    def _stop_if_faulty(self) -> None:
        if self.faults:
            raise DataError(
                f"{self.title}: {len(self.faults):,} "
                f"{'fault' if len(self.faults) == 1 else 'faults'}, so it cannot be scored "
                f"against. Fix the file.\n{first_few(self.faults)}"
            )

    def _repair(self, what: str) -> None:
        self.repairs[what] = self.repairs.get(what, 0) + 1

    def _records(self, key: str) -> list[tuple[int, Mapping[str, Any]]]:
        records = []
        for number, item in enumerate(self.source[key]):
            if isinstance(item, Mapping):
                records.append((number, item))
            else:
                self.faults.append(f'"{key}" entry {number} is {as_text(item)}, not an object.')
        return records

    def _images(self) -> tuple[tuple[ImageId, ...], FloatArray, tuple[str | None, ...]]:
        read = coco_json.read_images(self.source["images"])
        self._count(read)
        self.faults += [_image_fault(f) for f in read.faults if f.rule != "as_text"]
        if not read.images and not self.faults:
            self.faults.append('"images" is empty: there is nothing to score.')
        if any(f.rule == "as_text" for f in read.faults):
            self.faults.append('some image ids are equal as text (1 and "1"); renumber them.')
        sizes = [image.size or (np.nan, np.nan) for image in read.images]
        return (
            tuple(image.id for image in read.images),
            np.array(sizes, dtype=np.float64).reshape(-1, 2),
            tuple(coco_json.file_name_of(image.entry) for image in read.images),
        )

    def _count(self, read: coco_json.Entries) -> None:
        for what, number in read.repairs.items():
            self.repairs[what] = self.repairs.get(what, 0) + number

    def _categories(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """In the order of ids, as pycocotools takes them."""
        annotations = self.source.get("annotations")
        read = coco_json.read_categories(self.source["categories"], annotations)
        self._count(read)
        self.notes += [f"{note[0].upper()}{note[1:]}." for note in read.notes]
        self.faults += map(_category_fault, read.faults)
        if not read.names and not self.faults:
            self.faults.append('"categories" is empty: there is nothing to score.')
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
        image_places = {image_id: i for i, image_id in enumerate(index.image_ids)}
        category_places = {category_id: i for i, category_id in enumerate(index.category_ids)}
        first: dict[Any, int] = {}
        rows: list[tuple[int, int, list[float], float, bool, bool]] = []
        segmentations = []
        members: dict[int, FloatArray] = {}
        for number, item in self._records("annotations"):
            name = self._annotation_name(number, item, first)
            image = self._place(item, "image_id", image_places, "images", name)
            category = self._place(item, "category_id", category_places, "categories", name)
            box = self._box(item, name)
            crowd = self._flag(item, "iscrowd", name)
            difficult = self._flag(item, "difficult", name, count=False)
            if box is None or image < 0 or category < 0:
                continue
            if crowd and item.get("members"):
                members[len(rows)] = self._members(item["members"], name)
            rows.append((image, category, box, self._area(item, box, name), crowd, difficult))
            segmentations.append(item.get("segmentation"))
        columns = list(zip(*rows, strict=True)) or [(), (), (), (), (), ()]
        info = self.source.get("info")
        return GroundTruth(
            index,
            np.array(columns[0], dtype=np.int64),
            np.array(columns[1], dtype=np.int64),
            np.array(columns[2], dtype=np.float64).reshape(-1, 4),
            np.array(columns[3], dtype=np.float64),
            np.array(columns[4], dtype=np.bool_),
            np.array(columns[5], dtype=np.bool_),
            segmentations,
            members,
            info if isinstance(info, Mapping) else {},
            self.repairs,
        )

    def _members(self, value: Any, name: str) -> FloatArray:
        """The boxes of the objects in a crowd, (members, 4)."""
        if not isinstance(value, list):
            self.faults.append(f"{name} has members {as_text(value)}. Give a list of boxes.")
            return np.zeros((0, 4))
        boxes = [self._box({"bbox": box}, f"{name}, members") for box in value]
        return np.array([box for box in boxes if box is not None]).reshape(-1, 4)

    def _annotation_name(self, number: int, item: Mapping[str, Any], first: dict[Any, int]) -> str:
        if "id" not in item:
            self._repair("annotation without id, numbered")
            return f"annotation entry {number}"
        value = item["id"]
        if self._id(value, text=False) is None:
            self.faults.append(f"annotation entry {number} has id {as_text(value)}. Use integers.")
        elif value in first:
            self.faults.append(
                f'annotation id {value} occurs twice ("annotations" entries {first[value]} and '
                f"{number}). Ids must be unique; renumber one."
            )
        else:
            first[value] = number
        is_id = coco_json.as_id(value) is not None
        return f"annotation {printable(value) if is_id else as_text(value)}"

    def _id(self, value: Any, *, text: bool = True) -> ImageId | None:
        result = coco_json.as_id(value, text=text)
        if result is not None and isinstance(value, float):
            self._repair("ids with a decimal point")
        return result

    def _place(
        self, item: Mapping[str, Any], key: str, places: dict[Any, int], there: str, name: str
    ) -> int:
        value = item.get(key)
        result = self._id(value)
        place = -1 if result is None else places.get(result, -1)
        if place < 0:
            self.faults.append(
                f'{name}: {key} is {as_text(value)}, which is not in "{there}". '
                "Add it there, or delete the annotation."
            )
        return place

    def _box(self, item: Mapping[str, Any], name: str) -> list[float] | None:
        box = item.get("bbox")
        if not isinstance(box, list | tuple) or len(box) != 4:
            self.faults.append(f"{name}: bbox is {as_text(box)}. Write [x, y, width, height].")
            return None
        values = coco_json.as_box(box)
        if values is None:
            self.faults.append(f"{name}: bbox is {as_text(box)}. Write four finite numbers.")
            return None
        if values[2] < 0 or values[3] < 0:
            self.faults.append(
                f"{name}: width {values[2]:g} and height {values[3]:g}: a box has no negative "
                "size. Fix or delete it."
            )
            return None
        if values[2] == 0 or values[3] == 0:
            self._repair("boxes without width or height, kept")
        return values

    def _area(self, item: Mapping[str, Any], box: list[float], name: str) -> float:
        by_box = box[2] * box[3]
        if item.get("area") is None:
            self._repair("area missing, box area used")
            return by_box
        judged = coco_json.judge_area(item["area"], box[2], box[3])
        if judged == "rounded":
            self._repair("area above its tiny box's by rounding, kept")
        if judged == "wrong":
            self.faults.append(
                f"{name}: area is {as_text(item['area'])}, its box has {by_box:g}. Write the "
                "area of the mask, or leave it out: the box's is used then."
            )
            return by_box
        return float(item["area"])

    def _flag(self, item: Mapping[str, Any], key: str, name: str, *, count: bool = True) -> bool:
        if key not in item:
            if count:
                self._repair(f"{key} missing, read as 0")
            return False
        flag = coco_json.as_flag(item[key])
        if flag is None:
            self.faults.append(f"{name}: {key} is {as_text(item[key])}. Write the number 0 or 1.")
        return bool(flag)


def read_index(source: Mapping[str, Any] | Path | str) -> SetIndex:
    """Images with their sizes, and categories, of a set with or without annotations (image_info).

    Annotations are not looked at.

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
            "Is it a results file? Give the set's instances or image_info as --gt."
        )
    if key := coco_json.lacking_list(source, ("images", "categories")):
        raise DataError(_lacks(title, key))
    return _GroundTruthReader(title, source).read_index()
