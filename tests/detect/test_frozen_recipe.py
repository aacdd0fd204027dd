"""TRANSFER.RECIPE on built detectors: nothing of a frozen net moves; rates by depth by hand."""

import copy

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

import resdet.detect  # noqa: F401 registers
from resdet.config import resolve
from resdet.detect.architecture.backbone import (
    NetBackbone,
    embeddings_in,
    net_part,
    stages_in,
    trunk_of,
)
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.engine.solver.optimizers import build_optimizer
from resdet.errors import ConfigError
from tests.support.detectors import CONFIGS, FEW

FPN = CONFIGS / "fpn" / "coco_r50_fpn.yaml"
SMALL = ["MODEL.DEVICE", "cpu", *FEW[2:], "MODEL.RPN.POST_NMS_TOPK_TRAIN", "40"]
FROZEN = ["TRANSFER.RECIPE", "frozen"]
VIT = ["MODEL.NET.NAME", "timm:test_vit", "MODEL.NET.WIDTH", "1.0"]


def config_of(*opts, preset=FPN):
    pyramid = ["MODEL.FPN.OUT_CHANNELS", "16"] if preset == FPN else []
    config = resolve(preset, [*SMALL, *pyramid, *opts])
    fill_from_weights_and_net(config, None)
    return config


def detector(*opts, preset=FPN):
    """A detector that trains, and its config."""
    torch.manual_seed(0)
    cfg = config_of(*opts, preset=preset).cfg
    return build_model(cfg).train(), cfg


def batch():
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (3, 96, 128), generator=generator, dtype=torch.uint8)
    objects = Instances((96, 128))
    objects.gt_boxes = Boxes(torch.tensor([[10.0, 12.0, 60.0, 70.0], [40.0, 20.0, 110.0, 90.0]]))
    objects.gt_classes = torch.tensor([0, 3])
    return [{"image": image, "instances": objects}]


def losses_of(model):
    torch.manual_seed(2)
    with EventStorage():
        return model(batch())


def steps(model, cfg, number=2):
    optimizer = build_optimizer(cfg, model, stages_in(model) if cfg.SOLVER.LAYER_DECAY < 1 else [])
    for _ in range(number):
        optimizer.zero_grad()
        sum(losses_of(model).values()).backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("opts", "parts"),
    [
        pytest.param([], 5, id="resnet"),
        pytest.param(["MODEL.NET.NAME", "vgg11_bn"], 5, id="vgg"),
        pytest.param(VIT, 7, id="vit"),
        pytest.param(["MODEL.NET.NAME", "timm:test_convnext", "MODEL.NET.WIDTH", "1.0"], 4,
                     id="convnext"),
    ],
)  # fmt: skip
def test_nothing_of_a_frozen_net_moves(opts, parts):
    """Weights, statistics of norms and buffers are the same to the bit after two steps, no
    parameter of the net has a gradient, and pyramid and heads have all moved."""
    if "timm" in str(opts):
        pytest.importorskip("timm")
    model, cfg = detector(*FROZEN, "MODEL.WEIGHTS", "x", *opts)
    assert parts == cfg.MODEL.BACKBONE.FREEZE_AT
    before = copy.deepcopy(model.state_dict())
    steps(model, cfg)
    inside = {id(t) for t in net_part(model).state_dict(keep_vars=True).values()}
    tensors = model.state_dict(keep_vars=True)
    held = {name for name, tensor in tensors.items() if id(tensor) in inside}
    assert len(held) == len(net_part(model).state_dict()) > 10
    for name, tensor in tensors.items():
        assert (name in held) == torch.equal(tensor, before[name]) or not tensor.is_floating_point()
        if name in held:
            assert not tensor.requires_grad and tensor.grad is None
    optimized = {n for n, p in model.named_parameters() if p.requires_grad}
    assert optimized and not optimized & held


def test_a_frozen_net_computes_as_in_a_test_and_keeps_no_graph():
    """The same losses and gradients of the heads, to the bit, as of a net with frozen norms whose
    gradients are computed, and taken no step by."""
    frozen, _ = detector(*FROZEN, "MODEL.WEIGHTS", "x")
    other, _ = detector("MODEL.WEIGHTS", "x", "MODEL.BACKBONE.FREEZE_AT", "0")
    other.load_state_dict(frozen.state_dict())
    maps = [m.backbone.bottom_up(torch.zeros(1, 3, 64, 64)) for m in (frozen, other)]
    assert [any(t.requires_grad for t in each.values()) for each in maps] == [False, True]
    losses = [losses_of(m) for m in (frozen, other)]
    for name in losses[0]:
        assert torch.equal(losses[0][name], losses[1][name])
    for each in losses:
        sum(each.values()).backward()
    theirs = dict(other.named_parameters())
    for name, parameter in frozen.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter.grad, theirs[name].grad), name


