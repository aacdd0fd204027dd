"""Winograd's convolution against torch's."""

import copy

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("detectron2")

from resdet.detect.fast import winograd
from resdet.detect.fast.winograd import LEAST_CHANNELS, WinogradConv, fits

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 4), (7, 7), (9, 14)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_sums_are_those_of_conv2d(size, bias, relu):
    """In float64, sizes that are and are no multiples of four."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(5, 6, 3, padding=1, bias=bias).double()
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    expected = F.conv2d(x, conv.weight, conv.bias, padding=1)
    with torch.no_grad():
        found = WinogradConv(conv, relu=relu)(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected.relu() if relu else expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("most", [1, 20_000, 40_000, 100_000])
@pytest.mark.parametrize("size", [(9, 14), (8, 16)])
def test_maps_pass_in_blocks(most, size, monkeypatch):
    """Blocks of one row of patches, of two, of one whole map, of two of the three maps."""
    monkeypatch.setattr(winograd, "MOST_BYTES", most)
    blocks, cells = [], WinogradConv._cells

    def counted(self, padded, down, across):
        blocks.append((len(padded), down))
        return cells(self, padded, down, across)

    monkeypatch.setattr(WinogradConv, "_cells", counted)
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(5, 6, 3, padding=1).double()
    x = torch.randn(3, 5, *size, dtype=torch.float64)
    with torch.no_grad():
        found = WinogradConv(conv, relu=False)(x)
        expected = F.conv2d(x, conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    # A row of patches takes 36 * 4 * 6 numbers of 8 bytes.
    rows, down = max(1, most // 6912), -(-size[0] // 4)
    if rows < 2 * down:
        assert {n for n, _ in blocks} == {1} and max(d for _, d in blocks) == min(rows, down)
    else:
        assert [n for n, _ in blocks] == [3] if rows >= 3 * down else [2, 1]


def test_gradients_reach_the_image():
    """For pictures of what a detector looks at; the filters do not train."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(5, 6, 3, padding=1).double()
    x = torch.randn(2, 5, 9, 14, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 6, 9, 14, dtype=torch.float64)
    one, other = (
        torch.autograd.grad((layer(x) * weight).sum(), x)[0]
        for layer in (conv, WinogradConv(conv, relu=False))
    )
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def problem(channels, seed):
    torch.manual_seed(seed)
    conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
    return conv, torch.randn(1, channels, 16, 16)


def bound_of_rounding(conv, x):
    """How far float32 may be off in each cell, whatever the processor and its order of sums.

    A sum of n products is off by at most n u / (1 - n u) times the sum of their sizes, in any
    order, fused or not, u = 2^-24; the n of stages one after the other add up (Higham 2002, section
    3.1 and lemma 3.3). So do they for Winograd's stages (Barabasz et al. 2020, "Error Analysis and
    Improving the Accuracy of Winograd Convolution for Deep Neural Networks"), through which sizes
    go as numbers do, with the matrices' absolute values.
    """
    into, of_filter, out = (m.abs() for m in (winograd._INPUT, winograd._FILTER, winograd._OUTPUT))
    patches = F.pad(x.double().abs(), (1, 1, 1, 1)).unfold(2, 6, 4).unfold(3, 6, 4)
    patches = torch.einsum("ia,nchwab,jb->nchwij", into, patches, into)
    filters = torch.einsum("ia,ocab,jb->ocij", of_filter, conv.weight.double().abs(), of_filter)
    products = torch.einsum("nchwij,ocij->nohwij", patches, filters)
    products[..., 1, 1] += conv.bias.double().abs()[:, None, None]
    cells = torch.einsum("ki,nohwij,lj->nohkwl", out, products, out)
    # Numbers that are not 0 in a row of each matrix, on both axes; a filter is rounded once.
    n = 2 * 4 + 1 + (conv.in_channels + 1) + 2 * 5
    u = torch.finfo(torch.float32).eps / 2
    return n * u / (1 - n * u) * cells.flatten(4).flatten(2, 3)


def error_and_bound(layer, conv, x):
    weight, bias = (p.detach().double() for p in conv.parameters())
    exact = F.conv2d(x.double(), weight, bias, padding=1)
    with torch.no_grad():
        return (layer(x).double() - exact).abs(), bound_of_rounding(conv, x)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("channels", [8, LEAST_CHANNELS, 2 * LEAST_CHANNELS])
def test_rounding_in_float32_is_within_its_bound(channels, seed):
    conv, x = problem(channels, seed)
    error, bound = error_and_bound(WinogradConv(conv, relu=False), conv, x)
    assert error.shape == bound.shape and error.any()
    assert (error <= bound).all()


@pytest.mark.parametrize("channels", [8, LEAST_CHANNELS, 2 * LEAST_CHANNELS])
@pytest.mark.parametrize("fault", ["filters in bfloat16", "all in bfloat16", "one sign"])
def test_the_bound_of_rounding_tells_a_fault_from_rounding(fault, channels):
    """What the test above must not let pass: its bound is no wider than that."""
    conv, x = problem(channels, 0)
    layer = WinogradConv(conv, relu=False)
    if fault == "filters in bfloat16":
        layer.filters = layer.filters.bfloat16().float()
    elif fault == "one sign":
        layer.into[4, 1] *= -1
    else:
        rough = WinogradConv(copy.deepcopy(conv).bfloat16(), relu=False)
        layer = lambda x: rough(x.bfloat16())  # noqa: E731
    error, bound = error_and_bound(layer, conv, x)
    assert (error > bound).any()


def test_no_images_give_none():
    conv = torch.nn.Conv2d(4, 6, 3, padding=1)
    assert WinogradConv(conv, relu=True)(torch.zeros(0, 4, 7, 7)).shape == (0, 6, 7, 7)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
        {"padding": 0},
        {"padding_mode": "reflect"},
        {"kernel_size": 1, "padding": 0},
        {"in_channels": LEAST_CHANNELS // 2},
        {"dtype": torch.bfloat16},
    ],
)
def test_other_convolutions_are_left(options):
    usual = {
        "in_channels": LEAST_CHANNELS,
        "out_channels": LEAST_CHANNELS,
        "kernel_size": 3,
        "padding": 1,
    }
    assert fits(torch.nn.Conv2d(**usual))
    assert not fits(torch.nn.Conv2d(**{**usual, **options}))
