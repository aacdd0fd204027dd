"""A feature pyramid on any net's stages: Detectron2's own FPN around our trunk.

Names are Detectron2's (`backbone.bottom_up.res2.0.conv1.weight`, `backbone.fpn_lateral2.weight`),
and around a ResNet so is every number, to the bit. The regions are Detectron2's `StandardROIHeads`
with two fresh fully connected layers: the net's own tail (average pooling, VGG's fc6 and fc7) has
no place here.

Every net gives the same five levels, p2 to p6 at strides 4 to 64, so that RPN and region heads are
the same layers for all. The pyramid stands on the net's last stage of each stride 4, 8, 16 and 32.
A net that ends earlier has the missing levels pooled from its last one, as p6 is from p5 everywhere
(every second cell): VGG ends at stride 16, so its pyramid stands on conv3, conv4 and conv5, and
p5 and p6 are pooled from p4.

Not for: norms, frozen stages and precision of the net (`backbone`); p2 to p6 compute in float32,
but in the fast forms (`fast_detector`, `fast_training`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.fpn import FPN
from torch import nn

from resdet import nets
from resdet.detect.architecture.backbone import NetBackbone, build_net, net_backbone
from resdet.detect.architecture.finer_maps import FinerMaps
from resdet.detect.architecture.simple_pyramid import SimplePyramid
from resdet.engine.speed.precision import Precision
from resdet.errors import ConfigError
from resdet.nets.families import family_of
from resdet.nets.timm import TimmNet

# Levels on stages of the net, by stride; one more is pooled behind the last.
STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}
LEVELS = (*STRIDES, "p6")


def pyramid_stages(net: nets.Net) -> list[str]:
    """Names of the stages that the pyramid stands on: the last of each stride 4, 8, 16, 32.

    Of a plain transformer, which has one stride, its last (`simple_pyramid`). A net of timm whose
    finest stride is 8 or 16 has the missing maps made of that one (`finer_maps`).

    Raises:
        ConfigError: a stride is missing before the net's last; lists the strides it has.
    """
    last = {stage.stride: stage.name for stage in net.stages()}
    if len(last) == 1 and isinstance(net, TimmNet):
        return list(last.values())
    strides = [stride for stride in STRIDES.values() if stride in last]
    every = list(STRIDES.values())
    first = every.index(strides[0]) if strides and isinstance(net, TimmNet) else 0
    if not strides or strides != every[first : first + len(strides)]:
        raise ConfigError(
            f"MODEL.BACKBONE.NAME is build_net_fpn_backbone, whose levels stand on strides 4, 8, "
            f"16, …, but the stages of the net have strides {', '.join(map(str, last))}. Name "
            "another net in MODEL.NET.NAME, or set MODEL.BACKBONE.NAME build_net_backbone."
        )
    return [last[stride] for stride in strides]


class PooledLevels(nn.Module):
    """The levels behind `in_feature`, each of every second cell of the one before.

    One level behind p5 is Detectron2's `LastLevelMaxPool`. No parameters.
    """

    def __init__(self, in_feature: str, num_levels: int):
        super().__init__()
        self.in_feature = in_feature
        self.num_levels = num_levels

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        levels = []
        for _ in range(self.num_levels):
            x = F.max_pool2d(x, kernel_size=1, stride=2, padding=0)
            levels.append(x)
        return levels


class NetFPN(FPN):
    """Detectron2's FPN; images are padded to multiples of 32 for every net, pooled p5 or not.

    Attributes:
        precision: how the pyramid's own layers compute; its maps leave in the type of the images.
        square_pad: side of the squares that images are padded to (INPUT.SQUARE_PAD); 0: off.
    """

    precision = Precision()
    square_pad = 0

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if not self.precision.bf16:
            return {name: level.to(x.dtype) for name, level in super().forward(x).items()}
        with self.precision.autocast():
            levels = self._levels(self.bottom_up(x))
        return {n: level.to(x.dtype) for n, level in zip(self._out_features, levels, strict=True)}

    def _levels(self, maps: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Detectron2's, but upsampled in the type of the maps on every device: CUDA's autocast
        upsamples and adds in float32, a CPU's does not."""
        top_down: torch.Tensor | None = None
        levels: list[torch.Tensor] = []
        names = reversed(self.in_features)
        for name, lateral, output in zip(names, self.lateral_convs, self.output_convs, strict=True):
            level = lateral(maps[name])
            if top_down is not None:
                with torch.autocast(self.precision.device, enabled=False):
                    level = level + F.interpolate(top_down, scale_factor=2.0, mode="nearest")
                if self._fuse_type == "avg":
                    level /= 2
            top_down = level
            levels.insert(0, output(level))
        # PooledLevels, on the last level of the pyramid.
        return levels + self.top_block(levels[-1])

    @property
    def size_divisibility(self) -> int:
        return self.square_pad or STRIDES["p5"]


@BACKBONE_REGISTRY.register()
def build_net_fpn_backbone(cfg: Any, input_shape: ShapeSpec) -> NetFPN | SimplePyramid:
    """MODEL.NET up to its last pyramid stage, and MODEL.FPN on it. (N, 3, H, W) to p2 … p6.

    On the one map of a plain transformer the pyramid of Li et al. 2022 stands.

    MODEL.FPN.IN_FEATURES is filled in from the net (`facts`); here () is the same.

    Raises:
        ConfigError: the net has no stages of fitting strides, or a plain transformer's levels are
            to be fused by another rule than "sum"; else as `net_backbone`.
    """
    net = build_net(cfg)
    in_features = list(cfg.MODEL.FPN.IN_FEATURES) or pyramid_stages(net)
    bottom_up = net_backbone(cfg, net, in_features)
    if isinstance(bottom_up, NetBackbone):
        bottom_up.fits_cells = family_of(cfg.MODEL.NET.NAME) is None
    if len(in_features) == 1:
        if cfg.MODEL.FPN.FUSE_TYPE != "sum":
            raise ConfigError(
                f"MODEL.FPN.FUSE_TYPE is {cfg.MODEL.FPN.FUSE_TYPE}, but the pyramid on the one map "
                f"of {cfg.MODEL.NET.NAME} fuses nothing. Leave it out."
            )
        with torch.random.fork_rng(devices=[]):
            simple = SimplePyramid(
                bottom_up, in_features[0], STRIDES, cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.NORM
            )
        simple.square_pad = cfg.INPUT.SQUARE_PAD
        return simple
    last = int(math.log2(bottom_up.output_shape()[in_features[-1]].stride))
    # A random generator of its own, as for the net: VGG has fewer levels to initialise.
    with torch.random.fork_rng(devices=[]):
        finest = bottom_up.output_shape()[in_features[0]].stride
        finer = FinerMaps(bottom_up, STRIDES["p2"]) if finest > STRIDES["p2"] else None
        pyramid = NetFPN(
            finer or bottom_up,
            [*(finer.finer if finer else ()), *in_features],
            cfg.MODEL.FPN.OUT_CHANNELS,
            norm=cfg.MODEL.FPN.NORM,
            top_block=PooledLevels(f"p{last}", 6 - last),
            fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
        )
    pyramid.square_pad = cfg.INPUT.SQUARE_PAD
    return pyramid
