"""A feature pyramid on the one map of a plain transformer: Li et al. 2022 (arXiv:2203.16527).

Each level is made of the last map alone: finer ones by deconvolutions, coarser ones by maximum
pooling, then 1x1 and 3x3 convolutions with layer norm. Levels are p2 to p6 at strides 4 to 64, as
those of an FPN, so that RPN and region heads are the same layers for all nets. Names and numbers
are Detectron2's (main: `SimpleFeaturePyramid`; 0.6 has none).

Not for: nets with several strides (`fpn`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import Backbone
from torch import nn

from resdet.engine.speed.precision import Precision

LAYER_NORM = "LN"
EPS = 1e-6


class ChannelLayerNorm(nn.Module):
    """Layer norm over the channels of each cell of (N, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.weight.dtype)  # autocast has no rule for these sums
        # In Detectron2's order of sums.
        x = x - x.mean(1, keepdim=True)
        x = x / torch.sqrt(x.pow(2).mean(1, keepdim=True) + EPS)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class SimplePyramid(Backbone):
    """(N, 3, H, W) to p2 … p6.

    Args:
        net: gives one map.
        in_feature: its name.
        strides: of the levels by name; one more is pooled behind the last.
        out_channels: C of every level.
        norm: "" or "LN" for layer norm, else a name of Detectron2's `get_norm`.

    Attributes:
        precision: how the pyramid's own layers compute; its maps leave in the type of the images.
        square_pad: side of the squares that images are padded to (INPUT.SQUARE_PAD); 0: off.
    """

    precision = Precision()
    square_pad = 0

    def __init__(
        self, net: Backbone, in_feature: str, strides: dict[str, int], out_channels: int,
        norm: str = "",
    ):  # fmt: skip
        super().__init__()
        shape = net.output_shape()[in_feature]
        self.net = net
        self.in_feature = in_feature
        self.strides = {**strides, _next(strides): 2 * max(strides.values())}
        self.out_channels = out_channels
        self._out_features = list(self.strides)
        self._levels = [f"simfp_{name.removeprefix('p')}" for name in strides]
        for level, stride in zip(self._levels, strides.values(), strict=True):
            layers = resized(shape.channels, shape.stride, stride)
            channels = shape.channels // max(1, shape.stride // stride)
            layers += [
                _convolution(channels, out_channels, 1, norm),
                _convolution(out_channels, out_channels, 3, norm),
            ]
            self.add_module(level, nn.Sequential(*layers))

    @property
    def own_layers(self) -> list[nn.Module]:
        """The pyramid without the net that it stands on, level by level."""
        return [self.get_submodule(level) for level in self._levels]

    @property
    def size_divisibility(self) -> int:
        return self.square_pad or max(self.strides.values()) // 2

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=self.out_channels, stride=stride)
            for name, stride in self.strides.items()
        }

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.net(x)[self.in_feature]
        with self.precision.autocast():
            levels = [level(found).to(x.dtype) for level in self.own_layers]
        levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return dict(zip(self._out_features, levels, strict=True))


def _next(strides: dict[str, int]) -> str:
    return f"p{int(math.log2(max(strides.values()))) + 1}"


def resized(channels: int, stride: int, to: int) -> list[nn.Module]:
    """From one stride to another; each deconvolution halves the channels."""
    layers: list[nn.Module] = []
    while stride > to:
        if layers:
            layers += [ChannelLayerNorm(channels), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
        channels, stride = channels // 2, stride // 2
    while stride < to:
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        stride *= 2
    return layers


def _convolution(channels: int, out_channels: int, size: int, norm: str) -> Conv2d:
    layer = (
        ChannelLayerNorm(out_channels) if norm in ("", LAYER_NORM) else get_norm(norm, out_channels)
    )
    return Conv2d(
        channels, out_channels, kernel_size=size, padding=size // 2, bias=False, norm=layer
    )
