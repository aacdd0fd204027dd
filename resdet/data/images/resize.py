"""A part of an image at another size, as if the whole were resized and the part cut out.

The filter is Pillow's antialiased bilinear one. At the edges of the part it reads the pixels
beyond them, as it does when the whole is resized.

Not for: which part is taken (`pretrain.augment`), or reading files (`reader`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

# libjpeg's scales that take less time than the whole: one pixel for 8 x 8, 4 x 4, 2 x 2. The others
# (7/8, 6/8, 5/8, 3/8) have no vector code.
SCALES = (8, 4, 2)
# torch's filter has vector code, Pillow's has not; it may compute so many times what is kept.
_MOST_TO_COMPUTE = 2.5


class Axis(NamedTuple):
    """Where the samples of a result lie on one axis of the image, exactly.

    The centre of sample i of `samples` is at (start + (i + 1/2) step) / per pixels; all integers.
    """

    start: int
    step: int
    per: int
    samples: int

    @property
    def support(self) -> float:
        """How far the filter reads to either side of a centre, in pixels."""
        return max(1.0, self.step / self.per)

    @property
    def edges(self) -> tuple[float, float]:
        """In pixels of the image; need not be whole numbers."""
        return self.start / self.per, (self.start + self.samples * self.step) / self.per

    def first(self, samples: int) -> Axis:
        """The first of the samples alone."""
        return self._replace(samples=samples)

    def end(self, samples: int) -> Axis:
        """The last of the samples alone."""
        start = self.start + (self.samples - samples) * self.step
        return self._replace(start=start, samples=samples)

    def on_smaller(self, scale: int, shift: int = 0) -> Axis:
        """On the image decoded `scale` times smaller, moved by `shift` pixels of the full size."""
        start = self.start + shift * self.per
        return Axis(start, self.step, self.per * scale, self.samples)


class Region(NamedTuple):
    """A part of an upright image at the size of `columns` x `rows` samples."""

    columns: Axis
    rows: Axis

    @classmethod
    def of_box(cls, left: int, top: int, width: int, height: int, size: int) -> Region:
        """A box of whole pixels, resized to `size` x `size`."""
        return cls(Axis(left * size, width, size, size), Axis(top * size, height, size, size))

    @classmethod
    def of_resized(
        cls, size: tuple[int, int], resized: tuple[int, int], left: int, top: int, crop: int
    ) -> Region:
        """The square of side `crop` at (left, top) of an image that was resized.

        Args:
            size, resized: (width, height) before and after.
        """
        (width, height), (new_width, new_height) = size, resized
        return cls(
            Axis(left * width, width, new_width, crop), Axis(top * height, height, new_height, crop)
        )

    def scale(self) -> int:
        """By how much the file may be decoded smaller: 1, 2, 4 or 8.

        The part then has at least as many pixels as the result in both directions.
        """
        room = min(axis.step // axis.per for axis in self)
        return next((scale for scale in SCALES if room >= scale), 1)

    def rows_needed(self) -> int:
        """From the top of the image to the last row that is read, decoded whole or smaller."""
        return math.ceil(self.rows.edges[1] + max(self.rows.support, self.scale())) + self.scale()


def resized(picture: Image.Image, region: Region) -> np.ndarray:
    """The region of an RGB picture as H x W x 3 uint8."""
    result = _by_torch(picture, region)
    return _by_pillow(picture, region) if result is None else result


def _by_pillow(picture: Image.Image, region: Region) -> np.ndarray:
    (left, right), (top, bottom) = region.columns.edges, region.rows.edges
    # Rounding must not move the box over the edge, which Pillow refuses.
    box = (left, top, min(right, float(picture.width)), min(bottom, float(picture.height)))
    size = (region.columns.samples, region.rows.samples)
    return np.array(picture.resize(size, Image.Resampling.BILINEAR, box=box))


def _by_torch(picture: Image.Image, region: Region) -> np.ndarray | None:
    """The same, faster; None where it cannot be had, or not faster.

    torch starts where its image does. So the image is cut at a pixel from which a whole number of
    samples leads to the region, and these are computed, too. Samples at that cut lack the pixels
    before it, and are Pillow's.
    """
    import torch  # not above: data sets are read without it

    columns = _Cut.nearest(region.columns, picture.width)
    rows = _Cut.nearest(region.rows, picture.height)
    if columns is None or rows is None:
        return None
    width, height = columns.before + region.columns.samples, rows.before + region.rows.samples
    if width * height > _MOST_TO_COMPUTE * region.columns.samples * region.rows.samples:
        return None
    # torch copies an axis of equal lengths, whatever scale it is given.
    if width == columns.last - columns.first or height == rows.last - rows.first:
        return None
    box = (*columns.pixels(picture.width), *rows.pixels(picture.height))
    image = torch.from_numpy(np.array(picture.crop((box[0], box[2], box[1], box[3]))))
    turned = [axis for axis, cut in enumerate((rows, columns)) if cut.from_end]
    image = (image.flip(turned) if turned else image)[None].permute(0, 3, 1, 2)
    scales = [axis.per / axis.step for axis in (region.rows, region.columns)]
    whole = torch.ops.aten._upsample_bilinear2d_aa(image, [height, width], False, *scales)
    kept = whole[0].permute(1, 2, 0)[rows.before :, columns.before :]
    result = (kept.flip(turned) if turned else kept).numpy()
    for axis, cut in enumerate((columns, rows)):
        if cut.lacking:
            few = list(region)
            few[axis] = few[axis].end(cut.lacking) if cut.from_end else few[axis].first(cut.lacking)
            along = slice(-cut.lacking, None) if cut.from_end else slice(cut.lacking)
            result[(slice(None), along) if axis == 0 else along] = _by_pillow(picture, Region(*few))
    return result


class _Cut(NamedTuple):
    """Pixels `first` to `last` of an axis, and the samples from `first` on.

    Attributes:
        before: samples that come before the region's.
        lacking: of the region's, those for which pixels before `first` would be read.
        from_end: all of this counts from the other end of the axis.
    """

    first: int
    last: int
    before: int
    lacking: int
    from_end: bool = False

    @classmethod
    def nearest(cls, axis: Axis, length: int) -> _Cut | None:
        """The cut with the fewest samples before the region; None where no pixel lies right."""
        here = cls._of(axis, length)
        if here is not None and here.before == 0:
            return here
        start = length * axis.per - axis.start - axis.samples * axis.step
        there = cls._of(axis._replace(start=start), length)
        if there is None or (here is not None and here.before <= there.before):
            return here
        return there._replace(from_end=True)

    @classmethod
    def _of(cls, axis: Axis, length: int) -> _Cut | None:
        common = math.gcd(axis.step, axis.per)
        if axis.start % common:
            return None
        start, step, per = axis.start // common, axis.step // common, axis.per // common
        # The least number of samples with start - before * step a multiple of per.
        before = start * pow(step, -1, per) % per if per > 1 else 0
        first = (start - before * step) // per
        if first < 0:
            return None
        last = min(length, math.ceil(axis.edges[1] + axis.support) + 1)
        reached = math.ceil(axis.support * per / step - 0.5)
        return cls(first, last, before, max(0, reached - before) if first else 0)

    def pixels(self, length: int) -> tuple[int, int]:
        """`first` and `last` from the beginning of the axis."""
        return (
            (length - self.last, length - self.first) if self.from_end else (self.first, self.last)
        )
