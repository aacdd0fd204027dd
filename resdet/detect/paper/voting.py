"""Box voting: a box that NMS kept moves to the weighted mean of those that overlap it.

Source: Gidaris and Komodakis 2015 (arXiv:1505.01749), section 4, and the code that they released:
all boxes of the class before NMS vote that have an IoU of 0.5 or more with the kept one, itself
included, each with the weight max(0, score). The kept box keeps its score. Their code adds an
offset to the scores of its SVMs; the scores here are softmax's, and the offset is 0.

Not for: NMS, or where the boxes come from (`refinement`).
"""

from __future__ import annotations

import torch
from detectron2.structures import Boxes, pairwise_iou

OVERLAP = 0.5


def vote(
    kept: torch.Tensor,
    kept_classes: torch.Tensor,
    boxes: torch.Tensor,
    scores: torch.Tensor,
    classes: torch.Tensor,
    *,
    overlap: float = OVERLAP,
) -> torch.Tensor:
    """(D, 4), the kept boxes where the votes of their own classes put them.

    Args:
        kept: (D, 4) as (x0, y0, x1, y1). kept_classes: (D,).
        boxes, scores, classes: (M, 4), (M,), (M,), all that vote: what NMS chose from.
        overlap: the least IoU of a box that votes.

    Returns:
        In the type of `kept`, computed in float64. A box that none votes for (one without area
        overlaps nothing, itself neither) stays.
    """
    overlaps = pairwise_iou(Boxes(kept), Boxes(boxes)) >= overlap
    votes = overlaps & (kept_classes[:, None] == classes[None])
    weights = votes * scores.double().clamp(min=0)
    total = weights.sum(dim=1, keepdim=True)
    mean = weights @ boxes.double() / total
    return torch.where(total > 0, mean, kept.double()).to(kept.dtype)
