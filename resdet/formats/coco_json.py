"""COCO's instances JSON: its images and categories, and the rules of a single value.

    images       id, width, height (sizes may be missing)
    categories   id, name
    annotations  id, image_id, category_id, bbox [x, y, width, height], area, iscrowd

One pass each over images and categories gives the good entries, what was repaired, and the faults
as data; the loader and the evaluator put them into words. An annotation's values are judged by
the functions at the end, so that both accept and refuse alike.

Not for: what training makes of a set (`resdet.data.readers.coco_entries`), or scoring
(`resdet.evaluation.inputs.ground_truth`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard
from urllib.parse import unquote, urlsplit

import numpy as np

Id = int | str
Size = tuple[int, int]

MISSING = object()
# Of the box's area, and in pixels beyond: the mask's may be this much larger (rounding).
AREA_SLACK = 1.01
AREA_ROUNDING = 1.0
# In boxes up to this area (COCO's small objects) sides may have been rounded up to whole pixels.
TINY_AREA = 32.0**2
# Keys of an LVIS image: not every category was annotated on every image.
FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")
# Larger whole numbers do not fit a float, and are no coordinates.
MAX_INTEGER = 1 << 53


@dataclass(frozen=True)
class Fault:
    """One fault of a list's entry.

    Attributes:
        rule: "object", "id", "half", "twice", "as_text", "size", "name", "name_twice".
        number: the entry's place in its list, from 0.
        value: what the file has there; the entry's id where that is good.
        other: the place (images) or name or id (categories) of the entry that it collides with;
            of "name" what the entry has there.
        entry: the whole of it.
    """

    rule: str
    number: int
    value: Any = None
    other: Any = None
    entry: Any = None


class ImageEntry(NamedTuple):
    """One good entry of "images"; `size` is None where the file has none, or 0 x 0."""

    number: int
    id: Id
    size: Size | None
    entry: Mapping[str, Any]


@dataclass
class Entries:
    """A list of the file: what is good in it, its faults in order, what was repaired.

    notes: sentences on entries that were left out on purpose.
    """

    images: list[ImageEntry] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)  # of categories, in the order of ids
    faults: list[Fault] = field(default_factory=list)
    repairs: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def take_id(self, value: object, *, text: bool) -> Id | None:
        result = as_id(value, text=text)
        if result is not None and isinstance(value, float):
            self.repairs["ids with a decimal point"] += 1
        return result


def lacking_list(content: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """The first of the keys under which the file has no list."""
    return next((k for k in keys if not isinstance(content.get(k), list | tuple)), None)


def read_images(entries: Sequence[Any]) -> Entries:
    """The images of a file, in its order, each id once."""
    read = Entries()
    first: dict[Id, int] = {}
    texts: set[str] = set()
    for number, entry in enumerate(entries):
        if type(entry) is not dict and not isinstance(entry, Mapping):
            read.faults.append(Fault("object", number, entry))
            continue
        value = entry.get("id", MISSING)
        image_id = read.take_id(value, text=True)
        if image_id is None:
            read.faults.append(Fault("id", number, value, entry=entry))
        elif is_half_text(image_id):
            read.faults.append(Fault("half", number, image_id, entry=entry))
        elif image_id in first:
            read.faults.append(Fault("twice", number, image_id, first[image_id], entry))
        elif str(image_id) in texts:
            # Results and file names have ids as text.
            read.faults.append(Fault("as_text", number, image_id, entry=entry))
        else:
            first[image_id] = number
            texts.add(str(image_id))
            if (size := read_size(entry)) is MISSING:
                read.faults.append(Fault("size", number, image_id, entry=entry))
            read.images.append(
                ImageEntry(number, image_id, size if isinstance(size, tuple) else None, entry)
            )
    return read


def read_size(entry: Mapping[str, Any]) -> Size | object | None:
    """(width, height); None where both are missing or 0; MISSING where they are no size."""
    width, height = entry.get("width"), entry.get("height")
    if type(width) is type(height) is int and 0 < width < MAX_INTEGER > height > 0:
        return width, height
    if (width is None and height is None) or (_is_zero(width) and _is_zero(height)):
        return None
    if not all(is_number(v) and v > 0 and v == int(v) for v in (width, height)):
        return MISSING
    return int(width), int(height)  # type: ignore[arg-type]


def _is_zero(value: object) -> bool:
    return is_number(value) and value == 0


def file_name_of(entry: Mapping[str, Any]) -> str | None:
    """The file of an image entry, below the folder of all images; None where there is none.

    LVIS has no file_name but a coco_url, whose last folder and name are taken.

    >>> file_name_of({"coco_url": "http://images.cocodataset.org/val2017/000000397133.jpg"})
    'val2017/000000397133.jpg'
    """
    name = entry.get("file_name")
    if isinstance(name, str) and name:
        return name
    url = entry.get("coco_url")
    if name is not None or not isinstance(url, str):
        return None
    try:
        parts = [part for part in unquote(urlsplit(url).path).split("/") if part]
    except ValueError:
        return None
    return "/".join(parts[-2:]) or None


def is_federated(entries: Sequence[Any]) -> bool:
    """Whether images have LVIS's lists of categories that were, or were not, looked for."""
    return any(isinstance(e, Mapping) and any(key in e for key in FEDERATED) for e in entries)


