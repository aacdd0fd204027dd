"""COCO's instances JSON, checked entry by entry; every fault collected, none raised.

    images       id, file_name, width, height (sizes may be missing: the file is asked)
    annotations  id, image_id, category_id, bbox [x, y, width, height], area, iscrowd, segmentation
    categories   id, name

`difficult` and `truncated` may stand beside `iscrowd`, as the embedded digits have them. What is
harmless is mended and counted: a missing `iscrowd` or `area`, ids such as 7.0.

Not for: files and boxes against images (`coco`); results (`resdet.evaluation.inputs.validation`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from resdet.data.checks.faults import Faults
from resdet.data.options import Counts, count_for, to_type
from resdet.errors import DataError
from resdet.formats import foreign

# Of the box's area, and in pixels beyond: the mask's may be this much larger (rounding) (F56).
AREA_SLACK = 1.01
AREA_ROUNDING = 1.0
# Larger whole numbers do not fit a float, and are no coordinates.
MAX_INTEGER = 1 << 53


@dataclass
class CocoFile:
    """What a file says.

    Attributes:
        images: by id: file_name, and size or None.
        categories: names by id, in the order of ids.
        annotations: the good ones, as dicts with "id", "image_id", "category_id", "box" (x, y,
            width, height), "iscrowd", "difficult", "truncated", "area", "segmentation".
        annotated: there is an "annotations" key; test sets have none (F8).
        repairs: what was mended, and how often.
        box_areas: annotations whose area is exactly their box's.
        orphans: annotations of images that are not there, left out.
    """

    title: str
    images: dict[int, tuple[str, tuple[int, int] | None]] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    annotated: bool = True
    repairs: Counter[str] = field(default_factory=Counter)
    box_areas: int = 0
    orphans: int = 0

    def where(self, annotation_id: int, category_id: int, image_id: int) -> str:
        """How messages call an annotation."""
        name = self.categories[category_id]
        return f"{self.title}, annotation {annotation_id} ({name}, image {image_id})"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DataError: no such file, not JSON (says what it is), or not an object.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Put it there; see datasets/README.md.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        head = data[: foreign.HEAD_BYTES]
        if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"[")):
            said = foreign.describe(head, len(data), wanted="JSON")
            raise DataError(f"{path} {said}") from None
        raise DataError(
            f"{path} is cut off or damaged: after {len(data):,} bytes, {error}. Fetch it again."
        ) from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path} holds a {type(content).__name__}, not an object with images, annotations and "
            "categories. Is it a results file? Give the instances file."
        )
    return content


def parse_coco(
    content: Mapping[str, Any], title: str, faults: Faults, *, drop_orphans: Counts = 0
) -> CocoFile:
    """Everything that a file says; what is wrong goes to `faults`.

    Args:
        drop_orphans: annotations of images that are not there, exactly so many, are left out; a
            mapping goes by the name in `faults`.
    """
    reader = _Reader(CocoFile(title), faults)
    for key in ("images", "categories"):
        if not isinstance(content.get(key), list):
            faults.add("file", f'{title} has no list "{key}"', mend="Is it an instances file?")
            return reader.file
    reader.read_images(content["images"])
    reader.read_categories(content["categories"])
    reader.file.annotated = "annotations" in content
    if reader.file.annotated:
        if not isinstance(content["annotations"], list):
            faults.add("file", f'{title}: "annotations" is no list')
            return reader.file
        reader.read_annotations(content["annotations"], drop_orphans)
    return reader.file


class _Reader:
    def __init__(self, file: CocoFile, faults: Faults):
        self.file = file
        self.faults = faults

    def read_images(self, entries: list[Any]) -> None:
        place: dict[int, int] = {}
        for number, entry, where in self._objects("images", entries):
            image_id = self._id(entry.get("id"), where)
            if image_id is None:
                continue
            name = entry.get("file_name")
            if image_id in place:
                other = self.file.images[image_id][0]
                self.faults.add(
                    "ids",
                    f'image id {image_id} occurs twice in {self.file.title} ("images" entries '
                    f"{place[image_id]} and {number}: {other}, {name})",
                    mend="Ids must be unique; renumber one.",
                )
                continue
            if not isinstance(name, str) or not name:
                self.faults.add("images", f"{where} (id {image_id}) has no file_name")
                continue
            place[image_id] = number
            self.file.images[image_id] = (name, self._size(entry, where))
        if not entries:
            self.faults.add("file", f'{self.file.title}: "images" is empty, so the set is empty')

    def _size(self, entry: Mapping[str, Any], where: str) -> tuple[int, int] | None:
        values = [entry.get("width"), entry.get("height")]
        if values in ([None, None], [0, 0]):
            self.file.repairs["size missing, taken from the image"] += 1
            return None
        width, height = (int(v) if _is_number(v) and v == int(v) else 0 for v in values)
        if width <= 0 or height <= 0:
            self.faults.add(
                "images",
                f"{where}: width is {_shown(values[0])}, height is {_shown(values[1])}",
                mend="Write the image's size, or leave both out.",
            )
            return None
        return width, height

    def read_categories(self, entries: list[Any]) -> None:
        found: dict[int, str] = {}
        for _, entry, where in self._objects("categories", entries):
            category_id = self._id(entry.get("id"), where)
            if category_id is None:
                continue
            raw = entry.get("name")
            name = raw.strip() if isinstance(raw, str) else ""
            if name != raw and name:
                self.file.repairs["blanks around a class name"] += 1
            if not name:
                self.faults.add("categories", f"{where} (id {category_id}) has no name")
            elif category_id in found:
                self.faults.add(
                    "categories",
                    f'category id {category_id} occurs twice: "{found[category_id]}", "{name}"',
                    mend="Renumber one.",
                )
            elif name in found.values():
                other = next(k for k, v in found.items() if v == name)
                self.faults.add(
                    "categories",
                    f'two categories are called "{name}": ids {other} and {category_id}',
                    mend="Rename one, or make them one.",
                )
            else:
                found[category_id] = name
        if not entries:
            self.faults.add("file", f'{self.file.title}: "categories" is empty')
        self.file.categories = dict(sorted(found.items()))

    def read_annotations(self, entries: list[Any], drop_orphans: Counts) -> None:
        first: dict[int, int] = {}
        orphans = []
        for number, entry, where in self._objects("annotations", entries):
            annotation_id = self._annotation_id(entry, number, first, where)
            if annotation_id is None:
                continue
            where = f"{self.file.title}, annotation {annotation_id}"
            image_id = self._id(entry.get("image_id"), where, "image_id")
            category_id = self._id(entry.get("category_id"), where, "category_id")
            if image_id is None or category_id is None:
                continue
            if image_id not in self.file.images:
                orphans.append(
                    f"annotation {annotation_id} in {self.file.title} points to image {image_id}, "
                    'which is not in "images"'
                )
                continue
            if category_id not in self.file.categories:
                self.faults.add(
                    "unknown categories",
                    f'{where} has category_id {category_id}, which is not in "categories" (ids '
                    f"{_spread(list(self.file.categories))})",
                    mend="Add the category, or correct the annotations.",
                )
                continue
            self._read_object(entry, annotation_id, image_id, category_id)
        self._refuse_orphans(orphans, len(entries), drop_orphans)

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
            mend=f"{number:,} of {total:,} annotations {'is' if number == 1 else 'are'} affected. "
            f"Add the images, delete the annotations, or {typed}"
            f"{f' (not {stated})' if stated else ''}.",
        )

    def _objects(self, key: str, entries: list[Any]) -> Iterator[tuple[int, dict[str, Any], str]]:
        """The entries that are objects: their place from 1, themselves, how messages call them."""
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
        if annotation_id is not None and annotation_id in first:
            self.faults.add(
                "ids",
                f'annotation id {annotation_id} occurs twice in {self.file.title} ("annotations" '
                f"entries {first[annotation_id]} and {number})",
                mend="Ids must be unique; renumber one.",
            )
            return None
        if annotation_id is not None:
            first[annotation_id] = number
        return annotation_id

    def _read_object(
        self, entry: Mapping[str, Any], number: int, image_id: int, category_id: int
    ) -> None:
        where = self.file.where(number, category_id, image_id)
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            self.faults.add(
                "boxes",
                f"{where}: bbox is {_shown(box)}",
                mend="Write four finite numbers, [x, y, width, height].",
            )
            return
        flags = [self._flag(entry, key, where) for key in ("iscrowd", "difficult", "truncated")]
        self.file.annotations.append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": category_id,
                "box": [float(v) for v in box],
                "iscrowd": flags[0],
                "difficult": flags[1],
                "truncated": flags[2],
                "area": self._area(entry, float(box[2]) * float(box[3]), where),
                "segmentation": self._segmentation(entry.get("segmentation")),
            }
        )

    def _flag(self, entry: Mapping[str, Any], key: str, where: str) -> int:
        value = entry.get(key)
        if value is None:
            if key == "iscrowd":
                self.file.repairs["iscrowd missing, read as 0"] += 1
            return 0
        if not isinstance(value, int | float) or value not in (0, 1):
            kind = " (text)" if isinstance(value, str) else ""
            self.faults.add(
                "flags", f"{where}: {key} is {_shown(value)}{kind}", mend="Write the number 0 or 1."
            )
            return 0
        return int(value)

    def _area(self, entry: Mapping[str, Any], by_box: float, where: str) -> float:
        area = entry.get("area")
        if area is None:
            self.file.repairs["area missing, box area used"] += 1
            self.file.box_areas += 1
            return by_box
        # A box without area is a fault of its own.
        if not _is_number(area) or (
            by_box > 0 and not 0 < area <= by_box * AREA_SLACK + AREA_ROUNDING
        ):
            self.faults.add(
                "areas",
                f"{where}: area is {_shown(area)}, its box has {by_box:g}",
                mend="Write the area of the mask, or leave it out: the box's is used then.",
            )
            return by_box
        self.file.box_areas += math.isclose(area, by_box, rel_tol=1e-6)
        return float(area)

    def _segmentation(self, value: Any) -> Any:
        """Polygons of three points or more, or run lengths; None where there are none."""
        if isinstance(value, dict) and {"size", "counts"} <= set(value):
            return value
        polygons = value if isinstance(value, list) else []
        good = [p for p in polygons if isinstance(p, list) and len(p) % 2 == 0 and len(p) >= 6]
        if value and len(good) < len(polygons or [value]):
            self.file.repairs["masks that are no polygons, dropped"] += 1
        return good or None

    def _id(self, value: Any, where: str, key: str = "id") -> int | None:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            self.file.repairs["ids with a decimal point"] += 1
            return int(value)
        hint = f"; write the number {value}" if isinstance(value, str) and value.isdigit() else ""
        kind = " (text)" if isinstance(value, str) else ""
        self.faults.add(
            "ids", f"{where}: {key} is {_shown(value)}{kind}{hint}", mend="Ids are whole numbers."
        )
        return None


def _is_number(value: Any) -> TypeGuard[float]:
    """A finite number of JSON; its true and false are none."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    return kind is int and abs(value) < MAX_INTEGER


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _spread(ids: list[int]) -> str:
    return f"{ids[0]} to {ids[-1]}" if ids else "none"
