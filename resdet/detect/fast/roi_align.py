"""RoIAlign as a weighted sum of map cells: one `embedding_bag`, forward and backward.

Detectron2's RoIAlign samples each cell of a region bilinearly and takes the mean. That is linear
in the map, so a region's cell is a sum of rows of the map (one row of channels per map cell), and
only the cells that are read need be summed.

Source: RoIAlign's sampling is He et al. 2017 as torchvision and Detectron2 compute it
(aligned, `sampling_ratio` 0 or fixed).

Not for: RoIPool, which takes maxima.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from torch import nn

# Of a cell of a region, over a full group: larger regions come in smaller groups.
SAMPLES = 36


@dataclass(frozen=True)
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

    def groups(self, boxes: torch.Tensor, most: int) -> list[torch.Tensor]:
        """Numbers of regions of like size, at most so many together; one empty group for none.

        All of a group take as many samples a cell as its widest and its tallest, so a wide and a
        tall one must not be in one group.
        """
        corners = self._corners(boxes)
        across = self._count(corners[:, 2] - corners[:, 0])
        order = torch.argsort(across, stable=True)
        down = self._count(corners[:, 3] - corners[:, 1])
        order = order[torch.argsort(down[order], stable=True)]
        groups, start, widest, tallest = [], 0, 1, 1
        pairs = zip(across[order].tolist(), down[order].tolist(), strict=True)
        for place, (wide, tall) in enumerate(pairs):
            number = place - start
            widest, tallest = max(widest, wide), max(tallest, tall)
            if number == most or (number and (number + 1) * widest * tallest > most * SAMPLES):
                groups.append(order[start:place])
                start, widest, tallest = place, max(1, wide), max(1, tall)
        return [*groups, order[start:]]

    def bags(
        self, boxes: torch.Tensor, height: int, width: int, cells: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Which map cells make each cell of each region, and how much of them.

        Args:
            boxes: (R, 4) in pixels.
            cells: (K,) the cells of an axis that are expected, of 0 to P - 1.

        Returns:
            Places in a (height * width) map and their weights, (R * K * K, S) each.
        """
        x0, y0, x1, y1 = self._corners(boxes).unbind(1)
        rows, row_weights = self._axis(y0, y1, height, cells)
        columns, column_weights = self._axis(x0, x1, width, cells)
        places = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
        weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
        return places.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)

    def pool(
        self,
        cells: torch.Tensor,
        size: tuple[int, int],
        image: torch.Tensor,
        boxes: torch.Tensor,
        axis: torch.Tensor,
    ) -> torch.Tensor:
        """(N * H * W, C) cells of N maps and (R, 4) boxes to (R, C, K, K) regions, channels_last.

        Args:
            size: (H, W). image: (R,) the map of each box. axis: (K,) as `cells` of `bags`.
        """
        height, width = size
        places, weights = self.bags(boxes, height, width, axis)
        offset = image * (height * width)
        places = places + offset.repeat_interleave(len(axis) ** 2)[:, None]
        return gather(cells, places, weights, len(axis))

    def pool_all(
        self,
        cells: torch.Tensor,
        size: tuple[int, int],
        image: torch.Tensor,
        boxes: torch.Tensor,
        axis: torch.Tensor,
        groups: list[torch.Tensor],
    ) -> torch.Tensor:
        """As `pool`, one of `groups` after the other; regions come in the order of their boxes."""
        pooled = [self.pool(cells, size, image[g], boxes[g], axis) for g in groups]
        return torch.cat(pooled)[torch.argsort(torch.cat(groups))]

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
    """(M, C) map cells to (R, C, side, side) regions, channels_last.

    Args:
        places, weights: (R * side * side, S) each, as `Pooling.bags` gives them.
    """
    if not len(places):
        return cells.new_zeros((0, cells.shape[1], side, side)) + 0 * cells.sum()
    pooled = _Gather.apply(cells, places, weights.to(cells.dtype))
    return pooled.view(-1, side, side, cells.shape[1]).permute(0, 3, 1, 2)


class SummedAlign(nn.Module):
    """In the place of a RoIAlign. (N, C, H, W) and (R, 5) to (R, C, P, P).

    Args:
        align: Detectron2's layer, of a pooler with any number of levels.
        chunk: regions pooled at once, at least 1.
    """

    def __init__(self, align: ROIAlign, chunk: int):
        super().__init__()
        self.align = align
        self.pooling = Pooling.of(align)
        self.chunk = chunk

    def forward(self, x: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """`rois` holds the number of the image and a box (x0, y0, x1, y1) in pixels."""
        if x.device.type != "cpu":
            return cast(torch.Tensor, self.align(x, rois))  # one launch of torchvision's kernel
        _, channels, height, width = x.shape
        cells = x.permute(0, 2, 3, 1).reshape(-1, channels)
        axis = torch.arange(self.pooling.size, device=x.device)
        image, boxes = rois[:, 0].long(), rois[:, 1:].to(x.dtype)
        groups = self.pooling.groups(boxes, self.chunk)
        return self.pooling.pool_all(cells, (height, width), image, boxes, axis, groups)


class _Gather(torch.autograd.Function):
    """Sums of rows, whose gradient is sums of rows again: each map cell's from its sums.

    `embedding_bag`'s own gradient scatters row by row, and on a CPU takes several times as long.
    """

    @staticmethod
    def forward(
        ctx: Any, cells: torch.Tensor, places: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(places, weights)
        ctx.num_cells = len(cells)
        return F.embedding_bag(places, cells, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        places, weights = ctx.saved_tensors
        if not ctx.needs_input_grad[0]:
            return None, None, None
        used = (weights != 0).flatten()
        bags = torch.arange(len(places), device=places.device)
        rows = bags.repeat_interleave(places.shape[1])[used]
        by_cell, order = places.flatten()[used].sort(stable=True)
        cells = torch.arange(ctx.num_cells, device=places.device)
        grads = F.embedding_bag(
            rows[order],
            grad.contiguous(),
            torch.searchsorted(by_cell, cells),
            per_sample_weights=weights.flatten()[used][order],
            mode="sum",
        )
        return grads, None, None
