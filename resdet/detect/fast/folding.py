"""Norms that do not move as part of the convolutions before them.

y = (conv(x) - mean) * scale + shift with scale = weight / sqrt(variance + eps) is one convolution
with other weights. In training the scale is multiplied into the weights at every step, so that
what is trained stays what is saved; for inference once and for all.

Not for: norms that train, or that are not inside a `Conv` of ours.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from resdet.detect.fast.replace import InPlaceOf
from resdet.nets.net import Conv


def fold_norms(module: nn.Module) -> int:
    """Norms inside our convolutions become part of their weights; gives their number.

    Frozen or not: nothing of the module may train after this.
    """
    count = 0
    for conv in [m for m in module.modules() if isinstance(m, Conv)]:
        if not is_plain(conv) or conv.norm is None:
            continue
        with torch.no_grad():
            weight, bias = _folded(conv.weight.double(), conv.bias, conv.norm)
        dtype = conv.weight.dtype
        conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
        conv.norm = None
        count += 1
    return count


def is_plain(conv: nn.Module) -> bool:
    """Whether this is a convolution of ours with nothing in it but a norm that can be folded.

    A subclass may do more in its forward (weight standardisation), and a norm's may, too.
    """
    if type(conv) not in (Conv, FoldingConv):
        return False
    return conv.norm is None or type(conv.norm) in (FrozenBatchNorm2d, nn.BatchNorm2d)


def folded(conv: Conv) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias with a frozen norm inside; gradients go to the weight as it is kept."""
    if isinstance(conv.norm, FrozenBatchNorm2d):
        return _folded(conv.weight, conv.bias, conv.norm)
    return conv.weight, conv.bias


def _folded(
    weight: torch.Tensor, bias: torch.Tensor | None, norm: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = weight.dtype
    scale = norm.weight.to(dtype) * (norm.running_var.to(dtype) + norm.eps).rsqrt()
    mean = norm.running_mean.to(dtype)
    if bias is not None:
        mean = mean - bias.to(dtype)
    # One launch on a GPU, where three short ones take longer than what they compute.
    shift = torch.addcmul(norm.bias.to(dtype), mean, scale, value=-1)
    return weight * scale[:, None, None, None], shift


class FoldingConv(InPlaceOf, Conv):
    """A `Conv` that multiplies its frozen norm into its weights at every call.

    The map is then read and written once where convolution, scale and shift read and write it
    three times, forward and backward.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(self.norm, FrozenBatchNorm2d):
            return super().forward(x)
        weight, bias = folded(self)
        x = F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)
        return torch.relu_(x) if self.relu else x


def fold_while_training(module: nn.Module) -> int:
    """Every `Conv` with a frozen norm becomes a `FoldingConv`; gives their number."""
    count = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is Conv and type(child.norm) is FrozenBatchNorm2d:
                setattr(parent, name, FoldingConv(child))
                count += 1
    return count
