"""Stages, trunk and tail of every family; names, options and what is refused."""

import pytest
import torch
from torch import nn

from resdet import nets
from resdet.nets.resnet import ZeroPaddedShortcut

SMALL = {
    "resnet18": {"width": 0.125},
    "resnet50": {"width": 0.125},
    "plain34": {"width": 0.125},
    "plain50": {"width": 0.125},
    "cifar_resnet20": {"width": 0.5},
    "vgg11": {"width": 0.125, "fc_channels": 32},
    "vgg16_bn": {"width": 0.125, "fc_channels": 32},
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.numeric
def test_trunk_and_tail_are_the_classifier(name):
    """Run one after the other, with the pooling between them, they give the classifier's logits."""
    torch.manual_seed(0)
    net = nets.build(name, num_classes=5, **SMALL[name]).eval()
    x = torch.randn(2, 3, 64, 64)
    shared = net.trunk()(x)
    if hasattr(net, "last_pool"):
        shared = net.last_pool(shared)
    torch.testing.assert_close(net.linear(net.tail()(shared)), net(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", SMALL)
def test_stages_give_channels_and_stride_of_their_maps(name):
    """`stages()` is a promise made before any tensor exists; here it is kept."""
    net = nets.build(name, num_classes=5, **SMALL[name]).eval()
    x = torch.randn(1, 3, 64, 64)
    for stage in net.stages():
        y = net.trunk(stage.name)(x)
        assert y.shape == (1, stage.channels, 64 // stage.stride, 64 // stage.stride)


@pytest.mark.parametrize(
    ("name", "shared", "stride"),
    [
        ("resnet50", "res4", 16),
        ("plain18", "res4", 16),
        ("vgg16", "conv5", 16),
        ("cifar_resnet20", "res3", 2),
    ],
)
def test_shared_stage_is_the_papers(name, shared, stride):
    """Appendix A: res4 of residual nets; conv5 of VGG; both at stride 16."""
    with torch.device("meta"):
        net = nets.build(name)
    assert net.shared_stage == shared
    assert {s.name: s.stride for s in net.stages()}[shared] == stride


def test_trunk_and_tail_share_the_nets_own_modules():
    """Nothing is copied: what trains as a backbone is the classifier's module."""
    net = nets.build("resnet18", width=0.125)
    assert net.trunk().res2 is net.res2
    assert net.tail().res5 is net.res5


def test_parameter_names_are_detectron2s():
    """Detectron2's ResNet names, written out: public for ever, so a change must fail here."""
    with torch.device("meta"):
        names = set(nets.build("resnet50").state_dict())
    expected = {
        "stem.conv1.weight",
        "stem.conv1.norm.running_var",
        "res2.0.shortcut.weight",
        "res2.0.shortcut.norm.bias",
        "res5.2.conv3.norm.weight",
        "linear.bias",
    }
    assert expected <= names


def test_projection_only_where_channels_or_stride_change():
    """He et al. 2015, section 3.3: options A, B and C."""
    with torch.device("meta"):
        shortcuts = {
            option: [
                b.shortcut
                for s in (2, 3, 4, 5)
                for b in getattr(nets.build("resnet34", shortcut=option), f"res{s}")
            ]
            for option in "ABC"
        }
    assert sum(isinstance(s, ZeroPaddedShortcut) for s in shortcuts["A"]) == 3
    assert sum(isinstance(s, nn.Conv2d) for s in shortcuts["A"]) == 0
    assert sum(isinstance(s, nn.Conv2d) for s in shortcuts["B"]) == 3
    assert sum(isinstance(s, nn.Conv2d) for s in shortcuts["C"]) == 16


def test_zero_padded_shortcut_by_hand():
    """Every second pixel, the copied channels first, zeros behind (worked by hand)."""
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    y = ZeroPaddedShortcut(1, 3, 2)(x)
    assert y[0, 0].tolist() == [[0, 2], [8, 10]]
    assert y.shape == (1, 3, 2, 2)
    assert not y[0, 1:].any()


@pytest.mark.numeric
def test_plain_net_adds_nothing():
    """A block of a plain net is its two convolutions and a ReLU."""
    net = nets.build("plain18", width=0.125).eval()
    block = net.res2[1]
    x = torch.randn(1, 8, 8, 8)
    # The same two layers in both: to the bit, but for the defaults of float32 (1.3e-6).
    torch.testing.assert_close(block(x), torch.relu(block.conv2(block.conv1(x))))


def test_plain_nets_have_no_shortcut_module():
    with torch.device("meta"):
        assert not any("shortcut" in name for name in nets.build("plain34").state_dict())


def test_demo_nets_give_the_tail_the_same_cells_in_both_uses():
    """A crop of 48 has 6 x 6 cells at stride 8, and a region is pooled to 6 x 6 (docs/demo.md)."""
    for net in (
        nets.build("resnet18", 10, width=0.5, stem="small", pooled_size=6),
        nets.build("vgg11", 10, width=0.375, pools=3, pooled_size=6, fc_channels=256),
    ):
        assert net.eval().trunk()(torch.zeros(1, 3, 48, 48)).shape[-2:] == (6, 6)
        assert net.pooled_size == 6


def test_vgg_takes_other_sizes_as_torchvision_does():
    """The cells before fc6 are averaged to the fixed number."""
    net = nets.build("vgg11", 10, width=0.125, fc_channels=16).eval()
    assert net(torch.zeros(1, 3, 96, 160)).shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet26", {}, "no net is called 'resnet26'; did you mean resnet"),
        ("resnet50", {"pools": 3}, "resnet50 has no option pools; it takes width, shortcut"),
        ("resnet50", {"shortcut": "D"}, "shortcut is 'D', expected one of none, A, B, C"),
        ("resnet50", {"stem": "big"}, "stem is 'big', expected one of imagenet, small, cifar"),
        ("vgg16", {"pools": 6}, "pools is 6, expected 1 to 5"),
        ("cifar_resnet21", {}, "6n \\+ 2"),
        ("resnet18", {"width": 0}, "width is 0.0"),
        ("resnet18", {"num_classes": 0}, "num_classes is 0"),
    ],
)
def test_refusals_show_value_and_choices(name, options, message):
    with pytest.raises(ValueError, match=message):
        nets.build(name, **options)


def test_unknown_stage_lists_the_known():
    net = nets.build("resnet18", width=0.125)
    with pytest.raises(
        ValueError, match="no stage 'res6'; this net has stem, res2, res3, res4, res5"
    ):
        net.trunk("res6")
    with pytest.raises(ValueError, match="the tail can start after res4 or later, not 'res2'"):
        net.tail("res2")


def test_every_name_builds():
    """Their number is asserted, so that the walk cannot shrink."""
    names = nets.names()
    assert len(names) == 2 * 5 + 4 * 2 + 2 * 6
    for name in names:
        with torch.device("meta"):
            assert nets.build(name, 7).linear.out_features == 7


def test_a_narrow_vgg_keeps_the_size_of_its_signal():
    """He et al. 2015 (ICCV): with fan-in, mean squares stay the same layer by layer."""
    torch.manual_seed(0)
    net = nets.build("vgg11", 10, width=0.25, pools=3, pooled_size=6, fc_channels=256).eval()
    x = torch.randn(16, 3, 48, 48)
    with torch.no_grad():
        features = net.tail()(net.last_pool(net.trunk()(x)))
    assert 0.2 < features.square().mean().sqrt() < 5
