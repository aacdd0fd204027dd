"""COCO's instances JSON and its image folder to checked records.

Polygons, run lengths and crowds are kept. Boxes become (x, y, x + width, y + height); sizes are
compared with the files; every fault of the set is collected before one page shows them
(`docs/faults.md` F1 to F16, F56 to F58).

Not for: where sets lie (`catalog`), or the JSON itself (`coco_entries`).
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resdet.data.checks import image_sizes
from resdet.data.checks.boxes import Item, check_boxes
from resdet.data.checks.faults import Faults
from resdet.data.checks.object_masks import check_masks, hash_of_masks
from resdet.data.images.reader import IMAGE_SUFFIXES
from resdet.data.options import DataOptions
from resdet.data.readers.coco_cache import CocoCache
from resdet.data.readers.coco_entries import CocoFile, parse_coco
from resdet.data.readers.instances_file import read_json
from resdet.data.readers.listed_files import locate, refuse_missing
from resdet.data.records import (
    BOX_MODE_XYXY,
    DetectionSet,
    count_records,
    hash_of_records,
    notes_on,
)
from resdet.errors import DataError

logger = logging.getLogger(__name__)

# A larger file takes more than a second or two.
LARGE_BYTES = 50_000_000


def load_coco(
    json_file: Path,
    image_root: Path,
    *,
    name: str,
    options: DataOptions | None = None,
    evaluators: tuple[str, ...] = ("coco",),
    voc_year: int | None = None,
    sources: str = "",
    is_published: bool = False,
    repeats_objects: bool = False,
) -> DetectionSet:
    """The set in a COCO-style JSON file; without "annotations" it is a test set.

    Args:
        is_published: an official set; one odd box in a thousand is counted, not refused.
        repeats_objects: the file is known to hold some annotations twice (the published 2014
            minival files do); equal ones are then left out and counted.

    Raises:
        DataError: the file is missing or no COCO JSON, images are missing, ids occur twice, boxes
            or sizes are wrong; one page with all of it.
    """
    options = options or DataOptions()
    cache = CocoCache(
        json_file,
        image_root,
        # Faults that may be passed over are counted by the set's name.
        options,
        name=name,
        evaluators=evaluators,
        voc_year=voc_year,
        sources=sources,
        is_published=is_published,
        repeats_objects=repeats_objects,
    )
    if (data := cache.read(name)) is not None:
        return data
    faults = Faults(name, str(json_file))
    file, counts = _parsed(json_file, faults, options, repeats_objects)
    records = _records(file, json_file, image_root, faults, options, counts)
    _place_objects(file, records, faults, options, is_published, counts)
    faults.stop()
    if not records:
        raise DataError(f"{name} has 0 usable images: {len(file.images)} are listed, all missing.")
    classes = tuple(file.categories.values())
    return cache.write(
        DetectionSet(
            name=name,
            records=records,
            classes=classes,
            category_ids=tuple(file.categories),
            evaluators=evaluators,
            voc_year=voc_year,
            annotated=file.annotated,
            hash=hash_of_records(records, classes, exif=options.exif),
            has_masks=options.needs_masks,
            mask_hash=hash_of_masks(records) if options.needs_masks else "",
            counts={**count_records(records), **{k: v for k, v in counts.items() if v}},
            sources=sources,
            notes=tuple(_notes(file, records, classes, evaluators)),
        )
    )


def _parsed(
    json_file: Path, faults: Faults, options: DataOptions, repeats_objects: bool
) -> tuple[CocoFile, Counter[str]]:
    """The entries of the file, and what was repaired or left out of them."""
    if json_file.is_file() and json_file.stat().st_size > LARGE_BYTES:
        logger.info("%s: reading %.0f MB of JSON", json_file, json_file.stat().st_size / 1e6)
    content = read_json(json_file)
    repeated = _without_repeats(content) if repeats_objects else 0
    file = parse_coco(
        content,
        json_file.name,
        faults,
        drop_orphans=options.drop_orphans,
        masks=options.masks,
        needs_masks=options.needs_masks,
    )
    counts = Counter(file.repairs)
    counts["annotations of missing images, dropped"] = file.orphans
    counts["annotations that occur twice, dropped"] = repeated
    return file, counts


def _without_repeats(content: dict[str, Any]) -> int:
    seen: dict[Any, Any] = {}
    annotations = content.get("annotations") or []
    kept = []
    for annotation in annotations:
        key = annotation.get("id")
        if key in seen and seen[key] == annotation:
            continue
        seen[key] = annotation
        kept.append(annotation)
    content["annotations"] = kept
    return len(annotations) - len(kept)


def _records(
    file: CocoFile,
    json_file: Path,
    image_root: Path,
    faults: Faults,
    options: DataOptions,
    counts: Counter[str],
) -> list[dict[str, Any]]:
    """One record per usable image, in the order of ids, its size checked (F1, F9, F16)."""
    names = [name for name, _ in file.images.values()]
    located = locate(str(image_root), names, IMAGE_SUFFIXES)
    located.missing[:] = [f"{image_root}/{name}" for name in located.missing]
    if note := located.folders_note():
        file.notes.append(note)
    counts["images missing, left out"] = refuse_missing(
        located,
        faults,
        options,
        what="images",
        total=len(names),
        source=file.title,
        named_as=f"coco:{json_file}:",
    )
    counts["images under another spelling"] = len(located.renamed)
    counts["images outside the folder"] = len(located.outside)
    entries = [
        image_sizes.Stated(image_id, located.paths[name], size, file.title)
        for image_id, (name, size) in sorted(file.images.items(), key=_by_id)
        if name in located.paths
    ]
    checked = image_sizes.checked_sizes(entries, faults, options)
    counts.update(checked.counts)
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


def _by_id(item: tuple[Any, Any]) -> tuple[bool, Any]:
    """Numbers by value, then text, as the evaluator orders images."""
    return isinstance(item[0], str), item[0]


def _annotation(a: Mapping[str, Any], places: Mapping[int, int]) -> dict[str, Any]:
    x, y, width, height = a["box"]
    annotation = {
        "bbox": [x, y, x + width, y + height],
        "bbox_mode": BOX_MODE_XYXY,
        "category_id": places[a["category_id"]],
        "iscrowd": a["iscrowd"],
        "difficult": a["difficult"],
        "truncated": a["truncated"],
        "id": a["id"],
        "area": a["area"],
    }
    if a["segmentation"] is not None:
        annotation["segmentation"] = a["segmentation"]
    return annotation


class _CocoMessages:
    """How messages describe COCO's boxes: as x, y, width, height. Item numbers are rows."""

    def __init__(self, file: CocoFile):
        self.file = file
        self.rows = file.annotations

    def where(self, item: Item) -> str:
        row = self.rows[item.number]
        return self.file.where(row["id"], row["category_id"], row["image_id"])

    def no_area(self, item: Item) -> str:
        _, _, width, height = box = self.rows[item.number]["box"]
        if width <= 0:
            return f"width {width:g} is not above 0"
        if height <= 0:
            return f"height {height:g} is not above 0"
        size = f"{item.record['width']} wide and {item.record['height']} high"
        return f"[{', '.join(f'{v:g}' for v in box)}] lies wholly outside the image, {size}"

    def outside(self, item: Item) -> str:
        x, y, width, height = self.rows[item.number]["box"]
        image_width, image_height = item.record["width"], item.record["height"]
        parts = [
            f"{tag} is {value:g} in an image {size} {word}"
            for tag, value, size, word, excess in (
                ("x", x, image_width, "wide", -x),
                ("y", y, image_height, "high", -y),
                ("x + width", x + width, image_width, "wide", x + width - image_width),
                ("y + height", y + height, image_height, "high", y + height - image_height),
            )
            if excess > 0
        ]
        return ", ".join(parts)


