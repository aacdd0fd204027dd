"""Alpha masks of digits and of strokes that are no digits, and how they are put on a canvas.

All masks are 80 x 80 with smaller copies below (a pyramid), so that small ones are sampled
without gaps. Everything is computed in integers, or in float64 where every step is exact.

    mask       h x w uint8, 255 = wholly covered
    pyramid    masks of 80, 40, 20, 10 pixels a side, each the 2 x 2 mean of the one before,
               int32, with a border of one zero pixel

Not for: colour and place, which the painter chooses.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from resdet.data.digits.painting.draws import Draws, on_grid

MASK_SIZE = 80
# A pixel belongs to an object when it is covered by half or more.
COVERED = 128
AT_ONCE = 64  # digits enlarged together, to keep memory small
STROKE_SEED = 20140906
NUM_CURVES = 96

# Letters that are no digit in any orientation, as polylines in the unit square (y down).
LETTERS: dict[str, list[list[tuple[float, float]]]] = {
    "A": [[(0.1, 1), (0.5, 0), (0.9, 1)], [(0.26, 0.6), (0.74, 0.6)]],
    "E": [[(0.85, 0), (0.15, 0), (0.15, 1), (0.85, 1)], [(0.15, 0.5), (0.7, 0.5)]],
    "F": [[(0.85, 0), (0.15, 0), (0.15, 1)], [(0.15, 0.48), (0.7, 0.48)]],
    "H": [[(0.12, 0), (0.12, 1)], [(0.88, 0), (0.88, 1)], [(0.12, 0.5), (0.88, 0.5)]],
    "K": [[(0.15, 0), (0.15, 1)], [(0.85, 0), (0.15, 0.58)], [(0.38, 0.42), (0.88, 1)]],
    "L": [[(0.2, 0), (0.2, 1), (0.85, 1)]],
    "M": [[(0.05, 1), (0.12, 0), (0.5, 0.7), (0.88, 0), (0.95, 1)]],
    "N": [[(0.12, 1), (0.12, 0), (0.88, 1), (0.88, 0)]],
    "R": [
        [(0.15, 1), (0.15, 0), (0.65, 0), (0.85, 0.14), (0.85, 0.36), (0.65, 0.5), (0.15, 0.5)],
        [(0.48, 0.5), (0.88, 1)],
    ],
    "T": [[(0.05, 0), (0.95, 0)], [(0.5, 0), (0.5, 1)]],
    "U": [[(0.12, 0), (0.12, 0.7), (0.3, 1), (0.7, 1), (0.88, 0.7), (0.88, 0)]],
    "V": [[(0.08, 0), (0.5, 1), (0.92, 0)]],
    "W": [[(0.02, 0), (0.25, 1), (0.5, 0.3), (0.75, 1), (0.98, 0)]],
    "X": [[(0.1, 0), (0.9, 1)], [(0.9, 0), (0.1, 1)]],
    "Y": [[(0.08, 0), (0.5, 0.5), (0.92, 0)], [(0.5, 0.5), (0.5, 1)]],
}
LETTER_WIDTHS = (6, 9, 12)


@dataclass(frozen=True)
class Glyph:
    """One mask with its pyramid, and the outermost covered pixels of each row."""

    label: int  # 0 to 9, or -1 for a stroke
    pyramid: tuple[np.ndarray, ...]
    outline: np.ndarray  # P x 2 int, (x, y), enough to know the extent under any linear map


def digit_glyphs(digits: np.ndarray, labels: np.ndarray) -> list[Glyph]:
    """Glyphs of handwritten digits, N x 8 x 8 with values 0 to 16.

    Padded by one, enlarged by bicubic interpolation to 80 x 80, then a steep contrast step:
    without it the digits are blobs.
    """
    weights = _bicubic_weights(10, MASK_SIZE)
    glyphs: list[Glyph] = []
    for start in range(0, len(digits), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        padded = np.pad(digits[some].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
        # Weights are multiples of 2**-14 and pixels are small integers: every sum is exact in
        # float64, so the order in which a BLAS adds does not matter.
        large = weights @ padded @ weights.T / 16
        masks = np.floor(np.clip((large - 0.3) / 0.25, 0, 1) * 255 + 0.5).astype(np.uint8)
        glyphs += _glyphs(labels[some].tolist(), masks)
    return glyphs


def stroke_glyphs() -> list[Glyph]:
    """Strokes that are no digits: letters in three widths, then curves and lines."""
    masks = [_draw_polylines(lines, width) for lines in LETTERS.values() for width in LETTER_WIDTHS]
    draws = Draws(STROKE_SEED)
    for _ in range(NUM_CURVES):
        curve = _curve(draws)
        masks.append(_draw_polylines([curve], draws.between(6, 11)))
    return _glyphs([-1] * len(masks), np.stack(masks))


def place_glyph(
    glyph: Glyph, longer_side: float, *, degrees: float, shear: float, stretch: float
) -> np.ndarray:
    """The mask, turned, sheared and stretched, cut tight to its covered pixels.

    Args:
        longer_side: of the result, in pixels (reached up to rounding).
        degrees: counter-clockwise.
        shear: x gains `shear` times y.
        stretch: factor of the height; the width keeps its own.
    """
    cos, sin = on_grid(math.cos(math.radians(degrees))), on_grid(math.sin(math.radians(degrees)))
    # Forward map of source (x, y): stretch, shear, then turn (y points down).
    a, b = cos, (cos * shear + sin) * stretch
    c, d = -sin, (cos - sin * shear) * stretch
    xs = a * glyph.outline[:, 0] + b * glyph.outline[:, 1]
    ys = c * glyph.outline[:, 0] + d * glyph.outline[:, 1]
    left, right, top, bottom = xs.min(), xs.max(), ys.min(), ys.max()
    scale = longer_side / (max(right - left, bottom - top) + 1)

    level = min(max(0, math.frexp(1 / scale)[1] - 1), len(glyph.pyramid) - 1)
    source = glyph.pyramid[level]
    to_level = 0.5**level / scale
    det = a * d - b * c
    inverse = (d / det * to_level, -b / det * to_level, -c / det * to_level, a / det * to_level)
    width = math.ceil((right - left) * scale) + 3
    height = math.ceil((bottom - top) * scale) + 3
    # The middle of the extent goes to the middle of the result.
    mid_x, mid_y = (left + right) / 2, (top + bottom) / 2
    center = (
        ((d * mid_x - b * mid_y) / det + 0.5) * 0.5**level - 0.5,
        ((a * mid_y - c * mid_x) / det + 0.5) * 0.5**level - 0.5,
    )
    return _cut_tight(_sample(source, inverse, center, width, height))


def _sample(
    source: np.ndarray,
    inverse: tuple[float, float, float, float],
    center: tuple[float, float],
    width: int,
    height: int,
) -> np.ndarray:
    """Bilinear samples of a bordered mask, coordinates in 1/65536 pixel.

    `center` is in pixels of the mask without its border and goes to the middle of the result;
    `inverse` maps a step there to a step here.
    """
    fixed = [round(v * 65536) for v in inverse]
    # Twice the distance to the middle, in pixels of the result; 1 more there for the border.
    x = np.arange(1 - width, width, 2, dtype=np.int32)
    y = np.arange(1 - height, height, 2, dtype=np.int32)[:, None]
    u = ((fixed[0] * x + fixed[1] * y) >> 1) + round((center[0] + 1) * 65536)
    v = ((fixed[2] * x + fixed[3] * y) >> 1) + round((center[1] + 1) * 65536)
    side = len(source)
    limit = ((side - 1) << 16) - 1
    u, v = (np.minimum(np.maximum(c, 0), limit) for c in (u, v))
    fu, fv = (u >> 8) & 255, (v >> 8) & 255
    index = (v >> 16) * side + (u >> 16)
    flat = source.ravel()
    first = flat.take(index)
    upper = (first << 8) + (flat.take(index + 1) - first) * fu
    index += side
    first = flat.take(index)
    lower = (first << 8) + (flat.take(index + 1) - first) * fu
    return (((upper << 8) + (lower - upper) * fv + 32768) >> 16).astype(np.uint8)


def tight_box(covered: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 (half-open) of the true pixels of a mask that has some."""
    columns = np.flatnonzero(covered.any(axis=0))
    rows = np.flatnonzero(covered.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _cut_tight(mask: np.ndarray) -> np.ndarray:
    # A thin stroke, made small, may cover no pixel by half.
    x0, y0, x1, y1 = tight_box(mask >= min(COVERED, int(mask.max())))
    return mask[y0:y1, x0:x1]


def _glyphs(labels: list[int], masks: np.ndarray) -> list[Glyph]:
    """Glyphs of masks, N x 80 x 80 uint8."""
    levels = [masks.astype(np.int32)]
    while levels[-1].shape[1] > 10:
        m = levels[-1]
        four = m[:, 0::2, 0::2] + m[:, 1::2, 0::2] + m[:, 0::2, 1::2] + m[:, 1::2, 1::2]
        levels.append((four + 2) >> 2)
    levels = [np.pad(level, ((0, 0), (1, 1), (1, 1))) for level in levels]
    return [
        Glyph(label, tuple(level[i] for level in levels), _outline(masks[i] >= COVERED))
        for i, label in enumerate(labels)
    ]


def _outline(covered: np.ndarray) -> np.ndarray:
    """First and last covered pixel of each row that has one, (x, y)."""
    rows = np.flatnonzero(covered.any(axis=1))
    first = covered[rows].argmax(axis=1)
    last = covered.shape[1] - 1 - covered[rows, ::-1].argmax(axis=1)
    return np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=1)


