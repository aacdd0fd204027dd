"""A dilated res5 (DC5): the same tensors at twice the resolution."""

import pytest
import torch

from resdet import nets


def dilations(net):
    return {n: m.dilation[0] for n, m in net.named_modules() if isinstance(m, torch.nn.Conv2d)}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "plain34"])
def test_res5_keeps_the_stride_of_res4_and_dilates_its_3x3_alone(name):
    """As Detectron2's RES5_DILATION 2; the promise of `stages()` is kept by the maps."""
    net = nets.build(name, 5, width=0.125, res5_dilation=2).eval()
    assert [(s.name, s.stride) for s in net.stages()] == [
        ("stem", 4), ("res2", 4), ("res3", 8), ("res4", 16), ("res5", 16),
    ]  # fmt: skip
    assert net.shared_stage == "res4"
    x = torch.randn(1, 3, 64, 96)
    assert net.trunk("res5")(x).shape == (1, net.stages()[-1].channels, 4, 6)
    modules = dict(net.named_modules())
    for layer, dilation in dilations(net).items():
        is_dilated = layer.startswith("res5") and modules[layer].kernel_size == (3, 3)
        assert dilation == (2 if is_dilated else 1), layer


def test_off_is_the_net_without_the_option():
    """Dilation 1 everywhere, and the same numbers to the bit; the tensors never differ."""
    built = []
    for options in ({}, {"res5_dilation": 1}, {"res5_dilation": 2}):
        torch.manual_seed(0)
        built.append(nets.build("resnet50", 5, width=0.125, **options).eval())
    plain, off, dilated = built
    assert set(dilations(off).values()) == {1}
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(plain(x), off(x)) and not torch.equal(plain(x), dilated(x))
    states = [net.state_dict() for net in built]
    assert states[0].keys() == states[2].keys()
    assert all(torch.equal(states[0][k], states[2][k]) for k in states[0])


@pytest.mark.numeric
def test_every_second_cell_of_the_dilated_map_is_the_undilated_map():
    """The à trous identity: with the stride in the 1x1, even cells see even cells alone."""
    torch.manual_seed(0)
    plain = nets.build("resnet50", 5, width=0.125).double().eval()
    dilated = nets.build("resnet50", 5, width=0.125, res5_dilation=2).double().eval()
    dilated.load_state_dict(plain.state_dict())
    x = torch.randn(2, plain.stages()[-2].channels, 10, 14, dtype=torch.float64)
    torch.testing.assert_close(dilated.res5(x)[:, :, ::2, ::2], plain.res5(x))


@pytest.mark.parametrize(
    ("name", "dilation", "message"),
    [
        ("resnet50", 3, "res5_dilation is 3, expected 1 or 2"),
        ("cifar_resnet20", 2, "res5_dilation is 2, but this net ends with res4"),
        ("vgg16", 2, "vgg16 has no option res5_dilation"),
    ],
)
def test_what_cannot_be_dilated_is_refused(name, dilation, message):
    with pytest.raises(ValueError, match=message):
        nets.build(name, 5, width=0.125, res5_dilation=dilation)
