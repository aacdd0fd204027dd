"""Norms as part of the convolutions before them."""

import copy

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.layers import FrozenBatchNorm2d

from resdet.detect.fast.folding import fold_norms, fold_while_training
from resdet.nets import build

pytestmark = pytest.mark.numeric


def net_with_norms(frozen=True):
    torch.manual_seed(0)
    net = build("resnet18", 3, width=0.125).double().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.bias, std=0.1)
    return FrozenBatchNorm2d.convert_frozen_batchnorm(net) if frozen else net


@pytest.mark.parametrize("frozen", [True, False])
def test_folded_net_gives_the_same_logits(frozen):
    """ResNet-18 has 20 norms; live ones are folded with their running statistics."""
    net = net_with_norms(frozen)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = net(x)
    assert fold_norms(net) == 20
    torch.testing.assert_close(net(x), expected, rtol=1e-11, atol=1e-11)
    assert fold_norms(net) == 0


def test_folding_while_training_keeps_names_values_and_gradients():
    """What is trained stays what is saved: no tensor moves, and each gets the same gradient."""
    net = net_with_norms()
    other = copy.deepcopy(net)
    assert fold_while_training(other) == 20
    before, after = net.state_dict(), other.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for each in (net, other):
        each.train()(x).square().sum().backward()
    for (name, one), (_, two) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-9, atol=1e-12, msg=name)


def test_live_norms_stay_live_while_training():
    assert fold_while_training(net_with_norms(frozen=False)) == 0
