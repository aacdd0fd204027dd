"""Parameters by kind, products by layer: the paper's tables, other counters, worked cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resdet import nets
from resdet.nets.layer_counts import HEAD, ITSELF, count_layers

# name, options, weights, norms' scales and shifts, biases, all, multiply-adds at 224. Exact counts
# of the nets of He et al. 2015, table 1, by two builds that are not ours (one analytic, one of
# modules with a counter); the rows that torchvision has equal its own.
IMAGENET = [
    ("plain18", {}, 11_506_880, 7_808, 1_000, 11_515_688, 1_794_805_760),
    ("resnet18", {"shortcut": "A"}, 11_506_880, 7_808, 1_000, 11_515_688, 1_794_805_760),
    ("resnet18", {"shortcut": "B"}, 11_678_912, 9_600, 1_000, 11_689_512, 1_814_073_344),
    ("resnet18", {"shortcut": "C"}, 12_031_168, 11_648, 1_000, 12_043_816, 1_878_298_624),
    ("plain34", {}, 21_607_616, 15_232, 1_000, 21_623_848, 3_644_493_824),
    ("resnet34", {"shortcut": "A"}, 21_607_616, 15_232, 1_000, 21_623_848, 3_644_493_824),
    ("resnet34", {"shortcut": "B"}, 21_779_648, 17_024, 1_000, 21_797_672, 3_663_761_408),
    ("resnet34", {"shortcut": "C"}, 22_693_056, 22_784, 1_000, 22_716_840, 3_830_747_136),
    ("resnet50", {"shortcut": "A"}, 22_734_016, 45_440, 1_000, 22_780_456, 3_498_311_680),
    ("resnet50", {"shortcut": "A", "stride_in_1x1": False},
     22_734_016, 45_440, 1_000, 22_780_456, 3_729_522_688),
    ("resnet50", {}, 25_502_912, 53_120, 1_000, 25_557_032, 3_857_973_248),
    ("resnet50", {"stride_in_1x1": False}, 25_502_912, 53_120, 1_000, 25_557_032, 4_089_184_256),
    ("resnet50", {"shortcut": "C"}, 40_051_904, 75_648, 1_000, 40_128_552, 6_324_224_000),
    ("resnet50", {"shortcut": "C", "stride_in_1x1": False},
     40_051_904, 75_648, 1_000, 40_128_552, 6_555_435_008),
    ("resnet101", {}, 44_442_816, 105_344, 1_000, 44_549_160, 7_570_194_432),
    ("resnet101", {"stride_in_1x1": False},
     44_442_816, 105_344, 1_000, 44_549_160, 7_801_405_440),
    ("resnet152", {}, 60_040_384, 151_424, 1_000, 60_192_808, 11_282_415_616),
    ("resnet152", {"stride_in_1x1": False},
     60_040_384, 151_424, 1_000, 60_192_808, 11_513_626_624),
    ("vgg11", {}, 132_851_392, 0, 11_944, 132_863_336, 7_609_090_048),
    ("vgg11_bn", {}, 132_851_392, 5_504, 11_944, 132_868_840, 7_609_090_048),
    ("vgg13", {}, 133_035_712, 0, 12_136, 133_047_848, 11_308_466_176),
    ("vgg13_bn", {}, 133_035_712, 5_888, 12_136, 133_053_736, 11_308_466_176),
    ("vgg16", {}, 138_344_128, 0, 13_416, 138_357_544, 15_470_264_320),
    ("vgg16_bn", {}, 138_344_128, 8_448, 13_416, 138_365_992, 15_470_264_320),
    ("vgg19", {}, 143_652_544, 0, 14_696, 143_667_240, 19_632_062_464),
    ("vgg19_bn", {}, 143_652_544, 11_008, 14_696, 143_678_248, 19_632_062_464),
]  # fmt: skip
# depth, weights, norms, all of option A and of the plain twin, all of option B, multiply-adds of
# both at 32; ten biases each. Table 6 prints the totals in millions.
CIFAR = [
    (20, 268_336, 1_376, 269_722, 272_474, 40_551_040, 40_813_184),
    (32, 461_872, 2_272, 464_154, 466_906, 68_862_592, 69_124_736),
    (44, 655_408, 3_168, 658_586, 661_338, 97_174_144, 97_436_288),
    (56, 848_944, 4_064, 853_018, 855_770, 125_485_696, 125_747_840),
    (110, 1_719_856, 8_096, 1_727_962, 1_730_714, 252_887_680, 253_149_824),
    (1202, 19_331_632, 89_632, 19_421_274, 19_424_026, 2_829_238_912, 2_829_501_056),
]
# Table 1 of the paper: blocks of conv2_x to conv5_x, with their outputs.
BASIC, BOTTLENECK = "[3x3, {0}; 3x3, {0}]", "[1x1, {0}; 3x3, {0}; 1x1, {1}]"
TABLE1 = [
    (18, BASIC, (2, 2, 2, 2)),
    (34, BASIC, (3, 4, 6, 3)),
    (50, BOTTLENECK, (3, 4, 6, 3)),
    (101, BOTTLENECK, (3, 4, 23, 3)),
    (152, BOTTLENECK, (3, 8, 36, 3)),
]


def counted(name: str, size: int, classes: int = 1000, **options: Any) -> nets.NetCounts:
    with torch.device("meta"):
        net = nets.build(name, classes, **options)
    return count_layers(net, size)


@pytest.mark.parametrize(("name", "options", *("weights", "norms", "biases", "total", "products")),
                         IMAGENET)  # fmt: skip
def test_every_row_of_the_published_counts(
    name: str, options: dict[str, Any], weights: int, norms: int, biases: int, total: int,
    products: int,
) -> None:  # fmt: skip
    """Each kind of parameter, their sum, and the products; stages add up to both."""
    counts = counted(name, 224, **options)
    p = counts.parameters
    assert (p.weights, p.norm_affine, p.biases, p.other) == (weights, norms, biases, 0)
    assert (p.total, counts.multiply_adds) == (total, products)
    assert sum(s.multiply_adds for s in counts.stages) == products
    assert sum(s.parameters.total for s in counts.stages) == total


@pytest.mark.parametrize(("depth", "weights", "norms", "a", "b", "products_a", "products_b"), CIFAR)
def test_every_row_of_the_cifar_counts(
    depth: int, weights: int, norms: int, a: int, b: int, products_a: int, products_b: int
) -> None:
    """Option A equals the plain twin; B adds two 1x1 convolutions and norms: 2,560 and 192."""
    for name in (f"cifar_resnet{depth}", f"cifar_plain{depth}"):
        counts = counted(name, 32, 10)
        p = counts.parameters
        assert (p.weights, p.norm_affine, p.biases, p.total) == (weights, norms, 10, a)
        assert counts.multiply_adds == products_a
    counts = counted(f"cifar_resnet{depth}", 32, 10, shortcut="B")
    assert (counts.parameters.weights, counts.parameters.norm_affine) == (
        weights + 2_560, norms + 192)  # fmt: skip
    assert (counts.parameters.total, counts.multiply_adds) == (b, products_b)


@pytest.mark.parametrize(
    ("name", "convolutions"),
    [("vgg11", 7_485_456_384), ("vgg13", 11_184_832_512), ("vgg16", 15_346_630_656),
     ("vgg19", 19_508_428_800)],
)  # fmt: skip
def test_vggs_convolutions_alone(name: str, convolutions: int) -> None:
    """The paper's 15.3e9 of VGG-16 leaves the linear layers out, its 19.6e9 of VGG-19 does not."""
    kinds = counted(name, 224).multiply_adds_by_kind
    assert kinds == {"convolution": convolutions, "linear": 123_633_664, "other": 0}