def _bicubic_weights(size: int, new_size: int) -> np.ndarray:
    """new_size x size, Keys' kernel with a = -0.75 (as OpenCV), border repeated.

    With new_size / size a power of two all weights are exact in binary.
    """
    weights = np.zeros((new_size, size))
    for i in range(new_size):
        position = (i + 0.5) * size / new_size - 0.5
        base = math.floor(position)
        for k in range(base - 1, base + 3):
            weights[i, min(max(k, 0), size - 1)] += _cubic(abs(position - k))
    return weights


def _cubic(t: float, a: float = -0.75) -> float:
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    if t < 2:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return 0.0


def _curve(draws: Draws) -> list[tuple[float, float]]:
    """An arc, or a line that is not upright: an upright one would be a 1."""
    if draws.chance(0.4):
        tilt = draws.uniform(35, 145)
        x, y = on_grid(math.sin(math.radians(tilt))) / 2, on_grid(math.cos(math.radians(tilt))) / 2
        return [(0.5 - x, 0.5 - y), (0.5 + x, 0.5 + y)]
    start, span = draws.uniform(0, 360), draws.uniform(70, 200)
    flat = draws.uniform(0.5, 1)
    angles = [math.radians(start + span * i / 12) for i in range(13)]
    return [
        (0.5 + 0.5 * on_grid(math.cos(t)), 0.5 + 0.5 * flat * on_grid(math.sin(t))) for t in angles
    ]


def _draw_polylines(lines: list[list[tuple[float, float]]], width: int) -> np.ndarray:
    """80 x 80 mask of lines in the unit square; `width` in pixels of the mask."""
    margin = 8
    span = MASK_SIZE - 2 * margin
    axis = np.arange(MASK_SIZE) + 0.5
    x, y = axis[None, :], axis[:, None]
    nearest = np.full((MASK_SIZE, MASK_SIZE), np.inf)
    for line in lines:
        points = [(margin + px * span, margin + py * span) for px, py in line]
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            dx, dy = x1 - x0, y1 - y0
            along = ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy)
            along = along.clip(0, 1)
            nearest = np.minimum(nearest, (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2)
    covered = np.clip(width / 2 + 0.5 - np.sqrt(nearest), 0, 1)
    return np.floor(covered * 255 + 0.5).astype(np.uint8)
