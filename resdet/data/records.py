"""What a data set is once it is read: detection records and classification images, with a hash.

Not for: reading one (`voc_reader`, `coco_reader`, `class_folders`, `cifar`, `catalog`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from resdet.data.encoded import EncodedImages
from resdet.data.images.reader import ImageReader
from resdet.data.images.resize import Region, resized
from resdet.data.readers.listed_files import portable
from resdet.data.serialized import SerializedList, TextList
from resdet.errors import DataError
from resdet.formats.coco_json import counted_in_coco

BOX_MODE_XYXY = 0  # Detectron2's BoxMode.XYXY_ABS
DIFFICULT_SHARE = 0.5


@dataclass(frozen=True)
class DetectionSet:
    """Checked detection data.

    Attributes:
        records: Detectron2's standard dicts; boxes (x0, y0, x1, y1), half-open, in pixels.
        classes: names; record categories are places in it.
        category_ids: official ids, in the order of `classes`.
        evaluators: "voc", "coco" or both.
        voc_year: 2007 makes 11-point AP the primary one; later years and None, area.
        annotated: whether there is ground truth.
        hash: SHA-256 over names, sizes, annotations and how they were read (not over pixels or
            masks).
        has_masks: every object has a mask that was checked (`DataOptions.needs_masks`).
        mask_hash: SHA-256 over these masks, or "".
        counts: images, objects, and every repair.
        sources: a statement on the origin of the data, or "".
        notes: sentences that belong beside every number from this set.
    """

    name: str
    records: Sequence[dict[str, Any]]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    evaluators: tuple[str, ...]
    voc_year: int | None = None
    annotated: bool = True
    hash: str = ""
    has_masks: bool = False
    mask_hash: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    sources: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def file_of(self, place: int) -> str:
        """The image file of one record."""
        return str(self.records[place]["file_name"])


@dataclass(frozen=True)
class ClassificationSet:
    """Labelled images, as files, inside of files of many, or in memory.

    Attributes:
        labels: (N,) int64, places in `classes`.
        files: N paths, or empty where `images` (N, H, W, 3) uint8 RGB, or `encoded`, holds them.
        encoded: N images in shards or tables.
        hash: SHA-256 over class and file names and file sizes, or over the images in memory.
        counts: images, classes, and what was left out.
        notes: sentences that belong beside every number from this set.
    """

    name: str
    labels: np.ndarray
    classes: tuple[str, ...]
    files: Sequence[str] = ()
    images: np.ndarray | None = None
    encoded: EncodedImages | None = None
    hash: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    sources: str = ""
    reader: ImageReader = field(default_factory=ImageReader, compare=False)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        """Image `index` as H x W x 3 uint8 RGB; raises DataError as `ImageReader.read`."""
        if self.images is not None:
            return self.images[index]
        if self.encoded is not None:
            return self.reader.read(self.encoded.where(index), self.encoded.read(index))
        return self.reader.read(self.files[index])

    def read_region(
        self, index: int, choose: Callable[[tuple[int, int]], Region], *, smaller: bool = True
    ) -> np.ndarray:
        """A part of image `index`, resized; as `ImageReader.read_region`."""
        if self.encoded is not None:
            where, data = self.encoded.where(index), self.encoded.read(index)
            return self.reader.read_region(where, choose, smaller=smaller, data=data)
        if self.images is None:
            return self.reader.read_region(self.files[index], choose, smaller=smaller)
        picture = Image.fromarray(self.images[index])
        return resized(picture, choose(picture.size))

    def name_of(self, index: int) -> str:
        """How messages call image `index`: its class and file, or its number."""
        if self.encoded is not None:
            label, name = int(self.labels[index]), self.encoded.name(index)
            return f"{self.classes[label]}/{name}" if label >= 0 else name
        return "/".join(Path(self.files[index]).parts[-2:]) if self.files else f"record {index}"


AnySet = TypeVar("AnySet", DetectionSet, ClassificationSet)


def part_of(data: AnySet, number: int) -> AnySet:
    """So many images, evenly spread over the set and the same each time; 0, or as many: all.

    The name of a part has the number, and its hash is none.

    Example:
        >>> data = ClassificationSet("mine", np.arange(10), tuple("abcdefghij"))
        >>> part = part_of(data, 4)
        >>> part.name, part.labels.tolist()
        ('mine (4 of 10 images)', [0, 3, 6, 9])
    """
    if not 0 < number < len(data):
        return data
    places = np.linspace(0, len(data) - 1, number).round().astype(int)
    name = f"{data.name} ({number} of {len(data)} images)"
    if isinstance(data, DetectionSet):
        records = SerializedList(data.records[i] for i in places.tolist())
        return replace(data, name=name, records=records, hash="", mask_hash="")  # type: ignore[call-arg]
    return replace(
        data,
        name=name,
        labels=data.labels[places],
        files=TextList(data.files[i] for i in places.tolist()) if data.files else (),
        images=None if data.images is None else data.images[places],
        encoded=None if data.encoded is None else data.encoded.chosen(places.tolist()),
        hash="",
    )


def hash_of_records(
    records: Iterable[Mapping[str, Any]], classes: Sequence[str], **how: object
) -> str:
    """Equal for equal annotations on any machine: names of files count, their folders do not.

    Args:
        how: what changes the meaning of numbers, such as `voc_origin`. Masks do not count: they
            have a hash of their own, so that their set is the same for boxes.
    """
    digest = hashlib.sha256(json.dumps([list(classes), sorted(how.items())]).encode())
    for record in records:
        name = portable(Path(record["file_name"]).name)
        row = [name, str(record["image_id"]), record["width"], record["height"]]
        digest.update(_row_text(row, record.get("annotations", ())).encode())
    return digest.hexdigest()


def _row_text(row: Sequence[Any], annotations: Sequence[Mapping[str, Any]]) -> str:
    """JSON of an image and its objects, as `json.dumps` has it; most of the time of a hash."""
    parts = [json.dumps(row)[:-1]]
    for a in annotations:
        x0, y0, x1, y1 = map(float, a["bbox"])
        parts.append(
            f", [{x0!r}, {y0!r}, {x1!r}, {y1!r}, {a['category_id']}, {a['iscrowd']}, "
            f"{a['difficult']}], {float(a['area'])!r}"
        )
    return "".join(parts) + "]"


def count_records(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Counts of images and of objects, as printed at every start (F8)."""
    objects = [a for r in records for a in r.get("annotations", ())]
    with_objects = sum(bool(r.get("annotations")) for r in records)
    return {
        "images": len(records),
        "with_objects": with_objects,
        "without_objects": len(records) - with_objects,
        "objects": len(objects),
        "difficult": sum(a["difficult"] for a in objects),
        "truncated": sum(a["truncated"] for a in objects),
        "crowd": sum(a["iscrowd"] for a in objects),
    }


