"""From the shared map to a vector per region, without computing values that are not used.

Replaces `RegionHeads.region_features`, for inference and for training:

- Regions are sums of map cells (`roi_align`), channels_last, in groups of like size.
- Only the cells that the tail reads are pooled: a first block of stride 2 whose stride stands in
  its 1x1 convolutions reads every second of both axes.
- What is linear before the first ReLU (a first 1x1 convolution, the shortcut) runs once on the
  shared map and is pooled after, where regions have more cells than the map.

The same sums in another order: results differ by rounding alone. On a GPU regions are pooled by
Detectron2's own kernel, all at once: groups would cost a launch and a wait of the host each.

Not for: which model gets this (`fast_detector`, `fast_training`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from torch import nn

from resdet import profile
from resdet.detect.architecture.region_heads import RegionHeads
from resdet.detect.fast.folding import folded, is_plain
from resdet.detect.fast.roi_align import Pooling
from resdet.nets.net import Conv
from resdet.nets.resnet import BasicBlock, Bottleneck
from resdet.nets.vgg import FullyConnected

# Regions at once: 50 x 49 cells of 2,048 channels are 10 MB in bfloat16, 20 in float32, which the
# third-level cache holds. 64 to 150 were timed within 2 % of it, 20 at 8 % more (R-101, bf16).
CHUNK = 50

# (cells of a map (M, C), expected cells of an axis (K,)) to regions (R, C, K, K)
Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Regions:
    """Pools and runs the tail, group by group, channels_last, in the type of `heads.precision`.

    Args:
        heads: their pooler is one RoIAlign.
        chunk: regions pooled at once, at least 1.
        whole: the tail runs on all regions in one and in their own order, as training needs it
            (it may drop some at random, and live norms see all), not group by group.
    """

    def __init__(self, heads: RegionHeads, *, chunk: int = CHUNK, whole: bool = False):
        self.feature = heads.in_features[0]
        self.tail = [heads.get_submodule(name) for name in heads.tail_names]
        (align,) = heads.pooler.level_poolers
        self.pooling = Pooling.of(align)
        self.pooler = heads.pooler
        self.precision = heads.precision
        self.chunk = chunk
        self.whole = whole

    def __call__(self, features: dict[str, torch.Tensor], boxes: list[Any]) -> torch.Tensor:
        shared = features[self.feature]
        if shared.device.type != "cpu":
            pooled = self.precision.input(self.pooler([shared], boxes))
            with self.precision.autocast(), profile.span("RoI tail"):
                return self._run(pooled).to(shared.dtype)
        with self.precision.autocast(), profile.span("RoI tail"):
            return self._run_all(shared, boxes).to(shared.dtype)

    def _run_all(self, shared: torch.Tensor, boxes: list[Any]) -> torch.Tensor:
        _, channels, height, width = shared.shape
        dtype = torch.bfloat16 if self.precision.bf16 else shared.dtype
        cells = shared.to(dtype).permute(0, 2, 3, 1).reshape(-1, channels)
        image = torch.repeat_interleave(
            torch.arange(len(boxes), device=shared.device),
            torch.tensor([len(b) for b in boxes], device=shared.device),
        )
        # As Detectron2: the type of the map decides how places are computed.
        every = torch.cat([b.tensor for b in boxes]).to(shared.dtype)
        maps, size = self.before(cells, len(every)), (height, width)
        groups = self.pooling.groups(every, self.chunk)
        if self.whole:

            @profile.timed("RoI pooling", apart=True)
            def pool_all(of: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
                return self.pooling.pool_all(of, size, image, every, axis, groups)

            return self.after(maps, pool_all)

        def pool(group: torch.Tensor) -> Pool:
            @profile.timed("RoI pooling", apart=True)
            def from_map(of: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
                return self.pooling.pool(of, size, image[group], every[group], axis)

            return from_map

        # Without regions there is one group of none, whose result has the right width.
        results = [self.after(maps, pool(group)) for group in groups]
        return torch.cat(results)[torch.argsort(torch.cat(groups))]

    def before(self, cells: torch.Tensor, num_regions: int) -> Sequence[torch.Tensor]:
        """What is pooled: the shared map here, (M, C)."""
        return (cells,)

    def after(self, maps: Sequence[torch.Tensor], pool: Pool) -> torch.Tensor:
        axis = torch.arange(self.pooling.size, device=maps[0].device)
        return self._run(pool(maps[0], axis))

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.tail:
            x = layer(x)
        return x


class FullyConnectedRegions(Regions):
    """VGG's tail: fc6 takes cells in the order in which they are pooled, channels last."""

    def __init__(self, heads: RegionHeads, **options: Any):
        super().__init__(heads, **options)
        side = self.pooling.size
        fc6: Any = self.tail[0]
        weight = fc6.weight.unflatten(1, (-1, side, side)).permute(0, 2, 3, 1).flatten(1)
        fc6.weight = nn.Parameter(weight.contiguous(), requires_grad=False)

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        return super()._run(x.permute(0, 2, 3, 1))


