"""Parameters and multiply-adds against the published counts."""

import pytest
import torch

from resdet import nets

# name, options, parameters, multiply-adds at 224 (32 for CIFAR). From He et al. 2015, table 1, and
# independent analytic counts; the nets that torchvision has equal its own count to the unit.
COUNTS = [
    ("plain18", {}, 11_515_688, 1_794_805_760),
    ("resnet18", {"shortcut": "A"}, 11_515_688, 1_794_805_760),
    ("resnet18", {"shortcut": "B"}, 11_689_512, 1_814_073_344),
    ("resnet18", {"shortcut": "C"}, 12_043_816, 1_878_298_624),
    ("plain34", {}, 21_623_848, 3_644_493_824),
    ("resnet34", {"shortcut": "A"}, 21_623_848, 3_644_493_824),
    ("resnet34", {"shortcut": "B"}, 21_797_672, 3_663_761_408),
    ("resnet34", {"shortcut": "C"}, 22_716_840, 3_830_747_136),
    ("resnet50", {"shortcut": "A"}, 22_780_456, 3_498_311_680),
    ("resnet50", {"shortcut": "A", "stride_in_1x1": False}, 22_780_456, 3_729_522_688),
    ("resnet50", {}, 25_557_032, 3_857_973_248),
    ("resnet50", {"stride_in_1x1": False}, 25_557_032, 4_089_184_256),
    ("resnet50", {"shortcut": "C"}, 40_128_552, 6_324_224_000),
    ("resnet50", {"shortcut": "C", "stride_in_1x1": False}, 40_128_552, 6_555_435_008),
    ("resnet101", {}, 44_549_160, 7_570_194_432),
    ("resnet101", {"stride_in_1x1": False}, 44_549_160, 7_801_405_440),
    ("resnet152", {}, 60_192_808, 11_282_415_616),
    ("resnet152", {"stride_in_1x1": False}, 60_192_808, 11_513_626_624),
    ("vgg11", {}, 132_863_336, 7_609_090_048),
    ("vgg11_bn", {}, 132_868_840, 7_609_090_048),
    ("vgg13", {}, 133_047_848, 11_308_466_176),
    ("vgg13_bn", {}, 133_053_736, 11_308_466_176),
    ("vgg16", {}, 138_357_544, 15_470_264_320),
    ("vgg16_bn", {}, 138_365_992, 15_470_264_320),
    ("vgg19", {}, 143_667_240, 19_632_062_464),
    ("vgg19_bn", {}, 143_678_248, 19_632_062_464),
]
CIFAR_COUNTS = [
    (20, 269_722, 40_551_040, 272_474, 40_813_184),
    (32, 464_154, 68_862_592, 466_906, 69_124_736),
    (44, 658_586, 97_174_144, 661_338, 97_436_288),
    (56, 853_018, 125_485_696, 855_770, 125_747_840),
    (110, 1_727_962, 252_887_680, 1_730_714, 253_149_824),
    (1202, 19_421_274, 2_829_238_912, 19_424_026, 2_829_501_056),
]


@pytest.mark.parametrize(("name", "options", "parameters", "multiply_adds"), COUNTS)
def test_imagenet_nets_have_the_published_counts(name, options, parameters, multiply_adds):
    """He et al. 2015, table 1, and exact counts, layer by layer."""
    with torch.device("meta"):
        net = nets.build(name, **options)
    assert nets.parameters(net) == parameters
    assert nets.multiply_adds(net) == multiply_adds


@pytest.mark.parametrize(("depth", "a", "macs_a", "b", "macs_b"), CIFAR_COUNTS)
def test_cifar_nets_have_the_published_counts(depth, a, macs_a, b, macs_b):
    """He et al. 2015, table 6; option A and the plain twin have the same count."""
    for name, options, count, macs in (
        (f"cifar_resnet{depth}", {}, a, macs_a),
        (f"cifar_plain{depth}", {}, a, macs_a),
        (f"cifar_resnet{depth}", {"shortcut": "B"}, b, macs_b),
    ):
        with torch.device("meta"):
            net = nets.build(name, num_classes=10, **options)
        assert nets.parameters(net) == count
        assert nets.multiply_adds(net, 32) == macs


def test_counting_leaves_the_net_as_it_was():
    """No hook stays, and a training net is training again."""
    with torch.device("meta"):
        net = nets.build("resnet18")
    nets.multiply_adds(net)
    assert net.training
    assert not any(m._forward_hooks for m in net.modules())
