"""3x3 convolutions by Winograd's F(4 x 4, 3 x 3): 36 products for 16 cells instead of 144.

The same sums in another order: float32 results differ by rounding alone, which the transforms make
2 to 13 times conv2d's (3e-6 of a result's size with 256 channels, on the processors seen; a bound
for all is in `tests/detect/fast/test_winograd.py`). Patches of 6 x 6 cells, which overlap by two,
are transformed and multiplied with all filters in 36 matrix products, one a place in the patch.

Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.3 (the
transforms for the points 0, 1, -1, 2, -2).

Not for: bfloat16, whose eight bits the transforms would use up; GPUs, whose libraries choose this
themselves; training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

# Below, moving the patches costs more than the products saved (benchmarks, 2 threads).
LEAST_CHANNELS = 128
# Patches at once, in bytes. Of a map of 150 x 225 cells and 256 channels, all at once (80 MB)
# took about twice as long on a processor with 32 MB of third-level cache.
MOST_BYTES = 16 << 20

_INPUT = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_FILTER = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
_OUTPUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=torch.float64,
)


class WinogradConv(nn.Module):
    """A 3x3 convolution of stride 1 with its ReLU. (N, C, H, W) to (N, D, H, W), channels_last.

    Args:
        conv: as `fits` allows; its weights are transformed once and no longer followed.
        relu: negative results become 0.
    """

    filters: torch.Tensor
    bias: torch.Tensor | None
    into: torch.Tensor
    out: torch.Tensor

    def __init__(self, conv: nn.Conv2d, *, relu: bool):
        super().__init__()
        weight = conv.weight.detach().double()
        filters = torch.einsum("ia,ocab,jb->ijco", _FILTER, weight, _FILTER).flatten(0, 1)
        dtype = conv.weight.dtype
        # Not in files: the fast form is made from the trained model and never saved.
        self.register_buffer("filters", filters.to(dtype).contiguous(), persistent=False)
        bias = None if conv.bias is None else conv.bias.detach().clone()
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("into", _INPUT.to(dtype), persistent=False)
        self.register_buffer("out", _OUTPUT.to(dtype), persistent=False)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images, channels, height, width = x.shape
        filters = self.filters.shape[2]
        if not images:
            return x.new_zeros((0, filters, height, width))
        down, across = -(-height // 4), -(-width // 4)
        beyond = (0, 0, 1, 4 * across + 1 - width, 1, 4 * down + 1 - height)
        padded = F.pad(x.permute(0, 2, 3, 1), beyond).contiguous()
        y = x.new_empty((images, height, width, filters))
        of_row = 36 * across * max(channels, filters) * x.element_size()
        many = max(1, MOST_BYTES // (of_row * down))
        rows = down if many > 1 else max(1, MOST_BYTES // of_row)
        for first in range(0, images, many):
            for top in range(0, down, rows):
                part = y[first : first + many, 4 * top : 4 * (top + rows)]
                some = padded[first : first + many, 4 * top :]
                cells = self._cells(some, min(rows, down - top), across)
                part.copy_(cells[:, : part.shape[1], :width])
        y = y.permute(0, 3, 1, 2)
        return torch.relu_(y) if self.relu else y

    def _cells(self, padded: torch.Tensor, down: int, across: int) -> torch.Tensor:
        """So many patches of maps (N, H, W, C) to (N, 4 * down, 4 * across, D)."""
        images, _, _, channels = padded.shape
        image, row, column, channel = padded.stride()
        # (6, 6, N, down, across, C): place within the patch first, patches overlap by two cells.
        patches = padded.as_strided(
            (6, 6, images, down, across, channels),
            (row, column, image, 4 * row, 4 * column, channel),
        ).reshape(36, -1)
        patches = _both_axes(self.into, patches)
        products = torch.bmm(patches.view(36, -1, channels), self.filters)
        if self.bias is not None:
            # The place of the point 1 on both axes adds to all 16 cells equally.
            products[7] += self.bias
        cells = _both_axes(self.out, products.flatten(1))
        cells = cells.view(4, 4, images, down, across, -1).permute(2, 3, 0, 4, 1, 5)
        return cells.reshape(images, 4 * down, 4 * across, -1)


def _both_axes(matrix: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(n, k) and (k * k, M) to (n * n, M): the matrix on both axes of each k x k patch."""
    rows, size = matrix.shape
    once = (matrix @ values.view(size, -1)).view(rows, size, -1)
    return torch.matmul(matrix, once).flatten(0, 1)


def fits(conv: nn.Module) -> bool:
    """Whether Winograd's algorithm gives this layer's sums, and faster."""
    return (
        isinstance(conv, nn.Conv2d)
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == conv.padding == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
        and conv.weight.dtype == torch.float32
        and conv.weight.device.type == "cpu"
    )