def category_ids_in(annotations: object) -> set[Any]:
    """The category ids that annotations have, as the file has them."""
    if not isinstance(annotations, list | tuple):
        return set()
    ids = (a.get("category_id") for a in annotations if isinstance(a, Mapping))
    return {value for value in ids if isinstance(value, int | float | str)}


def _roots(entries: Sequence[Any], annotations: object) -> set[int]:
    """Places of root categories that have the name of a class and no annotation.

    Exporters (Roboflow) put a category at the top that is the supercategory of the others; it may
    be called as one of them.
    """
    named = [e for e in entries if isinstance(e, Mapping) and isinstance(e.get("name"), str)]
    times = Counter(e["name"].strip() for e in named)
    if not any(number > 1 for number in times.values()):
        return set()
    parents = {e["supercategory"] for e in named if isinstance(e.get("supercategory"), str)}
    used = category_ids_in(annotations)
    return {
        place
        for place, entry in enumerate(entries)
        if isinstance(entry, Mapping)
        and isinstance(entry.get("name"), str)
        and times[entry["name"].strip()] > 1
        and entry["name"] in parents
        and entry.get("supercategory") in (None, "", "none")
        and is_number(entry.get("id"))
        and entry["id"] not in used
    }


def read_categories(entries: Sequence[Any], annotations: object = ()) -> Entries:
    """The categories of a file by id, names without the blanks around them.

    Args:
        annotations: of the file; a root category with the name of a class is left out, with a
            note, where none of them is of it.
    """
    read = Entries()
    names: dict[int, str] = {}
    owner: dict[str, int] = {}
    roots = _roots(entries, annotations)
    for number, entry in enumerate(entries):
        if number in roots:
            read.notes.append(
                f'category {entry["id"]} "{entry["name"]}" is left out: the supercategory of the '
                "others, with the name of a class and without an annotation"
            )
            continue
        if type(entry) is not dict and not isinstance(entry, Mapping):
            read.faults.append(Fault("object", number, entry))
            continue
        value, raw = entry.get("id", MISSING), entry.get("name")
        category_id = read.take_id(value, text=False)
        name = raw.strip() if isinstance(raw, str) else ""
        if not isinstance(category_id, int):
            read.faults.append(Fault("id", number, value, entry=entry))
        elif not name:
            read.faults.append(Fault("name", number, category_id, raw, entry))
        elif is_half_text(name):
            read.faults.append(Fault("half", number, name, entry=entry))
        elif category_id in names:
            read.faults.append(Fault("twice", number, category_id, names[category_id], entry))
        elif name in owner:
            read.faults.append(Fault("name_twice", number, category_id, owner[name], entry))
        else:
            read.repairs["blanks around a class name"] += name != raw
            names[category_id], owner[name] = name, category_id
    read.names = dict(sorted(names.items()))
    read.repairs = +read.repairs
    return read


# -- values ------------------------------------------------------------------------------------


def as_id(value: object, *, text: bool = True) -> Id | None:
    """The id that a value is: a whole number that fits a float (7.0 is 7), or text; else None."""
    if type(value) is int and abs(value) < MAX_INTEGER:  # nearly always
        return value
    if isinstance(value, str):
        return value if text else None
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return int(value) if math.isfinite(as_float) and value == int(value) else None


