"""The sets that train and test: the user's own, or parts of them as COCO files of the ranking.

Images are drawn by a seed from the order of the set, so that every row, and a row that is added
later, has the same. Without a test set a fifth of the images is held out.

Not for: reading sets (`resdet.data`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resdet.data.records import DetectionSet
from resdet.errors import ConfigError
from resdet.run.folder import write_json

HELD_OUT = 0.2
SEED = 1
# Fewer have no interval (`image_noise`).
FEWEST_TEST = 50


def drawn(count: int, most: int) -> list[int]:
    """At most so many places of `count`, by a seed, in their order; 0 takes all."""
    if not most or most >= count:
        return list(range(count))
    chosen = np.random.default_rng(SEED).permutation(count)[:most]
    return sorted(chosen.tolist())


def split(count: int) -> tuple[list[int], list[int]]:
    """Places that train, and a fifth that is held out.

    Raises:
        ConfigError: too few for an interval.

    Example:
        >>> train, held_out = split(300)
        >>> len(train), len(held_out), set(train) & set(held_out)
        (240, 60, set())
    """
    held = round(HELD_OUT * count)
    if held < FEWEST_TEST:
        raise ConfigError(
            f"--data has {count} images, of which a fifth would be held out: {held}, fewer than "
            f"the {FEWEST_TEST} that an interval needs. Name a test set: --test SET."
        )
    order = np.random.default_rng(SEED).permutation(count).tolist()
    return sorted(order[held:]), sorted(order[:held])


def written(data: DetectionSet, places: Sequence[int], path: Path) -> str:
    """Writes these images of a set as a COCO file, with the masks that it was read with; gives the
    name that DATASETS takes."""
    records = [data.records[place] for place in places]
    folder = Path(os.path.commonpath([Path(r["file_name"]).parent for r in records]))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in records:
        images.append(
            {
                "id": record["image_id"],
                "file_name": os.path.relpath(record["file_name"], folder),
                "width": record["width"],
                "height": record["height"],
            }
        )
        for item in record["annotations"]:
            annotations.append(_annotation(item, record["image_id"], len(annotations) + 1, data))
    categories = [
        {"id": category, "name": name}
        for category, name in zip(data.category_ids, data.classes, strict=True)
    ]
    write_json(
        path,
        {"images": images, "annotations": annotations, "categories": categories},
        indent=None,
    )
    return f"coco:{path.resolve()}:{folder}"


def _annotation(
    item: dict[str, Any], image_id: Any, number: int, data: DetectionSet
) -> dict[str, Any]:
    left, top, right, bottom = map(float, item["bbox"])
    width, height = right - left, bottom - top
    entry = {
        "id": number,
        "image_id": image_id,
        "category_id": data.category_ids[item["category_id"]],
        "bbox": [left, top, width, height],
        "area": float(item.get("area") or width * height),
        # What VOC calls difficult is neither right nor wrong, as a crowd.
        "iscrowd": int(bool(item.get("iscrowd") or item.get("difficult"))),
    }
    if data.has_masks and item.get("segmentation") is not None:
        entry["segmentation"] = item["segmentation"]
    return entry
