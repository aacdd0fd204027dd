"""A trained C4 detector in its fast form for inference: the same detections, sooner.

`fast(model)` gives a copy; the trained model stays as it is. What changes, each within rounding:

- Norms are folded into their convolutions (`folding`).
- Maps are channels_last; of each region only what the tail reads is pooled, from maps on which
  its first linear layers ran already (`regions`), in chunks that fit the processor's cache.
- 3x3 convolutions in float32 on a CPU go Winograd's way (`winograd`).
- The RPN's NMS stops where enough boxes are left (`proposals`).

Not for: training (`fast_training`); parts of other kinds (`skipped` says which stay as they are).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.layers import ROIAlign
from torch import nn

from resdet.detect.backbone import NetBackbone
from resdet.detect.folding import fold_norms
from resdet.detect.proposals import HalfHidden, ShortNMS, plain_head
from resdet.detect.region_heads import RegionHeads
from resdet.detect.regions import CHUNK, kind_of, one_align
from resdet.detect.winograd import WinogradConv, fits
from resdet.nets.net import Conv


def fast(model: nn.Module, *, bf16: bool = False, chunk: int = CHUNK) -> nn.Module:
    """A copy of a detector for inference, with whatever of the above holds for its parts.

    Args:
        model: with a `NetBackbone` and `RegionHeads`; other parts are copied unchanged.
        bf16: trunk and tail in bfloat16; scores and boxes leave in float32.
        chunk: regions at once, at least 1.
    """
    found: Any = copy.deepcopy(model).eval()
    for parameter in found.parameters():
        parameter.requires_grad_(False)
    if isinstance(found.backbone, NetBackbone):
        _prepare(found.backbone, bf16)
        found.backbone.precision = dataclasses.replace(
            found.backbone.precision, bf16=bf16, channels_last=True
        )
    if isinstance(found.roi_heads, RegionHeads):
        heads = found.roi_heads
        for name in heads.tail_names:
            _prepare(heads.get_submodule(name), bf16)
        if one_align(heads):
            dtype = torch.bfloat16 if bf16 else None
            heads.region_features = kind_of(heads)(heads, chunk=chunk, dtype=dtype)
    if plain_head(getattr(found, "proposal_generator", None)):
        _prepare_rpn(found.proposal_generator, bf16)
    return found


def _prepare(module: nn.Module, bf16: bool) -> None:
    """Folded, channels_last, in the type that it computes in."""
    fold_norms(module)
    module.to(memory_format=torch.channels_last)
    if bf16:
        module.to(torch.bfloat16)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv) and child.norm is None and fits(child):
                setattr(parent, name, WinogradConv(child, relu=child.relu))


def _prepare_rpn(rpn: Any, bf16: bool) -> None:
    conv = rpn.rpn_head.conv.to(memory_format=torch.channels_last)
    relu = isinstance(conv.activation, nn.ReLU)
    if bf16:
        rpn.rpn_head.conv = HalfHidden(conv)
    elif fits(conv) and conv.norm is None and (relu or conv.activation is None):
        rpn.rpn_head.conv = WinogradConv(conv, relu=relu)
    rpn.predict_proposals = ShortNMS(rpn)


def skipped(model: nn.Module) -> Iterator[str]:
    """What `fast` leaves as it is in this model, in sentences."""
    backbone: Any = model.backbone
    heads: Any = model.roi_heads
    if not isinstance(backbone, NetBackbone):
        yield f"the backbone is Detectron2's {type(backbone).__name__}: left as it is"
    if not isinstance(heads, RegionHeads):
        yield f"the region heads are Detectron2's {type(heads).__name__}: left as they are"
    elif not all(isinstance(m, ROIAlign) for m in heads.pooler.level_poolers):
        yield "RoIPool takes maxima: pooled by Detectron2"
