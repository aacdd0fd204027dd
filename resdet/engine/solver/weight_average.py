"""The exponential average of a net's weights over the steps, by torch's `AveragedModel`.

    average = decay * average + (1 - decay) * weights

after every `period`-th step, beginning with the first; during the warm-up the average is a copy.
Statistics of batch norms are averaged as weights are. So torchvision's references do it; there the
decay is stated for an epoch's worth of steps and scaled by batch and period.

Not for: the mean of the last checkpoints (stochastic weight averaging).
"""

from __future__ import annotations

import torch
from detectron2.engine import HookBase
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def average_of(net: nn.Module, decay: float) -> AveragedModel:
    """A copy of the net that `WeightAverage` keeps; its net is `.module`."""
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    return average.requires_grad_(False)


class WeightAverage(HookBase):
    """Updates the average after a step; it stands before the hooks that score and write.

    Args:
        average: of `average_of(net, …)`.
        warmup: steps in which the average is a copy of the net.
    """

    def __init__(self, average: AveragedModel, net: nn.Module, *, period: int, warmup: int):
        self.average = average
        self.net = net
        self.period = period
        self.warmup = warmup

    @torch.no_grad()
    def after_step(self) -> None:
        if self.trainer.iter % self.period:
            return
        self.average.update_parameters(self.net)
        if self.trainer.iter < self.warmup:
            # With none counted the next update copies.
            self.average.n_averaged.fill_(0)
