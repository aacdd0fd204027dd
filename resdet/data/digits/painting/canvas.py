"""A picture being painted: backgrounds, colours, blending, blur and noise, all in integers.

Not for: what is painted where (`painter`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resdet.data.digits.painting.draws import Draws
from resdet.data.digits.splits import PhotoRegion

# Grey levels by which the mean colour of a digit differs from what lies below it.
CONTRAST = 75
SCALES = (0.7, 1.6)
BLURRED = 0.3
GAINS, MAX_OFFSET, MAX_SIGMA = (0.75, 1.25), 20, 5


def photo_crop(draws: Draws, region: PhotoRegion, width: int, height: int) -> np.ndarray:
    """A random part of the region, rescaled by 0.7 to 1.6, mirrored half of the time.

    Returns:
        height x width x 3 int32 in [0, 255].
    """
    image = region.image
    # As small a scale as the region has room for.
    smallest = max(SCALES[0], (width + 1) / image.shape[1], (height + 1) / image.shape[0])
    scale = draws.uniform(smallest, max(SCALES[1], smallest))
    step = int(256 / scale)  # of the source, in 1/256 pixel
    x0 = draws.below(max(1, ((image.shape[1] - 1) << 8) - step * (width - 1)))
    y0 = draws.below(max(1, ((image.shape[0] - 1) << 8) - step * (height - 1)))
    crop = _resample(image, x0 + step * np.arange(width), y0 + step * np.arange(height))
    return crop[:, ::-1] if draws.chance(0.5) else crop


def _resample(image: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Bilinear samples at columns `xs` and rows `ys`, both in 1/256 pixel and ascending."""
    left, top = int(xs[0]) >> 8, int(ys[0]) >> 8
    part = image[top : (int(ys[-1]) >> 8) + 2, left : (int(xs[-1]) >> 8) + 2].astype(np.int32)
    column, weight = (xs >> 8) - left, (xs & 255).astype(np.int32)[:, None]
    first = part.take(column, axis=1)
    rows = (first << 8) + (part.take(column + 1, axis=1) - first) * weight
    row, weight = (ys >> 8) - top, (ys & 255).astype(np.int32)[:, None, None]
    first = rows.take(row, axis=0)
    return ((first << 8) + (rows.take(row + 1, axis=0) - first) * weight + 32768) >> 16


def blend(canvas: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    """Lays `colour` (3, or h x w x 3) over the canvas (h x w x 3) where the mask (0-255) is."""
    levels = mask.astype(np.int32)[..., None]
    alpha = levels + (levels >> 7)  # 0 to 256
    canvas[...] = (canvas * (256 - alpha) + colour * alpha + 128) >> 8


def mean_below(canvas: np.ndarray, covered: np.ndarray) -> int:
    """Mean grey level of the canvas under a mask, rounded down."""
    return int(canvas[covered].sum()) // max(1, 3 * int(covered.sum()))


def any_colour(draws: Draws) -> np.ndarray:
    return np.array(_levels(draws), np.int32)


def contrasting_colour(
    draws: Draws, below: int, low: int = CONTRAST + 1, high: int = 255
) -> np.ndarray:
    """A colour whose mean differs from `below` by `low` to `high` grey levels."""
    for _ in range(200):
        levels = _levels(draws)
        if low <= abs(sum(levels) // 3 - below) <= high:
            return np.array(levels, np.int32)
    return np.full(3, below + (low if below < 128 else -low), np.int32)


def _levels(draws: Draws) -> list[int]:
    return [draws.below(256) for _ in range(3)]


def textured(
    draws: Draws, regions: Sequence[PhotoRegion], colour: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """A photo patch of `size` (h, w), shifted to have `colour` as its mean, contrast 3/4."""
    height, width = size
    patch = photo_crop(draws, draws.choice(regions), width, height)
    mean = patch.sum(axis=(0, 1)) // (height * width)
    return ((patch - mean) * 3 // 4 + colour).clip(0, 255)


def finish(draws: Draws, canvas: np.ndarray) -> np.ndarray:
    """The photograph as a camera would give it: blur in 30 %, gain, offset, noise; uint8."""
    if draws.chance(BLURRED):
        canvas = _blur(canvas, draws.between(16, 64))
    gain = int(draws.uniform(*GAINS) * 256)
    offset = draws.between(-MAX_OFFSET, MAX_OFFSET)
    canvas = ((canvas * gain + 128) >> 8) + offset
    canvas = canvas + draws.noise(canvas.shape, draws.uniform(0, MAX_SIGMA))
    return canvas.clip(0, 255).astype(np.uint8)


def _blur(canvas: np.ndarray, side: int) -> np.ndarray:
    """Three taps (side, 256 - 2 side, side) / 256 along both axes, borders repeated."""
    for axis in (0, 1):
        pads = [(0, 0)] * 3
        pads[axis] = (1, 1)
        padded = np.pad(canvas, pads, mode="edge")
        before = padded[:-2] if axis == 0 else padded[:, :-2]
        after = padded[2:] if axis == 0 else padded[:, 2:]
        canvas = (before * side + canvas * (256 - 2 * side) + after * side + 128) >> 8
    return canvas
