"""The views of an image that a protocol takes, as pixels; mirror images are made on the device.

Not for: reading images (`resdet.data`), or what becomes of them (`scoring`).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from resdet import profile
from resdet.data.records import ClassificationSet
from resdet.pretrain.augment import centre_corner, centre_of, resize_shorter
from resdet.pretrain.protocols.view_protocol import ViewProtocol
from resdet.pretrain.recipe.mean_image import MeanImage

Views = list[np.ndarray]


def views_of(
    image: np.ndarray, protocol: ViewProtocol, mean_image: MeanImage | None = None
) -> Views:
    """The views of an (H, W, 3) image, uint8 RGB.

    Args:
        mean_image: subtracted after resizing, before padding, as in training: the views are
            float32 then. The image must be square.

    Returns:
        centre: one array (1, crop, crop, 3). 10-crop: one of (5, crop, crop, 3), without the
        mirror images: top left, top right, bottom left, bottom right, centre. dense: for each
        size one of (1, H', W', 3) with that shorter side.
    """
    resample = Image.Resampling[protocol.resize.upper()]

    def of_side(side: int) -> np.ndarray:
        resized = resize_shorter(image, side, resample)
        return mean_image.taken_from(resized, resample) if mean_image else resized

    if protocol.kind == "dense":
        return [of_side(size)[None] for size in protocol.sizes]
    image = of_side(protocol.side)
    if protocol.kind == "centre":
        return [centre_of(image, protocol.crop)[None]]
    return [five_crops(image, protocol.crop, protocol.pad)]


def five_crops(image: np.ndarray, crop: int, pad: int) -> np.ndarray:
    """(5, crop, crop, 3): the corners and the centre of the image.

    Args:
        pad: zeros (black, or the mean image) that are put on each of the four sides first.
    """
    if pad:
        image = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    height, width = image.shape[:2]
    right, bottom = width - crop, height - crop
    corners = ((0, 0), (right, 0), (0, bottom), (right, bottom), centre_corner(width, height, crop))
    return np.stack([image[top : top + crop, left : left + crop] for left, top in corners])


class ViewReader(torch.utils.data.Dataset[tuple[int, Views]]):
    """(number of the image, its views) for each of `numbers`."""

    def __init__(
        self,
        images: ClassificationSet,
        protocol: ViewProtocol,
        numbers: list[int],
        mean_image: MeanImage | None = None,
    ):
        self.images = images
        self.protocol = protocol
        self.numbers = numbers
        self.mean_image = mean_image

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> tuple[int, Views]:
        number = self.numbers[place]
        with profile.span(profile.DECODE):
            image = self.images.read(number)
        with profile.span(profile.AUGMENT):
            return number, views_of(image, self.protocol, self.mean_image)
