"""PASCAL VOC's layout to checked records: VOC2007, VOC2012 and users' own sets in the same form.

    <root>/ImageSets/Main/<split>.txt    one image id a line
    <root>/Annotations/<id>.xml          boxes in pixels from 1, both ends inside
    <root>/JPEGImages/<id>.jpg           another suffix or spelling is found and counted
    <root>/classes.txt                   own classes: names in their order, one a line (optional)

Boxes become half-open and 0-based as in Detectron2: xmin - 1, ymin - 1, xmax, ymax. A box from 1
to the width covers the whole image. With `voc_origin` 0 the four numbers are kept: they are read as
edges from 0 to the width, as most labelling tools write them.

Every fault of the set is collected before one page shows them (`docs/faults.md` F1 to F16).

Not for: where sets lie (`catalog`).
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resdet import bounded_files
from resdet.data.checks import image_sizes
from resdet.data.checks.boxes import Item, check_boxes
from resdet.data.checks.faults import Faults
from resdet.data.images.reader import IMAGE_SUFFIXES
from resdet.data.options import DataOptions
from resdet.data.readers.listed_files import Located, locate, refuse_missing
from resdet.data.records import (
    BOX_MODE_XYXY,
    DetectionSet,
    count_records,
    hash_of_records,
    notes_on,
)
from resdet.errors import DataError
from resdet.formats.voc_list import read_list
from resdet.formats.voc_xml import MOST_BYTES, VOC_CLASSES, VocFile, parse_voc

# With origin 0, so many boxes at the far border and none at the near one mean "counted from 1".
MANY_AT_THE_BORDER = 10


def load_voc(
    root: Path,
    split: str,
    *,
    name: str,
    classes: Sequence[str] | None = VOC_CLASSES,
    year: int | None = 2007,
    annotated: bool = True,
    options: DataOptions | None = None,
    evaluators: tuple[str, ...] = ("voc",),
    is_published: bool = False,
) -> DetectionSet:
    """The set `split` of a VOC tree.

    Args:
        classes: in their order; None takes classes.txt, or the sorted names of all annotations in
            the tree, so that every split of it has the same.
        year: 2007 means 11-point AP; later years and None, area.
        annotated: False for sets whose annotations are not public (VOC 2012 test).
        is_published: an official set; one odd box in a thousand is counted, not refused.

    Raises:
        DataError: the list, images or annotations are missing, a class is unknown, boxes or sizes
            are wrong; one page with all of it.
    """
    options = options or DataOptions()
    faults = Faults(name, str(root))
    ids = read_list(root, split)
    if classes is None:
        classes = _own_classes(root, faults)
    return load_listed(
        ids,
        Places(root, f"ImageSets/Main/{split}.txt"),
        faults,
        classes=tuple(classes),
        year=year,
        annotated=annotated,
        options=options,
        evaluators=evaluators,
        is_published=is_published,
    )


@dataclass(frozen=True)
class Places:
    """Where the files of a set in VOC's XML lie, `images` and `annotations` below `root`.

    Attributes:
        source: the list of its ids, for messages.
        suffix: of the images.
    """

    root: Path
    source: str
    images: str = "JPEGImages"
    annotations: str = "Annotations"
    suffix: str = ".jpg"


def load_listed(
    ids: Sequence[str],
    places: Places,
    faults: Faults,
    *,
    classes: tuple[str, ...],
    options: DataOptions,
    annotated: bool = True,
    year: int | None = None,
    evaluators: tuple[str, ...] = ("voc",),
    is_published: bool = False,
    checks_origin: bool = True,
) -> DetectionSet:
    """The set of these ids, with annotations in VOC's XML; arguments as in `load_voc`.

    Args:
        faults: of the set, those of its lists among them.
        checks_origin: a coordinate 0 is held against `voc_origin`.

    Raises:
        DataError: as `load_voc`.
    """
    name = faults.name
    reading = _Reading(places, name, options, faults)
    reading.find(ids, annotated)
    files = reading.parse(ids) if annotated else {}
    records = reading.records(ids, files if annotated else None)
    words = _VocMessages(files, classes, options.voc_origin)
    items = reading.items(files, records, words)
    if checks_origin:
        _refuse_other_origin(items, words, reading)
    if not reading.faults.count("origin"):
        _place(items, words, reading, is_published)
    reading.faults.stop()
    if not records:
        raise DataError(f"{name} has 0 usable images: {len(ids)} are listed, all are missing.")
    counts = {k: v for k, v in reading.counts.items() if v}
    return DetectionSet(
        name=name,
        records=records,
        classes=classes,
        category_ids=tuple(range(1, len(classes) + 1)),
        evaluators=evaluators,
        voc_year=year,
        annotated=annotated,
        hash=hash_of_records(records, classes, voc_origin=options.voc_origin, exif=options.exif),
        counts={**count_records(records), **counts},
        notes=(*reading.notes, *notes_on(records, classes, evaluators)),
    )


@dataclass
class _Reading:
    """What is known while a set is read: files found, faults and repairs so far."""

    places: Places
    name: str
    options: DataOptions
    faults: Faults
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    images: Located = field(default_factory=Located)
    xml: Located = field(default_factory=Located)

    def find(self, ids: Sequence[str], annotated: bool) -> None:
        """Images and annotation files of the ids; missing ones are faults or are left out (F1)."""
        places = self.places
        images = [f"{i}{places.suffix}" for i in ids]
        self.images = locate(str(places.root / places.images), images, IMAGE_SUFFIXES)
        kinds = [("images", self.images, places.images)]
        if annotated:
            names = [f"{i}.xml" for i in ids]
            self.xml = locate(str(places.root / places.annotations), names, (".xml",))
            kinds.append(("annotations", self.xml, places.annotations))
        for what, files, folder in kinds:
            files.missing[:] = [f"{folder}/{name}" for name in files.missing]
            left_out = refuse_missing(
                files, self.faults, self.options, what=what, total=len(ids), source=places.source
            )
            self.counts[f"{what} missing, left out"] = left_out
            self.counts[f"{what} under another spelling"] = len(files.renamed)
            self.counts[f"{what} outside the folder"] = len(files.outside)
            if files.outside:
                self.notes.append(f"{what}: {files.folders_note()}")

    def parse(self, ids: Sequence[str]) -> dict[str, VocFile]:
        """Annotations by id, of those whose image is there, too."""
        files = {}
        for image_id in ids:
            path = self.xml.paths.get(f"{image_id}.xml")
            if path is None or f"{image_id}{self.places.suffix}" not in self.images.paths:
                continue
            parsed = _annotation(Path(path), path)
            files[image_id] = parsed
            self.counts.update(parsed.repairs)
            for line in parsed.faults:
                self.faults.add("annotations", line)
        return files

    def records(
        self, ids: Sequence[str], files: Mapping[str, VocFile] | None
    ) -> list[dict[str, Any]]:
        """One record per usable image, its size checked against the image's header (F16).

        Args:
            files: annotations by id; None for a set without.
        """
        entries = []
        for image_id in ids:
            path = self.images.paths.get(f"{image_id}{self.places.suffix}")
            if path is None or (files is not None and image_id not in files):
                continue
            stated = None if files is None else files[image_id].size
            entries.append(image_sizes.Stated(image_id, path, stated, "the XML"))
        checked = image_sizes.checked_sizes(entries, self.faults, self.options)
        self.counts.update(checked.counts)
        return [
            {
                "file_name": entry.path,
                "image_id": entry.image_id,
                "width": checked.sizes[entry.path][0],
                "height": checked.sizes[entry.path][1],
                "annotations": [],
            }
            for entry in entries
            if entry.path in checked.sizes
        ]

    def items(
        self,
        files: Mapping[str, VocFile],
        records: Sequence[dict[str, Any]],
        words: _VocMessages,
    ) -> list[Item]:
        """The objects of all records, with boxes half-open; unknown classes are faults (F4)."""
        place = {name: i for i, name in enumerate(words.classes)}
        if not place and self.faults.count("class list"):
            return []
        near = self.options.voc_origin
        items = []
        for record in records:
            parsed = files.get(record["image_id"])
            for item in parsed.objects if parsed else ():
                if item.name not in place:
                    where = f"{parsed.where if parsed else ''}, object {item.number}"
                    self._refuse_class(where, item.name, words.classes)
                    continue
                xmin, ymin, xmax, ymax = item.box
                annotation = {
                    "bbox": [xmin - near, ymin - near, xmax, ymax],
                    "bbox_mode": BOX_MODE_XYXY,
                    "category_id": place[item.name],
                    "iscrowd": 0,
                    "difficult": item.difficult,
                    "truncated": item.truncated,
                }
                items.append(Item(record, item.number, annotation))
        return items

    def _refuse_class(self, where: str, name: str, classes: Sequence[str]) -> None:
        folded = {c.casefold(): c for c in classes}
        close = folded.get(name.casefold()) or next(
            iter(difflib.get_close_matches(name, classes, n=1)), None
        )
        hint = f'; did you mean "{close}"?' if close else ""
        self.faults.add(
            "classes",
            f'{where}: class "{name}" is not among the {len(classes)} classes of {self.name}{hint}',
            fix=f"Fix the files. A set with classes of its own is loaded as voc:ROOT:SPLIT; the "
            f"classes here are {', '.join(classes)}.",
        )


@dataclass
class _VocMessages:
    """How messages describe VOC's boxes: in the numbers of the XML."""

    files: Mapping[str, VocFile]
    classes: Sequence[str]
    near: int

    def where(self, item: Item) -> str:
        parsed = self.files[item.record["image_id"]]
        name = self.classes[item.annotation["category_id"]]
        return f"{parsed.where}, object {item.number} ({name})"

    def no_area(self, item: Item) -> str:
        x0, y0, x1, y1 = item.annotation["bbox"]
        if x0 >= x1:
            return f"xmin {x0 + self.near:g} is not left of xmax {x1:g}"
        if y0 >= y1:
            return f"ymin {y0 + self.near:g} is not above ymax {y1:g}"
        return (
            f"({x0 + self.near:g}, {y0 + self.near:g}) to ({x1:g}, {y1:g}) lies wholly outside the "
            f"image, {item.record['width']} wide and {item.record['height']} high"
        )

    def outside(self, item: Item) -> str:
        x0, y0, x1, y1 = item.annotation["bbox"]
        width, height = item.record["width"], item.record["height"]
        parts = [
            f"{tag} {value:g} in an image {size} {word}"
            for tag, value, size, word, excess in (
                ("xmin", x0 + self.near, width, "wide", -x0),
                ("ymin", y0 + self.near, height, "high", -y0),
                ("xmax", x1, width, "wide", x1 - width),
                ("ymax", y1, height, "high", y1 - height),
            )
            if excess > 0
        ]
        return ", ".join(parts)


