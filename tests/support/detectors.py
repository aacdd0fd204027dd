"""Small detectors around every kind of net, with frozen norms that are not the identity."""

import copy
import math
from pathlib import Path

import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model

import resdet.detect  # noqa: F401 registers
from resdet.config import get_cfg, resolve
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.nets import build

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PRESETS = {
    "resnet fpn": "fpn/coco_r50_fpn.yaml",
    "vgg fpn": "fpn/coco_vgg16_fpn.yaml",
    "resnet dc5": "dc5/coco_r50_dc5.yaml",
}
FEW = ["MODEL.WEIGHTS", "given here", "MODEL.NET.WIDTH", "0.25",
       "MODEL.RPN.POST_NMS_TOPK_TEST", "60", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0",
       "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.ROI_HEADS.NUM_CLASSES", "5"]  # fmt: skip
NETS = {
    "1x1": ("resnet50", {"STRIDE_IN_1X1": True}),
    "3x3": ("resnet50", {"STRIDE_IN_1X1": False}),
    "basic": ("resnet18", {}),
    "plain": ("plain18", {}),
    "option A": ("resnet18", {"SHORTCUT": "A"}),
    "vgg": ("vgg11", {"FC_CHANNELS": 32}),
    "vgg_bn": ("vgg11_bn", {"FC_CHANNELS": 32}),
    "cifar": ("cifar_resnet20", {}),
}


def detector(name, options, pooler="ROIAlignV2", proposals=60, norm="FrozenBN"):
    cfg = get_cfg()
    with torch.device("meta"):
        net = build(name, width=0.25)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_net_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.ROI_HEADS.NAME = "RegionHeads"
    cfg.MODEL.NET.NAME, cfg.MODEL.NET.WIDTH, cfg.MODEL.NET.NORM = name, 0.25, norm
    for key, value in options.items():
        cfg.MODEL.NET[key] = value
    cfg.MODEL.WEIGHTS = "given here"
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = [net.shared_stage]
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = net.pooled_size
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = pooler
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32, 64, 128]]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = proposals
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    return with_frozen_norms(cfg)


def config_of(*opts):
    """Detectron2's defaults with our backbone and region heads; the rest follows from the net."""
    parts = ["MODEL.BACKBONE.NAME", "build_net_backbone", "MODEL.ROI_HEADS.NAME", "RegionHeads"]
    config = resolve(None, ["MODEL.DEVICE", "cpu", *parts, *opts])
    fill_from_weights_and_net(config, None)
    return config.cfg


def norms_in(module):
    return {type(m) for m in module.modules() if "BatchNorm" in type(m).__name__}


def detector_on_standard_heads(case):
    """Detectron2's own region heads on our nets, wide enough for Winograd's way."""
    few = [*FEW, "MODEL.NET.FC_CHANNELS", "32"] if case.startswith("vgg") else FEW
    if case.endswith("fpn"):
        few = [*few, "MODEL.FPN.OUT_CHANNELS", "128"]
    config = resolve(CONFIGS / PRESETS[case], ["MODEL.DEVICE", "cpu", *few])
    fill_from_weights_and_net(config, None)
    return with_frozen_norms(config.cfg)


def with_frozen_norms(cfg):
    if cfg.MODEL.NET.NAME.startswith("vgg"):
        # Without norms maps stay as large as pixels are. Of 100 they make logits whose rounding in
        # float32 alone moves a score by 5e-4, and turns one decision of NMS in three.
        cfg.MODEL.PIXEL_STD = [8.0, 8.0, 8.0]
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.uniform_(0.5, 1.0)
            module.bias.normal_(std=0.1)
    return model


def with_moved_weights(model, seed):
    """A copy whose weights each lie some 3e-6 of themselves away, 50 roundings of float32.

    No processor's order of sums moves a map by more: conv2d's rounding is 2e-7 to 8e-7 of a map's
    size, Winograd's 3e-6 (`test_winograd` has the bound).
    """
    generator = torch.Generator().manual_seed(seed)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.mul_(1 + 3e-6 * torch.randn(weight.shape, generator=generator))
    return moved


def bound_of_bfloat16(layers):
    """How far maps may be off, of their norm, after so many layers on the way, on any processor.

    Rounding to 8 bits is off by 2^-9 at most, 2^-9 / sqrt(3) where all are alike. Each layer rounds
    its weights and its result (its sums are taken in float32, in any order, by AVX-512 and AMX as
    by emulation), and roundings are independent: sqrt(2 layers) times that, and five times as much
    for layers that make errors larger than maps.
    """
    return 5 * math.sqrt(2 * layers) * 2**-9 / math.sqrt(3)


def images(number=2):
    generator = torch.Generator().manual_seed(1)
    sizes = [(150, 203), (181, 140)][:number]
    return [
        {"image": torch.randint(0, 256, (3, *s), generator=generator, dtype=torch.uint8),
         "height": s[0], "width": s[1]}
        for s in sizes
    ]  # fmt: skip


def boxes(number=40, seed=0):
    """Inside, across and far outside of a map of 160 x 240 pixels; thin, tiny and empty ones."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=generator) * torch.tensor([300.0, 220.0]) - 40
    size = torch.rand(number, 2, generator=generator) ** 3 * 250
    found = torch.cat([corner, corner + size], 1)
    found[0] = torch.tensor([5.0, 5.0, 5.0, 5.0])
    found[1] = torch.tensor([-500.0, -500.0, -400.0, -400.0])
    found[2] = torch.tensor([10.0, 20.0, 11.0, 150.0])
    return found
