"""A trained C4 detector in its fast form for inference: the same detections, sooner.

`fast(model)` gives a copy; the trained model stays as it is. What changes, each within rounding:

- Frozen norms are folded into their convolutions.
- Maps are channels_last, and a region's cells are gathered as whole rows of channels: RoIAlign is
  a weighted sum of map cells, so it is one `embedding_bag`.
- Only the cells that the tail reads are pooled: a first block of stride 2 whose stride stands in
  its 1x1 convolutions reads every second of both axes.
- What is linear before the first ReLU (a first 1x1 convolution, the shortcut) runs once on the
  shared map and is pooled after, where regions have more cells than the map.
- Regions run in chunks that fit the processor's cache.

Source: RoIAlign's sampling is He et al. 2017 as torchvision and Detectron2 compute it
(aligned, `sampling_ratio` 0 or fixed). RoIPool is no sum: it stays Detectron2's own.

Not for: training; models of other parts (`fast` says which part it left as it was).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d, ROIAlign
from torch import nn

from resdet.detect.backbone import NetBackbone
from resdet.detect.region_heads import RegionHeads
from resdet.nets.net import Conv
from resdet.nets.resnet import BasicBlock, Bottleneck
from resdet.nets.vgg import FullyConnected

# Regions at once: their cells and channels then stay in the second-level cache.
CHUNK = 50


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
        regions = _regions(heads, chunk, torch.bfloat16 if bf16 else torch.float32)
        if regions is not None:
            heads.region_features = regions
    return found


def _prepare(module: nn.Module, bf16: bool) -> None:
    """Folded, channels_last, in the type that it computes in."""
    fold_norms(module)
    module.to(memory_format=torch.channels_last)
    if bf16:
        module.to(torch.bfloat16)


def fold_norms(module: nn.Module) -> int:
    """Frozen norms inside our convolutions become part of their weights; gives their number.

    y = (conv(x) - mean) * scale + shift, scale = weight / sqrt(variance + eps).
    """
    folded = 0
    for conv in [m for m in module.modules() if isinstance(m, Conv)]:
        norm = conv.norm
        if not isinstance(norm, FrozenBatchNorm2d):
            continue
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double()
        shift = norm.bias.double() + (bias - norm.running_mean.double()) * scale
        weight = conv.weight.double() * scale[:, None, None, None]
        dtype = conv.weight.dtype
        conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        conv.bias = nn.Parameter(shift.to(dtype), requires_grad=False)
        conv.norm = None
        folded += 1
    return folded


# -- pooling -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Pooling:
    """RoIAlign as a weighted sum of map cells.

    Attributes:
        scale: cells per pixel. size: P, cells a side per region.
        sampling_ratio: samples a side per cell; 0: as many as the cell has map cells, rounded up.
        aligned: half a cell is taken off, as ROIAlignV2.
    """

    scale: float
    size: int
    sampling_ratio: int
    aligned: bool

    @classmethod
    def of(cls, align: ROIAlign) -> Pooling:
        size = align.output_size
        side = size if isinstance(size, int) else size[0]
        return cls(align.spatial_scale, side, align.sampling_ratio, align.aligned)

    def samples(self, boxes: torch.Tensor) -> torch.Tensor:
        """(R,) the larger number of samples a cell of each region has on a side."""
        length = self._corners(boxes)
        sides = torch.stack([length[:, 2] - length[:, 0], length[:, 3] - length[:, 1]])
        return self._count(sides.amax(0))

    def bags(
        self, boxes: torch.Tensor, height: int, width: int, cells: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Which map cells make each cell of each region, and how much of them.

        Args:
            boxes: (R, 4) in pixels.
            cells: (K,) the cells of an axis that are wanted, of 0 to P - 1.

        Returns:
            Places in a (height * width) map and their weights, (R * K * K, S) each.
        """
        x0, y0, x1, y1 = self._corners(boxes).unbind(1)
        rows, row_weights = self._axis(y0, y1, height, cells)
        columns, column_weights = self._axis(x0, x1, width, cells)
        places = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
        weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
        return places.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)

    def _corners(self, boxes: torch.Tensor) -> torch.Tensor:
        return boxes * self.scale - (0.5 if self.aligned else 0.0)

    def _lengths(self, length: torch.Tensor) -> torch.Tensor:
        # The first version has no region below one map cell.
        return length if self.aligned else length.clamp_min(1.0)

    def _count(self, length: torch.Tensor) -> torch.Tensor:
        if self.sampling_ratio > 0:
            return torch.full_like(length, self.sampling_ratio, dtype=torch.long)
        return (self._lengths(length) / self.size).ceil().clamp_min(0).long()

    def _axis(
        self, start: torch.Tensor, end: torch.Tensor, size: int, cells: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of one axis: (R, K, 2 n) places and weights, both neighbours of each of n samples."""
        length = self._lengths(end - start)
        per_cell = length / self.size
        count = self._count(end - start)
        most = max(1, int(count.max())) if len(count) else 1
        sample = torch.arange(most, device=start.device)
        inside = (sample < count[:, None])[:, None, :]
        count = count.clamp_min(1)[:, None, None]
        cell = per_cell[:, None, None]
        at = start[:, None, None] + cells[None, :, None] * cell + (sample + 0.5) * cell / count
        # A sample more than a cell beyond the map counts as zero; nearer ones stand on its edge.
        inside = inside & (at >= -1.0) & (at <= size)
        at = at.clamp(0, size - 1)
        low = at.floor().long().clamp_max(max(0, size - 2))
        high = (low + 1).clamp_max(size - 1)
        part = at - low
        weights = torch.stack([1 - part, part], dim=-1) * (inside.to(part.dtype) / count)[..., None]
        return torch.stack([low, high], dim=-1).flatten(2), weights.flatten(2)


def gather(
    cells: torch.Tensor, places: torch.Tensor, weights: torch.Tensor, side: int
) -> torch.Tensor:
    """(M, C) map cells to (R, C, side, side) regions, channels_last."""
    if not len(places):
        return cells.new_zeros((0, cells.shape[1], side, side))
    pooled = F.embedding_bag(places, cells, per_sample_weights=weights.to(cells.dtype), mode="sum")
    return pooled.view(-1, side, side, cells.shape[1]).permute(0, 3, 1, 2)


# -- tails -------------------------------------------------------------------------------------

# (cells of the map, cells of the first convolution's input, …) to (R, D)
Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Regions:
    """Replaces `RegionHeads.region_features`: pools and runs the tail, chunk by chunk."""

    def __init__(self, heads: RegionHeads, pooling: Pooling, chunk: int, dtype: torch.dtype):
        self.feature = heads.in_features[0]
        self.tail = [heads.get_submodule(name) for name in heads.tail_names]
        self.pooling = pooling
        self.chunk = chunk
        self.dtype = dtype

    def __call__(self, features: dict[str, torch.Tensor], boxes: list[Any]) -> torch.Tensor:
        shared = features[self.feature]
        _, channels, height, width = shared.shape
        cells = shared.to(self.dtype).permute(0, 2, 3, 1).reshape(-1, channels)
        image = torch.repeat_interleave(
            torch.arange(len(boxes), device=shared.device),
            torch.tensor([len(b) for b in boxes], device=shared.device),
        )
        # As Detectron2: the type of the map decides how places are computed.
        every = torch.cat([b.tensor for b in boxes]).to(shared.dtype)
        maps = self.before(cells, len(every))
        # Regions of a size together: all of a chunk take as many samples as its largest.
        order = torch.argsort(self.pooling.samples(every), stable=True)
        results = []
        # Without regions there is one chunk of none, whose result has the right width.
        for part in order.split(self.chunk):

            def pool(of: torch.Tensor, axis: torch.Tensor, part: Any = part) -> torch.Tensor:
                places, weights = self.pooling.bags(every[part], height, width, axis)
                offset = image[part] * (height * width)
                places = places + offset.repeat_interleave(len(axis) ** 2)[:, None]
                return gather(of, places, weights, len(axis))

            results.append(self.after(maps, pool).to(shared.dtype))
        return torch.cat(results)[torch.argsort(order)]

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

    def __init__(self, heads: RegionHeads, pooling: Pooling, chunk: int, dtype: torch.dtype):
        super().__init__(heads, pooling, chunk, dtype)
        side = pooling.size
        fc6: Any = self.tail[0]
        weight = fc6.weight.unflatten(1, (-1, side, side)).permute(0, 2, 3, 1).flatten(1)
        fc6.weight = nn.Parameter(weight.contiguous(), requires_grad=False)

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        return super()._run(x.permute(0, 2, 3, 1))


class ResidualRegions(Regions):
    """A residual tail whose first block has stride 2: its shortcut, and a 1x1 where it opens the
    block, are linear and run on the map."""

    def __init__(self, heads: RegionHeads, pooling: Pooling, chunk: int, dtype: torch.dtype):
        super().__init__(heads, pooling, chunk, dtype)
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
            cells if conv is None else F.linear(cells, conv.weight.flatten(1))
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
        x = first(x) if self.conv1 is None else _bias_and_relu(x, first)
        x = self.block.conv2(x)
        if isinstance(self.block, Bottleneck):
            x = self.block.conv3(x)
        if self.shortcut is not None:
            x = x + _bias(pool(maps[1], even), self.shortcut)
        elif self.block.residual:
            x = x + self.block.shortcut(pool(maps[1], every))
        x = torch.relu_(x)
        for block in self.blocks:
            x = block(x)
        for layer in self.rest:
            x = layer(x)
        return x


def _bias(x: torch.Tensor, conv: nn.Module) -> torch.Tensor:
    # After pooling: weights of cells beyond the map do not add up to 1.
    bias: Any = conv.bias
    return x if bias is None else x + bias[None, :, None, None]


def _bias_and_relu(x: torch.Tensor, conv: nn.Module) -> torch.Tensor:
    return torch.relu_(_bias(x, conv))


def _regions(heads: RegionHeads, chunk: int, dtype: torch.dtype) -> Regions | None:
    """The fast way through these heads; None where Detectron2's pooling must stay."""
    aligns = [m for m in heads.pooler.level_poolers if isinstance(m, ROIAlign)]
    if len(aligns) != 1 or len(heads.pooler.level_poolers) != 1:
        return None
    pooling = Pooling.of(aligns[0])
    return _kind(heads, pooling)(heads, pooling, chunk, dtype)


def _kind(heads: RegionHeads, pooling: Pooling) -> type[Regions]:
    first = heads.get_submodule(heads.tail_names[0])
    if isinstance(first, FullyConnected):
        return FullyConnectedRegions
    if not isinstance(first, nn.Sequential) or not len(first) or pooling.size % 2:
        return Regions
    block = first[0]
    ours = isinstance(block, BasicBlock | Bottleneck)
    live = any(m.norm is not None for m in block.modules() if isinstance(m, Conv)) if ours else True
    strides = [m.stride for m in block.modules() if isinstance(m, Conv)] if ours else []
    if ours and not live and (2, 2) in strides:
        return ResidualRegions
    return Regions


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


__all__ = ["CHUNK", "Pooling", "Regions", "fast", "fold_norms", "skipped"]
