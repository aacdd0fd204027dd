"""Every tensor counted; what does not fit is refused before anything is loaded."""

import pytest
import torch

from resdet import nets
from resdet.errors import WeightsError
from resdet.weights import transfer


def small(name="resnet18", **options):
    return nets.build(name, 10, width=0.125, **options)


def test_everything_arrives_by_value():
    """62 tensors of ResNet-18 beside the counters: 20 convolutions, 20 norms of 4, 2 of linear."""
    source, target = small(), small()
    received = transfer(target, source.state_dict(), where="x", optional=())
    assert received.expected == len(received.arrived) == 20 + 20 * 4 + 2
    assert received.batch_counters == 20
    for name, tensor in source.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(target.state_dict()[name], tensor)


def test_a_deeper_net_does_not_fill_a_shallower_one():
    """F18: by name and shape ResNet-34 would fill ResNet-18 wholly."""
    target = small()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(WeightsError, match="In the file, but not in the net"):
        transfer(target, small("resnet34").state_dict(), where="r34.pth")
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_missing_tensors_are_grouped_and_refused():
    """F17: the message counts what would arrive."""
    state = small().state_dict()
    for name in [n for n in state if n.startswith("res5.1.conv2")]:
        del state[name]
    with pytest.raises(WeightsError, match=r"97 of 102 tensors would arrive") as error:
        transfer(small(), state, where="x.pth")
    assert "res5.1.conv2.weight" in str(error.value)
    assert "res5.1.conv2.norm.{bias, running_mean, running_var, weight}" in str(error.value)


def test_another_shape_is_refused_with_both():
    state = small().state_dict()
    state["stem.conv1.weight"] = torch.zeros(8, 3, 3, 3)
    with pytest.raises(
        WeightsError, match=r"\(8, 3, 3, 3\) in the file, \(8, 3, 7, 7\) in the net"
    ):
        transfer(small(), state, where="x.pth")


def test_declared_new_keeps_its_fresh_values():
    source, target = small(), small()
    fresh = target.res5[0].conv1.weight.clone()
    received = transfer(
        target, source.state_dict(), where="x", declared_new=("res5.*",), optional=()
    )
    assert torch.equal(target.res5[0].conv1.weight, fresh)
    assert torch.equal(target.res4[0].conv1.weight, source.res4[0].conv1.weight)
    assert all(n.startswith("res5.") for n in received.new) and len(received.new) == 25


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(WeightsError, match=r"TRANSFER\.NEW has 'layer4\.\*', which fits no tensor"):
        transfer(small(), small().state_dict(), where="x", declared_new=("layer4.*",))


def test_half_precision_is_converted_and_reported():
    """F25."""
    source = small()
    state = {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}
    received = transfer(small(), state, where="x", optional=())
    assert received.converted == {"float16": 102}
    assert "102 from float16" in str(received)


def test_the_table_adds_up_by_module():
    """By hand: ResNet-18's stem has 5 tensors, res2 four convolutions and norms of four: 20."""
    received = transfer(
        small(), small().state_dict(), where="x", declared_new=("linear.*",), optional=()
    )
    rows = {line.split()[0]: line.split()[1:] for line in received.table().splitlines()[1:]}
    assert rows["stem"] == ["5", "5", "0", "0"]
    assert rows["res2"] == ["20", "20", "0", "0"]
    assert rows["linear"] == ["2", "0", "2", "2"]
    assert sum(int(r[0]) for r in rows.values()) == received.expected == 102
