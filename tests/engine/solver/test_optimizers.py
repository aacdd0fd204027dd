"""Optimizers against Detectron2's and torch's own, and rates that fall with depth by hand."""

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.solver import build_optimizer as stock_optimizer
from torch import nn

from resdet.config import get_cfg, set_key
from resdet.engine.solver.optimizers import build_optimizer, copies_in_checkpoint


def cfg_with(**solver):
    cfg = get_cfg()
    for name, value in solver.items():
        set_key(cfg, f"SOLVER.{name}", value)
    return cfg


def net_of_stages():
    """Three stages, one of them without parameters, and a predictor on top."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)),
        nn.ReLU(),
        nn.Linear(4, 4),
        nn.Linear(4, 2),
    )


def steps_with(optimizer, net, count=3):
    for step in range(count):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def test_off_is_detectron2s_optimizer():
    cfg = cfg_with(BIAS_LR_FACTOR=2.0, WEIGHT_DECAY_NORM=0.0, NESTEROV=True)
    net = net_of_stages()
    ours, stock = build_optimizer(cfg, net, list(net)[:3]), stock_optimizer(cfg, net)
    assert type(ours) is type(stock)
    assert ours.state_dict() == stock.state_dict()


def test_rates_fall_with_depth_by_hand():
    """0.5 a stage: the second of two with parameters 0.05, the first 0.025, the predictor 0.1;
    biases at twice the rate, norms without decay."""
    cfg = cfg_with(BASE_LR=0.1, LAYER_DECAY=0.5, BIAS_LR_FACTOR=2.0, WEIGHT_DECAY_NORM=0.0,
                   WEIGHT_DECAY=0.01)  # fmt: skip
    net = net_of_stages()
    optimizer = build_optimizer(cfg, net, list(net)[:3])
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    norm = net[0][1]
    assert {name: found[id(p)] for name, p in net.named_parameters()} == {
        "0.0.weight": (0.025, 0.01), "0.0.bias": (0.05, 0.01),
        "0.1.weight": (0.025, 0.0), "0.1.bias": (0.05, 0.0),
        "2.weight": (0.05, 0.01), "2.bias": (0.1, 0.01),
        "3.weight": (0.1, 0.01), "3.bias": (0.2, 0.01),
    }  # fmt: skip
    assert id(norm.weight) in found and len(found) == len(list(net.parameters()))
    assert optimizer.param_groups[0]["lr"] in (0.1, 0.2)  # what the log shows is not a stage's


def test_equal_rates_are_the_steps_of_one_group():
    """A decay just below 1 parts the groups; with the rates put back the steps are stock's."""
    one, two = net_of_stages(), net_of_stages()
    cfg = cfg_with(BASE_LR=0.1)
    parted = build_optimizer(cfg_with(BASE_LR=0.1, LAYER_DECAY=0.999), two, list(two)[:3])
    assert len(parted.param_groups) > len(stock_optimizer(cfg, one).param_groups)
    for group in parted.param_groups:
        group["lr"] = 0.1
    expected = steps_with(stock_optimizer(cfg, one), one)
    assert all(map(torch.equal, steps_with(parted, two), expected))


def test_adamw_is_torchs():
    """The same steps as torch.optim.AdamW over all parameters, where nothing tells them apart."""
    one, two = net_of_stages(), net_of_stages()
    cfg = cfg_with(OPTIMIZER="AdamW", BASE_LR=0.01, WEIGHT_DECAY=0.05, WEIGHT_DECAY_NORM=0.05)
    ours = build_optimizer(cfg, one, [])
    theirs = torch.optim.AdamW(two.parameters(), lr=0.01, weight_decay=0.05)
    assert all(map(torch.equal, steps_with(ours, one), steps_with(theirs, two)))


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_embeddings_have_their_own_decay_and_off_is_all_weights(optimizer):
    """By the key alone, and only of what is given as embeddings; rates stay those of the depth."""
    net = net_of_stages()
    given = [net[0][0].weight]
    keys = {"OPTIMIZER": optimizer, "LAYER_DECAY": 0.5, "BASE_LR": 0.1, "WEIGHT_DECAY": 0.01}

    def decays(**more):
        cfg = cfg_with(**keys, **more)
        made = build_optimizer(cfg, net, list(net)[:3], given)
        return {id(p): (g["lr"], g["weight_decay"]) for g in made.param_groups for p in g["params"]}

    off, on = decays(), decays(WEIGHT_DECAY_EMBED=0.0)
    assert off == {
        id(p): v
        for g in build_optimizer(cfg_with(**keys), net, list(net)[:3]).param_groups
        for v in [(g["lr"], g["weight_decay"])]
        for p in g["params"]
    }
    assert on.pop(id(given[0])) == (0.025, 0.0)
    assert off.pop(id(given[0])) == (0.025, 0.01)
    assert on == off


def test_gradients_are_clipped_for_every_optimizer():
    """Detectron2's SOLVER.CLIP_GRADIENTS by value: no step of SGD is larger than rate x 0.01."""
    cfg = cfg_with(BASE_LR=1.0, LAYER_DECAY=0.999, MOMENTUM=0.0, WEIGHT_DECAY=0.0)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.01
    net = net_of_stages()
    before = [p.detach().clone() for p in net.parameters()]
    after = steps_with(build_optimizer(cfg, net, list(net)[:3]), net, count=1)
    largest = max((a - b).abs().max().item() for a, b in zip(after, before, strict=True))
    assert 0.009 < largest <= 0.01 + 1e-7
    cfg.SOLVER.OPTIMIZER = "AdamW"
    assert "Clip" in type(build_optimizer(cfg, net, [])).__name__


@pytest.mark.parametrize(
    ("solver", "copies"),
    [({}, 2), ({"OPTIMIZER": "AdamW"}, 3), ({"OPTIMIZER": "AdamW", "EMA_DECAY": 0.9}, 4)],
)
def test_what_a_checkpoint_holds_is_counted(solver, copies):
    """Weights and moments as torch's states hold them, and the average."""
    cfg = cfg_with(**solver)
    net = net_of_stages()
    optimizer = build_optimizer(cfg, net, [])
    steps_with(optimizer, net, count=1)
    weights = sum(p.numel() for p in net.parameters())
    moments = sum(
        t.numel() for state in optimizer.state.values() for t in state.values()
        if isinstance(t, torch.Tensor) and t.numel() > 1
    )  # fmt: skip
    average = weights if "EMA_DECAY" in solver else 0
    assert weights + moments + average == copies * weights
    assert copies_in_checkpoint(cfg) == copies
