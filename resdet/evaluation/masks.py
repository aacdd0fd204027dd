"""COCO's run-length masks: is one whole, of the right size; its box and its parts for scoring.

pycocotools decodes in C without looking: a damaged string reads past its end. So a mask is
checked here before it goes there.

Not for: drawing masks, or making them from a net's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from resdet.evaluation.arrays import FloatArray, is_number, not_numbers, to_floats


def mask_fault(mask: Any, size: FloatArray) -> str | None:
    """What is wrong with a run-length mask of an image of `size` (width, height), or None.

    Takes compressed counts (text) and plain ones (a list of run lengths).
    """
    if not isinstance(mask, Mapping) or not {"size", "counts"} <= set(mask):
        return "segmentation is not an object with size and counts"
    shape = mask["size"]
    if not isinstance(shape, list | tuple) or len(shape) != 2 or not_numbers(shape):
        return "the mask's size is not [height, width]"
    height, width = shape
    if not all(1 <= v < 1e5 and v == int(v) for v in shape):
        return f"the mask's size is {list(shape)}"
    if not np.isnan(size).any() and (width, height) != tuple(size):
        return f"the mask is {width} x {height}, the image {size[0]:g} x {size[1]:g}"
    runs = _runs(mask["counts"])
    if runs is None or (runs < 0).any():
        return "the mask's counts cannot be decoded"
    if runs.sum() != height * width:
        return f"the mask's runs cover {runs.sum():g} pixels, its size has {height * width:g}"
    return None


def _runs(counts: Any) -> FloatArray | None:
    """The run lengths in plain or compressed counts; None where they are damaged."""
    if isinstance(counts, list | tuple):
        return None if not_numbers(counts) else to_floats(counts)
    if isinstance(counts, str):
        if not counts.isascii():
            return None
        counts = counts.encode("ascii")
    if not isinstance(counts, bytes):
        return None
    return _decode(np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48)


def _decode(codes: np.ndarray[Any, Any]) -> FloatArray | None:
    """COCO's variable-length integers, 5 bits a character, each but the first three a difference
    to the one two before (pycocotools, maskApi.c, rleFrString)."""
    if len(codes) == 0:
        return np.zeros(0)
    more = (codes & 0x20) > 0
    if ((codes < 0) | (codes > 63)).any() or more[-1]:
        return None
    starts = np.flatnonzero(np.concatenate([[True], ~more[:-1]]))
    position = np.arange(len(codes)) - np.repeat(starts, np.diff([*starts, len(codes)]))
    if position.max() > 6:  # beyond 32 bits
        return None
    values = np.add.reduceat((codes & 0x1F) << (5 * position), starts)
    last = np.array([*starts[1:], len(codes)]) - 1
    negative = (codes[last] & 0x10) > 0
    values = values - np.where(negative, 1 << (5 * (position[last] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values.astype(np.float64)


def compressed(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Polygons, plain or compressed RLE as pycocotools' compressed RLE."""
    if isinstance(segmentation, list | tuple):
        return dict(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation["counts"], list | tuple):
        plain = {"size": [height, width], "counts": [int(v) for v in segmentation["counts"]]}
        return dict(coco_mask.frPyObjects(plain, height, width))
    return {"size": [height, width], "counts": segmentation["counts"]}


def segmentation_fault(segmentation: Any, size: FloatArray) -> str | None:
    """What is wrong with a ground-truth segmentation (polygons or RLE), or None."""
    if np.isnan(size).any():
        return "its image has no width and height"
    if isinstance(segmentation, Mapping):
        return mask_fault(segmentation, size)
    if not isinstance(segmentation, list | tuple) or not segmentation:
        return "it has no segmentation"
    for part in segmentation:
        if not isinstance(part, list | tuple) or len(part) < 6 or len(part) % 2:
            return "a polygon is not a list of three or more x, y pairs"
        if not all(is_number(v) for v in part) or not np.isfinite(to_floats(part)).all():
            return "a polygon holds something else than finite numbers"
        # pycocotools walks every pixel of an outline.
        if np.abs(to_floats(part)).max() > 1e5:
            return "a polygon lies far outside its image"
    return None


def mask_box(mask: Mapping[str, Any]) -> FloatArray:
    """x, y, width, height of the mask's pixels."""
    height, width = (int(v) for v in mask["size"])
    return np.asarray(coco_mask.toBbox(compressed(mask, height, width)), dtype=np.float64)


def mask_area(rle: Mapping[str, Any]) -> float:
    """Pixels of a compressed mask."""
    return float(coco_mask.area(rle))