def _refuse_other_origin(items: Sequence[Item], words: _VocMessages, reading: _Reading) -> None:
    """A coordinate 0 proves that a tool counted from 0; the far border suggests 1 (F13)."""
    near = words.near
    zeros = [i for i in items if 0 <= min(i.annotation["bbox"][:2]) + near < 1]
    borders = [
        i
        for i in items
        if i.annotation["bbox"][2] == i.record["width"]
        or i.annotation["bbox"][3] == i.record["height"]
    ]
    # Boxes far outside, or with swapped corners, are faults of their own kind below.
    if near == 1 and zeros:
        axis = "xmin" if zeros[0].annotation["bbox"][0] + near < 1 else "ymin"
        reading.faults.add(
            "origin",
            f"{len(zeros):,} {'box has' if len(zeros) == 1 else 'boxes have'} xmin or ymin 0, but "
            f"VOC counts pixels from 1 (voc_origin 1); first: {words.where(zeros[0])}, {axis} 0",
            fix="Set DATASETS.VOC_ORIGIN 0 if your tool counts from 0.",
        )
    elif near == 0 and not zeros and len(borders) >= MANY_AT_THE_BORDER:
        reading.faults.add(
            "origin",
            f"{len(borders):,} boxes end at the far border of their image and none starts at 0, "
            f"but voc_origin is 0; first: {words.where(borders[0])}",
            fix="VOC counts pixels from 1: leave DATASETS.VOC_ORIGIN at 1.",
        )
    elif near == 0 and not zeros and borders:
        reading.notes.append(
            f"voc_origin is 0, but no box starts at 0 and {len(borders)} end at the far border, as "
            "in files that count from 1"
        )


