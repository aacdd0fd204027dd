"""Images to square crops: the paper's training recipe and its relatives, and the 1-crop test.

Every function takes and gives H x W x 3 uint8 RGB, and draws from the generator it is given, so
a crop depends on (seed, epoch, index) alone. `TrainCrop.region` and `finish` together draw what
`TrainCrop` draws, in the same order, so that they give the same crop without the whole image.

Not for: mean and std, which are subtracted on the device (`trainer`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from resdet.data.images.resize import Region
from resdet.pretrain.recipe.mean_image import MeanImage

KINDS = ("paper", "area", "pad", "none")

# AlexNet's principal components of RGB in [0, 1], as fb.resnet.torch lists them.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


@dataclass(frozen=True)
class TrainCrop:
    """A crop of `crop` x `crop` pixels, augmented by the recipe PRETRAIN.AUGMENTATION.

    A `mean_image` is subtracted from the image first and the crop is float32: for kinds that do not
    resize, without colours.

    Raises:
        ValueError: `kind` is not one of `KINDS`.
    """

    kind: str
    crop: int
    jitter: tuple[int, int]
    flip: bool
    color_std: float
    mean_image: MeanImage | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"PRETRAIN.AUGMENTATION is {self.kind!r}, expected one of {', '.join(KINDS)}"
            )

    def __call__(self, image: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
        """The crop of a whole image."""
        assert generator is not None
        if self.mean_image is not None:
            image = self.mean_image.taken_from(image)
        if self.kind == "paper":
            image = resize_shorter(image, self._side(generator))
            image = random_crop(image, self.crop, generator)
        elif self.kind == "area":
            image = random_area_crop(image, self.crop, generator)
        elif self.kind == "pad":
            image = random_crop(np.pad(image, ((4, 4), (4, 4), (0, 0))), self.crop, generator)
        else:
            image = centre_crop(image, self.crop, self.crop)
        return self.finish(image, generator)

    @property
    def has_region(self) -> bool:
        """Whether the crop is a part of the image at another size; with zeros around, it is not."""
        return self.kind != "pad" and self.mean_image is None

    def region(self, size: tuple[int, int], generator: np.random.Generator) -> Region:
        """The part of an image of (width, height) that is the crop, before `finish`."""
        if self.kind == "area":
            left, top, width, height = random_box(*size, generator)
            return Region.of_box(left, top, width, height, self.crop)
        new = shorter_to(size, self._side(generator) if self.kind == "paper" else self.crop)
        if self.kind == "paper":
            left, top = random_corner(*new, self.crop, generator)
        else:
            left, top = centre_corner(*new, self.crop)
        return Region.of_resized(size, new, left, top, self.crop)

    def finish(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Mirror and colour."""
        if self.flip and generator.random() < 0.5:
            image = mirror(image)
        return shift_color(image, self.color_std, generator) if self.color_std > 0 else image

    def _side(self, generator: np.random.Generator) -> int:
        return int(generator.integers(self.jitter[0], self.jitter[1] + 1))


def shorter_to(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) with a shorter side of `side` pixels, the ratio kept."""
    width, height = size
    scale = side / min(height, width)
    return max(side, round(width * scale)), max(side, round(height * scale))


def resize_shorter(
    image: np.ndarray, side: int, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> np.ndarray:
    """The shorter side becomes `side` pixels, the ratio stays; antialiased."""
    height, width = image.shape[:2]
    size = shorter_to((width, height), side)
    if size == (width, height):
        return image
    return np.asarray(Image.fromarray(image).resize(size, resample))


def random_corner(
    width: int, height: int, crop: int, generator: np.random.Generator
) -> tuple[int, int]:
    """(left, top) of a square of side `crop` in an image."""
    top = int(generator.integers(height - crop + 1))
    left = int(generator.integers(width - crop + 1))
    return left, top


def random_crop(image: np.ndarray, crop: int, generator: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    left, top = random_corner(width, height, crop, generator)
    return image[top : top + crop, left : left + crop]


def centre_corner(width: int, height: int, crop: int) -> tuple[int, int]:
    """(left, top) of the square of side `crop` in the middle."""
    return round((width - crop) / 2), round((height - crop) / 2)


def centre_crop(
    image: np.ndarray, side: int, crop: int, mean_image: MeanImage | None = None
) -> np.ndarray:
    """The centre `crop` x `crop` of the image with shorter side `side` (1-crop test).

    With a mean image it is float32 less that, and the image must be square.
    """
    image = resize_shorter(image, side)
    return centre_of(mean_image.taken_from(image) if mean_image else image, crop)


def centre_of(image: np.ndarray, crop: int) -> np.ndarray:
    """The `crop` x `crop` in the middle of an image."""
    height, width = image.shape[:2]
    left, top = centre_corner(width, height, crop)
    return image[top : top + crop, left : left + crop]


def random_area_crop(image: np.ndarray, crop: int, generator: np.random.Generator) -> np.ndarray:
    """The box of `random_box`, resized to `crop` x `crop`."""
    height, width = image.shape[:2]
    left, top, w, h = random_box(width, height, generator)
    box = (left, top, left + w, top + h)
    picture = Image.fromarray(image).resize((crop, crop), Image.Resampling.BILINEAR, box=box)
    return np.asarray(picture)


def random_box(
    width: int, height: int, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """(left, top, width, height) with 8 to 100 % of the area, ratio 3/4 to 4/3: GoogLeNet's.

    After ten draws that do not fit, the centre square, as torchvision falls back for these ratios.
    """
    for _ in range(10):
        area = height * width * generator.uniform(0.08, 1.0)
        ratio = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(generator.integers(height - h + 1))
            left = int(generator.integers(width - w + 1))
            return left, top, w, h
    w = h = min(height, width)
    return (width - w) // 2, (height - h) // 2, w, h


def mirror(image: np.ndarray) -> np.ndarray:
    """Left becomes right. By torch: numpy takes ten times as long to copy rows backwards."""
    return torch.from_numpy(np.require(image, requirements="W")).flip(1).numpy()


def shift_color(image: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """AlexNet's colour augmentation: one shift for all pixels along the principal components."""
    shift = _EIGENVECTORS @ (generator.normal(0.0, std, 3) * _EIGENVALUES) * 255.0
    # Equal values become equal values, so 256 per channel are computed, not every pixel.
    table = np.clip(np.rint(np.arange(256) + shift[:, None]), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(image).point(table.ravel().tolist()))
