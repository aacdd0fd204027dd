"""Which anchors of an image train the per-class RPN: a few, positive and negative ones 1:1.

Terms: A anchors of an image; labels 1 positive, 0 negative, -1 neither.

Not for: the losses on them (`per_class_rpn`).
"""

from __future__ import annotations

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou


def labelled(
    anchors: torch.Tensor,
    gt_boxes: torch.Tensor,
    matcher: Matcher,
    *,
    size: tuple[int, int],
    boundary: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(A,) labels, and (A,) the object that each anchor overlaps most, 0 without an object.

    Args:
        anchors: (A, 4). gt_boxes: (G, 4), objects of the image's class; G may be 0.
        matcher: by the overlaps of MODEL.RPN.IOU_THRESHOLDS.
        size: (height, width) of the image.
        boundary: anchors that cross its border by this or more are neither; below 0 none is.
    """
    if len(gt_boxes) == 0:
        labels = torch.zeros(len(anchors), dtype=torch.int8, device=anchors.device)
        matches = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    else:
        matches, labels = matcher(pairwise_iou(Boxes(gt_boxes), Boxes(anchors)))
    if boundary >= 0:
        labels[~Boxes(anchors).inside_box(size, boundary)] = -1
    return labels, matches


def drawn(
    labels: torch.Tensor, number: int, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the positive and of the negative anchors that train, drawn at random.

    At most half of `number` are positive, and there are as many negatives as positives; an image
    without a positive anchor has half of `number` negatives.

    Example:
        >>> positive, negative = drawn(torch.tensor([1, 0, 0, -1, 0, 0]), 8)
        >>> len(positive), len(negative)
        (1, 1)
    """
    positive, negative = (torch.nonzero(labels == value).flatten() for value in (1, 0))
    half = number // 2
    positive = _some(positive, half, generator)
    return positive, _some(negative, len(positive) or half, generator)


def _some(places: torch.Tensor, number: int, generator: torch.Generator | None) -> torch.Tensor:
    order = torch.randperm(len(places), generator=generator, device=places.device)
    return places[order[:number]]
