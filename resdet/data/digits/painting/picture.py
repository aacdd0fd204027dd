"""An image with the object that each of its pixels shows, and what can be painted on it.

    owner   H x W, 1, 2, … for digits, 0 for anything else. What is painted later takes pixels
            over; what an object has at the end is its visible part.

Not for: how many of what go where (`painter`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from resdet.data.digits.painting import canvas
from resdet.data.digits.painting.draws import Draws
from resdet.data.digits.painting.glyphs import COVERED, Glyph, place_glyph
from resdet.data.digits.splits import PhotoRegion

LOW_CONTRAST = (16, 28)  # grey levels of a faint digit, instead of canvas.CONTRAST and more
OPACITY = (208, 256)  # of 256
BAR_DIRECTIONS = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (1, 2), (2, -1), (1, -2))


@dataclass(frozen=True)
class Material:
    """What one split may use."""

    digits: Sequence[Glyph]
    strokes: Sequence[Glyph]
    regions: Sequence[PhotoRegion]


class Picture:
    """A square canvas over a photo background, with its owners."""

    def __init__(self, draws: Draws, material: Material, size: int):
        self.draws = draws
        self.material = material
        self.size = size
        region = draws.choice(material.regions)
        self.background = region.name
        self.canvas = np.ascontiguousarray(canvas.photo_crop(draws, region, size, size))
        self.owner = np.zeros((size, size), np.int16)

    def shape(self, glyph: Glyph, longer_side: float) -> np.ndarray:
        """The glyph's mask in a random pose."""
        return place_glyph(
            glyph,
            longer_side,
            degrees=self.draws.uniform(-25, 25),
            shear=self.draws.uniform(-0.25, 0.25),
            stretch=self.draws.uniform(0.8, 1.2),
        )

    def put_digit(
        self, mask: np.ndarray, x: int, y: int, *, owner: int, is_faint: bool = False
    ) -> None:
        """Paints a digit with its upper left corner at (x, y), in a colour that stands out."""
        draws = self.draws
        below = self._mean_below(mask, x, y)
        if is_faint:
            colour, opacity = canvas.contrasting_colour(draws, below, *LOW_CONTRAST), 256
        else:
            colour, opacity = canvas.contrasting_colour(draws, below), draws.between(*OPACITY)
        if draws.chance(0.25):
            colour = canvas.textured(draws, self.material.regions, colour, mask.shape)
        self._put(mask, x, y, colour, owner, opacity)

    def put_distractor(self, side: float) -> None:
        """Something that is no digit: a letter, a curve, a line (60 %), or a photo patch."""
        draws = self.draws
        if draws.chance(0.6):
            mask = self.shape(draws.choice(self.material.strokes), side)
            colour = canvas.any_colour(draws)
        else:
            height, width = (max(6, int(side * draws.uniform(0.4, 1))) for _ in range(2))
            mask = _ellipse(height, width) if draws.chance(0.3) else _full(height, width)
            colour = self._photo_patch(height, width)
        height, width = mask.shape
        x = draws.between(-(width // 3), self.size - width + width // 3)
        y = draws.between(-(height // 3), self.size - height + height // 3)
        self._put(mask, x, y, colour, 0, draws.between(*OPACITY))

    def occlude(self, mask: np.ndarray, x: int, y: int, share: float) -> None:
        """Covers `share` of the mask's pixels by a bar across it or a patch from one corner."""
        draws = self.draws
        height, width = mask.shape
        margin = 2 + max(height, width) // 8
        rows = np.arange(-margin, height + margin)[:, None]
        columns = np.arange(-margin, width + margin)[None, :]
        is_bar = draws.chance(0.6)
        if is_bar:
            a, b = draws.choice(BAR_DIRECTIONS)
            position = a * columns + b * rows
        else:
            # The larger of the distances from a corner's two sides, in units of the box.
            from_side = columns if draws.chance(0.5) else width - 1 - columns
            from_top = rows if draws.chance(0.5) else height - 1 - rows
            position = np.maximum(from_side * height, from_top * width)
        # Whatever its direction, the cover takes the expected share of pixels sorted along it.
        inner = position[margin : margin + height, margin : margin + width]
        ranks = np.sort(inner[mask >= COVERED])
        expected = max(1, int(share * len(ranks)))
        start = draws.below(len(ranks) - expected + 1) if is_bar else 0
        covers = position <= ranks[start + expected - 1]
        if is_bar:
            covers &= position >= ranks[start]
        colour = self._photo_patch(*covers.shape) if draws.chance(0.5) else canvas.any_colour(draws)
        self._put(np.where(covers, 255, 0), x - margin, y - margin, colour, 0)

    def _put(
        self,
        mask: np.ndarray,
        x: int,
        y: int,
        colour: np.ndarray,
        owner: int,
        opacity: int = 256,
    ) -> None:
        inside = self._inside(mask, x, y)
        if inside is None:
            return
        here, part = inside
        alpha = (mask[part].astype(np.int32) * opacity) >> 8
        canvas.blend(self.canvas[here], alpha, colour[part] if colour.ndim == 3 else colour)
        # The owner is decided by the shape, not by how much shines through.
        self.owner[here][mask[part] >= COVERED] = owner

    def _mean_below(self, mask: np.ndarray, x: int, y: int) -> int:
        inside = self._inside(mask, x, y)
        if inside is None:
            return 128
        here, part = inside
        return canvas.mean_below(self.canvas[here], mask[part] >= COVERED)

    def _photo_patch(self, height: int, width: int) -> np.ndarray:
        region = self.draws.choice(self.material.regions)
        return canvas.photo_crop(self.draws, region, width, height)

    def _inside(
        self, mask: np.ndarray, x: int, y: int
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """Where the mask lies on the canvas, and which part of it does; None for no part."""
        height, width = mask.shape
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + width, self.size), min(y + height, self.size)
        if x0 >= x1 or y0 >= y1:
            return None
        return np.s_[y0:y1, x0:x1], np.s_[y0 - y : y1 - y, x0 - x : x1 - x]


def _full(height: int, width: int) -> np.ndarray:
    return np.full((height, width), 255)


def _ellipse(height: int, width: int) -> np.ndarray:
    x = 2 * np.arange(width) - (width - 1)
    y = 2 * np.arange(height)[:, None] - (height - 1)
    return np.where((x * height) ** 2 + (y * width) ** 2 <= (height * width) ** 2, 255, 0)
