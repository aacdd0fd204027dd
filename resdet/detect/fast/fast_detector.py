"""A trained detector in its fast form for inference: the same detections, faster.

`fast(model)` gives a copy; the trained model stays as it is. What changes, each within rounding:

- Norms are folded into their convolutions (`folding`).
- Maps are channels_last; of each region only what the tail reads is pooled, from maps on which
  its first linear layers ran already (`region_features`), in chunks that fit the processor's cache.
- 3x3 convolutions in float32 on a CPU are computed by Winograd's algorithm (`winograd`).
- The RPN's NMS stops where enough boxes are left (`proposals`).

Not for: training (`fast_training`); parts of other kinds (`skipped` lists them).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn

from resdet.detect.architecture.backbone import NetBackbone
from resdet.detect.architecture.fpn import NetFPN
from resdet.detect.architecture.maps_backbone import MapsBackbone
from resdet.detect.architecture.region_heads import RegionHeads
from resdet.detect.architecture.simple_pyramid import SimplePyramid
from resdet.detect.fast.box_head import BoxHead, accelerate, can_be_accelerated, native_box_head
from resdet.detect.fast.folding import fold_norms, is_plain
from resdet.detect.fast.proposals import HiddenLayer, ShortNMS, plain_head
from resdet.detect.fast.region_features import CHUNK, pooler_for, unsupported_reason
from resdet.detect.fast.winograd import WinogradConv, fits
from resdet.engine.speed.precision import Precision
from resdet.nets.net import Conv


def fast(model: nn.Module, *, bf16: bool = False, chunk: int = CHUNK) -> nn.Module:
    """A copy of a detector for inference, with whatever of the above holds for its parts.

    Args:
        model: a C4, DC5 or FPN detector around a net of ours; of others what `skipped` does not
            name, such as a stock FPN's region heads and RPN.
        bf16: trunk, pyramid and tail in bfloat16; scores and boxes leave in float32.
        chunk: regions at once, at least 1.

    Raises:
        ValueError: the model is a fast form; its weights are laid out for that alone.
    """
    if getattr(model, "is_fast_form", False):
        raise ValueError("this is the fast form already: give the trained model")
    fast_model: Any = copy.deepcopy(model).eval()
    fast_model.is_fast_form = True
    for parameter in fast_model.parameters():
        parameter.requires_grad_(False)
    device = next(fast_model.parameters()).device.type
    precision = Precision(device, bf16=bf16, channels_last=True)
    backbone = fast_model.backbone
    heads: Any = getattr(fast_model, "roi_heads", None)
    if isinstance(backbone, NetBackbone | NetFPN):
        _prepare(backbone, bf16)
        backbone.precision = precision
    if isinstance(backbone, SimplePyramid | MapsBackbone):
        _prepare_maps(backbone, precision)
    if isinstance(backbone, NetFPN):
        backbone.bottom_up.precision = precision
        # Kept in lists beside the names under which they were replaced.
        levels = [int(f.removeprefix("p")) for f in backbone.output_shape()]
        stages = [n for n in levels if hasattr(backbone, f"fpn_output{n}")]
        backbone.output_convs = [getattr(backbone, f"fpn_output{n}") for n in reversed(stages)]
    if can_be_accelerated(heads):
        accelerate(heads, precision, chunk)
        if bf16 and isinstance(heads.box_head, BoxHead):
            heads.box_head.to(torch.bfloat16)
    if isinstance(heads, RegionHeads):
        heads.precision = precision
        for name in heads.tail_names:
            _prepare(heads.get_submodule(name), bf16)
        if not unsupported_reason(heads):
            heads.region_features = pooler_for(heads)(heads, chunk=chunk)
    if plain_head(getattr(fast_model, "proposal_generator", None)):
        _prepare_rpn_head(fast_model.proposal_generator.rpn_head, precision)
        fast_model.proposal_generator = ShortNMS(fast_model.proposal_generator)
    return fast_model


def _prepare(module: nn.Module, bf16: bool) -> None:
    """Folded, channels_last, in the type that it computes in."""
    fold_norms(module)
    module.to(memory_format=torch.channels_last)
    if bf16:
        module.to(torch.bfloat16)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            faster = _winograd(child)
            if faster is not None:
                setattr(parent, name, faster)


def _prepare_maps(backbone: SimplePyramid | MapsBackbone, precision: Precision) -> None:
    """A plain transformer: it keeps its weights, which its tokens are added to, in float32."""
    backbone.precision = precision
    backbone.to(memory_format=torch.channels_last)
    if isinstance(backbone, MapsBackbone):
        return
    backbone.net.precision = precision
    for level in backbone.own_layers:
        children: list[tuple[str, Any]] = list(level.named_children())
        for name, layer in children:
            norm = getattr(layer, "norm", None)
            if precision.bf16 or not isinstance(norm, nn.Module):
                continue
            layer.norm = None
            if (faster := _winograd(layer)) is not None:
                setattr(level, name, nn.Sequential(faster, norm))
            else:
                layer.norm = norm


def _winograd(conv: Any) -> WinogradConv | None:
    """A module that computes this layer faster, ours or Detectron2's; None if there is none."""
    if not fits(conv) or getattr(conv, "norm", None) is not None:
        return None
    if is_plain(conv):
        return WinogradConv(conv, relu=conv.relu)
    relu = isinstance(getattr(conv, "activation", None), nn.ReLU)
    if type(conv) in (Conv2d, HiddenLayer) and (relu or conv.activation is None):
        return WinogradConv(conv, relu=relu)
    return None


def _prepare_rpn_head(head: Any, precision: Precision) -> None:
    conv = head.conv.to(memory_format=torch.channels_last)
    if precision.bf16:
        head.conv = HiddenLayer(conv.to(torch.bfloat16), precision)
    else:
        if isinstance(conv, HiddenLayer):
            conv.precision = precision
        head.conv = _winograd(conv) or conv


def skipped(model: nn.Module, *, training: bool = False) -> Iterator[str]:
    """What the fast forms leave as it is in this model, in sentences.

    Args:
        training: of `fast_training`; else of this module.
    """
    backbone: Any = getattr(model, "backbone", None)
    heads: Any = getattr(model, "roi_heads", None)
    rpn: Any = getattr(model, "proposal_generator", None)
    if not isinstance(backbone, NetBackbone | NetFPN | SimplePyramid | MapsBackbone):
        yield f"the backbone is a {type(backbone).__name__}: left as it is"
    if isinstance(heads, RegionHeads):
        if reason := unsupported_reason(heads, training=training):
            yield reason
    elif heads is None:
        pass  # an RPN alone
    elif not can_be_accelerated(heads):
        yield f"the region heads are Detectron2's {type(heads).__name__}: left as they are"
    elif not native_box_head(heads):
        yield f"the box head is a {type(heads.box_head).__name__}: pooled for, left as it is"
    if rpn is not None and not plain_head(rpn):
        yield f"the {type(rpn).__name__} has not one 3x3 layer as its head: left as it is"
    norms = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    convs = [m for m in model.modules() if isinstance(m, Conv) and is_plain(m)]
    left = len(norms) - sum(isinstance(m.norm, FrozenBatchNorm2d) for m in convs)
    if left:
        yield f"{left} of {len(norms)} frozen norms do not lie in a convolution of ours: not folded"
