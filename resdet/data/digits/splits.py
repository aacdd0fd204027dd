"""The digits and the photo regions of train, val and test, without overlap.

Digits: one fixed permutation of the 1,797, cut at 1,000 and 1,200. Photos: each is cut into four
quadrants, two for train, one for val, one for test, and which ones rotates from photo to photo.
So every split has all 18 photographs and no pixel lies in two. Regions of one photograph
share its light and style: a test scene is new, but of the same domain.

Not for: painting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resdet.data.digits.material import PHOTOS
from resdet.data.digits.painting.draws import Draws
from resdet.data.digits.sources import Sources

SPLITS = ("train", "val", "test")
DIGIT_SEED = 20151210
TRAIN_END, VAL_END = 1000, 1200
# Photos with a longer side above this many pixels are shrunk to 60 % first: at full size a
# crop of 144 px would show almost nothing of them.
SHRINK_ABOVE = 900


@dataclass(frozen=True)
class PhotoRegion:
    """A rectangle of one (perhaps shrunk) photograph: `image` is H x W x 3 uint8 RGB."""

    photo: str
    quadrant: int
    box: tuple[int, int, int, int]
    image: np.ndarray

    @property
    def name(self) -> str:
        """As written into annotations, such as "astronaut.png, quadrant 2"."""
        return f"{self.photo}, quadrant {self.quadrant}"


def digit_indices(split: str) -> list[int]:
    """Rows of scikit-learn's digits that belong to a split, in fixed order."""
    order = Draws(DIGIT_SEED).permutation(1797)
    cuts = {"train": (0, TRAIN_END), "val": (TRAIN_END, VAL_END), "test": (VAL_END, 1797)}
    return order[slice(*cuts[split])]


def photo_regions(split: str, sources: Sources) -> list[PhotoRegion]:
    """The regions of a split: 36 for train, 18 each for val and test."""
    regions = []
    for i, (photo, image) in enumerate(zip(PHOTOS, sources.photos, strict=True)):
        if max(image.shape[:2]) > SHRINK_ABOVE:
            image = shrink_to_60_percent(image)
        for quadrant in range(4):
            if quadrant_split(i, quadrant) == split:
                x0, y0, x1, y1 = box = _quadrant_box(image, quadrant)
                regions.append(PhotoRegion(photo.name, quadrant, box, image[y0:y1, x0:x1]))
    return regions


def quadrant_split(photo_index: int, quadrant: int) -> str:
    """The split that a quadrant (0 to 3: upper left, upper right, lower left, lower right) is of.

    >>> [quadrant_split(0, q) for q in range(4)]
    ['test', 'val', 'train', 'train']
    """
    return ("test", "val", "train", "train")[(quadrant - photo_index) % 4]


def _quadrant_box(image: np.ndarray, quadrant: int) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    row, column = divmod(quadrant, 2)
    xs, ys = (0, width // 2, width), (0, height // 2, height)
    return xs[column], ys[row], xs[column + 1], ys[row + 1]


def shrink_to_60_percent(image: np.ndarray) -> np.ndarray:
    """Area mean of 5/3 x 5/3 pixels each, in integers; rows and columns beyond a 5 are cut."""
    height, width = (n // 5 * 3 for n in image.shape[:2])
    rows = _five_to_three(image[: height // 3 * 5].astype(np.int32))
    both = _five_to_three(rows[:, : width // 3 * 5].swapaxes(0, 1)).swapaxes(0, 1)
    return ((both + 12) // 25).astype(np.uint8)


def _five_to_three(values: np.ndarray) -> np.ndarray:
    """Along the first axis, sums of 5/3 entries each, times 3."""
    a, b, c, d, e = (values[i::5] for i in range(5))
    out = np.empty((len(a) * 3, *values.shape[1:]), np.int32)
    out[0::3], out[1::3], out[2::3] = 3 * a + 2 * b, b + 3 * c + d, 2 * d + 3 * e
    return out