class ResidualRegions(Regions):
    """A residual tail whose first block has stride 2: its shortcut, and a 1x1 where it opens the
    block, are linear and run on the map."""

    def __init__(self, heads: RegionHeads, **options: Any):
        super().__init__(heads, **options)
        stage, *self.rest = self.tail
        self.block, *self.blocks = stage
        conv1, shortcut = self.block.conv1, self.block.shortcut
        self.conv1 = conv1 if conv1.kernel_size == (1, 1) else None
        self.shortcut = shortcut if isinstance(shortcut, Conv) else None

    def before(self, cells: torch.Tensor, num_regions: int) -> Sequence[torch.Tensor]:
        # On the map the convolutions cost its cells, in the regions theirs.
        if num_regions * (self.pooling.size // 2) ** 2 < len(cells):
            return (cells,)
        return tuple(
            cells if conv is None else F.linear(cells, folded(conv)[0].flatten(1))
            for conv in (self.conv1, self.shortcut)
        )

    def after(self, maps: Sequence[torch.Tensor], pool: Pool) -> torch.Tensor:
        if len(maps) == 1:
            return super().after(maps, pool)
        every = torch.arange(self.pooling.size, device=maps[0].device)
        even = every[::2]
        first = self.block.conv1
        strided = self.conv1 is not None and first.stride == (2, 2)
        x = pool(maps[0], even if strided else every)
        x = first(x) if self.conv1 is None else torch.relu_(_shifted(x, first))
        x = self.block.conv2(x)
        if isinstance(self.block, Bottleneck):
            x = self.block.conv3(x)
        if self.shortcut is not None:
            x = x.add_(_shifted(pool(maps[1], even), self.shortcut))
        elif self.block.residual:
            x = x.add_(self.block.shortcut(pool(maps[1], every)))
        x = torch.relu_(x)
        for block in self.blocks:
            x = block(x)
        for layer in self.rest:
            x = layer(x)
        return x


def _shifted(x: torch.Tensor, conv: Conv) -> torch.Tensor:
    """What follows the sum of a convolution, but its ReLU: bias, or a norm that is live."""
    # After pooling: weights of cells beyond the map do not add up to 1.
    _, bias = folded(conv)
    x = x if bias is None else x.add_(bias.to(x.dtype)[None, :, None, None])
    return conv.norm(x) if isinstance(conv.norm, nn.BatchNorm2d) else x


def unsupported_reason(heads: RegionHeads, *, training: bool = False) -> str:
    """Why `Regions` does not support these heads, in a sentence; "" where it does.

    Args:
        training: masks then learn from the maps of all regions, which `Regions` lets go.
    """
    if training and heads.mask_on:
        return "masks take the map of each region: pooled by Detectron2"
    if type(heads).region_features is not RegionHeads.region_features:
        return f"{type(heads).__name__} gathers its regions in its own way: left as they are"
    levels = heads.pooler.level_poolers
    if len(levels) > 1:
        return "regions come from several maps: pooled by Detectron2"
    if not isinstance(levels[0], ROIAlign):
        return "RoIPool takes maxima: pooled by Detectron2"
    return ""


def pooler_for(heads: RegionHeads) -> type[Regions]:
    """The class that fits the first layers of these heads' tail."""
    first = heads.get_submodule(heads.tail_names[0])
    if type(first) is FullyConnected:
        return FullyConnectedRegions
    (align,) = heads.pooler.level_poolers
    even = Pooling.of(align).size % 2 == 0
    # Ours alone: what a subclass does in its own forward would be lost.
    if type(first) is not nn.Sequential or not len(first) or not even:
        return Regions
    block = first[0]
    if type(block) not in (BasicBlock, Bottleneck):
        return Regions
    if not all(is_plain(m) for m in block.modules() if isinstance(m, Conv)):
        return Regions
    strides = [m.stride for m in block.modules() if isinstance(m, Conv)]
    return ResidualRegions if (2, 2) in strides else Regions