@pytest.mark.parametrize(("depth", "block", "numbers"), TABLE1)
def test_the_layers_are_those_of_table_1(depth: int, block: str, numbers: tuple[int, ...]) -> None:
    """conv1, then each stage's output and blocks, as printed."""
    stem, *stages, head = counted(f"resnet{depth}", 224, shortcut="A").stages
    assert (stem.row(), stem.output) == ("7x7, 64, stride 2", (64, 112, 112))
    assert (head.name, head.row()) == (HEAD, "1000")
    wide = 4 if block == BOTTLENECK else 1
    for place, (stage, number) in enumerate(zip(stages, numbers, strict=True)):
        channels, side = 64 * 2**place, 56 // 2**place
        assert stage.row() == f"{block.format(channels, channels * wide)} x{number}"
        assert stage.output == (channels * wide, side, side)


def test_projections_stand_beside_the_blocks() -> None:
    """Thirteen more in C than in B of 34 layers, as the paper counts them."""
    b, c = (counted("resnet34", 224, shortcut=option) for option in "BC")
    assert [s.row().count("shortcut") for s in b.stages] == [0, 0, 1, 1, 1, 0]
    assert b.stages[2].row() == "[3x3, 128; 3x3, 128] x4, then shortcut 1x1, 128"
    assert c.stages[3].row() == "[3x3, 256; 3x3, 256] x6, then shortcut 1x1, 256 x6"
    beside = [sum(x.kind == "convolution" and x.is_on_shortcut for x in n.layers) for n in (b, c)]
    assert beside == [3, 16]


