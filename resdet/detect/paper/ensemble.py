"""Ensembles: several detectors propose together, and each region is classified by all of them.

He et al. 2015, appendix B: "a union set of proposals" of the members' RPNs, "processed by an
ensemble of per-region classifiers". What the paper leaves open is decided so:

- Softmax scores are averaged, and boxes are: in coordinates, those that each member regresses for
  a class from the same region.
- A proposal that an earlier member has made, in the same place to the bit, is not taken twice.

Not for: which files the members are (`resdet.detect.detecting_form`), or what follows the
averages, NMS and votes (`tester`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def union(proposals: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The proposals (R_i, 4) of each member, without those that earlier members have made.

    All of the first member's stay, be there equal ones or not.
    """
    united, kept = proposals[0], [proposals[0]]
    for boxes in proposals[1:]:
        _, number = torch.unique(torch.cat([united, boxes]), dim=0, return_inverse=True)
        is_known = torch.isin(number[len(united) :], number[: len(united)])
        new = boxes if not is_known.any() else boxes[~is_known]
        kept.append(new)
        united = torch.cat([united, new])
    return kept


def average(
    scores: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean scores (R, K + 1) and mean boxes (R, 4 K) of the members.

    Args:
        scores: (R, K + 1) of each member, classes in one order, background last.
        boxes: (R, 4 K), or (R, 4) of one whose classes share a box.

    Returns:
        Boxes (R, 4) where all of the members have such.
    """
    if len(scores) == 1:
        return scores[0], boxes[0]
    widths = {b.shape[1] for b in boxes}
    if len(widths) > 1:
        times = max(widths) // 4
        boxes = [b.repeat(1, times) if b.shape[1] == 4 else b for b in boxes]
    return torch.stack(list(scores)).mean(dim=0), torch.stack(list(boxes)).mean(dim=0)


def in_order(
    scores: torch.Tensor, boxes: torch.Tensor, order: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A member's predictions with its classes as the first member has them.

    Args:
        order: for each class of the first member its place in this member's.
    """
    if list(order) == list(range(len(order))):
        return scores, boxes
    places = torch.tensor(list(order), device=scores.device)
    background = places.new_tensor([scores.shape[1] - 1])
    scores = scores[:, torch.cat([places, background])]
    if boxes.shape[1] > 4:
        boxes = boxes.view(len(boxes), len(order), 4)[:, places].flatten(1)
    return scores, boxes