class Noisy(nn.Module):
    """A layer that is another one in training, by no attribute that a dropout has."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.scale * x + (1.0 if self.training else 0.0)


@pytest.mark.parametrize("is_frozen", [True, False])
def test_what_is_random_in_training_is_off_where_all_is_frozen(is_frozen):
    """Whatever a layer does in training, a frozen trunk is never in training."""
    layer = Noisy()
    layer.scale.requires_grad = not is_frozen
    backbone = NetBackbone(nn.Sequential().append(layer), ["0"], {}).train()
    assert backbone(torch.zeros(1))["0"].item() == (0.0 if is_frozen else 1.0)
    assert backbone.eval()(torch.zeros(1))["0"].item() == 0.0


def test_detectron2s_own_net_is_frozen_too(tmp_path):
    (tmp_path / "stock.yaml").write_text(
        "MODEL:\n  BACKBONE: {NAME: build_resnet_fpn_backbone}\n"
        "  RESNETS: {OUT_FEATURES: [res2, res3, res4, res5]}\n"
        "  FPN: {IN_FEATURES: [res2, res3, res4, res5]}\n"
        "  ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]]}\n"
        "  RPN: {IN_FEATURES: [p2, p3, p4, p5, p6]}\n"
        "  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3, p4, p5]}\n"
        "  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, POOLER_RESOLUTION: 7}\n"
        "TRANSFER: {RECIPE: frozen}\n", "utf-8"
    )  # fmt: skip
    config = resolve(tmp_path / "stock.yaml", ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "x"])
    fill_from_weights_and_net(config, None)
    model = build_model(config.cfg)
    trains = {n for n, p in model.backbone.named_parameters() if p.requires_grad}
    assert trains and all("fpn_" in name for name in trains)


def test_random_weights_are_no_frozen_net():
    with pytest.raises(ConfigError, match="is frozen, and MODEL.WEIGHTS is empty.* finetune, fine"):
        config_of(*FROZEN, "MODEL.WEIGHTS", "")


def test_less_than_the_whole_net_is_another_recipe():
    opts = [*FROZEN, "MODEL.WEIGHTS", "x", "MODEL.BACKBONE.FREEZE_AT", "2"]
    with pytest.raises(ConfigError, match=r"FREEZE_AT is 2 .*expected 5 \(TRANSFER.RECIPE frozen"):
        config_of(*opts)


def test_all_of_dc5_is_frozen():
    preset = CONFIGS / "dc5" / "coco_r50_dc5.yaml"
    model, cfg = detector(*FROZEN, "MODEL.WEIGHTS", "x", preset=preset)
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 5
    assert not any(p.requires_grad for p in trunk_of(model).parameters())
    assert model.roi_heads.training and not model.backbone.training


# -- finetune-vit ------------------------------------------------------------------------------


def rates_of(model, cfg):
    """Each parameter's rate as a share of BASE_LR."""
    optimizer = build_optimizer(cfg, model, stages_in(model), embeddings_in(model))
    names = {id(p): n for n, p in model.named_parameters()}
    return {
        names[id(p)]: group["lr"] / cfg.SOLVER.BASE_LR
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_rates_by_depth_are_those_of_li_et_al():
    """By hand, of 6 blocks with 0.7: the last block 0.7, the first 0.7^6, what stands before it
    (patches, positions, class token) 0.7^7; pyramid, RPN and heads the whole rate."""
    pytest.importorskip("timm")
    model, cfg = detector("TRANSFER.RECIPE", "finetune-vit", "MODEL.WEIGHTS", "x", *VIT)
    assert (cfg.SOLVER.LAYER_DECAY, cfg.MODEL.BACKBONE.FREEZE_AT) == (0.7, 0)
    rates = rates_of(model, cfg)
    assert rates.keys() == dict(model.named_parameters()).keys()
    for name, rate in rates.items():
        inside = name.removeprefix("backbone.net.")
        if inside.startswith("blocks."):
            expected = 0.7 ** (6 - int(inside.split(".")[1]))
        elif inside.startswith(("patch_embed.", "pos_embed", "cls_token", "reg_token")):
            expected = 0.7**7
        else:
            assert name.startswith(("backbone.simfp", "proposal_generator.", "roi_heads.")), name
            expected = 1.0
        assert rate == pytest.approx(expected), name


def test_a_plain_net_without_drop_path_is_trained_without():
    """ConvMixer was refused for a rate that nobody had typed."""
    pytest.importorskip("timm")
    net = ["MODEL.NET.NAME", "timm:convmixer_768_32", "MODEL.NET.WIDTH", "1.0"]
    cfg = config_of("TRANSFER.RECIPE", "finetune-vit", "MODEL.WEIGHTS", "x", *net).cfg
    assert (cfg.MODEL.NET.DROP_PATH, cfg.SOLVER.LAYER_DECAY) == (-1.0, 0.9)  # of 32 blocks


def test_rates_by_depth_are_detectron2s():
    """Main's own function, of every parameter that its ViT has, too: it knows no class token."""
    pytest.importorskip("timm")
    vit = pytest.importorskip("detectron2.modeling.backbone.vit", reason="Detectron2 0.6 has none")
    model, cfg = detector("TRANSFER.RECIPE", "finetune-vit", "MODEL.WEIGHTS", "x", *VIT)
    for name, rate in rates_of(model, cfg).items():
        if "_token" not in name:
            theirs = vit.get_vit_lr_decay_rate(name, lr_decay_rate=0.7, num_layers=6)
            assert rate == pytest.approx(theirs), name


def test_weight_decay_is_that_of_vitdet():
    """0.1; of norms, of positions (as ViTDet) and of class tokens and registers (timm's list) 0."""
    timm = pytest.importorskip("timm")
    model, cfg = detector("TRANSFER.RECIPE", "finetune-vit", "MODEL.WEIGHTS", "x", *VIT)
    optimizer = build_optimizer(cfg, model, stages_in(model), embeddings_in(model))
    names = {id(p): n for n, p in model.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    listed = timm.create_model("test_vit").no_weight_decay()
    assert "pos_embed" in listed
    norms = {
        f"{name}.{leaf}"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm)
        for leaf, _ in module.named_parameters(recurse=False)
    }
    for name, decay in decays.items():
        without = name in norms or name.removeprefix("backbone.net.") in listed
        assert decay == (0.0 if without else 0.1), name
    stated = build_optimizer(cfg, model, stages_in(model))
    assert {g["weight_decay"] for g in stated.param_groups} == {0.0, 0.1}
    first = model.backbone.net.maps.embeddings()
    assert {id(p) for p in first} == {id(p) for p in embeddings_in(model)} and len(first) > 1


def test_drop_path_rises_to_its_rate_and_is_off_where_it_is_frozen():
    """timm's own: 0.1 at the last of 6 blocks, 0 at the first, in between linear."""
    pytest.importorskip("timm")
    model, cfg = detector("TRANSFER.RECIPE", "finetune-vit", "MODEL.WEIGHTS", "x", *VIT)
    assert cfg.MODEL.NET.DROP_PATH == 0.1
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in net_part(model).blocks]
    assert rates == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08, 0.1])
    off, cfg = detector("MODEL.WEIGHTS", "x", *VIT)
    assert cfg.MODEL.NET.DROP_PATH == -1.0
    assert not any(hasattr(block.drop_path1, "drop_prob") for block in net_part(off).blocks)
    with pytest.raises(
        ConfigError, match=r"DROP_PATH is 0.2 .*expected -1.0 \(TRANSFER.RECIPE frozen"
    ):
        config_of(*FROZEN, "MODEL.WEIGHTS", "x", *VIT, "MODEL.NET.DROP_PATH", "0.2")
    with pytest.raises(ConfigError, match="DROP_PATH is 0.2, and resnet50 has no drop path"):
        config_of("MODEL.WEIGHTS", "x", "MODEL.NET.DROP_PATH", "0.2")


def test_other_nets_take_finetune_vit_by_their_stages():
    config = config_of("TRANSFER.RECIPE", "finetune-vit", "MODEL.WEIGHTS", "x")
    assert (config.cfg.SOLVER.LAYER_DECAY, config.cfg.MODEL.NET.DROP_PATH) == (0.7, -1.0)
    assert config.by_net == {"SOLVER.LAYER_DECAY": 0.7, "MODEL.NET.DROP_PATH": -1.0}


def test_a_user_may_state_another_decay():
    config = config_of("TRANSFER.RECIPE", "finetune-vit", "SOLVER.LAYER_DECAY", "0.65")
    assert config.cfg.SOLVER.LAYER_DECAY == 0.65
    assert "departs from TRANSFER.RECIPE finetune-vit: 0.7" in config.explain()


def test_finetune_from_random_weights_freezes_nothing():
    config = config_of("TRANSFER.RECIPE", "finetune", "MODEL.WEIGHTS", "")
    assert config.cfg.MODEL.BACKBONE.FREEZE_AT == 0
    assert "random weights are never frozen" in config.derived["MODEL.BACKBONE.FREEZE_AT"]
