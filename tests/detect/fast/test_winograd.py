"""Winograd's convolution against torch's."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("detectron2")

from resdet.detect.fast import winograd
from resdet.detect.fast.winograd import LEAST_CHANNELS, WinogradConv, fits


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


def test_rounding_in_float32_is_small():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(256, 256, 3, padding=1)
    x = torch.randn(1, 256, 14, 14)
    with torch.no_grad():
        exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
        error = (WinogradConv(conv, relu=False)(x) - exact).abs().max()
    assert error < 1e-5 * exact.abs().max()


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
