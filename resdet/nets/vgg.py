"""VGG-11, 13, 16 and 19 (Simonyan, Zisserman 2014, arXiv:1409.1556), with and without BN.

Stages are `conv1` to `conv5`, each opened by the pooling that closes the stage before it, so
that the trunk ends with the last ReLU of conv5 at stride 16, as Faster R-CNN takes it. The tail
is fc6 and fc7 with their dropout.

Not for: weights of other origins (`resdet.weights.origins`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from resdet.nets.net import Conv, Net, Stage, init_he


class ConvStage(nn.Sequential):
    """3x3 convolutions of one resolution, after a 2x2 max pooling where `pools`."""

    def __init__(self, in_channels: int, channels: int, num_convs: int, *, norm: bool, pools: bool):
        # torchvision's VGG-BN keeps the convolutions' biases beside the norms; so do we.
        super().__init__(
            *(
                Conv(in_channels if i == 0 else channels, channels, 3, norm=norm, bias=True)
                for i in range(num_convs)
            )
        )
        self.pools = pools

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.max_pool2d(x, 2) if self.pools else x)


class FullyConnected(nn.Linear):
    """Linear, ReLU, dropout on flattened input: (R, …) to (R, out)."""

    def __init__(self, in_features: int, out_features: int, dropout: float):
        super().__init__(in_features, out_features)
        self.dropout = dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu_(super().forward(x.flatten(1)))
        return F.dropout(x, self.dropout, self.training)


class LastPool(nn.Module):
    """What stands between the last stage and fc6: pooling, then a fixed number of cells.

    At 224 x 224 the second step changes nothing; at other sizes it averages, as torchvision does.
    """

    def __init__(self, pools: bool, pooled_size: int):
        super().__init__()
        self.pools = pools
        self.pooled_size = pooled_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(x, 2) if self.pools else x
        if x.shape[-2:] != (self.pooled_size, self.pooled_size):
            x = F.adaptive_avg_pool2d(x, self.pooled_size)
        return x


class VGG(Net):
    """A VGG net. Input (N, 3, H, W), logits (N, num_classes).

    Args:
        convs_per_stage: number of convolutions of conv1, conv2, …
        channels: of conv1; doubled up to the fourth stage.
        num_classes: K.
        norm: batch norm behind every convolution.
        pools: number of 2x2 poolings. With five, as published, the fifth closes conv5. With
            fewer the net stops at stage `pools + 1`, whose map goes to fc6 unpooled.
        pooled_size: cells a side that fc6 takes.
        fc_channels: outputs of fc6 and fc7.
        dropout: probability on fc6 and fc7, in [0, 1).

    Raises:
        ValueError: `pools` is not between 1 and 5.
    """

    def __init__(
        self,
        convs_per_stage: Sequence[int],
        channels: int,
        num_classes: int,
        *,
        norm: bool = False,
        pools: int = 5,
        pooled_size: int = 7,
        fc_channels: int = 4096,
        dropout: float = 0.5,
    ):
        super().__init__()
        if not 1 <= pools <= 5:
            raise ValueError(f"pools is {pools}, expected 1 to 5")
        self.num_classes = num_classes
        self.pooled_size = pooled_size
        in_channels, stages = 3, []
        for i, num_convs in enumerate(convs_per_stage[: pools + 1]):
            out_channels = channels * min(2**i, 8)
            stage = ConvStage(in_channels, out_channels, num_convs, norm=norm, pools=i > 0)
            self.add_module(f"conv{i + 1}", stage)
            stages.append(Stage(f"conv{i + 1}", out_channels, 2**i))
            in_channels = out_channels
        self.last_pool = LastPool(pools >= len(stages), pooled_size)
        self.fc6 = FullyConnected(in_channels * pooled_size**2, fc_channels, dropout)
        self.fc7 = FullyConnected(fc_channels, fc_channels, dropout)
        self.linear = nn.Linear(fc_channels, num_classes)
        self._stages = tuple(stages)
        self._tail_names = ("fc6", "fc7")
        self.shared_stage = stages[-1].name
        self.tail_channels = fc_channels
        init_he(self, fan="fan_out" if norm else "fan_in")
        # N(0, 0.01^2) suits 25,088 inputs; in a narrow net the outputs of fc6 and fc7 would vanish.
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self._stages:
            x = self.get_submodule(stage.name)(x)
        return self.linear(self.fc7(self.fc6(self.last_pool(x))))
