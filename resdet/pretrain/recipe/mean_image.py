"""The mean image of a training set, subtracted pixel by pixel: He et al. 2015, section 4.2.

It is subtracted from the whole image, before padding, crop and mirror, so that the zeros around an
image stand for a mean. Training is only for sets whose images all have the net's input size, as
CIFAR's: where images are resized and cropped at random, one mean image stands for no place in them.
A test may resize: resizing is linear, so an image less the mean image, resized, is the image less
the mean image, both resized.

Not for: its place in a card (`resdet.weights.cards.Input.mean_image`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from resdet.data.records import ClassificationSet
from resdet.errors import ConfigError, DataError
from resdet.weights import Input

# Images whose sum is taken at once, to bound memory.
_AT_ONCE = 1000


def mean_image_of(data: ClassificationSet, side: int) -> npt.NDArray[np.float32]:
    """(side, side, 3) RGB, in 0 to 255: the exact mean, rounded once to float32.

    Raises:
        ConfigError: an image has another size; names it.
    """
    total = np.zeros((side, side, 3), np.int64)
    if data.images is not None:
        if data.images.shape[1:] != total.shape:
            raise _other_size(data.name, "its images", data.images.shape[1:], side)
        for start in range(0, len(data), _AT_ONCE):
            total += data.images[start : start + _AT_ONCE].sum(0, dtype=np.int64)
    else:
        for index in range(len(data)):
            image = data.read(index)
            if image.shape != total.shape:
                raise _other_size(data.name, data.name_of(index), image.shape, side)
            total += image
    return (total / len(data)).astype(np.float32)


class MeanImage:
    """A mean image, subtracted from square images of any size.

    Args:
        image: (side, side, 3) float32 RGB, in 0 to 255.
    """

    def __init__(self, image: npt.NDArray[np.float32]):
        self.image = image
        self._resized: dict[tuple[int, Image.Resampling], npt.NDArray[np.float32]] = {}

    @classmethod
    def of_input(cls, described: Input) -> MeanImage | None:
        """The one of a card's input; None where it has a mean per channel."""
        image = described.mean_image_array()
        if image is None:
            return None
        is_bgr = described.color_order == "BGR"
        return cls(np.ascontiguousarray(image[:, :, ::-1]) if is_bgr else image)

    def taken_from(
        self, image: np.ndarray, resample: Image.Resampling = Image.Resampling.BILINEAR
    ) -> npt.NDArray[np.float32]:
        """(n, n, 3) RGB less the mean image of n x n pixels.

        Args:
            resample: the filter by which the image was resized.
        """
        return np.subtract(image, self._of_side(len(image), resample), dtype=np.float32)

    def _of_side(self, side: int, resample: Image.Resampling) -> npt.NDArray[np.float32]:
        if side == len(self.image):
            return self.image
        if (side, resample) not in self._resized:
            channels = [
                np.asarray(Image.fromarray(channel).resize((side, side), resample))
                for channel in np.ascontiguousarray(self.image.transpose(2, 0, 1))
            ]
            self._resized[side, resample] = np.stack(channels, axis=2)
        return self._resized[side, resample]


def input_of(
    cfg: Any, train_set: ClassificationSet, test_sets: Iterable[ClassificationSet]
) -> tuple[Input, MeanImage | None]:
    """How an image becomes the input of a net in training, and the mean image where there is one.

    Raises:
        ConfigError: training images have not the size of a mean image. DataError: a test image is
            not square.
    """
    order, crop, exif = cfg.INPUT.FORMAT, cfg.PRETRAIN.CROP, cfg.INPUT.EXIF
    std = tuple(cfg.MODEL.PIXEL_STD)
    if cfg.PRETRAIN.MEAN_IMAGE == "off":
        return Input(order, tuple(cfg.MODEL.PIXEL_MEAN), std, crop, exif), None
    image = mean_image_of(train_set, crop)
    for data in test_sets:
        require_square(data)
    theirs = image[:, :, ::-1] if order == "BGR" else image
    return Input.of_mean_image(order, theirs, std, exif), MeanImage(image)


def require_square(data: ClassificationSet) -> None:
    """Before a test with a mean image.

    Raises:
        DataError: an image is not square, so that the mean image fits no part of it; names it.
    """
    for index in range(len(data) if data.images is None else 1):
        if data.images is None:
            width, height = data.reader.read_size(data.files[index])
        else:
            height, width = data.images.shape[1:3]
        if width != height:
            raise DataError(
                f"{data.name}, {data.name_of(index)}: {width} x {height} pixels, and the net was "
                "trained with a mean for each pixel of square images. Score it on square images, "
                "as CIFAR's."
            )


def _other_size(name: str, image: str, shape: tuple[int, ...], side: int) -> ConfigError:
    return ConfigError(
        f"PRETRAIN.MEAN_IMAGE is on, and of {name} {image} has {shape[1]} x {shape[0]} pixels, not "
        f"{side} x {side} (PRETRAIN.CROP): there is no mean image. Set it to off, and state "
        "MODEL.PIXEL_MEAN."
    )
