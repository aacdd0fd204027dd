"""Maps at strides that a net does not have, finer than its finest: made of that one.

Several nets have strides 8, 16, 32 or 16, 32, 64 (EfficientViT, VOLO, Sequencer). An FPN for them
stands on deconvolutions of the finest map, too, as a plain transformer's finer levels do (Li et al.
2022, arXiv:2203.16527), so that all nets have the same levels.

Not for: nets with one stride (`simple_pyramid`).
"""

from __future__ import annotations

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn

from resdet.detect.architecture.simple_pyramid import resized
from resdet.engine.speed.precision import Precision


class FinerMaps(Backbone):
    """(N, 3, H, W) to the maps of `net`, and one `finer_S` for each stride S from `to` on below
    its finest.

    Args:
        net: gives maps.
        to: the finest stride, a power of two.
    """

    def __init__(self, net: Backbone, to: int):
        super().__init__()
        shapes: dict[str, ShapeSpec] = net.output_shape()
        self._finest = min(shapes, key=lambda name: shapes[name].stride)
        finest = shapes[self._finest]
        self.net = net
        self.finer = {}
        stride = to
        while stride < finest.stride:
            self.finer[f"finer_{stride}"] = ShapeSpec(
                channels=finest.channels * stride // finest.stride, stride=stride
            )
            stride *= 2
        for name, shape in self.finer.items():
            layers = resized(finest.channels, finest.stride, shape.stride)
            self.add_module(name, nn.Sequential(*layers))

    @property
    def precision(self) -> Precision:
        """That of the net."""
        found: Precision = self.net.precision
        return found

    @precision.setter
    def precision(self, precision: Precision) -> None:
        self.net.precision = precision

    @property
    def size_divisibility(self) -> int:
        return int(self.net.size_divisibility)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {**self.finer, **self.net.output_shape()}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps: dict[str, torch.Tensor] = self.net(x)
        finest = maps[self._finest]
        return {**{name: self.get_submodule(name)(finest) for name in self.finer}, **maps}