FOREIGN = [
    ("timm:resnet18", {}, 96),
    ("timm:regnety_002", {}, 64),
    ("timm:mobilenetv3_small_050", {}, 96),
    ("timm:convnext_atto", {}, 64),
    ("timm:vit_tiny_patch16_224", {"depth": 2, "img_size": 64}, 64),
    ("timm:swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "img_size": 112}, 112),
]


@pytest.mark.parametrize(("name", "options", "size"), FOREIGN)
def test_foreign_nets_have_the_products_that_fvcore_counts(
    name: str, options: dict[str, Any], size: int
) -> None:
    """Its count of convolutions, linear layers and matrix products by tracing the net, which knows
    nothing of modules; with attention written out, as it passes over the fused one."""
    timm_layers = pytest.importorskip("timm.layers")
    flop_count = pytest.importorskip("fvcore.nn.flop_count")
    was_fused = timm_layers.use_fused_attn()
    timm_layers.set_fused_attn(False)
    try:
        net = nets.build(name, 10, **options).eval()
    finally:
        timm_layers.set_fused_attn(was_fused)
    image = torch.zeros(1, 3, size, size)
    counter = flop_count.FlopCountAnalysis(net, image)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    theirs = counter.by_operator()
    products = sum(theirs[kind] for kind in ("conv", "linear", "addmm", "matmul", "bmm", "einsum"))
    counts = count_layers(net, size)
    assert counts.multiply_adds == products > 0
    assert counts.parameters.total == sum(p.numel() for p in net.parameters())
    fused = count_layers(nets.build(name, 10, **options), size)
    assert fused.multiply_adds == products


class OddNet(nn.Module):
    """Groups, a shared layer, a product outside of any module, a token."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.token = nn.Parameter(torch.zeros(6))
        self.twice = nn.Linear(6, 6)
        self.same = self.twice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cells = self.norm(self.grouped(x)).flatten(2).transpose(1, 2) + self.token
        cells = self.same(self.twice(cells))
        return F.linear(cells.mean(1), torch.ones(2, 6))


def test_a_net_worked_by_hand() -> None:
    """On 4 x 4: 16 cells x 6 channels x 9 x 1 of the grouped convolution; twice 16 x 6 x 6 of one
    linear layer, whose 42 values count once; 6 x 2 of the last product."""
    counts = count_layers(OddNet(), 4)
    p = counts.parameters
    assert (p.weights, p.norm_affine, p.biases, p.other) == (54 + 36, 12, 6, 6)
    by_name = {x.name: x.multiply_adds for x in counts.layers}
    assert by_name == {"": 12, "grouped": 864, "norm": 0, "twice": 1152}
    assert counts.multiply_adds == 864 + 1152 + 12
    assert counts.multiply_adds_by_kind == {"convolution": 864, "linear": 1152, "other": 12}


class ListNet(nn.Module):
    """Layers in a list, which itself never runs; one that runs twice, once on a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2))
        self.last = nn.Module()
        self.last.inner = nn.Linear(3, 2)
        self.token = nn.Parameter(torch.zeros(1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            x = step(x)
        return self.last.inner(x.mean((2, 3))) + self.last.inner(self.token)


def test_layers_in_a_list_are_counted_once() -> None:
    """By hand on 2 x 2: two of 4 cells x 3 x 3, and twice 3 x 2; without stages by first name.
    What trains still does."""
    net = ListNet()
    counts = count_layers(net, 2)
    assert all(p.requires_grad for p in net.parameters())
    by_name = {x.name: x.multiply_adds for x in counts.layers}
    assert by_name == {"steps.0": 36, "steps.1": 36, "last.inner": 12, "": 0}
    assert [(s.name, s.multiply_adds, s.parameters.total) for s in counts.stages] == [
        (ITSELF, 0, 3), ("steps", 72, 24), ("last", 12, 8)]  # fmt: skip
    assert counts.parameters.total == 2 * 12 + 8 + 3


def test_a_rectangle_counts_its_own_cells() -> None:
    """Twice the width has twice the products, but for the last layer."""
    with torch.device("meta"):
        net = nets.build("cifar_resnet8", 10)
    square, wide = count_layers(net, 32), count_layers(net, 32, 64)
    assert wide.multiply_adds - 640 == 2 * (square.multiply_adds - 640)
    assert wide.size == (32, 64)


def test_an_image_that_the_net_does_not_take_is_refused() -> None:
    with torch.device("meta"):
        net = nets.build("vgg11")
    with pytest.raises(ValueError, match="takes no image of 20 x 20 pixels"):
        count_layers(net, 20)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_counting_leaves_modes_and_hooks_as_they_were() -> None:
    """A frozen stage stays in evaluation mode while the rest trains."""
    with torch.device("meta"):
        net = nets.build("cifar_resnet8", 10)
    net.get_submodule("res2").eval()
    modes = [m.training for m in net.modules()]
    count_layers(net, 32)
    assert [m.training for m in net.modules()] == modes and len(set(modes)) == 2
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
