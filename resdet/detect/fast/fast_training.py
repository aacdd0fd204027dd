"""A detector that trains faster, to the same gradients within rounding.

`speed_up(model, precision)` changes how the model computes and nothing that is saved: parameters,
buffers and their names stay.

- Frozen norms are multiplied into the weights before them (`folding`), so maps are read and
  written once.
- Regions are pooled and run as in `region_features`; the gradient of pooling is a sum of rows,
  too.
- The RPN's 3x3 layer, a pyramid and its box head compute as the net does (bfloat16 where
  ENGINE.BF16 is on). Losses and boxes stay float32, as do all weights.
- The RPN's NMS stops where enough boxes are left (`proposals`).

Not for: detecting (`fast_detector`, which may change weights permanently).
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from resdet.detect.architecture.backbone import NetBackbone
from resdet.detect.architecture.fpn import NetFPN
from resdet.detect.architecture.maps_backbone import MapsBackbone
from resdet.detect.architecture.region_heads import RegionHeads
from resdet.detect.architecture.simple_pyramid import SimplePyramid
from resdet.detect.fast.box_head import accelerate, can_be_accelerated
from resdet.detect.fast.fast_detector import skipped
from resdet.detect.fast.folding import fold_while_training
from resdet.detect.fast.proposals import HiddenLayer, ShortNMS, plain_head
from resdet.detect.fast.region_features import (
    CHUNK,
    FullyConnectedRegions,
    Regions,
    pooler_for,
    unsupported_reason,
)
from resdet.engine.speed.precision import Precision

logger = logging.getLogger("resdet.detect.fast.fast_training")


def speed_up(model: Any, precision: Precision) -> None:
    """Changes the model in place, before an optimizer is made for it.

    Args:
        model: a Detectron2 detector around a net of ours; other parts stay as they are.
        precision: of ENGINE.BF16 and ENGINE.CHANNELS_LAST.
    """
    for sentence in skipped(model, training=True):
        logger.warning("ENGINE.FAST_TRAINING: %s", sentence)
    for module in model.modules():
        if isinstance(module, NetBackbone):
            fold_while_training(module)
        if isinstance(module, NetBackbone | MapsBackbone | NetFPN | SimplePyramid):
            module.precision = precision
    heads = getattr(model, "roi_heads", None)
    if can_be_accelerated(heads):
        accelerate(heads, precision, CHUNK)
    if isinstance(heads, RegionHeads):
        fold_while_training(heads)
        heads.precision = precision
        if not unsupported_reason(heads, training=True):
            kind = pooler_for(heads)
            # fc6 keeps the order of its weights: they are trained and saved.
            kind = Regions if kind is FullyConnectedRegions else kind
            heads.region_features = kind(heads, whole=True)
    rpn: Any = getattr(model, "proposal_generator", None)
    if plain_head(rpn):
        rpn.rpn_head.conv = HiddenLayer(rpn.rpn_head.conv, precision)
        model.proposal_generator = ShortNMS(rpn)
    if precision.channels_last:
        model.to(memory_format=torch.channels_last)
