"""DC5: RPN and regions on the net's last stage; res5 dilated, or VGG's conv5."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling import build_model

from resdet import nets
from resdet.config import resolve
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.detect.trainer import DetectorTraining
from resdet.errors import ConfigError
from resdet.weights import Card, Input

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NARROW = ["MODEL.DEVICE", "cpu", "MODEL.NET.WIDTH", "0.125", "MODEL.ROI_BOX_HEAD.FC_DIM", "16"]
NARROW += ["MODEL.WEIGHTS", ""]
VGG = ["MODEL.NET.NAME", "vgg16", "MODEL.NET.FC_CHANNELS", "16", "MODEL.NET.RES5_DILATION", "1"]


def config_of(*opts, card=None):
    config = resolve(CONFIGS / "dc5/coco_r50_dc5.yaml", [*NARROW, *opts])
    fill_from_weights_and_net(config, card)
    return config


@pytest.mark.parametrize(
    ("opts", "stage", "stride"),
    [
        ([], "res5", 16),
        (["MODEL.NET.NAME", "resnet18"], "res5", 16),
        # Without dilation res5 is what it is in the classifier.
        (["MODEL.NET.RES5_DILATION", "1"], "res5", 32),
        (VGG, "conv5", 16),
    ],
)
def test_rpn_and_regions_take_the_nets_last_stage(opts, stage, stride):
    """Base-RCNN-DilatedC5.yaml names res5 twice; here the net does."""
    cfg = config_of(*opts).cfg
    assert cfg.MODEL.RPN.IN_FEATURES == cfg.MODEL.ROI_HEADS.IN_FEATURES == [stage]
    assert cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION == 7
    model = build_model(cfg)
    assert {n: s.stride for n, s in model.backbone.output_shape().items()} == {stage: stride}
    names = [n for n, _ in model.roi_heads.box_head.named_parameters()]
    assert names == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert not hasattr(model.roi_heads, "tail_names")


@pytest.mark.parametrize(
    ("net", "options", "opts", "expected", "left_over"),
    [
        ("resnet50", {}, [], 265, {"linear"}),
        ("vgg16", {"fc_channels": 16}, VGG, 26, {"fc6", "fc7", "linear"}),
    ],
)
def test_every_stage_arrives_and_the_rest_is_left_over(net, options, opts, expected, left_over):
    """53 convolutions with five tensors each; 13 with two. A classifier without dilation fits."""
    source = nets.build(net, 5, width=0.125, **options)
    source.train()(torch.randn(2, 3, 64, 64))  # statistics of something
    record = {}
    run = SimpleNamespace(write=lambda name, value: record.update({name: value}))
    cfg = config_of("MODEL.WEIGHTS", "x", *opts).cfg
    DetectorTraining(cfg, run, [], [], None).load_backbone(source.state_dict(), "x.safetensors")
    transfer = record["transfer.json"]
    assert (transfer["expected"], transfer["arrived"], transfer["new"]) == (expected, expected, [])
    assert {n.split(".")[0] for n in transfer["left_over"]} == left_over


def test_weights_without_dilation_may_be_dilated_and_a_dilated_card_is_kept():
    """The tensors are the same (Detectron2 dilates MSRA's weights); a card's own word counts."""
    image = Input("BGR", (1.0, 2.0, 3.0), (1.0, 1.0, 1.0))
    plain = Card("resnet50", image, {"width": 0.125})
    assert config_of(card=plain).cfg.MODEL.NET.RES5_DILATION == 2
    dilated = Card("resnet50", image, {"width": 0.125, "res5_dilation": 2})
    parts = ["MODEL.BACKBONE.NAME", "build_net_backbone"]
    config = resolve(None, [*parts, "MODEL.ROI_HEADS.NAME", "StandardROIHeads"])
    fill_from_weights_and_net(config, dilated)
    assert config.cfg.MODEL.NET.RES5_DILATION == 2
    with pytest.raises(ConfigError, match=r"RES5_DILATION is 1 \(command line\).*expected 2"):
        config_of("MODEL.NET.RES5_DILATION", "1", card=dilated)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.NET.RES5_DILATION", "3"], "RES5_DILATION is 3, expected one of 1, 2"),
        (["MODEL.NET.NAME", "vgg16"], "MODEL.NET: vgg16 has no option res5_dilation"),
        (["MODEL.RPN.IN_FEATURES", "['res4']"], r"RPN.IN_FEATURES is \['res4'\] \(command line\)"),
    ],
)
def test_what_cannot_be_is_refused(opts, message):
    with pytest.raises(ConfigError, match=message):
        config_of(*opts)
