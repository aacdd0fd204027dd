"""The last layer of any net, by what differs between two numbers of classes."""

import doctest

import pytest
import torch
from torch import nn

from resdet import nets
from resdet.nets import registry, zoo
from tests.support.pages import python_blocks


@pytest.fixture
def own_nets(monkeypatch):
    """The registry, with the net of docs/own_net.md; what a test registers is gone behind it."""
    monkeypatch.setattr(registry, "_BUILDERS", {})
    exec(python_blocks("own_net.md")[0], {"__name__": "own_net"})


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "cifar_plain8"])
def test_of_our_nets_it_is_linear(name):
    assert nets.last_layer(name) == {"linear.weight": 0, "linear.bias": 0}


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("convnext_atto", ["head.fc"]),
        ("test_vit", ["head"]),
        # One for the labels, one for the teacher.
        ("deit_tiny_distilled_patch16_224", ["head", "head_dist"]),
    ],
)
def test_of_nets_of_timm_it_is_what_timm_calls_it(name, layers):
    pytest.importorskip("timm")
    found = nets.last_layer(f"timm:{name}")
    assert found == {f"{layer}.{leaf}": 0 for layer in layers for leaf in ("weight", "bias")}


@pytest.mark.usefixtures("own_nets")
def test_of_a_net_of_ones_own_it_is_found_by_its_shape():
    """SqueezeNet's is a convolution inside `classifier`."""
    assert nets.last_layer("squeezenet1_1") == {"classifier.1.weight": 0, "classifier.1.bias": 0}
    tensors = nets.build("squeezenet1_1", 7).state_dict()
    assert nets.classes_in(tensors, "squeezenet1_1") == 7
    without = {n: t for n, t in tensors.items() if not n.startswith("classifier.")}
    assert nets.classes_in(without, "squeezenet1_1") is None


class ByValue(nn.Module):
    """Its builder looks at a value, which nothing on "meta" has; the last layer has no bias."""

    def __init__(self, num_classes=1000):
        super().__init__()
        self.last = nn.Linear(4, num_classes, bias=False)
        self.first = float(self.last.weight[0, 0])


@pytest.mark.usefixtures("own_nets")
def test_a_net_that_is_not_built_without_values_is_built_with_them():
    nets.register("by_value", ByValue)
    state = torch.get_rng_state()
    assert nets.last_layer("by_value") == {"last.weight": 0}
    assert nets.classes_in(ByValue(9).state_dict(), "by_value") == 9
    nets.last_layer("by_value")
    assert not torch.equal(torch.get_rng_state(), state)  # of the ByValue above
    state = torch.get_rng_state()
    nets.last_layer("by_value")
    assert torch.equal(torch.get_rng_state(), state)


def test_the_example_runs():
    assert doctest.run_docstring_examples(zoo.last_layer, {"last_layer": zoo.last_layer}) is None
