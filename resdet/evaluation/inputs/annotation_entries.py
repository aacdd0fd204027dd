"""The annotations of a COCO-style file one by one: every fault named, counted, or accepted.

What pycocotools accepts silently is refused here (ids that stand twice, objects of images that
are not there, `iscrowd` as text), and what is harmless is repaired and counted. A kind of faults
that is accepted by its exact count costs the entries that have it, or is read as `RULES` states.

Not for: files without faults (`ground_truth` makes arrays of those at once).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resdet.errors import CheckFailed, DataError, first_few
from resdet.evaluation.inputs.arrays import FloatArray, ImageId, as_text
from resdet.evaluation.inputs.findings import TRUTH, accept_words
from resdet.formats import coco_json
from resdet.printable import one_line

# Kinds of faults that can be accepted, and what becomes of an accepted one.
RULES = {
    f"{TRUTH}images": "images with a fault, left out with their annotations",
    f"{TRUTH}categories": "categories with a fault, left out with their annotations",
    f"{TRUTH}entries": "annotations that cannot be read, left out",
    f"{TRUTH}ids": "annotation ids with a fault, numbered anew",
    f"{TRUTH}orphans": "annotations of images that are not there, left out",
    f"{TRUTH}unknown-categories": "annotations of categories that are not there, left out",
    f"{TRUTH}boxes": "boxes that are none, left out with their annotations",
    f"{TRUTH}areas": "areas that are none, the box's used",
    f"{TRUTH}flags": "iscrowd or difficult neither 0 nor 1, read as 1 where it is a number but 0",
}


class TruthFaults:
    """The faults of one ground truth, in order, and whether they are accepted.

    Args:
        title: of the file. accepted: counts by rule; None where the caller has no way to state
            them, and the page names none.
    """

    def __init__(self, title: str, accepted: Mapping[str, int] | None):
        self.title = title
        self.accepted = accepted
        self.lines: list[tuple[str, str]] = []
        # Lists of which every entry has a fault: accepting that leaves nothing to score.
        self.emptied: list[str] = []

    def add(self, rule: str, line: str) -> None:
        """A fault of one of `RULES`, without its prefix; "" for one that cannot be accepted."""
        self.lines.append((rule and TRUTH + rule, line))

    def settle(self) -> list[str]:
        """Notes on what was accepted.

        Raises:
            CheckFailed: there are more or fewer faults of a rule than were accepted.
            DataError: faults that were not accepted; the page has what accepts them.
        """
        there = Counter(rule for rule, _ in self.lines)
        stated = {r: n for r, n in (self.accepted or {}).items() if r.startswith(TRUTH)}
        for rule, count in stated.items():
            if there[rule] != count:
                listed = ", ".join(f"{r}={n}" for r, n in there.items() if r) or "none"
                raise CheckFailed(
                    f"{self.title} is not scored against: --accept {rule}={count}, and it has "
                    f"{there[rule]:,} of {rule}. What was found: {listed}. Give the exact number, "
                    "or leave it out."
                )
        rest = [(rule, line) for rule, line in self.lines if rule not in stated]
        if rest:
            raise DataError(self._page(rest))
        if self.emptied:
            raise DataError(
                f'{self.title}: every entry of "{self.emptied[0]}" has a fault, so nothing is left '
                "to score. Fix the file."
            )
        return [f"Accepted in {self.title}: {n:,} x {RULES[rule]}." for rule, n in stated.items()]

    def _page(self, faults: Sequence[tuple[str, str]]) -> str:
        number = len(faults)
        page = (
            f"{self.title}: {number:,} {'fault' if number == 1 else 'faults'}, so it cannot be "
            f"scored against. Fix the file.\n{first_few([line for _, line in faults])}"
        )
        counts = Counter(rule for rule, _ in faults)
        if self.accepted is None or self.emptied or "" in counts:
            return page
        means = "; ".join(f"{rule}: {RULES[rule]}" for rule in counts)
        words = accept_words({**self.accepted, **counts})
        return (
            f"{page}\nTo score against it all the same, with this stated beside the number "
            f"({means}): {words}"
        )


def image_fault(fault: coco_json.Fault) -> str:
    """A fault of an entry of "images" in words."""
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
    if fault.rule == "as_text":
        return (
            f"{where} has the id {as_text(fault.value)}, equal as text to another's: some image "
            'ids are equal as text (1 and "1"); renumber them.'
        )
    width, height = (as_text(fault.entry.get(side)) for side in ("width", "height"))
    return (
        f"{where} (id {fault.value}): width is {width}, height is {height}. Write the image's "
        "size, or leave both out."
    )


def category_fault(fault: coco_json.Fault) -> str:
    """A fault of an entry of "categories" in words."""
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
        return f"category id {fault.value} occurs twice. Renumber {one_line(name)}."
    return f'two categories are named "{name}". Rename one.'


def _half_a_pair(where: str, key: str, text: object) -> str:
    return (
        f'{where} has the {key} "{one_line(text)}", with half a character (a lone surrogate) in '
        "it. Write it anew."
    )


@dataclass
class AnnotationRows:
    """What annotations have, row by row; a row is one object that is scored."""

    images: list[int] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    segmentations: list[Any] = field(default_factory=list)
    members: dict[int, FloatArray] = field(default_factory=dict)


class AnnotationReader:
    """Reads annotations against the images and categories of their file.

    images, categories: places by id. rejected: (images, categories) whose entries have a fault,
    so that their annotations are left out without a word of their own; `left_out` counts them.
    """

    def __init__(
        self,
        faults: TruthFaults,
        repairs: dict[str, int],
        images: Mapping[Any, int],
        categories: Mapping[Any, int],
        rejected: tuple[coco_json.RejectedIds, coco_json.RejectedIds],
    ):
        self.faults = faults
        self.repairs = repairs
        self.images = images
        self.categories = categories
        self.rejected = rejected
        self.left_out = 0
        self._first: dict[Any, int] = {}

    def read(self, entries: Sequence[Any]) -> AnnotationRows:
        rows = AnnotationRows()
        for number, item in enumerate(entries):
            if not isinstance(item, Mapping):
                line = f'"annotations" entry {number} is {as_text(item)}, not an object.'
                self.faults.add("entries", line)
            else:
                self._read_entry(number, item, rows)
        return rows

    def _read_entry(self, number: int, item: Mapping[str, Any], rows: AnnotationRows) -> None:
        name = self._name(number, item)
        image = self._place(item, "image_id", name)
        category = self._place(item, "category_id", name)
        if image is None or category is None:
            self.left_out += 1
            return
        box = self._box(item, name)
        crowd = self._flag(item, "iscrowd", name)
        difficult = self._flag(item, "difficult", name)
        if box is None or image < 0 or category < 0:
            return
        if crowd and item.get("members"):
            rows.members[len(rows.images)] = self._members(item["members"], name)
        rows.images.append(image)
        rows.categories.append(category)
        rows.boxes.append(box)
        rows.areas.append(self._area(item, box, name))
        rows.crowd.append(crowd)
        rows.difficult.append(difficult)
        rows.segmentations.append(item.get("segmentation"))

    def _repair(self, what: str) -> None:
        self.repairs[what] = self.repairs.get(what, 0) + 1

    def _members(self, value: Any, name: str) -> FloatArray:
        """The boxes of the objects in a crowd, (members, 4)."""
        if not isinstance(value, list):
            line = f"{name} has members {as_text(value)}. Give a list of boxes."
            self.faults.add("boxes", line)
            return np.zeros((0, 4))
        boxes = [self._box({"bbox": box}, f"{name}, members") for box in value]
        return np.array([box for box in boxes if box is not None]).reshape(-1, 4)

    def _name(self, number: int, item: Mapping[str, Any]) -> str:
        """How messages name an annotation; nothing but they and the check for doubles needs ids."""
        if "id" not in item:
            self._repair("annotation without id, numbered")
            return f"annotation entry {number}"
        value = item["id"]
        if self._id(value, text=False) is None:
            line = f"annotation entry {number} has id {as_text(value)}. Use integers."
            self.faults.add("ids", line)
        elif value in self._first:
            self.faults.add(
                "ids",
                f'annotation id {value} occurs twice ("annotations" entries {self._first[value]} '
                f"and {number}). Ids must be unique; renumber one.",
            )
        else:
            self._first[value] = number
        is_id = coco_json.as_id(value) is not None
        return f"annotation {one_line(value) if is_id else as_text(value)}"

    def _id(self, value: Any, *, text: bool = True) -> ImageId | None:
        result = coco_json.as_id(value, text=text)
        if result is not None and isinstance(value, float):
            self._repair("ids with a decimal point")
        return result

    def _place(self, item: Mapping[str, Any], key: str, name: str) -> int | None:
        """Where the id stands; -1 where that is a fault, None where its entry has one."""
        places, rule, there, rejected = {
            "image_id": (self.images, "orphans", "images", self.rejected[0]),
            "category_id": (
                self.categories, "unknown-categories", "categories", self.rejected[1]
            ),
        }[key]  # fmt: skip
        value = item.get(key)
        result = self._id(value)
        place = -1 if result is None else places.get(result, -1)
        if place < 0 and (place := places.get(coco_json.number_of(value), -1)) >= 0:
            self._repair(coco_json.TEXT_REPAIR)
        if place < 0 and result is not None and result in rejected:
            return None
        if place < 0:
            self.faults.add(
                rule,
                f'{name}: {key} is {as_text(value)}, which is not in "{there}". '
                "Add it there, or delete the annotation.",
            )
        return place

    def _box(self, item: Mapping[str, Any], name: str) -> list[float] | None:
        box = item.get("bbox")
        if box in (None, []) and (around := coco_json.box_of_polygons(item.get("segmentation"))):
            self._repair(coco_json.BOX_REPAIR)
            return around
        if not isinstance(box, list | tuple) or len(box) != 4:
            line = f"{name}: bbox is {as_text(box)}. Write [x, y, width, height]."
            self.faults.add("boxes", line)
            return None
        values = coco_json.as_box(box)
        if values is None:
            self.faults.add("boxes", f"{name}: bbox is {as_text(box)}. Write four finite numbers.")
            return None
        if values[2] < 0 or values[3] < 0:
            self.faults.add(
                "boxes",
                f"{name}: width {values[2]:g} and height {values[3]:g}: a box has no negative "
                "size. Fix or delete it.",
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
        if judged == "wrong":
            self.faults.add(
                "areas",
                f"{name}: area is {as_text(item['area'])}, its box has {by_box:g}. Write the "
                "area of the mask, or leave it out: the box's is used then.",
            )
            return by_box
        if repair := coco_json.AREA_REPAIRS.get(judged):
            self._repair(repair)
        return float(item["area"])

    def _flag(self, item: Mapping[str, Any], key: str, name: str) -> bool:
        flag, repair = coco_json.read_flag(item, key)
        if repair and (key == "iscrowd" or key in item):
            self._repair(repair)
        if flag is None:
            value = item[key]
            line = f"{name}: {key} is {as_text(value)}. Write the number 0 or 1."
            self.faults.add("flags", line)
            # Where that is accepted: -1, which Open Images writes for "unknown", is a crowd, as
            # pycocotools takes it under numpy 1; under numpy 2 it ends with an OverflowError.
            return coco_json.is_number(value) and value != 0
        return bool(flag)
