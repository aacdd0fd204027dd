"""The average of weights, step by step by hand, as torchvision's references keep it."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.engine.solver.weight_average import WeightAverage, average_of


def net_with(value):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    set_to(net, value)
    return net


def set_to(net, value):
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.fill_(value)


def follow(values, *, decay, period=1, warmup=0):
    """The average after each step whose net has this value everywhere."""
    net = net_with(0)
    average = average_of(net, decay)
    hook = WeightAverage(average, net, period=period, warmup=warmup)
    found = []
    for step, value in enumerate(values):
        set_to(net, value)
        hook.trainer = SimpleNamespace(iter=step)
        hook.after_step()
        tensors = [t for t in average.module.state_dict().values() if t.is_floating_point()]
        kept = {round(t.mean().item(), 6) for t in tensors}
        assert len(kept) == 1 and all((t == t.flatten()[0]).all() for t in tensors)
        found.append(kept.pop())
    return found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # The first is a copy, then a = 0.9 a + 0.1 w.
        pytest.param({"decay": 0.9}, [10, 11, 12.9, 15.61], id="every step"),
        # Updated in steps 0 and 2: 10, then 0.9 * 10 + 0.1 * 30.
        pytest.param({"decay": 0.9, "period": 2}, [10, 10, 12, 12], id="every second"),
        # A copy in steps 0 and 1; torchvision sets its count to 0, so that step 2 copies, too.
        pytest.param({"decay": 0.9, "warmup": 2}, [10, 20, 30, 31], id="warm-up"),
        pytest.param({"decay": 0.0}, [10, 20, 30, 40], id="nothing of before"),
    ],
)
def test_by_hand(settings, expected):
    """Weights and BN statistics alike."""
    assert follow([10.0, 20.0, 30.0, 40.0], **settings) == pytest.approx(expected)


def test_the_average_needs_no_gradient_and_leaves_the_net_alone():
    net = net_with(1)
    average = average_of(net, 0.9)
    assert not any(p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in net.parameters())
    set_to(average.module, 5)
    assert net[0].weight.eq(1).all()
