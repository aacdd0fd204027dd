"""The file of what was detected on pictures: COCO's layout, with a score for each annotation.

`images`, `categories` and `annotations` are COCO's, so that whatever reads a COCO data set reads
this; `score` stands in each annotation, as FiftyOne's importer takes it. Names of files are
relative to `info.folder`, the folder that all pictures lie in or below. A detector with masks
gives each annotation its `segmentation`, compressed run lengths, whose pixels are its `area`.

Not for: results of a data set, which are COCO's list of results (`detect.testing.inference`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from resdet import __version__
from resdet.detect.from_run import BuiltDetector


def category_ids_of(built: BuiltDetector) -> tuple[int, ...]:
    """COCO's own ids for COCO's classes, in their order; else 1, 2, 3, …"""
    coco = MetadataCatalog.get("coco_2017_val")
    if built.classes == tuple(coco.get("thing_classes") or ()):
        contiguous = coco.thing_dataset_id_to_contiguous_id
        return tuple(sorted(contiguous, key=lambda category: contiguous[category]))
    return tuple(range(1, len(built.classes) + 1))


def as_coco(
    built: BuiltDetector,
    category_ids: Sequence[int],
    entries: Sequence[Mapping[str, Any]],
    *,
    score: float,
    top: int | None,
) -> dict[str, Any]:
    """Entries of `detect_pictures` as one JSON object; ids count from 1.

    `info` has the detector, the keys that were changed, and the pictures given, read and refused
    with how many were fixed in which way.
    """
    read = [entry for entry in entries if not entry["refused"]]
    folder = common_folder([Path(entry["path"]) for entry in entries])
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, entry in enumerate(read, 1):
        name = name_below(folder, Path(entry["path"])).as_posix()
        size = {"width": entry["width"], "height": entry["height"]}
        images.append({"id": number, "file_name": name, **size})
        for found in entry["detections"]:
            width, height = found["bbox"][2:]
            about = {"id": len(annotations) + 1, "image_id": number}
            annotations.append({**about, "area": width * height, **found, "iscrowd": 0})
    return {
        "info": {
            "description": "detections of resdet detect, with their scores",
            "version": __version__,
            "run": built.run.info["id"] if built.run else None,
            "detector": str(built.file),
            "changed": {k: {"run": a, "here": b} for k, (a, b) in sorted(built.changed.items())},
            "score": score,
            "threshold": built.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            "top": top,
            "folder": str(folder),
            "images": {
                "given": len(entries), "read": len(read), "refused": len(entries) - len(read),
            },
            "fixed": dict(sorted(Counter(f for entry in read for f in entry["fixed"]).items())),
        },
        "images": images,
        "categories": [
            {"id": i, "name": name} for i, name in zip(category_ids, built.classes, strict=True)
        ],
        "annotations": annotations,
        "refused": [
            {"file_name": e["path"], "reason": e["refused"]} for e in entries if e["refused"]
        ],
    }  # fmt: skip


def common_folder(paths: Sequence[Path]) -> Path:
    """The deepest folder that all of them lie in or below."""
    parents = [os.path.dirname(os.path.abspath(path)) for path in paths]
    return Path(os.path.commonpath(parents)) if parents else Path.cwd()


def name_below(folder: Path, path: Path) -> Path:
    """A path as it is called in its `common_folder`, whatever ".." it has."""
    return Path(os.path.relpath(os.path.abspath(path), folder))
