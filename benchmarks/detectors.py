"""Detectors for the benchmarks: a peer and ours with the same random weights, and an image.

The peer is stock Detectron2. It has no VGG: there our own detector with all keys off stands for
it, whose RoIAlign, RPN and losses are Detectron2's.

Not for: what is measured on them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

import resdet.detect  # noqa: F401 registers
from resdet.config import get_cfg, resolve
from resdet.detect.model import fill_from_weights_and_net

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Our config, and what Detectron2's model zoo has of that kind.
NETS = {
    "R-50-C4": ("modern/coco_r50_modern", "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml"),
    "R-101-C4": ("modern/coco_r101_modern", "COCO-Detection/faster_rcnn_R_101_C4_3x.yaml"),
    "R-50-FPN": ("fpn/coco_r50_fpn", "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"),
    "VGG-16": ("modern/coco_vgg16_modern", ""),
}
SIZE = (600, 900)


def pair(net: str, keys: list[str]) -> tuple[nn.Module, nn.Module]:
    """The peer and our detector with one set of random weights, scaled so that boxes are finite.

    Args:
        net: of `NETS`. keys: config keys and values of both.
    """
    name, zoo = NETS[net]
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "random", *keys]
    if not zoo:
        # What drops at random is drawn otherwise in bfloat16.
        opts += ["MODEL.NET.DROPOUT", "0.0"]
    config = resolve(CONFIGS / f"{name}.yaml", opts)
    fill_from_weights_and_net(config, None)
    torch.manual_seed(0)
    ours = build_model(config.cfg)
    for place, module in ours.named_modules():
        if isinstance(module, FrozenBatchNorm2d):
            # Without this the maps of a random net grow until no box is finite.
            module.weight.fill_(0.2 if place.endswith("conv3.norm") else 0.7)
    if not zoo:
        # No norms to scale: its scores would all be 0 or 1.
        for parameter in ours.roi_heads.box_predictor.parameters():
            parameter.data.mul_(0.003)
    cfg = config.cfg
    if zoo:
        cfg = get_cfg()
        cfg.merge_from_file(model_zoo.get_config_file(zoo))
        cfg.merge_from_list(opts)
    peer = build_model(cfg)
    peer.load_state_dict(ours.state_dict())
    return peer, ours


def peer_of(net: str) -> str:
    """Its name in tables: "stock" only where Detectron2 has such a net."""
    return "stock" if NETS[net][1] else "all keys off"


def image_of_noise(seed: int = 0) -> list[dict[str, Any]]:
    """One image as the models take it, of `SIZE`; not resized again by anyone."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)
    return [{"image": image, "height": SIZE[0], "width": SIZE[1]}]
