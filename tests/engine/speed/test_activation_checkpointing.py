"""ENGINE.ACTIVATION_CHECKPOINTING: the same bits from less memory, batch norm counted once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from resdet import nets
from resdet.engine.speed.activation_checkpointing import recompute_blocks
from resdet.errors import ConfigError

NETS = {
    "resnet18": {"width": 0.125, "stem": "small"},
    "resnet50": {"width": 0.125, "shortcut": "C"},
    "cifar_plain20": {},
    "vgg11_bn": {"width": 0.125, "fc_channels": 32, "pooled_size": 2},
}


def stages_of(net: nets.Net) -> list[nn.Module]:
    return [net.get_submodule(stage.name) for stage in net.stages()]


def two_steps(net: nn.Module) -> tuple[list[torch.Tensor], int]:
    """Losses, gradients and statistics of two steps, and the bytes that autograd kept in one."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    found = []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for step in range(2):
        torch.manual_seed(step)
        images = torch.randn(4, 3, 64, 64)
        optimizer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = nn.functional.cross_entropy(net(images), torch.arange(4))
        for parameter in net.parameters():  # a step needs those in any case
            kept.pop(parameter.data_ptr(), None)
        loss.backward()
        found += [loss.detach(), *(p.grad.clone() for p in net.parameters())]
        optimizer.step()
        found += [buffer.clone() for buffer in net.buffers()]
    return found, sum(kept.values())


@pytest.mark.parametrize("name", NETS)
def test_on_equals_off_to_the_bit_and_keeps_less(name: str) -> None:
    """VGG's dropout lies behind its stages, and draws the same."""
    torch.manual_seed(0)
    net = nets.build(name, 4, **NETS[name]).train()
    other = copy.deepcopy(net)
    names = [*other.state_dict()]
    assert recompute_blocks(stages_of(other)) >= len(other.stages())
    assert [*other.state_dict()] == names
    (off, kept), (on, kept_on) = two_steps(net), two_steps(other)
    assert all(map(torch.equal, on, off))
    # VGG pools within a stage, whose input is what the stage before has at twice the side.
    assert kept_on < 0.75 * kept


def test_a_block_with_dropout_draws_once() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(12288, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 4))
    net = nn.Sequential(nn.Flatten(), block)
    expected, _ = two_steps(copy.deepcopy(net))
    assert recompute_blocks([net]) == 2
    output, _ = two_steps(net)
    assert all(map(torch.equal, output, expected))


def test_without_gradients_nothing_is_computed_again() -> None:
    net = nets.build("resnet18", 4, **NETS["resnet18"]).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = net(images)
        recompute_blocks(stages_of(net))
        assert torch.equal(net(images), expected)


def test_a_net_without_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="the net has no stages"):
        recompute_blocks([])
