"""Pixels for localisation: crops that train, views that are tested, warped regions.

A training crop is the classifier's (He et al. 2015, section 3.4): shorter side uniform in a range,
random square, mirrored half of the time; boxes are cut to it, and a crop may have none. Colours are
left as they are.

Not for: which anchors or regions train.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Boxes, pairwise_iou
from PIL import Image

from resdet import profile
from resdet.data.images.reader import ImageReader

# No longest side: crops are square, and the shorter side decides.
ANY_LENGTH = 1 << 30
# Of a box that a crop cuts, so much must be left in each direction, in pixels.
SMALLEST_PART = 4.0


@dataclass(frozen=True)
class View:
    """Part of an image as the net sees it.

    Attributes:
        image: (3, H, W) uint8.
        scale: (x, y), pixels of the view per pixel of the image.
        corner: (x, y) of its upper left pixel in the resized image.
    """

    image: torch.Tensor
    scale: tuple[float, float]
    corner: tuple[int, int] = (0, 0)

    def to_image(self, boxes: torch.Tensor) -> torch.Tensor:
        """(n, 4) boxes in the view to boxes in the image."""
        corner = boxes.new_tensor(self.corner * 2)
        return (boxes + corner) / boxes.new_tensor(self.scale * 2)


def as_tensor(image: np.ndarray, image_format: str) -> torch.Tensor:
    """(H, W, 3) RGB to (3, H, W) in the net's order of colours."""
    ordered = image[:, :, ::-1] if image_format == "BGR" else image
    return torch.as_tensor(np.ascontiguousarray(ordered.transpose(2, 0, 1)))


class CropMapper:
    """A record to a random crop with its boxes, as `PerClassRPN.forward` takes it."""

    def __init__(
        self, reader: ImageReader, image_format: str, crop: int, jitter: Sequence[int], flip: bool
    ):
        self.reader = reader
        self.image_format = image_format
        self.augmentations = T.AugmentationList(
            [
                T.ResizeShortestEdge(tuple(jitter), ANY_LENGTH, "range"),
                T.RandomCrop("absolute", (crop, crop)),
                *([T.RandomFlip(horizontal=True)] if flip else []),
            ]
        )

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        with profile.span(profile.DECODE):
            image = self.reader.read(record["file_name"])
        with profile.span(profile.AUGMENT):
            given = T.AugInput(image)
            transforms = self.augmentations(given)
            height, width = given.image.shape[:2]
            boxes = transforms.apply_box(boxes_of(record))
            boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
            left = ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST_PART).all(axis=1)
            return {
                "image": as_tensor(given.image, self.image_format),
                "boxes": torch.as_tensor(boxes[left]),
                "label": record["label"],
                "image_id": record["image_id"],
            }


def boxes_of(record: Mapping[str, Any]) -> np.ndarray:
    """(G, 4) boxes of the objects of the image's class."""
    boxes = [a["bbox"] for a in record["annotations"] if a["category_id"] == record["label"]]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


# -- test --------------------------------------------------------------------------------------


def centre_view(image: np.ndarray, side: int, crop: int, image_format: str) -> View:
    """The centre crop of the image resized to this shorter side."""
    resized, scale = _of_shorter_side(image, max(side, crop))
    height, width = resized.shape[:2]
    left, top = (width - crop) // 2, (height - crop) // 2
    part = resized[top : top + crop, left : left + crop]
    return View(as_tensor(part, image_format), scale, (left, top))


def whole_views(image: np.ndarray, sizes: Sequence[int], image_format: str) -> list[View]:
    """The whole image at each shorter side."""
    views = []
    for side in sizes:
        resized, scale = _of_shorter_side(image, side)
        views.append(View(as_tensor(resized, image_format), scale))
    return views


def _of_shorter_side(image: np.ndarray, side: int) -> tuple[np.ndarray, tuple[float, float]]:
    height, width = image.shape[:2]
    factor = side / min(height, width)
    new = max(side, round(width * factor)), max(side, round(height * factor))
    resized = Image.fromarray(image).resize(new, Image.Resampling.BILINEAR)
    return np.asarray(resized), (new[0] / width, new[1] / height)


# -- regions -----------------------------------------------------------------------------------


def warped(image: Image.Image, box: Sequence[float], side: int, image_format: str) -> torch.Tensor:
    """(3, side, side): a region of an image, whatever its shape, as a square.

    Args:
        box: (x0, y0, x1, y1) in pixels; the whole pixels that it touches are taken, and it is
            moved into the image where it lies outside.
    """
    x0, y0, x1, y1 = box
    x0, x1 = _within(x0, x1, image.width)
    y0, y1 = _within(y0, y1, image.height)
    # Cut first: resizing with `box` looks at pixels around it.
    region = image.crop((x0, y0, x1, y1)).resize((side, side), Image.Resampling.BILINEAR)
    return as_tensor(np.asarray(region), image_format)


def _within(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(max(math.floor(low), 0), size - 1)
    return first, min(max(math.ceil(high), first + 1), size)


class RegionMapper:
    """A record with the proposals of its class to one of them, drawn anew for each sample.

    A batch so has regions of as many images: RoI-centric, as R-CNN trains. Few proposals overlap an
    object by half (2 to 3 of 100 on the trial tree), so a share of the samples is drawn from
    these, as Girshick et al. 2014 bias theirs.

    Args:
        overlap: with an object of the class, from which on a proposal is positive.
        share: of samples that are drawn from an image's positive proposals where it has any; the
            others are drawn from the rest.
    """

    def __init__(
        self,
        reader: ImageReader,
        image_format: str,
        side: int,
        flip: bool,
        *,
        overlap: float,
        share: float,
    ):
        self.reader = reader
        self.image_format = image_format
        self.side = side
        self.flip = flip
        self.overlap = overlap
        self.share = share

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        proposals, gt = record["proposals"], boxes_of(record)
        overlaps = overlaps_with(proposals, gt)  # P x G
        place = self._drawn(overlaps.max(axis=1) >= self.overlap)
        box, nearest = proposals[place].astype(np.float64), int(overlaps[place].argmax())
        with profile.span(profile.DECODE):
            image = Image.fromarray(self.reader.read(record["file_name"]))
        pixels, target = warped(image, box, self.side, self.image_format), gt[nearest]
        if self.flip and np.random.random() < 0.5:  # noqa: NPY002
            pixels = pixels.flip(2)
            box, target = (_mirrored(b, image.width) for b in (box, target))
        return {
            "image": pixels,
            "label": record["label"],
            "box": torch.as_tensor(box, dtype=torch.float32),
            "gt_box": torch.as_tensor(target, dtype=torch.float32),
            "positive": bool(overlaps[place, nearest] >= self.overlap),
            "image_id": record["image_id"],
        }

    def _drawn(self, positive: np.ndarray) -> int:
        """A place, of the positive ones or of the others."""
        expected = np.random.random() < self.share  # noqa: NPY002
        places = np.flatnonzero(positive == expected)
        if not len(places):
            places = np.arange(len(positive))
        return int(places[np.random.randint(len(places))])  # noqa: NPY002


def _mirrored(box: np.ndarray, width: int) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.array([width - x1, y0, width - x0, y1])


def overlaps_with(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(P, G) intersection over union of boxes (P, 4) with others (G, 4)."""
    first, second = (Boxes(torch.as_tensor(b)) for b in (boxes, others))
    return pairwise_iou(first, second).numpy()
