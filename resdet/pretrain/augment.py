"""Images to square crops: the paper's training recipe and its relatives, and the 1-crop test.

Every function takes and gives H x W x 3 uint8 RGB, and draws from the generator it is handed, so
a crop depends on (seed, epoch, index) alone.

Not for: mean and std, which are subtracted on the device (`trainer`).
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

KINDS = ("paper", "area", "pad", "none")

# AlexNet's principal components of RGB in [0, 1], as fb.resnet.torch lists them (paper.md 1.2).
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


def train_crop(
    image: np.ndarray,
    generator: np.random.Generator,
    *,
    kind: str,
    crop: int,
    jitter: tuple[int, int],
    flip: bool,
    color_std: float,
) -> np.ndarray:
    """A crop of `crop` x `crop` pixels, augmented as PRETRAIN.AUGMENTATION says.

    Raises:
        ValueError: `kind` is not one of `KINDS`.
    """
    if kind == "paper":
        side = int(generator.integers(jitter[0], jitter[1] + 1))
        image = random_crop(resize_shorter(image, side), crop, generator)
    elif kind == "area":
        image = random_area_crop(image, crop, generator)
    elif kind == "pad":
        image = random_crop(np.pad(image, ((4, 4), (4, 4), (0, 0))), crop, generator)
    elif kind == "none":
        image = centre_crop(image, crop, crop)
    else:
        raise ValueError(f"PRETRAIN.AUGMENTATION is {kind!r}, expected one of {', '.join(KINDS)}")
    if flip and generator.random() < 0.5:
        image = image[:, ::-1]
    return shift_color(image, color_std, generator) if color_std > 0 else image


def resize_shorter(image: np.ndarray, side: int) -> np.ndarray:
    """The shorter side becomes `side` pixels, the ratio stays; bilinear, antialiased."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    if size == (width, height):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def random_crop(image: np.ndarray, crop: int, generator: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    top = int(generator.integers(height - crop + 1))
    left = int(generator.integers(width - crop + 1))
    return image[top : top + crop, left : left + crop]


def centre_crop(image: np.ndarray, side: int, crop: int) -> np.ndarray:
    """The centre `crop` x `crop` of the image with shorter side `side` (1-crop test)."""
    image = resize_shorter(image, side)
    height, width = image.shape[:2]
    top, left = round((height - crop) / 2), round((width - crop) / 2)
    return image[top : top + crop, left : left + crop]


def random_area_crop(image: np.ndarray, crop: int, generator: np.random.Generator) -> np.ndarray:
    """8 to 100 % of the area, ratio 3/4 to 4/3, resized to `crop` (GoogLeNet, torchvision).

    After ten draws that do not fit, the centre square, as torchvision falls back for these ratios.
    """
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * generator.uniform(0.08, 1.0)
        ratio = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(generator.integers(height - h + 1))
            left = int(generator.integers(width - w + 1))
            break
    else:
        w = h = min(height, width)
        top, left = (height - h) // 2, (width - w) // 2
    box = (left, top, left + w, top + h)
    picture = Image.fromarray(image).resize((crop, crop), Image.Resampling.BILINEAR, box=box)
    return np.asarray(picture)


def shift_color(image: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """AlexNet's colour augmentation: one shift for all pixels along the principal components."""
    shift = _EIGENVECTORS @ (generator.normal(0.0, std, 3) * _EIGENVALUES) * 255.0
    return np.clip(np.rint(image + shift), 0, 255).astype(np.uint8)
