"""timm's records as cards: against figures that timm publishes."""

import pytest

pytest.importorskip("timm")

import torch

from resdet import nets, weights
from resdet.errors import WeightsError
from resdet.weights.cards import Card, Input, card_of_timm
from resdet.weights.doctor.diagnosis import inspect


def test_a_record_of_the_usual_input_gives_the_usual_card():
    """timm's page of resnet50.a1_in1k: ImageNet mean and std, bicubic, 0.95, 224, Apache 2.0."""
    card = card_of_timm(nets.build("timm:resnet18.a1_in1k"))
    assert card.net == "timm:resnet18" and card.origin == "timm" and card.verified
    assert card.input.color_order == "RGB" and card.input.size == 224
    assert card.input.mean == (123.675, 116.28, 103.53)
    assert card.input.std == (58.395, 57.12, 57.375)
    assert card.norm == {"kind": "BN", "eps": 1e-5, "folded": False}
    record = card.data["timm"]
    assert record["hf_hub_id"] == "timm/resnet18.a1_in1k"
    assert (record["tag"], record["interpolation"], record["crop_pct"]) == (
        "a1_in1k",
        "bicubic",
        0.95,
    )
    assert (record["license"], record["num_classes"]) == ("apache-2.0", 1000)


def test_the_tag_chooses_the_record():
    """timm's own records: this small net was trained at 160 pixels on values from -1 to 1."""
    card = card_of_timm(nets.build("timm:test_resnet"))
    assert card.input.mean == card.input.std == (127.5, 127.5, 127.5)
    assert card.input.size == 160
    assert card_of_timm(nets.build("timm:test_convnext")).norm["kind"] == "LN"


def test_a_net_without_recorded_weights_is_not_verified():
    """timm 1.0.31 publishes none for regnetz_005: its mean and std are defaults."""
    card = card_of_timm(nets.build("timm:regnetz_005"))
    assert not card.verified
    assert not {"hf_hub_id", "url"} & set(card.data["timm"])


def test_only_nets_of_timm_have_such_a_record():
    with pytest.raises(TypeError, match="got a ResNet, expected a net of build.'timm:NAME'."):
        card_of_timm(nets.build("resnet18", width=0.125))
    with pytest.raises(ValueError, match="timm:test_resnet takes 1 channels, expected 3"):
        card_of_timm(nets.build("timm:test_resnet", in_chans=1))


def save_with_eps(path, eps):
    tensors = nets.build("resnet18", 3, width=0.125).state_dict()
    tensors["stem.conv1.norm.running_mean"] += 1
    norm = {"kind": "BN", "eps": eps, "folded": False}
    image = weights.Input("RGB", (0, 0, 0), (60, 61, 62))
    weights.save(path, tensors, weights.Card("resnet18", image, {"width": 0.125}, norm=norm))


def test_a_net_is_built_with_the_eps_of_the_card(tmp_path):
    """F21, by hand: (x - mean) / sqrt(variance + eps). TensorFlow's nets have 1e-3, ours 1e-5:
    33 % apart where variances are 1e-4 to 1e-2, as here."""
    save_with_eps(tmp_path / "x.safetensors", 1e-3)
    tensors, card = weights.load(tmp_path / "x.safetensors")
    assert card.net_options == {"width": 0.125, "norm_eps": 1e-3}
    assert inspect(tmp_path / "x.safetensors").loadable
    net = nets.build(card.net, 3, **card.net_options).eval()
    tensors["stem.conv1.norm.running_var"].fill_(1e-3)
    weights.transfer(net, tensors, where="x", optional=())
    x = torch.randn(1, 8, 4, 4)
    expected = (x.double() - 1) / 0.002**0.5
    output = net.get_submodule("stem.conv1.norm")(x)
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    assert {m.eps for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize("eps", [0, "1e-3", -1.0, True])
def test_an_eps_that_is_none_is_refused(tmp_path, eps):
    """F21."""
    save_with_eps(tmp_path / "x.safetensors", eps)
    with pytest.raises(WeightsError, match="norms with eps .*, expected a number above 0"):
        weights.load(tmp_path / "x.safetensors")
    report = inspect(tmp_path / "x.safetensors")
    assert not report.loadable and "norms with eps" in report.problems[0]


def test_a_net_that_is_built_with_another_eps_keeps_it(tmp_path):
    """timm builds tf_efficientnet_b0 with TensorFlow's 1e-3; its card states that, and it loads."""
    net = nets.build("timm:tf_efficientnet_b0", 3)
    card = card_of_timm(net)
    assert card.norm["eps"] == 1e-3
    weights.save(tmp_path / "x.safetensors", net.state_dict(), card)
    tensors, back = weights.load(tmp_path / "x.safetensors")
    assert back.norm == card.norm and len(tensors) == len(net.state_dict())
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {m.eps for m in norms} == {1e-3}


def test_a_class_whose_folder_is_no_text_stands_in_the_card():
    """Its bytes are half pairs of UTF-16, which safetensors' UTF-8 has not: the net was lost."""
    card = Card(net="resnet18", input=Input("RGB", (1, 2, 3), (1, 1, 1)), classes=("ü", "\udcff"))
    text = card.to_json()
    assert text.isascii()
    assert Card.from_json(text, "here").classes == ("ü", "\udcff")


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", "9" * 5000])
def test_a_number_that_json_has_not_is_no_card(value):
    text = Card(net="resnet18", input=Input("RGB", (1, 2, 3), (1, 1, 1))).to_json()
    assert '"version": 1' in text
    with pytest.raises(WeightsError, match="its card cannot be read"):
        Card.from_json(text.replace('"metrics": {}', f'"metrics": {{"a": {value}}}'), "here")
