"""Residual and plain nets: 18 to 152 layers for ImageNet, 6n+2 for CIFAR, any width.

He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 1, section 3.3 and 4.2. A plain net is the
same chain without shortcuts. Parameter names are Detectron2's: `stem.conv1`, `res2.0.conv1.norm`,
`res2.0.shortcut`, `linear`.

Not for: weights of other origins (`resdet.weights.origins`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from resdet.nets.net import Conv, GlobalAveragePool, Net, Stage, init_he

SHORTCUTS = ("none", "A", "B", "C")
STEMS = ("imagenet", "small", "cifar")


class ZeroPaddedShortcut(nn.Module):
    """Option A: every `stride`-th pixel as it is, missing channels zero. No parameters.

    The zeros come after the copied channels, as in fb.resnet.torch; the paper does not state it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.added = out_channels - in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))


def make_shortcut(
    option: str, in_channels: int, out_channels: int, stride: int
) -> nn.Module | None:
    """The path around one block, or None where the input itself is added.

    Raises:
        ValueError: `option` is none of A, B, C.
    """
    same = stride == 1 and in_channels == out_channels
    if option == "A":
        return None if same else ZeroPaddedShortcut(in_channels, out_channels, stride)
    if option == "B" and same:
        return None
    if option in ("B", "C"):
        return Conv(in_channels, out_channels, 1, stride=stride, relu=False)
    raise ValueError(f"shortcut is {option!r}, expected one of {', '.join(SHORTCUTS)}")


class Block(nn.Module):
    """What both blocks share: convolutions, then the shortcut added, then ReLU."""

    def __init__(self, shortcut: str, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.residual = shortcut != "none"
        # Named even where it is None: Detectron2's blocks have it too.
        self.shortcut = (
            make_shortcut(shortcut, in_channels, out_channels, stride) if self.residual else None
        )

    def join(self, out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if self.residual:
            out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class BasicBlock(Block):
    """Two 3x3 convolutions; the first has the stride, both have the dilation."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        shortcut: str,
        stride_in_1x1: bool,
        dilation: int = 1,
    ):
        super().__init__(shortcut, in_channels, channels, stride)
        self.conv1 = Conv(in_channels, channels, 3, stride=stride, dilation=dilation)
        self.conv2 = Conv(channels, channels, 3, dilation=dilation, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.join(self.conv2(self.conv1(x)), x)


class Bottleneck(Block):
    """1x1, 3x3, 1x1. The stride is in the first 1x1 (MSRA) or in the 3x3 (torchvision)."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        shortcut: str,
        stride_in_1x1: bool,
        dilation: int = 1,
    ):
        super().__init__(shortcut, in_channels, 4 * channels, stride)
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = Conv(in_channels, channels, 1, stride=stride_1x1)
        self.conv2 = Conv(channels, channels, 3, stride=stride_3x3, dilation=dilation)
        self.conv3 = Conv(channels, 4 * channels, 1, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.join(self.conv3(self.conv2(self.conv1(x))), x)


class Stem(nn.Module):
    """Before the first block: `imagenet` 7x7/2 and 3x3/2 pooling, `small` 3x3/2, `cifar` 3x3/1."""

    def __init__(self, kind: str, channels: int):
        super().__init__()
        if kind not in STEMS:
            raise ValueError(f"stem is {kind!r}, expected one of {', '.join(STEMS)}")
        kernel_size, stride = {"imagenet": (7, 2), "small": (3, 2), "cifar": (3, 1)}[kind]
        self.conv1 = Conv(3, channels, kernel_size, stride=stride)
        self.pools = kind == "imagenet"
        self.stride = stride * (2 if self.pools else 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1) if self.pools else x


class ResNet(Net):
    """A residual net, or a plain one with `shortcut="none"`.

    Input (N, 3, H, W), logits (N, num_classes).

    Args:
        block: `BasicBlock` or `Bottleneck`.
        blocks_per_stage: number of blocks of res2, res3, …
        channels: of res2's 3x3 convolutions; doubled from stage to stage.
        num_classes: K.
        shortcut: "none", "A", "B" or "C" (section 3.3 of the paper, page 4).
        stride_in_1x1: stride 2 in the first 1x1 of a bottleneck (the paper's nets and
            Detectron2's default), else in its 3x3 (torchvision). Basic blocks have no choice.
        stem: "imagenet", "small" (3x3/2 without pooling), "cifar".
        pooled_size: cells a side per region for the tail; its first block halves them.
        res5_dilation: 1, or 2 for a res5 at the stride of res4, its 3x3 convolutions dilated
            (DC5: Dai et al. 2016, R-FCN, as Detectron2 has it; there for bottlenecks alone).

    Raises:
        ValueError: unknown `shortcut`, `stem` or `res5_dilation`, or no res5 to dilate; lists
            the known ones.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks_per_stage: Sequence[int],
        channels: int,
        num_classes: int,
        *,
        shortcut: str = "B",
        stride_in_1x1: bool = True,
        stem: str = "imagenet",
        pooled_size: int = 14,
        res5_dilation: int = 1,
    ):
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut is {shortcut!r}, expected one of {', '.join(SHORTCUTS)}")
        if res5_dilation not in (1, 2):
            raise ValueError(f"res5_dilation is {res5_dilation}, expected 1 or 2")
        if res5_dilation > 1 and len(blocks_per_stage) < 4:
            raise ValueError(
                f"res5_dilation is {res5_dilation}, but this net ends with "
                f"res{len(blocks_per_stage) + 1}; leave it at 1"
            )
        self.num_classes = num_classes
        self.stride_in_1x1 = stride_in_1x1
        self.shortcut = shortcut
        self.pooled_size = pooled_size
        self.stem = Stem(stem, channels)
        stages = [Stage("stem", channels, self.stem.stride)]
        in_channels = channels
        for i, num_blocks in enumerate(blocks_per_stage):
            name, width = f"res{i + 2}", channels * 2**i
            dilation = res5_dilation if name == "res5" else 1
            first_stride = 1 if i == 0 or dilation > 1 else 2
            stage = nn.Sequential()
            for j in range(num_blocks):
                stride = first_stride if j == 0 else 1
                stage.append(block(in_channels, width, stride, shortcut, stride_in_1x1, dilation))
                in_channels = width * block.expansion
            self.add_module(name, stage)
            stages.append(Stage(name, in_channels, stages[-1].stride * first_stride))
        self.avgpool = GlobalAveragePool()
        self.linear = nn.Linear(in_channels, num_classes)
        self._stages = tuple(stages)
        self._tail_names = (stages[-1].name, "avgpool")
        self.shared_stage = stages[-2].name
        self.tail_channels = in_channels
        init_he(self)
        # Not in the paper; as fb.resnet.torch: torch's own weights, bias 0. Behind 2,048 channels
        # their deviation is 0.013; in a narrow net a fixed 0.01 would make the gradient vanish.
        nn.init.uniform_(self.linear.weight, -(in_channels**-0.5), in_channels**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self._stages:
            x = self.get_submodule(stage.name)(x)
        return self.linear(self.avgpool(x))
