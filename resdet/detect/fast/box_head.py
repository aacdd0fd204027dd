"""Detectron2's own region heads (FPN, DC5) faster: pooled as sums of map cells, layers as the net.

Not for: masks and keypoints, or heads of our nets (`region_features`).
"""

from __future__ import annotations

from typing import Any

from detectron2.layers import ROIAlign
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, StandardROIHeads

from resdet.detect.fast.replace import InPrecision
from resdet.detect.fast.roi_align import SummedAlign
from resdet.engine.speed.precision import Precision


class BoxHead(InPrecision, FastRCNNConvFCHead):
    """Detectron2's box head, computed as the net is."""


def can_be_accelerated(heads: Any) -> bool:
    """Whether these are Detectron2's standard heads, pooled by RoIAlign."""
    # A cascade is a subclass, with several heads.
    return type(heads) is StandardROIHeads and all(
        isinstance(level, ROIAlign | SummedAlign) for level in heads.box_pooler.level_poolers
    )


def native_box_head(heads: StandardROIHeads) -> bool:
    """Whether the layers behind the pooling are Detectron2's; a subclass may do more."""
    return type(heads.box_head) in (FastRCNNConvFCHead, BoxHead)


def accelerate(heads: StandardROIHeads, precision: Precision, chunk: int) -> None:
    """Changes heads that `can_be_accelerated` in place; nothing that is saved changes."""
    levels = heads.box_pooler.level_poolers
    for number, level in enumerate(levels):
        if isinstance(level, ROIAlign):
            levels[number] = SummedAlign(level, chunk)
        else:
            level.chunk = chunk
    if native_box_head(heads):
        heads.box_head = BoxHead(heads.box_head, precision)