def notes_on(
    records: Sequence[Mapping[str, Any]], classes: Sequence[str], evaluators: Sequence[str]
) -> list[str]:
    """What is odd about the objects, though not wrong (F15, F88).

    Args:
        evaluators: of the set; `difficult` counts for VOC's AP, and not for COCO's.
    """
    objects: Counter[int] = Counter()
    difficult: Counter[int] = Counter()
    crowd = 0
    for record in records:
        for a in record.get("annotations", ()):
            crowd += a["iscrowd"]
            if not a["iscrowd"]:
                objects[a["category_id"]] += 1
                difficult[a["category_id"]] += a["difficult"]
    notes = []
    if crowd and not objects:
        notes.append(all_crowd(crowd))
    if "voc" in evaluators:
        notes += [
            f"{difficult[k]} of {objects[k]} objects of {classes[k]} are difficult, so they count "
            "neither for nor against in VOC's AP"
            for k in sorted(objects)
            if difficult[k] > DIFFICULT_SHARE * objects[k]
        ]
    if "coco" in evaluators and (number := difficult.total()):
        notes.append(counted_in_coco("difficult", number))
    return notes


def all_crowd(number: int) -> str:
    """The sentence on a set without an object that is none of crowd."""
    return (
        f"every object ({number:,}) has iscrowd 1, a region that is neither trained on nor to be "
        "found; where each is one object, set iscrowd to 0 in the annotation file"
    )


def with_classes(data: DetectionSet, classes: Sequence[str]) -> DetectionSet:
    """The same set on another list of classes, mapped by name (F4).

    Args:
        classes: of the training set or the card; may hold more than the set has.

    Raises:
        DataError: the set has a class that is not in the list; shows both lists.
    """
    unknown = [name for name in data.classes if name not in classes]
    if unknown:
        raise DataError(
            f"{data.name} has classes that are not in the list of {len(classes)}: "
            f"{', '.join(unknown[:8])}{', …' if len(unknown) > 8 else ''}.\n"
            f"  {data.name}: {', '.join(data.classes)}\n"
            f"  the list: {', '.join(classes)}\n"
            "Choose sets with the same classes, or rename them in the files."
        )
    if tuple(classes) == data.classes:
        return data
    place = {name: i for i, name in enumerate(classes)}
    official = dict(zip(data.classes, data.category_ids, strict=True))
    free = iter(range(max(data.category_ids) + 1, max(data.category_ids) + 1 + len(classes)))
    ids = tuple(official[name] if name in official else next(free) for name in classes)
    records = [
        {
            **record,
            "annotations": [
                {**a, "category_id": place[data.classes[a["category_id"]]]}
                for a in record.get("annotations", ())
            ],
        }
        for record in data.records
    ]
    return replace(
        data,
        records=records,
        classes=tuple(classes),
        category_ids=ids,
        hash=hash_of_records(records, classes, mapped_from=data.hash),
    )


def with_labels_of(data: ClassificationSet, classes: Sequence[str]) -> ClassificationSet:
    """The same images with labels that are places in another list of classes, by name (F4).

    Raises:
        DataError: the set has a class that is not in the list; names it.
    """
    unknown = [name for name in data.classes if name not in classes]
    if unknown:
        raise DataError(
            f"{data.name} has {len(unknown)} of {len(data.classes)} classes that are not among the "
            f"{len(classes)} of the training set: {', '.join(unknown[:8])}"
            f"{', …' if len(unknown) > 8 else ''}. Rename its folders, or take them out."
        )
    if tuple(classes) == data.classes:
        return data
    place = {name: i for i, name in enumerate(classes)}
    moved = np.array([place[name] for name in data.classes], dtype=np.int64)
    return replace(data, labels=moved[data.labels], classes=tuple(classes))
