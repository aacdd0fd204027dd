"""Responses of 3x3 layers: numpy over the same values, any batch size, nets of any origin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip("detectron2")

from resdet import nets
from resdet.errors import TrainingStopped
from resdet.nets.net import Conv
from resdet.pretrain.analysis.layer_responses import (
    ChannelMoments,
    find_taps,
    measure_responses,
    reading,
)
from tests.support.foreign_nets import randomised

IMAGES = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 3, 32, 32)).astype(np.float32))


def of_ours(net: nn.Module) -> dict[str, np.ndarray]:
    """Every 3x3 layer's response by name: from what went into it, by torch's functions alone."""
    found: dict[str, np.ndarray] = {}

    def entered(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            assert isinstance(module, Conv)
            y = F.conv2d(inputs[0], module.weight, module.bias, module.stride, module.padding)
            if module.norm is not None:
                n = module.norm
                y = F.batch_norm(y, n.running_mean, n.running_var, n.weight, n.bias, eps=n.eps)
            found[name] = y.double().numpy()

        return hook

    handles = [m.register_forward_pre_hook(entered(n)) for n, m in net.named_modules()
               if isinstance(m, Conv) and m.kernel_size == (3, 3)]  # fmt: skip
    with torch.no_grad():
        net(IMAGES)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(
    ("name", "options", "layers", "after"),
    [
        ("cifar_resnet8", {}, 7, "norm"),
        ("cifar_plain8", {}, 7, "norm"),
        ("resnet50", {"width": 0.125}, 16, "norm"),
        ("vgg11", {"width": 0.0625, "pools": 4, "fc_channels": 8, "pooled_size": 2}, 8,
         "convolution"),
        ("vgg11_bn", {"width": 0.0625, "pools": 4, "fc_channels": 8, "pooled_size": 2}, 8, "norm"),
    ],
)  # fmt: skip
def test_the_deviation_is_over_all_values(
    name: str, options: dict[str, float], layers: int, after: str
) -> None:
    """numpy's two passes over every value of the layer; before ReLU, so half is negative. A
    residual net of 8 has 7 layers, with its first one; a bottleneck has one each."""
    net = randomised(nets.build(name, 10, **options))
    expected = of_ours(net)
    found = measure_responses(net, IMAGES.split(3), where="here")
    assert [r.name for r in found] == list(expected) and len(found) == layers
    for response in found:
        values = expected[response.name]
        assert response.after == after
        assert (response.channels, response.values) == (values.shape[1], values.size)
        assert response.std == pytest.approx(values.std(), rel=1e-4)
        assert response.mean == pytest.approx(values.mean(), abs=1e-4 * values.std())
        within = np.sqrt(values.var(axis=(0, 2, 3)).mean())
        assert response.std_within_channels == pytest.approx(within, rel=1e-4)
        assert values.min() < 0 < values.max()


def test_the_size_of_a_batch_changes_rounding_alone() -> None:
    """The net's own float32 sums differ in their last digits from one size to another."""
    net = randomised(nets.build("cifar_resnet14", 10))
    one, *others = (
        [r.std for r in measure_responses(net, IMAGES.split(size), where="here")]
        for size in (7, 1, 2, 5)
    )
    for other in others:
        assert other == pytest.approx(one, rel=1e-5)


def test_sums_lose_nothing_to_a_large_mean() -> None:
    """Values around a million with a deviation of one: a sum of squares in float32 has none left.
    Any split gives the same to 1e-12."""
    values = torch.from_numpy(np.random.default_rng(1).normal(1e6, 1.0, size=(9, 4, 5, 3)))
    expected = values.numpy().std()
    for size in (1, 2, 9):
        moments = ChannelMoments()
        for part in values.split(size):
            moments.add(part)
        assert moments.response("x", "norm").std == pytest.approx(expected, rel=1e-9)


def test_nothing_added_is_no_response() -> None:
    with pytest.raises(ValueError, match="x gave no response"):
        ChannelMoments().response("x", "norm")


@pytest.mark.parametrize(
    ("name", "layers", "after"),
    [
        ("timm:resnet18", 16, {"norm"}),
        ("timm:regnetx_002", 14, {"norm"}),
        ("timm:resnetv2_18", 16, {"norm", "convolution"}),
        ("timm:vgg11", 8, {"convolution"}),
    ],
)
def test_foreign_nets_are_read_before_their_relu(name: str, layers: int, after: set[str]) -> None:
    """A norm of timm's may have its ReLU inside; of a net that adds before its norm, what is added
    is the convolution's own output. Responses have both signs; the logits stay the same."""
    pytest.importorskip("timm")
    net = randomised(nets.build(name, 10))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = net(image)
        taps = find_taps(net, image)
        signs: dict[int, tuple[bool, bool]] = {}

        def take(place: int, response: torch.Tensor) -> None:
            signs[place] = (bool((response < 0).any()), bool((response > 0).any()))

        with reading(taps, take):
            within = net(image)
        after_reading = net(image)
    assert len(taps) == layers == len(signs)
    assert {tap.after for tap in taps} == after
    assert set(signs.values()) == {(True, True)}
    assert torch.equal(before, within) and torch.equal(before, after_reading)
    assert not any(tap.name.startswith("model.") for tap in taps)


def test_the_net_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG's ReLU comes back even where reading fails."""
    net = nets.build("vgg11", 10, width=0.0625, pools=4, fc_channels=8, pooled_size=2)

    def fails(self: ChannelMoments, response: torch.Tensor) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(ChannelMoments, "add", fails)
    with pytest.raises(RuntimeError, match="no"):
        measure_responses(net, [IMAGES], where="here")
    assert all(m.relu for m in net.modules() if isinstance(m, Conv))
    assert net.training and not any(m._forward_hooks for m in net.modules())


def test_what_cannot_be_measured_is_refused() -> None:
    net = randomised(nets.build("cifar_resnet8", 10))
    with pytest.raises(ValueError, match="there is no image"):
        measure_responses(net, [], where="here")
    with pytest.raises(ValueError, match="no 3x3 convolution"):
        measure_responses(nn.Conv2d(3, 2, 1), [IMAGES], where="here")
    with torch.no_grad():
        net.get_submodule("res3.0.conv1").weight.fill_(float("inf"))
    with pytest.raises(TrainingStopped, match=r"here: the response of res3\.0\.conv1"):
        measure_responses(net, [IMAGES], where="here")