def _place(
    items: Sequence[Item], words: _VocMessages, reading: _Reading, is_published: bool
) -> None:
    """Checks all boxes and puts those that are used into their records."""
    kept, counts = check_boxes(
        items,
        words,
        reading.faults,
        reading.options,
        written_as="corners",
        is_published=is_published,
    )
    reading.counts.update(counts)
    for item in kept:
        x0, y0, x1, y1 = item.annotation["bbox"]
        item.annotation["area"] = (x1 - x0) * (y1 - y0)
        item.record["annotations"].append(item.annotation)


def _annotation(path: Path, where: str) -> VocFile:
    try:
        return parse_voc(bounded_files.read_bytes(path, MOST_BYTES), where)
    except OSError as error:
        return VocFile(where, faults=[f"{where} cannot be read: {error.strerror}."])


def _listed_classes(path: Path, faults: Faults) -> list[str]:
    try:
        lines = bounded_files.read_text(path, encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 ({error})"
        faults.add("class list", f"{path} cannot be read: {reason}")
        return []
    return [name for line in lines if (name := line.strip())]


def _own_classes(root: Path, faults: Faults) -> tuple[str, ...]:
    """classes.txt, or the names in all annotations of the tree, sorted."""
    listed = root / "classes.txt"
    if listed.exists():
        names = _listed_classes(listed, faults)
        for name, number in Counter(names).items():
            if number > 1:
                faults.add("class list", f'classes.txt has "{name}" {number} times')
        if not names and not faults.count("class list"):
            faults.add(
                "class list",
                "classes.txt has no class in it",
                fix="Write one name a line, or remove the file: the names in the annotations are "
                "then the classes.",
            )
        return tuple(dict.fromkeys(names))
    objects: Counter[str] = Counter()
    # Ids may have folders (day1/000001), as lists and images have.
    for path in sorted((root / "Annotations").rglob("*.xml")):
        objects.update(o.name for o in _annotation(path, path.name).objects)
    spellings: dict[str, list[str]] = {}
    for name in sorted(objects):
        spellings.setdefault(name.casefold(), []).append(name)
    for names in spellings.values():
        if len(names) > 1:
            counts = ", ".join(f'"{n}" ({objects[n]} objects)' for n in names)
            faults.add(
                "class list",
                f"classes that differ in case alone: {counts}",
                fix="Write one spelling in all files.",
            )
    return tuple(sorted(objects))
