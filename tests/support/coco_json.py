"""Entries of COCO's files as tests write them by hand, and two readers of them.

Not for: a file with pictures (`coco_tree`), or scenes that are drawn (`random_scenes`).
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resdet.evaluation.inputs.detections import Columns, read_columns
from resdet.evaluation.inputs.ground_truth import GroundTruth, read_ground_truth


def image(number: int, size: Sequence[int] = (100, 80), name: str | None = None) -> dict[str, Any]:
    width, height = size
    return {"id": number, "width": width, "height": height, "file_name": name or f"{number}.jpg"}


def annotation(
    number: int,
    image: int,
    category: int,
    box: Sequence[float],
    *,
    area: float | None = None,
    crowd: int = 0,
) -> dict[str, Any]:
    """An object; without an area it fills its box."""
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": box[2] * box[3] if area is None else area,
        "iscrowd": crowd,
    }


def detection(image: int, category: int, box: Sequence[float], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


def arrays(instances: Any, results: Any) -> tuple[GroundTruth, Columns]:
    """A file's content and results as evaluation takes them; nothing in them is odd."""
    truth = read_ground_truth(instances)
    columns, findings = read_columns(results, truth.index)
    assert not findings
    return truth, columns


def by_pycocotools(instances: Any, results: Any, task: str = "bbox") -> COCOeval:
    """pycocotools as everybody calls it, from its own loader, on copies."""
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = copy.deepcopy(instances)
        api.createIndex()
        engine = COCOeval(api, api.loadRes(copy.deepcopy(results)), task)
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return engine
