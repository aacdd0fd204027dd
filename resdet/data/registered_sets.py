"""Sets in Detectron2's catalog: those that users registered, and ours.

A user's set is loaded by the user's own function and then gets the checks that do not depend on
a format: files, sizes, boxes, classes, ids (`docs/faults.md` F1, F4, F5, F11, F12, F16).

Not for: names that resdet knows itself. Detectron2 is imported only inside functions.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from resdet.data.checks import image_sizes
from resdet.data.checks.boxes import Item, check_boxes
from resdet.data.checks.faults import Faults
from resdet.data.checks.object_masks import check_masks, hash_of_masks
from resdet.data.names import (
    DIGITS,
    ILSVRC,
    ILSVRC_FOLDER,
    known,
    root_folder,
    split_ilsvrc,
    split_path_name,
)
from resdet.data.options import DataOptions
from resdet.data.records import (
    BOX_MODE_XYXY,
    DetectionSet,
    count_records,
    hash_of_records,
    notes_on,
)
from resdet.errors import DataError
from resdet.formats.ilsvrc_tree import IlsvrcTree, read_synsets
from resdet.formats.voc_xml import VOC_CLASSES

BOX_MODE_XYWH = 1  # Detectron2's BoxMode.XYWH_ABS


def is_registered(name: str) -> bool:
    """Whether Detectron2's catalog has this set and resdet does not know it itself."""
    if name in known() or split_path_name(name) is not None or split_ilsvrc(name) is not None:
        return False
    try:
        from detectron2.data import DatasetCatalog
    except ImportError:
        return False
    return name in DatasetCatalog.list()


def load_registered(name: str, options: DataOptions | None = None) -> DetectionSet:
    """A set that the user registered with Detectron2, checked, as our records.

    Raises:
        DataError: its function failed, it has no images or classes, or faults in its records.
    """
    from detectron2.data import DatasetCatalog, MetadataCatalog

    options = options or DataOptions()
    try:
        given = DatasetCatalog.get(name)
    except Exception as error:  # the user's own function
        raise DataError(
            f"{name} is registered with Detectron2, but its function fails: "
            f"{type(error).__name__}: {error}. Fix the function, or the paths that it was given."
        ) from error
    metadata = MetadataCatalog.get(name)
    classes = tuple(metadata.get("thing_classes") or ())
    if not given or not classes:
        raise DataError(
            f"{name} has {len(given)} images and {len(classes)} thing_classes in Detectron2's "
            "catalog. Register both."
        )
    faults = Faults(name, "Detectron2's catalog")
    counts: Counter[str] = Counter()
    records = _records(given, faults, options, counts)
    items = _items(given, records, classes, faults)
    faults.stop()
    words = _RecordMessages(classes)
    kept, done = check_boxes(items, words, faults, options)
    if options.needs_masks:
        kept, of_masks = check_masks(kept, words, faults, options)
        counts.update(of_masks)
    faults.stop()
    for item in kept:
        item.record["annotations"].append(item.annotation)
    counts.update(done)
    kind = metadata.get("evaluator_type")
    evaluators = ("voc",) if kind == "pascal_voc" else ("coco",)
    return DetectionSet(
        name=name,
        records=records,
        classes=classes,
        category_ids=_category_ids(metadata.get("thing_dataset_id_to_contiguous_id"), len(classes)),
        evaluators=evaluators,
        voc_year=metadata.get("year") if kind == "pascal_voc" else None,
        annotated=any("annotations" in record for record in given),
        hash=hash_of_records(records, classes, exif=options.exif),
        has_masks=options.needs_masks,
        mask_hash=hash_of_masks(records) if options.needs_masks else "",
        counts={**count_records(records), **{k: v for k, v in counts.items() if v}},
        notes=tuple(notes_on(records, classes, evaluators)),
    )


def _category_ids(contiguous: Mapping[int, int] | None, number: int) -> tuple[int, ...]:
    official = {place: i for i, place in (contiguous or {}).items()}
    return tuple(official.get(place, place + 1) for place in range(number))


def _records(
    given: Sequence[Mapping[str, Any]],
    faults: Faults,
    options: DataOptions,
    counts: Counter[str],
) -> list[dict[str, Any]]:
    """One record per given one; {} where it is at fault."""
    first: dict[Any, int] = {}
    entries: list[image_sizes.Stated | None] = []
    for number, record in enumerate(given):
        path, image_id = record.get("file_name"), record.get("image_id", number)
        entries.append(None)
        if not isinstance(path, str) or not path:
            faults.add("records", f"record {number} has no file_name")
        elif image_id in first:
            faults.add(
                "ids",
                f"image_id {image_id!r} stands in records {first[image_id]} and {number}",
                fix="Ids must be unique.",
            )
        else:
            first[image_id] = number
            width, height = int(record.get("width") or 0), int(record.get("height") or 0)
            size = (width, height) if width and height else None
            entries[-1] = image_sizes.Stated(image_id, path, size, "the record")
    checked = image_sizes.checked_sizes([e for e in entries if e is not None], faults, options)
    counts.update(checked.counts)
    return [
        {
            "file_name": entry.path,
            "image_id": entry.image_id,
            "width": checked.sizes[entry.path][0],
            "height": checked.sizes[entry.path][1],
            "annotations": [],
        }
        if entry is not None and entry.path in checked.sizes
        else {}
        for entry in entries
    ]


