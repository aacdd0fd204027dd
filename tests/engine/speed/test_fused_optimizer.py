"""The fused SGD step: torch's own numbers, across checkpoints, layouts and late gradients."""

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.solver import build_optimizer

from resdet.config import get_cfg
from resdet.engine.speed.fused_optimizer import is_fused, with_fused_step
from resdet.errors import ConfigError
from tests.support import detectron2_main

pytestmark = pytest.mark.numeric

# float32, one kernel instead of three: the sums of a weight may round once more or less. In
# each of five steps a momentum below 8 (6e-8 of it, times the rate of 0.1) and a weight below 2
# (6e-8 of it) may round otherwise: 9e-7.
ROUNDING = 1e-6


def make(setting, *, clip=False):
    """A convolution and a norm, so that weight decays differ, and Detectron2's optimizer."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.NESTEROV = 0.1, True
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = clip
    return net, with_fused_step(build_optimizer(cfg, net), setting)


def steps(net, optimizer, start, stop):
    for i in range(start, stop):
        generator = torch.Generator().manual_seed(i)
        for p in net.parameters():
            p.grad = (
                torch.randn(p.shape, generator=generator)
                .to(p)
                .clone(memory_format=torch.preserve_format)
            )
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def torchs_own(count, **kwargs):
    """Detectron2's optimizer untouched by us."""
    net, _ = make("off", **kwargs)
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.NESTEROV = 0.1, True
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = kwargs.get("clip", False)
    return steps(net, build_optimizer(cfg, net), 0, count)


def test_off_is_detectron2s_optimizer_to_the_bit():
    net, optimizer = make("off")
    assert type(optimizer) is torch.optim.SGD and not is_fused(optimizer)
    assert all(map(torch.equal, steps(net, optimizer, 0, 5), torchs_own(5)))


@pytest.mark.parametrize("clip", [False, True], ids=["plain", "with Detectron2's clipping"])
@pytest.mark.parametrize("setting", ["on", "auto"])
def test_fused_steps_are_torchs_steps_within_rounding(setting, clip):
    """Momentum, Nesterov, weight decay; norms decay otherwise than convolutions."""
    net, optimizer = make(setting, clip=clip)
    assert is_fused(optimizer) and len(optimizer.param_groups) > 1
    for ours, theirs in zip(steps(net, optimizer, 0, 5), torchs_own(5, clip=clip), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


def test_a_step_over_lists_gives_way_to_the_fused_one():
    """As Detectron2's main builds SGD; torch refuses both at once."""
    net, _ = make("off")
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.NESTEROV = 0.1, True
    optimizer = with_fused_step(detectron2_main.build_optimizer(cfg, net), "on")
    assert is_fused(optimizer)
    for ours, theirs in zip(steps(net, optimizer, 0, 5), torchs_own(5), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(("before", "after"), [("off", "on"), ("on", "off"), ("on", "on")])
def test_a_checkpoint_of_either_setting_goes_on_in_the_other(before, after):
    """Three steps and two equal torch's five, and the setting is that of the second half."""
    net, optimizer = make(before)
    steps(net, optimizer, 0, 3)
    again, second = make(after)
    again.load_state_dict(net.state_dict())
    second.load_state_dict(optimizer.state_dict())
    assert {bool(g["fused"]) for g in second.param_groups} == {after == "on"}
    for ours, theirs in zip(steps(again, second, 3, 5), torchs_own(5), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


def test_momentum_of_another_memory_layout_is_laid_out_anew():
    """A checkpoint from before ENGINE.CHANNELS_LAST: torch's kernel would add momenta of other
    weights, in silence."""
    net, optimizer = make("on")
    steps(net, optimizer, 0, 3)
    again, _ = make("on")
    again.load_state_dict(net.state_dict())
    again.to(memory_format=torch.channels_last)
    second = with_fused_step(torch.optim.SGD(again.parameters(), 0.1, momentum=0.9), "on")
    state = optimizer.state_dict()
    one_group = second.state_dict()["param_groups"]
    one_group[0].update({**state["param_groups"][0], "params": [0, 1, 2, 3]})
    # Parameters by name: each stands at its place in the net, here as in the checkpoint's groups.
    order = [i for group in optimizer.param_groups for i in map(id, group["params"])]
    places = {j: order.index(id(p)) for j, p in enumerate(net.parameters())}
    second.load_state_dict(
        {"param_groups": one_group, "state": {j: state["state"][i] for j, i in places.items()}}
    )
    weight = again[0].weight
    momentum = second.state[weight]["momentum_buffer"]
    assert momentum.stride() == weight.stride() != net[0].weight.stride()
    assert torch.equal(momentum, optimizer.state[net[0].weight]["momentum_buffer"])


def test_a_parameter_may_get_its_first_gradient_late():
    """torch's fused step alone refuses it: "expected Tensor, but got NoneType"."""
    results = []
    for setting in ("off", "on"):
        a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
        optimizer = with_fused_step(torch.optim.SGD([a, b], 0.1, momentum=0.9), setting)
        a.grad = torch.ones(2)
        optimizer.step()
        b.grad = torch.ones(2)
        optimizer.step()
        results.append([*a.tolist(), *b.tolist()])
    assert results[1] == pytest.approx(results[0])


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (torch.optim.Adagrad, "the optimizer is Adagrad, not SGD"),
        (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, dampening=0.5), "it has dampening"),
    ],
    ids=["Adagrad", "dampening"],
)
def test_what_has_no_fused_step_is_refused_or_left_alone(optimizer, reason, caplog):
    made = optimizer([torch.nn.Parameter(torch.ones(2))])
    with pytest.raises(ConfigError, match=f"FUSED_OPTIMIZER is on, but {reason}"):
        with_fused_step(made, "on")
    with caplog.at_level("INFO", logger="resdet.engine.speed.fused_optimizer"):
        assert with_fused_step(made, "auto") is made
    assert reason in caplog.text


def test_a_device_without_a_fused_step_is_named():
    parameter = torch.nn.Parameter(torch.ones(2, device="meta"))
    with pytest.raises(ConfigError, match="parameters lie on meta"):
        with_fused_step(torch.optim.SGD([parameter], 0.1), "on")
