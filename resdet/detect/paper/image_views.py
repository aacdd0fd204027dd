"""An image as improved tests take it: at the test's size, at the sizes of a pyramid, per member.

Every size is resized from the image as it is, by the test's own rule and interpolation. A size of
the pyramid that is the test's has the same pixels.

Not for: what is done with the images (`tester`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data import transforms as T

from resdet import profile
from resdet.data.images.reader import ImageReader
from resdet.detect.loading import Mapper
from resdet.errors import ConfigError

# Of an input: one view per member. Of a view: the image at the test's size, and the pyramid.
VIEWS, PYRAMID = "views", "pyramid"


def longest_side(cfg: Any, scale: int) -> int:
    """The most that the longer side may have where the shorter one is `scale`, in pixels.

    TEST.SCALES_MAX_SIZE; where that is 0, INPUT.MAX_SIZE_TEST in the proportion of the scale to
    INPUT.MIN_SIZE_TEST, so that an image keeps its shape on all scales.

    Raises:
        ConfigError: neither is there, as images are tested as they are.
    """
    if cfg.TEST.SCALES_MAX_SIZE:
        return int(cfg.TEST.SCALES_MAX_SIZE)
    if not cfg.INPUT.MIN_SIZE_TEST:
        raise ConfigError(
            "INPUT.MIN_SIZE_TEST is 0 (images are not resized), so TEST.SCALES has no longest side "
            "to take in proportion. Set TEST.SCALES_MAX_SIZE, in pixels."
        )
    return round(scale * cfg.INPUT.MAX_SIZE_TEST / cfg.INPUT.MIN_SIZE_TEST)


class PyramidMapper:
    """A record to an input with a view per member; the first one's is the input's own image.

    Args:
        configs: of the members; what differs are colour order and size of the test.
        scales: shorter sides of the pyramid, () for none.
        reader: reads each image once, for all of them.
        rule: the config that limits the longer side (`longest_side`); the first by default.
    """

    def __init__(
        self,
        configs: Sequence[Any],
        scales: Sequence[int],
        reader: ImageReader,
        *,
        rule: Any = None,
    ):
        rule = rule or configs[0]
        self.reader = reader
        self.members = [Mapper.of(cfg, reader, is_train=False) for cfg in configs]
        self.pyramids = [
            [
                Mapper(
                    [T.ResizeShortestEdge([scale, scale], longest_side(rule, scale), "choice")],
                    image_format=cfg.INPUT.FORMAT,
                    reader=reader,
                    is_train=False,
                )
                for scale in scales
            ]
            for cfg in configs
        ]

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        with profile.span(profile.DECODE):
            image = self.reader.read(record["file_name"])
        return self.of_image(record, image)

    def of_image(self, record: dict[str, Any], image: np.ndarray) -> dict[str, Any]:
        """The same for a picture that is read already, (H, W, 3) RGB, uint8."""
        known = {key: value for key, value in record.items() if key != "annotations"}
        with profile.span(profile.AUGMENT):
            views = [
                {
                    "image": member.of_image(known, image)["image"],
                    PYRAMID: [mapper.of_image(known, image)["image"] for mapper in pyramid],
                }
                for member, pyramid in zip(self.members, self.pyramids, strict=True)
            ]
        return {**known, "image": views[0]["image"], VIEWS: views}