def _place_objects(
    file: CocoFile,
    records: Sequence[dict[str, Any]],
    faults: Faults,
    options: DataOptions,
    is_published: bool,
    counts: Counter[str],
) -> None:
    """Checks all boxes and puts those that are used into their records."""
    places = {category_id: i for i, category_id in enumerate(file.categories)}
    by_id = {record["image_id"]: record for record in records}
    items = [
        Item(by_id[a["image_id"]], row, _annotation(a, places))
        for row, a in enumerate(file.annotations)
        if a["image_id"] in by_id
    ]
    words = _CocoMessages(file)
    kept, done = check_boxes(
        items,
        words,
        faults,
        options,
        written_as="sizes",
        is_published=is_published,
        no_boxes=file.no_boxes,
    )
    counts.update(done)
    if options.needs_masks:
        kept, done = check_masks(kept, words, faults, options, is_published=is_published)
        counts.update(done)
    for item in kept:
        item.record["annotations"].append(item.annotation)


def _notes(
    file: CocoFile,
    records: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    evaluators: Sequence[str],
) -> list[str]:
    notes = [*file.notes, *notes_on(records, classes, evaluators)]
    if file.annotations and file.box_areas == len(file.annotations):
        notes.append(
            "every area is its box's: sizes small, medium and large are not comparable with COCO's"
        )
    # By the file that was found: two spellings of a name may be one.
    several = [f for f, n in Counter(r["file_name"] for r in records).items() if n > 1]
    if several:
        notes.append(
            f"files that are listed under several ids: {len(several)} "
            f"({', '.join(map(os.path.basename, several[:5]))}{', …' if len(several) > 5 else ''})"
        )
    return notes
