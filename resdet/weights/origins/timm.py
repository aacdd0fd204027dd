"""timm: ResNets as torchvision; VGG features.0, pre_logits.fc1, head.fc, with fc6 and fc7 as
convolutions: (4096, 512, 7, 7) for our (4096, 25088).

Not for: timm's other nets, which are used as they are (`native_names`).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from resdet.weights.formats.contents import Tensors
from resdet.weights.origins.origin import (
    IMAGENET_RGB,
    RESNETS,
    VGGS,
    Names,
    Notes,
    Origin,
    vgg_naming,
)
from resdet.weights.origins.torchvision import habits_by_record, resnet_naming


def to_convolution(ours: Tensors, pooled_size: int = 7) -> Tensors:
    """The inverse of `origin.to_linear`: fc6 takes `pooled_size` cells a side, fc7 one."""
    sides = {"fc6.weight": pooled_size, "fc7.weight": 1}
    return {
        n: t.unflatten(1, (-1, sides[n], sides[n])) if n in sides else t for n, t in ours.items()
    }


def _from_ours(net: str, ours: Tensors) -> tuple[Tensors, Notes]:
    if not net.startswith("vgg"):
        return ours, ()
    return to_convolution(ours), ("fc6 and fc7 written as convolutions",)


def _build(library: Any, net: str, num_classes: int) -> nn.Module:
    built: nn.Module = library.create_model(net, pretrained=False, num_classes=num_classes)
    return built


_LAST = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "linear": "head.fc"}
TIMM = Origin(
    "timm",
    IMAGENET_RGB,
    stride_in_1x1=False,
    names=(Names(RESNETS, resnet_naming), Names(VGGS, every=vgg_naming(_LAST))),
    habits=habits_by_record,
    from_ours=_from_ours,
    library="timm",
    build=_build,
)
