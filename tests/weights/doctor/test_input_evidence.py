"""What filters and labelled images tell of a net's input: colour order, range, stride rule."""

import numpy as np
import pytest
import torch
import torchvision

from resdet import weights
from resdet.errors import WeightsError
from resdet.weights.doctor import image_probe
from resdet.weights.doctor.diagnosis import inspect
from resdet.weights.doctor.first_layer import color_order, scale
from tests.support.trained_nets import resnet18

# -- what numbers suggest ------------------------------------------------------------------------


def test_colour_order_follows_the_energy_of_the_outer_channels():
    """By hand: energies 4, 1, 1 and reversed; alike ones show nothing."""
    weight = torch.ones(8, 3, 3, 3) * torch.tensor([2.0, 1.0, 1.0])[None, :, None, None]
    assert color_order(weight).value == "RGB"
    assert color_order(weight.flip(1)).value == "BGR"
    assert color_order(torch.ones(8, 3, 3, 3)).value is None
    assert color_order(None).value is None


def test_range_follows_the_variance_behind_the_first_layer():
    """By hand: noise of deviation 1 behind filters of energy 27 has variance 27; raw 58^2 times."""
    weight = torch.ones(4, 3, 3, 3)
    norm = {"stem.conv1.norm.running_mean": torch.ones(4), "stem.conv1.norm.weight": torch.ones(4)}
    state = {"stem.conv1.weight": weight, **norm, "stem.conv1.norm.bias": torch.zeros(4)}
    variance = "stem.conv1.norm.running_var"
    assert scale({**state, variance: torch.full((4,), 27.0)}).value == "standardised"
    assert scale({**state, variance: torch.full((4,), 27.0 * 58**2)}).value == "raw"
    assert scale({"conv1.0.weight": 0.2 * torch.randn(64, 3, 3, 3)}).value == "standardised"
    assert scale({"conv1.0.weight": 0.2 / 58 * torch.randn(64, 3, 3, 3)}).value == "raw"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.flip(1), "such files want RGB, but this is likely: .*order is reversed"),
        (lambda w: w * 1, None),
    ],
)
def test_a_habit_that_the_numbers_contradict_is_not_followed(file, change, message):
    """F19: the names are torchvision's, the first layer is turned: training must not start."""
    net = resnet18()
    state = net.state_dict()
    state["conv1.weight"] = change(state["conv1.weight"])
    path = file(state)
    if message is None:
        assert weights.load(path)[1].input.color_order == "RGB"
        return
    report = inspect(path)
    assert not report.loadable and report.to_json()["color_order"] == "BGR"
    with pytest.raises(WeightsError, match=message):
        weights.load(path)


def test_a_vgg_in_caffes_range_is_not_taken_for_torchvisions(file):
    """The same names, but 0 to 255 and BGR (jwyang's vgg16_caffe.pth)."""
    state = torchvision.models.vgg11(num_classes=3).state_dict()
    state["features.0.weight"] = state["features.0.weight"] / 58
    with pytest.raises(WeightsError, match=r"want standardised pixels, but this is likely raw"):
        weights.load(file(state))


# -- probe ---------------------------------------------------------------------------------------


class RedOrBlue(torch.nn.Module):
    """Class 0 where channel 0 is above channel 2, both standardised, by the trained amount."""

    def forward(self, x):
        difference = (x[:, 0] - x[:, 2]).mean((1, 2))
        # Trained on ImageNet's mean and std: other ranges put the threshold elsewhere.
        return torch.stack([difference, torch.full_like(difference, 0.9)], 1)


def red_and_blue(number=40):
    """Half red by 90 levels, half by 30: 1.2 and 0.2 standardised, 0.35 and 0.12 of 255."""
    labels = np.arange(number) % 2
    images = np.full((number, 8, 8, 3), 70, dtype=np.uint8)
    images[labels == 0, ..., 0] += 90
    images[labels == 1, ..., 0] += 30
    return images, labels


def test_a_probe_finds_the_order_and_states_what_the_other_costs():
    """By hand: in the right order and range all 40 are right, in the other order the blue half."""
    images, labels = red_and_blue()
    for pixels, order in ((images, "RGB"), (images[..., ::-1].copy(), "BGR")):
        verdict = image_probe.probe(lambda rule: RedOrBlue(), pixels, labels)
        assert verdict.best.name() == f"{order}, ImageNet mean and std"
        assert verdict.best.num_right == 40
        assert "top-1 falls by 50.0 points" in verdict.sentence()


def test_a_probe_finds_the_stride_rule():
    """By hand: with the rule in the 3x3 the toy net is itself, with the other it is upside down."""

    def build(rule):
        right = RedOrBlue()
        return torch.nn.Sequential(right, Turned()) if rule else right

    verdict = image_probe.probe(build, *red_and_blue(), stride_rules=(True, False))
    assert verdict.best.stride_rule == "3x3"
    assert verdict.best.name() == "RGB, ImageNet mean and std, stride in the 3x3"
    assert {t["stride_rule"] for t in verdict.to_json()["trials"]} == {"1x1", "3x3"}


class Turned(torch.nn.Module):
    def forward(self, logits):
        return -logits


def test_a_probe_names_no_winner_by_luck():
    """Exact sign test: 5 to 1 has a chance of 7/64."""
    assert image_probe.chance(
        np.array([1, 1, 1, 1, 1, 0], bool), np.array([0, 0, 0, 0, 0, 1], bool)
    ) == (pytest.approx(7 / 64))
    assert image_probe.chance(np.ones(3, bool), np.ones(3, bool)) == 1.0
    images, labels = red_and_blue(4)
    assert image_probe.probe(lambda rule: RedOrBlue(), images, labels).best is None
    with pytest.raises(WeightsError, match="no labelled image"):
        image_probe.probe(lambda rule: RedOrBlue(), images[:0], labels[:0])
