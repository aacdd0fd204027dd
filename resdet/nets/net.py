"""The interface of our nets: the same module as classifier and as backbone.

A net is a chain of named stages. As a classifier it runs to the logits. As a backbone its
`trunk` runs once per image and its `tail` once per region, on the same parameters under the
same names; nothing is converted.

The three methods of a foreign net (`resdet.nets.check_net` tests them, docs/own_net.md explains
them): `stages()`, `trunk(to=None)`, `tail(after=None)`; trunk and tail are an `nn.Sequential` of
named children or a `Chain`. Beside them the attributes of `Net` below, and `forward` to the logits.

Terms: the stem comes before the first block, a stage is what runs at one resolution; N images,
C channels, H x W cells, R regions.

Not for: how a region is pooled, or what is frozen (`resdet.detect`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from resdet.nets.chain import Chain


@dataclass(frozen=True)
class Stage:
    """One named stage: its output has `channels` channels, one cell per `stride` pixels."""

    name: str
    channels: int
    stride: int


class Net(nn.Module):
    """Base of our nets. Subclasses fill `_stages` and `_tail_names` and define `forward`.

    Attributes:
        shared_stage: last stage of the trunk when the net is a C4-style backbone
            (res4 of residual nets, conv5 of VGG; He et al. 2015, appendix A).
        pooled_size: cells a side that the tail takes per region.
        tail_channels: D, length of what the tail gives per region.
        num_classes: K of the classifier.
    """

    shared_stage: str
    pooled_size: int
    tail_channels: int
    num_classes: int
    _stages: tuple[Stage, ...]
    _tail_names: tuple[str, ...]

    def stages(self) -> tuple[Stage, ...]:
        """The stages that give a map, in the order in which they run."""
        return self._stages

    def trunk(self, to: str | None = None) -> Chain:
        """The layers up to and including the stage `to` (`shared_stage` by default), by name.

        Maps (N, 3, H, W) to (N, C, H / stride, W / stride), rounded up.

        Raises:
            ValueError: there is no stage `to`; lists those that are.
        """
        names = [stage.name for stage in self._stages]
        to = to or self.shared_stage
        if to not in names:
            raise ValueError(f"no stage {to!r}; this net has {', '.join(names)}")
        return self._chain(self._upto(to))

    def tail(self, after: str | None = None) -> Chain:
        """What the classifier has behind the shared stage, by name, without the last linear layer.

        Maps (R, C, P, P) to (R, D), P = `pooled_size`. Pooling that stands between trunk and
        tail in the classifier (VGG's last one) is left out: RoI pooling takes its place.

        Raises:
            ValueError: `after` is not a stage behind which a tail can start.
        """
        after = after or self.shared_stage
        names = [stage.name for stage in self._stages]
        if after not in names[names.index(self.shared_stage) :]:
            raise ValueError(
                f"the tail can start after {self.shared_stage} or later, not {after!r}"
            )
        done = set(self._upto(after))
        return self._chain([name for name in self._tail_names if name not in done])

    def _upto(self, stage: str) -> list[str]:
        """Names of the layers up to and including a stage; here every layer is a stage."""
        names = [s.name for s in self._stages]
        return names[: names.index(stage) + 1]

    def _chain(self, names: Iterable[str]) -> Chain:
        return Chain((name, self.get_submodule(name)) for name in names)


class Conv(nn.Conv2d):
    """Convolution, then batch norm and ReLU where asked for; zero padding keeps the size.

    Names inside are Detectron2's (`weight`, `norm.weight`), so its checkpoints load by name.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: bool = True,
        bias: bool = False,
        relu: bool = True,
    ):
        padding = dilation * (kernel_size // 2)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias
        )
        self.norm = nn.BatchNorm2d(out_channels) if norm else None
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = super().forward(x)
        if self.norm is not None:
            x = self.norm(x)
        return torch.relu_(x) if self.relu else x


class GlobalAveragePool(nn.Module):
    """Mean over the cells: (N, C, H, W) to (N, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def init_he(module: nn.Module, *, fan: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """He et al. 2015 (ICCV) for convolutions, N(0, 0.01^2) for linear layers, biases 0.

    Fan-out where norms follow, as fb.resnet.torch and Detectron2 do; the paper does not state it.
    Without norms fan-in keeps the signal's size from layer to layer, also in narrow nets.
    """
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode=fan, nonlinearity="relu")
        elif isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, std=0.01)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.ones_(m.weight)
        if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and m.bias is not None:
            nn.init.zeros_(m.bias)
