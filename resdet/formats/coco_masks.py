"""COCO's masks, polygons and run lengths: is one whole, and of its image's size?

pycocotools decodes in C without looking: a damaged string reads past its end. So a mask is
checked here before it goes there, by the loader and the evaluator alike.

Not for: drawing masks, their boxes and areas (`resdet.evaluation.inputs.masks`), or which objects
of a set must have one (`resdet.data.checks.object_masks`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from resdet.formats.coco_json import is_number

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Largest side of an image, in pixels.
LARGEST_SIDE = 1e5
# Of an image with masks: pycocotools counts runs in 32 bits.
MOST_PIXELS = 2**32 - 1
# Of compressed counts: so few that what is made of them stays in the processor's cache.
CHARACTERS_AT_ONCE = 1 << 15
# Characters of a run's length: more would be beyond 32 bits.
_LONGEST = 7


def mask_fault(mask: Any, size: FloatArray) -> str | None:
    """What is wrong with a run-length mask of an image of `size` (width, height), or None.

    Takes compressed counts (text) and plain ones (a list of run lengths).
    """
    if not isinstance(mask, Mapping) or not {"size", "counts"} <= set(mask):
        return "segmentation is not an object with size and counts"
    shape = mask["size"]
    if not isinstance(shape, list | tuple) or len(shape) != 2 or not all(map(is_number, shape)):
        return "the mask's size is not [height, width]"
    height, width = shape
    if not all(1 <= v < LARGEST_SIDE and v == int(v) for v in shape):
        return f"the mask's size is {list(shape)}"
    if height * width > MOST_PIXELS:
        return f"the mask has {height * width:,.0f} pixels, and run lengths count {MOST_PIXELS:,}"
    if not np.isnan(size).any() and (width, height) != tuple(size):
        return f"the mask is {width} x {height}, the image {size[0]:g} x {size[1]:g}"
    runs = _runs(mask["counts"])
    if runs is None or (runs < 0).any() or (runs % 1 > 0).any():
        return "the mask's counts cannot be decoded"
    if runs.sum() != height * width:
        return f"the mask's runs cover {runs.sum():g} pixels, its size has {height * width:g}"
    return None


def _runs(counts: Any) -> FloatArray | None:
    """The run lengths in plain or compressed counts; None where they are damaged."""
    if isinstance(counts, list | tuple):
        return np.array(counts, dtype=np.float64) if all(map(is_number, counts)) else None
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    if not isinstance(counts, str):
        return None
    if not counts:
        return np.zeros(0)
    runs, _ = _decode(counts, np.array([len(counts)]))
    return runs


def are_whole(masks: Sequence[Any], sizes: FloatArray) -> bool:
    """Are all of these compressed masks without a fault?

    As `mask_fault` of each, many times faster; False where it has to be called.

    Args:
        sizes: (masks, 2) width and height of each one's image; NaN where unknown.
    """
    if not all(type(m) is dict and type(m.get("counts")) is str for m in masks):
        return False
    shapes = [m.get("size") for m in masks]
    if not all(type(shape) is list and list(map(type, shape)) == [int, int] for shape in shapes):
        return False
    if not all(1 <= side < LARGEST_SIDE for shape in shapes for side in shape):
        return False
    counts = [m["counts"] for m in masks]
    shape = np.array(shapes, dtype=np.float64).reshape(-1, 2)
    agrees = (shape[:, ::-1] == sizes).all(axis=1) | np.isnan(sizes).any(axis=1)
    if not all(counts) or not agrees.all():
        return False
    lengths = np.fromiter(map(len, counts), np.int64, len(counts))
    block = (np.cumsum(lengths) - lengths) // CHARACTERS_AT_ONCE
    starts = np.flatnonzero(np.diff(block, prepend=-1)).tolist()
    pixels = shape[:, 0] * shape[:, 1]
    if (pixels > MOST_PIXELS).any():
        return False
    return all(
        _cover("".join(counts[start:end]), lengths[start:end], pixels[start:end])
        for start, end in zip(starts, [*starts[1:], len(counts)], strict=True)
    )


def _cover(text: str, lengths: IntArray, pixels: FloatArray) -> bool:
    """Can all counts be decoded, and do each one's runs cover so many pixels?"""
    runs, number = _decode(text, lengths)
    if runs is None or (runs < 0).any():
        return False
    return bool((np.bincount(number, runs, minlength=len(lengths)) == pixels).all())


def _decode(text: str, lengths: IntArray) -> tuple[FloatArray | None, IntArray]:
    """COCO's variable-length integers: all runs, and which mask each is of; None for damaged ones.

    5 bits a character, each run but a mask's first three a difference to the one two before
    (pycocotools, maskApi.c, rleFrString).

    Args:
        text: the counts of all masks, one behind the other.
        lengths: of each, at least 1.
    """
    if not text.isascii():
        return None, lengths
    codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.cumsum(lengths)
    more = (codes & 0x20) > 0
    none = np.zeros(0, dtype=np.int64)
    if ((codes < 0) | (codes > 63)).any() or more[ends - 1].any():
        return None, none
    starts = np.flatnonzero(np.concatenate([[True], ~more[:-1]]))
    width = np.diff(starts, append=len(codes))
    if width.max(initial=0) > _LONGEST:
        return None, none
    position = np.arange(len(codes)) - np.repeat(starts, width)
    values = np.add.reduceat((codes & 0x1F) << (5 * position), starts)
    negative = (codes[starts + width - 1] & 0x10) > 0
    values -= np.where(negative, 1 << (5 * width), 0)
    count = np.add.reduceat(~more, ends - lengths, dtype=np.int64)  # runs of each mask
    number = np.repeat(np.arange(len(lengths)), count)
    place = np.arange(len(values)) - np.repeat(np.cumsum(count) - count, count)
    is_odd = place % 2 == 1
    for chosen, in_mask in ((is_odd, count // 2), (~is_odd & (place > 0), (count - 1) // 2)):
        sums = np.cumsum(values[chosen])
        # From each mask's own first on: less what the masks before it sum to.
        before = np.append(0, sums)[np.cumsum(in_mask) - in_mask]
        values[chosen] = sums - np.repeat(before, in_mask)
    return values.astype(np.float64), number


def segmentation_fault(segmentation: Any, size: FloatArray) -> str | None:
    """What is wrong with a ground-truth segmentation (polygons or RLE), or None."""
    if np.isnan(size).any():
        return "its image has no width and height"
    if isinstance(segmentation, Mapping):
        return mask_fault(segmentation, size)
    if not isinstance(segmentation, list | tuple) or not segmentation:
        return "it has no segmentation"
    if size.prod() > MOST_PIXELS:
        return f"its image has {size.prod():,.0f} pixels, and run lengths count {MOST_PIXELS:,}"
    for part in segmentation:
        if not isinstance(part, list | tuple) or len(part) < 6 or len(part) % 2:
            return "a polygon is not a list of three or more x, y pairs"
        if not all(map(is_number, part)):
            return "a polygon holds something else than finite numbers"
        # pycocotools walks every pixel of an outline.
        if np.abs(np.array(part, dtype=np.float64)).max() > LARGEST_SIDE:
            return "a polygon lies far outside its image"
    return None
