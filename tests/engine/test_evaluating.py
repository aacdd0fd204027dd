"""Modes around a measurement: every module as it was, and nothing of an older one kept."""

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from resdet import nets
from resdet.engine.evaluation import evaluating


class KeepsBiases(nn.Module):
    """As attention of timm 1.0.9 (LeViT, TinyViT, EfficientFormer): it computes something of its
    weights once for evaluation, and forgets it when it trains again."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3, 1, 1))
        self.conv = nn.Conv2d(3, 3, 1)
        self.kept = None

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self.kept = None
        return self

    def forward(self, x):
        if self.training:
            return self.conv(x) + self.bias
        if self.kept is None:
            self.kept = self.bias.detach().clone()
        return self.conv(x) + self.kept


def test_modes_are_what_they_were():
    """A part that is fixed stays so."""
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout())).train()
    net[1].eval()
    with evaluating(net):
        assert not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == [True, True, False, False]


@torch.no_grad()
def test_a_second_measurement_and_a_count_keep_nothing_of_the_weights_before():
    net = nn.Sequential(KeepsBiases()).train()
    x = torch.zeros(1, 3, 4, 4)
    for measure in (evaluating, lambda net: nets.multiply_adds(net, 4)):
        if measure is evaluating:
            with evaluating(net):
                net(x)
        else:
            measure(net)
        net[0].bias.add_(1)
        with evaluating(net):
            measured = net(x)
        assert torch.equal(measured, net.train()(x))
