"""Detectors for the benchmarks: a peer and ours with the same random weights, and an image.

The peer is stock Detectron2. It has no VGG: there our own detector with all keys off stands for
it, whose RoIAlign, RPN and losses are Detectron2's.

Not for: what is measured on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

import resdet.detect  # noqa: F401 registers
from resdet.config import get_cfg, resolve
from resdet.detect.architecture.model import fill_from_weights_and_net

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Our config, and what Detectron2's model zoo has of that kind; "" where it has none.
NETS = {
    "R-50-C4": ("modern/coco_r50_modern", "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml"),
    "R-101-C4": ("modern/coco_r101_modern", "COCO-Detection/faster_rcnn_R_101_C4_3x.yaml"),
    "R-50-FPN": ("fpn/coco_r50_fpn", "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"),
    "R-101-FPN": ("fpn/coco_r101_fpn", "COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml"),
    "R-50-DC5": ("dc5/coco_r50_dc5", "COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml"),
    "VGG-16": ("modern/coco_vgg16_modern", ""),
    "VGG-16-FPN": ("fpn/coco_vgg16_fpn", ""),
}
SIZE = (600, 900)


def our_detector(
    net: str, keys: Sequence[str], *, device: str = "cpu", width: float = 1.0
) -> tuple[nn.Module, Any]:
    """A detector of ours with random weights, scaled so that boxes are finite; and its config.

    Args:
        net: of `NETS`. keys: config keys and values.
        width: factor on the channels, at least 1/8; below 1 to see that all runs.
    """
    name, zoo = NETS[net]
    opts = ["MODEL.DEVICE", device, "MODEL.WEIGHTS", "random", *keys]
    if not zoo:
        # What drops at random is drawn otherwise in bfloat16.
        opts += ["MODEL.NET.DROPOUT", "0.0"]
    thin = [] if width == 1 else ["MODEL.NET.WIDTH", str(width)]
    config = resolve(CONFIGS / f"{name}.yaml", [*opts, *thin])
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
    return ours, config.cfg


def pair(
    net: str, keys: Sequence[str], *, device: str = "cpu", width: float = 1.0
) -> tuple[nn.Module, nn.Module]:
    """The peer and our detector with the same weights; arguments as those of `our_detector`."""
    ours, cfg = our_detector(net, keys, device=device, width=width)
    zoo = NETS[net][1]
    if zoo:
        cfg = get_cfg()
        cfg.merge_from_file(model_zoo.get_config_file(zoo))
        cfg.merge_from_list(["MODEL.DEVICE", device, "MODEL.WEIGHTS", "random", *keys])
        for key in ("STEM_OUT_CHANNELS", "RES2_OUT_CHANNELS", "WIDTH_PER_GROUP"):
            cfg.MODEL.RESNETS[key] = int(width * cfg.MODEL.RESNETS[key])
    peer = build_model(cfg)
    peer.load_state_dict(ours.state_dict())
    return peer, ours


def peer_of(net: str) -> str:
    """Its name in tables: "stock" only where Detectron2 has such a net."""
    return "stock" if NETS[net][1] else "all keys off"


def image_of_noise(seed: int = 0, size: tuple[int, int] = SIZE) -> list[dict[str, Any]]:
    """One image as the models take it, (height, width); not resized again by anyone."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    return [{"image": image, "height": size[0], "width": size[1]}]
