"""COCO's instances JSON as training needs it; every fault collected, none raised.

The file is parsed by `resdet.formats.coco_json`, with the rules of the evaluator. Here every image
needs a file_name, and a missing size is taken from the image file.

`difficult` and `truncated` may stand beside `iscrowd`, as the embedded digits have them. What is
harmless is fixed and counted: a missing `iscrowd` or `area`, ids such as 7.0.

Not for: files and boxes against images (`coco_reader`); results
(`resdet.evaluation.inputs.validation`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from resdet.data.checks.faults import Faults
from resdet.data.options import Counts, count_for, to_type
from resdet.formats import coco_json
from resdet.formats.coco_json import Id, Size
from resdet.formats.other_tools import describe_json
from resdet.printable import one_line


@dataclass
class CocoFile:
    """The contents of a file.

    Attributes:
        images: by id: file_name, and size or None.
        categories: names by id, in the order of ids.
        annotations: the good ones, as dicts with "id", "image_id", "category_id", "box" (x, y,
            width, height), "iscrowd", "difficult", "truncated", "area", "segmentation".
        annotated: there is an "annotations" key; test sets have none (F8).
        repairs: what was fixed, and how often.
        box_areas: annotations whose area is exactly their box's.
        orphans: annotations of images that are not there, left out.
        no_boxes: a sentence for each annotation whose bbox is none.
        notes: sentences that belong beside every number from this file.
    """

    title: str
    images: dict[Id, tuple[str, Size | None]] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    annotated: bool = True
    repairs: Counter[str] = field(default_factory=Counter)
    box_areas: int = 0
    orphans: int = 0
    no_boxes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def where(self, annotation_id: int, category_id: int, image_id: Id) -> str:
        """How messages name an annotation."""
        name = self.categories[category_id]
        return f"{self.title}, annotation {annotation_id} ({name}, image {image_id})"


def parse_coco(
    content: Mapping[str, Any],
    title: str,
    faults: Faults,
    *,
    drop_orphans: Counts = 0,
    masks: bool = True,
    needs_masks: bool = False,
) -> CocoFile:
    """All entries of a file; what is wrong is added to `faults`.

    Args:
        drop_orphans: annotations of images that are not there, exactly so many, are left out; a
            mapping is looked up by the name in `faults`.
        masks: those of all objects are kept; else of crowds alone.
        needs_masks: kept as the file has them, for `checks.object_masks`; else what is no mask is
            dropped and counted.
    """
    reader = _EntryReader(CocoFile(title), faults, masks, needs_masks)
    if key := coco_json.lacking_list(content, ("images", "categories")):
        what = describe_json(content) or "Is it an instances file?"
        faults.add("file", f'{title} has no list "{key}"', fix=what)
        return reader.file
    reader.read_images(content["images"])
    reader.read_categories(content["categories"], content.get("annotations"))
    reader.file.annotated = "annotations" in content
    if reader.file.annotated:
        if coco_json.lacking_list(content, ("annotations",)):
            faults.add("file", f'{title}: "annotations" is no list')
            return reader.file
        reader.read_annotations(content["annotations"], drop_orphans)
    return reader.file


class _EntryReader:
    def __init__(self, file: CocoFile, faults: Faults, masks: bool, needs_masks: bool):
        self.file = file
        self.faults = faults
        self.masks = masks
        self.needs_masks = needs_masks
        # Entries with a fault of their own: what refers to them is not called unknown as well.
        self.rejected_images = coco_json.RejectedIds()
        self.rejected_categories = coco_json.RejectedIds()

    def read_images(self, entries: list[Any]) -> None:
        read = coco_json.read_images(entries)
        self.file.repairs.update(read.repairs)
        for fault in read.faults:
            self._refuse_image(fault, entries)
        for image in read.images:
            name = coco_json.file_name_of(image.entry)
            if name is None:
                where = self._where("images", image.number)
                self.rejected_images.ids.add(image.id)
                self.faults.add(
                    "images",
                    f"{where} (id {image.id}) has no file_name",
                    fix="Write the image's path below the folder of images.",
                )
                continue
            self.file.repairs["file_name missing, taken from coco_url"] += (
                "file_name" not in image.entry
            )
            if image.size is None:
                self.file.repairs["size missing, taken from the image"] += 1
            self.file.images[image.id] = (name, image.size)
        if coco_json.is_federated(entries):
            self.file.notes.append(
                "federated as LVIS: not every category was annotated on every image, so COCO's AP "
                "counts right detections as wrong, and is not LVIS's"
            )
        if not entries:
            self.faults.add("file", f'{self.file.title}: "images" is empty, so the set is empty')

    def _where(self, key: str, number: int) -> str:
        """How messages name an entry, counted from 1."""
        return f'{self.file.title}, "{key}" entry {number + 1}'

    def _refuse_image(self, fault: coco_json.Fault, entries: list[Any]) -> None:
        where = self._where("images", fault.number)
        self.rejected_images.add(fault)
        if fault.rule == "object":
            self.faults.add("images", f"{where} is {_shown(fault.value)}, not an object")
        elif fault.rule == "id":
            self._refuse_id(fault.value, where, "id", "Ids are whole numbers or text.")
        elif fault.rule == "half":
            self._refuse_half(where, "id", fault.value)
        elif fault.rule == "twice":
            names = [e.get("file_name") for e in (entries[fault.other], fault.entry)]
            self.faults.add(
                "ids",
                f'image id {fault.value} occurs twice in {self.file.title} ("images" entries '
                f"{fault.other + 1} and {fault.number + 1}: {names[0]}, {names[1]})",
                fix="Ids must be unique; renumber one.",
            )
        elif fault.rule == "as_text":
            self.faults.add(
                "ids",
                f"{where}: id is {_shown(fault.value)}, equal as text to that of another image",
                fix="Ids must be unique; renumber one.",
            )
        else:
            sides = [_shown(fault.entry.get(side)) for side in ("width", "height")]
            self.faults.add(
                "images",
                f"{where}: width is {sides[0]}, height is {sides[1]}",
                fix="Write the image's size, or leave both out.",
            )

    def read_categories(self, entries: list[Any], annotations: object) -> None:
        read = coco_json.read_categories(entries, annotations)
        self.file.repairs.update(read.repairs)
        self.file.notes += read.notes
        for fault in read.faults:
            self._refuse_category(fault)
        if not entries:
            self.faults.add("file", f'{self.file.title}: "categories" is empty')
        self.file.categories = read.names

    def _refuse_category(self, fault: coco_json.Fault) -> None:
        where = self._where("categories", fault.number)
        self.rejected_categories.add(fault)
        if fault.rule == "object":
            self.faults.add("categories", f"{where} is {_shown(fault.value)}, not an object")
        elif fault.rule == "id":
            self._refuse_id(fault.value, where)
        elif fault.rule == "name":
            what = "has no name"
            if fault.other is not None and not isinstance(fault.other, str):
                what = f"has the name {_shown(fault.other)}, which is not text"
            self.faults.add(
                "categories",
                f"{where} (id {fault.value}) {what}",
                fix='Write the class\'s name as text, such as "name": "cat".',
            )
        elif fault.rule == "half":
            self._refuse_half(where, "name", fault.value)
        elif fault.rule == "twice":
            name = fault.entry["name"].strip()
            self.faults.add(
                "categories",
                f'category id {fault.value} occurs twice: "{fault.other}", "{name}"',
                fix="Renumber one.",
            )
        else:
            name = fault.entry["name"].strip()
            self.faults.add(
                "categories",
                f'two categories are called "{name}": ids {fault.other} and {fault.value}',
                fix="Rename one, or make them one.",
            )

    def _refuse_half(self, where: str, key: str, text: str) -> None:
        self.faults.add(
            "text",
            f"{where}: {key} is {json.dumps(text)}, with half a character (a lone surrogate) in it",
            fix="Write it anew.",
        )

    def read_annotations(self, entries: list[Any], drop_orphans: Counts) -> None:
        first: dict[int, int] = {}
        orphans = []
        for number, entry, where in self._objects("annotations", entries):
            annotation_id = self._annotation_id(entry, number, first, where)
            if annotation_id is None:
                continue
            where = f"{self.file.title}, annotation {annotation_id}"
            image, category = (
                self._as_number(entry.get(key), there)
                for key, there in (
                    ("image_id", self.file.images), ("category_id", self.file.categories)
                )
            )  # fmt: skip
            image_id = self._id(image, where, "image_id", text=True)
            category_id = self._id(category, where, "category_id")
            if image_id is None or not isinstance(category_id, int):
                continue
            if image_id not in self.file.images:
                if image_id in self.rejected_images:
                    continue
                orphans.append(
                    f"annotation {annotation_id} in {self.file.title} points to image "
                    f"{one_line(image_id)}, "
                    'which is not in "images"'
                )
                continue
            if category_id not in self.file.categories:
                if category_id in self.rejected_categories:
                    continue
                self.faults.add(
                    "unknown categories",
                    f'{where} has category_id {category_id}, which is not in "categories" (ids '
                    f"{_spread(list(self.file.categories))})",
                    fix="Add the category, or correct the annotations.",
                )
                continue
            self._read_object(entry, annotation_id, image_id, category_id)
        self._refuse_orphans(orphans, len(entries), drop_orphans)
        if ignored := coco_json.count_ignored(entries):
            self.file.notes.append(coco_json.counted_in_coco("ignore", ignored))

    def _refuse_orphans(self, orphans: list[str], total: int, drop_orphans: Counts) -> None:
        """Another number of annotations without their image than was stated is a fault (F7)."""
        number, stated = len(orphans), count_for(drop_orphans, self.faults.name)
        self.file.orphans = number
        if number in (0, stated):
            return
        for line in orphans:
            self.faults.add("orphans", line)
        typed = to_type("DATASETS.DROP_ORPHANS", drop_orphans, self.faults.name, number)
        self.faults.explain(
            "orphans",
            fix=f"{number:,} of {total:,} annotations {'is' if number == 1 else 'are'} affected. "
            f"Add the images, delete the annotations, or {typed}"
            f"{f' (not {stated})' if stated else ''}.",
        )

    def _objects(self, key: str, entries: list[Any]) -> Iterator[tuple[int, dict[str, Any], str]]:
        """The entries that are objects: their place from 1, themselves, how messages name them."""
        for number, entry in enumerate(entries, 1):
            where = f'{self.file.title}, "{key}" entry {number}'
            if isinstance(entry, dict):
                yield number, entry, where
            else:
                self.faults.add(key, f"{where} is {_shown(entry)}, not an object")

    def _annotation_id(
        self, entry: Mapping[str, Any], number: int, first: dict[int, int], where: str
    ) -> int | None:
        if "id" not in entry:
            # Nothing but messages and the check for doubles needs it.
            self.file.repairs["annotation without id, numbered"] += 1
            return number
        annotation_id = self._id(entry["id"], where)
        if not isinstance(annotation_id, int):
            return None
        if annotation_id in first:
            self.faults.add(
                "ids",
                f'annotation id {annotation_id} occurs twice in {self.file.title} ("annotations" '
                f"entries {first[annotation_id]} and {number})",
                fix="Ids must be unique; renumber one.",
            )
            return None
        first[annotation_id] = number
        return annotation_id

    def _read_object(
        self, entry: Mapping[str, Any], number: int, image_id: Id, category_id: int
    ) -> None:
        where = self.file.where(number, category_id, image_id)
        box, repair = coco_json.read_box(entry)
        if repair:
            self.file.repairs[repair] += 1
        if box is None:
            self.file.no_boxes.append(f"{where}: bbox is {_shown(entry.get('bbox'))}")
            return
        flags = [self._flag(entry, key, where) for key in ("iscrowd", "difficult", "truncated")]
        segmentation = self._segmentation(entry.get("segmentation"))
        self.file.annotations.append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": category_id,
                "box": box,
                "iscrowd": flags[0],
                "difficult": flags[1],
                "truncated": flags[2],
                "area": self._area(entry, box, where),
                "segmentation": segmentation if self.masks or flags[0] else None,
            }
        )

    def _flag(self, entry: Mapping[str, Any], key: str, where: str) -> int:
        flag, repair = coco_json.read_flag(entry, key)
        if repair and (key == "iscrowd" or key in entry):
            self.file.repairs[repair] += 1
        if flag is None:
            value = entry[key]
            kind = " (text)" if isinstance(value, str) else ""
            self.faults.add(
                "flags", f"{where}: {key} is {_shown(value)}{kind}", fix="Write the number 0 or 1."
            )
        return flag or 0

    def _area(self, entry: Mapping[str, Any], box: list[float], where: str) -> float:
        area, by_box = entry.get("area"), box[2] * box[3]
        if area is None:
            self.file.repairs["area missing, box area used"] += 1
            self.file.box_areas += 1
            return by_box
        judged = coco_json.judge_area(area, box[2], box[3])
        # A box without area is a fault of its own.
        if judged == "wrong" and (by_box > 0 or not coco_json.is_number(area)):
            self.faults.add(
                "areas",
                f"{where}: area is {_shown(area)}, its box has {by_box:g}",
                fix="Write the area of the mask, or leave it out: the box's is used then.",
            )
        if judged == "wrong":
            return by_box
        if repair := coco_json.AREA_REPAIRS.get(judged):
            self.file.repairs[repair] += 1
        self.file.box_areas += math.isclose(area, by_box, rel_tol=1e-6)
        return float(area)

    def _segmentation(self, value: Any) -> Any:
        """Polygons of three points or more, or run lengths; None where there are none."""
        if self.needs_masks:
            return value
        if isinstance(value, dict) and {"size", "counts"} <= set(value):
            return value
        polygons = value if isinstance(value, list) else []
        good = [p for p in polygons if isinstance(p, list) and len(p) % 2 == 0 and len(p) >= 6]
        if value and len(good) < len(polygons or [value]):
            self.file.repairs["masks that are no polygons, dropped"] += 1
        return good or None

    def _as_number(self, value: Any, there: Mapping[Any, Any]) -> Any:
        """The value, or its number where it is text and only the number is there."""
        number = coco_json.number_of(value)
        if number is None or value in there or number not in there:
            return value
        self.file.repairs[coco_json.TEXT_REPAIR] += 1
        return number

    def _id(self, value: Any, where: str, key: str = "id", *, text: bool = False) -> Id | None:
        result = coco_json.as_id(value, text=text)
        if result is None:
            self._refuse_id(value, where, key)
        elif isinstance(value, float):
            self.file.repairs["ids with a decimal point"] += 1
        return result

    def _refuse_id(
        self, value: Any, where: str, key: str = "id", fix: str = "Ids are whole numbers."
    ) -> None:
        hint = f"; write the number {value}" if isinstance(value, str) and value.isdigit() else ""
        kind = " (text)" if isinstance(value, str) else ""
        self.faults.add("ids", f"{where}: {key} is {_shown(value)}{kind}{hint}", fix=fix)


def _shown(value: Any) -> str:
    if value is None or value is coco_json.MISSING:
        return "missing"
    text = json.dumps(value, ensure_ascii=coco_json.is_half_text(value), default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _spread(ids: list[int]) -> str:
    return f"{ids[0]} to {ids[-1]}" if ids else "none"