def _items(
    given: Sequence[Mapping[str, Any]],
    records: Sequence[dict[str, Any]],
    classes: Sequence[str],
    faults: Faults,
) -> list[Item]:
    items = []
    for source, record in zip(given, records, strict=True):
        for number, annotation in enumerate(source.get("annotations", ()) if record else ()):
            where = f"{record['file_name']}, annotation {number}"
            read = _annotation(annotation, len(classes), where, faults)
            if read is not None:
                items.append(Item(record, number, read))
    return items


def _annotation(
    a: Mapping[str, Any], num_classes: int, where: str, faults: Faults
) -> dict[str, Any] | None:
    category = a.get("category_id")
    if category is None or category not in range(num_classes):
        faults.add(
            "classes",
            f"{where}: category_id is {category!r}, with {num_classes} thing_classes",
            fix="In Detectron2's records categories are 0 to K - 1; see "
            "thing_dataset_id_to_contiguous_id.",
        )
        return None
    box: Any = a.get("bbox")
    mode = a.get("bbox_mode")
    if mode not in (BOX_MODE_XYXY, BOX_MODE_XYWH):
        faults.add(
            "boxes",
            f"{where}: bbox_mode is {mode!r}",
            fix="Give BoxMode.XYXY_ABS or BoxMode.XYWH_ABS.",
        )
        return None
    try:
        # Not BoxMode.convert, which rounds to float32.
        x0, y0, x1, y1 = (float(v) for v in box)
    except (TypeError, ValueError):
        x0 = y0 = x1 = y1 = math.nan
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        faults.add("boxes", f"{where}: bbox is {box}", fix="Give four finite numbers.")
        return None
    if mode == BOX_MODE_XYWH:
        x1, y1 = x0 + x1, y0 + y1
    annotation = {
        "bbox": [x0, y0, x1, y1],
        "bbox_mode": BOX_MODE_XYXY,
        "category_id": int(category),
        "iscrowd": int(a.get("iscrowd", 0)),
        "difficult": int(a.get("difficult", 0)),
        "truncated": int(a.get("truncated", 0)),
        "area": float(a.get("area", (x1 - x0) * (y1 - y0))),
    }
    if "segmentation" in a:
        mask = a["segmentation"]
        # Detectron2 takes polygons as arrays, too.
        annotation["segmentation"] = (
            [p.tolist() if isinstance(p, np.ndarray) else p for p in mask]
            if isinstance(mask, list)
            else mask
        )
    return annotation


class _RecordMessages:
    """How messages describe boxes that have no file of their own."""

    def __init__(self, classes: Sequence[str]):
        self.classes = classes

    def where(self, item: Item) -> str:
        name = self.classes[item.annotation["category_id"]]
        return f"{item.record['file_name']}, annotation {item.number} ({name})"

    def no_area(self, item: Item) -> str:
        return f"{_text(item)} has no area in an image {_size(item)}"

    def outside(self, item: Item) -> str:
        return f"{_text(item)} in an image {_size(item)}"


def _text(item: Item) -> str:
    x0, y0, x1, y1 = item.annotation["bbox"]
    return f"({x0:g}, {y0:g}) to ({x1:g}, {y1:g})"


def _size(item: Item) -> str:
    return f"{item.record['width']} wide and {item.record['height']} high"


def register(load: Callable[[str], DetectionSet]) -> None:
    """Adds to Detectron2's catalog what it lacks: voc_2012_test, the digits, and ILSVRC's sets
    where the map of their classes is there.

    Args:
        load: gives a set by its name when Detectron2 asks for it.
    """
    from detectron2.data import DatasetCatalog, MetadataCatalog

    ours: dict[str, dict[str, Any]] = {
        "voc_2012_test": {
            "thing_classes": list(VOC_CLASSES),
            "evaluator_type": "pascal_voc",
            "year": 2012,
            "split": "test",
        }
    }
    digits = {"thing_classes": [str(i) for i in range(10)], "evaluator_type": "coco"}
    contiguous = {i + 1: i for i in range(10)}
    ours |= {name: {**digits, "thing_dataset_id_to_contiguous_id": contiguous} for name in DIGITS}
    ours |= _ilsvrc_sets()
    for name, facts in ours.items():
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, lambda name=name: [*load(name).records])
            MetadataCatalog.get(name).set(**facts)


def _ilsvrc_sets() -> dict[str, dict[str, Any]]:
    """Metadata by name; the classes are in the development kit alone."""
    sets = {}
    for name, split in ILSVRC.items():
        path = IlsvrcTree(root_folder()[0] / ILSVRC_FOLDER, split.track).map_file
        # A damaged map is reported by whoever loads the set.
        with contextlib.suppress(DataError):
            wnids = read_synsets(path).wnids if path.is_file() else ()
            if wnids:
                sets[name] = {
                    "thing_classes": list(wnids),
                    "evaluator_type": "coco",
                    "thing_dataset_id_to_contiguous_id": {i + 1: i for i in range(len(wnids))},
                }
    return sets
