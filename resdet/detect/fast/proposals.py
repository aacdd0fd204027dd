"""Proposals faster: Detectron2's RPN with its head computed fast and its NMS cut short.

Not for: FPN's NMS, whose levels are ranked together; it is small there.
"""

from __future__ import annotations

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
    the choice between equal scores, which Detectron2 leaves to its sort.

    Args:
        boxes: L tensors (N, M, 4). logits: L tensors (N, M). image_sizes: N pairs (h, w).
    """
    most = min(rpn.pre_nms_topk[rpn.training], max(level.shape[1] for level in boxes))
    expected = rpn.post_nms_topk[rpn.training]
    # On a GPU one large NMS costs less than waiting for the count of a small one.
    short = len(boxes) == 1 and boxes[0].device.type == "cpu" and bool(boxes[0].isfinite().all())
    first = 2 * expected if short else most
    while True:
        proposals = find_top_rpn_proposals(
            boxes,
            logits,
            image_sizes,
            rpn.nms_thresh,
            min(first, most),
            expected,
            rpn.min_box_size,
            rpn.training,
        )
        if first >= most or all(len(f) >= expected for f in proposals):
            return proposals
        first *= 2


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
