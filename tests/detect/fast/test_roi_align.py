"""RoIAlign as sums of map cells against torchvision's operator, forward and backward."""

import pytest
import torch

pytest.importorskip("detectron2")

from torchvision.ops import roi_align

from resdet.detect.fast.roi_align import Pooling, gather
from tests.support.detectors import boxes

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("size", [7, 14])
def test_pooling_is_torchvisions_roi_align(size, sampling_ratio, aligned):
    """torchvision's operator on the same boxes, in float64: every cell, and every second one."""
    shared = torch.randn(1, 5, 10, 15, dtype=torch.float64)
    regions = boxes().double()
    batch = torch.cat([torch.zeros(len(regions), 1, dtype=torch.float64), regions], 1)
    expected = roi_align(shared, batch, size, 1 / 16, sampling_ratio, aligned)
    pooling = Pooling(1 / 16, size, sampling_ratio, aligned)
    cells = shared[0].permute(1, 2, 0).reshape(-1, 5)
    for step in (1, 2):
        axis = torch.arange(0, size, step)
        found = gather(cells, *pooling.bags(regions, 10, 15, axis), len(axis))
        target = expected[:, :, ::step, ::step]
        torch.testing.assert_close(found, target, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [7, 14])
def test_gradient_of_pooling_is_torchvisions(size):
    """Every map cell's gradient, in float64, regions beyond the map and empty ones among them."""
    shared = torch.randn(1, 5, 10, 15, dtype=torch.float64, requires_grad=True)
    regions = boxes().double()
    batch = torch.cat([torch.zeros(len(regions), 1, dtype=torch.float64), regions], 1)
    target = torch.randn(len(regions), 5, size, size, dtype=torch.float64)
    (roi_align(shared, batch, size, 1 / 16, 0, True) * target).sum().backward()
    cells = shared.detach()[0].permute(1, 2, 0).reshape(-1, 5).requires_grad_()
    axis = torch.arange(size)
    pooled = gather(cells, *Pooling(1 / 16, size, 0, True).bags(regions, 10, 15, axis), size)
    (pooled * target).sum().backward()
    found = cells.grad.view(10, 15, 5).permute(2, 0, 1)
    torch.testing.assert_close(found, shared.grad[0], rtol=0, atol=1e-11)


def test_a_wide_and_a_tall_region_do_not_meet():
    """All of a group take as many samples as its widest and its tallest: together these two would
    take thousands a cell, for every region with them."""
    pooling = Pooling(1 / 4, 7, 0, True)
    regions = torch.cat([boxes(48), torch.tensor([[0.0, 10, 1330, 16], [10.0, 0, 16, 698]])])
    groups = pooling.groups(regions, 50)
    assert sorted(torch.cat(groups).tolist()) == list(range(50))
    axis = torch.arange(7)
    entries = [pooling.bags(regions[g], 200, 340, axis)[0].numel() for g in groups]
    assert len(groups) > 1 and sum(entries) < 2_500_000
    assert [len(g) for g in pooling.groups(torch.zeros(0, 4), 50)] == [0]
    assert [len(g) for g in pooling.groups(torch.ones(7, 4), 3)] == [3, 3, 1]


def test_no_regions_have_a_gradient_of_zero():
    """A batch without proposals must not break the step."""
    cells = torch.randn(6, 5, requires_grad=True)
    pooled = gather(cells, torch.zeros(0, 4, dtype=torch.long), torch.zeros(0, 4), 7)
    pooled.sum().backward()
    assert pooled.shape == (0, 5, 7, 7)
    assert torch.equal(cells.grad, torch.zeros(6, 5))
