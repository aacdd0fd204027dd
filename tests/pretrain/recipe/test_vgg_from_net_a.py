"""VGG's deeper nets start from the 11-layer net's weights, by the patterns of their headers."""

import ast

import pytest

from resdet import nets, weights
from tests.support import children

NET_A = "('conv1.1.*', 'conv2.1.*', 'conv3.[2-9].*', 'conv4.*', 'conv5.*')"


@pytest.mark.parametrize("depth", [16, 19])
def test_a_deeper_vgg_takes_net_as_first_four_convolutions_and_its_linear_layers(depth):
    """Simonyan and Zisserman, section 3.1; the patterns of the presets' headers."""
    options = {"width": 0.0625, "fc_channels": 8}
    net_a, deeper = (nets.build(f"vgg{d}", 3, **options) for d in (11, depth))
    received = weights.transfer(
        deeper, net_a.state_dict(), where="a", declared_new=ast.literal_eval(NET_A)
    )
    arrived = {name.rpartition(".")[0] for name in received.arrived}
    convs = {"conv1.0", "conv2.0", "conv3.0", "conv3.1"}
    assert arrived == convs | {"fc6", "fc7", "linear"}
    for preset in (16, 19):
        text = (children.ROOT / f"configs/pretrain/imagenet_vgg{preset}.yaml").read_text()
        assert NET_A in text
