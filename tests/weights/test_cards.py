"""timm's records as cards: against figures that timm publishes."""

import pytest

pytest.importorskip("timm")

from resdet import nets
from resdet.weights.cards import card_of_timm


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
