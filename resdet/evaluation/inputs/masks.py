"""COCO's masks as pycocotools takes them, their pixels, boxes and areas.

Not for: whether a mask is whole (`resdet.formats.coco_masks`, which looks before pycocotools
decodes), or drawing masks (`resdet.report.render.box_drawing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from resdet.evaluation.inputs.arrays import FloatArray


def compressed(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Polygons, plain or compressed RLE as pycocotools' compressed RLE."""
    if isinstance(segmentation, list | tuple):
        return dict(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation["counts"], list | tuple):
        plain = {"size": [height, width], "counts": [int(v) for v in segmentation["counts"]]}
        return dict(coco_mask.frPyObjects(plain, height, width))
    if type(segmentation) is dict and list(map(type, segmentation["size"])) == [int, int]:
        return segmentation  # as it is: nothing writes to it, and there may be many
    return {"size": [height, width], "counts": segmentation["counts"]}


def mask_pixels(segmentation: Any, height: int, width: int) -> np.ndarray:
    """(height, width) bool: the pixels of a mask that is whole, in any of COCO's forms."""
    return np.asarray(coco_mask.decode(compressed(segmentation, height, width)), dtype=bool)


def run_lengths(pixels: np.ndarray) -> dict[str, Any]:
    """COCO's compressed run lengths of (H, W) pixels, as JSON holds them."""
    encoded = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return {"size": list(pixels.shape), "counts": encoded["counts"].decode("ascii")}


def mask_box(mask: Mapping[str, Any]) -> FloatArray:
    """x, y, width, height of the mask's pixels."""
    height, width = (int(v) for v in mask["size"])
    return np.asarray(coco_mask.toBbox(compressed(mask, height, width)), dtype=np.float64)


def mask_boxes(masks: Sequence[Mapping[str, Any]]) -> FloatArray:
    """(masks, 4) `mask_box` of masks that are all compressed."""
    return np.asarray(coco_mask.toBbox(list(masks)), dtype=np.float64).reshape(-1, 4)


def mask_area(rle: Mapping[str, Any]) -> float:
    """Pixels of a compressed mask."""
    return float(coco_mask.area(rle))