def number_of(value: object) -> int | None:
    """The number that an annotation's id is as text, "7"; None for any other text, such as "007".

    Exporters write the same id as a number in one list and as text in the other.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value) if str(int(value)) == value else None
    return None


TEXT_REPAIR = "ids as text, read as the number"
BOX_REPAIR = "bbox missing, taken from the polygons"


def box_of_polygons(value: object) -> list[float] | None:
    """The box around polygons, [x, y, width, height]; None where they are none, or have no area."""
    polygons = value if isinstance(value, list) else []
    if polygons and all(map(is_number, polygons)):  # one polygon, not a list of them
        polygons = [polygons]
    points = [v for p in polygons if isinstance(p, list) and len(p) >= 6 for v in p]
    if not points or len(points) % 2 or not all(map(is_number, points)):
        return None
    x, y = min(points[::2]), min(points[1::2])
    width, height = max(points[::2]) - x, max(points[1::2]) - y
    return [float(x), float(y), float(width), float(height)] if width > 0 < height else None


def read_box(entry: Mapping[str, Any]) -> tuple[list[float] | None, str]:
    """An annotation's box, from its polygons where it has none; and what was repaired."""
    if entry.get("bbox") in (None, []) and (box := box_of_polygons(entry.get("segmentation"))):
        return box, BOX_REPAIR
    return as_box(entry.get("bbox")), ""


def is_half_text(value: object) -> bool:
    """Half a pair of UTF-16, which JSON lets pass and no file or terminal takes."""
    return isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value)


def is_number(value: object) -> TypeGuard[float]:
    """A finite number; true and false are none, nor are whole numbers beyond coordinates."""
    if type(value) is int:
        return abs(value) < MAX_INTEGER
    if type(value) is float:
        return math.isfinite(value)
    if isinstance(value, bool):
        return False
    if isinstance(value, int | np.integer):
        return abs(int(value)) < MAX_INTEGER
    return isinstance(value, float | np.floating) and math.isfinite(value)


def as_box(value: object) -> list[float] | None:
    """[x, y, width, height] as the file has it, where these are four finite numbers."""
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(is_number, value)):
        return None
    return [float(v) for v in value]


def as_flag(value: object) -> int | None:
    """0 or 1, also as 1.0 or true; else None."""
    if not isinstance(value, bool | np.bool_) and not is_number(value):
        return None
    return int(value) if value in (0, 1) else None


def judge_area(value: object, width: float, height: float) -> str:
    """May a mask in a box of this size, in pixels, have this area, in square pixels?

    Returns:
        "right"; "rounded" for a tiny box whose sides, or whose area, were rounded to whole
        pixels; "other" for an area that no mask in the box has, which COCO's metric takes as it is
        (it decides between small, medium and large); "wrong" for what is no area. A box without
        area may have 0.
    """
    if not is_number(value) or value < 0:
        return "wrong"
    by_box = width * height
    if 0 < value <= by_box * AREA_SLACK + AREA_ROUNDING or value == by_box == 0:
        return "right"
    if by_box <= TINY_AREA and (value > 0 or by_box < 1) and value <= (width + 1) * (height + 1):
        return "rounded"
    return "other"


# What is counted where an area is taken though it is not its mask's; by `judge_area`.
AREA_REPAIRS = {
    "rounded": "area above its tiny box's by rounding, kept",
    "other": "area that no mask in its box has, kept",
}


def read_flag(entry: Mapping[str, Any], key: str) -> tuple[int | None, str]:
    """A flag of an annotation, 0 where it is missing or null; and what was repaired, "" for none.

    None where the value is neither 0 nor 1.
    """
    value = entry.get(key, MISSING)
    if value is MISSING:
        return 0, f"{key} missing, read as 0"
    if value is None:
        return 0, f"{key} null, read as 0"
    return as_flag(value), ""


class RejectedIds:
    """Ids of entries that have a fault; with an entry whose id is not known, any id may be.

    What refers to them is not called unknown: one fault is one statement.
    """

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self.ids: set[Any] = set()
        self.any = False
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        if fault.rule in ("object", "id"):
            self.any = True
        elif fault.rule == "half":
            value = as_id(fault.entry.get("id"))
            self.ids.add(value)
            self.any |= value is None
        else:
            self.ids.add(fault.value)

    def __contains__(self, value: object) -> bool:
        return self.any or value in self.ids


# -- what COCO's metric does not know -----------------------------------------------------------


def count_ignored(annotations: Sequence[Any]) -> int:
    """Objects with a true `ignore`, which are no crowd."""
    return sum(
        1
        for a in annotations
        if isinstance(a, Mapping) and a.get("ignore") in (1, True) and not a.get("iscrowd")
    )


def counted_in_coco(key: str, number: int) -> str:
    """The one rule for `difficult` and `ignore` in COCO's metric, as pycocotools has it."""
    these = f'{number:,} {"object" if number == 1 else "objects"} with "{key}": 1'
    return (
        f"{these} {'counts' if number == 1 else 'count'} as to be found, like any other: COCO's "
        "AP leaves out what has iscrowd 1, and nothing else"
    )
