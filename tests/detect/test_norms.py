"""Frozen norms inside any net: the same function as before, whatever hangs on the norm."""

import copy

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm

from resdet import nets
from resdet.detect.architecture import norms
from resdet.detect.architecture.backbone import freeze
from resdet.detect.architecture.norms import FrozenBatchNormAct2d, disable_dropout, freeze_norms
from resdet.errors import ConfigError
from tests.support import detectron2_main


def with_statistics(net):
    torch.manual_seed(0)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(std=0.3)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
    return net.eval()


def without_counters(net):
    return [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
@pytest.mark.numeric
def test_our_nets_freeze_as_detectron2_freezes_them(name):
    """The oracle is Detectron2's own conversion: equal modules, names and bits."""
    options = {"width": 0.125, **({"fc_channels": 8} if name.startswith("vgg") else {})}
    net = with_statistics(nets.build(name, 3, **options))
    ours = freeze_norms(copy.deepcopy(net))
    theirs = FrozenBatchNorm2d.convert_frozen_batchnorm(copy.deepcopy(net))
    assert [(n, type(m)) for n, m in ours.named_modules()] == [
        (n, type(m)) for n, m in theirs.named_modules()
    ]
    # Main's conversion keeps a counter that its frozen norms do not have otherwise.
    assert list(ours.state_dict()) == without_counters(theirs)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(x), theirs(x))


def test_names_of_tensors_are_those_of_both_detectron2s(monkeypatch):
    """With the conversion of Detectron2's main a frozen net has the names that it has with 0.6."""
    net = with_statistics(nets.build("resnet18", 3, width=0.125))
    monkeypatch.setattr(
        norms.FrozenBatchNorm2d,
        "convert_frozen_batchnorm",
        staticmethod(detectron2_main.convert_frozen_batchnorm),
    )
    assert list(freeze_norms(copy.deepcopy(net)).state_dict()) == without_counters(net)


@pytest.mark.parametrize("name", ["regnetx_002", "test_efficientnet", "resnet18", "convnext_atto"])
def test_a_frozen_net_of_timm_computes_what_it_did(name):
    """The oracle is the net in eval mode before; training mode must change nothing any more."""
    pytest.importorskip("timm")
    net = with_statistics(nets.build(f"timm:{name}", 3))
    names = without_counters(net)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = net(x)
        frozen = freeze(net).train()
        # Norm by F.batch_norm in both, so to the bit.
        assert torch.equal(frozen(x), expected)
    assert list(frozen.state_dict()) == names
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())


@pytest.mark.numeric
def test_detectron2s_conversion_would_lose_timms_activation():
    """Why there is a conversion of our own: the activation sits inside the norm."""
    layers = pytest.importorskip("timm.layers")
    norm = with_statistics(layers.BatchNormAct2d(4, act_layer=nn.Hardswish))
    x = torch.randn(1, 4, 8, 8)
    theirs = FrozenBatchNorm2d.convert_frozen_batchnorm(copy.deepcopy(norm))
    assert not torch.allclose(theirs(x), norm(x), atol=0.01)
    ours = freeze_norms(copy.deepcopy(norm))
    assert type(ours) is FrozenBatchNormAct2d and isinstance(ours.act, nn.Hardswish)
    assert torch.equal(ours(x), norm(x))
    y = x.clone().requires_grad_()
    # Where gradients flow Detectron2 multiplies and adds instead: some five roundings of 6e-8 of
    # numbers below 5, which a sum near 0 keeps.
    torch.testing.assert_close(ours(y), norm(x), rtol=1e-5, atol=1e-6)
    ours(y).sum().backward()
    assert y.grad is not None


def test_norms_without_statistics_of_data_stay_as_they_are():
    net = nn.Sequential(nn.GroupNorm(1, 4), nn.LayerNorm(4))
    kinds = [type(m) for m in net]
    assert [type(m) for m in freeze_norms(net)] == kinds
    assert all(p.requires_grad for p in net.parameters())


class Scaled(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Renamed(nn.BatchNorm2d):
    """Adds nothing: its forward pass is inherited."""


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (Scaled(4), "the norm 0 is a Scaled, which resdet cannot freeze"),
        (nn.BatchNorm1d(4), "the norm 0 is a BatchNorm1d, which resdet cannot freeze"),
        (nn.BatchNorm2d(4, track_running_stats=False), r"the norm 0 \(BatchNorm2d\) keeps no stat"),
    ],
)
def test_a_norm_that_would_become_another_function_is_refused(norm, message):
    with pytest.raises(ConfigError, match=message):
        freeze_norms(nn.Sequential(norm))


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, Renamed, nn.SyncBatchNorm, NaiveSyncBatchNorm])
def test_plain_norms_and_their_heirs_are_frozen(kind):
    assert type(freeze_norms(kind(4))) is FrozenBatchNorm2d


def test_a_frozen_stage_drops_nothing():
    """Dropout, drop path and drop block of a stage at rest are off, also in training mode."""
    drop = pytest.importorskip("timm.layers")
    layers = [nn.Dropout(0.9), nn.Dropout2d(0.9), drop.DropPath(0.9), drop.DropBlock2d(0.9, 3)]
    net = disable_dropout(nn.Sequential(*layers)).train()
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(net(x), x)


class Dense(nn.Module):
    """A layer of DenseNet, in torchvision and timm: it drops by a function."""

    def __init__(self, drop_rate):
        super().__init__()
        self.drop_rate = drop_rate

    def forward(self, x):
        return nn.functional.dropout(x, self.drop_rate, self.training)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [(nn.MultiheadAttention(4, 2, dropout=0.5), 3), (Dense(0.5), 1), (nn.Dropout(0.5), 1)],
    ids=["attention", "dense layer", "dropout"],
)
def test_what_is_fixed_drops_nothing(layer, inputs):
    """In training mode as in evaluation mode; before it did."""
    x = [torch.randn(3, 2, 4)] * inputs
    expected = layer.eval()(*x)
    assert not same(layer.train()(*x), expected)
    assert same(disable_dropout(layer).train()(*x), expected)


def same(one, other):
    first, second = (found[0] if isinstance(found, tuple) else found for found in (one, other))
    return torch.equal(first, second)
