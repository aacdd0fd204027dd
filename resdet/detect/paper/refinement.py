"""Box refinement: regions are pooled again from their regressed boxes, and both rounds are united.

He et al. 2015, appendix B: "we pool a new feature from the regressed box and obtain a new
classification score and a new regressed box. We combine these 300 new predictions with the original
300 predictions", then NMS at an IoU of 0.3 and box voting. What the paper leaves open is decided
so:

- One new region for each old one, as 300 and 300 are counted: the regressed box of the class with
  the highest score, background left out, clipped to the image. It is classified anew into all
  classes, and has a new box of each.
- Old and new predictions are candidates side by side, each with its own score.
- One round.
- NMS has MODEL.ROI_HEADS.NMS_THRESH_TEST, 0.3 in the paper's presets, and TEST.BOX_REFINEMENT
  changes none of the thresholds. Candidates that vote exceed ROI_HEADS.SCORE_THRESH_TEST.

Not for: what predicts (`tester`), or the votes (`voting`).
"""

from __future__ import annotations

import torch
from detectron2.structures import Boxes, Instances

from resdet.detect.paper.voting import vote


def refined_regions(
    scores: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int]
) -> torch.Tensor:
    """The regions of the second round, (Q, 4): one for each of R whose box is finite.

    Args:
        scores: (R, K + 1), background last.
        boxes: (R, 4 K) of each class, or (R, 4) for all.
        image_size: (height, width) that boxes are clipped to.
    """
    per_class = boxes.view(len(boxes), boxes.shape[1] // 4, 4)
    best = scores[:, :-1].argmax(dim=1) if per_class.shape[1] > 1 else scores.new_zeros(len(scores))
    regions = per_class[torch.arange(len(boxes), device=boxes.device), best.long()]
    regions = regions[torch.isfinite(regions).all(dim=1)]
    clipped = Boxes(regions.clone())
    clipped.clip(image_size)
    return clipped.tensor


def voted(
    detections: Instances, scores: torch.Tensor, boxes: torch.Tensor, threshold: float
) -> Instances:
    """The detections that NMS kept, each box moved by the votes of all candidates of its class.

    Args:
        detections: `pred_boxes`, `scores` and `pred_classes` of one image, changed in place.
        scores, boxes: (R, K + 1) and (R, 4 K) or (R, 4), what NMS chose from.
        threshold: candidates have a higher score.
    """
    boxes, scores, classes = candidates(scores, boxes, detections.image_size, threshold)
    kept = detections.pred_boxes.tensor
    detections.pred_boxes = Boxes(vote(kept, detections.pred_classes, boxes, scores, classes))
    return detections


def candidates(
    scores: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int], threshold: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes (M, 4), scores (M,) and classes (M,) that Detectron2's NMS of one image is given."""
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    scores, boxes = scores[finite, :-1], boxes[finite]
    clipped = Boxes(boxes.reshape(-1, 4).clone())
    clipped.clip(image_size)
    per_class = clipped.tensor.view(len(boxes), boxes.shape[1] // 4, 4)
    region, label = (scores > threshold).nonzero().unbind(dim=1)
    of_class = label if per_class.shape[1] > 1 else torch.zeros_like(label)
    return per_class[region, of_class], scores[region, label], label
