"""Multi-scale testing: each region is pooled from two sizes of the image, the larger value kept.

He et al. 2015, appendix B: the RPN sees the image at the test's size alone; regions are pooled on a
pyramid of it "from two adjacent scales", and merged by maxout, as in Ren et al. 2015 ("networks on
convolutional feature maps", arXiv:1504.06066). What the paper leaves open is decided so:

- Which two: those around the size at which the region's area is 224 x 224, that of the images that
  the net was pretrained on; the two smallest for a region that is larger than that on both, the two
  largest for one that is smaller.
- Where they merge: element by element in the feature that class and box are predicted from, behind
  the tail (average pooling of res5, fc7) or the box head.

With one size there is nothing to merge: regions are pooled from that alone.

Not for: how large the images are (`image_views`), or what is predicted (`tester`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from resdet.detect.paper.detector_parts import DetectorParts, ImageMaps

# A side of the images that nets are pretrained on, in pixels.
CANONICAL_SIDE = 224


def on_size(
    boxes: torch.Tensor, image_size: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """The same boxes on another size of the image; both sizes are (height, width)."""
    if image_size == size:
        return boxes
    down, across = size[0] / image_size[0], size[1] / image_size[1]
    return boxes * boxes.new_tensor([across, down, across, down])


def lower_of_two(
    boxes: torch.Tensor, image_size: tuple[int, int], sizes: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """(R,) the place of the smaller one of the two adjacent sizes that a region is pooled from.

    Args:
        boxes: (R, 4) in pixels of an image of `image_size`.
        sizes: at least two, rising.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    whole = image_size[0] * image_size[1]
    shares = boxes.new_tensor([height * width / whole for height, width in sizes])
    # How many of the sizes have the region at 224 x 224 or below.
    below = (area[:, None] * shares <= CANONICAL_SIDE**2).sum(dim=1)
    return (below - 1).clamp(0, len(sizes) - 2)


def pooled_features(
    parts: DetectorParts,
    regions: torch.Tensor,
    image_size: tuple[int, int],
    levels: Sequence[ImageMaps],
) -> torch.Tensor:
    """(R, D), of each region the features on its two levels, merged by their maximum.

    Args:
        regions: (R, 4) in pixels of an image of `image_size`.
        levels: the image at one size or more, rising.
    """
    if len(levels) == 1 or not len(regions):
        return parts.region_features(levels[0], on_size(regions, image_size, levels[0].size))
    lower = lower_of_two(regions, image_size, [level.size for level in levels])
    merged: torch.Tensor | None = None
    for place, level in enumerate(levels):
        (here,) = ((lower == place) | (lower + 1 == place)).nonzero(as_tuple=True)
        if not len(here):
            continue
        boxes = on_size(regions[here], image_size, level.size)
        features = parts.region_features(level, boxes)
        if merged is None:
            merged = features.new_full((len(regions), features.shape[1]), -torch.inf)
        merged[here] = torch.maximum(merged[here], features)
    assert merged is not None
    return merged
