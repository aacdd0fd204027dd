"""Which norms are frozen, which stages, and what is refused (F21, F45)."""

import importlib.util

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model

import resdet.detect  # noqa: F401 registers
from resdet.config import resolve
from resdet.detect.architecture import model
from resdet.detect.architecture.backbone import build_net_backbone, net_part, norm_of_stage
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.errors import ConfigError, WeightsError
from resdet.nets import build
from resdet.weights import Card, Input
from resdet.weights.tensor_checks import refuse_norms_of_detector, refuse_untrained_norms
from tests.support.detectors import config_of, norms_in


def cfg_of(*opts):
    return config_of("MODEL.NET.WIDTH", "0.125", "MODEL.NET.NAME", "resnet18", *opts)


def test_norms_freeze_where_weights_arrive_and_live_where_new():
    """Appendix A, and the rule for a stage that is declared new."""
    cfg = cfg_of("MODEL.WEIGHTS", "x", "TRANSFER.NEW", "('res5.*',)")
    model = build_model(cfg)
    assert norms_in(model.backbone) == {FrozenBatchNorm2d}
    assert norms_in(model.roi_heads.res5) == {torch.nn.BatchNorm2d}


@pytest.mark.parametrize(
    "opts",
    [
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", "[False, False, True, True]", "MODEL.NET.NAME", ""),
        ("MODEL.ROI_HEADS.NAME", "RROIHeads"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "RRPN"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignRotated"),
    ],
)
def test_what_needs_compiled_operators_is_refused_without_them(monkeypatch, opts):
    """F61: before anything is built; with them it is Detectron2's affair."""
    config = resolve(None, ["TRANSFER.FROM_SCRATCH", "True", *opts])
    find = importlib.util.find_spec
    for has_operators in (False, True):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, has=has_operators: has or None if name == "detectron2._C" else find(name),
        )
        if has_operators:
            model._refuse_without_operators(config.cfg)
        else:
            with pytest.raises(ConfigError, match=f"^{opts[0]} .*which this installation lacks"):
                fill_from_weights_and_net(config, None)


def test_frozen_norms_have_the_eps_of_the_card():
    """F21: the config gets it from the card, and refuses another; so do live norms."""
    card = Card(
        "resnet18", Input("RGB", (0.0,) * 3, (1.0,) * 3), {"width": 0.125, "norm_eps": 1e-3}
    )
    opts = ("MODEL.WEIGHTS", "x", "MODEL.NET.WIDTH", "0.125")
    config = resolve(None, ["MODEL.BACKBONE.NAME", "build_net_backbone", *opts])
    fill_from_weights_and_net(config, card)
    assert config.cfg.MODEL.NET.NORM_EPS == 1e-3
    model = build_model(cfg_of("MODEL.WEIGHTS", "x", "MODEL.NET.NORM_EPS", "0.001"))
    norms = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert {m.eps for m in norms} == {1e-3} and len(norms) == 20
    with pytest.raises(ConfigError, match=r"NORM_EPS.*0\.01"):
        other = resolve(None, [*OURS, *opts, "MODEL.NET.NORM_EPS", "0.01"])
        fill_from_weights_and_net(other, card)


def test_from_scratch_every_norm_lives_and_nothing_is_frozen():
    model = build_model(cfg_of())
    assert norms_in(model) == {torch.nn.BatchNorm2d}
    assert all(p.requires_grad for p in model.parameters())


def test_frozen_norms_at_random_weights_are_refused():
    """detectron2#914: not reported elsewhere."""
    with pytest.raises(ConfigError, match=r"NORM is FrozenBN, but MODEL\.WEIGHTS is empty"):
        build_model(cfg_of("MODEL.NET.NORM", "FrozenBN"))
    for pattern in ("res5.*", "res5*", "*"):
        with pytest.raises(ConfigError, match="TRANSFER.NEW declares (res5|stem) new"):
            build_model(
                cfg_of(
                    "MODEL.WEIGHTS", "x", "TRANSFER.NEW", f"('{pattern}',)",
                    "MODEL.NET.NORM", "FrozenBN",
                )
            )  # fmt: skip
    with pytest.raises(ConfigError, match="expected one of auto, FrozenBN, BN"):
        norm_of_stage("res5", norm="GN", weights="x", is_new=False)


def test_half_a_stage_cannot_be_declared_new():
    """Its norms would be half frozen at random values."""
    with pytest.raises(ConfigError, match="declares 2 of the 30 tensors of res5 new .first: res5"):
        build_model(cfg_of("MODEL.WEIGHTS", "x", "TRANSFER.NEW", "('res5.0.conv?.weight',)"))


