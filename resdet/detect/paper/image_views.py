"""An image as improved tests take it: at the test's size, at the sizes of a pyramid, per member.

Every size is resized from the image as it is, by the test's own rule and interpolation. A size of
the pyramid that is the test's has the same pixels.

Not for: what is done with the images (`tester`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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


class MemberView(NamedTuple):
    """How one detector sees images: at its test's size, and at the sizes of a pyramid.

    Attributes:
        cfg: its config: colour order and size of the test.
        scales: shorter sides of the pyramid, () for none.
        rule: the config that limits the longer side of those (`longest_side`); None: `cfg`.
    """

    cfg: Any
    scales: Sequence[int] = ()
    rule: Any = None

    @property
    def sizes(self) -> list[_Resizing]:
        """The test's, then those of the pyramid."""
        test, colors = self.cfg.INPUT, self.cfg.INPUT.FORMAT
        rule = self.rule or self.cfg
        return [
            _Resizing(colors, test.MIN_SIZE_TEST, test.MAX_SIZE_TEST),
            *(_Resizing(colors, scale, longest_side(rule, scale)) for scale in self.scales),
        ]


class _Resizing(NamedTuple):
    """Pixels are the same where these are. shorter_side 0: as they are."""

    colors: str
    shorter_side: int
    longest_side: int

    def mapper(self, reader: ImageReader) -> Mapper:
        resize = T.ResizeShortestEdge([self.shorter_side] * 2, self.longest_side, "choice")
        return Mapper([resize], image_format=self.colors, reader=reader, is_train=False)


class PyramidMapper:
    """A record to an input with each of the views; the first one's is the input's own image.

    Views have an image together where both have it in the same size and colour order.

    Args:
        reader: reads each image once, for all views.
    """

    def __init__(self, views: Sequence[MemberView], reader: ImageReader):
        self.reader = reader
        self.sizes = [view.sizes for view in views]
        self.mappers = {size: size.mapper(reader) for sizes in self.sizes for size in sizes}

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        with profile.span(profile.DECODE):
            image = self.reader.read(record["file_name"])
        return self.of_image(record, image)

    def of_image(self, record: dict[str, Any], image: np.ndarray) -> dict[str, Any]:
        """The same for a picture that is read already, (H, W, 3) RGB, uint8."""
        known = {key: value for key, value in record.items() if key != "annotations"}
        with profile.span(profile.AUGMENT):
            images = {
                size: mapper.of_image(known, image)["image"]
                for size, mapper in self.mappers.items()
            }
        views = [
            {"image": images[test], PYRAMID: [images[size] for size in pyramid]}
            for test, *pyramid in self.sizes
        ]
        return {**known, "image": views[0]["image"], VIEWS: views}
