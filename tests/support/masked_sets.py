"""A tiny COCO set whose objects have masks: polygons of one or two parts, and crowds.

Not for: sets of boxes (`tiny`), or entries by hand (`coco_json`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from tests.support import tiny

CLASSES = ("ape", "bee")


def masked_tree(root: Path, images: int = 6, *, run_lengths: bool = False) -> Path:
    """train.json, test.json and images/ in `root`; every third image has a crowd, too.

    Args:
        run_lengths: all masks are compressed run lengths.
    """
    (root / "images").mkdir(parents=True)
    halves: list[list[int]] = [[], []]
    for number in range(images):
        halves[number >= images // 2].append(number)
    for split, numbers in zip(("train", "test"), halves, strict=True):
        content = _content(root, numbers, run_lengths)
        (root / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def _content(root: Path, numbers: list[int], run_lengths: bool) -> dict[str, Any]:
    entries: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3 + k, "name": name} for k, name in enumerate(CLASSES)],
    }
    for number in numbers:
        width, height = (96, 72) if number % 3 else (72, 96)
        picture = tiny.picture(number, number % 2, width, height)
        Image.fromarray(picture).save(root / "images" / f"{number}.png")
        entries["images"].append(
            {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        )
        for crowd in (0, 1) if number % 3 == 0 else (0,):
            entries["annotations"].append(
                _object(entries, number, width, height, crowd, run_lengths)
            )
    return entries


def _object(
    entries: dict[str, Any], number: int, width: int, height: int, crowd: int, run_lengths: bool
) -> dict[str, Any]:
    x0, y0, x1, y1 = width / 4, height / 4, 3 * width / 4, 3 * height / 4
    polygons = [[x0, y0, x1, y0, x1, y1, x0 + 4, y1 - 3.5]]
    if number % 2:
        middle = (x0 + x1) / 2
        polygons = [
            [x0, y0, middle - 4, y0, middle - 4, y1, x0, y1],
            [middle + 4, y0, x1, y0, x1, y1],
        ]
    if crowd:
        x0, y0, x1, y1 = 2.0, 2.0, 12.0, 10.0
        polygons = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    packed: Any = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
    if crowd and not run_lengths:
        pixels = coco_mask.decode(rle).flatten(order="F")
        changes = np.flatnonzero(np.diff(pixels, prepend=0))
        packed["counts"] = np.diff(changes, prepend=0, append=len(pixels)).tolist()
    return {
        "id": 1 + len(entries["annotations"]),
        "image_id": number,
        "category_id": 3 + number % 2,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": float(coco_mask.area(rle)),
        "iscrowd": crowd,
        "segmentation": packed if crowd or run_lengths else polygons,
    }
