"""Proposals faster: Detectron2's RPN with its head computed fast and its NMS cut short.

Not for: FPN's NMS, whose levels are ranked together; it is small there.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from detectron2.layers import Conv2d
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from detectron2.structures import Boxes, Instances

from resdet.detect.fast.replace import InPlaceOf, InPrecision


def top_proposals(
    rpn: RPN,
    boxes: list[torch.Tensor],
    logits: list[torch.Tensor],
    image_sizes: list[tuple[int, int]],
) -> list[Instances]:
    """Detectron2's `find_top_rpn_proposals`, on no more boxes than the result needs.

    NMS takes boxes by falling score, so what it keeps of the first n does not depend on
    the rest: where n of one level leave as many as are expected, they are the same as of all, up to
    the order of equal scores among more than 1,000 boxes, which torchvision sorts once more.

    Args:
        boxes: L tensors (N, M, 4). logits: L tensors (N, M). image_sizes: N pairs (h, w).
    """
    most = min(rpn.pre_nms_topk[rpn.training], max(level.shape[1] for level in boxes))
    expected = rpn.post_nms_topk[rpn.training]

    def best(boxes: list[torch.Tensor], scores: list[torch.Tensor], first: int) -> list[Instances]:
        return find_top_rpn_proposals(
            boxes, scores, image_sizes, rpn.nms_thresh, first, expected, rpn.min_box_size,
            rpn.training,
        )  # fmt: skip

    # On a GPU one large NMS costs less than waiting for the count of a small one.
    if len(boxes) > 1 or boxes[0].device.type != "cpu" or not _all_finite(boxes[0], logits[0]):
        return best(boxes, logits, most)
    scores, order = _ranked(logits[0], most)
    ranked = boxes[0].gather(1, order[..., None].expand(-1, -1, 4))
    # Ranks in place of scores: no two are equal, so that no sort of a part can order them anew.
    ranks = -torch.arange(most, dtype=torch.float32).expand(len(order), -1)
    first = 2 * expected
    while True:
        proposals = best([ranked[:, :first]], [ranks[:, :first]], most)
        if first >= most or all(len(p) >= expected for p in proposals):
            break
        first *= 2
    for image, of_image in zip(proposals, scores, strict=True):
        image.objectness_logits = of_image[-image.objectness_logits.long()]
    return proposals


# Detectron2 0.6 ranks by sort, its main (02b5c4e) by topk; they order equal scores otherwise.
_RANKS_BY_TOPK = "topk" in inspect.unwrap(find_top_rpn_proposals).__code__.co_names


def _ranked(logits: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `most` largest of each row and their places, ordered as the installed Detectron2 does."""
    if _RANKS_BY_TOPK:
        return logits.topk(most, dim=1)
    scores, order = logits.sort(descending=True, dim=1)
    return scores[:, :most], order[:, :most]


def _all_finite(*tensors: torch.Tensor) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


class ShortNMS(InPlaceOf, RPN):
    """Detectron2's RPN, whose NMS stops where enough boxes are left; the same proposals."""

    @torch.no_grad()
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        decode: Any = self._decode_proposals
        boxes = decode(anchors, pred_anchor_deltas)
        return top_proposals(self, boxes, pred_objectness_logits, image_sizes)


class HiddenLayer(InPrecision, Conv2d):
    """The RPN's 3x3 layer; what ranks the boxes, the next layer, stays float32."""


def plain_head(rpn: Any) -> bool:
    """Whether the RPN's head is Detectron2's with one 3x3 layer."""
    head: Any = getattr(rpn, "rpn_head", None)
    if type(rpn) not in (RPN, ShortNMS) or type(head) is not StandardRPNHead:
        return False
    return type(head.conv) in (Conv2d, HiddenLayer)
