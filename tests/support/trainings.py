"""The small detector and the small classifier that tests train, and a net to hand over.

Data are those of `tiny`: `voc_tree(PLACE / "voc")` and `class_folders(PLACE / "data")`. A test says
what differs by key; None takes a key out, so that it is not stated.

Not for: detectors that are built and not trained (`detectors`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from resdet import nets, weights
from resdet.weights import Card, Input

DETECTOR = """
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  DEVICE: cpu
  BACKBONE: {NAME: build_net_backbone}
  NET: {NAME: resnet18}
  ANCHOR_GENERATOR: {SIZES: [[32, 64]]}
  RPN: {POST_NMS_TOPK_TEST: 10}
  ROI_HEADS: {NAME: RegionHeads, SCORE_THRESH_TEST: 0.0}
INPUT: {MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64}
DATASETS: {TRAIN: ['voc:voc:train'], TEST: ['voc:voc:test']}
SOLVER: {IMS_PER_BATCH: 2, BASE_LR: 0.01, MAX_ITER: 2, STEPS: [], WARMUP_ITERS: 0}
SEED: 3
"""
FROM_SCRATCH: dict[str, Any] = {"MODEL.NET.WIDTH": 0.125, "TRANSFER.FROM_SCRATCH": True}
# Two sizes to train at and a few boxes of each image, for a net that comes with weights.
HANDED_OVER: dict[str, Any] = {
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "INPUT.MIN_SIZE_TRAIN": [64, 80],
    "INPUT.MIN_SIZE_TEST": 72,
}
# Detectron2's FPN and heads around such a net, small.
PYRAMID: dict[str, Any] = {
    "MODEL.BACKBONE.NAME": "build_net_fpn_backbone",
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16], [24], [32], [48], [64]],
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.FPN.OUT_CHANNELS": 16,
}
CLASSIFIER = """
MODEL: {DEVICE: cpu, NET: {NAME: resnet18, WIDTH: 0.125, STEM: small}}
INPUT: {FORMAT: RGB}
PRETRAIN: {TRAIN: data/train, VAL: data/val, CROP: 16, TEST_SIDE: 18, AUGMENTATION: area}
SOLVER: {IMS_PER_BATCH: 6, BASE_LR: 0.01, MAX_ITER: 4, STEPS: [], WARMUP_ITERS: 0}
SEED: 3
"""


def detector(*changes: Mapping[str, Any]) -> str:
    """Text of a config for `train_det`; `detector(FROM_SCRATCH)` trains two steps as it is."""
    return _changed(DETECTOR, *changes)


def classifier(changes: Mapping[str, Any]) -> str:
    """Text of a config for `pretrain_cls`, four steps long."""
    return _changed(CLASSIFIER, changes)


def _changed(text: str, *changes: Mapping[str, Any]) -> str:
    tree = yaml.safe_load(text)
    for key, value in (item for part in changes for item in part.items()):
        *path, leaf = key.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        if value is None:
            del place[leaf]
        else:
            place[leaf] = value
    return yaml.safe_dump(tree)


def net_to_hand_over(path: Path) -> Path:
    """A ResNet-18 of an eighth of the width, for three classes, with statistics of something."""
    torch.manual_seed(0)
    net = nets.build("resnet18", 3, width=0.125)
    net(torch.randn(4, 3, 64, 64))
    card = Card("resnet18", Input("RGB", (60.0,) * 3, (50.0,) * 3), {"width": 0.125})
    weights.save(path, net.state_dict(), card)
    return path