def test_rpn_and_predictors_start_alike_for_every_net():
    """Two nets of one width at the shared stage, one deeper: the same objectness weights."""
    rpn = []
    for name in ("resnet18", "resnet34"):
        torch.manual_seed(1)
        model = build_model(cfg_of("MODEL.NET.NAME", name))
        rpn.append(model.proposal_generator.rpn_head.objectness_logits.weight)
        rpn.append(model.roi_heads.box_predictor.cls_score.weight)
    assert torch.equal(rpn[0], rpn[2]) and torch.equal(rpn[1], rpn[3])


def test_freeze_at_two_freezes_stem_and_res2():
    """As Detectron2 and, for VGG, conv1 and conv2, as py-faster-rcnn."""
    backbone = build_net_backbone(cfg_of("MODEL.WEIGHTS", "x"), None)
    frozen = {
        n for n, m in backbone.named_children() if not any(p.requires_grad for p in m.parameters())
    }
    assert frozen == {"stem", "res2"}


def test_freeze_at_out_of_range_names_the_stages():
    with pytest.raises(
        ConfigError, match=r"FREEZE_AT is 9, but the trunk of resnet18 has 4 stages"
    ):
        build_net_backbone(cfg_of("MODEL.WEIGHTS", "x", "MODEL.BACKBONE.FREEZE_AT", "9"), None)


OURS = ["MODEL.BACKBONE.NAME", "build_net_backbone", "MODEL.ROI_HEADS.NAME", "RegionHeads"]


def test_freezing_random_weights_is_refused():
    config = resolve(None, ["MODEL.BACKBONE.FREEZE_AT", "2"])
    with pytest.raises(ConfigError, match=r"FREEZE_AT is 2 \(command line\), expected 0"):
        fill_from_weights_and_net(config, None)


def test_the_card_sets_preprocessing_and_net():
    """F19, F20: order, mean, std and stride rule; nobody types them."""
    card = Card(
        "resnet18",
        Input("RGB", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
        {"stride_in_1x1": False, "width": 0.5},
    )
    config = resolve(None, OURS)
    fill_from_weights_and_net(config, card)
    cfg = config.cfg
    assert (cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD) == (
        "RGB",
        [1, 2, 3],
        [4, 5, 6],
    )
    assert (cfg.MODEL.NET.NAME, cfg.MODEL.NET.STRIDE_IN_1X1, cfg.MODEL.NET.WIDTH) == (
        "resnet18",
        False,
        0.5,
    )
    assert cfg.MODEL.ROI_HEADS.IN_FEATURES == ["res4"]


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["INPUT.FORMAT", "BGR"], "INPUT.FORMAT is 'BGR' .*expected 'RGB'"),
        (["MODEL.NET.NAME", "resnet50"], "MODEL.NET.NAME is 'resnet50' .*expected 'resnet18'"),
        (["MODEL.NET.STRIDE_IN_1X1", "True"], "STRIDE_IN_1X1 is True .*expected False"),
        (["MODEL.NET.NORM", "BN"], "are folded into its convolutions"),
    ],
)
def test_a_config_that_contradicts_the_card_is_refused(opts, message):
    card = Card(
        "resnet18",
        Input("RGB", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
        {"stride_in_1x1": False},
        norm={"folded": True},
    )
    with pytest.raises(ConfigError, match=message):
        fill_from_weights_and_net(resolve(None, [*OURS, *opts]), card)


def test_vgg_trunk_and_tail_keep_the_nets_names():
    model = build_model(cfg_of("MODEL.NET.NAME", "vgg16", "MODEL.NET.FC_CHANNELS", "16"))
    names = set(net_part(model).state_dict())
    assert names == {
        n
        for n in build("vgg16", width=0.125, fc_channels=16).state_dict()
        if not n.startswith("linear")
    }
    assert model.backbone.output_shape()["conv5"].stride == 16


def test_untrained_norms_are_refused():
    """F21: mean 0 and variance 1 everywhere are no statistics."""
    net = build("resnet18", width=0.125)
    with pytest.raises(WeightsError, match="all 20 norms have mean 0 and variance 1"):
        refuse_untrained_norms(net.state_dict(), "x.safetensors")
    net.train()(torch.randn(2, 3, 64, 64))
    refuse_untrained_norms(net.state_dict(), "x.safetensors")


def test_norms_of_a_whole_detector_are_checked_as_a_classifiers():
    """F21: a detector without a card; its own untrained norms elsewhere (RPN) do not count."""
    net = build("resnet18", width=0.125)

    def detector():
        return {f"backbone.{name}": tensor for name, tensor in net.state_dict().items()}

    with pytest.raises(WeightsError, match="all 20 norms have mean 0 and variance 1"):
        refuse_norms_of_detector(detector(), "d.pth", "FrozenBN")
    for name, tensor in net.state_dict().items():
        if name.endswith("norm.bias"):
            tensor.fill_(0.5)  # folded: identity plus a bias
    refuse_norms_of_detector(detector(), "d.pth", "FrozenBN")
    with pytest.raises(ConfigError, match="norms of d.pth are folded.*NORM FrozenBN"):
        refuse_norms_of_detector(detector(), "d.pth", "BN")
