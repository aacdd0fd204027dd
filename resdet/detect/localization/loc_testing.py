"""Boxes of classes on images: by the per-class RPN on one crop or densely, and by R-CNN on those.

Of each class asked for, the proposals of all views are put together, their NMS is taken, and the
best one is the class's box. With R-CNN all proposals get a new score and box, and the best one of
these is it.

Not for: which classes are asked for, or files (`loc_results`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from resdet import profile
from resdet.data.images.reader import ImageReader
from resdet.detect.localization.loc_images import View, centre_view, warped, whole_views
from resdet.detect.localization.per_class_rpn import Candidates, PerClassRPN, best
from resdet.detect.localization.warped_region_net import WarpedRegionNet

RPN, RCNN = "rpn", "rpn+rcnn"


@dataclass(frozen=True)
class LocTester:
    """How images are tested.

    Attributes:
        kind: "centre", one crop, or "dense", whole images of several sizes.
        number: proposals of each class and image.
        rcnn: the second net; None without. batch: its regions at once.
    """

    rpn: PerClassRPN
    reader: ImageReader
    image_format: str
    kind: str
    crop: int
    side: int
    sizes: Sequence[int]
    number: int
    rcnn: WarpedRegionNet | None = None
    batch: int = 64

    def proposals(self, record: Mapping[str, Any], classes: Sequence[int]) -> list[Candidates]:
        """The best proposals of each class, in the image's pixels."""
        return self._proposals(self._read(record), classes)

    def _read(self, record: Mapping[str, Any]) -> np.ndarray:
        with profile.span(profile.DECODE):
            return self.reader.read(record["file_name"])

    def _proposals(self, image: np.ndarray, classes: Sequence[int]) -> list[Candidates]:
        views = self._views(image)
        with profile.span("RPN"):
            found = [
                [
                    Candidates(view.to_image(c.boxes), c.scores)
                    for c in self.rpn.candidates(view.image, classes, self.number)
                ]
                for view in views
            ]
        if len(views) == 1:
            return found[0]
        return [
            best(
                Candidates(
                    torch.cat([c.boxes for c in of_class]), torch.cat([c.scores for c in of_class])
                ),
                self.number,
                self.rpn.nms,
            )
            for of_class in zip(*found, strict=True)
        ]

    def _views(self, image: np.ndarray) -> list[View]:
        if self.kind == "centre":
            return [centre_view(image, self.side, self.crop, self.image_format)]
        return whole_views(image, self.sizes, self.image_format)

    def boxes(self, record: Mapping[str, Any], classes: Sequence[int]) -> list[dict[str, Any]]:
        """The best box of each class by each net; a class may have no proposal.

        Each is "category_id", from 0, "net", "score" and "bbox", (x0, y0, x1, y1) in the image's
        pixels.
        """
        image = self._read(record)
        rows = []
        for label, found in zip(classes, self._proposals(image, classes), strict=True):
            if not len(found.scores):
                continue
            rows.append(_best_of(label, RPN, found))
            if self.rcnn is not None:
                with profile.span("R-CNN"):
                    rows.append(_best_of(label, RCNN, self._moved(image, label, found)))
        return rows

    def _moved(self, image: np.ndarray, label: int, found: Candidates) -> Candidates:
        assert self.rcnn is not None
        picture, boxes = Image.fromarray(image), found.boxes.cpu()
        regions = torch.stack(
            [warped(picture, box, self.crop, self.image_format) for box in boxes.tolist()]
        )
        size = (image.shape[0], image.shape[1])
        return self.rcnn.rescored(regions, boxes, label, size, self.batch)


def _best_of(label: int, net: str, found: Candidates) -> dict[str, Any]:
    score, box = float(found.scores[0]), found.boxes[0].tolist()
    return {"category_id": label, "net": net, "score": score, "bbox": box}
